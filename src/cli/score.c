/* Owns how well a model predicts a text: `perplexity`, the by-product of `imatrix`, and what
 * `quantize` reports. */
#include "cli/score.h"

#include <math.h>

#include "format/tokenizer_source.h"
#include "text/tokenizer.h"

struct score {
    const uint32_t *tokens; /* of the window */
    uint32_t count;
    uint32_t begin; /* first position whose prediction counts */
    uint32_t width;
    struct text_score *total;
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
        score->total->sum += loss;
        score->total->square_sum += loss * loss;
        score->total->scored++;
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
                                   uint32_t bos, const char *what, struct score *score,
                                   struct llcuda_error *error)
{
    struct console_progress progress;
    uint32_t lead = bos != TOKEN_NONE;
    uint32_t fresh = evaluator->context_length - lead;
    struct buffer window = {0};
    llcuda_status status = LLCUDA_OK;
    console_progress_begin(&progress, what);
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
        score->total->windows++;
        console_progress_report(&progress, begin, ids->count);
    }
    console_progress_end(&progress);
    buffer_deinit(&window);
    return status;
}

double text_score_perplexity(const struct text_score *score)
{
    return exp(score->sum / (double)score->scored);
}

double text_score_error(const struct text_score *score)
{
    double mean = score->sum / (double)score->scored;
    double variance = score->square_sum / (double)score->scored - mean * mean;
    return exp(mean) * sqrt(fmax(variance, 0) / (double)score->scored);
}

llcuda_status score_text(struct evaluator *evaluator, const struct buffer *text, const char *what,
                         struct text_score *total, struct llcuda_error *error)
{
    struct token_ids ids = {0};
    struct score score = {.total = total, .width = evaluator->plan->vocabulary_size};
    uint32_t bos = TOKEN_NONE;
    *total = (struct text_score){0};
    llcuda_status status = tokenize_text(evaluator, text, &ids, &bos, error);
    if (!status) {
        status = score_windows(evaluator, &ids, bos, what, &score, error);
    }
    if (!status && total->scored == 0) {
        status = error_set(error, LLCUDA_INVALID_ARGUMENT,
                           "the text is too short: nothing was predicted");
    }
    token_ids_deinit(&ids);
    return status;
}
