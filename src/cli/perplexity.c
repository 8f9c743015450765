/* `llcuda perplexity`: how well a model predicts a text. */
#include "base/clock.h"
#include "cli/score.h"

static int print_score(struct options *options, const struct evaluator *evaluator,
                       const struct text_score *score, double seconds)
{
    struct buffer out = {0};
    double perplexity = text_score_perplexity(score);
    double error = text_score_error(score);
    if (option_flag(options, OPTION_JSON)) {
        struct json_writer writer;
        json_writer_init(&writer, &out, 2);
        json_begin_object(&writer);
        json_key(&writer, "perplexity");
        json_write_number(&writer, perplexity);
        json_key(&writer, "standard_error");
        json_write_number(&writer, error);
        json_key(&writer, "negative_log_likelihood");
        json_write_number(&writer, score->sum / (double)score->scored);
        json_key(&writer, "tokens");
        json_write_unsigned(&writer, score->scored);
        json_key(&writer, "context");
        json_write_unsigned(&writer, evaluator->context_length);
        json_key(&writer, "seconds");
        json_write_number(&writer, seconds);
        json_end_object(&writer);
        buffer_append_byte(&out, '\n');
    } else {
        buffer_printf(&out, "perplexity %.4f ± %.4f over %llu tokens (context %u, %.1f s)\n",
                      perplexity, error, (unsigned long long)score->scored,
                      evaluator->context_length, seconds);
    }
    bool written = console_write_buffer(&out);
    buffer_deinit(&out);
    return written ? EXIT_DONE : EXIT_FAILED;
}

int command_perplexity(struct options *options)
{
    struct llcuda_error error = {0};
    struct evaluator evaluator = {0};
    struct buffer text = {0};
    struct text_score score = {0};
    const char *file = option_text(options, OPTION_FILE);
    if (!file || options->argument_count) {
        return console_usage(options->command, "give the text with -f FILE");
    }
    uint64_t began = clock_now_ns();
    llcuda_status status = console_read_text(file, &text, &error);
    if (!status) {
        status = evaluator_open(&evaluator, options, SCORE_CONTEXT, &error);
    }
    if (!status) {
        status = score_text(&evaluator, &text, "perplexity", &score, &error);
    }
    int result = EXIT_FAILED;
    if (status) {
        console_fail(options, &error);
    } else {
        result = print_score(options, &evaluator, &score, clock_ms(clock_now_ns() - began) / 1000);
    }
    evaluator_close(&evaluator);
    buffer_deinit(&text);
    return result;
}
