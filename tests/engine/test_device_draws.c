/* The engine on a device that draws tokens, the emulated GPU: many requests of mixed settings at a
 * time get the tokens that each of them gets alone, and the host draws only what it must. */
#include "support/test_support.h"

#include "base/file.h"
#include "llcuda/llcuda.h"

#define REQUESTS 64u
#define TOKENS   4u

struct answer {
    uint32_t tokens[TOKENS];
    float logprobs[TOKENS];
    uint32_t count;
    llcuda_status status;
};

static const char *const prompts[] = {"Once upon a time", "The fox", "One day, a girl",
                                      "There was a boat that"};
static const llcuda_logit_bias biases[] = {{40, -100}, {41, 3}, {40, 1}, {42, -INFINITY}};

/* Settings of request i: every stage of the chain in some of them. */
static void options_of(uint32_t i, llcuda_request_options *options)
{
    llcuda_request_options_init(options, sizeof *options);
    options->prompt = prompts[i % 4];
    options->prompt_bytes = strlen(options->prompt);
    options->max_tokens = TOKENS;
    options->ignore_eos = i % 5 == 0;
    options->seed_given = true;
    options->seed = 1000 + i;
    options->temperature = i % 8 == 0 ? 0 : 0.5 + 0.05 * (i % 16);
    options->top_k = i % 3 == 0 ? 5 + i : 0;
    options->top_p = i % 4 == 1 ? 0.8 : 1;
    options->typical_p = i % 7 == 2 ? 0.7 : 1;
    options->min_p = i % 6 == 3 ? 0.05 : 0;
    options->repetition_penalty = i % 5 == 1 ? 1.3 : 1;
    options->presence_penalty = i % 9 == 4 ? 0.6 : 0;
    options->frequency_penalty = i % 9 == 5 ? 0.4 : 0;
    options->dry_multiplier = i % 11 == 6 ? 0.8 : 0;
    options->logit_bias = biases;
    options->logit_bias_count = i % 10 == 7 ? 4 : 0;
    options->min_tokens = i % 12 == 8 ? 3 : 0;
    options->top_logprobs = i % 6 == 5 ? 4 : 0;
}

static llcuda_engine *open_engine(void)
{
    llcuda_engine_options options;
    llcuda_engine *engine;
    llcuda_error error;
    llcuda_engine_options_init(&options, sizeof options);
    char *path = test_source_path("models/demo/llcuda-demo-q8_0.gguf");
    if (!file_exists(path)) {
        free(path);
        skip();
    }
    options.model = path;
    options.device = "emu";
    options.gpu_kernel_cache = KERNEL_CACHE;
    options.deterministic = true;
    options.context_length = 64;
    options.running_max = REQUESTS;
    assert_ok(llcuda_engine_open(&options, &engine, &error), error);
    free(path);
    return engine;
}

static llcuda_request *submit(llcuda_engine *engine, const llcuda_request_options *options)
{
    llcuda_request *request;
    llcuda_error error;
    assert_ok(llcuda_submit(engine, options, &request, &error), error);
    return request;
}

static void read_answer(llcuda_request *request, struct answer *answer)
{
    const llcuda_event *event;
    llcuda_error error;
    *answer = (struct answer){0};
    do {
        assert_ok(llcuda_request_next(request, LLCUDA_FOREVER, &event, &error), error);
        for (uint32_t i = 0;
             i < event->token_count && event->kind == LLCUDA_EVENT_TOKENS && event->choice == 0;
             i++) {
            assert_true(answer->count < TOKENS);
            answer->logprobs[answer->count] = event->logprobs ? event->logprobs[i].logprob : 1;
            answer->tokens[answer->count++] = event->tokens[i];
        }
    } while (event->kind != LLCUDA_EVENT_DONE);
    answer->status = event->status;
    llcuda_request_release(request);
}

static llcuda_stats stats_of(const llcuda_engine *engine)
{
    llcuda_stats stats = {.size = sizeof stats};
    llcuda_engine_get_stats(engine, &stats);
    return stats;
}

static void company_changes_no_token(void **state)
{
    (void)state;
    llcuda_engine *engine = open_engine();
    static struct answer together[REQUESTS];
    llcuda_request *requests[REQUESTS];
    llcuda_request_options options;
    for (uint32_t i = 0; i < REQUESTS; i++) {
        options_of(i, &options);
        requests[i] = submit(engine, &options);
    }
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < REQUESTS; i++) {
        read_answer(requests[i], &together[i]);
        assert_int_equal(together[i].status, LLCUDA_OK);
        assert_true(together[i].count > 0);
        tokens += together[i].count;
    }
    for (uint32_t i = 0; i < REQUESTS; i += LONE_STRIDE) {
        struct answer alone;
        options_of(i, &options);
        read_answer(submit(engine, &options), &alone);
        assert_int_equal(alone.count, together[i].count);
        assert_memory_equal(alone.tokens, together[i].tokens, alone.count * sizeof(uint32_t));
        for (uint32_t t = 0; t < alone.count; t++) {
            assert_true(options.top_logprobs ? together[i].logprobs[t] <= 0
                                             : together[i].logprobs[t] == 1);
            assert_true(alone.logprobs[t] == together[i].logprobs[t]);
        }
    }
    /* The step that ended last may not be counted yet. */
    llcuda_stats stats = stats_of(engine);
    assert_int_equal(stats.tokens_drawn_host, 0);
    assert_true(stats.tokens_drawn_device >= tokens);
    llcuda_engine_close(engine);
}

/* Choices of one request draw their first token from the same logits, which the host needs. */
static void the_host_draws_for_siblings(void **state)
{
    (void)state;
    llcuda_engine *engine = open_engine();
    llcuda_request_options options;
    struct answer answer, alone;
    options_of(1, &options);
    read_answer(submit(engine, &options), &alone);
    options.choice_count = 3;
    read_answer(submit(engine, &options), &answer);
    assert_int_equal(answer.status, LLCUDA_OK);
    assert_int_equal(answer.count, alone.count);
    assert_memory_equal(answer.tokens, alone.tokens, alone.count * sizeof(uint32_t));
    llcuda_stats stats = stats_of(engine);
    assert_int_equal(stats.tokens_drawn_host, 1);
    assert_true(stats.tokens_drawn_device >= alone.count);
    llcuda_engine_close(engine);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(company_changes_no_token),
    cmocka_unit_test(the_host_draws_for_siblings),
};

TEST_MAIN(tests)
