/* Prints the host's share of a step with many running requests on a device that takes no time, and
 * what the sampler takes for one row of a large vocabulary. Bounds: 20 µs + 0.1 µs a request. */
#include "fake.h"

#include "base/clock.h"
#include "base/random.h"

static uint32_t rows_of(const struct fake_engine *engine)
{
    return engine->core.scheduler.plan.row_count;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Steps of `running` decoding requests; the median host time of one. The fake device's own time is
 * not counted. */
static void bench_step(uint32_t running, uint32_t vocabulary, double temperature)
{
    struct fake_engine engine;
    struct scheduler_options options = {
        .block_count = running * 80,
        .running_max = running,
        .rows_max = running + 256,
        .sequence_max = running,
        .context_max = 1024,
        .throughput_bias = 0.5,
        .prefix_cache = true,
    };
    assert_true(fake_engine_open(&engine, &options, vocabulary));
    engine.core.options.clock_ns = NULL; /* the real clock */
    llcuda_request **requests = calloc(running, sizeof *requests);
    for (uint32_t i = 0; i < running; i++) {
        uint32_t prompt[16] = {i, 1, 2};
        llcuda_request_options request;
        llcuda_request_options_init(&request, sizeof request);
        request.prompt_tokens = prompt;
        request.prompt_token_count = 16;
        request.ignore_eos = true;
        request.temperature = temperature;
        request.top_k = temperature > 0 ? 40 : 0;
        request.top_p = temperature > 0 ? 0.95 : 1;
        llcuda_status status;
        prompt[0] %= vocabulary;
        requests[i] = fake_submit(&engine, &request, &status);
        assert_non_null(requests[i]);
    }
    enum { STEPS_MAX = 900 };
    uint64_t samples[STEPS_MAX];
    uint32_t steps = 0;
    for (int i = 0; i < STEPS_MAX; i++) {
        core_take_mail(&engine.core);
        uint64_t before = engine.core.counters[CORE_HOST_NS];
        core_step(&engine.core);
        uint64_t host = engine.core.counters[CORE_HOST_NS] - before;
        if (rows_of(&engine) == running && engine.core.scheduler.plan.logits_count == running) {
            samples[steps++] = host;
        }
        for (uint32_t k = 0; k < running; k++) { /* one reader for all, as a server has */
            const llcuda_event *event;
            while (llcuda_request_next(requests[k], 0, &event, NULL) == LLCUDA_OK &&
                   event->kind != LLCUDA_EVENT_DONE) {
            }
        }
    }
    qsort(samples, steps, sizeof *samples, by_value);
    double median = (double)samples[steps / 2] / 1e3;
    printf(
        "%4u requests, vocabulary %u, %-25s %7.1f us a step (least %.1f, p90 %.1f); bound %.1f\n",
        running, vocabulary, temperature > 0 ? "temperature, top-k, top-p" : "greedy", median,
        (double)samples[0] / 1e3, (double)samples[steps * 9 / 10] / 1e3, 20 + 0.1 * running);
    for (uint32_t i = 0; i < running; i++) {
        llcuda_request_release(requests[i]);
    }
    free(requests);
    core_take_mail(&engine.core);
    fake_engine_close(&engine);
}

static void bench_sampler(const char *name, const struct sampler_params *params)
{
    enum { ROUNDS = 200 };
    uint32_t vocabulary = params->vocabulary_size;
    struct sampler_workspace workspace;
    struct sampler sampler;
    struct arena arena;
    struct llcuda_error error;
    uint32_t history[512];
    float *logits = calloc(vocabulary, sizeof *logits);
    arena_init(&arena, 0);
    for (uint32_t i = 0; i < vocabulary; i++) {
        logits[i] = 2.5f * test_random_normal();
    }
    for (uint32_t i = 0; i < 512; i++) {
        history[i] = (uint32_t)test_random_below(vocabulary);
    }
    assert_ok(sampler_workspace_init(&workspace, vocabulary, 512, &error), error);
    assert_ok(sampler_init(&sampler, params, 1, history, 256, 512, &arena, &error), error);
    uint64_t best = UINT64_MAX;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint32_t token;
        llcuda_token_logprob logprob;
        uint64_t begin = clock_now_ns();
        assert_ok(sampler_choose(&sampler, &workspace, logits, history, 256 + i, 256, &token,
                                 &logprob, &error),
                  error);
        uint64_t took = clock_now_ns() - begin;
        best = took < best ? took : best;
    }
    printf("sampler, vocabulary %u, %-34s %8.1f us (best of %d)\n", vocabulary, name,
           (double)best / 1e3, ROUNDS);
    sampler_workspace_deinit(&workspace);
    arena_deinit(&arena);
    free(logits);
}

int main(int argc, char **argv)
{
    if (argc > 1) { /* one case for a profiler: requests, temperature */
        bench_step((uint32_t)atoi(argv[1]), 64, argc > 2 ? atof(argv[2]) : 0);
        return 0;
    }
    bench_step(1, 64, 0);
    bench_step(16, 64, 0);
    bench_step(64, 64, 0);
    bench_step(256, 64, 0);
    bench_step(256, 64, 0.8);
    struct sampler_params params = {
        .vocabulary_size = 128256,
        .top_p = 1,
        .typical_p = 1,
        .repetition_penalty = 1,
    };
    bench_sampler("greedy", &params);
    params.temperature = 0.8;
    bench_sampler("temperature", &params);
    params.top_k = 40;
    bench_sampler("temperature, top-k 40", &params);
    params.top_p = 0.95;
    bench_sampler("temperature, top-k 40, top-p 0.95", &params);
    params.top_k = 0;
    bench_sampler("temperature, top-p 0.95", &params);
    params.temperature = 0.3; /* peaked, as trained models are */
    bench_sampler("temperature 0.3, top-p 0.95", &params);
    params.temperature = 0.8;
    params.top_p = 1;
    params.min_p = 0.05;
    bench_sampler("temperature, min-p 0.05", &params);
    params.repetition_penalty = 1.1;
    bench_sampler("the same, repetition penalty", &params);
    params.repetition_penalty = 1;
    params.min_p = 0;
    params.typical_p = 0.9;
    bench_sampler("temperature, typical 0.9", &params);
    params.typical_p = 1;
    params.temperature = 0;
    params.logprobs = true;
    params.top_logprobs = 20;
    bench_sampler("greedy, 20 log-probabilities", &params);
    return 0;
}
