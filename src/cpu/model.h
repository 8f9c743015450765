/* A plan loaded into the CPU device: packed weights, cache, workspace. Shared by the files that
 * load (model.c) and that run (step.c, stage_linear.c, stage_attention.c). */
#ifndef CPU_MODEL_H
#define CPU_MODEL_H

#include "base/file.h"
#include "cpu/attention.h"
#include "cpu/linear.h"
#include "cpu/memory.h"
#include "cpu/ops.h"
#include "cpu/pool.h"
#include "cpu/profile.h"
#include "device/device.h"

struct cpu_device {
    struct device base;
    struct pool *pool;
    struct cpu_features features;
    enum cpu_level level;
    const struct cpu_ops *ops;
    const struct log_sink *log;
};

/* A weight as this device reads it. */
struct cpu_weight {
    const struct linear_kernel *kernel; /* NULL when no stage multiplies with it */
    const void *data;                   /* what the kernel reads: packed, or the plan's rows */
    struct region converted; /* rows of another type that the kernel reads unpacked; else empty */
    void *packed_data;       /* its place in the model's packed memory; NULL: not packed */
    uint64_t rows, columns;
    uint64_t group_bytes; /* memory of row_group rows */
    float *vector;        /* a norm, bias or sinks as floats; NULL otherwise */
};

/* A buffer of the step: float rows, each 64-byte aligned and laid out as an ACTIVATION_F32 row. */
struct cpu_rows {
    float *data;
    uint64_t stride; /* elements */
};

/* Consecutive rows of one sequence, by their places. */
struct cpu_run {
    uint32_t row_begin, row_count;
    uint32_t position; /* of the first row */
    uint32_t sequence;
};

/* Rows of one run that attention handles together. */
struct cpu_attention_tile {
    uint32_t run;
    uint32_t row_begin, row_count;
    uint32_t partition_count;
    uint64_t partial_offset; /* floats into the partials, of kv head 0 */
    uint64_t item_begin;     /* first item of this tile */
    uint32_t together;       /* key-value heads that there is scratch for */
};

/* A worker's own memory, a cache line or more away from the others'. */
struct cpu_worker {
    _Alignas(64) float *attention;
    float *row;                 /* one row of any width */
    uint16_t *half;             /* one row of keys or values */
    uint64_t weight_bytes_read; /* by this worker */
    uint64_t part_ns[3];        /* in the products of the running stage; while profiling */
};

/* Rows that one expert gets: consecutive ones, once the rows of a step are sorted by expert. */
struct cpu_expert_rows {
    uint32_t expert;
    uint32_t begin, count;
};

struct cpu_model {
    struct device_model base;
    struct cpu_device *device;
    struct cpu_weight *weights; /* [plan->weight_count] */
    struct region packed;       /* all weights that were packed */
    struct region vectors;      /* all small vectors as floats */
    struct region cache;
    struct region workspace;
    uint64_t layer_bytes; /* of the cache */
    struct kv_layer kv;   /* of layer 0 */

    /* Inside the workspace. */
    struct cpu_rows buffers[PLAN_BUFFER_COUNT];
    struct cpu_rows normed, key, value, up, product;
    unsigned char *prepared[ACTIVATION_BF16 + 1]; /* rows in each format but F32 */
    uint64_t prepared_stride[ACTIVATION_BF16 + 1];
    /* Of experts; a place is a row and one of its experts, sorted by expert: rows_max · used. */
    struct cpu_rows router;          /* [row] the logits */
    struct cpu_rows expert_input;    /* [place] normed rows, and afterwards what experts give */
    struct cpu_rows expert_hidden;   /* [place] */
    struct cpu_rows expert_up;       /* [place] */
    uint32_t *expert_ids;            /* [row, used] ascending */
    float *expert_weights;           /* [row, used] */
    uint32_t *expert_places;         /* [row, used] */
    struct cpu_expert_rows *experts; /* [expert_count] those that have rows */
    uint32_t experts_touched;
    float *angles; /* [table][row][cosines, sines] */
    uint64_t angles_stride[2];
    uint32_t *row_at;   /* [place] which row of the batch; see rows.c */
    uint32_t *place_of; /* [row] the way back, of rows that are still computed */
    struct cpu_run *runs;
    struct cpu_attention_tile *tiles;
    float *partials;
    uint64_t partial_floats; /* capacity */
    struct cpu_worker *workers;

    struct cpu_profile profile;

    uint64_t rows_looked_up; /* since the embedding's pages were dropped */

    /* Of the running step. */
    const struct step_batch *batch;
    uint32_t row_count; /* places: rows that stages still compute */
    uint32_t run_count;
};

/* The functions behind device.h. */
llcuda_status cpu_model_load(struct device *device, const struct plan *plan,
                             const struct device_model_options *options,
                             const struct device_progress *progress, struct device_model **model,
                             struct llcuda_error *error);
void cpu_model_unload(struct device_model *model);
llcuda_status cpu_model_step(struct device_model *model, const struct step_batch *batch,
                             const float **logits, struct llcuda_error *error);
llcuda_status cpu_model_copy_blocks(struct device_model *model, const uint32_t *from,
                                    const uint32_t *to, uint32_t count, struct llcuda_error *error);
const float *cpu_model_hidden(const struct device_model *model, uint64_t *stride);
const float *cpu_model_residual(const struct device_model *model, uint64_t *stride);
llcuda_status cpu_model_place(struct device *device, const struct plan *plan,
                              const struct device_model_options *options,
                              struct device_part parts[DEVICE_PARTS_MAX], uint32_t *count,
                              struct llcuda_error *error);
uint64_t cpu_model_weight_bytes_read(const struct device_model *model);
void cpu_model_memory(const struct device_model *model, struct device_memory *memory);
llcuda_status cpu_device_measure(struct device *device, struct device_ceilings *ceilings,
                                 struct llcuda_error *error);

/* Lays out the workspace: with `base` NULL only counts, otherwise sets the pointers. Returns the
 * bytes; false when they do not fit 64 bits. workspace.c */
bool cpu_workspace_plan(struct cpu_model *model, unsigned char *base, uint64_t *bytes);

/* --- the rows of a step, rows.c ------------------------------------------------------------- */

/* All rows of the batch, each at its own place. */
void cpu_rows_all(struct cpu_model *model);

/* Whether `op` is the last that writes to a cache and some rows are not wanted. Never while an
 * observer wants to see what goes into every product. */
bool cpu_rows_can_narrow(const struct cpu_model *model, const struct plan_op *op);

/* Leaves the rows whose logits or hidden state the batch wants, with their residual stream and
 * their normed values. */
void cpu_rows_narrow(struct cpu_model *model);

/* --- stages, for the step ------------------------------------------------------------------ */

/* One product of a stage: out[t, r] for all rows r of the weight. */
struct linear_part {
    uint32_t weight;
    struct cpu_rows out;
};

/* Rows of a stage's input that an item multiplies, and by which weight: `expert` behind the one
 * that a part names. */
struct linear_rows {
    uint32_t expert;
    uint32_t begin, count;
};

struct linear_stage {
    struct cpu_model *model;
    struct cpu_rows input; /* float rows; other formats are prepared from them */
    uint64_t columns;      /* of the input */
    uint32_t token_count;
    /* Weights of experts: each multiplies its own rows of the input. NULL: one weight, all rows.
     * With it there is one part, or `side_by_side`. */
    struct cpu_expert_rows *experts;
    uint32_t expert_count;
    uint32_t part_count;
    struct linear_part parts[3];
    /* True: all parts have as many rows, and an item computes the same range of each before it
     * calls `finish` for that range. */
    bool side_by_side;
    void (*finish)(const struct linear_stage *stage, const struct linear_rows *rows,
                   uint64_t row_begin, uint64_t row_end);
    const struct plan_op *op; /* for finish */
    enum cpu_work work;       /* what the profile calls it */
    /* Filled in by linear_stage_run. */
    uint64_t item_rows[3];
    uint64_t item_end[3]; /* items of the parts so far */
    uint64_t range_items; /* at most so many at once */
};

/* Prepares the input in every format that the parts' kernels want but float, and runs them. */
void linear_stage_run(struct linear_stage *stage);

/* Has each thread fetch the first weights that it will multiply in `stage` while it waits in the
 * loops before; only part_count, parts, side_by_side, token_count and experts matter. No parts:
 * nothing is fetched. */
void linear_stage_fetch(struct linear_stage *stage);

/* model->normed = norm(residual) for `row_count` rows: those listed, or all in order. step.c */
void cpu_norm_rows(struct cpu_model *model, const struct plan_norm *norm, const uint32_t *rows,
                   uint32_t row_count);

/* The experts of one layer. stage_experts.c */
void experts_stage_run(struct cpu_model *model, const struct plan_op *op);

/* The attention stage of one layer over the step's runs. */
void attention_stage_run(struct cpu_model *model, const struct plan_op *op);

/* A small vector as floats, or NULL for PLAN_NONE. */
static inline const float *cpu_vector(const struct cpu_model *model, uint32_t weight)
{
    return weight == PLAN_NONE ? NULL : model->weights[weight].vector;
}

static inline float *cpu_row(struct cpu_rows rows, uint64_t row)
{
    return rows.data + row * rows.stride;
}

#endif
