/* `llcuda eval`: the logits of every position of given tokens, as a NumPy file. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "cli/evaluator.h"

struct sink {
    struct file_output output;
    struct llcuda_error error; /* why a row could not be written */
    uint32_t width;
};

static bool write_row(void *user, uint32_t position, const float *logits)
{
    struct sink *sink = user;
    (void)position;
    return !file_output_write(&sink->output, logits, sink->width * sizeof *logits, &sink->error);
}

/* The .npy format, version 1.0: magic, version, header length, a Python dict padded to 64 bytes. */
static llcuda_status write_npy_header(struct sink *sink, uint32_t rows, struct llcuda_error *error)
{
    char header[128] = {(char)0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, 118, 0};
    int length = 10 + snprintf(header + 10, sizeof header - 10,
                               "{'descr': '<f4', 'fortran_order': False, 'shape': (%u, %u), }",
                               rows, sink->width);
    memset(header + length, ' ', sizeof header - 1 - (size_t)length);
    header[sizeof header - 1] = '\n';
    return file_output_write(&sink->output, header, sizeof header, error);
}

static llcuda_status evaluate(struct evaluator *evaluator, const struct buffer *ids,
                              const char *path, struct llcuda_error *error)
{
    uint32_t count = (uint32_t)(ids->length / sizeof(uint32_t));
    const uint32_t *tokens = (const uint32_t *)(const void *)ids->data;
    struct sink sink = {.width = evaluator->plan->vocabulary_size};
    llcuda_status status = file_output_open(&sink.output, path, error);
    if (!status) {
        status = write_npy_header(&sink, count, error);
    }
    if (!status) {
        status = evaluator_run(evaluator, tokens, count, write_row, &sink, error);
    }
    if (sink.error.status) {
        status = sink.error.status;
        *error = sink.error;
    }
    if (status) {
        file_output_abort(&sink.output);
        return status;
    }
    return file_output_commit(&sink.output, error);
}

int command_eval(struct options *options)
{
    struct buffer ids = {0};
    struct evaluator evaluator = {0};
    struct llcuda_error error = {0};
    const char *text = option_text(options, OPTION_IDS);
    const char *path = option_text(options, OPTION_LOGITS);
    if (!text || !path || options->argument_count) {
        return console_usage(options->command, "give --ids \"1 2 3\" and --logits OUT.npy");
    }
    int result = read_token_ids(options, &text, 1, &ids);
    if (result) {
        buffer_deinit(&ids);
        return result;
    }
    llcuda_status status = evaluator_open(&evaluator, options, UINT32_MAX, &error);
    if (!status) {
        status = evaluate(&evaluator, &ids, path, &error);
    }
    evaluator_close(&evaluator);
    buffer_deinit(&ids);
    return status ? console_fail(options, &error) : EXIT_DONE;
}
