/* Which kernels of attention run, how they are cut, and with what: the host's side of
 * src/kernels/attention_*.cu. Everything but gpu_attention_load and the launches is a pure
 * function.
 *
 * A step is either a *decode* step (at most one row a sequence), which takes one launch a layer
 * that also finishes the projections, or a *mixed* one: qkv_finish, then tiles of consecutive rows
 * by the prefill kernel and single rows by the decode kernel. Launches are sized for a bucket; what
 * they do is data in device memory, so that they can be replayed.
 *
 * Threads: those of the driver. */
#ifndef GPU_ATTENTION_H
#define GPU_ATTENTION_H

#include "device/device.h"
#include "gpu/driver.h"
#include "kernels/arguments_attention.h"

struct gpu_attention_shape {
    uint32_t head_count, kv_head_count, head_size;
    enum dtype kv;  /* F32, F16, BF16, or bytes that are multiplied as halves: F8_E4M3, saturated;
                       Q8_0, a float scale a key or value of a head */
    enum dtype act; /* of attended rows: F32, F16 or BF16 */
    /* Every row's sums in the order that decode takes, also in prefill and whatever its past: a
     * row's result then does not depend on how a prompt was cut into steps either. */
    bool exact;
};

/* The constants of a shape: what the prelude names, and what sizes follow. */
struct gpu_attention_config {
    struct gpu_attention_shape shape;
    uint32_t tile_heads;   /* query heads a decode block takes */
    uint32_t head_tiles;   /* decode blocks a row and group: K · tiles of a group */
    uint32_t decode_warps; /* of a decode block */
    uint32_t partition;    /* positions: 16 · decode_warps */
    uint32_t groups_max;   /* blocks over which the past of one row is spread */
    uint32_t alone;        /* partitions that are one group */
    uint32_t partials_max; /* partial sums (a row, group and head tile) at once; more take turns */
    uint32_t decode_shared_bytes;
    uint32_t tile_rows;         /* rows of a prefill tile; 0: no prefill kernel, rows decode */
    uint32_t prefill_blocks;    /* of a multiprocessor, which registers are limited for */
    uint32_t prefill_positions; /* that it takes at a time */
    uint32_t prefill_shared_bytes;
};

/* UNSUPPORTED for an odd head size, H no multiple of K, types that the kernels do not know, or a
 * head that does not fit in the shared memory of the device. */
llcuda_status gpu_attention_configure(const struct gpu_attention_shape *shape,
                                      const struct gpu_device_info *device,
                                      struct gpu_attention_config *config,
                                      struct llcuda_error *error);

/* Appends the prelude of the kernels: "#define HEADS 32" and so on. False without memory. */
bool gpu_attention_prelude(const struct gpu_attention_config *config, struct buffer *out);

/* The kernel files to join after the prelude, a vendor's words, in this order; NULL ends it. */
extern const char *const gpu_attention_files[];

/* How a decode row at `position` is cut; equal to decode_span_of of the kernel. */
struct gpu_attention_span {
    uint32_t begin, end; /* positions it attends to */
    uint32_t first_partition;
    uint32_t group_partitions;
    uint32_t group_count;
};
struct gpu_attention_span gpu_attention_span(const struct gpu_attention_config *config,
                                             uint32_t position, uint32_t window, uint32_t rows);
/* Groups of the longest row with positions up to `position_max`: the grid's width. Rounded up to a
 * power of two, so that few graphs serve all lengths. `rows`: for which the launch decodes, in its
 * bucket, here and above. */
uint32_t gpu_attention_groups(const struct gpu_attention_config *config, uint32_t position_max,
                              uint32_t rows);

/* Device memory for up to `rows` decode rows, each in up to `groups` groups. It begins with the
 * counters, at a place and of a size that no bucket changes: launches for different buckets share
 * them. They are zero before the first launch and again after each; partial sums follow and need no
 * initialisation. */
uint64_t gpu_attention_workspace_bytes(const struct gpu_attention_config *config, uint32_t rows,
                                       uint32_t groups);
uint64_t gpu_attention_counter_bytes(const struct gpu_attention_config *config);

/* How a step's rows are served. */
struct gpu_attention_cut {
    bool decode;           /* a decode step: the fused kernel takes all rows, the lists are empty */
    uint32_t decode_count; /* of decode_rows */
    uint32_t tile_count;
    uint32_t position_max; /* of the rows that decode */
};
/* Writes up to row_count tiles and decode rows. */
void gpu_attention_cut(const struct gpu_attention_config *config, const struct step_batch *batch,
                       struct attention_tile *tiles, uint32_t *decode_rows,
                       struct gpu_attention_cut *cut);
/* The same of `count` rows alone, ascending in `rows`; never as a decode step. */
void gpu_attention_cut_rows(const struct gpu_attention_config *config,
                            const struct step_batch *batch, const uint32_t *rows, uint32_t count,
                            struct attention_tile *tiles, uint32_t *decode_rows,
                            struct gpu_attention_cut *cut);

struct gpu_attention_kernels {
    struct gpu_function *qkv_finish, *decode, *decode_fused, *copy_blocks;
    struct gpu_function *prefill; /* NULL when the shape has none */
};
llcuda_status gpu_attention_load(struct gpu_driver *driver, struct gpu_module *module,
                                 const struct gpu_attention_config *config,
                                 struct gpu_attention_kernels *kernels, struct llcuda_error *error);

/* One layer of one step. Addresses are device memory; 0 where the kernel argument may be none. */
struct gpu_attention_call {
    struct attention_step step;
    uint64_t attending; /* struct step_state with the lengths of the two lists below, when not all
                           rows attend; 0: those of the step */
    struct attention_projection projection;
    uint64_t query;    /* [n, H D] of the cache's type (halves beside bytes): workspace of a mixed
                          step */
    uint64_t cache;    /* of the layer */
    uint64_t attended; /* [n, H D] of the activation type */
    uint64_t sinks;
    float scale;
    float soft_cap;
    uint32_t window;
    uint64_t workspace; /* of gpu_attention_workspace_bytes for these rows and groups */
    /* Buckets: at least what the step needs. */
    bool decode;   /* the fused kernel, for all rows */
    uint32_t rows; /* n */
    uint32_t decode_rows_max;
    uint32_t tiles_max;
    uint32_t groups;      /* gpu_attention_groups */
    uint64_t tiles;       /* [tile_count] struct attention_tile */
    uint64_t decode_rows; /* [decode_count] */
    bool overlap;         /* programmatic dependent launches */
};
llcuda_status gpu_attention_launch(struct gpu_driver *driver, struct gpu_stream *stream,
                                   const struct gpu_attention_config *config,
                                   const struct gpu_attention_kernels *kernels,
                                   const struct gpu_attention_call *call,
                                   struct llcuda_error *error);

/* Bytes of a cache block of one layer. */
uint64_t gpu_attention_block_bytes(const struct gpu_attention_config *config);

/* Copies cache blocks in all layers: `from` and `to` are lists in device memory. */
struct gpu_copy_blocks_call {
    uint64_t cache;
    uint64_t layer_bytes; /* from one layer's cache to the next */
    uint32_t layer_count;
    uint64_t from, to;
    uint32_t count;
};
llcuda_status gpu_attention_copy_blocks(struct gpu_driver *driver, struct gpu_stream *stream,
                                        const struct gpu_attention_config *config,
                                        const struct gpu_attention_kernels *kernels,
                                        const struct gpu_copy_blocks_call *call,
                                        struct llcuda_error *error);

#endif
