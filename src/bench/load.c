/* Owns the sending of load and the samples. Open loop: a request is sent when it is due, however
 * busy the engine is, and its latency counts from then, so that a slow engine cannot slow down its
 * own examination. Closed loop: latency counts from the sending.
 * Knows nothing of processes, files or HTTP. */
#include "bench/load.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/random.h"
#include "bench/promptness.h"

#define WAVE_MAX       1024u
#define LOOK_AROUND_NS 50000000ull /* how often stop and progress are asked … */
#define LOOK_LATE_NS   50000000ull /* … or, rather than waking for it, so much later */

struct load {
    struct driver *driver;
    const struct load_plan *plan;
    struct load_result *result;
    uint64_t begin_ns;
    uint64_t in_flight;
    uint64_t done;
    uint64_t next_due_ns; /* open loop, from the begin; of the request that is next */
    bool have_due;
    bool all_sent;
    uint64_t random;   /* of the choice of gaps */
    uint64_t next_gap; /* that is kept, when there is no more room for all */
    double gap_weight; /* of what is kept */
};

static struct load_sample *add_sample(struct load *load)
{
    struct load_result *result = load->result;
    uint64_t chunk = result->count / LOAD_CHUNK_SAMPLES;
    if (chunk == result->chunk_capacity) {
        uint32_t capacity = result->chunk_capacity ? result->chunk_capacity * 2 : 16;
        struct load_sample **chunks = realloc(result->chunks, capacity * sizeof *chunks);
        if (!chunks) {
            return NULL;
        }
        for (uint32_t i = result->chunk_capacity; i < capacity; i++) {
            chunks[i] = NULL;
        }
        result->memory_bytes += (capacity - result->chunk_capacity) * sizeof *chunks;
        result->chunks = chunks;
        result->chunk_capacity = capacity;
    }
    if (!result->chunks[chunk]) {
        result->chunks[chunk] = calloc(LOAD_CHUNK_SAMPLES, sizeof **result->chunks);
        if (!result->chunks[chunk]) {
            return NULL;
        }
        result->memory_bytes += LOAD_CHUNK_SAMPLES * sizeof **result->chunks;
    }
    return load_sample_at(result, result->count++);
}

/* Uniform in (0, 1). */
static double draw(struct load *load)
{
    load->random += 0x9E3779B97F4A7C15u;
    return ((double)(random_mix(load->random) >> 11) + 0.5) * 0x1p-53;
}

/* Keeps each gap with the same probability, whatever their number, and draws only for those that
 * are kept: the next one follows after a gap that is drawn, too (reservoir sampling, algorithm L of
 * Li, 1994). */
static void add_gap(struct load *load, float gap_us)
{
    struct load_result *result = load->result;
    const uint64_t seen = result->gaps_seen++;
    if (result->gap_count < LOAD_GAPS_MAX) {
        result->gaps_us[result->gap_count++] = gap_us;
        load->next_gap = seen;
        load->gap_weight = 1;
    } else if (seen == load->next_gap) {
        const uint64_t place = (uint64_t)(draw(load) * LOAD_GAPS_MAX);
        result->gaps_us[place < LOAD_GAPS_MAX ? place : LOAD_GAPS_MAX - 1] = gap_us;
    }
    if (result->gap_count == LOAD_GAPS_MAX && seen == load->next_gap) {
        load->gap_weight *= exp(log(draw(load)) / LOAD_GAPS_MAX);
        load->next_gap += (uint64_t)(log(draw(load)) / log1p(-load->gap_weight)) + 1;
    }
}

static void take_event(void *user, const struct load_event *event)
{
    struct load *load = user;
    if (event->index >= load->result->count) {
        return; /* an engine may say what it likes */
    }
    struct load_sample *sample = load_sample_at(load->result, event->index);
    if (sample->state != LOAD_PENDING) {
        return;
    }
    double from_due = (double)(event->now_ns - load->begin_ns) - (double)sample->due_ns;
    float now_us = (float)(from_due / 1e3);
    if (event->tokens) {
        if (sample->first_us > 0) {
            add_gap(load, fmaxf(now_us - sample->last_us, 0));
        } else {
            sample->first_us = now_us;
        }
        sample->last_us = now_us;
        sample->output_tokens += event->tokens;
    }
    if (load->plan->content) {
        load->plan->content(load->plan->user, event);
    }
    if (!event->done) {
        return;
    }
    sample->state = event->failed ? LOAD_FAILED : LOAD_OK;
    sample->prompt_tokens = event->prompt_tokens ? event->prompt_tokens : sample->prompt_tokens;
    sample->output_tokens = event->output_tokens ? event->output_tokens : sample->output_tokens;
    if (!(sample->last_us > 0)) {
        sample->last_us = now_us;
    }
    if (event->failed) {
        load->result->failed++;
        if (!load->result->first_failure[0]) {
            snprintf(load->result->first_failure, sizeof load->result->first_failure, "%s",
                     event->reason ? event->reason : "no reason given");
        }
    }
    load->in_flight--;
    load->done++;
    load->result->wall_ns = event->now_ns - load->begin_ns;
}

/* Sends `count` requests that were due at `due_ns` from the begin. */
static llcuda_status send(struct load *load, uint32_t count, uint64_t due_ns, bool due_now,
                          struct llcuda_error *error)
{
    struct load_request requests[WAVE_MAX];
    uint64_t first = load->result->count;
    for (uint32_t i = 0; i < count; i++) {
        struct load_sample *sample = add_sample(load);
        if (!sample) {
            return error_no_memory(error, "samples", sizeof *sample);
        }
        requests[i] = (struct load_request){.index = (uint32_t)(first + i)};
        load->plan->request(load->plan->user, first + i, &requests[i]);
        sample->prompt_tokens = requests[i].id_count;
    }
    uint64_t now = load->driver->ops->now_ns(load->driver) - load->begin_ns;
    for (uint32_t i = 0; i < count; i++) {
        struct load_sample *sample = load_sample_at(load->result, first + i);
        sample->due_ns = due_now ? now : due_ns;
        sample->late_us = due_now ? 0 : (float)((double)(now - due_ns) / 1e3);
    }
    load->in_flight += count;
    return load->driver->ops->submit(load->driver, requests, count, error);
}

static uint64_t left_to_send(const struct load *load)
{
    return load->plan->request_count - load->result->count;
}

/* Whether another request belongs to the measurement, and in an open loop when it is due. */
static bool more(struct load *load, uint64_t elapsed_ns)
{
    if (load->all_sent || left_to_send(load) == 0 || load->result->count >= UINT32_MAX - 1) {
        load->all_sent = true;
        return false;
    }
    if (load->plan->parallel) {
        load->all_sent = elapsed_ns >= load->plan->duration_ns;
        return !load->all_sent;
    }
    if (!load->have_due) {
        load->next_due_ns = load->plan->due_ns(load->plan->user, load->result->count);
        load->have_due = true;
    }
    load->all_sent = load->next_due_ns >= load->plan->duration_ns;
    return !load->all_sent;
}

static llcuda_status send_what_is_due(struct load *load, struct llcuda_error *error)
{
    const struct load_plan *plan = load->plan;
    llcuda_status status = LLCUDA_OK;
    while (!status) {
        uint64_t elapsed = load->driver->ops->now_ns(load->driver) - load->begin_ns;
        if (!more(load, elapsed)) {
            return LLCUDA_OK;
        }
        if (plan->parallel) {
            uint64_t room = plan->parallel - load->in_flight;
            room = plan->waves && load->in_flight ? 0 : room;
            room = room > left_to_send(load) ? left_to_send(load) : room;
            room = room > WAVE_MAX ? WAVE_MAX : room;
            if (room == 0) {
                return LLCUDA_OK;
            }
            status = send(load, plan->waves ? (uint32_t)room : 1, elapsed, true, error);
        } else if (load->next_due_ns > elapsed) {
            return LLCUDA_OK;
        } else {
            load->have_due = false;
            status = send(load, 1, load->next_due_ns, false, error);
        }
    }
    return status;
}

static llcuda_status look_around(struct load *load, uint64_t elapsed, struct llcuda_error *error)
{
    const struct load_plan *plan = load->plan;
    const char *reason = plan->stop ? plan->stop(plan->user) : NULL;
    if (plan->progress) {
        plan->progress(plan->user, load->done, elapsed);
    }
    if (reason) {
        return error_set(error, LLCUDA_CANCELLED, "%s", reason);
    }
    if (plan->timeout_ns && elapsed > plan->timeout_ns) {
        return error_set(error, LLCUDA_TIMEOUT,
                         "%llu of %llu requests were not answered within %.0f s",
                         (unsigned long long)load->in_flight,
                         (unsigned long long)load->result->count, (double)plan->timeout_ns / 1e9);
    }
    return LLCUDA_OK;
}

llcuda_status load_run(struct driver *driver, const struct load_plan *plan,
                       struct load_result *result, struct llcuda_error *error)
{
    struct load load = {
        .driver = driver, .plan = plan, .result = result, .random = random_mix(plan->seed)};
    struct load_sink sink = {take_event, &load};
    llcuda_status status = LLCUDA_OK;
    *result = (struct load_result){0};
    result->gaps_us = malloc(LOAD_GAPS_MAX * sizeof *result->gaps_us);
    if (!result->gaps_us) {
        return error_no_memory(error, "gaps", LOAD_GAPS_MAX * sizeof *result->gaps_us);
    }
    result->memory_bytes = LOAD_GAPS_MAX * sizeof *result->gaps_us;
    struct promptness before;
    promptness_begin(&before, plan->first);
    load.begin_ns = driver->ops->now_ns(driver);
    uint64_t look_at = 0;
    while (!status) {
        status = send_what_is_due(&load, error);
        uint64_t elapsed = driver->ops->now_ns(driver) - load.begin_ns;
        if (status || (load.all_sent && load.in_flight == 0)) {
            break;
        }
        if (elapsed >= look_at) {
            status = look_around(&load, elapsed, error);
            look_at = elapsed + LOOK_AROUND_NS;
        }
        uint64_t until = look_at + LOOK_LATE_NS;
        if (load.have_due && !load.all_sent && load.next_due_ns < until) {
            until = load.next_due_ns;
        }
        if (!status) {
            status = driver->ops->wait(driver, load.begin_ns + until, &sink, error);
        }
    }
    promptness_end(&before);
    return status;
}

void load_result_deinit(struct load_result *result)
{
    for (uint32_t i = 0; i < result->chunk_capacity; i++) {
        free(result->chunks[i]);
    }
    free(result->chunks);
    free(result->gaps_us);
    *result = (struct load_result){0};
}
