/* Owns a step from the batch to the logits: the shape that its launches are made for, its data in
 * one piece of pinned memory and one copy to the device, the wait, and the way back. Invariants:
 * the launches depend on the shape alone, everything else is data on the device; nothing is
 * allocated but for block tables and edits that are longer than any before, and the hidden states
 * when they are first wanted. One thread. Knows no kernels. */
#include <string.h>

#include "gpu/model.h"
#include "gpu/profile.h"

#define TIMEOUT_MS_DEFAULT 4500u
/* Block table entries that every model has room for. */
#define TABLE_ENTRIES_MIN (64u << 10)

/* --- shapes ---------------------------------------------------------------------------------- */

/* Few sizes serve all numbers of rows, without much waste: powers of two up to 8, then steps of an
 * eighth to a quarter. */
static uint32_t bucket(uint32_t count, uint32_t most)
{
    uint32_t step = 1;
    if (count == 0) {
        return 0;
    }
    if (count <= 8) {
        while (step < count) {
            step *= 2;
        }
        return step < most ? step : most;
    }
    step = count <= 32 ? 8 : count <= 256 ? 32 : count <= 1024 ? 128 : 512;
    uint64_t rounded = ((uint64_t)count + step - 1) / step * step;
    return rounded < most ? (uint32_t)rounded : most;
}

static uint32_t power_bucket(uint32_t count, uint32_t most)
{
    uint32_t power = 1;
    while (power < count) {
        power *= 2;
    }
    return count == 0 ? 0 : power < most ? power : most;
}

uint32_t gpu_step_groups_max(const struct gpu_model *model)
{
    uint64_t positions = (uint64_t)model->base.options.kv_block_count * KV_BLOCK_TOKENS;
    return gpu_attention_groups(&model->attention, (uint32_t)(positions - 1), 1);
}

struct gpu_step_shape gpu_step_shape_max(const struct gpu_model *model)
{
    uint32_t rows = model->base.options.rows_max;
    uint32_t wanted = gpu_rows_wanted_max(model);
    return (struct gpu_step_shape){
        .rows = rows,
        .logits_rows = model->base.options.logits_rows_max,
        .hidden_rows = rows,
        .decode_rows = rows,
        .tiles = rows,
        .samples = 1,
        .wanted_rows = wanted,
        .wanted_decode_rows = wanted,
        .wanted_tiles = wanted,
    };
}

static uint64_t put(uint64_t *end, uint64_t count, uint64_t size)
{
    uint64_t at = *end;
    *end = (at + count * size + 15) / 16 * 16;
    return at;
}

uint64_t gpu_step_layout_of(const struct gpu_step_shape *shape, struct gpu_step_layout *layout)
{
    uint64_t end = 0;
    layout->state = put(&end, 1, sizeof(struct step_state));
    layout->hidden_count = put(&end, 1, sizeof(uint32_t));
    layout->tokens = put(&end, shape->rows, sizeof(uint32_t));
    layout->positions = put(&end, shape->rows, sizeof(uint32_t));
    layout->sequences = put(&end, shape->rows, sizeof(uint32_t));
    layout->logits_rows = put(&end, shape->logits_rows, sizeof(uint32_t));
    layout->hidden_rows = put(&end, shape->hidden_rows, sizeof(uint32_t));
    layout->decode_rows = put(&end, shape->decode_rows, sizeof(uint32_t));
    layout->tiles = put(&end, shape->tiles, sizeof(struct attention_tile));
    layout->wanted_state = put(&end, 1, sizeof(struct step_state));
    layout->wanted_rows = put(&end, shape->wanted_rows, sizeof(uint32_t));
    layout->wanted_decode_rows = put(&end, shape->wanted_decode_rows, sizeof(uint32_t));
    layout->wanted_tiles = put(&end, shape->wanted_tiles, sizeof(struct attention_tile));
    layout->samples = put(&end, shape->samples ? shape->logits_rows : 0, sizeof(struct sample_row));
    layout->block_tables = end;
    return end;
}

uint64_t gpu_step_bytes(const struct gpu_model *model, uint64_t tail_bytes)
{
    struct gpu_step_shape shape = gpu_step_shape_max(model);
    struct gpu_step_layout layout;
    uint64_t least = (model->base.options.kv_block_count + (uint64_t)TABLE_ENTRIES_MIN) * 4;
    return gpu_step_layout_of(&shape, &layout) + (tail_bytes > least ? tail_bytes : least);
}

/* --- data ------------------------------------------------------------------------------------ */

/* Block tables are copied as far as any row looks. */
static uint32_t table_width(const struct step_batch *batch)
{
    uint32_t last = 0;
    for (uint32_t row = 0; row < batch->row_count; row++) {
        last = batch->positions[row] > last ? batch->positions[row] : last;
    }
    return last / KV_BLOCK_TOKENS + 1;
}

static llcuda_status reserve(struct gpu_model *model, uint64_t tail_bytes,
                             struct llcuda_error *error)
{
    struct gpu_driver *driver = model->driver;
    uint64_t bytes = gpu_step_bytes(model, tail_bytes);
    if (bytes <= model->step_bytes) {
        return LLCUDA_OK;
    }
    void *memory = NULL;
    uint64_t address = 0;
    llcuda_status status = driver->host_alloc(driver, 2 * bytes, &memory, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    status = gpu_memory_take(model, DEVICE_MEMORY_STEP, 2 * bytes, "step data", &address, error);
    if (status != LLCUDA_OK) {
        driver->host_free(driver, memory);
        return status;
    }
    gpu_graphs_release(model); /* they know the old address; its memory goes with the model */
    driver->host_free(driver, model->staging);
    model->staging = memory;
    model->buffers.step = address;
    model->step_bytes = 2 * bytes;
    return LLCUDA_OK;
}

static void copy_words(struct gpu_model *model, uint64_t offset, const uint32_t *from,
                       uint32_t count)
{
    if (count != 0) {
        memcpy(model->staging + offset, from, count * sizeof *from);
    }
}

/* How a step's rows attend, all of them and those that are left in the last layer. */
struct step_cut {
    struct gpu_attention_cut all;
    bool narrows;
    struct gpu_rows_cut wanted;
};

/* Cuts the rows; the lists go into the largest layout first, since the shape depends on them, and
 * are moved to their places afterwards. */
static void cut_rows(struct gpu_model *model, const struct step_batch *batch, struct step_cut *cut)
{
    struct gpu_step_shape largest = gpu_step_shape_max(model);
    gpu_step_layout_of(&largest, &model->layout);
    gpu_attention_cut(&model->attention, batch,
                      (struct attention_tile *)(void *)(model->staging + model->layout.tiles),
                      (uint32_t *)(void *)(model->staging + model->layout.decode_rows), &cut->all);
    cut->narrows = gpu_rows_cut(model, batch, &model->layout, &cut->wanted) && !cut->all.decode;
}

static struct gpu_step_shape shape_of(const struct gpu_model *model, const struct step_batch *batch,
                                      const struct step_cut *cut)
{
    const struct device_model_options *options = &model->base.options;
    uint32_t decoding = cut->all.decode ? batch->row_count : cut->all.decode_count;
    struct gpu_step_shape shape = {
        .rows = bucket(batch->row_count, options->rows_max),
        .logits_rows = bucket(batch->logits_count, options->logits_rows_max),
        .hidden_rows = bucket(batch->hidden_count, options->rows_max),
        .decode_rows = cut->all.decode ? 0 : power_bucket(cut->all.decode_count, options->rows_max),
        .tiles = power_bucket(cut->all.tile_count, options->rows_max),
        .is_decode = cut->all.decode,
        .chooses = batch->choose && batch->logits_count != 0,
        .samples = batch->sampling && batch->logits_count != 0,
        .narrows = cut->narrows,
    };
    if (decoding) {
        shape.groups = gpu_attention_groups(&model->attention, cut->all.position_max,
                                            cut->all.decode ? shape.rows : shape.decode_rows);
    }
    if (cut->narrows) {
        const struct gpu_attention_cut *wanted = &cut->wanted.attention;
        uint32_t most = gpu_rows_wanted_max(model);
        shape.wanted_rows = bucket(cut->wanted.row_count, most);
        shape.wanted_decode_rows = power_bucket(wanted->decode_count, most);
        shape.wanted_tiles = power_bucket(wanted->tile_count, most);
        shape.wanted_groups = wanted->decode_count
                                  ? gpu_attention_groups(&model->attention, wanted->position_max,
                                                         shape.wanted_decode_rows)
                                  : 0;
    }
    return shape;
}

/* Places only move down, and the lists keep their order. */
static void move_lists(struct gpu_model *model, const struct gpu_step_layout *from,
                       const struct step_cut *cut)
{
    unsigned char *staging = model->staging;
    const struct gpu_step_layout *to = &model->layout;
    memmove(staging + to->decode_rows, staging + from->decode_rows,
            cut->all.decode_count * sizeof(uint32_t));
    memmove(staging + to->tiles, staging + from->tiles,
            cut->all.tile_count * sizeof(struct attention_tile));
    if (cut->narrows) {
        memmove(staging + to->wanted_rows, staging + from->wanted_rows,
                cut->wanted.row_count * sizeof(uint32_t));
        memmove(staging + to->wanted_decode_rows, staging + from->wanted_decode_rows,
                cut->wanted.attention.decode_count * sizeof(uint32_t));
        memmove(staging + to->wanted_tiles, staging + from->wanted_tiles,
                cut->wanted.attention.tile_count * sizeof(struct attention_tile));
    }
}

/* The counts of the step, and of the rows that are left in the last layer. */
static void fill_states(struct gpu_model *model, const struct step_batch *batch,
                        const struct step_cut *cut, uint32_t width)
{
    struct step_state state = {
        .row_count = batch->row_count,
        .logits_count = batch->logits_count,
        .sequence_count = batch->sequence_count,
        .block_table_stride = width,
        .decode_count = cut->all.decode_count,
        .tile_count = cut->all.tile_count,
    };
    memcpy(model->staging + model->layout.state, &state, sizeof state);
    state.row_count = cut->wanted.row_count;
    state.decode_count = cut->wanted.attention.decode_count;
    state.tile_count = cut->wanted.attention.tile_count;
    memcpy(model->staging + model->layout.wanted_state, &state, sizeof state);
}

/* Rows of the residual stream: where they lie when the step has come so far. */
static void fill_rows(struct gpu_model *model, uint64_t offset, const uint32_t *rows,
                      uint32_t count)
{
    const unsigned char *staging = model->staging;
    if (!model->shape.narrows) {
        copy_words(model, offset, rows, count);
        return;
    }
    gpu_rows_find_places((const uint32_t *)(const void *)(staging + model->layout.wanted_rows),
                         rows, count, (uint32_t *)(void *)(model->staging + offset));
}

/* Chooses the shape and writes the step's data; returns its bytes. */
static uint64_t fill(struct gpu_model *model, const struct step_batch *batch, uint32_t width)
{
    struct step_cut cut;
    cut_rows(model, batch, &cut);
    struct gpu_step_layout from = model->layout;
    model->shape = shape_of(model, batch, &cut);
    uint64_t begin = gpu_step_layout_of(&model->shape, &model->layout);
    const struct gpu_step_layout *to = &model->layout;
    move_lists(model, &from, &cut);
    fill_states(model, batch, &cut, width);
    copy_words(model, to->hidden_count, &batch->hidden_count, 1);
    copy_words(model, to->tokens, batch->tokens, batch->row_count);
    copy_words(model, to->positions, batch->positions, batch->row_count);
    copy_words(model, to->sequences, batch->sequences, batch->row_count);
    fill_rows(model, to->logits_rows, batch->logits_rows, batch->logits_count);
    fill_rows(model, to->hidden_rows, batch->hidden_rows, batch->hidden_count);
    uint32_t copied = width < batch->block_table_stride ? width : batch->block_table_stride;
    for (uint32_t i = 0; i < batch->sequence_count; i++) {
        copy_words(model, begin + (uint64_t)i * width * sizeof(uint32_t),
                   batch->block_tables + (uint64_t)i * batch->block_table_stride, copied);
    }
    uint64_t end = begin + (uint64_t)batch->sequence_count * width * sizeof(uint32_t);
    return model->shape.samples ? gpu_sample_fill(model, batch, end) : end;
}

/* --- running --------------------------------------------------------------------------------- */

static llcuda_status lost(struct gpu_model *model, struct llcuda_error *error)
{
    model->device->lost = true;
    return error_set(error, LLCUDA_DEVICE,
                     "the device stopped answering: its requests fail, and it must be opened anew");
}

llcuda_status gpu_model_wait(struct gpu_model *model, struct llcuda_error *error)
{
    struct gpu_driver *driver = model->driver;
    uint32_t timeout = model->device->options.timeout_ms;
    llcuda_status status = driver->event_record(driver, model->done, model->stream, error);
    if (status == LLCUDA_OK) {
        status =
            driver->event_wait(driver, model->done, timeout ? timeout : TIMEOUT_MS_DEFAULT, error);
    }
    return status == LLCUDA_TIMEOUT ? lost(model, error) : status;
}

/* Hidden states come back through memory of their own, made when they are first wanted. */
static llcuda_status copy_results(struct gpu_model *model, const struct step_batch *batch,
                                  struct llcuda_error *error)
{
    struct gpu_driver *driver = model->driver;
    const struct plan *plan = model->base.plan;
    llcuda_status status = LLCUDA_OK;
    if (model->shape.samples) {
        status = gpu_sample_copy(model, batch, error);
    } else if (model->shape.chooses) {
        status = driver->copy_out(driver, model->stream, model->chosen, gpu_choices_chosen(model),
                                  batch->logits_count * sizeof(uint32_t), error);
    } else if (batch->logits_count != 0) {
        status = driver->copy_out(driver, model->stream, model->logits, model->buffers.logits,
                                  (uint64_t)batch->logits_count * plan->vocabulary_size * 4, error);
    }
    if (status == LLCUDA_OK && batch->hidden_count != 0 && !model->hidden) {
        void *memory = NULL;
        status = driver->host_alloc(
            driver, (uint64_t)model->base.options.rows_max * plan->embedding_length * 4, &memory,
            error);
        model->hidden = memory;
    }
    if (status == LLCUDA_OK && batch->hidden_count != 0) {
        status =
            driver->copy_out(driver, model->stream, model->hidden, model->buffers.raw,
                             (uint64_t)batch->hidden_count * plan->embedding_length * 4, error);
    }
    return status;
}

/* Also after a failure: what was put on the stream reads the staging. */
static llcuda_status give_up(struct gpu_model *model, llcuda_status status)
{
    struct llcuda_error ignored;
    gpu_model_wait(model, &ignored);
    return status;
}

/* The residual stream that rows bring along goes the way of the step's data. */
static llcuda_status copy_residual(struct gpu_model *model, const struct step_batch *batch,
                                   struct llcuda_error *error)
{
    uint64_t width = model->base.plan->embedding_length;
    for (uint32_t row = 0; row < batch->row_count; row++) {
        memcpy(model->residual + row * width, batch->residual + row * batch->residual_stride,
               width * sizeof(float));
    }
    return model->driver->copy_in(model->driver, model->stream, model->buffers.residual,
                                  model->residual, batch->row_count * width * sizeof(float), error);
}

llcuda_status gpu_model_step_begin(struct device_model *base, const struct step_batch *batch,
                                   struct llcuda_error *error)
{
    struct gpu_model *model = (struct gpu_model *)base;
    struct gpu_driver *driver = model->driver;
    llcuda_status status = step_batch_check(batch, base, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    if (model->device->lost) {
        return lost(model, error);
    }
    status = driver->attach(driver, error);
    uint32_t width = table_width(batch);
    if (status == LLCUDA_OK) {
        status = reserve(model,
                         (uint64_t)batch->sequence_count * width * sizeof(uint32_t) +
                             gpu_sample_step_bytes(model, batch),
                         error);
    }
    if (status != LLCUDA_OK) {
        return status;
    }
    uint64_t bytes = fill(model, batch, width);
    status =
        driver->copy_in(driver, model->stream, model->buffers.step, model->staging, bytes, error);
    if (status == LLCUDA_OK && base->plan->takes_residual) {
        status = copy_residual(model, batch, error);
    }
    if (status == LLCUDA_OK) {
        status = gpu_profile_step(model, batch, error);
    }
    if (status == LLCUDA_OK) {
        status = gpu_step_graph(model, error);
    }
    if (status == LLCUDA_OK) {
        status = copy_results(model, batch, error);
    }
    model->step_count++;
    model->weight_bytes_read +=
        model->step_weight_bytes + gpu_experts_step_bytes(model, batch->row_count);
    return status == LLCUDA_OK ? status : give_up(model, status);
}

llcuda_status gpu_model_step_end(struct device_model *base, const float **logits,
                                 struct llcuda_error *error)
{
    struct gpu_model *model = (struct gpu_model *)base;
    *logits = model->logits;
    llcuda_status status = model->driver->attach(model->driver, error);
    return status == LLCUDA_OK ? gpu_model_wait(model, error) : status;
}

llcuda_status gpu_model_step(struct device_model *base, const struct step_batch *batch,
                             const float **logits, struct llcuda_error *error)
{
    llcuda_status status = gpu_model_step_begin(base, batch, error);
    return status == LLCUDA_OK ? gpu_model_step_end(base, logits, error) : status;
}

const uint32_t *gpu_model_chosen(const struct device_model *base)
{
    const struct gpu_model *model = (const struct gpu_model *)base;
    return model->shape.chooses || model->shape.samples ? model->chosen : NULL;
}

const float *gpu_model_hidden(const struct device_model *base, uint64_t *stride)
{
    const struct gpu_model *model = (const struct gpu_model *)base;
    *stride = base->plan->embedding_length;
    return model->hidden;
}

/* --- cache blocks ---------------------------------------------------------------------------- */

llcuda_status gpu_model_copy_blocks(struct device_model *base, const uint32_t *from,
                                    const uint32_t *to, uint32_t count, struct llcuda_error *error)
{
    struct gpu_model *model = (struct gpu_model *)base;
    struct gpu_driver *driver = model->driver;
    uint32_t most = (uint32_t)(model->step_bytes / (2 * sizeof(uint32_t)));
    for (uint32_t i = 0; i < count; i++) {
        if (from[i] >= base->options.kv_block_count || to[i] >= base->options.kv_block_count) {
            return error_set(error, LLCUDA_INVALID_ARGUMENT,
                             "copy of cache block %u to %u: there are %u blocks", from[i], to[i],
                             base->options.kv_block_count);
        }
    }
    if (model->device->lost) {
        return lost(model, error);
    }
    llcuda_status status = driver->attach(driver, error);
    /* In pieces that the step's memory can list. A piece is one launch: within it no block may be
     * both read and written, as copy on write never asks. */
    for (uint32_t done = 0; done < count && status == LLCUDA_OK;) {
        uint32_t piece = count - done < most ? count - done : most;
        uint64_t list = (uint64_t)piece * sizeof(uint32_t);
        copy_words(model, 0, from + done, piece);
        copy_words(model, list, to + done, piece);
        status = driver->copy_in(driver, model->stream, model->buffers.step, model->staging,
                                 2 * list, error);
        const struct gpu_copy_blocks_call call = {
            .cache = model->cache,
            .layer_bytes = model->layer_bytes,
            .layer_count = base->plan->layer_count,
            .from = model->buffers.step,
            .to = model->buffers.step + list,
            .count = piece,
        };
        if (status == LLCUDA_OK) {
            status = gpu_attention_copy_blocks(driver, model->stream, &model->attention,
                                               &model->program.attention, &call, error);
        }
        if (status == LLCUDA_OK) {
            status = gpu_model_wait(model, error);
        }
        done += piece;
    }
    return status;
}
