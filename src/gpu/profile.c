/* Owns the profile of a model's steps: the list of a step's launches, their repetition between two
 * events, and the tables that come of it. Repetitions go through graphs, since a plain launch takes
 * the host longer than many a kernel the device. It must not know what kernels compute, only which
 * stage of the plan launched them. */
#include "gpu/profile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gpu/model.h"

#define LAUNCHES_MAX (1u << 16)
#define KERNELS_MAX  64u
/* Launches that one timed graph should have at least: less, and its own start would count. */
#define GRAPH_LAUNCHES_MIN 32u
/* The best of so many repetitions counts, short ones more often. */
#define REPETITIONS_MAX 8u
#define REPEAT_NS_MAX   20000000u

/* X(id, name): rows of device_profile. */
#define GPU_WORK_LIST(X)      \
    X(EMBED, "embed")         \
    X(QKV, "qkv")             \
    X(ATTENTION, "attention") \
    X(PROJECT, "project")     \
    X(GATE_UP, "gate, up")    \
    X(DOWN, "down")           \
    X(EXPERTS, "experts")     \
    X(LOGITS, "logits")       \
    X(CHOOSE, "choose")       \
    X(SAMPLE, "sample")

enum gpu_work {
#define GPU_WORK_ENUM(id, name) GPU_WORK_##id,
    GPU_WORK_LIST(GPU_WORK_ENUM)
#undef GPU_WORK_ENUM
        GPU_WORK_COUNT
};

static const char *const names[GPU_WORK_COUNT] = {
#define GPU_WORK_NAME(id, name) [GPU_WORK_##id] = name,
    GPU_WORK_LIST(GPU_WORK_NAME)
#undef GPU_WORK_NAME
};

/* A launch of the step, or a product of the vendor's library. */
struct launch {
    enum gpu_work work;
    enum dtype dtype;
    struct gpu_function *function; /* NULL: a product */
    struct gpu_launch shape;
    uint64_t arguments; /* offset */
    uint32_t argument_bytes;
    struct gpu_matmul *matmul;
    uint64_t y, x, weight, workspace;
};

/* The kernels' part of the profile: one row a kind of work and function. */
struct kernel {
    enum gpu_work work;
    enum dtype dtype;
    struct gpu_function *function;
    struct device_profile_kernel row;
};

struct gpu_profile {
    struct gpu_driver recorder; /* first: the table that launches go through */
    struct gpu_model *model;
    struct gpu_driver *driver;
    struct gpu_event *from, *to;
    const struct step_batch *batch;
    struct launch *launches;
    uint32_t count, capacity;
    struct buffer arguments;
    bool full;
    struct kernel kernels[KERNELS_MAX];
    uint32_t kernel_count;
    struct device_profile_row rows[GPU_WORK_COUNT][DTYPE_COUNT];
    struct device_profile_steps steps;
};

/* --- writing down ----------------------------------------------------------------------------- */

static enum gpu_work work_of(const struct gpu_model *model, const struct gpu_function *function)
{
    static const enum gpu_work works[PLAN_OP_KIND_COUNT] = {
        [PLAN_EMBED] = GPU_WORK_EMBED,          [PLAN_QKV] = GPU_WORK_QKV,
        [PLAN_ATTENTION] = GPU_WORK_ATTENTION,  [PLAN_PROJECT] = GPU_WORK_PROJECT,
        [PLAN_FEED_FORWARD] = GPU_WORK_GATE_UP, [PLAN_LOGITS] = GPU_WORK_LOGITS,
        [PLAN_EXPERTS] = GPU_WORK_EXPERTS,
    };
    struct gpu_function *const *functions = model->program.functions;
    const struct plan_op *op = model->op;
    if (function && function == functions[GPU_KERNEL_CHOOSE]) {
        return GPU_WORK_CHOOSE;
    }
    for (int i = GPU_KERNEL_SAMPLE_EDIT; function && i <= GPU_KERNEL_SAMPLE_LOGPROBS; i++) {
        if (function == functions[i]) {
            return GPU_WORK_SAMPLE;
        }
    }
    bool is_down = op->kind == PLAN_PROJECT && op->project.input == PLAN_BUFFER_HIDDEN;
    return is_down ? GPU_WORK_DOWN : works[op->kind];
}

/* The type of a stage's first matrix (of experts, theirs), or of the cache. */
static enum dtype dtype_of(const struct gpu_model *model, const struct plan_op *op)
{
    struct plan_op_weight slots[PLAN_OP_WEIGHTS_MAX];
    uint32_t count = plan_op_weights(op, slots);
    for (uint32_t i = 0; i < count && op->kind != PLAN_ATTENTION; i++) {
        if (slots[i].is_matrix && (slots[i].is_experts || op->kind != PLAN_EXPERTS)) {
            return model->weights[slots[i].weight].dtype;
        }
    }
    return model->base.options.kv_dtype;
}

static struct launch *add_launch(struct gpu_profile *profile, struct gpu_function *function)
{
    if (profile->count == profile->capacity) {
        uint32_t capacity = profile->capacity ? 2 * profile->capacity : 1024;
        struct launch *grown =
            capacity <= LAUNCHES_MAX ? realloc(profile->launches, capacity * sizeof *grown) : NULL;
        if (!grown) {
            profile->full = true;
            return NULL;
        }
        profile->launches = grown;
        profile->capacity = capacity;
    }
    struct launch *launch = &profile->launches[profile->count++];
    *launch = (struct launch){
        .work = work_of(profile->model, function),
        .dtype = dtype_of(profile->model, profile->model->op),
        .function = function,
    };
    return launch;
}

static llcuda_status record_launch(struct gpu_driver *recorder, struct gpu_stream *stream,
                                   struct gpu_function *function, const struct gpu_launch *shape,
                                   const void *arguments, uint32_t argument_bytes,
                                   struct llcuda_error *error)
{
    struct gpu_profile *profile = (struct gpu_profile *)recorder;
    struct launch *launch = add_launch(profile, function);
    if (launch) {
        launch->shape = *shape;
        launch->arguments = profile->arguments.length;
        launch->argument_bytes = argument_bytes;
        profile->full |= !buffer_append(&profile->arguments, arguments, argument_bytes);
    }
    return profile->driver->launch(profile->driver, stream, function, shape, arguments,
                                   argument_bytes, error);
}

static llcuda_status record_matmul(struct gpu_driver *recorder, struct gpu_stream *stream,
                                   struct gpu_matmul *matmul, uint64_t y, uint64_t x,
                                   uint64_t weight, uint64_t workspace, struct llcuda_error *error)
{
    struct gpu_profile *profile = (struct gpu_profile *)recorder;
    struct launch *launch = add_launch(profile, NULL);
    if (launch) {
        launch->matmul = matmul;
        launch->y = y;
        launch->x = x;
        launch->weight = weight;
        launch->workspace = workspace;
    }
    return profile->driver->matmul_run(profile->driver, stream, matmul, y, x, weight, workspace,
                                       error);
}

static llcuda_status make_map(struct gpu_driver *recorder, const struct gpu_tensor_shape *shape,
                              uint64_t map[16], struct llcuda_error *error)
{
    struct gpu_driver *driver = ((struct gpu_profile *)recorder)->driver;
    return driver->tensor_map(driver, shape, map, error);
}

static llcuda_status create_matmul(struct gpu_driver *recorder,
                                   const struct gpu_matmul_shape *shape, struct gpu_matmul **matmul,
                                   struct llcuda_error *error)
{
    struct gpu_profile *profile = (struct gpu_profile *)recorder;
    return profile->driver->matmul_create(profile->driver, shape, matmul, error);
}

/* Not at once: an earlier launch of the step may be on the list with it. The model's own release
 * would not see it any more, so it stays until the driver closes; a step has fewer products than
 * the model keeps, so this does not happen. */
static void keep_matmul(struct gpu_driver *recorder, struct gpu_matmul *matmul)
{
    struct gpu_profile *profile = (struct gpu_profile *)recorder;
    profile->full = true; /* no repetitions of this step */
    profile->driver->matmul_destroy(profile->driver, matmul);
}

static llcuda_status record(struct gpu_profile *profile, struct llcuda_error *error)
{
    struct gpu_model *model = profile->model;
    profile->count = 0;
    profile->arguments.length = 0;
    profile->full = false;
    model->driver = &profile->recorder;
    llcuda_status status = gpu_step_launch(model, error);
    model->driver = profile->driver;
    if (status == LLCUDA_OK && profile->full) {
        return error_set(error, LLCUDA_LIMIT, "a step of more launches than a profile holds");
    }
    return status;
}

/* --- repeating -------------------------------------------------------------------------------- */

/* Those of experts go together: each continues lists and counts of the one before it. */
static bool is_alike(const struct launch *a, const struct launch *b)
{
    if (a->work == GPU_WORK_EXPERTS || b->work == GPU_WORK_EXPERTS) {
        return a->work == b->work;
    }
    return a->work == b->work && a->dtype == b->dtype && a->function == b->function;
}

/* Every launch like `kind` once, in order; all of them without one. */
static llcuda_status launch_alike(struct gpu_profile *profile, const struct launch *kind,
                                  struct llcuda_error *error)
{
    struct gpu_driver *driver = profile->driver;
    struct gpu_stream *stream = profile->model->stream;
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; i < profile->count && status == LLCUDA_OK; i++) {
        const struct launch *launch = &profile->launches[i];
        if (kind && !is_alike(launch, kind)) {
            continue;
        }
        status = launch->function
                     ? driver->launch(driver, stream, launch->function, &launch->shape,
                                      profile->arguments.data + launch->arguments,
                                      launch->argument_bytes, error)
                     : driver->matmul_run(driver, stream, launch->matmul, launch->y, launch->x,
                                          launch->weight, launch->workspace, error);
    }
    return status;
}

static llcuda_status capture_alike(struct gpu_profile *profile, const struct launch *kind,
                                   uint32_t copies, struct gpu_graph **graph,
                                   struct llcuda_error *error)
{
    struct gpu_driver *driver = profile->driver;
    struct gpu_stream *stream = profile->model->stream;
    llcuda_status status = driver->capture_begin(driver, stream, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    for (uint32_t i = 0; i < copies && status == LLCUDA_OK; i++) {
        status = launch_alike(profile, kind, error);
    }
    /* A stream that captures must be ended in any case. */
    struct llcuda_error ignored;
    llcuda_status ended =
        driver->capture_end(driver, stream, graph, status == LLCUDA_OK ? error : &ignored);
    if (status != LLCUDA_OK && ended == LLCUDA_OK) {
        driver->graph_destroy(driver, *graph);
        *graph = NULL;
    }
    return status == LLCUDA_OK ? ended : status;
}

/* One timed launch of a graph, or of the launches themselves; *ns between the two events. */
static llcuda_status time_once(struct gpu_profile *profile, struct gpu_graph *graph,
                               const struct launch *kind, double *ns, struct llcuda_error *error)
{
    struct gpu_driver *driver = profile->driver;
    struct gpu_stream *stream = profile->model->stream;
    double ms = 0;
    llcuda_status status = driver->event_record(driver, profile->from, stream, error);
    if (status == LLCUDA_OK) {
        status = graph ? driver->graph_launch(driver, stream, graph, error)
                       : launch_alike(profile, kind, error);
    }
    if (status == LLCUDA_OK) {
        status = driver->event_record(driver, profile->to, stream, error);
    }
    if (status == LLCUDA_OK) {
        status = gpu_model_wait(profile->model, error);
    }
    if (status == LLCUDA_OK) {
        status = driver->event_elapsed(driver, profile->from, profile->to, &ms, error);
    }
    *ns = ms * 1e6;
    return status;
}

/* The time of all launches like `kind` of the step, once each. */
static llcuda_status time_alike(struct gpu_profile *profile, const struct launch *kind,
                                uint32_t launches, double *ns, struct llcuda_error *error)
{
    struct gpu_driver *driver = profile->driver;
    bool plain = profile->model->device->options.no_graphs;
    bool emulated = profile->model->device->info.vendor == GPU_EMU;
    uint32_t copies = plain || emulated ? 1 : (GRAPH_LAUNCHES_MIN + launches - 1) / launches;
    struct gpu_graph *graph = NULL;
    llcuda_status status = plain ? LLCUDA_OK : capture_alike(profile, kind, copies, &graph, error);
    double least = 0;
    double all = 0;
    for (uint32_t i = 0; i < (emulated ? 1 : REPETITIONS_MAX) && status == LLCUDA_OK; i++) {
        double once = 0;
        status = time_once(profile, graph, kind, &once, error);
        least = i == 0 || once < least ? once : least;
        all += once;
        if (i > 0 && all > REPEAT_NS_MAX) {
            break;
        }
    }
    driver->graph_destroy(driver, graph);
    *ns = least / copies;
    return status;
}

/* --- tables ----------------------------------------------------------------------------------- */

static struct kernel *kernel_of(struct gpu_profile *profile, const struct launch *launch)
{
    for (uint32_t i = 0; i < profile->kernel_count; i++) {
        struct kernel *kernel = &profile->kernels[i];
        if (kernel->work == launch->work && kernel->dtype == launch->dtype &&
            kernel->function == launch->function) {
            return kernel;
        }
    }
    if (profile->kernel_count == KERNELS_MAX) {
        return NULL;
    }
    struct kernel *kernel = &profile->kernels[profile->kernel_count++];
    *kernel =
        (struct kernel){.work = launch->work, .dtype = launch->dtype, .function = launch->function};
    kernel->row.operation = names[launch->work];
    return kernel;
}

/* What the driver says of a kernel, and how many of its blocks a multiprocessor holds. */
static llcuda_status describe(struct gpu_profile *profile, const struct launch *launch,
                              struct device_profile_kernel *row, struct llcuda_error *error)
{
    struct gpu_driver *driver = profile->driver;
    const struct gpu_device_info *device = &profile->model->device->info;
    const struct gpu_launch *shape = &launch->shape;
    if (!launch->function || launch->work == GPU_WORK_EXPERTS) {
        snprintf(row->kernel, sizeof row->kernel, "%s",
                 launch->work == GPU_WORK_EXPERTS ? "routing, products, sums"
                                                  : "the vendor's product");
        return LLCUDA_OK;
    }
    struct gpu_function_info info;
    uint32_t resident = 0;
    uint32_t threads = shape->block[0] * shape->block[1] * shape->block[2];
    llcuda_status status = driver->function_info(driver, launch->function, &info, error);
    if (status == LLCUDA_OK) {
        status = driver->function_occupancy(driver, launch->function, threads, shape->shared_bytes,
                                            &resident, error);
    }
    if (status != LLCUDA_OK) {
        return status;
    }
    gpu_program_name(&profile->model->program, launch->function, row->kernel, sizeof row->kernel);
    row->is_known = true;
    row->threads = threads;
    row->blocks = (uint64_t)shape->grid[0] * shape->grid[1] * shape->grid[2];
    row->registers = info.registers;
    row->local_bytes = info.local_bytes;
    row->shared_bytes = info.shared_bytes + shape->shared_bytes;
    row->blocks_resident = resident;
    row->occupancy = device->threads_multiprocessor_max
                         ? (double)resident * threads / device->threads_multiprocessor_max
                         : 0;
    return LLCUDA_OK;
}

/* Row `index` of those that a stage computes. */
static uint32_t row_at(const struct gpu_model *model, bool left, uint32_t index)
{
    uint32_t row = index;
    if (left) {
        memcpy(&row, model->staging + model->layout.wanted_rows + index * sizeof row, sizeof row);
    }
    return row;
}

/* Adds what a stage of the plan must read and multiply, of the rows that are left there. Of the
 * cache each sequence is read once, whose rows share it. */
static void add_cost(struct gpu_profile *profile, const struct plan_op *op,
                     struct device_profile_row *row)
{
    const struct gpu_model *model = profile->model;
    const struct plan *plan = model->base.plan;
    const struct step_batch *batch = profile->batch;
    enum dtype kv = model->base.options.kv_dtype;
    struct plan_op_weight slots[PLAN_OP_WEIGHTS_MAX];
    bool left = gpu_rows_leave_after(model, op);
    uint32_t rows = left ? step_batch_wanted(batch, NULL) : batch->row_count;
    uint64_t context = 0;
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t at = row_at(model, left, i);
        bool is_last =
            i + 1 == rows || batch->sequences[row_at(model, left, i + 1)] != batch->sequences[at];
        context += batch->positions[at] + 1ull;
        if (op->kind == PLAN_ATTENTION && is_last) {
            row->bytes += plan_op_cost(plan, op, 1, batch->positions[at] + 1ull, 0, kv).cache_bytes;
        }
    }
    const struct plan_cost cost = plan_op_cost(plan, op, rows, context, batch->logits_count, kv);
    row->operations += cost.flop;
    if (op->kind == PLAN_EXPERTS) { /* not all experts are read */
        row->bytes += cost.weight_bytes;
        return;
    }
    uint32_t count = plan_op_weights(op, slots);
    for (uint32_t i = 0; i < count && op->kind != PLAN_ATTENTION; i++) {
        const struct gpu_weight *weight = &model->weights[slots[i].weight];
        if (slots[i].is_matrix && (op->kind != PLAN_LOGITS || batch->logits_count != 0)) {
            uint64_t touched = (uint64_t)rows * op->experts.used_count;
            touched = touched < slots[i].count ? touched : slots[i].count;
            row->bytes += op->kind == PLAN_EMBED ? weight->row_bytes * rows
                          : slots[i].is_experts  ? weight->bytes * touched
                                                 : weight->bytes;
        }
    }
}

/* Elementary operations that a stage stands for: what would be launches without fusing. Biases,
 * head norms, rotary and the cache's write are done by attention. */
static uint32_t elementary(const struct plan_op *op, const struct plan_op *qkv)
{
    switch (op->kind) {
    case PLAN_EMBED:
        return op->embed.scale != 1.0f ? 2 : 1;
    case PLAN_QKV:
        return 4; /* norm, three products */
    case PLAN_ATTENTION: {
        /* Two cache writes, scores, softmax, values. */
        const bool more[] = {
            op->attention.soft_cap != 0,
            qkv->qkv.rotary != PLAN_ROTARY_NONE, /* of queries, of keys */
            qkv->qkv.rotary != PLAN_ROTARY_NONE,
            qkv->qkv.query_bias != PLAN_NONE,
            qkv->qkv.key_bias != PLAN_NONE,
            qkv->qkv.value_bias != PLAN_NONE,
            qkv->qkv.query_norm != PLAN_NONE,
            qkv->qkv.key_norm != PLAN_NONE,
        };
        uint32_t count = 5;
        for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
            count += more[i];
        }
        return count;
    }
    case PLAN_PROJECT:
        return 2u + (op->project.bias != PLAN_NONE) + (op->project.norm.weight != PLAN_NONE);
    case PLAN_FEED_FORWARD:
        return op->feed_forward.gate != PLAN_NONE ? 5 : 3;
    case PLAN_EXPERTS:
        /* Norm, router, choice; gate, up, activation, product, sum; of shared ones likewise. */
        return 8u + (op->experts.shared_gate != PLAN_NONE ? 5 : 0);
    case PLAN_LOGITS:
        return 2u + (op->logits.scale != 1.0f) + (op->logits.soft_cap != 0);
    case PLAN_OP_KIND_COUNT:
        break;
    }
    return 0;
}

/* The rows of stages: times they ran, what they read and multiply. */
static void add_stages(struct gpu_profile *profile)
{
    struct gpu_model *model = profile->model;
    const struct plan *plan = model->base.plan;
    const struct plan_op *qkv = NULL; /* a finished plan has it before its attention */
    for (uint32_t i = 0; i < plan->op_count; i++) {
        model->op = &plan->ops[i];
        qkv = model->op->kind == PLAN_QKV ? model->op : qkv;
        bool left = gpu_rows_leave_after(model, model->op);
        bool runs = model->op->kind == PLAN_LOGITS ? model->shape.logits_rows != 0
                    : left                         ? model->shape.wanted_rows != 0
                                                   : true;
        struct device_profile_row *row =
            &profile->rows[work_of(model, NULL)][dtype_of(model, model->op)];
        row->count += runs;
        if (runs) {
            add_cost(profile, model->op, row);
        }
        profile->steps.plan_operations += runs ? elementary(model->op, qkv) : 0;
    }
}

/* The time of every kind of launch goes to its stage and to its kernel. */
static llcuda_status time_kinds(struct gpu_profile *profile, struct llcuda_error *error)
{
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; i < profile->count && status == LLCUDA_OK; i++) {
        const struct launch *kind = &profile->launches[i];
        uint32_t launches = 0;
        bool is_first = true;
        for (uint32_t j = 0; j < profile->count && is_first; j++) {
            bool alike = is_alike(&profile->launches[j], kind);
            is_first = !alike || j >= i;
            launches += alike;
        }
        if (!is_first) {
            continue;
        }
        double ns = 0;
        status = time_alike(profile, kind, launches, &ns, error);
        struct device_profile_row *row = &profile->rows[kind->work][kind->dtype];
        row->ns += (uint64_t)ns;
        row->count += kind->work >= GPU_WORK_CHOOSE;
        profile->steps.kernel_ns += (uint64_t)ns;
        struct kernel *kernel = kernel_of(profile, kind);
        if (status == LLCUDA_OK && kernel) {
            kernel->row.launches += launches;
            kernel->row.ns += (uint64_t)ns;
            status = describe(profile, kind, &kernel->row, error);
        }
    }
    return status;
}

/* The whole step, from the host's first call until it knows that the device is done: as a graph,
 * and plainly. The best of a few. */
static llcuda_status time_steps(struct gpu_profile *profile, struct llcuda_error *error)
{
    struct gpu_model *model = profile->model;
    struct gpu_driver *driver = profile->driver;
    struct gpu_graph *graph = NULL;
    bool emulated = model->device->info.vendor == GPU_EMU;
    llcuda_status status = model->device->options.no_graphs
                               ? LLCUDA_OK
                               : capture_alike(profile, NULL, 1, &graph, error);
    uint64_t least[2] = {UINT64_MAX, UINT64_MAX};
    uint64_t submit[2] = {UINT64_MAX, UINT64_MAX};
    for (uint32_t i = 0; i < (emulated ? 2 : 2 * REPETITIONS_MAX) && status == LLCUDA_OK; i++) {
        uint64_t began = clock_now_ns();
        status = i % 2 == 0 && graph ? driver->graph_launch(driver, model->stream, graph, error)
                                     : gpu_step_launch(model, error);
        uint64_t submitted = clock_now_ns() - began;
        if (status == LLCUDA_OK) {
            status = gpu_model_wait(model, error);
        }
        uint64_t taken = clock_now_ns() - began;
        submit[i % 2] = submitted < submit[i % 2] ? submitted : submit[i % 2];
        least[i % 2] = taken < least[i % 2] ? taken : least[i % 2];
    }
    driver->graph_destroy(driver, graph);
    if (status == LLCUDA_OK) {
        profile->steps.has_graphs = graph != NULL;
        profile->steps.graph_ns += least[0];
        profile->steps.plain_ns += least[1];
        profile->steps.graph_submit_ns += submit[0];
        profile->steps.plain_submit_ns += submit[1];
    }
    return status;
}

llcuda_status gpu_profile_step(struct gpu_model *model, const struct step_batch *batch,
                               struct llcuda_error *error)
{
    struct gpu_profile *profile = model->profile;
    if (!profile) {
        return LLCUDA_OK;
    }
    profile->batch = batch;
    llcuda_status status = LLCUDA_OK;
    if (!profile->from) {
        status = profile->driver->event_create(profile->driver, true, &profile->from, error);
    }
    if (status == LLCUDA_OK && !profile->to) {
        status = profile->driver->event_create(profile->driver, true, &profile->to, error);
    }
    if (status == LLCUDA_OK) {
        status = record(profile, error);
    }
    if (status == LLCUDA_OK) {
        profile->steps.step_count++;
        profile->steps.launches += profile->count;
        add_stages(profile);
        status = time_kinds(profile, error);
    }
    return status == LLCUDA_OK ? time_steps(profile, error) : status;
}

/* --- the device's interface ------------------------------------------------------------------- */

static struct gpu_profile *create(struct gpu_model *model)
{
    struct gpu_profile *profile = calloc(1, sizeof *profile);
    if (profile) {
        profile->model = model;
        profile->driver = model->driver;
        profile->recorder.launch = record_launch;
        profile->recorder.tensor_map = model->driver->tensor_map ? make_map : NULL;
        if (model->driver->matmul_create) {
            profile->recorder.matmul_create = create_matmul;
            profile->recorder.matmul_run = record_matmul;
            profile->recorder.matmul_destroy = keep_matmul;
        }
    }
    return profile;
}

void gpu_profile_destroy(struct gpu_model *model)
{
    struct gpu_profile *profile = model->profile;
    model->profile = NULL;
    if (profile) {
        profile->driver->event_destroy(profile->driver, profile->from);
        profile->driver->event_destroy(profile->driver, profile->to);
        buffer_deinit(&profile->arguments);
        free(profile->launches);
        free(profile);
    }
}

uint32_t gpu_model_profile(struct device_model *base, struct device_profile_row *rows,
                           uint32_t capacity)
{
    struct gpu_model *model = (struct gpu_model *)base;
    struct gpu_profile *profile = model->profile;
    uint32_t count = 0;
    if (!profile) {
        model->profile = create(model);
        return 0;
    }
    for (int work = 0; work < GPU_WORK_COUNT; work++) {
        for (int dtype = 0; dtype < DTYPE_COUNT; dtype++) {
            const struct device_profile_row *row = &profile->rows[work][dtype];
            if (row->count && count < capacity) {
                rows[count] = *row;
                rows[count].operation = names[work];
                rows[count].has_dtype = work < GPU_WORK_CHOOSE;
                rows[count++].dtype = (enum dtype)dtype;
            }
        }
    }
    memset(profile->rows, 0, sizeof profile->rows);
    memset(&profile->steps, 0, sizeof profile->steps);
    profile->kernel_count = 0;
    return count;
}

/* A stage's cost stands with the kernel that takes most of its time. */
static bool is_main(const struct gpu_profile *profile, const struct kernel *kernel)
{
    for (uint32_t i = 0; i < profile->kernel_count; i++) {
        const struct kernel *other = &profile->kernels[i];
        if (other->work == kernel->work && other->dtype == kernel->dtype && other != kernel &&
            (other->row.ns > kernel->row.ns ||
             (other->row.ns == kernel->row.ns && other < kernel))) {
            return false;
        }
    }
    return true;
}

uint32_t gpu_model_profile_kernels(struct device_model *base, struct device_profile_steps *steps,
                                   struct device_profile_kernel *rows, uint32_t capacity)
{
    struct gpu_model *model = (struct gpu_model *)base;
    const struct gpu_profile *profile = model->profile;
    uint32_t count = 0;
    *steps = (struct device_profile_steps){0};
    if (!profile) {
        return 0;
    }
    *steps = profile->steps;
    for (int kind = 0; kind < DEVICE_MEMORY_KIND_COUNT; kind++) {
        steps->memory[kind].name = gpu_memory_kind_name((enum device_memory_kind)kind);
        steps->memory[kind].bytes = model->memory.bytes[kind];
    }
    steps->memory_count = DEVICE_MEMORY_KIND_COUNT;
    for (; count < profile->kernel_count && count < capacity; count++) {
        const struct kernel *kernel = &profile->kernels[count];
        const struct device_profile_row *stage = &profile->rows[kernel->work][kernel->dtype];
        rows[count] = kernel->row;
        rows[count].dtype = kernel->dtype;
        rows[count].has_dtype = kernel->work < GPU_WORK_CHOOSE;
        if (is_main(profile, kernel)) {
            rows[count].bytes = stage->bytes;
            rows[count].arithmetic_operations = stage->operations;
        }
    }
    return count;
}
