/* The worker pool of a CPU device: a step is a row of short parallel loops, so that handing out
 * work must cost a microsecond and waiting must cost nothing once the device is idle.
 *
 * Worker 0 is the thread that calls pool_run; the others are pinned to a CPU each. A loop's items
 * are split into one contiguous share a worker, who takes ranges of it from the front; who finishes
 * early takes from the ends of the others' shares. Ranges become smaller as a share does, to one
 * item, so that nobody is long alone with his last. A worker that the system has put aside is not
 * waited for unless it holds a range. Results must not depend on which worker runs an item, or on
 * how items are put into ranges. */
#ifndef CPU_POOL_H
#define CPU_POOL_H

#include "base/error.h"

struct pool;

/* Starts thread_count − 1 threads (1 … LIMIT_THREADS). Worker i is pinned to cpus[i] when there is
 * a CPU for every worker; `cpus` may be NULL with cpu_count 0. Errors: OUT_OF_MEMORY, LIMIT. */
llcuda_status pool_create(uint32_t thread_count, const uint32_t *cpus, uint32_t cpu_count,
                          struct pool **pool, struct llcuda_error *error);

/* Joins the threads. NULL is fine. */
void pool_destroy(struct pool *pool);

uint32_t pool_thread_count(const struct pool *pool);

/* Calls task(context, worker, item) once for every item in [0, item_count), worker in
 * [0, thread_count), and returns when all are done. At most one item at a time has a given worker
 * number, so that workers may own scratch memory. One caller at a time; tasks may not call it. */
void pool_run(struct pool *pool, uint64_t item_count,
              void (*task)(void *context, uint32_t worker, uint64_t item), void *context);

/* The same by ranges: task(context, worker, begin, end) for the items [begin, end), at most `most`
 * of them (1 or more) and none across a multiple of it, so that what costs a range can be spread
 * over some items that lie together. */
void pool_run_ranges(struct pool *pool, uint64_t item_count, uint64_t most,
                     void (*task)(void *context, uint32_t worker, uint64_t begin, uint64_t end),
                     void *context);

/* The first item of a worker's share of a loop of item_count items. */
uint64_t pool_share_begin(const struct pool *pool, uint32_t worker, uint64_t item_count);

/* Memory that a worker may bring into its second-level cache while it waits for the others at the
 * end of a loop and for the loop after: where its share of that begins. Nothing is read, so that
 * any address will do. Holds for all loops until called again; `bytes` 0: nothing. Between loops,
 * by the caller of pool_run. */
void pool_fetch_meanwhile(struct pool *pool, uint32_t worker, const void *data, uint64_t bytes);

#endif
