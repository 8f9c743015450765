/* A model on the CPU device, small enough for tests: open, run tokens in chunks, compare. */
#ifndef MODEL_RUN_H
#define MODEL_RUN_H

#include "support/test_support.h"

#include "cpu/cpu.h"
#include "model/model.h"

struct model_run {
    struct model_source *source;
    struct plan *plan;
    struct model_info info;
    struct device *device; /* owned unless it was given */
    bool owns_device;
    struct device_model *model;
    uint32_t *blocks; /* block table: all blocks, backwards, so that paging is seen to work */
    uint32_t block_count;
};

/* The levels of this machine, scalar first; returns their number. */
size_t model_run_levels(enum cpu_level levels[CPU_LEVEL_COUNT]);

/* Opens a device of at most this level with two threads. */
struct device *model_run_device(enum cpu_level level, bool no_extensions);

/* Loads a plan onto `device` for sequences of `context` positions; `rows_max` rows a step, all of
 * which may want logits. LLCUDA_OK or what the device says; deinit in either case. */
llcuda_status model_run_load(struct model_run *run, struct device *device, enum dtype kv_dtype,
                             uint32_t context, uint32_t rows_max, struct llcuda_error *error);

/* Opens source and plan of a path; fails the test when that is impossible. */
void model_run_open(struct model_run *run, const char *path);

/* Runs tokens[0 … count) from position `begin` in chunks of `chunk` rows; logits: [count, V]. */
llcuda_status model_run_tokens(struct model_run *run, const uint32_t *tokens, uint32_t begin,
                               uint32_t count, uint32_t chunk, float *logits,
                               struct llcuda_error *error);

void model_run_unload(struct model_run *run);
void model_run_close(struct model_run *run);

/* The index of the largest of `count` values. */
uint32_t model_run_best(const float *logits, uint32_t count);

/* The data of a .npy file of this type ("<f4", "<i4") with exactly `elements` elements, owned by
 * the caller. Fails the test otherwise. */
void *model_run_npy(const char *folder, const char *name, const char *type, size_t elements);

#endif
