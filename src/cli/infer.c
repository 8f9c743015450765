/* `llcuda infer`: one continuation or one chat turn, streamed or as a JSON document. */
#include <stdio.h>
#include <unistd.h>

#include "cli/open.h"

static bool stream_text(void *user, const char *text, size_t bytes)
{
    (void)user;
    return console_write(text, bytes);
}

/* The prompt from -p, -f or standard input. */
static int read_prompt(const struct options *options, struct buffer *prompt)
{
    const char *text = option_text(options, OPTION_PROMPT);
    const char *file = option_text(options, OPTION_FILE);
    static const enum option_id of_chat[] = {OPTION_SYSTEM, OPTION_TEMPLATE};
    struct llcuda_error error = {0};
    if (options->argument_count) {
        return console_usage(options->command, "'%s' is not expected here; the prompt goes to -p",
                             options->arguments[0]);
    }
    for (size_t i = 0; i < sizeof of_chat / sizeof of_chat[0]; i++) {
        /* Variables and files are for many commands; who writes a flag means this one. */
        if (options->values[of_chat[i]].origin == ORIGIN_FLAG &&
            !option_flag(options, OPTION_CHAT)) {
            return console_usage(options->command, "--%s goes with --chat",
                                 option_spec(of_chat[i])->name);
        }
    }
    if (text && file) {
        return console_usage(options->command, "give -p or -f, not both");
    }
    if (!text && !file && isatty(STDIN_FILENO)) {
        return console_usage(options->command, "give a prompt with -p TEXT or -f FILE");
    }
    if (text) {
        buffer_append_text(prompt, text);
        return EXIT_DONE;
    }
    return console_read_text(file, prompt, &error) ? console_fail(options, &error) : EXIT_DONE;
}

/* The conversation of --chat: a system message when there is one, and the prompt. */
static void write_messages(const struct options *options, const struct buffer *prompt,
                           struct buffer *messages)
{
    struct json_writer writer;
    const char *system = option_text(options, OPTION_SYSTEM);
    json_writer_init(&writer, messages, 0);
    json_begin_array(&writer);
    if (system) {
        write_message(&writer, "system", text_view_of(system));
    }
    write_message(&writer, "user", buffer_view(prompt));
    json_end_array(&writer);
}

static void write_ids(struct json_writer *writer, const char *key, const uint32_t *ids,
                      size_t count)
{
    json_key(writer, key);
    json_begin_array(writer);
    for (size_t i = 0; i < count; i++) {
        json_write_unsigned(writer, ids[i]);
    }
    json_end_array(writer);
}

static void write_milliseconds(struct json_writer *writer, const char *key, double value)
{
    json_key(writer, key);
    json_write_number(writer, (double)(int64_t)(value * 1000 + 0.5) / 1000);
}

static void write_document(struct json_writer *writer, const llcuda_engine *engine,
                           const llcuda_request *request, const struct request_sink *sink,
                           const llcuda_event *done)
{
    size_t prompt_count;
    const uint32_t *prompt = llcuda_request_prompt(request, &prompt_count);
    const uint32_t *ids = (const uint32_t *)(const void *)sink->ids->data;
    const llcuda_engine_info *info = llcuda_engine_get_info(engine);
    json_begin_object(writer);
    json_key(writer, "text");
    json_write_text(writer, buffer_view(sink->text));
    write_ids(writer, "ids", ids, sink->ids->length / sizeof *ids);
    write_ids(writer, "prompt_ids", prompt, prompt_count);
    json_key(writer, "finish_reason");
    json_write_string(writer, llcuda_finish_reason_name(sink->finish_reason));
    json_key(writer, "seed");
    json_write_unsigned(writer, llcuda_request_seed(request));
    json_key(writer, "usage");
    json_begin_object(writer);
    json_key(writer, "prompt_tokens");
    json_write_unsigned(writer, done->usage.prompt_tokens);
    json_key(writer, "completion_tokens");
    json_write_unsigned(writer, done->usage.completion_tokens);
    json_key(writer, "total_tokens");
    json_write_unsigned(writer,
                        (uint64_t)done->usage.prompt_tokens + done->usage.completion_tokens);
    json_end_object(writer);
    json_key(writer, "device");
    json_begin_object(writer);
    json_key(writer, "kind");
    json_write_string(writer, info->device_kind);
    json_key(writer, "name");
    json_write_string(writer, info->device);
    json_key(writer, "layers");
    json_write_unsigned(writer, info->layer_count);
    json_key(writer, "gpu_layers");
    json_write_unsigned(writer, info->gpu_layer_count);
    json_key(writer, "memory_bytes");
    json_write_unsigned(writer, info->memory_bytes);
    json_end_object(writer);
    json_key(writer, "timings");
    json_begin_object(writer);
    write_milliseconds(writer, "load_ms", info->load_ms);
    write_milliseconds(writer, "prefill_ms", done->timings.prefill_ms);
    write_milliseconds(writer, "ttft_ms", done->timings.ttft_ms);
    write_milliseconds(writer, "decode_ms", done->timings.decode_ms);
    write_milliseconds(writer, "prefill_tok_s", done->timings.prefill_tokens_per_second);
    write_milliseconds(writer, "decode_tok_s", done->timings.decode_tokens_per_second);
    json_end_object(writer);
    json_end_object(writer);
}

static int print_result(const struct options *options, const llcuda_engine *engine,
                        const llcuda_request *request, const struct request_sink *sink,
                        const llcuda_event *done)
{
    int result = EXIT_DONE;
    if (option_flag(options, OPTION_JSON) && done->status == LLCUDA_OK) {
        struct buffer document = {0};
        struct json_writer writer;
        json_writer_init(&writer, &document, 2);
        write_document(&writer, engine, request, sink, done);
        buffer_append_byte(&document, '\n');
        result = console_write_buffer(&document) ? EXIT_DONE : EXIT_FAILED;
        buffer_deinit(&document);
    } else if (isatty(STDOUT_FILENO)) {
        console_write("\n", 1);
    }
    if (done->status && !sink->stopped) {
        fprintf(stderr, "llcuda %s: %s\n", command_spec(options->command)->name, done->message);
    }
    /* Who stopped for a closed pipe has said so. */
    return done->status || sink->stopped ? EXIT_FAILED : result;
}

static int run(struct options *options, llcuda_engine *engine, const struct buffer *prompt)
{
    struct llcuda_error error = {0};
    struct buffer messages = {0};
    struct buffer text = {0};
    struct buffer ids = {0};
    llcuda_request *request = NULL;
    const llcuda_event *done = NULL;
    bool json = option_flag(options, OPTION_JSON);
    struct request_sink sink = {
        .on_text = json ? NULL : stream_text, .text = &text, .ids = &ids, .engine = engine};
    llcuda_request_options request_options;
    int result = open_request_options(options, engine, &request_options);
    if (result) {
        return result;
    }
    request_options.echo = option_flag(options, OPTION_ECHO);
    if (option_flag(options, OPTION_CHAT)) {
        write_messages(options, prompt, &messages);
        request_options.messages = buffer_text(&messages);
        request_options.messages_bytes = messages.length;
    } else {
        request_options.prompt = buffer_text(prompt);
        request_options.prompt_bytes = prompt->length;
    }
    llcuda_status status = llcuda_submit(engine, &request_options, &request, &error);
    if (!status) {
        status = run_request(request, &sink, &done, &error);
    }
    result = status ? console_fail(options, &error)
                    : print_result(options, engine, request, &sink, done);
    llcuda_request_release(request);
    buffer_deinit(&messages);
    buffer_deinit(&text);
    buffer_deinit(&ids);
    return result;
}

int command_infer(struct options *options)
{
    struct buffer prompt = {0};
    llcuda_engine *engine = NULL;
    int result = read_prompt(options, &prompt);
    if (!result) {
        result = open_engine(options, false, &engine);
    }
    if (!result) {
        result = run(options, engine, &prompt);
    }
    llcuda_engine_close(engine);
    buffer_deinit(&prompt);
    return result;
}
