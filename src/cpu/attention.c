/* Owns the layout of the cache and the merging of partitions, which are the same at every level,
 * and the scalar level's attention. Invariant: nothing outside a row's span is read, so that what a
 * masked slot holds (it may be a NaN from another sequence) cannot matter. Stateless. */
#include "cpu/attention.h"

#include <math.h>
#include <string.h>

#include "base/limits.h"
#include "cpu/ops.h"
#include "tensor/quant.h"
#include "tensor/reference.h"

static void to_half(enum dtype dtype, const struct cpu_ops *ops, const float *x, uint16_t *out,
                    uint64_t count)
{
    if (dtype == DTYPE_F16) {
        ops->to_f16(x, out, count);
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        out[i] = float_to_bf16(x[i]);
    }
}

static void write_f32(const struct kv_layer *layer, uint32_t block, uint32_t slot, const float *key,
                      const float *value)
{
    uint32_t size = layer->head_size;
    for (uint32_t head = 0; head < layer->kv_head_count; head++) {
        float *keys = (float *)(void *)kv_piece(layer, block, head, false);
        float *values = (float *)(void *)kv_piece(layer, block, head, true);
        for (uint32_t d = 0; d < size; d++) {
            keys[d * KV_BLOCK_TOKENS + slot] = key[head * size + d];
        }
        memcpy(values + (uint64_t)slot * size, value + (uint64_t)head * size, size * sizeof *value);
    }
}

/* The scale of one key or value of one head, and what its elements are multiplied by to become
 * codes. What is not finite makes a scale that is none, and so a result that is noticed. */
static float code_scale(const float *x, uint32_t size, float *inverse)
{
    float largest = 0;
    bool finite = true;
    for (uint32_t d = 0; d < size; d++) {
        float magnitude = fabsf(x[d]);
        finite = finite && magnitude <= 3.4e38f;
        largest = magnitude > largest ? magnitude : largest;
    }
    *inverse = finite && largest >= 0x1p-100f ? 127.0f / largest : 0;
    return finite ? *inverse == 0 ? 0 : largest / 127.0f : NAN;
}

static int to_code(float x, float inverse)
{
    return inverse == 0 ? 0 : (int)rintf(x * inverse);
}

static void write_codes(const struct kv_layer *layer, uint32_t block, uint32_t slot,
                        const float *key, const float *value)
{
    uint32_t size = layer->head_size;
    for (uint32_t head = 0; head < layer->kv_head_count; head++) {
        unsigned char *keys = kv_piece(layer, block, head, false);
        unsigned char *values = kv_piece(layer, block, head, true);
        const float *x = key + (uint64_t)head * size;
        const float *y = value + (uint64_t)head * size;
        uint64_t scales = kv_scales_offset(size) + slot * sizeof(float);
        float inverse;
        float scale = code_scale(x, size, &inverse);
        memcpy(keys + scales, &scale, sizeof scale);
        for (uint32_t d = 0; d < size; d++) {
            int code = to_code(x[d], inverse);
            keys[kv_key_code(slot, d)] = (unsigned char)(code + KV_KEY_CODE_ZERO);
        }
        scale = code_scale(y, size, &inverse);
        memcpy(values + scales, &scale, sizeof scale);
        for (uint32_t d = 0; d < size; d++) {
            values[kv_value_code(size, slot, d)] = (unsigned char)to_code(y[d], inverse);
        }
    }
}

void kv_write(const struct kv_layer *layer, const struct cpu_ops *ops, uint32_t block,
              uint32_t slot, const float *key, const float *value, uint16_t *scratch)
{
    uint32_t size = layer->head_size;
    if (layer->dtype == DTYPE_F32) {
        write_f32(layer, block, slot, key, value);
        return;
    }
    if (layer->dtype == DTYPE_Q8_0) {
        write_codes(layer, block, slot, key, value);
        return;
    }
    to_half(layer->dtype, ops, key, scratch, (uint64_t)layer->kv_head_count * size);
    for (uint32_t head = 0; head < layer->kv_head_count; head++) {
        uint16_t *keys = (uint16_t *)(void *)kv_piece(layer, block, head, false);
        for (uint32_t d = 0; d < size; d++) {
            keys[d * KV_BLOCK_TOKENS + slot] = scratch[head * size + d];
        }
    }
    for (uint32_t head = 0; head < layer->kv_head_count; head++) {
        uint16_t *values = (uint16_t *)(void *)kv_piece(layer, block, head, true);
        to_half(layer->dtype, ops, value + (uint64_t)head * size, values + (uint64_t)slot * size,
                size);
    }
}

/* --- merging ------------------------------------------------------------------------------- */

/* state := state ⊕ partial, both relative to the larger of their maxima. */
static void merge(float *state, float *partial, uint32_t head_size)
{
    float *state_tail = attention_partial_tail(state, head_size);
    const float *tail = attention_partial_tail(partial, head_size);
    if (tail[0] == -INFINITY && tail[1] == 0) {
        return;
    }
    if (state_tail[0] == -INFINITY && state_tail[1] == 0) {
        memcpy(state, partial, attention_partial_floats(head_size) * sizeof *state);
        return;
    }
    bool stays = state_tail[0] > tail[0];
    float largest = stays ? state_tail[0] : tail[0];
    /* e⁰ is 1: one of them need not be computed. */
    float old_scale = stays ? 1.0f : expf(state_tail[0] - largest);
    float new_scale = stays ? expf(tail[0] - largest) : 1.0f;
    for (uint32_t d = 0; d < head_size; d++) {
        state[d] = state[d] * old_scale + partial[d] * new_scale;
    }
    state_tail[0] = largest;
    state_tail[1] = state_tail[1] * old_scale + tail[1] * new_scale;
}

/* The output of a pair whose partitions are merged in `state`. */
static void finish(const struct attention_call *call, uint32_t pair, float *state)
{
    uint32_t kv_head = pair / (call->row_count * call->head_count);
    uint32_t row = pair / call->head_count % call->row_count;
    uint32_t head = kv_head * call->head_count + pair % call->head_count;
    const float *tail = attention_partial_tail(state, call->head_size);
    float scale = 1.0f;
    float total = tail[1];
    if (call->sinks) {
        float sink = call->sinks[head];
        float largest = sink > tail[0] ? sink : tail[0];
        scale = expf(tail[0] - largest);
        total = total * scale + expf(sink - largest);
    }
    scale /= total;
    float *out = call->out + row * call->out_stride + (uint64_t)head * call->head_size;
    for (uint32_t d = 0; d < call->head_size; d++) {
        out[d] = state[d] * scale;
    }
}

void attention_combine(const struct attention_call *call, uint32_t pair, float *partials,
                       uint64_t stride)
{
    uint32_t count = attention_partition_end(call) - attention_partition_begin(call);
    float *state = partials + (uint64_t)pair * attention_partial_floats(call->head_size);
    for (uint32_t i = 1; i < count; i++) {
        merge(state, state + i * stride, call->head_size);
    }
    finish(call, pair, state);
}

/* --- scalar level -------------------------------------------------------------------------- */

/* The scale of the position `slot` of a half (keys or values). */
static float read_scale(const unsigned char *half, uint32_t size, uint32_t slot)
{
    float scale;
    memcpy(&scale, half + kv_scales_offset(size) + slot * sizeof scale, sizeof scale);
    return scale;
}

/* What cache_read looks at. */
struct reading {
    const struct attention_call *call;
    uint32_t kv_head;
};

static void cache_read(void *user, uint64_t position, float *key, float *value)
{
    const struct reading *reading = user;
    const struct attention_call *call = reading->call;
    const struct kv_layer *layer = call->layer;
    uint32_t block = call->block_table[position / KV_BLOCK_TOKENS];
    uint32_t slot = position % KV_BLOCK_TOKENS;
    uint32_t size = layer->head_size;
    uint32_t bytes = dtype_info(layer->dtype)->block_bytes;
    const unsigned char *keys = kv_piece(layer, block, reading->kv_head, false);
    const unsigned char *values = kv_piece(layer, block, reading->kv_head, true);
    if (layer->dtype == DTYPE_Q8_0) {
        for (uint32_t d = 0; d < size; d++) {
            if (key) {
                int code = keys[kv_key_code(slot, d)] - KV_KEY_CODE_ZERO;
                key[d] = read_scale(keys, size, slot) * (float)code;
            }
            if (value) {
                int8_t code = (int8_t)values[kv_value_code(size, slot, d)];
                value[d] = read_scale(values, size, slot) * (float)code;
            }
        }
        return;
    }
    if (key) {
        for (uint32_t d = 0; d < size; d++) {
            uint64_t element = (uint64_t)d * KV_BLOCK_TOKENS + slot;
            dequantize_row(layer->dtype, keys + element * bytes, &key[d], 1);
        }
    }
    if (value) {
        dequantize_row(layer->dtype, values + (uint64_t)slot * size * bytes, value, size);
    }
}

static void run_reference(const struct attention_call *call)
{
    for (uint32_t row = 0; row < call->row_count; row++) {
        struct attention_span span = attention_span(call, row);
        for (uint32_t head = 0; head < call->kv_heads * call->head_count; head++) {
            struct reading reading = {call, call->kv_head + head / call->head_count};
            uint64_t offset = (uint64_t)head * call->head_size;
            struct reference_attention reference = {
                .query = call->query + row * call->query_stride + offset,
                .head_size = call->head_size,
                .begin = span.begin,
                .end = span.end,
                .scale = call->scale,
                .soft_cap = call->soft_cap,
                .sink = call->sinks ? &call->sinks[head] : NULL,
                .cache = {cache_read, &reading},
                .scores = call->scratch,
            };
            reference_attention(&reference, call->out + row * call->out_stride + offset);
        }
    }
}

/* --- whole tiles --------------------------------------------------------------------------- */

/* Queries, scores of a partition, a partial, the merged state, and a chunk of at least two blocks
 * as floats, in this order. */
uint64_t attention_scratch_floats(uint32_t pairs, uint32_t head_size, uint64_t positions)
{
    uint64_t chunk = 2ull * KV_BLOCK_TOKENS * ((head_size + 15) / 16 * 16);
    chunk = chunk > ATTENTION_CHUNK_FLOATS ? chunk : ATTENTION_CHUNK_FLOATS;
    uint64_t vector = attention_query_floats(pairs, head_size) +
                      (uint64_t)pairs * (ATTENTION_PARTITION_TOKENS +
                                         2ull * attention_partial_floats(head_size)) +
                      chunk;
    return vector > positions ? vector : positions;
}

void attention_run(const struct attention_call *call, const struct cpu_ops *ops)
{
    if (!ops->attention_partition) {
        run_reference(call);
        return;
    }
    uint32_t pairs = attention_pairs(call);
    uint64_t stride = attention_partial_floats(call->head_size);
    float *partials = call->scratch + attention_query_floats(pairs, call->head_size) +
                      (uint64_t)pairs * ATTENTION_PARTITION_TOKENS;
    float *states = partials + pairs * stride;
    uint32_t begin = attention_partition_begin(call);
    uint32_t end = attention_partition_end(call);
    ops->attention_partition(call, begin, states);
    for (uint32_t partition = begin + 1; partition < end; partition++) {
        ops->attention_partition(call, partition, partials);
        for (uint32_t pair = 0; pair < pairs; pair++) {
            merge(states + pair * stride, partials + pair * stride, call->head_size);
        }
    }
    for (uint32_t pair = 0; pair < pairs; pair++) {
        finish(call, pair, states + pair * stride);
    }
}
