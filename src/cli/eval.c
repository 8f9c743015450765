/* `llcuda eval`: the logits of every position of given tokens, as a NumPy file. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/evaluator.h"

struct sink {
    FILE *file;
    uint32_t width;
};

static bool write_row(void *user, uint32_t position, const float *logits)
{
    struct sink *sink = user;
    (void)position;
    return fwrite(logits, sizeof *logits, sink->width, sink->file) == sink->width;
}

/* The .npy format, version 1.0: magic, version, header length, a Python dict padded to 64 bytes. */
static bool write_npy_header(FILE *file, uint32_t rows, uint32_t columns)
{
    char header[128];
    int length =
        snprintf(header, sizeof header,
                 "{'descr': '<f4', 'fortran_order': False, 'shape': (%u, %u), }", rows, columns);
    for (; length < 117; length++) {
        header[length] = ' ';
    }
    header[length++] = '\n';
    const unsigned char lead[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, 118, 0};
    return fwrite(lead, 1, sizeof lead, file) == sizeof lead &&
           fwrite(header, 1, (size_t)length, file) == (size_t)length;
}

static llcuda_status evaluate(struct evaluator *evaluator, const struct buffer *ids,
                              const char *path, struct llcuda_error *error)
{
    uint32_t count = (uint32_t)(ids->length / sizeof(uint32_t));
    const uint32_t *tokens = (const uint32_t *)(const void *)ids->data;
    struct buffer temporary = {0};
    buffer_printf(&temporary, "%s.part", path);
    struct sink sink = {.file = fopen(buffer_text(&temporary), "wb"),
                        .width = evaluator->plan->vocabulary_size};
    if (!sink.file) {
        llcuda_status status = error_from_errno(error, errno, "create", buffer_text(&temporary));
        buffer_deinit(&temporary);
        return status;
    }
    llcuda_status status = LLCUDA_OK;
    bool written = write_npy_header(sink.file, count, sink.width);
    if (written) {
        status = evaluator_run(evaluator, tokens, count, write_row, &sink, error);
    }
    written = !ferror(sink.file) && written;
    written = fclose(sink.file) == 0 && written;
    if (!written || (!status && rename(buffer_text(&temporary), path) != 0)) {
        status = error_from_errno(error, errno ? errno : EIO, "write", path);
    }
    if (status) {
        unlink(buffer_text(&temporary));
    }
    buffer_deinit(&temporary);
    return status;
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
