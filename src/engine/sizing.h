/* How large the engine's parts will be: a pure function of the model's shape, the options and the
 * machine, printed before anything is loaded and asserted when it is allocated. */
#ifndef ENGINE_SIZING_H
#define ENGINE_SIZING_H

#include "engine/engine_core.h"

struct sizing_input {
    const llcuda_engine_options *options; /* checked */
    uint64_t kv_block_bytes;              /* of the chosen cache type, all layers */
    uint64_t weight_bytes;
    uint32_t model_context_length;
    uint32_t vocabulary_size;
    uint32_t piece_bytes_max;
    uint64_t memory_free_bytes; /* of the device; 0: unknown */
    uint32_t sampler_workers;   /* threads that may draw tokens at once; sizing_workers */
    uint32_t step_rows;         /* of a step, unless an option says; of the device */
};

struct sizing {
    uint32_t context_length; /* positions of one request */
    uint32_t kv_block_count;
    uint64_t kv_bytes;
    uint32_t running_max;
    uint32_t rows_max;        /* of a step */
    uint32_t logits_rows_max; /* of a step */
    uint32_t sequence_max;    /* waiting and running */
    uint64_t logits_bytes;
    uint64_t host_bytes;  /* scheduler, sampler */
    uint64_t total_bytes; /* cache, logits and host; weights apart */
};

/* Errors: LIMIT when the memory that the options allow does not hold what they ask for; the
 * sentence says how much would. */
llcuda_status sizing_compute(const struct sizing_input *input, struct sizing *sizing,
                             struct llcuda_error *error);

/* Threads that draw tokens on a device. Each has a workspace of about 28 bytes an entry of the
 * vocabulary, so that there are few. */
uint32_t sizing_workers(const struct device *device);

/* What core_init is called with. */
void sizing_core_options(const struct sizing_input *input, const struct sizing *sizing,
                         struct core_options *core);

#endif
