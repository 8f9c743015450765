/* What the tests of attention share: one shape's kernels on the emulated device, random steps over
 * a random cache, their results on the device, and the same by tensor/reference.h. */
#ifndef ATTENTION_SUPPORT_H
#define ATTENTION_SUPPORT_H

#include "gpu_support.h"

#include "gpu/attention.h"

#define ROWS_MAX      48u
#define SEQUENCES_MAX 8u
#define GUARD_BYTES   256u

struct setup {
    const char *name;
    uint32_t head_count, kv_head_count, head_size;
    enum dtype kv, act;
    float size; /* of raw projections and of the past; 0: 1 */
    bool exact;
    uint32_t groups_max;   /* 0: as configured */
    uint32_t partials_max; /* likewise */
    uint32_t rotary_kind, rotary_size;
    bool has_bias, has_norm, has_sinks;
    float soft_cap;
    uint32_t window;
};

/* The weights of a layer. */
struct layer {
    float *query_bias, *key_bias, *value_bias, *query_norm, *key_norm, *frequencies, *sinks;
    float scale;
};

/* Sequences with a past, and the cache that holds it. */
struct world {
    uint32_t sequence_count;
    uint32_t past[SEQUENCES_MAX]; /* positions in the cache */
    uint32_t stride;
    uint32_t block_count;
    uint32_t *block_tables;
    uint8_t *cache; /* poisoned where nothing is */
    uint64_t cache_bytes;
};

/* A step over a world: rows of sequences at the end of their past. */
struct rows {
    uint32_t count;
    uint32_t tokens[ROWS_MAX], positions[ROWS_MAX], sequences[ROWS_MAX];
    float *raw; /* [count, (H + 2 K) D] */
};

struct rig {
    struct gpu_bench bench;
    struct setup setup;
    struct layer layer;
    struct gpu_attention_config config;
    struct gpu_attention_kernels kernels;
    /* Device memory, as large as any step of the test. */
    uint64_t state, positions, sequences, block_tables, raw, query, cache, attended, tiles,
        decode_rows, workspace, parameters[7];
    uint64_t cache_bytes, block_table_bytes, attended_bytes;
    uint32_t groups;
    /* A kernel may fail, and leave counters and guards as it likes: then `failed` says so. */
    bool tolerant, failed;
};

/* What a step gives, and what it should. */
struct results {
    uint8_t *attended, *cache, *expected_cache;
    float *expected;
};

/* Compiles the kernels. `without` is cut out of the text at its `occurrence`-th place, or NULL. */
void rig_open(struct rig *rig, const struct setup *setup, enum gpu_emu_order order,
              const char *without, uint32_t occurrence);
void rig_close(struct rig *rig);

void results_make(struct results *results, const struct rig *rig);
void results_destroy(struct results *results);

/* Sequences of up to `past_max` positions. */
void world_make(struct world *world, const struct rig *rig, uint32_t sequence_count,
                uint32_t past_max);
void world_destroy(struct world *world);

/* `counts[s]` new rows of each sequence. */
void rows_make(struct rows *rows, const struct rig *rig, const struct world *world,
               const uint32_t *counts);
/* `count` rows from row `index`, or that row alone. The raw values are borrowed. */
struct rows rows_some(const struct rig *rig, const struct rows *rows, uint32_t index,
                      uint32_t count);
struct rows rows_one(const struct rig *rig, const struct rows *rows, uint32_t index);

/* Puts the world and the rows on the device, results and workspace poisoned. */
void rig_upload(struct rig *rig, const struct world *world, const struct rows *rows,
                struct gpu_attention_call *call);
/* Launches and reads back: attended [count, H D] (in the activation type) and the cache. Checks
 * guards, counters, and that no surplus row was written. */
void rig_run(struct rig *rig, const struct world *world, const struct rows *rows, uint8_t *attended,
             uint8_t *cache);
/* Takes the weights of another rig of the same shape. */
void rig_layer_set(struct rig *rig, const struct layer *layer);
/* Only the reading back. */
void rig_download(struct rig *rig, const struct world *world, const struct rows *rows,
                  uint8_t *attended, uint8_t *cache);

/* The reference: attended as floats, and the cache after the step. Where the cache holds bytes, a
 * value beside a boundary may fall to either side, a whole step apart: rows then attend to `made`,
 * the cache that the kernels made, and results_compare checks that by itself. */
void reference_run(const struct rig *rig, const struct world *world, const struct rows *rows,
                   const uint8_t *made, float *attended, uint8_t *cache);

/* Fails unless the results agree within the bounds of the types. */
void results_compare(const struct rig *rig, const struct world *world, const struct rows *rows,
                     const uint8_t *attended, const float *expected, const uint8_t *cache,
                     const uint8_t *expected_cache);

uint64_t attended_row_bytes(const struct rig *rig);
float value_read(enum dtype type, const void *from, uint64_t index);

#endif
