/* The parts of `llcuda bench` that need engines in processes of their own. */
#ifndef CLI_BENCH_SUITE_H
#define CLI_BENCH_SUITE_H

#include "cli/command.h"

/* Whether the options ask for the suite: --config, --output, or a word such as compare. */
bool bench_suite_wanted(const struct options *options);
int bench_suite(struct options *options);

/* The adapter, on standard input and output. */
int bench_engine(void);

#endif
