/* A plan loaded into the GPU device: weights, cache, workspace, compiled kernels, step graphs.
 * Shared by the files that load (load.c, memory.c, program.c) and that run (step.c, stage.c,
 * linear.c, graph.c). One thread. */
#ifndef GPU_MODEL_H
#define GPU_MODEL_H

#include "base/level_alarm.h"
#include "gpu/attention.h"
#include "gpu/gpu.h"
#include "gpu/jit.h"
#include "gpu/program.h"
#include "kernels/arguments_choose.h"
#include "kernels/arguments_experts.h"
#include "kernels/arguments_linear.h"
#include "kernels/arguments_sample.h"

struct gpu_device {
    struct device base;
    struct gpu_driver *driver;
    struct gpu_device_info info;
    struct gpu_device_options options;
    struct gpu_jit *jit;
    uint64_t used_bytes; /* by all models */
    struct level_alarm memory_alarm;
    bool lost; /* a step timed out: nothing can be expected of the device any more */
};

/* A weight as it lies on the device. */
struct gpu_weight {
    uint64_t address;   /* 0: no stage uses it */
    enum dtype dtype;   /* may differ from the plan's */
    uint64_t row_bytes; /* of a row, one with another when packed; vectors are F32 */
    uint64_t bytes;     /* that a step reads */
    bool is_matrix, is_vector, is_embedding;
    bool is_packed; /* in the order of packed_formats.cuh */
    bool is_expert; /* one of several matrices, of which a row chooses */
};

/* The memory of a model: allocations of the driver, counted by kind and released together. */
struct gpu_memory {
    uint64_t *addresses;
    uint32_t count, capacity;
    uint64_t bytes[DEVICE_MEMORY_KIND_COUNT];
};

/* What the launches of a step depend on; everything else is data. Equal shapes share a graph. */
struct gpu_step_shape {
    uint32_t rows;        /* n or more: kernels leave surplus rows alone */
    uint32_t logits_rows; /* m or more; 0: none are wanted */
    uint32_t hidden_rows; /* likewise */
    uint32_t decode_rows; /* rows that attend alone, or more */
    uint32_t tiles;       /* runs of rows that attend together, or more */
    uint32_t groups;      /* into which the longest past of a decode row is cut, or more */
    uint32_t is_decode;   /* at most one row a sequence: attention finishes the projections */
    uint32_t chooses;     /* the largest logit of each row is wanted, not the logits */
    uint32_t samples;     /* tokens are drawn */
    /* After the last layer's keys and values only wanted rows are left; how many, and how those
     * attend there. */
    uint32_t narrows, wanted_rows, wanted_decode_rows, wanted_tiles, wanted_groups;
};

/* Where the parts of a step's data lie, in the pinned mirror and on the device alike. Depends on
 * the shape alone, but for what lies behind the block tables. */
struct gpu_step_layout {
    uint64_t state, hidden_count, tokens, positions, sequences, logits_rows, hidden_rows;
    uint64_t decode_rows, tiles;
    uint64_t wanted_state, wanted_rows, wanted_decode_rows, wanted_tiles;
    uint64_t samples;
    uint64_t block_tables; /* then the edits and masks of sampling */
};

/* The rows that the stages being launched see: all of a step, or those that are still wanted. */
struct gpu_live {
    uint32_t rows;     /* of the shape */
    uint64_t count;    /* address of their number */
    uint64_t residual; /* float [rows, E] */
    uint64_t attended; /* activations [rows, H D] */
};

struct gpu_graph_entry {
    struct gpu_step_shape shape;
    struct gpu_graph *graph;
    uint64_t last_used; /* step number */
};

#define GPU_GRAPHS_MAX 48u

/* A matrix product of the vendor's, prepared for a shape. */
struct gpu_matmul_entry {
    struct gpu_matmul_shape shape;
    struct gpu_matmul *matmul;
};

#define GPU_MATMULS_MAX 64u
/* Rows of a quantised weight that are multiplied at a time. */
#define GPU_UNPACKED_BYTES (64u << 20)

struct gpu_buffers {
    uint64_t residual;  /* float [R, E] */
    uint64_t normed;    /* activations [R, E] */
    uint64_t raw;       /* float [R, (H + 2K) D], [R, 2 F], or hidden states [R, E] at the end */
    uint64_t query;     /* cache type [R, H D] */
    uint64_t attended;  /* activations [R, H D] */
    uint64_t hidden;    /* activations [R, F], staged where hidden_is_staged */
    uint64_t product;   /* float [R, E] */
    uint64_t attention; /* partial sums and counters; the counters are zero between launches */
    uint64_t logits;    /* float [M, V] */
    uint64_t choices;   /* of `choose`: values, indices, arrived, chosen */
    uint64_t sampling;  /* scratch and results of sample.cu */
    uint64_t step;      /* the step's data */
    uint64_t matmul;    /* GPU_MATMUL_WORKSPACE_BYTES */
    uint64_t partials;  /* of linear_quads.cu: counters, zero between launches, and sums */
    uint64_t unpacked; /* activations: rows of a quantised weight, GPU_UNPACKED_BYTES, or experts */
    uint64_t wanted_residual; /* float [W, E], of rows that are left in the last layer */
    uint64_t wanted_attended; /* activations [W, H D] */
    /* Of experts; a place is a row and one of its experts. */
    uint64_t router;        /* float [R, experts] logits */
    uint64_t routes;        /* lists: experts.c; zero between launches where it counts arrivals */
    uint64_t expert_hidden; /* activations [R · used, G] */
    uint64_t expert_raw;    /* float [R · used, 2 G], and afterwards [R · used, E] */
};

struct gpu_model {
    struct device_model base;
    struct gpu_device *device;
    struct gpu_driver *driver; /* of the device */
    struct gpu_stream *stream;
    struct gpu_event *done;
    struct gpu_weight *weights; /* [plan->weight_count] */
    uint64_t *frequencies;      /* [plan->rotary_table_count] floats on the device */
    enum dtype activation;      /* F32, F16 or BF16 */
    struct gpu_memory memory;
    struct gpu_program program;
    struct gpu_attention_config attention;
    struct gpu_buffers buffers;
    bool hidden_is_staged; /* between a pair and the projection that reads it */
    uint64_t cache;        /* of all layers */
    uint64_t layer_bytes;  /* of the cache */
    uint64_t block_bytes;  /* of one layer */

    unsigned char *staging;          /* pinned mirror of the step's data */
    uint64_t step_bytes;             /* capacity of the staging and of buffers.step */
    float *logits;                   /* pinned, [M, V] */
    uint32_t *chosen;                /* pinned, [M] */
    float *hidden;                   /* pinned, [R, E]; made when first wanted */
    float *residual;                 /* pinned, [R, E], of a plan that takes it; or NULL */
    struct sample_logprob *logprobs; /* pinned, [M]; likewise */

    struct gpu_graph_entry graphs[GPU_GRAPHS_MAX];
    uint32_t graph_count;
    struct gpu_matmul_entry matmuls[GPU_MATMULS_MAX];
    uint32_t matmul_count;
    uint32_t matmul_next; /* whose place is taken when all are */

    struct gpu_profile *profile; /* NULL: steps are not profiled */

    /* Of the running step. */
    const struct plan_op *op; /* the stage that is being launched */
    struct gpu_step_shape shape;
    struct gpu_step_layout layout;
    struct gpu_live live;

    uint64_t step_count;
    uint64_t step_weight_bytes; /* of the matrices, each once */
    uint64_t weight_bytes_read;
};

/* --- load.c ---------------------------------------------------------------------------------- */

llcuda_status gpu_model_load(struct device *device, const struct plan *plan,
                             const struct device_model_options *options,
                             const struct device_progress *progress, struct device_model **model,
                             struct llcuda_error *error);
void gpu_model_unload(struct device_model *model);
llcuda_status gpu_model_place(struct device *device, const struct plan *plan,
                              const struct device_model_options *options,
                              struct device_part parts[DEVICE_PARTS_MAX], uint32_t *count,
                              struct llcuda_error *error);

/* --- weights.c: choosing types, converting, uploading ----------------------------------------- */

/* Whether weights of this type are packed for the kernels of few rows. */
bool gpu_dtype_packs(enum dtype dtype);
/* Bytes of a row when packed, one with another: rows come in sixteens. */
uint64_t gpu_packed_row_bytes(enum dtype dtype, uint64_t columns);
/* Whether they have a kernel for one row, which takes codes as bytes. */
bool gpu_dtype_has_row(enum dtype dtype);
/* Bytes of a unit of 128 columns, and what it shares, in shared memory. */
uint32_t gpu_packed_slot_bytes(enum dtype dtype);
/* Decides the type of every weight on the device and of the activations. */
llcuda_status gpu_weights_choose(struct gpu_model *model, struct llcuda_error *error);
/* Bytes on the device of weight `index`, padding included. */
uint64_t gpu_weight_stored_bytes(const struct gpu_model *model, uint32_t index);
/* Allocates and fills all weights. CANCELLED by progress. */
llcuda_status gpu_weights_upload(struct gpu_model *model, const struct device_progress *progress,
                                 struct llcuda_error *error);

/* --- memory.c -------------------------------------------------------------------------------- */

/* Allocates `bytes`, which the model owns. OUT_OF_MEMORY names `what`. */
llcuda_status gpu_memory_take(struct gpu_model *model, enum device_memory_kind kind, uint64_t bytes,
                              const char *what, uint64_t *address, struct llcuda_error *error);
void gpu_memory_release(struct gpu_model *model);
/* "weights" … */
const char *gpu_memory_kind_name(enum device_memory_kind kind);
/* Counts what a model needs, and what there is for it: bytes, available_bytes, is_limited and
 * reserve_bytes of the part. OUT_OF_MEMORY when no number can hold the need. */
llcuda_status gpu_memory_count(struct gpu_model *model, struct device_part *part,
                               struct llcuda_error *error);
/* Refuses a model that does not fit, with a table of what it needs; counts only. */
llcuda_status gpu_memory_check(struct gpu_model *model, struct llcuda_error *error);
/* Says so in the log when models leave little of what they may have together. */
void gpu_memory_warn(struct gpu_device *device);
/* Allocates cache, workspace and step data. */
llcuda_status gpu_memory_make(struct gpu_model *model, struct llcuda_error *error);

/* --- step.c ---------------------------------------------------------------------------------- */

llcuda_status gpu_model_step(struct device_model *model, const struct step_batch *batch,
                             const float **logits, struct llcuda_error *error);
llcuda_status gpu_model_copy_blocks(struct device_model *model, const uint32_t *from,
                                    const uint32_t *to, uint32_t count, struct llcuda_error *error);
const float *gpu_model_hidden(const struct device_model *model, uint64_t *stride);
const uint32_t *gpu_model_chosen(const struct device_model *model);
llcuda_status gpu_model_step_begin(struct device_model *model, const struct step_batch *batch,
                                   struct llcuda_error *error);
llcuda_status gpu_model_step_end(struct device_model *model, const float **logits,
                                 struct llcuda_error *error);

/* Bytes of buffers.choices for `rows` rows of logits, and where the chosen ids lie in it. */
uint64_t gpu_choices_bytes(uint32_t rows);
uint64_t gpu_choices_chosen(const struct gpu_model *model);

/* --- sample.c -------------------------------------------------------------------------------- */

/* Bytes of buffers.sampling for `rows` rows of logits. */
uint64_t gpu_sample_scratch_bytes(const struct plan *plan, uint32_t rows);
/* Bytes of a step's edits and masks, and their padding. */
uint64_t gpu_sample_step_bytes(const struct gpu_model *model, const struct step_batch *batch);
/* Writes the settings of all rows into the staging: edits and masks from `end` on. Returns the new
 * end. */
uint64_t gpu_sample_fill(struct gpu_model *model, const struct step_batch *batch, uint64_t end);
/* Puts the launches on the stream; model->shape.samples. */
llcuda_status gpu_sample_launch(struct gpu_model *model, struct llcuda_error *error);
/* Copies back what the rows want: ids, log-probabilities, logits of rows on the host. */
llcuda_status gpu_sample_copy(struct gpu_model *model, const struct step_batch *batch,
                              struct llcuda_error *error);
bool gpu_model_samples(const struct device_model *model);
const struct device_logprob *gpu_model_logprobs(const struct device_model *model);

/* Bytes of a step's data before its block tables, for a shape; fills in the layout. */
uint64_t gpu_step_layout_of(const struct gpu_step_shape *shape, struct gpu_step_layout *layout);
/* The largest shape of a model: sizes the staging. */
struct gpu_step_shape gpu_step_shape_max(const struct gpu_model *model);
/* Groups that the longest possible past is cut into. */
uint32_t gpu_step_groups_max(const struct gpu_model *model);
/* Bytes of a step's data of the largest shape with `tail_bytes` of block tables and what follows
 * them, or of a usual number when that is more. */
uint64_t gpu_step_bytes(const struct gpu_model *model, uint64_t tail_bytes);
/* Waits for the stream, DEVICE when it does not answer in time. */
llcuda_status gpu_model_wait(struct gpu_model *model, struct llcuda_error *error);

/* --- rows.c ---------------------------------------------------------------------------------- */

/* Most rows that can be left: of buffers.wanted_residual. */
uint32_t gpu_rows_wanted_max(const struct gpu_model *model);
/* Whether rows leave the last layer of a step, and how those that are left attend: lists go into
 * the staging, at the places of `layout`. */
struct gpu_rows_cut {
    uint32_t row_count;
    struct gpu_attention_cut attention;
};
bool gpu_rows_cut(const struct gpu_model *model, const struct step_batch *batch,
                  const struct gpu_step_layout *layout, struct gpu_rows_cut *cut);
/* places[i]: where rows[i] stands in `wanted`; both ascending, `wanted` has all of them. */
void gpu_rows_find_places(const uint32_t *wanted, const uint32_t *rows, uint32_t count,
                          uint32_t *places);
/* All rows are live. */
void gpu_rows_all(struct gpu_model *model);
/* Whether the step's other rows are not wanted after stage `op`, an attention. */
bool gpu_rows_leave_after(const struct gpu_model *model, const struct plan_op *op);
/* The wanted rows are live, moved together. */
llcuda_status gpu_rows_leave(struct gpu_model *model, struct llcuda_error *error);

/* --- stage.c --------------------------------------------------------------------------------- */

/* Puts the launches of a step of model->shape on the stream: what a graph captures. */
llcuda_status gpu_step_launch(struct gpu_model *model, struct llcuda_error *error);

/* Address of the number of rows of logits. */
uint64_t gpu_logits_count(const struct gpu_model *model);

/* Launches a kernel of the program. */
llcuda_status gpu_launch(struct gpu_model *model, enum gpu_kernel kernel, const uint32_t grid[3],
                         const void *arguments, uint32_t argument_bytes,
                         struct llcuda_error *error);

static inline uint64_t gpu_step_address(const struct gpu_model *model, uint64_t offset)
{
    return model->buffers.step + offset;
}

/* --- graph.c --------------------------------------------------------------------------------- */

/* Runs the step of model->shape as a graph, captured when it is new. */
llcuda_status gpu_step_graph(struct gpu_model *model, struct llcuda_error *error);
void gpu_graphs_release(struct gpu_model *model);

/* --- linear.c -------------------------------------------------------------------------------- */

/* Whether a matrix has a form that kernels for few rows stream: packed, or 16-bit and of the
 * activations' type. */
bool gpu_weight_streams(const struct gpu_model *model, uint32_t weight);
/* Whether a matrix is quantised, and 16-bit activations and fast kernels are wanted. */
bool gpu_weight_has_blocks(const struct gpu_model *model, uint32_t weight);
/* Whether a feed-forward stage's gate and up go through one kernel that activates. */
bool gpu_feed_forward_is_pair(const struct gpu_model *model, const struct plan_op *op);
/* Whether the product of a projection is finished by a launch of its own. */
bool gpu_project_finishes(const struct plan_op *op);
/* ACTIVATION_* */
uint32_t gpu_activation_kind(enum plan_activation activation);

/* One linear layer of a stage: up to three matrices over the same input, side by side in the
 * output; or gate and up, which become activations. */
struct gpu_linear {
    uint32_t weights[3]; /* indices into the plan */
    uint32_t part_count;
    bool is_pair;
    uint32_t activation;          /* ACTIVATION_*, of a pair */
    const struct plan_norm *norm; /* the input is the residual stream, normed first; or NULL */
    uint64_t input;               /* activations [rows, columns], when there is no norm */
    uint64_t output;              /* float rows, output_stride apart; activations of a pair */
    uint32_t output_stride;       /* elements */
    uint64_t count;               /* address of the number of rows */
    uint32_t rows;                /* of the shape */
    uint32_t mode;                /* LINEAR_STORE, LINEAR_ADD */
    /* In the order of linear_decode_arguments, which only its kernels know: `input` is; a pair's
     * output may be, when gpu_linear_reads_staged says so of the layer that reads it. */
    bool input_is_staged, output_may_be_staged;
};

/* Does it in one launch when there is a kernel that can; *done says whether. */
llcuda_status gpu_linear_fused(struct gpu_model *model, const struct gpu_linear *linear, bool *done,
                               struct llcuda_error *error);
/* Whether the rows go half by half through a kernel that streams weights, and no other kernel
 * serves better. */
bool gpu_linear_goes_twice(const struct gpu_model *model, const struct gpu_linear *linear);
/* Whether a layer of one matrix without a norm can read staged activations. */
bool gpu_linear_reads_staged(const struct gpu_model *model, const struct gpu_linear *linear);
/* Does a layer of one matrix without a norm. */
llcuda_status gpu_linear_run(struct gpu_model *model, const struct gpu_linear *linear,
                             struct llcuda_error *error);

/* Does the parts of a layer, without a norm: together where one product can, or one by one. */
llcuda_status gpu_linear_parts(struct gpu_model *model, const struct gpu_linear *linear,
                               struct llcuda_error *error);

/* --- experts.c ------------------------------------------------------------------------------- */

/* The stage of a block of experts, over the normed rows: routing, products, the sum. */
llcuda_status gpu_experts_run(struct gpu_model *model, const struct plan_op *op,
                              struct llcuda_error *error);
/* Whether gate and up of experts go through one kernel that activates. */
bool gpu_experts_are_pair(const struct gpu_model *model, const struct plan_op *op);
/* Bytes of buffers.routes and of a row of buffers.expert_raw, in floats. */
uint64_t gpu_experts_route_bytes(const struct gpu_model *model);
uint64_t gpu_experts_raw_floats(const struct gpu_model *model);
/* Bytes that packed experts need of buffers.unpacked. */
uint64_t gpu_experts_unpacked_bytes(const struct gpu_model *model);
/* Bytes of the experts' matrices that a step of so many rows reads when each is chosen as often. */
uint64_t gpu_experts_step_bytes(const struct gpu_model *model, uint32_t rows);

/* --- kernels that go element by element --------------------------------------------------------
 */

#define GPU_ELEMENT_THREADS 256u /* as in activation.cu and experts.cu */
#define GPU_UNIT_ELEMENTS   8u   /* as in device.cuh */

/* Blocks for a row whose elements are a thread's each, or go to threads by units. */
static inline uint32_t gpu_element_blocks(uint32_t width)
{
    return (width + GPU_ELEMENT_THREADS - 1) / GPU_ELEMENT_THREADS;
}

static inline uint32_t gpu_unit_blocks(uint32_t width)
{
    return gpu_element_blocks((width + GPU_UNIT_ELEMENTS - 1) / GPU_UNIT_ELEMENTS);
}

/* --- wide.c: kernels for many rows ------------------------------------------------------------ */

/* The prelude of what the model's layers can use; false when that is nothing. */
bool gpu_wide_choose(const struct gpu_model *model, struct buffer *prelude);
llcuda_status gpu_wide_load(struct gpu_model *model, struct gpu_module *module,
                            struct llcuda_error *error);
/* Whether they do this layer, all of its parts at once; its input is activations. Quantised weights
 * of very many rows are left to the vendor's products, where these may be taken. */
/* Bytes of buffers.partials. */
uint64_t gpu_wide_partial_bytes(const struct gpu_model *model);
bool gpu_wide_serves(const struct gpu_model *model, const struct gpu_linear *linear);
llcuda_status gpu_wide_run(struct gpu_model *model, const struct gpu_linear *linear,
                           struct llcuda_error *error);

/* --- matmul.c -------------------------------------------------------------------------------- */

/* Whether the vendor's matrix product does this layer, all of its parts at once. */
bool gpu_matmul_serves(const struct gpu_model *model, const struct gpu_linear *linear);
llcuda_status gpu_matmul_run(struct gpu_model *model, const struct gpu_linear *linear,
                             struct llcuda_error *error);
void gpu_matmuls_release(struct gpu_model *model);
/* Whether some weight must be dequantised for it. */
bool gpu_matmul_unpacks(const struct gpu_model *model);
/* Sixteens of rows of a packed weight from `address` on, as activations at `output`. */
llcuda_status gpu_unpack_tiles(struct gpu_model *model, uint32_t weight, uint64_t address,
                               uint32_t tiles, uint64_t output, struct llcuda_error *error);

#endif
