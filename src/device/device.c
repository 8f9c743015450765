/* Owns what all devices share: the size of a cache block, the checks of a batch, and the words that
 * name a device. Knows no backend. Stateless: any thread. */
#include "device/device.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"

uint64_t device_kv_block_bytes(const struct plan *plan, enum dtype kv_dtype)
{
    uint64_t head_bytes = (uint64_t)plan->head_size * dtype_info(kv_dtype)->block_bytes;
    if (kv_dtype == DTYPE_Q8_0) {
        head_bytes = plan->head_size + sizeof(float); /* a byte an element, a scale a head */
    }
    uint64_t row_bytes = plan->kv_head_count * head_bytes;
    return 2ull * plan->layer_count * KV_BLOCK_TOKENS * row_bytes;
}

uint64_t device_model_memory_bytes(const struct device_model *model)
{
    struct device_memory memory;
    uint64_t bytes = 0;
    device_model_memory(model, &memory);
    for (int kind = 0; kind < DEVICE_MEMORY_KIND_COUNT; kind++) {
        bytes += memory.bytes[kind];
    }
    return bytes;
}

uint64_t device_part_bytes(const struct device_part *part)
{
    uint64_t bytes = 0;
    for (int kind = 0; kind < DEVICE_MEMORY_KIND_COUNT; kind++) {
        if (!checked_add_u64(bytes, part->bytes[kind], &bytes)) {
            return UINT64_MAX;
        }
    }
    return bytes;
}

bool device_part_exceeds(const struct device_part *part)
{
    bool is_known = part->available_bytes != 0 || part->is_limited;
    return is_known && device_part_bytes(part) > part->available_bytes;
}

/* --- batches -------------------------------------------------------------------------------- */

BASE_PRINTF(2, 3)
static llcuda_status refuse(struct llcuda_error *error, const char *format, ...)
{
    char message[LLCUDA_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return error_set(error, LLCUDA_INVALID_ARGUMENT, "step: %s", message);
}

static llcuda_status check_ascending(const uint32_t *rows, uint32_t count, uint32_t row_count,
                                     const char *what, struct llcuda_error *error)
{
    for (uint32_t i = 0; i < count; i++) {
        if (rows[i] >= row_count || (i > 0 && rows[i] <= rows[i - 1])) {
            return refuse(error, "rows that want %s must ascend below %u", what, row_count);
        }
    }
    return LLCUDA_OK;
}

static llcuda_status check_counts(const struct step_batch *batch, const struct device_model *model,
                                  struct llcuda_error *error)
{
    const struct device_model_options *options = &model->options;
    if (batch->row_count < 1 || batch->row_count > options->rows_max) {
        return refuse(error, "%u rows, wanted are 1 … %u", batch->row_count, options->rows_max);
    }
    if (batch->logits_count > options->logits_rows_max) {
        return refuse(error, "%u rows want logits, at most %u may", batch->logits_count,
                      options->logits_rows_max);
    }
    if (batch->hidden_count && !model->interface->hidden) {
        return refuse(error, "this device gives no hidden states");
    }
    if (!batch->tokens || !batch->positions || !batch->sequences || !batch->block_tables ||
        (batch->logits_count && !batch->logits_rows) ||
        (batch->hidden_count && !batch->hidden_rows)) {
        return refuse(error, "an array is missing");
    }
    if (model->plan->takes_residual && !batch->residual) {
        return refuse(error, "its rows bring no residual stream along");
    }
    if (model->plan->gives_residual && (batch->logits_count || batch->hidden_count)) {
        return refuse(error, "the first layers of a model give no logits");
    }
    if (batch->sampling && (batch->choose || !device_samples(model))) {
        return refuse(error, "this device does not draw tokens in this way");
    }
    llcuda_status status =
        check_ascending(batch->logits_rows, batch->logits_count, batch->row_count, "logits", error);
    return status == LLCUDA_OK ? check_ascending(batch->hidden_rows, batch->hidden_count,
                                                 batch->row_count, "hidden states", error)
                               : status;
}

/* The table of one sequence up to `position`. */
static llcuda_status check_table(const struct step_batch *batch, const struct device_model *model,
                                 uint32_t row, struct llcuda_error *error)
{
    uint32_t block_count = model->options.kv_block_count;
    uint32_t last = batch->positions[row] / KV_BLOCK_TOKENS;
    if (last >= batch->block_table_stride || last >= block_count) {
        return refuse(error, "row %u is at position %u, beyond its block table or the cache", row,
                      batch->positions[row]);
    }
    const uint32_t *table =
        batch->block_tables + (uint64_t)batch->sequences[row] * batch->block_table_stride;
    for (uint32_t i = 0; i <= last; i++) {
        if (table[i] >= block_count) {
            return refuse(error, "sequence %u uses cache block %u; there are %u",
                          batch->sequences[row], table[i], block_count);
        }
    }
    return LLCUDA_OK;
}

static bool is_run_begin(const struct step_batch *batch, uint32_t row)
{
    return row == 0 || batch->sequences[row] != batch->sequences[row - 1];
}

static bool is_run_end(const struct step_batch *batch, uint32_t row)
{
    return row + 1 == batch->row_count || is_run_begin(batch, row + 1);
}

/* Sequences below this number are remembered in bits, others are looked for. */
#define SEEN_BITS 4096u

/* Whether the sequence of a run that begins at `row` had rows before. */
static bool seen_before(const struct step_batch *batch, uint32_t row, uint64_t *seen)
{
    uint32_t sequence = batch->sequences[row];
    if (sequence < SEEN_BITS) {
        uint64_t bit = 1ull << (sequence % 64);
        bool before = (seen[sequence / 64] & bit) != 0;
        seen[sequence / 64] |= bit;
        return before;
    }
    for (uint32_t before = 0; before < row; before++) {
        if (batch->sequences[before] == sequence) {
            return true;
        }
    }
    return false;
}

/* Settings whose ranges the engine has checked are taken as they are; what memory depends on is
 * not.
 */
static llcuda_status check_sampling(const struct step_batch *batch,
                                    const struct device_model *model, struct llcuda_error *error)
{
    uint64_t edits = 0;
    for (uint32_t i = 0; batch->sampling && i < batch->logits_count; i++) {
        const struct step_sampling *sampling = &batch->sampling[i];
        uint64_t count = 0;
        for (int kind = 0; kind < STEP_EDIT_KIND_COUNT && !sampling->on_host; kind++) {
            count += sampling->edit_counts[kind];
        }
        edits += count;
        if (edits > STEP_EDITS_MAX || (count != 0 && !sampling->edits)) {
            return refuse(error, "more edits of logits than the %u that a step may have",
                          STEP_EDITS_MAX);
        }
        for (uint64_t j = 0; j < count; j++) {
            if (sampling->edits[j].token >= model->plan->vocabulary_size) {
                return refuse(error, "an edit of the logit of token %u; the vocabulary has %u",
                              sampling->edits[j].token, model->plan->vocabulary_size);
            }
        }
        if (!sampling->on_host && sampling->top_logprobs > DEVICE_LOGPROBS_MAX) {
            return refuse(error, "%u alternatives, at most %u", sampling->top_logprobs,
                          DEVICE_LOGPROBS_MAX);
        }
    }
    return LLCUDA_OK;
}

llcuda_status step_batch_check(const struct step_batch *batch, const struct device_model *model,
                               struct llcuda_error *error)
{
    uint64_t seen[SEEN_BITS / 64] = {0};
    llcuda_status status = check_counts(batch, model, error);
    if (status == LLCUDA_OK) {
        status = check_sampling(batch, model, error);
    }
    for (uint32_t row = 0; row < batch->row_count && status == LLCUDA_OK; row++) {
        if (batch->tokens[row] >= model->plan->vocabulary_size) {
            return refuse(error, "row %u has token %u; the vocabulary has %u", row,
                          batch->tokens[row], model->plan->vocabulary_size);
        }
        if (batch->sequences[row] >= batch->sequence_count) {
            return refuse(error, "row %u belongs to sequence %u of %u", row, batch->sequences[row],
                          batch->sequence_count);
        }
        if (is_run_begin(batch, row)) {
            if (seen_before(batch, row, seen)) {
                return refuse(error, "the rows of sequence %u are not consecutive",
                              batch->sequences[row]);
            }
        } else if (batch->positions[row] != batch->positions[row - 1] + 1) {
            return refuse(error, "row %u is at position %u after position %u", row,
                          batch->positions[row], batch->positions[row - 1]);
        }
        if (is_run_end(batch, row)) {
            status = check_table(batch, model, row, error);
        }
    }
    return status;
}

uint32_t step_batch_wanted(const struct step_batch *batch, uint32_t *rows)
{
    uint32_t count = 0;
    uint32_t l = 0;
    uint32_t h = 0;
    while (l < batch->logits_count || h < batch->hidden_count) {
        uint32_t logits = l < batch->logits_count ? batch->logits_rows[l] : UINT32_MAX;
        uint32_t hidden = h < batch->hidden_count ? batch->hidden_rows[h] : UINT32_MAX;
        uint32_t row = logits < hidden ? logits : hidden;
        l += row == logits;
        h += row == hidden;
        if (rows) {
            rows[count] = row;
        }
        count++;
    }
    return count;
}
