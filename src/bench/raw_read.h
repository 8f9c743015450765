/* Reading raw files back into an analysis. */
#ifndef BENCH_RAW_READ_H
#define BENCH_RAW_READ_H

#include "bench/analysis.h"

/* Reads one session's file. NOT_FOUND when it is not there. */
llcuda_status raw_read(struct analysis *analysis, uint32_t engine, uint32_t repeat,
                       const char *path, struct llcuda_error *error);

#endif
