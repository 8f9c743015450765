/* The contract between the engine and whatever computes: a device holds a plan's weights and a
 * paged key-value cache, and runs one ragged step at a time.
 *
 * Ideas: what changes from step to step is data (tokens, positions, block tables), never shape of
 * the program; a row's result depends on the model, its tokens and its positions only, never on the
 * rows beside it or on how a prompt was cut into steps (ARCHITECTURE, idea 7).
 *
 * Threads: one thread at a time calls into a device and the models on it. */
#ifndef DEVICE_DEVICE_H
#define DEVICE_DEVICE_H

#include "base/error.h"
#include "base/log.h"
#include "plan/plan.h"

/* Positions in a cache block. Equal everywhere, so that block tables mean the same on all devices.
 */
#define KV_BLOCK_TOKENS 16u

/* A change of one logit before a token is drawn. Kinds are applied one after the other, each to
 * what the ones before have left; a token has at most one edit of each kind. */
enum step_edit_kind {
    STEP_EDIT_PENALISE, /* positive: divided by the repetition penalty, otherwise multiplied with
                           it; then minus `amount`; stays within ±1e38 */
    STEP_EDIT_LOWER,    /* minus `amount`, in double precision */
    STEP_EDIT_ADD,      /* plus `amount`, in single precision; minus infinity forbids the token */
    STEP_EDIT_FORBID,
    STEP_EDIT_KIND_COUNT
};

struct step_edit {
    uint32_t token; /* < vocabulary_size */
    uint32_t reserved;
    double amount;
};

/* What a row's model thinks of its token, as the public API tells it. */
#define DEVICE_LOGPROBS_MAX 20u
struct device_logprob {
    uint32_t token;
    float logprob;
    uint32_t rank; /* 0: the most likely token */
    uint32_t top_count;
    struct {
        uint32_t token;
        float logprob;
    } top[DEVICE_LOGPROBS_MAX]; /* most likely first */
};

/* Edits of all rows of a step together. */
#define STEP_EDITS_MAX 65536u

/* How a row's token is drawn, as docs/internals/sampling.md has it; neutral values leave a stage
 * out. Data, never shape. */
struct step_sampling {
    bool on_host; /* nobody draws: the row's logits are wanted, and nothing else here counts */
    bool logprobs;
    uint32_t top_logprobs; /* at most DEVICE_LOGPROBS_MAX */
    double temperature;    /* 0: greedy */
    double top_p, typical_p, min_p, repetition_penalty;
    uint32_t top_k;
    uint32_t position; /* the draw is random_uniform(seed, position, 0) */
    uint64_t seed;
    const struct step_edit *edits;              /* ordered by kind */
    uint32_t edit_counts[STEP_EDIT_KIND_COUNT]; /* of each kind */
    const uint32_t *mask; /* [V / 32, rounded up] bit t % 32 of word t / 32: token t is allowed; or
                             NULL */
};

/* One step: rows of many sequences. Rows of one sequence are consecutive, positions ascending by 1.
 * All arrays are borrowed for the duration of the call. */
struct step_batch {
    uint32_t row_count;        /* n, 1 … rows_max */
    const uint32_t *tokens;    /* [n] each < vocabulary_size */
    const uint32_t *positions; /* [n] */
    const uint32_t *sequences; /* [n] each < sequence_count: which block table */
    uint32_t sequence_count;
    const uint32_t *block_tables; /* [sequence_count, block_table_stride]: position p of sequence s
                                     is in block block_tables[s · stride + p / 16], slot p % 16 */
    uint32_t block_table_stride;
    uint32_t logits_count;       /* m, 0 … logits_rows_max */
    const uint32_t *logits_rows; /* [m] row indices, ascending */
    uint32_t hidden_count;       /* h, 0 … n: rows whose final hidden state is wanted … */
    const uint32_t *hidden_rows; /* [h] row indices, ascending; see device_hidden */
    bool choose; /* only the largest logit of each wanted row matters: see device_chosen. A device
                    that cannot choose gives the logits all the same */
    /* [m] how the device draws each wanted row's token: see device_chosen. NULL: it does not. Only
     * for devices that sample; not together with `choose`. */
    const struct step_sampling *sampling;
    /* [n, E], row i at i · residual_stride: the residual stream of the rows, for a plan that takes
     * it; nothing else looks at it. */
    const float *residual;
    uint64_t residual_stride;
};

struct device_model_options {
    uint32_t kv_block_count;  /* blocks in the cache */
    enum dtype kv_dtype;      /* F16, BF16, F32, Q8_0: a byte an element and a scale a key or value
                                 of a head; on GPUs also F8_E4M3: a byte, saturated */
    uint32_t rows_max;        /* n */
    uint32_t logits_rows_max; /* m */
};

/* Called from time to time while weights are loaded; may be NULL. Returning false cancels. */
struct device_progress {
    bool (*report)(void *user, uint64_t done_bytes, uint64_t total_bytes);
    void *user;
};

struct device_info {
    char name[96]; /* "Intel(R) Xeon(R) Processor, 2 threads, avx512+vnni" */
    char kind[16]; /* "cpu", "cuda", "hip", "emu" */
    uint32_t thread_count;
    uint32_t step_rows;         /* of a long prompt, that it likes to have in a step */
    uint64_t memory_bytes;      /* of the device, 0 when unknown */
    uint64_t memory_free_bytes; /* 0 when unknown */
};

/* Enough for a CPU, whose weights then cost a small part of the time. */
#define DEVICE_STEP_ROWS 512u

/* What a model takes of a device's memory, by what it is for. */
enum device_memory_kind {
    DEVICE_MEMORY_WEIGHTS, /* as they lie there; not those that are read in a mapped file */
    DEVICE_MEMORY_CACHE,
    DEVICE_MEMORY_WORKSPACE,
    DEVICE_MEMORY_STEP, /* what goes in and comes out of a step */
    DEVICE_MEMORY_KIND_COUNT
};

/* What a loaded model holds of it. */
struct device_memory {
    uint64_t bytes[DEVICE_MEMORY_KIND_COUNT];
    uint64_t limit_bytes; /* that an option sets for all models on the device together; 0: none */
};

/* The layers of a model that one device computes, and what they take of it. */
struct device_part {
    char kind[16];
    char name[96];
    uint32_t layer_begin, layer_end; /* [begin, end) of the model */
    bool embeds, gives_logits;
    uint64_t bytes[DEVICE_MEMORY_KIND_COUNT];
    uint64_t available_bytes; /* that a model may take now, reserve left out; 0: unknown */
    uint64_t reserve_bytes;   /* for the driver and its graphs */
    bool is_limited;          /* by an option and not by what is free */
};

/* Devices that share a model's layers. */
#define DEVICE_PARTS_MAX 2u

/* What the machine allows, measured now: the yardstick of every speed report. */
struct device_ceilings {
    double read_bytes_per_second; /* streaming reads by all threads, larger than the caches */
    double copy_bytes_per_second; /* read + written */
    double flop_per_second;       /* float32 multiply-adds counted as two */
    double integer_op_per_second; /* int8 multiply-adds counted as two; 0 when not measured */
};

/* What one operation took in the steps since a profile was last asked for. */
struct device_profile_row {
    const char *operation; /* "feed-forward", static storage */
    enum dtype dtype;      /* of the weights, or of the cache */
    bool has_dtype;
    bool is_integer; /* multiplies integers */
    uint64_t count;  /* times it ran */
    uint64_t ns;
    uint64_t bytes;      /* weights or cache read; 0 when that is not what it is about */
    uint64_t operations; /* multiply-adds counted as two; likewise */
};

/* What one kernel took in the same steps, and how it sits on a multiprocessor. */
struct device_profile_kernel {
    char kernel[48];       /* "linear_decode f16 2048 pair" */
    const char *operation; /* the stage that launches it, as in device_profile_row */
    enum dtype dtype;
    bool has_dtype;
    bool is_known;                  /* what follows `ns`, but for the cost; not of a library's */
    uint64_t launches, ns;          /* of all steps */
    uint32_t threads;               /* of a block */
    uint64_t blocks;                /* of the last launch */
    uint32_t registers;             /* a thread */
    uint32_t local_bytes;           /* a thread: spills, and arrays that are indexed */
    uint32_t shared_bytes;          /* a block */
    uint32_t blocks_resident;       /* that a multiprocessor holds at a time */
    double occupancy;               /* their threads, of those that it could hold */
    uint64_t bytes;                 /* the stage's, with the kernel that takes most of its time */
    uint64_t arithmetic_operations; /* likewise */
};

/* The same steps as wholes, and the memory of the model. */
struct device_profile_steps {
    uint64_t step_count, launches;
    uint64_t plan_operations; /* elementary ones, of which a kernel does several */
    bool has_graphs;
    uint64_t
        graph_ns; /* from the host's first call until the device is done; plain without graphs */
    uint64_t plain_ns;                         /* likewise, each kernel launched by itself */
    uint64_t graph_submit_ns, plain_submit_ns; /* of these, until the host's calls returned */
    uint64_t kernel_ns;                        /* all kernels, as in their rows */
    struct {
        const char *name;
        uint64_t bytes;
    } memory[8];
    uint32_t memory_count;
};

struct device;
struct device_model;

/* A backend's function table; its own structs begin with a pointer to it. Use the functions below.
 */
struct device_interface {
    void (*close)(struct device *device);
    void (*describe)(const struct device *device, struct device_info *info);
    llcuda_status (*model_load)(struct device *device, const struct plan *plan,
                                const struct device_model_options *options,
                                const struct device_progress *progress, struct device_model **model,
                                struct llcuda_error *error);
    void (*model_unload)(struct device_model *model);
    llcuda_status (*step)(struct device_model *model, const struct step_batch *batch,
                          const float **logits, struct llcuda_error *error);
    llcuda_status (*copy_blocks)(struct device_model *model, const uint32_t *from,
                                 const uint32_t *to, uint32_t count, struct llcuda_error *error);
    llcuda_status (*measure)(struct device *device, struct device_ceilings *ceilings,
                             struct llcuda_error *error);
    uint64_t (*weight_bytes_read)(const struct device_model *model);
    void (*memory)(const struct device_model *model, struct device_memory *memory);
    /* NULL where the device gives no hidden states: steps that want some are refused. */
    const float *(*hidden)(const struct device_model *model, uint64_t *stride);
    /* NULL where the device gives logits only. */
    const uint32_t *(*chosen)(const struct device_model *model);
    /* Both NULL where the device does not sample. */
    bool (*samples)(const struct device_model *model);
    const struct device_logprob *(*logprobs)(const struct device_model *model);
    /* Both NULL where a step computes in the calling thread. */
    llcuda_status (*step_begin)(struct device_model *model, const struct step_batch *batch,
                                struct llcuda_error *error);
    llcuda_status (*step_end)(struct device_model *model, const float **logits,
                              struct llcuda_error *error);
    /* NULL where the calling thread has no helpers. */
    void (*parallel)(struct device_model *model, uint64_t item_count,
                     void (*task)(void *context, uint32_t worker, uint64_t item), void *context);
    /* NULL: the device takes whole models only, or last parts. */
    const float *(*residual)(const struct device_model *model, uint64_t *stride);
    llcuda_status (*place)(struct device *device, const struct plan *plan,
                           const struct device_model_options *options,
                           struct device_part parts[DEVICE_PARTS_MAX], uint32_t *count,
                           struct llcuda_error *error);
    /* NULL: none. */
    uint32_t (*gpu_layers)(const struct device_model *model);
    /* NULL: the device keeps no profile. */
    uint32_t (*profile)(struct device_model *model, struct device_profile_row *rows,
                        uint32_t capacity);
    /* NULL where nothing is launched. */
    uint32_t (*profile_kernels)(struct device_model *model, struct device_profile_steps *steps,
                                struct device_profile_kernel *rows, uint32_t capacity);
};

struct device {
    const struct device_interface *interface;
};

/* Watches what goes into products: `count` rows of `columns` floats, `stride` floats apart, that a
 * weight of the plan is about to be multiplied with. Called by the thread that steps. */
struct device_observer {
    void (*inputs)(void *user, uint32_t weight, const float *rows, uint64_t stride, uint32_t count,
                   uint64_t columns);
    void *user;
};

struct device_model {
    const struct device_interface *interface;
    const struct plan *plan; /* borrowed: outlives the model */
    struct device_model_options options;
    const struct device_observer *observer; /* NULL, or set by whoever steps, between steps; a
                                               device may not know of it (the CPU does) */
};

static inline void device_close(struct device *device)
{
    if (device) {
        device->interface->close(device);
    }
}

static inline void device_describe(const struct device *device, struct device_info *info)
{
    device->interface->describe(device, info);
}

/* Uploads or repacks the weights and makes the cache. `plan` and its weight data must outlive the
 * model. Errors: OUT_OF_MEMORY, UNSUPPORTED (a weight type), CANCELLED by progress. */
static inline llcuda_status device_model_load(struct device *device, const struct plan *plan,
                                              const struct device_model_options *options,
                                              const struct device_progress *progress,
                                              struct device_model **model,
                                              struct llcuda_error *error)
{
    return device->interface->model_load(device, plan, options, progress, model, error);
}

static inline void device_model_unload(struct device_model *model)
{
    if (model) {
        model->interface->model_unload(model);
    }
}

/* Runs one step and waits for it. *logits: [m, V] in host memory, owned by the model, valid until
 * the next call. Rows are checked against the options (INVALID_ARGUMENT). Allocates nothing. */
static inline llcuda_status device_step(struct device_model *model, const struct step_batch *batch,
                                        const float **logits, struct llcuda_error *error)
{
    return model->interface->step(model, batch, logits, error);
}

/* Whether a step may be begun and ended in two calls, with other work of this thread between. */
static inline bool device_runs_ahead(const struct device_model *model)
{
    return model->interface->step_begin != NULL;
}

/* device_step in two calls, one step at a time; for devices that run ahead. The arrays of the batch
 * belong to the caller again when step_begin returns. Between the two only the inquiries below may
 * be called; blocks are copied before step_begin. After a failure of either no step is running. */
static inline llcuda_status device_step_begin(struct device_model *model,
                                              const struct step_batch *batch,
                                              struct llcuda_error *error)
{
    return model->interface->step_begin(model, batch, error);
}
static inline llcuda_status device_step_end(struct device_model *model, const float **logits,
                                            struct llcuda_error *error)
{
    return model->interface->step_end(model, logits, error);
}

/* Runs task(context, worker, item) for every item in [0, item_count) on the threads that the device
 * computes with, and returns when all are done; by itself where there are none. Not while a step
 * runs. */
static inline void device_parallel(struct device_model *model, uint64_t item_count,
                                   void (*task)(void *context, uint32_t worker, uint64_t item),
                                   void *context)
{
    if (model->interface->parallel) {
        model->interface->parallel(model, item_count, task, context);
        return;
    }
    for (uint64_t item = 0; item < item_count; item++) {
        task(context, 0, item);
    }
}

/* Whether steps may want hidden states. */
static inline bool device_gives_hidden(const struct device *device)
{
    return device->interface->hidden != NULL;
}

/* What the logits stage norms and multiplies, of the last step's hidden_rows: row i, [E], begins at
 * i · stride. In host memory, owned by the model, valid until the next step. Only after a step that
 * wanted some. */
static inline const float *device_hidden(const struct device_model *model, uint64_t *stride)
{
    return model->interface->hidden(model, stride);
}

/* The residual stream behind the last stage of the last step's rows, for a plan that gives it: row
 * i, [E], begins at i · stride. In host memory, owned by the model, valid until the next step. */
static inline const float *device_residual(const struct device_model *model, uint64_t *stride)
{
    return model->interface->residual(model, stride);
}

/* What a model would take, and where, before it is loaded: counts only. A part for each device that
 * would compute, first layers first; of options that leave it open the split that loading would
 * choose. What does not fit is no error. */
static inline llcuda_status device_place(struct device *device, const struct plan *plan,
                                         const struct device_model_options *options,
                                         struct device_part parts[DEVICE_PARTS_MAX],
                                         uint32_t *count, struct llcuda_error *error)
{
    return device->interface->place(device, plan, options, parts, count, error);
}

/* How many of the model's layers a GPU computes. */
static inline uint32_t device_gpu_layers(const struct device_model *model)
{
    return model->interface->gpu_layers ? model->interface->gpu_layers(model) : 0;
}

/* Of the last step, when its batch said `choose` and the device can, or had `sampling`: [m] the
 * token of each wanted row – with `choose` the one with the largest logit, the first of equals –,
 * or DEVICE_NOT_FINITE, or DEVICE_REFUSED when every token is forbidden. The logits then did not
 * leave the device, except those of rows on_host, whose tokens are undefined. Otherwise NULL. Valid
 * until the next step.
 *
 * A device that samples draws what the engine's sampler would draw, whatever the company of the
 * row, but for draws that fall within 1e-6 of the mass beside a boundary between two tokens. */
#define DEVICE_NOT_FINITE UINT32_MAX
#define DEVICE_REFUSED    (UINT32_MAX - 1)
static inline const uint32_t *device_chosen(const struct device_model *model)
{
    return model->interface->chosen ? model->interface->chosen(model) : NULL;
}

/* Whether steps may have `sampling`. */
static inline bool device_samples(const struct device_model *model)
{
    return model->interface->samples && model->interface->samples(model);
}

/* Of the last step with sampling: [m] defined where its rows wanted log-probabilities and got a
 * token. Those of the model itself, before all edits. Valid until the next step. */
static inline const struct device_logprob *device_logprobs(const struct device_model *model)
{
    return model->interface->logprobs(model);
}

/* Copies whole cache blocks of all layers, from[i] to to[i]: copy on write. */
static inline llcuda_status device_copy_blocks(struct device_model *model, const uint32_t *from,
                                               const uint32_t *to, uint32_t count,
                                               struct llcuda_error *error)
{
    return model->interface->copy_blocks(model, from, to, count, error);
}

/* Takes a second or two. */
static inline llcuda_status device_measure(struct device *device, struct device_ceilings *ceilings,
                                           struct llcuda_error *error)
{
    return device->interface->measure(device, ceilings, error);
}

/* Weight bytes that all steps so far have read from memory: a step reads each weight once, however
 * many rows it has. */
static inline uint64_t device_weight_bytes_read(const struct device_model *model)
{
    return model->interface->weight_bytes_read(model);
}

/* Memory the model holds: repacked weights, cache, workspace; not the mapped file. Of two devices
 * their sum, and the limit of the GPU. */
static inline void device_model_memory(const struct device_model *model,
                                       struct device_memory *memory)
{
    *memory = (struct device_memory){0};
    model->interface->memory(model, memory);
}

/* All of it. */
uint64_t device_model_memory_bytes(const struct device_model *model);

/* Where the time of the steps since the last call went: at most `capacity` rows, and how many they
 * are. The first call switches profiling on, which costs steps a little. 0 rows from a device that
 * keeps no profile. */
static inline uint32_t device_profile(struct device_model *model, struct device_profile_row *rows,
                                      uint32_t capacity)
{
    return model->interface->profile ? model->interface->profile(model, rows, capacity) : 0;
}

/* The same steps by kernel and as wholes, from devices that launch some; 0 rows from others. Before
 * device_profile, which begins anew. */
static inline uint32_t device_profile_kernels(struct device_model *model,
                                              struct device_profile_steps *steps,
                                              struct device_profile_kernel *rows, uint32_t capacity)
{
    *steps = (struct device_profile_steps){0};
    return model->interface->profile_kernels
               ? model->interface->profile_kernels(model, steps, rows, capacity)
               : 0;
}

/* Bytes of one cache block, all layers, keys and values: the unit of every memory plan. */
uint64_t device_kv_block_bytes(const struct plan *plan, enum dtype kv_dtype);

/* Bytes that a part takes. */
uint64_t device_part_bytes(const struct device_part *part);
/* Whether that is known to be more than the device has. */
bool device_part_exceeds(const struct device_part *part);

/* Checks a batch against a model's options and its plan: what every backend does first. */
llcuda_status step_batch_check(const struct step_batch *batch, const struct device_model *model,
                               struct llcuda_error *error);
/* Rows whose logits or hidden state are wanted, ascending, each once, into `rows` unless it is
 * NULL; returns how many. */
uint32_t step_batch_wanted(const struct step_batch *batch, uint32_t *rows);

#endif
