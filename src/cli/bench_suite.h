/* The parts of `llcuda bench` that need engines in processes of their own. */
#ifndef CLI_BENCH_SUITE_H
#define CLI_BENCH_SUITE_H

#include "bench/config.h"
#include "cli/command.h"

/* Whether the options ask for the suite: --config, --output, or a word such as compare. */
bool bench_suite_wanted(const struct options *options);
int bench_suite(struct options *options);

/* Where this program and its adapters are; `self` [bytes] keeps the program's path. */
void bench_find_places(const struct options *options, struct config_places *places, char *self,
                       size_t bytes);

/* Runs a configuration into a folder with progress on standard error. */
llcuda_status bench_run_config(const struct config *config, const char *folder,
                               struct llcuda_error *error);

/* Figures, files and the table from what lies in a folder; the exit status. */
int bench_make_report(struct options *options, const char *folder);

/* Whether the options describe a load of their own: --mode concurrent, memory, sweep or scaling, or
 * a flag such as --request-rate. */
bool bench_direct_wanted(const struct options *options);
int bench_direct(struct options *options);

/* The adapter, on standard input and output. What a profile opens is set in the options. */
int bench_engine(struct options *options);

#endif
