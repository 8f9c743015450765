/* Owns many requests at once as one measurement: the time from the first submission to the last
 * token. One thread; the engine batches. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "bench/local_measure.h"

struct load {
    llcuda_engine *engine;
    uint32_t parallel, prompt, generated;
    uint32_t *tokens;
    llcuda_request **requests;
    bool *ended;
};

/* Reads what there is of a request, waiting at most `timeout_ms` for the first of it; *done when it
 * has ended. A request that failed gives its status and sentence. */
static llcuda_status read_some(llcuda_request *request, int64_t timeout_ms, bool *done,
                               struct llcuda_error *error)
{
    for (;;) {
        const llcuda_event *event;
        struct llcuda_error late;
        llcuda_status status = llcuda_request_next(request, timeout_ms, &event, &late);
        if (status == LLCUDA_TIMEOUT) {
            return LLCUDA_OK;
        }
        if (status) {
            return error_set(error, status, "%s", late.message);
        }
        timeout_ms = 0;
        if (event->kind == LLCUDA_EVENT_DONE) {
            *done = true;
            return event->status ? error_set(error, event->status, "%s", event->message)
                                 : LLCUDA_OK;
        }
    }
}

/* Reads all requests to their ends, in turns: one that nobody reads pauses when its events fill
 * their ring, and the batch would run dry. */
static llcuda_status read_all(const struct load *load, struct llcuda_error *error)
{
    llcuda_status status = LLCUDA_OK;
    uint32_t left = load->parallel;
    memset(load->ended, 0, load->parallel * sizeof *load->ended);
    while (!status && left > 0) {
        bool waited = false;
        for (uint32_t i = 0; !status && i < load->parallel; i++) {
            if (load->ended[i]) {
                continue;
            }
            status = read_some(load->requests[i], waited ? 0 : 1, &load->ended[i], error);
            waited = true;
            left -= load->ended[i];
        }
    }
    return status;
}

/* Submits all, waits for all; releases all in any case. */
static llcuda_status run_once(const struct load *load, uint64_t seed, double *seconds,
                              struct llcuda_error *error)
{
    uint32_t vocabulary = llcuda_engine_get_info(load->engine)->vocabulary_size;
    llcuda_status status = LLCUDA_OK;
    uint64_t began = clock_now_ns();
    for (uint32_t i = 0; i < load->parallel; i++) {
        load->requests[i] = NULL;
    }
    for (uint32_t i = 0; !status && i < load->parallel; i++) {
        local_random_tokens(load->tokens, load->prompt, vocabulary, seed * load->parallel + i);
        status = local_submit(load->engine, load->tokens, load->prompt, load->generated,
                              &load->requests[i], error);
    }
    if (!status) {
        status = read_all(load, error);
    }
    *seconds = clock_ms(clock_now_ns() - began) / 1000;
    for (uint32_t i = 0; i < load->parallel; i++) {
        llcuda_request_release(load->requests[i]);
    }
    return status;
}

static llcuda_status measure(struct load *load, const struct local_options *options,
                             struct local_report *report, struct llcuda_error *error)
{
    struct local_result *result = local_report_add(report, options->repeats);
    if (!result) {
        return error_no_memory(error, "a result", options->repeats * sizeof(double));
    }
    result->parallel = load->parallel;
    result->prompt_tokens = load->parallel * load->prompt;
    result->generated_tokens = load->parallel * load->generated;
    snprintf(result->name, sizeof result->name, "%u x pp%u+tg%u", load->parallel, load->prompt,
             load->generated);
    for (uint32_t i = 0; i <= options->repeats; i++) {
        double seconds;
        uint64_t seed = 1 + report->count * (uint64_t)(LOCAL_REPEATS_MAX + 1) + i;
        llcuda_status status = run_once(load, seed, &seconds, error);
        if (status) {
            return status;
        }
        if (i > 0) {
            result->rates[i - 1] =
                (result->prompt_tokens + (double)result->generated_tokens) / seconds;
        }
    }
    return LLCUDA_OK;
}

llcuda_status local_throughput(llcuda_engine *engine, const struct local_options *options,
                               struct local_report *report, struct llcuda_error *error)
{
    struct load load = {.engine = engine,
                        .prompt = options->prompts.values[0] ? options->prompts.values[0] : 1,
                        .generated =
                            options->generations.values[0] ? options->generations.values[0] : 1};
    uint32_t most = 0;
    for (uint32_t i = 0; i < options->parallel.count; i++) {
        most = options->parallel.values[i] > most ? options->parallel.values[i] : most;
    }
    load.tokens = calloc(load.prompt, sizeof *load.tokens);
    load.requests = calloc(most, sizeof(llcuda_request *));
    load.ended = calloc(most, sizeof *load.ended);
    llcuda_status status = LLCUDA_OK;
    if (!load.tokens || !load.requests || !load.ended) {
        status = error_no_memory(error, "the requests", most * sizeof(llcuda_request *));
    }
    for (uint32_t i = 0; !status && i < options->parallel.count; i++) {
        load.parallel = options->parallel.values[i];
        status = measure(&load, options, report, error);
        if (!status && options->proceed &&
            !options->proceed(options->user, i + 1, options->parallel.count)) {
            status = error_set(error, LLCUDA_CANCELLED, "interrupted");
        }
    }
    free(load.ended);
    free(load.requests);
    free(load.tokens);
    return status;
}
