/* `llcuda quantize`: a model with other types of weights, and what they cost. */
#include "convert/quantize.h"

#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "cli/score.h"

struct outcome {
    struct quantize_result result;
    double seconds;
    bool has_scores;
    struct text_score before, after;
};

static llcuda_status convert(struct options *options, const struct recipe *recipe,
                             struct outcome *outcome, struct llcuda_error *error)
{
    struct model_source *source = NULL;
    struct console_progress progress;
    struct quantize_options quantize = {
        .recipe = recipe,
        .imatrix_path = option_text(options, OPTION_IMATRIX),
        .thread_count = (uint32_t)option_integer(options, OPTION_THREADS, 0),
        .report = console_progress_report,
        .user = &progress,
    };
    uint64_t began = clock_now_ns();
    llcuda_status status = model_source_open(options->arguments[0], false, &source, error);
    if (!status && quantize.imatrix_path) {
        status = imatrix_load(quantize.imatrix_path, &quantize.imatrix, error);
    }
    if (!status) {
        console_progress_begin(&progress, "quantising");
        status = quantize_model(source, options->arguments[1], &quantize, &outcome->result, error);
        console_progress_end(&progress);
    }
    outcome->seconds = clock_ms(clock_now_ns() - began) / 1000;
    imatrix_destroy(quantize.imatrix);
    model_source_close(source);
    return status;
}

static llcuda_status score_model(struct options *options, const char *model,
                                 const struct buffer *text, const char *what,
                                 struct text_score *score, struct llcuda_error *error)
{
    struct evaluator evaluator = {.path = model};
    llcuda_status status = evaluator_open(&evaluator, options, SCORE_CONTEXT, error);
    if (!status) {
        status = score_text(&evaluator, text, what, score, error);
    }
    evaluator_close(&evaluator);
    return status;
}

/* Whether the result can be made: not over the model that it is made from, which nobody could make
 * again. */
static llcuda_status check_output(const char *in, const char *out, struct llcuda_error *error)
{
    struct stat model, result;
    if (stat(in, &model) == 0 && stat(out, &result) == 0 && S_ISREG(model.st_mode) &&
        model.st_dev == result.st_dev && model.st_ino == result.st_ino) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "'%s' is the model itself: write to another file", out);
    }
    return file_output_check(out, error);
}

/* The text is read, and the source scored, before anything is written: a text that cannot be used
 * costs no quantisation. */
static llcuda_status convert_and_score(struct options *options, const struct recipe *recipe,
                                       struct outcome *outcome, struct llcuda_error *error)
{
    const char *file = option_text(options, OPTION_PERPLEXITY);
    struct buffer text = {0};
    llcuda_status status = check_output(options->arguments[0], options->arguments[1], error);
    if (file && !status) {
        status = console_read_text(file, &text, error);
    }
    if (file && !status) {
        status = score_model(options, options->arguments[0], &text, "perplexity of the source",
                             &outcome->before, error);
    }
    if (!status) {
        status = convert(options, recipe, outcome, error);
    }
    if (file && !status) {
        status = score_model(options, options->arguments[1], &text, "perplexity of the result",
                             &outcome->after, error);
    }
    outcome->has_scores = file && !status;
    buffer_deinit(&text);
    return status;
}

static void write_json(const struct options *options, const struct recipe *recipe,
                       const struct outcome *outcome, struct buffer *out)
{
    const struct quantize_result *result = &outcome->result;
    struct json_writer writer;
    json_writer_init(&writer, out, 2);
    json_begin_object(&writer);
    json_key(&writer, "output");
    json_write_string(&writer, options->arguments[1]);
    json_key(&writer, "type");
    json_write_string(&writer, recipe->name);
    json_key(&writer, "tensors");
    json_write_unsigned(&writer, result->tensor_count);
    json_key(&writer, "converted");
    json_write_unsigned(&writer, result->converted);
    json_key(&writer, "with_importance");
    json_write_unsigned(&writer, result->with_importance);
    json_key(&writer, "source_bytes");
    json_write_unsigned(&writer, result->source_bytes);
    json_key(&writer, "bytes");
    json_write_unsigned(&writer, result->bytes);
    json_key(&writer, "seconds");
    json_write_number(&writer, outcome->seconds);
    if (outcome->has_scores) {
        json_key(&writer, "source_perplexity");
        json_write_number(&writer, text_score_perplexity(&outcome->before));
        json_key(&writer, "perplexity");
        json_write_number(&writer, text_score_perplexity(&outcome->after));
    }
    json_end_object(&writer);
    buffer_append_byte(out, '\n');
}

static void write_text(const struct options *options, const struct recipe *recipe,
                       const struct outcome *outcome, struct buffer *out)
{
    const struct quantize_result *result = &outcome->result;
    buffer_printf(out, "%s: %s, %llu tensors (%llu converted), %.1f MB from %.1f MB, %.1f s\n",
                  options->arguments[1], recipe->name, (unsigned long long)result->tensor_count,
                  (unsigned long long)result->converted, (double)result->bytes / 1e6,
                  (double)result->source_bytes / 1e6, outcome->seconds);
    if (outcome->has_scores) {
        double before = text_score_perplexity(&outcome->before);
        double after = text_score_perplexity(&outcome->after);
        buffer_printf(out, "perplexity %.4f, of the source %.4f: %+.2f %%\n", after, before,
                      100 * (after / before - 1));
    }
}

int command_quantize(struct options *options)
{
    struct llcuda_error error = {0};
    struct outcome outcome = {0};
    struct buffer out = {0};
    if (options->argument_count != 3) {
        return console_usage(options->command, "give the model, the file to write, and the type");
    }
    const struct recipe *recipe = recipe_find(options->arguments[2]);
    if (!recipe) {
        struct buffer names = {0};
        recipe_names(&names);
        int result = console_usage(options->command, "'%s' cannot be written; types are %s",
                                   options->arguments[2], buffer_text(&names));
        buffer_deinit(&names);
        return result;
    }
    if (convert_and_score(options, recipe, &outcome, &error)) {
        return console_fail(options, &error);
    }
    if (option_flag(options, OPTION_JSON)) {
        write_json(options, recipe, &outcome, &out);
    } else {
        write_text(options, recipe, &outcome, &out);
    }
    int result = console_write_buffer(&out) ? EXIT_DONE : EXIT_FAILED;
    buffer_deinit(&out);
    return result;
}
