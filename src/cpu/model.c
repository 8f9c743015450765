/* Owns loading: which kernel serves a weight, packing, the cache and the workspace. Invariant: at
 * no time do the packed copy and the mapped pages of more than one piece of a weight lie in memory
 * together. The thread that loads is worker 0 of the pool. Knows no model's name. */
#include "cpu/model.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "tensor/quant.h"

/* Source bytes that are packed before their pages are dropped and progress is reported … */
#define PIECE_BYTES (32u << 20)
/* … and of one work item. */
#define ITEM_BYTES (512u << 10)

/* Positions are counted in 32 bits, with room to add a partition. */
#define KV_BLOCKS_MAX (1u << 27)

struct load {
    struct cpu_model *model;
    const struct device_progress *progress;
    struct llcuda_error *error;
    uint64_t done_bytes, total_bytes;
};

static llcuda_status check_options(const struct plan *plan,
                                   const struct device_model_options *options,
                                   struct llcuda_error *error)
{
    enum dtype kv = options->kv_dtype;
    if (kv == DTYPE_F8_E4M3) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "a cache of 8-bit floats is for GPUs: on the CPU use q8_0, which has the "
                         "same size and is more exact");
    }
    if (kv != DTYPE_F16 && kv != DTYPE_F32 && kv != DTYPE_BF16 && kv != DTYPE_Q8_0) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "a cache of type %s is not supported: use f16, bf16, f32 or q8_0",
                         (unsigned)kv < DTYPE_COUNT ? dtype_info(kv)->name : "unknown");
    }
    if (options->rows_max == 0 || options->logits_rows_max == 0 || options->kv_block_count == 0) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "a model needs at least one row, one row of logits and one cache block");
    }
    if (options->kv_block_count > KV_BLOCKS_MAX) {
        return error_set(error, LLCUDA_LIMIT, "%u cache blocks; at most %u are possible",
                         options->kv_block_count, KV_BLOCKS_MAX);
    }
    if (plan->op_count == 0 || plan->head_size == 0) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "the plan is not finished");
    }
    return LLCUDA_OK;
}

/* --- choosing ------------------------------------------------------------------------------- */

/* 8-bit floats become bfloat16, which holds their values but for the rounding of the scale. */
static enum dtype held_type(enum dtype dtype)
{
    return dtype == DTYPE_F8_E4M3 || dtype == DTYPE_F8_BLOCK ? DTYPE_BF16 : dtype;
}

static llcuda_status choose_kernel(struct cpu_model *model, uint32_t index,
                                   struct llcuda_error *error)
{
    const struct plan_weight *source = &model->base.plan->weights[index];
    struct cpu_weight *weight = &model->weights[index];
    enum dtype dtype = held_type(source->dtype);
    weight->kernel = linear_kernel_choose(dtype, source->columns, &model->device->features);
    if (!weight->kernel) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "weight '%.*s' of type %s with %llu columns: no kernel for it",
                         TEXT_ARGUMENTS(source->name), dtype_info(source->dtype)->name,
                         (unsigned long long)source->columns);
    }
    uint64_t group = weight->kernel->row_group;
    uint64_t packed = weight->kernel->packed_bytes(source->rows, source->columns);
    weight->rows = source->rows;
    weight->columns = source->columns;
    uint64_t row_bytes = source->bytes / source->rows;
    dtype_row_bytes(dtype, source->columns, &row_bytes);
    weight->group_bytes =
        packed ? packed / ((source->rows + group - 1) / group) : row_bytes * group;
    return LLCUDA_OK;
}

/* Floats that a vector, or a table of several rows, takes. */
static uint64_t vector_room(const struct plan_weight *source)
{
    return (source->rows * source->columns + 15) / 16 * 16;
}

/* Gives every weight that a stage multiplies with its kernel, and counts what small vectors need.
 */
static llcuda_status choose_kernels(struct cpu_model *model, uint64_t *vector_floats,
                                    struct llcuda_error *error)
{
    const struct plan *plan = model->base.plan;
    *vector_floats = 0;
    for (uint32_t i = 0; i < plan->op_count; i++) {
        struct plan_op_weight used[PLAN_OP_WEIGHTS_MAX];
        uint32_t count = plan_op_weights(&plan->ops[i], used);
        for (uint32_t j = 0; j < count; j++) {
            const struct plan_weight *source = &plan->weights[used[j].weight];
            if (!source->data) {
                return error_set(error, LLCUDA_INVALID_ARGUMENT, "weight '%.*s' has no data",
                                 TEXT_ARGUMENTS(source->name));
            }
            if (!used[j].is_matrix) {
                *vector_floats += vector_room(source);
                continue;
            }
            llcuda_status status = LLCUDA_OK;
            bool is_new = plan->ops[i].kind != PLAN_EMBED && !model->weights[used[j].weight].kernel;
            for (uint32_t e = 0; is_new && e < used[j].count && !status; e++) {
                status = choose_kernel(model, used[j].weight + e, error);
            }
            if (status != LLCUDA_OK) {
                return status;
            }
        }
    }
    return LLCUDA_OK;
}

static void convert_vectors(struct cpu_model *model)
{
    const struct plan *plan = model->base.plan;
    float *next = model->vectors.data;
    for (uint32_t i = 0; i < plan->op_count; i++) {
        struct plan_op_weight used[PLAN_OP_WEIGHTS_MAX];
        uint32_t count = plan_op_weights(&plan->ops[i], used);
        for (uint32_t j = 0; j < count; j++) {
            const struct plan_weight *source = &plan->weights[used[j].weight];
            struct cpu_weight *weight = &model->weights[used[j].weight];
            if (!used[j].is_matrix && !weight->vector) {
                for (uint64_t row = 0; row < source->rows; row++) {
                    plan_weight_row(source, row, next + row * source->columns);
                }
                weight->vector = next;
                next += vector_room(source);
            }
        }
    }
}

/* --- packing -------------------------------------------------------------------------------- */

/* A weight is packed in shares, one a worker: the rows that this worker will multiply, so that on a
 * machine with several nodes of memory pages lie with who reads them (the system places a page
 * where it is first written). A piece is so many rows of every share. */
struct pack {
    const struct linear_kernel *kernel;
    const struct plan_weight *source;
    void *packed;
    uint64_t share_rows;
    uint64_t begin, end;            /* of the piece, in rows of a share */
    uint64_t item_rows, item_count; /* of one share */
};

/* Rows [begin, end) of a share's part of the piece, from its `skip`-th on, as rows of the weight.
 */
static void piece_rows(const struct pack *pack, uint64_t share, uint64_t skip, uint64_t *begin,
                       uint64_t *end)
{
    uint64_t first = share * pack->share_rows;
    *begin = first + pack->begin + skip;
    *end = first + pack->end;
    *end = *end < pack->source->rows ? *end : pack->source->rows;
    *begin = *begin < *end ? *begin : *end;
}

static void pack_item(void *context, uint32_t worker, uint64_t item)
{
    (void)worker;
    const struct pack *pack = context;
    uint64_t begin;
    uint64_t end;
    piece_rows(pack, item / pack->item_count, item % pack->item_count * pack->item_rows, &begin,
               &end);
    end = end - begin > pack->item_rows ? begin + pack->item_rows : end;
    if (begin < end) {
        pack->kernel->pack(pack->source->data, pack->source->rows, pack->source->columns, begin,
                           end, pack->packed);
    }
}

static uint64_t group_rows(uint64_t bytes, uint64_t row_bytes, uint64_t group)
{
    uint64_t rows = bytes / row_bytes;
    return rows < group ? group : rows / group * group;
}

static llcuda_status report(struct load *load, uint64_t bytes)
{
    load->done_bytes += bytes;
    const struct device_progress *progress = load->progress;
    if (progress && progress->report &&
        !progress->report(progress->user, load->done_bytes, load->total_bytes)) {
        return error_set(load->error, LLCUDA_CANCELLED, "loading was cancelled");
    }
    return LLCUDA_OK;
}

/* Rows of a weight that no kernel takes as it is, in the type that it is held in. */
struct conversion {
    const struct plan_weight *source;
    float *rows; /* one a worker */
    uint16_t *out;
};

static void convert_row(void *context, uint32_t worker, uint64_t row)
{
    const struct conversion *conversion = context;
    uint64_t columns = conversion->source->columns;
    float *values = conversion->rows + worker * columns;
    plan_weight_row(conversion->source, row, values);
    for (uint64_t i = 0; i < columns; i++) {
        conversion->out[row * columns + i] = float_to_bf16(values[i]);
    }
}

/* `weight` becomes bfloat16 in `memory`, which the caller unmaps, also after a failure. */
static llcuda_status convert_weight(struct load *load, struct plan_weight *weight,
                                    struct region *memory)
{
    struct pool *pool = load->model->device->pool;
    uint64_t bytes = weight->rows * weight->columns * sizeof(uint16_t);
    struct conversion conversion = {.source = weight};
    conversion.rows = calloc(pool_thread_count(pool), weight->columns * sizeof(float));
    if (!conversion.rows || !region_map(memory, bytes)) {
        free(conversion.rows);
        return error_no_memory(load->error, "a converted weight", bytes);
    }
    conversion.out = memory->data;
    pool_run(pool, weight->rows, convert_row, &conversion);
    free(conversion.rows);
    weight->dtype = DTYPE_BF16;
    weight->data = memory->data;
    weight->bytes = bytes;
    weight->scales = (struct plan_scales){0};
    return LLCUDA_OK;
}

/* Gives back the mapped pages that a piece came from, and reports it. */
static llcuda_status drop_piece(struct load *load, const struct pack *pack, uint64_t shares,
                                uint64_t row_bytes, bool is_mapped)
{
    uint64_t rows = 0;
    for (uint64_t share = 0; share < shares; share++) {
        uint64_t begin;
        uint64_t end;
        piece_rows(pack, share, 0, &begin, &end);
        rows += end - begin;
        if (is_mapped && begin < end) {
            file_pages_drop((const unsigned char *)pack->source->data + begin * row_bytes,
                            (end - begin) * row_bytes);
        }
    }
    return report(load, rows * row_bytes);
}

/* `file_row_bytes`: of a row in the file, which progress is counted in. */
static llcuda_status pack_rows(struct load *load, const struct plan_weight *source,
                               struct cpu_weight *weight, uint64_t file_row_bytes, bool is_mapped)
{
    struct cpu_model *model = load->model;
    const struct linear_kernel *kernel = weight->kernel;
    uint64_t row_bytes = source->bytes / source->rows;
    uint64_t group = kernel->row_group;
    uint64_t shares = pool_thread_count(model->device->pool);
    struct pack pack = {.kernel = kernel,
                        .source = source,
                        .packed = weight->packed_data,
                        .share_rows =
                            (source->rows + shares * group - 1) / (shares * group) * group,
                        .item_rows = group_rows(ITEM_BYTES, row_bytes, group)};
    uint64_t most = group_rows(PIECE_BYTES / shares, row_bytes, group);
    llcuda_status status = LLCUDA_OK;
    for (; pack.begin < pack.share_rows && status == LLCUDA_OK; pack.begin = pack.end) {
        uint64_t rest = pack.share_rows - pack.begin;
        pack.end = pack.begin + (rest < most ? rest : most);
        pack.item_count = (pack.end - pack.begin + pack.item_rows - 1) / pack.item_rows;
        pool_run(model->device->pool, shares * pack.item_count, pack_item, &pack);
        status = drop_piece(load, &pack, shares, file_row_bytes, is_mapped);
    }
    return status;
}

static llcuda_status pack_weight(struct load *load, uint32_t index)
{
    struct cpu_model *model = load->model;
    struct plan_weight source = model->base.plan->weights[index];
    struct cpu_weight *weight = &model->weights[index];
    const struct linear_kernel *kernel = weight->kernel;
    uint64_t packed_bytes = kernel->packed_bytes(source.rows, source.columns);
    const uint64_t file_bytes = source.bytes;
    struct region converted = {0};
    bool converts = held_type(source.dtype) != source.dtype;
    llcuda_status status = converts ? convert_weight(load, &source, &converted) : LLCUDA_OK;
    if (status == LLCUDA_OK && packed_bytes == 0) {
        weight->converted = converted; /* empty when the file's rows are used as they are */
        weight->data = source.data;
        return report(load, file_bytes);
    }
    if (status == LLCUDA_OK) {
        weight->data = weight->packed_data;
        status = pack_rows(load, &source, weight, file_bytes / source.rows,
                           model->base.plan->weights_mapped && !converts);
    }
    region_unmap(&converted);
    return status;
}

static llcuda_status pack_weights(struct load *load)
{
    struct cpu_model *model = load->model;
    uint32_t count = model->base.plan->weight_count;
    for (uint32_t i = 0; i < count; i++) {
        load->total_bytes += model->weights[i].kernel ? model->base.plan->weights[i].bytes : 0;
    }
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; i < count && status == LLCUDA_OK; i++) {
        if (model->weights[i].kernel) {
            status = pack_weight(load, i);
        }
    }
    return status;
}

/* --- memory --------------------------------------------------------------------------------- */

static bool plan_cache(struct cpu_model *model, uint64_t *bytes)
{
    const struct plan *plan = model->base.plan;
    const struct device_model_options *options = &model->base.options;
    struct kv_layer *kv = &model->kv;
    kv->dtype = options->kv_dtype;
    kv->kv_head_count = plan->kv_head_count;
    kv->head_size = plan->head_size;
    kv->head_bytes = kv_head_bytes(kv->dtype, kv->head_size);
    return checked_mul_u64(kv->head_bytes, kv->kv_head_count, &kv->block_bytes) &&
           checked_mul_u64(kv->block_bytes, options->kv_block_count, &model->layer_bytes) &&
           checked_mul_u64(model->layer_bytes, plan->layer_count, bytes);
}

/* Packed weights lie one behind the other, from a line of the cache on: in one region, so that
 * huge pages hold all of them but the tail of the last, and so that a model of thousands of experts
 * meets no limit of maps. `packed` may be NULL: then they are only counted. Saturates: weights come
 * from outside files. */
static uint64_t place_packed(struct cpu_model *model, unsigned char *packed)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < model->base.plan->weight_count; i++) {
        struct cpu_weight *weight = &model->weights[i];
        uint64_t own =
            weight->kernel ? weight->kernel->packed_bytes(weight->rows, weight->columns) : 0;
        weight->packed_data = packed && own ? packed + bytes : NULL;
        if (own > UINT64_MAX - 63 || !checked_add_u64(bytes, (own + 63) / 64 * 64, &bytes)) {
            return UINT64_MAX;
        }
    }
    return bytes;
}

/* A refusal with numbers is better than the system's killer in the middle of an answer. */
static llcuda_status check_memory(uint64_t packed_bytes, uint64_t other_bytes,
                                  struct llcuda_error *error)
{
    uint64_t needed;
    uint64_t available = memory_free_bytes();
    if (!checked_add_u64(packed_bytes, other_bytes, &needed)) {
        needed = UINT64_MAX;
    }
    if (available != 0 && needed > available) {
        return error_set(error, LLCUDA_OUT_OF_MEMORY,
                         "the model needs %llu MB on the CPU and %llu MB are free: use a smaller "
                         "context or a smaller model",
                         (unsigned long long)(needed >> 20), (unsigned long long)(available >> 20));
    }
    return LLCUDA_OK;
}

/* Chooses kernels, and counts what everything but packed weights will take. */
static llcuda_status count(struct cpu_model *model, uint64_t *vector_floats, uint64_t *cache_bytes,
                           uint64_t *workspace_bytes, struct llcuda_error *error)
{
    uint64_t total;
    llcuda_status status = choose_kernels(model, vector_floats, error);
    if (status == LLCUDA_OK &&
        (!plan_cache(model, cache_bytes) || !cpu_workspace_plan(model, NULL, workspace_bytes) ||
         !checked_add_u64(*cache_bytes, *workspace_bytes, &total))) {
        status = error_set(error, LLCUDA_OUT_OF_MEMORY,
                           "the cache and workspace asked for exceed any memory");
    }
    return status;
}

static llcuda_status allocate(struct cpu_model *model, struct llcuda_error *error)
{
    uint64_t vector_floats;
    uint64_t cache_bytes;
    uint64_t workspace_bytes;
    llcuda_status status = count(model, &vector_floats, &cache_bytes, &workspace_bytes, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    uint64_t packed_bytes = place_packed(model, NULL);
    status = check_memory(packed_bytes, cache_bytes + workspace_bytes, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    if (!region_map(&model->packed, packed_bytes)) {
        return error_no_memory(error, "packed weights", packed_bytes);
    }
    if (!region_map(&model->cache, cache_bytes)) {
        return error_no_memory(error, "the key-value cache", cache_bytes);
    }
    if (!region_map(&model->workspace, workspace_bytes)) {
        return error_no_memory(error, "the workspace", workspace_bytes);
    }
    if (!region_map(&model->vectors, vector_floats * sizeof(float))) {
        return error_no_memory(error, "norms and biases", vector_floats * sizeof(float));
    }
    place_packed(model, model->packed.data);
    model->kv.data = model->cache.data;
    cpu_workspace_plan(model, model->workspace.data, &workspace_bytes);
    return LLCUDA_OK;
}

llcuda_status cpu_model_place(struct device *device, const struct plan *plan,
                              const struct device_model_options *options,
                              struct device_part parts[DEVICE_PARTS_MAX], uint32_t *part_count,
                              struct llcuda_error *error)
{
    struct cpu_model model = {
        .base = {.interface = device->interface, .plan = plan, .options = *options},
        .device = (struct cpu_device *)device,
    };
    struct device_part *part = &parts[0];
    struct device_info info;
    uint64_t vector_floats;
    llcuda_status status = check_options(plan, options, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    model.weights = calloc(plan->weight_count, sizeof *model.weights);
    if (!model.weights) {
        return error_no_memory(error, "the weights' table",
                               plan->weight_count * sizeof *model.weights);
    }
    device_describe(device, &info);
    *part = (struct device_part){
        .layer_end = plan->layer_count,
        .embeds = !plan->takes_residual,
        .gives_logits = !plan->gives_residual,
        .available_bytes = info.memory_free_bytes,
    };
    memcpy(part->kind, info.kind, sizeof part->kind);
    memcpy(part->name, info.name, sizeof part->name);
    status = count(&model, &vector_floats, &part->bytes[DEVICE_MEMORY_CACHE],
                   &part->bytes[DEVICE_MEMORY_WORKSPACE], error);
    if (status == LLCUDA_OK) {
        uint64_t packed = place_packed(&model, NULL);
        if (!checked_add_u64(packed, vector_floats * sizeof(float),
                             &part->bytes[DEVICE_MEMORY_WEIGHTS])) {
            part->bytes[DEVICE_MEMORY_WEIGHTS] = UINT64_MAX;
        }
    }
    free(model.weights);
    *part_count = 1;
    return status;
}

llcuda_status cpu_model_load(struct device *device, const struct plan *plan,
                             const struct device_model_options *options,
                             const struct device_progress *progress, struct device_model **out,
                             struct llcuda_error *error)
{
    llcuda_status status = check_options(plan, options, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    struct cpu_model *model = calloc(1, sizeof *model);
    if (!model) {
        return error_no_memory(error, "a model", sizeof *model);
    }
    model->base =
        (struct device_model){.interface = device->interface, .plan = plan, .options = *options};
    model->device = (struct cpu_device *)device;
    model->weights = calloc(plan->weight_count, sizeof *model->weights);
    if (!model->weights) {
        status = error_no_memory(error, "the weights' table",
                                 plan->weight_count * sizeof *model->weights);
        goto fail;
    }
    status = allocate(model, error);
    if (status != LLCUDA_OK) {
        goto fail;
    }
    convert_vectors(model);
    struct load load = {.model = model, .progress = progress, .error = error};
    status = pack_weights(&load);
    if (status != LLCUDA_OK) {
        goto fail;
    }
    *out = &model->base;
    return LLCUDA_OK;
fail:
    cpu_model_unload(&model->base);
    return status;
}

void cpu_model_unload(struct device_model *base)
{
    struct cpu_model *model = (struct cpu_model *)base;
    for (uint32_t i = 0; model->weights && i < base->plan->weight_count; i++) {
        region_unmap(&model->weights[i].converted);
    }
    region_unmap(&model->packed);
    region_unmap(&model->vectors);
    region_unmap(&model->workspace);
    region_unmap(&model->cache);
    free(model->weights);
    free(model);
}

uint64_t cpu_model_weight_bytes_read(const struct device_model *base)
{
    const struct cpu_model *model = (const struct cpu_model *)base;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < pool_thread_count(model->device->pool); i++) {
        bytes += model->workers[i].weight_bytes_read;
    }
    return bytes;
}

void cpu_model_memory(const struct device_model *base, struct device_memory *memory)
{
    const struct cpu_model *model = (const struct cpu_model *)base;
    memory->bytes[DEVICE_MEMORY_CACHE] = model->cache.bytes;
    memory->bytes[DEVICE_MEMORY_WORKSPACE] = model->workspace.bytes;
    memory->bytes[DEVICE_MEMORY_WEIGHTS] = model->vectors.bytes + model->packed.bytes;
    for (uint32_t i = 0; i < base->plan->weight_count; i++) {
        memory->bytes[DEVICE_MEMORY_WEIGHTS] += model->weights[i].converted.bytes;
    }
}
