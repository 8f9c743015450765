/* The load generator: sends requests by a schedule or a loop, and keeps what came back, one sample
 * a request. One thread; time is the driver's. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "base/buffer.h"
#include "bench/driver.h"

enum load_state { LOAD_PENDING, LOAD_OK, LOAD_FAILED };

/* 32 bytes: a million of them must fit beside their analysis. Times in microseconds from when the
 * request was due (open loop) or sent (closed loop). */
struct load_sample {
    uint64_t due_ns; /* from the begin of the measurement */
    float late_us;   /* sent after it was due */
    float first_us;  /* first token; 0: none came */
    float last_us;   /* last token or end */
    uint32_t prompt_tokens;
    uint32_t output_tokens;
    uint32_t state; /* enum load_state */
};

_Static_assert(sizeof(struct load_sample) == 32, "a sample stays small");

#define LOAD_CHUNK_SAMPLES 4096u
#define LOAD_GAPS_MAX      65536u

struct load_plan {
    bool first;             /* the thread goes before others (promptness.h); the driver sleeps */
    bool waves;             /* `parallel` requests at once, the next when all are done */
    uint32_t parallel;      /* in flight; 0: open loop */
    uint64_t request_count; /* measured requests; UINT64_MAX: until the time is over */
    uint64_t duration_ns;   /* no request is sent after it; UINT64_MAX: until the count */
    uint64_t timeout_ns;    /* the whole measurement must end within; 0: no limit */
    uint64_t seed;          /* of the choice which gaps are kept */
    void *user;
    /* Fills in request `index` (without .index). The prompt must stay valid until the call after
     * the next submit. */
    void (*request)(void *user, uint64_t index, struct load_request *request);
    /* Open loop: nanoseconds from the begin to arrival `index`, asked once each, in order. */
    uint64_t (*due_ns)(void *user, uint64_t index);
    /* Content of answers, for the comparison of tokens; may be NULL. */
    void (*content)(void *user, const struct load_event *event);
    /* Asked from time to time; a reason ends the measurement. May be NULL. */
    const char *(*stop)(void *user);
    /* Requests done so far, from time to time; may be NULL. */
    void (*progress)(void *user, uint64_t done, uint64_t elapsed_ns);
};

struct load_result {
    struct load_sample **chunks; /* of LOAD_CHUNK_SAMPLES */
    uint64_t count;
    uint32_t chunk_capacity;
    uint64_t failed;
    float *gaps_us; /* between events with tokens: [gap_count], a uniform choice of gaps_seen */
    uint32_t gap_count;
    uint64_t gaps_seen;
    uint64_t wall_ns;        /* first due to last done */
    uint64_t memory_bytes;   /* taken by all this */
    char first_failure[256]; /* reason of the first failed request, "" when none */
};

/* Runs the plan. The result is the caller's in every case (load_result_deinit); after a failure it
 * has what was there. Errors: those of the driver, TIMEOUT, CANCELLED with the reason of `stop`,
 * OUT_OF_MEMORY. */
llcuda_status load_run(struct driver *driver, const struct load_plan *plan,
                       struct load_result *result, struct llcuda_error *error);
void load_result_deinit(struct load_result *result);

static inline struct load_sample *load_sample_at(const struct load_result *result, uint64_t index)
{
    return &result->chunks[index / LOAD_CHUNK_SAMPLES][index % LOAD_CHUNK_SAMPLES];
}

#endif
