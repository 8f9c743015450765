/* `llcuda perplexity`: how well a model predicts a text. The text is cut into windows of the
 * context's length; the first half of each is only context, so that no token is judged without one.
 */
#include <math.h>
#include <stdio.h>

#include "base/clock.h"
#include "cli/evaluator.h"
#include "format/tokenizer_source.h"
#include "text/tokenizer.h"

#define PERPLEXITY_CONTEXT 512u

struct score {
    const uint32_t *tokens; /* of the window */
    uint32_t count;
    uint32_t begin; /* first position whose prediction counts */
    uint32_t width;
    double sum; /* of negative log-likelihoods, natural */
    double square_sum;
    uint64_t scored;
};

/* −log softmax(logits)[token], in double and shifted by the largest logit. */
static double surprise(const float *logits, uint32_t width, uint32_t token)
{
    double largest = (double)logits[0];
    for (uint32_t i = 1; i < width; i++) {
        largest = fmax(largest, (double)logits[i]);
    }
    double sum = 0;
    for (uint32_t i = 0; i < width; i++) {
        sum += exp((double)logits[i] - largest);
    }
    return log(sum) + largest - (double)logits[token];
}

static bool score_row(void *user, uint32_t position, const float *logits)
{
    struct score *score = user;
    if (position >= score->begin && position + 1 < score->count) {
        double loss = surprise(logits, score->width, score->tokens[position + 1]);
        score->sum += loss;
        score->square_sum += loss * loss;
        score->scored++;
    }
    return true;
}

static llcuda_status tokenize_text(const struct evaluator *evaluator, const struct buffer *text,
                                   struct token_ids *ids, uint32_t *bos, struct llcuda_error *error)
{
    struct vocabulary *vocabulary = NULL;
    struct tokenizer *tokenizer = NULL;
    struct tokenizer_encode_options plain = {.add_special = false, .parse_special = false};
    llcuda_status status = vocabulary_open(evaluator->source, &vocabulary, error);
    if (!status) {
        status = tokenizer_create(vocabulary, &tokenizer, error);
        if (status) {
            vocabulary_destroy(vocabulary);
        }
    }
    if (!status) {
        const struct vocabulary *table = tokenizer_vocabulary(tokenizer);
        *bos = table->prefix_count ? table->prefix_ids[0] : TOKEN_NONE;
        status = tokenizer_encode(tokenizer, buffer_view(text), &plain, NULL, ids, error);
    }
    tokenizer_destroy(tokenizer);
    return status;
}

/* Windows of `context` tokens, the beginning-of-sequence token in front of each. */
static llcuda_status score_windows(struct evaluator *evaluator, const struct token_ids *ids,
                                   uint32_t bos, struct score *score, struct llcuda_error *error)
{
    struct console_progress progress;
    uint32_t lead = bos != TOKEN_NONE;
    uint32_t fresh = evaluator->context_length - lead;
    struct buffer window = {0};
    llcuda_status status = LLCUDA_OK;
    console_progress_begin(&progress, "perplexity");
    for (size_t begin = 0; !status && begin < ids->count; begin += fresh) {
        size_t count = ids->count - begin < fresh ? ids->count - begin : fresh;
        if (count < fresh && begin > 0) {
            break; /* a short tail has less context than the rest: leave it out */
        }
        buffer_clear(&window);
        if (lead) {
            buffer_append(&window, &bos, sizeof bos);
        }
        buffer_append(&window, ids->data + begin, count * sizeof *ids->data);
        if (window.failed) {
            status = error_no_memory(error, "a window", count * sizeof *ids->data);
            break;
        }
        score->tokens = (const uint32_t *)(const void *)window.data;
        score->count = (uint32_t)count + lead;
        score->begin = count == fresh ? evaluator->context_length / 2 : lead ? 0 : 1;
        status = evaluator_run(evaluator, score->tokens, score->count, score_row, score, error);
        console_progress_report(&progress, begin, ids->count);
    }
    console_progress_end(&progress);
    buffer_deinit(&window);
    return status;
}

static int print_score(struct options *options, const struct evaluator *evaluator,
                       const struct score *score, double seconds)
{
    struct buffer out = {0};
    double mean = score->sum / (double)score->scored;
    double variance = score->square_sum / (double)score->scored - mean * mean;
    double error = sqrt(fmax(variance, 0) / (double)score->scored);
    if (option_flag(options, OPTION_JSON)) {
        struct json_writer writer;
        json_writer_init(&writer, &out, 2);
        json_begin_object(&writer);
        json_key(&writer, "perplexity");
        json_write_number(&writer, exp(mean));
        json_key(&writer, "standard_error");
        json_write_number(&writer, exp(mean) * error);
        json_key(&writer, "negative_log_likelihood");
        json_write_number(&writer, mean);
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
                      exp(mean), exp(mean) * error, (unsigned long long)score->scored,
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
    struct token_ids ids = {0};
    struct score score = {0};
    uint32_t bos = TOKEN_NONE;
    const char *file = option_text(options, OPTION_FILE);
    if (!file || options->argument_count) {
        return console_usage(options->command, "give the text with -f FILE");
    }
    uint64_t began = clock_now_ns();
    llcuda_status status = console_read_text(file, &text, &error);
    if (!status) {
        status = evaluator_open(&evaluator, options, PERPLEXITY_CONTEXT, &error);
    }
    if (!status) {
        status = tokenize_text(&evaluator, &text, &ids, &bos, &error);
    }
    if (!status) {
        score.width = evaluator.plan->vocabulary_size;
        status = score_windows(&evaluator, &ids, bos, &score, &error);
    }
    if (!status && score.scored == 0) {
        status = error_set(&error, LLCUDA_INVALID_ARGUMENT,
                           "the text is too short: nothing was predicted");
    }
    int result = EXIT_FAILED;
    if (status) {
        console_fail(options, &error);
    } else {
        result = print_score(options, &evaluator, &score, clock_ms(clock_now_ns() - began) / 1000);
    }
    evaluator_close(&evaluator);
    token_ids_deinit(&ids);
    buffer_deinit(&text);
    return result;
}
