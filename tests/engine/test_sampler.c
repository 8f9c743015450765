/* The sampler against straightforward computations: the same distribution after every chain of
 * stages, the same penalties and the same log-probabilities as slow code gives, and its edges. */
#include "support/test_support.h"

#include "base/random.h"
#include "cpu/cpu.h"
#include "engine/sampler_history.h"
#include "engine/sampler_select.h"

#define SMALL 150u /* more than two blocks, the last one short */

static struct sampler_params neutral(uint32_t vocabulary_size)
{
    return (struct sampler_params){
        .vocabulary_size = vocabulary_size,
        .temperature = 1,
        .top_p = 1,
        .typical_p = 1,
        .repetition_penalty = 1,
        .dry_base = 1.75,
        .dry_allowed_length = 2,
    };
}

static void random_logits(float *logits, uint32_t count, float spread)
{
    for (uint32_t i = 0; i < count; i++) {
        logits[i] = spread * test_random_normal();
    }
}

/* ------------------------------------------------------------------ the reference */

struct entry {
    double p;
    double key;
    uint32_t token;
};

static int by_probability(const void *a, const void *b)
{
    const struct entry *x = a;
    const struct entry *y = b;
    return x->p != y->p ? (x->p < y->p ? 1 : -1) : (x->token < y->token ? -1 : 1);
}

static int by_key(const void *a, const void *b)
{
    const struct entry *x = a;
    const struct entry *y = b;
    return x->key != y->key ? (x->key < y->key ? -1 : 1) : (x->p < y->p ? 1 : -1);
}

static void normalise(struct entry *entries, uint32_t count)
{
    double sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum += entries[i].p;
    }
    for (uint32_t i = 0; i < count; i++) {
        entries[i].p /= sum;
    }
}

static uint32_t keep_mass(struct entry *entries, uint32_t count, double mass)
{
    double sum = 0;
    uint32_t kept = 0;
    while (kept < count && (kept == 0 || sum < mass)) {
        sum += entries[kept++].p;
    }
    normalise(entries, kept);
    return kept;
}

/* Probabilities of all tokens after the chain, by sorting everything at every stage. */
static void reference(const struct sampler_params *p, const float *logits, double *probability)
{
    uint32_t count = p->vocabulary_size;
    struct entry *entries = calloc(count, sizeof *entries);
    double maximum = -INFINITY;
    for (uint32_t i = 0; i < count; i++) {
        maximum = fmax(maximum, (double)logits[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        entries[i] =
            (struct entry){.p = exp(((double)logits[i] - maximum) / p->temperature), .token = i};
    }
    normalise(entries, count);
    qsort(entries, count, sizeof *entries, by_probability);
    if (p->top_k > 0 && p->top_k < count) {
        count = p->top_k;
        normalise(entries, count);
    }
    if (p->typical_p < 1) {
        double entropy = 0;
        for (uint32_t i = 0; i < count; i++) {
            entropy -= entries[i].p > 0 ? entries[i].p * log(entries[i].p) : 0;
        }
        for (uint32_t i = 0; i < count; i++) {
            entries[i].key = fabs(-log(entries[i].p) - entropy);
        }
        qsort(entries, count, sizeof *entries, by_key);
        count = keep_mass(entries, count, p->typical_p);
        qsort(entries, count, sizeof *entries, by_probability);
    }
    if (p->top_p < 1) {
        count = keep_mass(entries, count, p->top_p);
    }
    uint32_t kept = 0;
    while (kept < count && entries[kept].p >= p->min_p * entries[0].p) {
        kept++;
    }
    normalise(entries, kept);
    memset(probability, 0, p->vocabulary_size * sizeof *probability);
    for (uint32_t i = 0; i < kept; i++) {
        probability[entries[i].token] = entries[i].p;
    }
    free(entries);
}

struct bench {
    struct arena arena;
    struct sampler_workspace workspace;
    struct sampler sampler;
};

static void bench_open(struct bench *bench, const struct sampler_params *params, uint64_t seed,
                       const uint32_t *prompt, uint32_t prompt_count, uint32_t token_max)
{
    struct llcuda_error error;
    arena_init(&bench->arena, 0);
    assert_ok(sampler_workspace_init(&bench->workspace, params->vocabulary_size, 4096, &error),
              error);
    assert_ok(sampler_init(&bench->sampler, params, seed, prompt, prompt_count, token_max,
                           &bench->arena, &error),
              error);
}

static void bench_close(struct bench *bench)
{
    sampler_workspace_deinit(&bench->workspace);
    arena_deinit(&bench->arena);
}

/* ------------------------------------------------------------------ distributions */

/* Draws many times: nothing outside the reference's support, and every frequency within five
 * deviations of its probability. */
static void check_distribution(const struct sampler_params *params, const float *logits)
{
    enum { DRAWS = 20000 };
    double probability[SMALL];
    uint32_t seen[SMALL] = {0};
    struct bench bench;
    uint32_t history[1] = {0};
    reference(params, logits, probability);
    bench_open(&bench, params, test_random(), history, 1, 4);
    for (uint32_t i = 1; i <= DRAWS; i++) {
        uint32_t token;
        struct llcuda_error error;
        /* The position is all that changes from draw to draw. */
        assert_ok(sampler_choose(&bench.sampler, &bench.workspace, logits, history, i, i, &token,
                                 NULL, &error),
                  error);
        assert_true(token < params->vocabulary_size);
        seen[token]++;
    }
    for (uint32_t i = 0; i < params->vocabulary_size; i++) {
        double expected = probability[i] * DRAWS;
        double deviation = sqrt(expected * (1 - probability[i]));
        double slack = probability[i] > 0 ? 5.5 * deviation + 5 : 0; /* rare ones come in lumps */
        if (!(fabs(seen[i] - expected) <= slack)) {
            fail_msg("token %u: drawn %u times, expected %.1f (T %g k %u p %g min %g typical %g)",
                     i, seen[i], expected, params->temperature, params->top_k, params->top_p,
                     params->min_p, params->typical_p);
        }
    }
    bench_close(&bench);
}

static void every_chain_gives_its_distribution(void **state)
{
    (void)state;
    static const struct {
        double temperature, top_p, min_p, typical_p;
        uint32_t top_k;
    } rows[] = {
        {1, 1, 0, 1, 0},           {0.3, 1, 0, 1, 0},       {2.5, 1, 0, 1, 0},
        {1, 1, 0, 1, 1},           {1, 1, 0, 1, 7},         {1.5, 1, 0, 1, 140},
        {1, 0.9, 0, 1, 0},         {1, 0.1, 0, 1, 0},       {3, 0.99, 0, 1, 0},
        {1, 1, 0.1, 1, 0},         {1, 1, 0.9, 1, 0},       {1, 1, 0, 0.5, 0},
        {1, 1, 0, 0.95, 20},       {0.7, 0.9, 0, 1, 40},    {0.7, 0.9, 0.05, 1, 40},
        {1.2, 0.8, 0.02, 0.9, 60}, {1, 0.95, 0.01, 0.7, 0}, {0.01, 0.5, 0, 1, 0},
    };
    float logits[SMALL];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sampler_params params = neutral(SMALL);
        params.temperature = rows[i].temperature;
        params.top_p = rows[i].top_p;
        params.min_p = rows[i].min_p;
        params.typical_p = rows[i].typical_p;
        params.top_k = rows[i].top_k;
        random_logits(logits, SMALL, 2);
        check_distribution(&params, logits);
    }
}

static void equal_logits_are_cut_by_id(void **state)
{
    (void)state;
    float logits[SMALL];
    for (uint32_t i = 0; i < SMALL; i++) {
        logits[i] = i % 3 == 0 ? 1.0f : 0.0f;
    }
    struct sampler_params params = neutral(SMALL);
    params.top_k = 10; /* the tokens 0, 3 … 27 */
    check_distribution(&params, logits);
    params.top_k = 0;
    params.top_p = 0.2;
    check_distribution(&params, logits);
    params.temperature = 0;
    params.top_p = 1;
    struct bench bench;
    uint32_t history[1] = {0};
    uint32_t token;
    bench_open(&bench, &params, 1, history, 1, 4);
    logits[70] = 1.5f;
    logits[149] = 1.5f;
    assert_int_equal(
        sampler_choose(&bench.sampler, &bench.workspace, logits, history, 1, 1, &token, NULL, NULL),
        LLCUDA_OK);
    assert_int_equal(token, 70);
    bench_close(&bench);
}

/* ------------------------------------------------------------------ edges */

static void bad_logits_are_refused(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    struct sampler_params params = neutral(SMALL);
    struct bench bench;
    uint32_t history[1] = {0};
    uint32_t token;
    bench_open(&bench, &params, 1, history, 1, 4);
    for (uint32_t at = 0; at < SMALL; at += 7) {
        for (size_t i = 0; i < 3; i++) {
            float logits[SMALL];
            random_logits(logits, SMALL, 1);
            logits[at] = bad[i];
            assert_int_equal(sampler_choose(&bench.sampler, &bench.workspace, logits, history, 1, 1,
                                            &token, NULL, NULL),
                             LLCUDA_NOT_FINITE);
        }
    }
    float huge[SMALL];
    for (uint32_t i = 0; i < SMALL; i++) {
        huge[i] = i == 3 ? 3e38f : -3e38f;
    }
    assert_int_equal(
        sampler_choose(&bench.sampler, &bench.workspace, huge, history, 1, 1, &token, NULL, NULL),
        LLCUDA_OK);
    assert_int_equal(token, 3);
    bench_close(&bench);
}

static void biases_move_and_forbid(void **state)
{
    (void)state;
    llcuda_logit_bias bias[SMALL];
    float logits[SMALL];
    random_logits(logits, SMALL, 1);
    struct sampler_params params = neutral(SMALL);
    params.bias = bias;
    params.temperature = 0;
    struct bench bench;
    uint32_t history[1] = {0};
    uint32_t token;
    bench_open(&bench, &params, 1, history, 1, 4);
    bias[0] = (llcuda_logit_bias){120, 100};
    params.bias_count = 1;
    sampler_choose(&bench.sampler, &bench.workspace, logits, history, 1, 1, &token, NULL, NULL);
    assert_int_equal(token, 120);
    for (uint32_t i = 0; i < SMALL; i++) {
        bias[i] = (llcuda_logit_bias){i, -INFINITY};
    }
    params.bias_count = SMALL - 1; /* only the last token is left */
    for (double temperature = 0; temperature < 3; temperature++) {
        params.temperature = temperature;
        sampler_choose(&bench.sampler, &bench.workspace, logits, history, 1, 1, &token, NULL, NULL);
        assert_int_equal(token, SMALL - 1);
    }
    params.bias_count = SMALL;
    assert_int_equal(
        sampler_choose(&bench.sampler, &bench.workspace, logits, history, 1, 1, &token, NULL, NULL),
        LLCUDA_REFUSED);
    bench_close(&bench);
}

static void end_tokens_wait_for_min_tokens(void **state)
{
    (void)state;
    static const uint32_t ends[] = {5, 9};
    float logits[SMALL];
    random_logits(logits, SMALL, 1);
    logits[5] = 50;
    logits[9] = 40;
    logits[11] = 30;
    struct sampler_params params = neutral(SMALL);
    params.end_tokens = ends;
    params.end_count = 2;
    params.min_tokens = 3;
    params.temperature = 0;
    struct bench bench;
    uint32_t history[8] = {0};
    bench_open(&bench, &params, 1, history, 2, 8);
    for (uint32_t known = 2; known < 8; known++) {
        uint32_t token;
        sampler_choose(&bench.sampler, &bench.workspace, logits, history, known, 2, &token, NULL,
                       NULL);
        assert_int_equal(token, known - 2 < 3 ? 11 : 5);
    }
    bench_close(&bench);
}

static void a_draw_depends_on_seed_and_position_only(void **state)
{
    (void)state;
    float logits[SMALL];
    random_logits(logits, SMALL, 0.1f);
    struct sampler_params params = neutral(SMALL);
    uint32_t history[64] = {0};
    uint32_t first[64];
    uint32_t differences = 0;
    for (uint32_t run = 0; run < 3; run++) {
        struct bench bench;
        bench_open(&bench, &params, run < 2 ? 42 : 43, history, 1, 64);
        for (uint32_t i = 0; i < 63; i++) {
            uint32_t known = run == 1 ? 63 - i : i + 1; /* any order */
            uint32_t token;
            sampler_choose(&bench.sampler, &bench.workspace, logits, history, known, 1, &token,
                           NULL, NULL);
            if (run == 0) {
                first[known] = token;
            } else if (run == 1) {
                assert_int_equal(token, first[known]);
            } else {
                differences += token != first[known];
            }
        }
        bench_close(&bench);
    }
    assert_true(differences > 50);
    assert_int_equal(sampler_choice_seed(42, 0), 42);
    assert_true(sampler_choice_seed(42, 1) != sampler_choice_seed(42, 2));
    assert_true(sampler_choice_seed(42, 1) != sampler_choice_seed(43, 1));
}

/* ------------------------------------------------------------------ history */

static void penalties_are_the_slow_ones(void **state)
{
    (void)state;
    enum { LENGTH = 300, PROMPT = 90 };
    for (int round = 0; round < 30; round++) {
        uint32_t tokens[LENGTH];
        for (uint32_t i = 0; i < LENGTH; i++) {
            tokens[i] = (uint32_t)test_random_below(40);
        }
        struct sampler_params params = neutral(SMALL);
        params.repetition_penalty = 1.3;
        params.presence_penalty = 0.4;
        params.frequency_penalty = -0.15;
        params.penalty_window = round % 2 ? (uint32_t)test_random_below(LENGTH) : 0;
        struct bench bench;
        bench_open(&bench, &params, 1, tokens, PROMPT, LENGTH);
        for (uint32_t known = PROMPT; known < LENGTH; known++) {
            if (known > PROMPT) {
                sampler_accept(&bench.sampler, tokens, known, PROMPT);
            }
            if (known % 10 != 0) {
                continue;
            }
            float logits[SMALL];
            random_logits(logits, SMALL, 3);
            float penalised[SMALL];
            memcpy(penalised, logits, sizeof logits);
            history_penalise(&bench.sampler, penalised);
            uint32_t begin = params.penalty_window && known > params.penalty_window
                                 ? known - params.penalty_window
                                 : 0;
            for (uint32_t t = 0; t < SMALL; t++) {
                uint32_t all = 0;
                uint32_t generated = 0;
                for (uint32_t i = begin; i < known; i++) {
                    all += tokens[i] == t;
                    generated += tokens[i] == t && i >= PROMPT;
                }
                double expected = (double)logits[t];
                if (all > 0) {
                    expected = expected > 0 ? expected / 1.3 : expected * 1.3;
                }
                if (generated > 0) {
                    expected -= 0.4 - 0.15 * generated;
                }
                assert_true(fabs(expected - (double)penalised[t]) < 1e-5);
            }
        }
        bench_close(&bench);
    }
}

/* DRY by comparing every earlier position with the end, character by character. */
static void slow_dry(const struct sampler_params *params, const uint32_t *tokens, uint32_t known,
                     uint32_t *longest)
{
    uint32_t begin =
        params->dry_window && known > params->dry_window ? known - params->dry_window : 0;
    uint32_t last = known - 1;
    for (uint32_t end = begin; end < last; end++) { /* a match that ends here; tokens[end+1] next */
        uint32_t length = 0;
        while (
            end >= begin + length && tokens[end - length] == tokens[last - length] &&
            !(params->dry_breakers[tokens[last - length] / 8] >> (tokens[last - length] % 8) & 1)) {
            length++;
        }
        uint32_t next = tokens[end + 1];
        longest[next] = length > longest[next] ? length : longest[next];
    }
}

static void dry_is_the_slow_one(void **state)
{
    (void)state;
    enum { LENGTH = 400 };
    for (int round = 0; round < 200; round++) {
        uint32_t tokens[LENGTH];
        uint32_t kinds = 2 + (uint32_t)test_random_below(6);
        for (uint32_t i = 0; i < LENGTH; i++) {
            bool repeats = i > 30 && test_random_below(8) > 0;
            tokens[i] = repeats ? tokens[i - 17] : (uint32_t)test_random_below(kinds);
        }
        uint8_t breakers[SMALL / 8 + 1] = {0};
        breakers[0] = round % 3 == 0 ? 1u << 1 : 0;
        struct sampler_params params = neutral(SMALL);
        params.dry_multiplier = 0.8;
        params.dry_base = round % 5 == 0 ? 1 : 1.75;
        params.dry_allowed_length = 1 + (uint32_t)test_random_below(4);
        params.dry_window = round % 2 ? 1 + (uint32_t)test_random_below(LENGTH) : 0;
        params.dry_breakers = breakers;
        uint32_t known = 1 + (uint32_t)test_random_below(LENGTH);
        struct bench bench;
        bench_open(&bench, &params, 1, tokens, known, LENGTH);
        float logits[SMALL] = {0};
        history_dry(&bench.sampler, &bench.workspace, logits, tokens, known);
        uint32_t longest[SMALL] = {0};
        slow_dry(&params, tokens, known, longest);
        for (uint32_t t = 0; t < SMALL; t++) {
            double expected = 0;
            if (longest[t] >= params.dry_allowed_length) {
                expected =
                    fmin(1e6, 0.8 * pow(params.dry_base, longest[t] - params.dry_allowed_length));
            }
            assert_true(fabs(-(double)logits[t] - expected) <= 1e-6 * (1 + expected));
            assert_int_equal(bench.workspace.longest[t], 0);
        }
        bench_close(&bench);
    }
}

/* ------------------------------------------------------------------ parts */

static void log_probabilities_are_exact(void **state)
{
    (void)state;
    for (int round = 0; round < 50; round++) {
        float logits[SMALL];
        random_logits(logits, SMALL, 4);
        logits[20] = logits[80]; /* a tie */
        struct sampler_workspace workspace;
        struct llcuda_error error;
        assert_ok(sampler_workspace_init(&workspace, SMALL, 16, &error), error);
        uint32_t token = round == 0 ? 80 : (uint32_t)test_random_below(SMALL);
        uint32_t wanted = (uint32_t)test_random_below(LLCUDA_LOGPROBS_MAX + 1);
        llcuda_token_logprob out;
        assert_true(sampler_logprob(&workspace, logits, token, wanted, &out));
        double sum = 0;
        uint32_t rank = 0;
        for (uint32_t i = 0; i < SMALL; i++) {
            sum += exp((double)logits[i]);
            rank += logits[i] > logits[token] || (logits[i] == logits[token] && i < token);
        }
        assert_true(fabs((double)out.logprob - ((double)logits[token] - log(sum))) < 1e-5);
        assert_int_equal(out.rank, rank);
        assert_int_equal(out.top_count, wanted);
        for (uint32_t i = 0; i < wanted; i++) {
            uint32_t above = 0;
            uint32_t top = out.top[i].token;
            for (uint32_t k = 0; k < SMALL; k++) {
                above += logits[k] > logits[top] || (logits[k] == logits[top] && k < top);
            }
            assert_int_equal(above, i);
            assert_true(fabs((double)out.top[i].logprob - ((double)logits[top] - log(sum))) < 1e-5);
        }
        sampler_workspace_deinit(&workspace);
    }
}

static void the_exponential_is_close(void **state)
{
    (void)state;
    for (double y = -86.9; y <= 0; y += 0.00037) {
        float argument = (float)y;
        double expected = exp((double)argument);
        assert_near(select_exp(argument), expected, 2e-7 * expected);
    }
    assert_true(select_exp(0) == 1.0f);
    assert_true(select_exp(-87.5f) == 0.0f && select_exp(-INFINITY) == 0.0f);
}

static int by_item_key(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y; /* keys above, ids below: ids ascend among equals */
}

static void sorting_and_thresholds_are_exact(void **state)
{
    (void)state;
    static uint64_t items[5000], expected[5000], scratch[5000];
    static float logits[5000], block_max[80], select[80];
    const struct sampler_kernels *kernels = sampler_kernels_choose();
    for (int round = 0; round < 100; round++) {
        uint32_t count = 1 + (uint32_t)test_random_below(round % 2 ? 5000 : 60);
        for (uint32_t i = 0; i < count; i++) {
            logits[i] = round % 3 ? test_random_normal() * 10 : (float)test_random_below(20) - 10;
            items[i] = select_item(logits[i], i);
        }
        memcpy(expected, items, count * sizeof *items);
        qsort(expected, count, sizeof *expected, by_item_key);
        select_sort(kernels, items, count, scratch);
        assert_memory_equal(items, expected, count * sizeof *items);
        for (uint32_t i = 1; i < count; i++) {
            assert_true(logits[select_token(items[i - 1])] >= logits[select_token(items[i])]);
        }
        bool finite;
        uint32_t blocks = (count + SAMPLER_BLOCK - 1) / SAMPLER_BLOCK;
        float maximum = kernels->scan(logits, count, block_max, &finite);
        assert_true(finite && maximum == logits[select_token(items[0])]);
        assert_int_equal(select_first(logits, count, block_max, maximum), select_token(items[0]));
        uint32_t k = 1 + (uint32_t)test_random_below(count);
        float threshold = select_threshold(block_max, blocks, k, select);
        uint32_t found = select_collect(logits, count, block_max, threshold, items);
        assert_true(found >= k);
        select_sort(kernels, items, found, scratch);
        assert_memory_equal(items, expected, k * sizeof *items);
    }
}

static bool has_level(enum cpu_level level)
{
    return cpu_level_detect() >= level && cpu_level_detect() != CPU_NEON;
}

/* Every instruction set gives the bits of plain C. */
static void all_kernels_give_the_same_bits(void **state)
{
    (void)state;
    const struct sampler_kernels *others[2];
    uint32_t other_count = 0;
#if defined(__x86_64__)
    if (has_level(CPU_AVX2)) {
        others[other_count++] = &sampler_kernels_avx2;
    }
    if (has_level(CPU_AVX512)) {
        others[other_count++] = &sampler_kernels_avx512;
    }
#endif
    const struct sampler_kernels *base = &sampler_kernels_base;
    static float logits[3000], weights[2][3000], block_max[2][50];
    static double block_sum[2][50];
    static uint64_t items[SAMPLER_SMALL], sorted[2][SAMPLER_SMALL];
    for (int round = 0; round < 300; round++) {
        uint32_t count = 1 + (uint32_t)test_random_below(round % 2 ? 3000 : 100);
        for (uint32_t i = 0; i < count; i++) {
            logits[i] = round % 3 ? test_random_normal() * 8 : (float)test_random_below(9);
        }
        bool bad = round % 5 == 0;
        if (bad) {
            const float wrong[] = {NAN, INFINITY, -INFINITY, -NAN};
            logits[test_random_below(count)] = wrong[round / 5 % 4];
        }
        uint32_t small = count < SAMPLER_SMALL ? count : SAMPLER_SMALL;
        for (uint32_t i = 0; i < small; i++) {
            items[i] = select_item(logits[i], i);
        }
        bool finite[2];
        float most = base->scan(logits, count, block_max[0], &finite[0]);
        assert_int_equal(finite[0], !bad);
        double sum = base->weigh(logits, count, 3, 0.7f, weights[0], block_sum[0]);
        base->sort_small(items, small, sorted[0]);
        for (uint32_t k = 0; k < other_count; k++) {
            uint32_t blocks = (count + SAMPLER_BLOCK - 1) / SAMPLER_BLOCK;
            float most_too = others[k]->scan(logits, count, block_max[1], &finite[1]);
            assert_memory_equal(&most, &most_too, sizeof most);
            assert_int_equal(finite[0], finite[1]);
            assert_memory_equal(block_max[0], block_max[1], blocks * sizeof(float));
            double sum_too = others[k]->weigh(logits, count, 3, 0.7f, weights[1], block_sum[1]);
            if (!bad) {
                assert_memory_equal(&sum, &sum_too, sizeof sum);
                assert_memory_equal(weights[0], weights[1], count * sizeof(float));
                assert_memory_equal(block_sum[0], block_sum[1], blocks * sizeof(double));
            }
            assert_int_equal(others[k]->count_above(logits, count, 1.5f),
                             base->count_above(logits, count, 1.5f));
            others[k]->sort_small(items, small, sorted[1]);
            assert_memory_equal(sorted[0], sorted[1], small * sizeof(uint64_t));
        }
    }
    printf("%u instruction sets beside plain C\n", other_count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_chain_gives_its_distribution),
        cmocka_unit_test(equal_logits_are_cut_by_id),
        cmocka_unit_test(bad_logits_are_refused),
        cmocka_unit_test(biases_move_and_forbid),
        cmocka_unit_test(end_tokens_wait_for_min_tokens),
        cmocka_unit_test(a_draw_depends_on_seed_and_position_only),
        cmocka_unit_test(penalties_are_the_slow_ones),
        cmocka_unit_test(dry_is_the_slow_one),
        cmocka_unit_test(log_probabilities_are_exact),
        cmocka_unit_test(the_exponential_is_close),
        cmocka_unit_test(sorting_and_thresholds_are_exact),
        cmocka_unit_test(all_kernels_give_the_same_bits),
    };
    test_seed_print();
    return cmocka_run_group_tests_name("sampler", tests, NULL, NULL);
}
