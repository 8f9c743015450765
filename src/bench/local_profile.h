/* Steps of one sequence that are run directly on a device, and the profile that the device keeps of
 * them: what `llcuda bench --mode kernels` prints, and what the suite's adapter tells. One thread.
 */
#ifndef BENCH_LOCAL_PROFILE_H
#define BENCH_LOCAL_PROFILE_H

#include "bench/local.h"
#include "bench/local_launches.h"

#define PROFILE_ROWS_MAX 256u

struct local_steps {
    struct device_model *model;
    const uint32_t *blocks;                   /* [kv_block_count] */
    uint32_t *tokens, *positions, *sequences; /* [rows_max] */
    const struct local_options *options;
    struct device_profile_row sampling; /* by the host, since the profile began */
};

/* `model`, `blocks` and `options` are borrowed. deinit also after a failure. */
llcuda_status local_steps_init(struct local_steps *steps, struct device_model *model,
                               const uint32_t *blocks, const struct local_options *options,
                               struct llcuda_error *error);
void local_steps_deinit(struct local_steps *steps);

/* `count` random tokens from `position` on, in steps of at most `rows` rows; a token is chosen
 * after the last row, and with rows 1 after each. */
llcuda_status local_steps_run(struct local_steps *steps, uint32_t position, uint32_t count,
                              uint32_t rows, struct llcuda_error *error);

struct local_profile {
    const char *test; /* "pp" or "tg" */
    uint32_t tokens, depth;
    struct device_profile_row rows[PROFILE_ROWS_MAX];
    uint32_t count;
    uint64_t wall_ns; /* of the whole, on the host's clock; a device that repeats its launches to
                         time them takes longer than without a profile */
    struct local_launches launches;
};

/* Of its rows. */
uint64_t local_profile_total_ns(const struct local_profile *profile);

/* Runs `best->tokens` tokens after `best->depth` positions, repeats + 1 times, and fills in the run
 * with the smallest total. Errors: UNSUPPORTED by a device that keeps no profile, CANCELLED. */
llcuda_status local_profile_run(struct local_steps *steps, uint32_t rows,
                                struct local_profile *best, struct llcuda_error *error);

#endif
