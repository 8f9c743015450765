/* `llcuda chat`: a conversation, line by line. The whole conversation is rendered for every turn;
 * the engine's prefix cache finds what it has already read. */
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "build_config.h"
#include "cli/open.h"

#if LLCUDA_HAVE_EDIT
#include <editline/readline.h>
#endif

/* Turns are kept as rendered JSON objects, so that the array for a turn is their concatenation. */
struct conversation {
    struct buffer turns; /* "{…}, {…}" */
    size_t reset_length; /* turns up to the system message */
};

static void add_turn(struct conversation *conversation, const char *role, struct text_view content)
{
    struct json_writer writer;
    if (conversation->turns.length) {
        buffer_append_text(&conversation->turns, ", ");
    }
    json_writer_init(&writer, &conversation->turns, 0);
    write_message(&writer, role, content);
}

static void forget_from(struct conversation *conversation, size_t length)
{
    conversation->turns.length = length;
    if (conversation->turns.data) {
        conversation->turns.data[length] = 0;
    }
}

#if LLCUDA_HAVE_EDIT

/* History lives where the XDG rules put state; a missing home only means that it is not kept. */
static bool history_path(struct buffer *path)
{
    const char *state = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    if (state && state[0] == '/') {
        buffer_printf(path, "%s/llcuda", state);
    } else if (home && home[0] == '/') {
        buffer_printf(path, "%s/.local/state/llcuda", home);
    } else {
        return false;
    }
    for (char *slash = strchr(path->data + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(path->data, 0700);
        *slash = '/';
    }
    mkdir(path->data, 0700);
    return buffer_append_text(path, "/history");
}

static bool read_line_edited(struct buffer *line)
{
    char *text = readline("> ");
    if (!text) {
        return false;
    }
    if (*text) {
        add_history(text);
    }
    bool appended = buffer_append_text(line, text);
    free(text);
    return appended;
}

/* The editor reads characters of the locale, and drops what is none: outside of UTF-8, which is all
 * that models know, every letter beyond ASCII. Before any thread. */
static void choose_characters(void)
{
    setlocale(LC_CTYPE, "");
    if (MB_CUR_MAX == 1) {
        setlocale(LC_CTYPE, "C.UTF-8");
    }
}

static void history_begin(void)
{
    struct buffer path = {0};
    rl_initialize();
    using_history();
    stifle_history(1000);
    if (history_path(&path)) {
        read_history(path.data);
    }
    buffer_deinit(&path);
}

static void history_end(void)
{
    struct buffer path = {0};
    if (history_path(&path)) {
        write_history(path.data);
        chmod(path.data, 0600);
    }
    buffer_deinit(&path);
}

#endif

static bool read_line_plain(struct buffer *line)
{
    for (;;) {
        int c = getc(stdin);
        if (c == EOF) {
            if (ferror(stdin) && errno == EINTR) {
                clearerr(stdin);
                return false;
            }
            return line->length > 0;
        }
        if (c == '\n') {
            return true;
        }
        if (!buffer_append_byte(line, (char)c)) {
            return false;
        }
    }
}

static bool read_line(bool interactive, struct buffer *line)
{
    buffer_clear(line);
#if LLCUDA_HAVE_EDIT
    if (interactive) {
        return read_line_edited(line);
    }
#endif
    if (interactive) {
        fputs("> ", stdout);
        fflush(stdout);
    }
    return read_line_plain(line);
}

static bool stream_text(void *user, const char *text, size_t bytes)
{
    (void)user;
    return console_write(text, bytes);
}

/* One turn: false when the program should end with failure. A refusal or a full context is said and
 * the question forgotten, so that the conversation goes on. */
static bool answer(struct options *options, llcuda_engine *engine,
                   struct conversation *conversation, struct text_view question)
{
    struct llcuda_error error = {0};
    struct buffer messages = {0};
    struct buffer text = {0};
    llcuda_request *request = NULL;
    const llcuda_event *done = NULL;
    struct request_sink sink = {.on_text = stream_text, .text = &text, .engine = engine};
    llcuda_request_options request_options;
    size_t before = conversation->turns.length;
    add_turn(conversation, "user", question);
    buffer_printf(&messages, "[%s]", buffer_text(&conversation->turns));
    if (open_request_options(options, engine, &request_options)) {
        buffer_deinit(&messages);
        return false;
    }
    request_options.messages = buffer_text(&messages);
    request_options.messages_bytes = messages.length;
    llcuda_status status = llcuda_submit(engine, &request_options, &request, &error);
    if (!status) {
        status = run_request(request, &sink, &done, &error);
    }
    bool written = !sink.stopped && console_write("\n", 1);
    if (status == LLCUDA_CONTEXT_FULL) {
        fprintf(stderr, "%s; /reset forgets the conversation\n", error.message);
    } else if (status) {
        fprintf(stderr, "%s\n", error.message);
    } else if (done->status && done->status != LLCUDA_CANCELLED) {
        fprintf(stderr, "%s\n", done->message);
    }
    bool answered = !status && (!done->status || done->status == LLCUDA_CANCELLED);
    if (answered) {
        add_turn(conversation, "assistant", buffer_view(&text));
    } else {
        forget_from(conversation, before);
    }
    llcuda_request_release(request);
    buffer_deinit(&messages);
    buffer_deinit(&text);
    console_clear_interrupt();
    /* What nobody can read any more needs no further answers. */
    return written && (answered || isatty(STDIN_FILENO));
}

static int converse(struct options *options, llcuda_engine *engine)
{
    struct conversation conversation = {0};
    struct buffer line = {0};
    const char *system = option_text(options, OPTION_SYSTEM);
    bool interactive = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    bool good = true;
    if (system) {
        add_turn(&conversation, "system", text_view_of(system));
    }
    conversation.reset_length = conversation.turns.length;
    if (interactive) {
        printf("%s. /reset forgets the conversation, /quit ends it.\n",
               llcuda_engine_get_info(engine)->model_name);
    }
    while (good) {
        if (!read_line(interactive, &line) || console_interrupted()) {
            fputs(interactive ? "\n" : "", stdout); /* the shell's prompt gets its own line */
            break;
        }
        struct text_view question = buffer_view(&line);
        if (text_view_is(question, "/quit") || text_view_is(question, "/exit")) {
            break;
        }
        if (text_view_is(question, "/reset")) {
            forget_from(&conversation, conversation.reset_length);
        } else if (question.length) {
            good = answer(options, engine, &conversation, question);
        }
    }
    buffer_deinit(&conversation.turns);
    buffer_deinit(&line);
    return good ? EXIT_DONE : EXIT_FAILED;
}

int command_chat(struct options *options)
{
    llcuda_engine *engine = NULL;
    if (options->argument_count) {
        return console_usage(options->command, "'%s' is not expected here", options->arguments[0]);
    }
#if LLCUDA_HAVE_EDIT
    choose_characters();
#endif
    int result = open_engine(options, false, &engine);
    if (result) {
        return result;
    }
    if (!llcuda_engine_get_info(engine)->has_chat_template) {
        fprintf(stderr, "llcuda chat: this model has no chat template; give one with --template "
                        "FILE, or use `llcuda infer`\n");
        llcuda_engine_close(engine);
        return EXIT_FAILED;
    }
#if LLCUDA_HAVE_EDIT
    bool history = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    if (history) {
        history_begin();
    }
#endif
    result = converse(options, engine);
#if LLCUDA_HAVE_EDIT
    if (history) {
        history_end();
    }
#endif
    llcuda_engine_close(engine);
    return result;
}
