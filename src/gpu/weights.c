/* Owns the way of weights from the plan's bytes to the device: which type each has there, and the
 * copy while reading, through a ring of pinned memory that is filled while the device still takes
 * what was read before. Invariant: pages of a mapped file are dropped once they are copied, so that
 * weights never lie in host memory whole. One thread. Knows no kernels. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "gpu/model.h"
#include "tensor/quant.h"

#define RING_SLOTS          3u
#define SLOT_BYTES          (8ull << 20)
#define PAD_ROWS            16u  /* tensor cores take rows by sixteens */
#define PACKED_UNIT_COLUMNS 128u /* as in packed_formats.cuh */

/* --- choosing -------------------------------------------------------------------------------- */

static void mark_use(struct gpu_weight *weight, const struct plan_op *op,
                     const struct plan_op_weight *use)
{
    weight->is_vector = weight->is_vector || !use->is_matrix;
    weight->is_expert = weight->is_expert || use->is_experts;
    if (use->is_matrix && op->kind == PLAN_EMBED) {
        weight->is_embedding = true;
    } else if (use->is_matrix) {
        weight->is_matrix = true;
    }
}

static llcuda_status mark_uses(struct gpu_model *model, struct llcuda_error *error)
{
    const struct plan *plan = model->base.plan;
    for (uint32_t i = 0; i < plan->op_count; i++) {
        struct plan_op_weight used[PLAN_OP_WEIGHTS_MAX];
        uint32_t count = plan_op_weights(&plan->ops[i], used);
        for (uint32_t j = 0; j < count; j++) {
            for (uint32_t e = 0; e < used[j].count; e++) {
                const struct plan_weight *source = &plan->weights[used[j].weight + e];
                if (!source->data) {
                    return error_set(error, LLCUDA_INVALID_ARGUMENT, "weight '%.*s' has no data",
                                     TEXT_ARGUMENTS(source->name));
                }
                mark_use(&model->weights[used[j].weight + e], &plan->ops[i], &used[j]);
            }
        }
    }
    return LLCUDA_OK;
}

/* Activations have the type that most bytes of the matrices have: halves beside quantised ones,
 * bfloat16 beside 8-bit floats, whose models have the range of bfloat16. */
static enum dtype choose_activation(const struct gpu_model *model)
{
    const struct plan *plan = model->base.plan;
    uint64_t bytes[DTYPE_COUNT] = {0};
    for (uint32_t i = 0; i < plan->weight_count; i++) {
        if (model->weights[i].is_matrix) {
            enum dtype dtype = plan->weights[i].dtype;
            bool is_f8 = dtype == DTYPE_F8_E4M3 || dtype == DTYPE_F8_BLOCK;
            bool is_plain = dtype == DTYPE_F32 || dtype == DTYPE_BF16;
            bytes[is_plain ? dtype : is_f8 ? DTYPE_BF16 : DTYPE_F16] += plan->weights[i].bytes;
        }
    }
    enum dtype best = bytes[DTYPE_BF16] > bytes[DTYPE_F16] ? DTYPE_BF16 : DTYPE_F16;
    return bytes[DTYPE_F32] > bytes[best] ? DTYPE_F32 : best;
}

/* Types that kernels read as they are: weight_formats.cuh. */
static bool has_kernel(enum dtype dtype)
{
    static const bool known[DTYPE_COUNT] = {
        [DTYPE_F32] = true,  [DTYPE_F16] = true,   [DTYPE_BF16] = true,     [DTYPE_Q8_0] = true,
        [DTYPE_Q4_0] = true, [DTYPE_Q4_1] = true,  [DTYPE_Q5_0] = true,     [DTYPE_Q5_1] = true,
        [DTYPE_Q2_K] = true, [DTYPE_Q3_K] = true,  [DTYPE_Q4_K] = true,     [DTYPE_Q5_K] = true,
        [DTYPE_Q6_K] = true, [DTYPE_MXFP4] = true, [DTYPE_F8_BLOCK] = true,
    };
    return known[dtype];
}

/* Bytes of sixteen rows of so many columns in the order of packed_formats.cuh, and those that the
 * units of a record share. */
static const struct packed_form {
    uint32_t columns, bytes, ends;
} packed_forms[DTYPE_COUNT] = {
    [DTYPE_Q4_0] = {128, 1152, 0},  [DTYPE_Q8_0] = {128, 2176, 0},  [DTYPE_Q4_K] = {256, 2368, 64},
    [DTYPE_Q5_K] = {256, 2880, 64}, [DTYPE_Q6_K] = {256, 3360, 32}, [DTYPE_Q4_1] = {128, 1280, 0},
    [DTYPE_Q5_0] = {128, 1408, 0},  [DTYPE_Q5_1] = {128, 1536, 0},  [DTYPE_Q2_K] = {256, 1344, 64},
    [DTYPE_Q3_K] = {256, 1824, 32}, [DTYPE_MXFP4] = {128, 1088, 0},
};

bool gpu_dtype_packs(enum dtype dtype)
{
    return packed_forms[dtype].columns != 0;
}

bool gpu_dtype_has_row(enum dtype dtype)
{
    return gpu_dtype_packs(dtype) && dtype != DTYPE_MXFP4;
}

uint64_t gpu_packed_row_bytes(enum dtype dtype, uint64_t columns)
{
    return columns / packed_forms[dtype].columns * packed_forms[dtype].bytes / PAD_ROWS;
}

uint32_t gpu_packed_slot_bytes(enum dtype dtype)
{
    const struct packed_form *form = &packed_forms[dtype];
    return (form->bytes - form->ends) / (form->columns / PACKED_UNIT_COLUMNS) + form->ends;
}

/* What the sums of linear_packed.cu need of shared memory; what else a block declares. */
#define PACKED_SHARED_BYTES ((64u << 10) + (4u << 10))

/* Kernels that read packed weights multiply halves, and nothing else can: the device must have room
 * for them. A deterministic device has one kernel for all numbers of rows, which reads what is
 * published. */
static bool can_pack(const struct gpu_model *model, const struct plan_weight *source,
                     const struct gpu_weight *weight)
{
    const struct packed_form *form = &packed_forms[weight->dtype];
    return form->columns != 0 && source->columns % form->columns == 0 && weight->is_matrix &&
           model->activation == DTYPE_F16 && !model->device->options.deterministic &&
           model->device->info.shared_bytes_block_max >= PACKED_SHARED_BYTES &&
           model->device->options.linear != GPU_LINEAR_PLAIN;
}

/* A matrix of another type becomes what activations are: nothing smaller holds all its values. */
static enum dtype choose_type(const struct gpu_model *model, const struct plan_weight *source,
                              const struct gpu_weight *weight)
{
    if (weight->is_vector) {
        return DTYPE_F32;
    }
    if (has_kernel(source->dtype)) {
        return source->dtype;
    }
    if (source->dtype == DTYPE_F8_E4M3 && model->activation != DTYPE_F32 &&
        source->columns % 128 == 0 &&
        (source->scales.columns_each % 128 == 0 ||
         source->scales.columns_each == source->columns)) {
        return DTYPE_F8_BLOCK; /* the same values, scales beside them */
    }
    return model->activation; /* told when it is loaded */
}

/* Weights of the layers of another device have no use here. */
static bool is_used(const struct gpu_weight *weight)
{
    return weight->is_matrix || weight->is_vector || weight->is_embedding;
}

static void set_bytes(struct gpu_weight *weight, const struct plan_weight *source, bool is_packed)
{
    weight->is_packed = is_packed;
    if (is_packed) {
        weight->row_bytes = gpu_packed_row_bytes(weight->dtype, source->columns);
    } else {
        dtype_row_bytes(weight->dtype, source->columns, &weight->row_bytes);
    }
    weight->bytes = weight->row_bytes * source->rows;
}

/* Gate and up of experts go through one kernel, which reads them in one form. */
static void unpack_mixed_experts(struct gpu_model *model)
{
    const struct plan *plan = model->base.plan;
    for (uint32_t i = 0; i < plan->op_count; i++) {
        const struct plan_op *op = &plan->ops[i];
        if (op->kind != PLAN_EXPERTS ||
            model->weights[op->experts.gate].dtype == model->weights[op->experts.up].dtype) {
            continue;
        }
        for (uint32_t e = 0; e < 2 * op->experts.expert_count; e++) {
            uint32_t index = (e % 2 ? op->experts.up : op->experts.gate) + e / 2;
            set_bytes(&model->weights[index], &plan->weights[index], false);
        }
    }
}

llcuda_status gpu_weights_choose(struct gpu_model *model, struct llcuda_error *error)
{
    const struct plan *plan = model->base.plan;
    llcuda_status status = mark_uses(model, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    model->activation = choose_activation(model);
    for (uint32_t i = 0; i < plan->weight_count; i++) {
        struct gpu_weight *weight = &model->weights[i];
        if (!is_used(weight)) {
            continue;
        }
        weight->dtype = choose_type(model, &plan->weights[i], weight);
        if (!dtype_row_bytes(weight->dtype, plan->weights[i].columns, &weight->row_bytes)) {
            return error_set(error, LLCUDA_BAD_FORMAT, "weight '%.*s' has rows of no whole blocks",
                             TEXT_ARGUMENTS(plan->weights[i].name));
        }
        set_bytes(weight, &plan->weights[i], can_pack(model, &plan->weights[i], weight));
        bool is_read = (weight->is_matrix || weight->is_vector) && !weight->is_expert;
        model->step_weight_bytes += is_read ? weight->bytes : 0;
    }
    unpack_mixed_experts(model);
    return LLCUDA_OK;
}

uint64_t gpu_weight_stored_bytes(const struct gpu_model *model, uint32_t index)
{
    const struct gpu_weight *weight = &model->weights[index];
    uint64_t rows = model->base.plan->weights[index].rows;
    if (!is_used(weight)) {
        return 0;
    }
    if (weight->is_matrix) {
        rows = (rows + PAD_ROWS - 1) / PAD_ROWS * PAD_ROWS;
    }
    return rows * weight->row_bytes;
}

/* --- uploading ------------------------------------------------------------------------------- */

struct slot {
    unsigned char *memory;   /* pinned, slot_bytes */
    struct gpu_event *taken; /* recorded after the copy */
    bool in_use;
};

struct upload {
    struct gpu_model *model;
    const struct device_progress *progress;
    struct llcuda_error *error;
    struct slot slots[RING_SLOTS];
    uint64_t slot_bytes;
    uint32_t next;
    float *row;         /* one row of any weight that is converted */
    uint64_t published; /* device memory of slot_bytes: rows that are packed next; or 0 */
    uint64_t done_bytes, total_bytes;
};

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void ring_release(struct upload *upload)
{
    struct gpu_driver *driver = upload->model->driver;
    for (uint32_t i = 0; i < RING_SLOTS; i++) {
        driver->event_destroy(driver, upload->slots[i].taken);
        driver->host_free(driver, upload->slots[i].memory);
    }
    if (upload->published != 0) {
        driver->memory_free(driver, upload->published);
    }
    free(upload->row);
}

static llcuda_status ring_make(struct upload *upload)
{
    const struct plan *plan = upload->model->base.plan;
    struct gpu_driver *driver = upload->model->driver;
    uint64_t columns = 1;
    upload->slot_bytes = SLOT_BYTES;
    for (uint32_t i = 0; i < plan->weight_count; i++) {
        const struct gpu_weight *weight = &upload->model->weights[i];
        if (is_used(weight)) {
            columns = plan->weights[i].columns > columns ? plan->weights[i].columns : columns;
            uint64_t least =
                larger(weight->row_bytes, plan->weights[i].bytes / plan->weights[i].rows) *
                PAD_ROWS;
            upload->slot_bytes = larger(upload->slot_bytes, least);
            upload->total_bytes += plan->weights[i].bytes;
        }
    }
    upload->row = malloc(columns * sizeof *upload->row);
    if (!upload->row) {
        return error_no_memory(upload->error, "a row of weights", columns * sizeof *upload->row);
    }
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; i < RING_SLOTS && status == LLCUDA_OK; i++) {
        struct slot *slot = &upload->slots[i];
        void *memory = NULL;
        status = driver->host_alloc(driver, upload->slot_bytes, &memory, upload->error);
        slot->memory = memory;
        if (status == LLCUDA_OK) {
            status = driver->event_create(driver, false, &slot->taken, upload->error);
        }
    }
    return status;
}

static llcuda_status report(struct upload *upload, uint64_t bytes)
{
    const struct device_progress *progress = upload->progress;
    upload->done_bytes += bytes;
    if (progress && progress->report &&
        !progress->report(progress->user, upload->done_bytes, upload->total_bytes)) {
        return error_set(upload->error, LLCUDA_CANCELLED, "loading was cancelled");
    }
    return LLCUDA_OK;
}

/* A row of 8-bit floats with its scales beside every 128 values. */
static void block_row(const struct plan_weight *source, uint64_t row, const unsigned char *from,
                      unsigned char *to)
{
    for (uint64_t column = 0; column < source->columns; column += 128) {
        float scale = plan_weight_scale(source, row, column);
        memcpy(to, &scale, sizeof scale);
        memcpy(to + sizeof scale, from + column, 128);
        to += sizeof scale + 128;
    }
}

/* Rows [begin, begin + count) of the source in the device's type. */
static void convert_rows(struct upload *upload, const struct plan_weight *source,
                         const struct gpu_weight *weight, uint64_t begin, uint64_t count, void *out)
{
    uint64_t row_bytes = source->bytes / source->rows;
    const unsigned char *from = (const unsigned char *)source->data + begin * row_bytes;
    if (weight->dtype == source->dtype) {
        memcpy(out, from, count * row_bytes);
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        unsigned char *to = (unsigned char *)out + i * weight->row_bytes;
        if (source->dtype == DTYPE_F8_E4M3 && weight->dtype == DTYPE_F8_BLOCK) {
            block_row(source, begin + i, from + i * row_bytes, to);
            continue;
        }
        plan_weight_row(source, begin + i, upload->row);
        quantize_row(weight->dtype, upload->row, NULL, to, source->columns);
    }
}

/* The next slot of the ring, once the device has taken what was in it. */
static llcuda_status slot_acquire(struct upload *upload, struct slot **slot)
{
    struct gpu_driver *driver = upload->model->driver;
    *slot = &upload->slots[upload->next++ % RING_SLOTS];
    if (!(*slot)->in_use) {
        return LLCUDA_OK;
    }
    return driver->event_wait(driver, (*slot)->taken, 0, upload->error);
}

/* `count` rows of a weight from upload->published to their place. */
static llcuda_status repack(struct upload *upload, uint32_t index, uint64_t count, uint64_t to)
{
    const struct plan_weight *source = &upload->model->base.plan->weights[index];
    const struct gpu_weight *weight = &upload->model->weights[index];
    const struct repack_arguments arguments = {
        .weight = upload->published,
        .output = to,
        .row_bytes = source->bytes / source->rows,
        .rows = (uint32_t)count,
    };
    const uint32_t grid[3] = {(uint32_t)(source->columns / PACKED_UNIT_COLUMNS),
                              (uint32_t)((count + PAD_ROWS - 1) / PAD_ROWS), 1};
    return gpu_launch(upload->model, GPU_KERNEL_REPACK + weight->dtype, grid, &arguments,
                      sizeof arguments, upload->error);
}

static llcuda_status upload_piece(struct upload *upload, uint32_t index, uint64_t begin,
                                  uint64_t count)
{
    struct gpu_model *model = upload->model;
    struct gpu_driver *driver = model->driver;
    const struct plan_weight *source = &model->base.plan->weights[index];
    const struct gpu_weight *weight = &model->weights[index];
    uint64_t source_bytes = source->bytes / source->rows * count;
    struct slot *slot;
    llcuda_status status = slot_acquire(upload, &slot);
    if (status != LLCUDA_OK) {
        return status;
    }
    convert_rows(upload, source, weight, begin, count, slot->memory);
    uint64_t to = weight->address + begin * weight->row_bytes;
    status = driver->copy_in(
        driver, model->stream, weight->is_packed ? upload->published : to, slot->memory,
        weight->is_packed ? source_bytes : count * weight->row_bytes, upload->error);
    if (status == LLCUDA_OK) {
        status = driver->event_record(driver, slot->taken, model->stream, upload->error);
        slot->in_use = true;
    }
    if (status == LLCUDA_OK && weight->is_packed) {
        status = repack(upload, index, count, to);
    }
    if (model->base.plan->weights_mapped) {
        file_pages_drop((const unsigned char *)source->data +
                            begin * (source->bytes / source->rows),
                        source_bytes);
    }
    return status == LLCUDA_OK ? report(upload, source_bytes) : status;
}

/* Gives weights that one product can do together one piece of memory, one after another. */
static llcuda_status place_together(struct upload *upload, const uint32_t *indices, uint32_t count)
{
    struct gpu_model *model = upload->model;
    const struct gpu_weight *first = &model->weights[indices[0]];
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct gpu_weight *weight = &model->weights[indices[i]];
        uint64_t stored = gpu_weight_stored_bytes(model, indices[i]);
        if (weight->address != 0 || weight->dtype != first->dtype ||
            weight->row_bytes != first->row_bytes || (i + 1 < count && stored != weight->bytes)) {
            return LLCUDA_OK; /* they stay apart */
        }
        total += stored;
    }
    uint64_t address;
    llcuda_status status =
        gpu_memory_take(model, DEVICE_MEMORY_WEIGHTS, total, "weights", &address, upload->error);
    for (uint32_t i = 0; i < count && status == LLCUDA_OK; i++) {
        model->weights[indices[i]].address = address;
        address += gpu_weight_stored_bytes(model, indices[i]);
    }
    return status;
}

/* The matrices of a stage's experts lie one after another, each padded to whole tiles. */
static llcuda_status place_experts(struct upload *upload, uint32_t first, uint32_t count)
{
    struct gpu_model *model = upload->model;
    uint64_t stored = gpu_weight_stored_bytes(model, first);
    uint64_t address;
    if (model->weights[first].address != 0) {
        return LLCUDA_OK;
    }
    llcuda_status status = gpu_memory_take(model, DEVICE_MEMORY_WEIGHTS, stored * count, "experts",
                                           &address, upload->error);
    for (uint32_t i = 0; i < count && status == LLCUDA_OK; i++) {
        model->weights[first + i].address = address + i * stored;
    }
    return status;
}

static llcuda_status place_all(struct upload *upload)
{
    const struct plan *plan = upload->model->base.plan;
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; i < plan->op_count && status == LLCUDA_OK; i++) {
        const struct plan_op *op = &plan->ops[i];
        if (op->kind == PLAN_QKV) {
            const uint32_t parts[3] = {op->qkv.query, op->qkv.key, op->qkv.value};
            status = place_together(upload, parts, 3);
        } else if (op->kind == PLAN_FEED_FORWARD && op->feed_forward.gate != PLAN_NONE) {
            const uint32_t parts[2] = {op->feed_forward.gate, op->feed_forward.up};
            status = place_together(upload, parts, 2);
        } else if (op->kind == PLAN_EXPERTS) {
            const uint32_t firsts[3] = {op->experts.gate, op->experts.up, op->experts.down};
            for (int j = 0; j < 3 && status == LLCUDA_OK; j++) {
                status = place_experts(upload, firsts[j], op->experts.expert_count);
            }
        }
    }
    return status;
}

static llcuda_status upload_weight(struct upload *upload, uint32_t index)
{
    struct gpu_model *model = upload->model;
    struct gpu_driver *driver = model->driver;
    const struct plan_weight *source = &model->base.plan->weights[index];
    struct gpu_weight *weight = &model->weights[index];
    uint64_t stored = gpu_weight_stored_bytes(model, index);
    llcuda_status status = LLCUDA_OK;
    if (weight->address == 0) {
        status = gpu_memory_take(model, DEVICE_MEMORY_WEIGHTS, stored, "a weight", &weight->address,
                                 upload->error);
    }
    if (status == LLCUDA_OK && weight->is_packed && upload->published == 0) {
        status = gpu_program_finish_repack(model, upload->error);
        if (status == LLCUDA_OK) {
            status =
                driver->memory_alloc(driver, upload->slot_bytes, &upload->published, upload->error);
        }
    }
    if (status == LLCUDA_OK && !weight->is_packed && stored > weight->bytes) {
        status = driver->fill(driver, model->stream, weight->address + weight->bytes, 0,
                              stored - weight->bytes, upload->error);
    }
    uint64_t most = larger(weight->row_bytes, source->bytes / source->rows);
    uint64_t piece = upload->slot_bytes / most / PAD_ROWS * PAD_ROWS;
    for (uint64_t row = 0; row < source->rows && status == LLCUDA_OK; row += piece) {
        uint64_t rows = source->rows - row < piece ? source->rows - row : piece;
        status = upload_piece(upload, index, row, rows);
    }
    return status;
}

/* The frequencies of rotary tables, small floats beside the weights. */
static llcuda_status upload_frequencies(struct upload *upload)
{
    struct gpu_model *model = upload->model;
    struct gpu_driver *driver = model->driver;
    const struct plan *plan = model->base.plan;
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; i < plan->rotary_table_count && status == LLCUDA_OK; i++) {
        uint64_t bytes = plan->rotary_tables[i].size / 2 * sizeof(float);
        if (bytes == 0) {
            continue;
        }
        status = gpu_memory_take(model, DEVICE_MEMORY_WEIGHTS, bytes, "rotary frequencies",
                                 &model->frequencies[i], upload->error);
        if (status == LLCUDA_OK) {
            status = driver->copy_in(driver, model->stream, model->frequencies[i],
                                     plan->rotary_tables[i].frequencies, bytes, upload->error);
        }
    }
    return status;
}

/* Says which types of matrices no kernel reads, and what that costs. */
static void tell_conversions(const struct gpu_model *model)
{
    const struct plan *plan = model->base.plan;
    for (int dtype = 0; dtype < DTYPE_COUNT; dtype++) {
        uint64_t from = 0;
        uint64_t to = 0;
        uint32_t count = 0;
        for (uint32_t i = 0; i < plan->weight_count; i++) {
            const struct gpu_weight *weight = &model->weights[i];
            if (is_used(weight) && !weight->is_vector &&
                plan->weights[i].dtype == (unsigned)dtype && weight->dtype == model->activation &&
                weight->dtype != plan->weights[i].dtype) {
                from += plan->weights[i].bytes;
                to += weight->bytes;
                count++;
            }
        }
        if (count != 0) {
            log_message(model->device->options.log, LOG_WARN,
                        "no kernel of the GPU reads %s: %u weights become %s there, %" PRIu64
                        " MB instead of %" PRIu64,
                        dtype_info((enum dtype)dtype)->name, count,
                        dtype_info(model->activation)->name, to >> 20, from >> 20);
        }
    }
}

llcuda_status gpu_weights_upload(struct gpu_model *model, const struct device_progress *progress,
                                 struct llcuda_error *error)
{
    struct upload upload = {.model = model, .progress = progress, .error = error};
    tell_conversions(model);
    llcuda_status status = ring_make(&upload);
    if (status == LLCUDA_OK) {
        status = upload_frequencies(&upload);
    }
    if (status == LLCUDA_OK) {
        status = place_all(&upload);
    }
    for (uint32_t i = 0; i < model->base.plan->weight_count && status == LLCUDA_OK; i++) {
        if (is_used(&model->weights[i])) {
            status = upload_weight(&upload, i);
        }
    }
    /* The ring may go only when nothing is copied from it any more, also after a failure. */
    struct llcuda_error ignored;
    llcuda_status waited = model->driver->stream_wait(model->driver, model->stream, 0,
                                                      status == LLCUDA_OK ? error : &ignored);
    ring_release(&upload);
    return status == LLCUDA_OK ? waited : status;
}
