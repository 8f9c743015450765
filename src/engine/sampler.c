/* Owns the chain from logits to a token. Invariants: the caller's logits are never written; the
 * workspace holds nothing between calls (except zeros in `longest`); the number drawn depends on
 * the seed and the position alone. It must not know requests, text or devices. */
#include "engine/sampler.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "base/random.h"
#include "engine/sampler_history.h"
#include "engine/sampler_select.h"

/* Buckets of 1/8 below the largest logit, for finding where top-p cuts, and the depth that is tried
 * first. */
#define BUCKETS          513u
#define BUCKETS_PER_UNIT 8.0f
#define NUCLEUS_DEPTH    5.0f

static uint32_t block_count_of(uint32_t vocabulary_size)
{
    return (vocabulary_size + SAMPLER_BLOCK - 1) / SAMPLER_BLOCK;
}

uint64_t sampler_workspace_bytes(uint32_t vocabulary_size, uint32_t context_max)
{
    uint64_t blocks = block_count_of(vocabulary_size);
    return blocks * (2 * sizeof(float) + sizeof(double)) +
           (uint64_t)vocabulary_size *
               (2 * sizeof(float) + 2 * sizeof(uint64_t) + sizeof(uint32_t)) +
           (uint64_t)context_max * sizeof(uint32_t);
}

llcuda_status sampler_workspace_init(struct sampler_workspace *workspace, uint32_t vocabulary_size,
                                     uint32_t context_max, struct llcuda_error *error)
{
    uint32_t blocks = block_count_of(vocabulary_size);
    *workspace = (struct sampler_workspace){
        .kernels = sampler_kernels_choose(),
        .vocabulary_size = vocabulary_size,
        .context_max = context_max,
        .block_max = calloc(blocks, sizeof(float)),
        .select = calloc(blocks, sizeof(float)),
        .block_sum = calloc(blocks, sizeof(double)),
        .patched = calloc(vocabulary_size, sizeof(float)),
        .weights = calloc(vocabulary_size, sizeof(float)),
        .items = calloc(vocabulary_size, sizeof(uint64_t)),
        .scratch = calloc(vocabulary_size, sizeof(uint64_t)),
        .match = calloc(context_max, sizeof(uint32_t)),
        .longest = calloc(vocabulary_size, sizeof(uint32_t)),
    };
    if (!workspace->block_max || !workspace->select || !workspace->block_sum ||
        !workspace->patched || !workspace->weights || !workspace->items || !workspace->scratch ||
        !workspace->match || !workspace->longest) {
        sampler_workspace_deinit(workspace);
        return error_no_memory(error, "the sampler",
                               sampler_workspace_bytes(vocabulary_size, context_max));
    }
    return LLCUDA_OK;
}

void sampler_workspace_deinit(struct sampler_workspace *workspace)
{
    free(workspace->longest);
    free(workspace->match);
    free(workspace->scratch);
    free(workspace->items);
    free(workspace->weights);
    free(workspace->patched);
    free(workspace->block_sum);
    free(workspace->select);
    free(workspace->block_max);
    *workspace = (struct sampler_workspace){0};
}

uint64_t sampler_choice_seed(uint64_t seed, uint32_t index)
{
    return index == 0 ? seed : random_mix(seed ^ random_mix(index));
}

llcuda_status sampler_init(struct sampler *sampler, const struct sampler_params *params,
                           uint64_t seed, const uint32_t *prompt, uint32_t prompt_count,
                           uint32_t token_max, struct arena *arena, struct llcuda_error *error)
{
    *sampler = (struct sampler){.params = params, .seed = seed};
    sampler->counting = params->repetition_penalty != 1 || params->presence_penalty != 0 ||
                        params->frequency_penalty != 0;
    if (!sampler->counting) {
        return LLCUDA_OK;
    }
    uint32_t distinct = token_max < params->vocabulary_size ? token_max : params->vocabulary_size;
    if (!token_counts_init(&sampler->counts, distinct, arena)) {
        return error_no_memory(error, "token counts", 20ull * distinct);
    }
    uint32_t begin = 0;
    if (params->penalty_window > 0 && prompt_count > params->penalty_window) {
        begin = prompt_count - params->penalty_window;
    }
    for (uint32_t i = begin; i < prompt_count; i++) {
        token_counts_add(&sampler->counts, prompt[i], 1, false);
    }
    return LLCUDA_OK;
}

bool sampler_is_greedy(const struct sampler_params *params)
{
    bool penalises = params->repetition_penalty != 1 || params->presence_penalty != 0 ||
                     params->frequency_penalty != 0 || params->dry_multiplier > 0;
    bool masks = params->bias_count > 0 || (params->min_tokens > 0 && params->end_count > 0);
    return params->temperature < SAMPLER_TEMPERATURE_MIN && !penalises && !masks &&
           !params->logprobs;
}

void sampler_accept(struct sampler *sampler, const uint32_t *tokens, uint32_t known,
                    uint32_t prompt_count)
{
    if (!sampler->counting) {
        return;
    }
    token_counts_add(&sampler->counts, tokens[known - 1], 1, true);
    uint32_t window = sampler->params->penalty_window;
    if (window > 0 && known > window) {
        uint32_t gone = known - window - 1;
        token_counts_add(&sampler->counts, tokens[gone], -1, gone >= prompt_count);
    }
}

/* The logits after penalties, biases and the end tokens' mask; the caller's own when there is
 * nothing to change. */
static const float *patch(const struct sampler *sampler, struct sampler_workspace *workspace,
                          const float *logits, const uint32_t *tokens, uint32_t known,
                          uint32_t prompt_count)
{
    const struct sampler_params *params = sampler->params;
    bool mask_ends = known - prompt_count < params->min_tokens && params->end_count > 0;
    bool dry = params->dry_multiplier > 0;
    if (!sampler->counting && !dry && params->bias_count == 0 && !mask_ends) {
        return logits;
    }
    float *patched = workspace->patched;
    memcpy(patched, logits, params->vocabulary_size * sizeof *patched);
    if (sampler->counting) {
        history_penalise(sampler, patched);
    }
    if (dry) {
        history_dry(sampler, workspace, patched, tokens, known);
    }
    for (uint32_t i = 0; i < params->bias_count; i++) {
        patched[params->bias[i].token] += params->bias[i].bias;
    }
    for (uint32_t i = 0; mask_ends && i < params->end_count; i++) {
        patched[params->end_tokens[i]] = -INFINITY;
    }
    return patched;
}

/* Candidates with their weights: exp((logit − maximum) / temperature). */
struct candidates {
    uint64_t *items;
    float *weights; /* of items, in the same order */
    uint32_t count;
    bool sorted; /* by logit */
};

static float scaled(float logit, float maximum, float inverse)
{
    return (logit - maximum) * inverse;
}

/* The items must carry their logits as keys. */
static void weigh(struct candidates *c, const struct sampler_kernels *kernels, float maximum,
                  float inverse)
{
    for (uint32_t i = 0; i < c->count; i++) {
        c->weights[i] = select_key(c->items[i]);
    }
    kernels->weigh(c->weights, c->count, maximum, inverse, c->weights, NULL);
}

static double sum_of(const struct candidates *c)
{
    double sum = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        sum += (double)c->weights[i];
    }
    return sum;
}

/* Keeps the most typical tokens (Meister et al., "Locally typical sampling", 2022): those whose
 * surprise is nearest to the distribution's entropy, up to the mass typical_p. */
static void keep_typical(struct candidates *c, struct sampler_workspace *workspace,
                         const float *logits, float maximum, float inverse, double typical_p)
{
    double sum = sum_of(c);
    double log_sum = log(sum);
    double entropy = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        double weight = (double)c->weights[i];
        double y = (double)scaled(logits[select_token(c->items[i])], maximum, inverse);
        entropy += weight > 0 ? weight / sum * (log_sum - y) : 0;
    }
    for (uint32_t i = 0; i < c->count; i++) {
        uint32_t token = select_token(c->items[i]);
        double surprise = log_sum - (double)scaled(logits[token], maximum, inverse);
        c->items[i] = select_item(-(float)fabs(surprise - entropy), token);
    }
    select_sort(workspace->kernels, c->items, c->count, workspace->scratch);
    double mass = 0;
    uint32_t kept = 0;
    while (kept < c->count && (kept == 0 || mass < typical_p * sum)) {
        uint32_t token = select_token(c->items[kept++]);
        mass += (double)select_exp(scaled(logits[token], maximum, inverse));
    }
    c->count = kept;
    /* Back to the order by logit. Ids first, so that equal logits stay in their order. */
    for (uint32_t i = 0; i < kept; i++) {
        uint32_t token = select_token(c->items[i]);
        c->items[i] = (uint64_t)token << 32 | token;
    }
    select_sort(workspace->kernels, c->items, kept, workspace->scratch);
    for (uint32_t i = 0; i < kept; i++) {
        uint32_t token = select_token(c->items[i]);
        c->items[i] = select_item(logits[token], token);
    }
    select_sort(workspace->kernels, c->items, kept, workspace->scratch);
    c->sorted = true;
    weigh(c, workspace->kernels, maximum, inverse);
}

/* Weights of the whole vocabulary, and their sums by blocks in workspace->block_sum. */
static double weigh_all(struct sampler_workspace *workspace, const float *logits, uint32_t count,
                        float maximum, float inverse)
{
    return workspace->kernels->weigh(logits, count, maximum, inverse, workspace->weights,
                                     workspace->block_sum);
}

/* How far below the best logit (in units of the temperature) the tokens lie that have together the
 * mass `wanted`: from sums over buckets of 1/8, and one bucket more for what rounding does. */
static float nucleus_depth(const struct sampler_workspace *workspace, const float *logits,
                           uint32_t count, float maximum, float inverse, double wanted)
{
    double mass[BUCKETS] = {0};
    for (uint32_t begin = 0; begin < count; begin += SAMPLER_BLOCK) {
        uint32_t length = count - begin < SAMPLER_BLOCK ? count - begin : SAMPLER_BLOCK;
        int32_t buckets[SAMPLER_BLOCK];
        for (uint32_t i = 0; i < length; i++) {
            float depth = scaled(logits[begin + i], maximum, inverse) * -BUCKETS_PER_UNIT;
            buckets[i] = (int32_t)(depth < (float)(BUCKETS - 1) ? depth : (float)(BUCKETS - 1));
        }
        for (uint32_t i = 0; i < length; i++) {
            mass[buckets[i]] += (double)workspace->weights[begin + i];
        }
    }
    double reached = 0;
    uint32_t last = 0;
    while (last < BUCKETS - 1 && (reached += mass[last]) < wanted) {
        last++;
    }
    return last + 2 >= BUCKETS ? INFINITY : (float)(last + 2) / BUCKETS_PER_UNIT;
}

/* The tokens among which top-p cuts when the whole vocabulary is the candidate. A peaked
 * distribution has them near its best token; otherwise the depth is looked for. Returns the mass of
 * everything, since the cut is a share of it. */
static double collect_nucleus(struct candidates *c, struct sampler_workspace *workspace,
                              const float *logits, uint32_t count, float maximum, float inverse,
                              double top_p)
{
    double sum = weigh_all(workspace, logits, count, maximum, inverse);
    float depth = NUCLEUS_DEPTH;
    for (int attempt = 0; attempt < 2; attempt++) {
        c->count = select_collect(logits, count, workspace->block_max, maximum - depth / inverse,
                                  c->items);
        double mass = 0;
        for (uint32_t i = 0; i < c->count; i++) {
            mass += (double)workspace->weights[select_token(c->items[i])];
        }
        if (mass >= top_p * sum) {
            break;
        }
        depth = nucleus_depth(workspace, logits, count, maximum, inverse, top_p * sum);
    }
    return sum;
}

/* Returns the mass that is left: the sum of the kept weights in their order. */
static double keep_top_p(struct candidates *c, double top_p, double sum)
{
    double mass = 0;
    uint32_t kept = 0;
    while (kept < c->count && (kept == 0 || mass < top_p * sum)) {
        mass += (double)c->weights[kept++];
    }
    c->count = kept;
    return mass;
}

static void keep_min_p(struct candidates *c, double min_p)
{
    float largest = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        largest = c->weights[i] > largest ? c->weights[i] : largest;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        if ((double)c->weights[i] >= min_p * (double)largest) {
            c->items[kept] = c->items[i];
            c->weights[kept++] = c->weights[i];
        }
    }
    c->count = kept;
}

/* `sum` is that of the weights in their order. */
static uint32_t draw(const struct candidates *c, double sum, double uniform)
{
    double target = uniform * sum;
    double mass = 0;
    uint32_t chosen = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->weights[i] > 0) {
            chosen = i; /* the last possible one, should rounding leave the target out of reach */
            mass += (double)c->weights[i];
            if (mass > target) {
                break;
            }
        }
    }
    return select_token(c->items[chosen]);
}

/* Temperature alone: nothing is cut, so nothing needs to be collected. Sums go by blocks, the draw
 * finds its block and then its token. */
static uint32_t draw_from_all(struct sampler_workspace *workspace, const float *logits,
                              uint32_t count, float maximum, float inverse, double uniform)
{
    double sum = weigh_all(workspace, logits, count, maximum, inverse);
    uint32_t blocks = block_count_of(count);
    double target = uniform * sum;
    double mass = 0;
    uint32_t b = 0;
    while (b + 1 < blocks && mass + workspace->block_sum[b] <= target) {
        mass += workspace->block_sum[b++];
    }
    uint32_t chosen = UINT32_MAX;
    for (uint32_t i = b * SAMPLER_BLOCK; i < count; i++) {
        if (workspace->weights[i] > 0) {
            chosen = i;
            mass += (double)workspace->weights[i];
            if (mass > target) {
                return i;
            }
        }
    }
    return chosen != UINT32_MAX ? chosen
                                : select_first(logits, count, workspace->block_max, maximum);
}

/* The chain from temperature to the draw. block_max is that of `logits`. */
static uint32_t choose_random(const struct sampler *sampler, struct sampler_workspace *workspace,
                              const float *logits, float maximum, double uniform)
{
    const struct sampler_params *p = sampler->params;
    uint32_t vocabulary = p->vocabulary_size;
    float inverse = (float)(1.0 / p->temperature);
    bool top_k = p->top_k > 0 && p->top_k < vocabulary;
    bool typical = p->typical_p < 1;
    bool top_p = p->top_p < 1;
    if (!top_k && !typical && !top_p && p->min_p <= 0) {
        return draw_from_all(workspace, logits, vocabulary, maximum, inverse, uniform);
    }
    struct candidates c = {.items = workspace->items, .weights = workspace->weights};
    double sum = 0;
    if (!top_k && !typical && top_p) {
        sum = collect_nucleus(&c, workspace, logits, vocabulary, maximum, inverse, p->top_p);
    } else {
        float threshold = -INFINITY;
        if (top_k) {
            threshold = select_threshold(workspace->block_max, block_count_of(vocabulary), p->top_k,
                                         workspace->select);
        } else if (!typical) { /* min-p alone; the slack covers rounding */
            threshold = (float)((double)maximum + p->temperature * (log(p->min_p) - 1e-3));
        }
        c.count = select_collect(logits, vocabulary, workspace->block_max, threshold, c.items);
    }
    if (top_k || top_p) {
        select_sort(workspace->kernels, c.items, c.count, workspace->scratch);
        c.sorted = true;
    }
    if (top_k && c.count > p->top_k) {
        c.count = p->top_k;
    }
    weigh(&c, workspace->kernels, maximum, inverse);
    if (typical) {
        keep_typical(&c, workspace, logits, maximum, inverse, p->typical_p);
    }
    double mass = sum_of(&c);
    if (top_p) {
        mass = keep_top_p(&c, p->top_p, sum > 0 ? sum : mass);
    }
    if (p->min_p > 0) {
        keep_min_p(&c, p->min_p);
        mass = sum_of(&c);
    }
    return draw(&c, mass, uniform);
}

/* Needs block_max of the same logits. */
static void fill_logprob(struct sampler_workspace *workspace, const float *logits, float maximum,
                         uint32_t token, uint32_t top_count, llcuda_token_logprob *out)
{
    const struct sampler_kernels *kernels = workspace->kernels;
    uint32_t count = workspace->vocabulary_size;
    float chosen = logits[token];
    double sum = kernels->weigh(logits, count, maximum, 1, workspace->weights, NULL);
    uint32_t rank = kernels->count_above(logits, count, chosen);
    for (uint32_t i = 0; i < token; i++) {
        rank += logits[i] == chosen;
    }
    double log_sum = (double)maximum + log(sum);
    *out = (llcuda_token_logprob){
        .token = token,
        .logprob = (float)((double)chosen - log_sum),
        .rank = rank,
    };
    if (top_count == 0) {
        return;
    }
    float threshold =
        select_threshold(workspace->block_max, block_count_of(count), top_count, workspace->select);
    uint32_t found =
        select_collect(logits, count, workspace->block_max, threshold, workspace->items);
    select_sort(workspace->kernels, workspace->items, found, workspace->scratch);
    out->top_count = found < top_count ? found : top_count;
    for (uint32_t i = 0; i < out->top_count; i++) {
        uint32_t top = select_token(workspace->items[i]);
        out->top[i] = (llcuda_top_logprob){top, (float)((double)logits[top] - log_sum)};
    }
}

bool sampler_logprob(struct sampler_workspace *workspace, const float *logits, uint32_t token,
                     uint32_t top_count, llcuda_token_logprob *out)
{
    bool finite;
    float maximum =
        workspace->kernels->scan(logits, workspace->vocabulary_size, workspace->block_max, &finite);
    if (finite) {
        fill_logprob(workspace, logits, maximum, token, top_count, out);
    }
    return finite;
}

llcuda_status sampler_choose(struct sampler *sampler, struct sampler_workspace *workspace,
                             const float *logits, const uint32_t *tokens, uint32_t known,
                             uint32_t prompt_count, uint32_t *token, llcuda_token_logprob *logprob,
                             struct llcuda_error *error)
{
    const struct sampler_params *params = sampler->params;
    assert(params->vocabulary_size == workspace->vocabulary_size);
    bool finite;
    float model_maximum =
        workspace->kernels->scan(logits, params->vocabulary_size, workspace->block_max, &finite);
    if (!finite) {
        return error_set(error, LLCUDA_NOT_FINITE,
                         "the model's logits at position %u are not finite", known - 1);
    }
    const float *used = patch(sampler, workspace, logits, tokens, known, prompt_count);
    float maximum = model_maximum;
    if (used != logits) {
        maximum =
            workspace->kernels->scan(used, params->vocabulary_size, workspace->block_max, &finite);
        if (maximum == -INFINITY) {
            return error_set(error, LLCUDA_REFUSED, "the logit biases forbid every token");
        }
    }
    if (params->temperature < SAMPLER_TEMPERATURE_MIN) {
        *token = select_first(used, params->vocabulary_size, workspace->block_max, maximum);
    } else {
        double uniform = random_uniform(sampler->seed, known, 0);
        *token = choose_random(sampler, workspace, used, maximum, uniform);
    }
    if (params->logprobs && logprob) {
        if (used != logits) {
            workspace->kernels->scan(logits, params->vocabulary_size, workspace->block_max,
                                     &finite);
        }
        fill_logprob(workspace, logits, model_maximum, *token, params->top_logprobs, logprob);
    }
    return LLCUDA_OK;
}
