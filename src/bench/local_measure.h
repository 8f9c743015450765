/* What the measurements of requests share. */
#ifndef BENCH_LOCAL_MEASURE_H
#define BENCH_LOCAL_MEASURE_H

#include "bench/local.h"

/* A zeroed row with room for the repeats, owned by the report; NULL without memory. */
struct local_result *local_report_add(struct local_report *report, uint32_t repeats);

/* The same for the same seed. */
void local_random_tokens(uint32_t *tokens, uint32_t count, uint32_t vocabulary_size, uint64_t seed);

/* A greedy request of exactly `generated` tokens; *request belongs to the caller. */
llcuda_status local_submit(llcuda_engine *engine, const uint32_t *tokens, uint32_t count,
                           uint32_t generated, llcuda_request **request,
                           struct llcuda_error *error);

/* Reads a request to its end and copies its last event, whose pointers are void once the request is
 * released. A request that failed gives its status and sentence. */
llcuda_status local_wait(llcuda_request *request, llcuda_event *done, struct llcuda_error *error);

#endif
