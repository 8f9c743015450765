/* One engine, started fresh, through all workloads of one repeat; what was seen goes to one raw
 * file. docs/internals/bench-raw-data.md describes its lines. */
#ifndef BENCH_SESSION_H
#define BENCH_SESSION_H

#include "bench/prompts.h"

struct session_options {
    const struct config *config;
    const struct prompts *prompts;
    uint32_t engine; /* of the configuration */
    uint32_t repeat;
    const char *raw_path, *log_path;
    char *const *environment;
    void *user;
    /* What is being done and how far it is, 0 … 1; false ends the run. */
    bool (*progress)(void *user, const char *what, double share);
    const char *processors_file; /* see monitor_options */
    double *stolen; /* gets what the host took at the worst point (monitor_totals); NaN */
};

/* Runs the session and writes its raw file, also when the engine fails: then `failure` (never
 * NULL) gets the reason, "" otherwise. Errors: CANCELLED by `progress` (no file is written, so that
 * the session is run again), IO of the raw file, OUT_OF_MEMORY. */
llcuda_status session_run(const struct session_options *options, char failure[256],
                          struct llcuda_error *error);

#endif
