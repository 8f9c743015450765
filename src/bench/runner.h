/* A benchmark from its configuration to raw data: every engine, every repeat, in interleaved order.
 * A folder that holds the beginning of the same run is gone on with. */
#ifndef BENCH_RUNNER_H
#define BENCH_RUNNER_H

#include "bench/config.h"

struct runner_progress {
    uint32_t sessions_done, session_count;
    const char *what;
    double share;        /* of the session, 0 … 1 */
    double seconds_left; /* NaN: not known yet */
};

struct runner_options {
    const char *folder;
    const void *builtin_model; /* for "builtin" */
    uint64_t builtin_model_bytes;
    char *const *environment;
    void *user;
    bool (*progress)(void *user, const struct runner_progress *progress); /* false: stop */
    void (*message)(void *user, const char *text); /* one line; may be NULL */
    const char *processors_file;                   /* see monitor_options */
};

/* Makes the folder, or goes on in it. Errors: INVALID_ARGUMENT when the folder holds something
 * else, another run or a finished one; CANCELLED; those of files. */
llcuda_status runner_run(const struct config *config, const struct runner_options *options,
                         struct llcuda_error *error);

/* "raw_data/03-name.run2.jsonl" below the folder; the caller's (free). */
char *runner_raw_path(const struct config *config, const char *folder, uint32_t engine,
                      uint32_t repeat);

/* "….run2.stolen1.jsonl": where the `number`-th measurement of that session lies (from 1) that the
 * host took too much of; the caller's. */
char *runner_set_aside_path(const char *raw_path, uint32_t number);

#endif
