/* `llcuda imatrix`: which columns of the weights matter, found by running a text. */
#include "convert/imatrix.h"
#include "base/file.h"
#include "cli/score.h"

struct collector {
    struct imatrix *imatrix;
    const struct plan *plan;
    bool failed;
};

static void collect(void *user, uint32_t weight, const float *rows, uint64_t stride, uint32_t count,
                    uint64_t columns)
{
    struct collector *collector = user;
    if (!imatrix_add(collector->imatrix, collector->plan->weights[weight].name, rows, stride, count,
                     columns)) {
        collector->failed = true;
    }
}

static llcuda_status run(struct options *options, const char *file, const char *out_path,
                         struct text_score *score, uint32_t *weights, struct llcuda_error *error)
{
    struct evaluator evaluator = {0};
    struct buffer text = {0};
    struct collector collector = {0};
    struct device_observer observer = {collect, &collector};
    llcuda_status status = file_output_check(out_path, error);
    if (!status) {
        status = console_read_text(file, &text, error);
    }
    if (!status) {
        status = imatrix_create(&collector.imatrix, error);
    }
    if (!status) {
        status = evaluator_open(&evaluator, options, SCORE_CONTEXT, error);
    }
    if (!status) {
        collector.plan = evaluator.plan;
        evaluator.model->observer = &observer;
        status = score_text(&evaluator, &text, "imatrix", score, error);
    }
    if (!status && collector.failed) {
        status = error_no_memory(error, "an importance matrix", 0);
    }
    if (!status) {
        *weights = imatrix_count(collector.imatrix);
        status = imatrix_save(collector.imatrix, out_path, file, score->windows,
                              evaluator.context_length, error);
    }
    evaluator_close(&evaluator);
    imatrix_destroy(collector.imatrix);
    buffer_deinit(&text);
    return status;
}

int command_imatrix(struct options *options)
{
    struct llcuda_error error = {0};
    struct text_score score = {0};
    struct buffer out = {0};
    uint32_t weights = 0;
    const char *file = option_text(options, OPTION_FILE);
    const char *out_path = option_text(options, OPTION_OUTPUT);
    if (!file || !out_path || options->argument_count) {
        return console_usage(options->command, "give the text with -f FILE and the result with "
                                               "-o FILE");
    }
    if (run(options, file, out_path, &score, &weights, &error)) {
        return console_fail(options, &error);
    }
    if (option_flag(options, OPTION_JSON)) {
        struct json_writer writer;
        json_writer_init(&writer, &out, 2);
        json_begin_object(&writer);
        json_key(&writer, "weights");
        json_write_unsigned(&writer, weights);
        json_key(&writer, "windows");
        json_write_unsigned(&writer, score.windows);
        json_key(&writer, "perplexity");
        json_write_number(&writer, text_score_perplexity(&score));
        json_end_object(&writer);
        buffer_append_byte(&out, '\n');
    } else {
        buffer_printf(&out, "%u weights over %u windows, perplexity %.4f: %s\n", weights,
                      score.windows, text_score_perplexity(&score), out_path);
    }
    int result = console_write_buffer(&out) ? EXIT_DONE : EXIT_FAILED;
    buffer_deinit(&out);
    return result;
}
