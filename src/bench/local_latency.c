/* Owns single requests as measurements. A depth is a prefix that the engine finds in its cache;
 * what follows it is drawn anew for each repeat, so that nothing else is found. One thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "bench/local_measure.h"

struct local_result *local_report_add(struct local_report *report, uint32_t repeats)
{
    if (report->count == report->capacity) {
        uint32_t capacity = report->capacity ? 2 * report->capacity : 16;
        struct local_result *grown = realloc(report->results, capacity * sizeof *grown);
        if (!grown) {
            return NULL;
        }
        report->results = grown;
        report->capacity = capacity;
    }
    struct local_result *result = &report->results[report->count];
    *result = (struct local_result){.repeats = repeats, .parallel = 1};
    result->rates = calloc(repeats, sizeof *result->rates);
    if (!result->rates) {
        return NULL;
    }
    report->count++;
    return result;
}

void local_report_deinit(struct local_report *report)
{
    for (uint32_t i = 0; i < report->count; i++) {
        free(report->results[i].rates);
    }
    free(report->results);
    *report = (struct local_report){0};
}

void local_random_tokens(uint32_t *tokens, uint32_t count, uint32_t vocabulary_size, uint64_t seed)
{
    for (uint32_t i = 0; i < count; i++) {
        tokens[i] = (uint32_t)(random_mix(seed * 0x9e3779b97f4a7c15u + i) % vocabulary_size);
    }
}

llcuda_status local_submit(llcuda_engine *engine, const uint32_t *tokens, uint32_t count,
                           uint32_t generated, llcuda_request **request, struct llcuda_error *error)
{
    llcuda_request_options options;
    llcuda_request_options_init(&options, sizeof options);
    options.prompt_tokens = tokens;
    options.prompt_token_count = count;
    options.max_tokens = generated;
    options.ignore_eos = true;
    return llcuda_submit(engine, &options, request, error);
}

llcuda_status local_wait(llcuda_request *request, llcuda_event *done, struct llcuda_error *error)
{
    const llcuda_event *event;
    do {
        llcuda_status status = llcuda_request_next(request, LLCUDA_FOREVER, &event, error);
        if (status) {
            return status;
        }
    } while (event->kind != LLCUDA_EVENT_DONE);
    *done = *event;
    return event->status ? error_set(error, event->status, "%s", event->message) : LLCUDA_OK;
}

static uint64_t weight_bytes_read(const llcuda_engine *engine)
{
    llcuda_stats stats = {.size = sizeof stats};
    llcuda_engine_get_stats(engine, &stats);
    return stats.weight_bytes_read;
}

/* A request of `depth` + `fresh` prompt tokens and `generated` answered ones. */
static llcuda_status run_once(llcuda_engine *engine, uint32_t *tokens, uint32_t depth,
                              uint32_t fresh, uint32_t generated, uint64_t seed, llcuda_event *done,
                              struct llcuda_error *error)
{
    llcuda_request *request = NULL;
    uint32_t vocabulary = llcuda_engine_get_info(engine)->vocabulary_size;
    local_random_tokens(tokens, depth, vocabulary, 0);
    local_random_tokens(tokens + depth, fresh, vocabulary, seed);
    llcuda_status status = local_submit(engine, tokens, depth + fresh, generated, &request, error);
    if (!status) {
        status = local_wait(request, done, error);
    }
    llcuda_request_release(request);
    return status;
}

struct measurement {
    uint32_t depth, prompt, generated; /* prompt 0: a generation */
};

static llcuda_status measure(llcuda_engine *engine, const struct local_options *options,
                             const struct measurement *m, uint32_t *tokens,
                             struct local_report *report, struct llcuda_error *error)
{
    struct local_result *result = local_report_add(report, options->repeats);
    if (!result) {
        return error_no_memory(error, "a result", options->repeats * sizeof(double));
    }
    result->depth = m->depth;
    result->prompt_tokens = m->prompt;
    result->generated_tokens = m->prompt ? 0 : m->generated;
    snprintf(result->name, sizeof result->name, "%s%u", m->prompt ? "pp" : "tg",
             m->prompt ? m->prompt : m->generated);
    /* A generation begins from one fresh token, and its first token belongs to the prompt. */
    uint32_t fresh = m->prompt ? m->prompt : 1;
    uint32_t generated = m->prompt ? 1 : m->generated + 1;
    for (uint32_t i = 0; i <= options->repeats; i++) {
        llcuda_event done;
        uint64_t before = weight_bytes_read(engine);
        uint64_t seed = 1 + report->count * (uint64_t)(LOCAL_REPEATS_MAX + 1) + i;
        llcuda_status status =
            run_once(engine, tokens, m->depth, fresh, generated, seed, &done, error);
        if (status) {
            return status;
        }
        if (i == 0) {
            continue; /* warms caches and puts the depth's prefix into the engine's */
        }
        /* A cached prefix ends with a whole block: what it lacks is computed and counted. */
        uint32_t computed = done.usage.prompt_tokens - done.usage.cached_tokens;
        if (m->prompt) {
            result->rates[i - 1] = computed / done.timings.ttft_ms * 1000;
        } else {
            result->rates[i - 1] = m->generated / done.timings.decode_ms * 1000;
            /* One step more than tokens: the prompt's. */
            uint64_t steps = m->generated + (computed > 1 ? 2u : 1u);
            result->bytes_per_token = (double)(weight_bytes_read(engine) - before) / (double)steps;
        }
    }
    return LLCUDA_OK;
}

llcuda_status local_latency(llcuda_engine *engine, const struct local_options *options,
                            struct local_report *report, struct llcuda_error *error)
{
    uint32_t total = options->depths.count * (options->prompts.count + options->generations.count);
    uint32_t done = 0;
    uint32_t *tokens = calloc(local_context_length(options), sizeof *tokens);
    if (!tokens) {
        return error_no_memory(error, "a prompt", local_context_length(options) * sizeof *tokens);
    }
    llcuda_status status = LLCUDA_OK;
    for (uint32_t d = 0; !status && d < options->depths.count; d++) {
        for (uint32_t i = 0; !status && i < options->prompts.count + options->generations.count;
             i++) {
            bool is_prompt = i < options->prompts.count;
            uint32_t size = is_prompt ? options->prompts.values[i]
                                      : options->generations.values[i - options->prompts.count];
            struct measurement m = {.depth = options->depths.values[d],
                                    .prompt = is_prompt ? size : 0,
                                    .generated = is_prompt ? 0 : size};
            if (size) {
                status = measure(engine, options, &m, tokens, report, error);
            }
            done++;
            if (!status && options->proceed && !options->proceed(options->user, done, total)) {
                status = error_set(error, LLCUDA_CANCELLED, "interrupted");
            }
        }
    }
    free(tokens);
    return status;
}
