/* `llcuda batch`: many requests from a file, as many in flight as the engine takes, answers in the
 * order of the requests. Every answer is one write of whole lines, so that a run that is killed can
 * go on: complete lines of the output are kept, a torn last one is cut off and done again. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "cli/batch_line.h"

#define WINDOW 256u /* lines in flight or waiting for an earlier one */

struct batch {
    struct options *options;
    llcuda_engine *engine;
    llcuda_request_options base;
    FILE *input;
    int output;
    char *text; /* the line that was read last, of getline */
    size_t capacity;
    size_t length;
    bool pending;    /* `text` holds a line that was not submitted yet */
    uint64_t number; /* lines read */
    uint64_t written;
    uint64_t failed;
    uint64_t tokens;
    uint64_t total;   /* lines of the input that are not blank, 0 when it is no file */
    uint64_t skipped; /* done by an earlier run */
    uint64_t began_ns;
    uint64_t shown_ns;
    struct batch_line lines[WINDOW]; /* ring */
    uint32_t first, count;
};

static bool blank(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (!strchr(" \t\r\n", text[i])) {
            return false;
        }
    }
    return true;
}

/* The next line that is not blank; false at the end. */
static bool read_next(struct batch *batch)
{
    ssize_t length;
    while ((length = getline(&batch->text, &batch->capacity, batch->input)) >= 0) {
        batch->number++;
        if (!blank(batch->text, (size_t)length)) {
            batch->length = (size_t)length;
            return true;
        }
    }
    return false;
}

static void show_progress(struct batch *batch, bool last)
{
    uint64_t now = clock_now_ns();
    if (!isatty(STDERR_FILENO) || (!last && now - batch->shown_ns < 200000000u)) {
        return;
    }
    batch->shown_ns = now;
    double seconds = clock_ms(now - batch->began_ns) / 1000;
    uint64_t here = batch->written - batch->skipped;
    fprintf(stderr, "\r%llu", (unsigned long long)batch->written);
    if (batch->total) {
        fprintf(stderr, "/%llu", (unsigned long long)batch->total);
    }
    fprintf(stderr, " done, %llu failed, %.0f tokens/s", (unsigned long long)batch->failed,
            (double)batch->tokens / (seconds > 0 ? seconds : 1));
    if (batch->total > batch->written && here) {
        fprintf(stderr, ", %.0f s left",
                seconds / (double)here * (double)(batch->total - batch->written));
    }
    fprintf(stderr, "\033[K%s", last ? "\n" : "");
}

/* Submits lines while the window and the engine have room. */
static void fill(struct batch *batch)
{
    while (batch->count < WINDOW && !console_interrupted()) {
        if (!batch->pending && !read_next(batch)) {
            return;
        }
        batch->pending = true;
        struct batch_line *line = &batch->lines[(batch->first + batch->count) % WINDOW];
        batch_line_init(line, batch->number);
        struct text_view text = text_view_make(batch->text, batch->length);
        if (batch_line_submit(line, text, batch->engine, &batch->base) == LLCUDA_BUSY) {
            batch_line_deinit(line);
            return;
        }
        batch->pending = false;
        batch->count++;
    }
}

static bool write_whole(int descriptor, const char *data, size_t bytes)
{
    while (bytes) {
        ssize_t count = write(descriptor, data, bytes);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            return false;
        }
        data += count;
        bytes -= (size_t)count;
    }
    return true;
}

/* Writes the finished lines at the head of the window. */
static bool drain(struct batch *batch)
{
    struct buffer out = {0};
    const char *model = llcuda_engine_get_info(batch->engine)->model_name;
    while (batch->count && batch->lines[batch->first].done) {
        struct batch_line *line = &batch->lines[batch->first];
        if (line->error.status == LLCUDA_CANCELLED && console_interrupted()) {
            break; /* not done: the next run does it */
        }
        batch_line_write(line, model, (int64_t)time(NULL), &out);
        batch->failed += line->error.status != LLCUDA_OK;
        batch->tokens += line->usage.completion_tokens;
        batch->written++;
        batch_line_deinit(line);
        batch->first = (batch->first + 1) % WINDOW;
        batch->count--;
    }
    bool good = !out.failed && write_whole(batch->output, buffer_text(&out), out.length);
    buffer_deinit(&out);
    return good;
}

static llcuda_status run(struct batch *batch, struct llcuda_error *error)
{
    batch->began_ns = clock_now_ns();
    for (;;) {
        fill(batch);
        if (batch->count == 0 || console_interrupted()) {
            break;
        }
        for (uint32_t i = 0; i < batch->count; i++) {
            /* Waiting on the head alone is enough: the others are looked at right after. */
            batch_line_poll(&batch->lines[(batch->first + i) % WINDOW], i == 0 ? 5 : 0);
        }
        if (!drain(batch)) {
            return error_from_errno(error, errno, "write",
                                    option_text(batch->options, OPTION_OUTPUT));
        }
        show_progress(batch, false);
    }
    show_progress(batch, true);
    if (console_interrupted()) {
        return error_set(error, LLCUDA_CANCELLED,
                         "interrupted after %llu lines; the same command goes on from there",
                         (unsigned long long)batch->written);
    }
    if (ferror(batch->input)) {
        return error_from_errno(error, errno, "read", option_text(batch->options, OPTION_INPUT));
    }
    return LLCUDA_OK;
}

/* Skips what an earlier run has answered: as many lines of input as the output has whole lines,
 * whose ids must agree, and cuts off a torn last line. */
static llcuda_status resume(struct batch *batch, const char *path, struct llcuda_error *error)
{
    struct buffer input_id = {0};
    struct buffer output_id = {0};
    char *text = NULL;
    size_t capacity = 0;
    off_t kept = 0;
    llcuda_status status = LLCUDA_OK;
    FILE *done = fopen(path, "r");
    if (!done) {
        return errno == ENOENT ? LLCUDA_OK : error_from_errno(error, errno, "read", path);
    }
    for (;;) {
        ssize_t length = getline(&text, &capacity, done);
        if (length <= 0 || text[length - 1] != '\n') {
            break;
        }
        if (!read_next(batch)) {
            status = error_set(error, LLCUDA_INVALID_ARGUMENT,
                               "'%s' has more lines than the input: it belongs to another run; "
                               "choose another -o, or remove it",
                               path);
            break;
        }
        batch_line_id(text_view_make(batch->text, batch->length), &input_id);
        struct text_view line = text_view_make(text, (size_t)length);
        batch_line_id(line, &output_id);
        if (!text_view_equal(buffer_view(&input_id), buffer_view(&output_id))) {
            status = error_set(error, LLCUDA_INVALID_ARGUMENT,
                               "line %llu of '%s' answers %s, not %s: it belongs to another run; "
                               "choose another -o, or remove it",
                               (unsigned long long)batch->written + 1, path,
                               buffer_text(&output_id), buffer_text(&input_id));
            break;
        }
        kept += length;
        batch->written++;
    }
    batch->skipped = batch->written;
    fclose(done);
    free(text);
    buffer_deinit(&input_id);
    buffer_deinit(&output_id);
    if (!status && truncate(path, kept) != 0) {
        status = error_from_errno(error, errno, "cut", path);
    }
    return status;
}

static void count_lines(struct batch *batch)
{
    long begin = ftell(batch->input);
    if (begin < 0) {
        return;
    }
    while (read_next(batch)) {
        batch->total++;
    }
    batch->number = 0;
    if (fseek(batch->input, begin, SEEK_SET) != 0) {
        clearerr(batch->input);
    }
}

static llcuda_status open_files(struct batch *batch, struct llcuda_error *error)
{
    const char *input = option_text(batch->options, OPTION_INPUT);
    const char *output = option_text(batch->options, OPTION_OUTPUT);
    batch->input = strcmp(input, "-") == 0 ? stdin : fopen(input, "r");
    if (!batch->input) {
        return error_from_errno(error, errno, "open", input);
    }
    count_lines(batch);
    if (strcmp(output, "-") == 0) {
        batch->output = STDOUT_FILENO;
        return LLCUDA_OK;
    }
    struct stat read, written;
    bool exists = stat(output, &written) == 0;
    if (exists && fstat(fileno(batch->input), &read) == 0 && S_ISREG(read.st_mode) &&
        read.st_dev == written.st_dev && read.st_ino == written.st_ino) {
        /* Its requests have the ids that their answers would have. */
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "'%s' holds the requests: choose another -o for the answers", output);
    }
    /* Of a pipe or a device nothing can be read back. */
    bool kept = !exists || S_ISREG(written.st_mode);
    llcuda_status status = kept ? resume(batch, output, error) : LLCUDA_OK;
    if (status) {
        return status;
    }
    batch->output = open(output, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    return batch->output < 0 ? error_from_errno(error, errno, "open", output) : LLCUDA_OK;
}

static void close_batch(struct batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        batch_line_deinit(&batch->lines[(batch->first + i) % WINDOW]);
    }
    if (batch->input && batch->input != stdin) {
        fclose(batch->input);
    }
    if (batch->output > STDERR_FILENO) {
        close(batch->output);
    }
    free(batch->text);
    llcuda_engine_close(batch->engine);
}

int command_batch(struct options *options)
{
    struct llcuda_error error = {0};
    if (!option_text(options, OPTION_INPUT) || !option_text(options, OPTION_OUTPUT) ||
        options->argument_count) {
        return console_usage(options->command, "give -i IN.jsonl and -o OUT.jsonl");
    }
    struct batch *batch = calloc(1, sizeof *batch);
    if (!batch) {
        error_no_memory(&error, "a batch", sizeof *batch);
        return console_fail(options, &error);
    }
    batch->options = options;
    batch->output = -1;
    llcuda_status status = open_files(batch, &error);
    int result = status ? console_fail(options, &error) : EXIT_DONE;
    if (!result) {
        result = open_engine(options, false, &batch->engine);
    }
    if (!result) {
        result = open_request_options(options, batch->engine, &batch->base);
    }
    if (!result) {
        status = run(batch, &error);
        result = status ? console_fail(options, &error) : EXIT_DONE;
    }
    close_batch(batch);
    free(batch);
    return result;
}
