/* What a GPU's counters say about a profile's test, or why they say nothing. */
#ifndef BENCH_LOCAL_COUNTERS_H
#define BENCH_LOCAL_COUNTERS_H

#include "base/buffer.h"
#include "base/json.h"
#include "bench/gpu_counters.h"

struct local_counters {
    bool asked; /* this device may have some */
    struct gpu_counters seen;
    char reason[240]; /* why there are none, or "" */
};

/* Does `work` with counters on CUDA device `device`. That there are none is no error. */
llcuda_status local_counters_read(struct local_counters *counters, int device,
                                  llcuda_status (*work)(void *, struct llcuda_error *), void *user,
                                  struct llcuda_error *error);

/* A line of text; a member "counters" of an object that has begun. Nothing when nobody asked. */
void local_counters_text(const struct local_counters *counters, struct buffer *out);
void local_counters_json(const struct local_counters *counters, struct json_writer *writer);

#endif
