/* What lies between the products of a feed-forward block of experts. */

/* --- routing --------------------------------------------------------------------------------- */

/* A float as an integer of the same order, from 1 on: no number is the lowest. */
__device__ __forceinline__ uint32_t order_of(float x)
{
    union {
        float value;
        uint32_t bits;
    } u;
    u.value = x + 0.0f; /* one zero */
    if (x != x) {
        return 1;
    }
    return u.bits >> 31 ? ~u.bits : u.bits | 0x80000000u;
}

__device__ __forceinline__ float warp_max(float x)
{
    for (uint32_t mask = 16; mask != 0; mask /= 2) {
        const float other = warp_shuffle_xor(x, mask);
        x = other > x ? other : x;
    }
    return x;
}

/* The place of the largest of `keys`, the first of equals; it becomes 0, and counts no more. */
__device__ __forceinline__ uint32_t take_largest(uint32_t *keys, uint32_t count)
{
    const uint32_t lane = threadIdx.x % 32;
    uint32_t key = 0, index = 0xffffffffu;
    for (uint32_t e = lane; e < count; e += 32) {
        if (keys[e] > key) {
            key = keys[e];
            index = e;
        }
    }
    for (uint32_t mask = 16; mask != 0; mask /= 2) {
        const uint32_t other = warp_shuffle_xor(key, mask);
        const uint32_t other_index = warp_shuffle_xor(index, mask);
        if (other > key || (other == key && other_index < index)) {
            key = other;
            index = other_index;
        }
    }
    if (lane == 0) {
        keys[index] = 0;
    }
    __syncwarp();
    return index;
}

/* The experts of one row, by one warp: reference_route of tensor/reference.h. */
__device__ __forceinline__ void route_row(const struct route_arguments &a, uint32_t row,
                                          uint32_t *keys, uint32_t *chosen, float *sorted)
{
    const uint32_t lane = threadIdx.x % 32;
    const float *logits = a.logits + (uint64_t)row * a.expert_count;
    auto logit_of = [&](uint32_t e) { return logits[e] + (a.bias ? a.bias[e] : 0.0f); };
    float largest = -3.402823466e+38f, sum = 0;
    for (uint32_t e = lane; e < a.expert_count; e += 32) {
        const float logit = logit_of(e);
        largest = logit > largest ? logit : largest;
    }
    largest = warp_max(largest);
    for (uint32_t e = lane; e < a.expert_count; e += 32) {
        sum += expf(logit_of(e) - largest);
    }
    sum = warp_sum(sum);
    auto probability_of = [&](uint32_t e) {
        const float logit = logit_of(e);
        return a.sigmoid ? 1.0f / (1.0f + expf(-logit)) : expf(logit - largest) / sum;
    };
    for (uint32_t e = lane; e < a.expert_count; e += 32) {
        keys[e] = order_of(a.selection_bias ? probability_of(e) + a.selection_bias[e] : logit_of(e));
    }
    __syncwarp();
    for (uint32_t i = 0; i < a.used_count; i++) {
        const uint32_t best = take_largest(keys, a.expert_count);
        if (lane == 0) {
            chosen[i] = best;
        }
    }
    __syncwarp();
    /* In the order of their numbers. */
    for (uint32_t i = lane; i < a.used_count; i += 32) {
        uint32_t rank = 0;
        for (uint32_t j = 0; j < a.used_count; j++) {
            rank += chosen[j] < chosen[i];
        }
        sorted[rank] = probability_of(chosen[i]);
        a.ids[(uint64_t)row * a.used_count + rank] = chosen[i];
    }
    __syncwarp();
    float total = 0;
    for (uint32_t i = 0; i < a.used_count; i++) {
        total += sorted[i];
    }
    const float factor = (a.normalised ? 1.0f / (total + 1e-20f) : 1.0f) * a.scale;
    for (uint32_t i = lane; i < a.used_count; i += 32) {
        a.weights[(uint64_t)row * a.used_count + i] = sorted[i] * factor;
    }
}

/* The factor of the shared expert, by one warp. */
__device__ __forceinline__ void route_shared(const struct route_arguments &a, uint32_t row)
{
    float sum = 0;
    if (a.shared_router) {
        const act_value *input = (const act_value *)a.input + (uint64_t)row * a.columns;
        for (uint32_t k = threadIdx.x % 32; k < a.columns; k += 32) {
            sum = fmaf(float_of_act(input[k]), a.shared_router[k], sum);
        }
        sum = warp_sum(sum);
        sum = 1.0f / (1.0f + expf(-sum));
    } else {
        sum = 1.0f;
    }
    if (threadIdx.x % 32 == 0) {
        a.shared[row] = sum;
    }
}

/* from[e] becomes the sum of those before it of ceil(counts[e] / unit), by one warp; returns the sum
 * of all. */
__device__ __forceinline__ uint32_t route_scan(const uint32_t *counts, uint32_t *from,
                                               uint32_t count, uint32_t unit)
{
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t each = (count + 31) / 32;
    const uint32_t begin = lane * each < count ? lane * each : count;
    const uint32_t end = begin + each < count ? begin + each : count;
    uint32_t own = 0, before = 0, all = 0;
    for (uint32_t e = begin; e < end; e++) {
        own += (counts[e] + unit - 1) / unit;
    }
    for (uint32_t i = 0; i < 32; i++) {
        const uint32_t other = warp_shuffle(own, i);
        before += i < lane ? other : 0;
        all += other;
    }
    for (uint32_t e = begin; e < end; e++) {
        from[e] = before;
        before += (counts[e] + unit - 1) / unit;
    }
    return all;
}

/* Lists the rows of each expert, and cuts them into tiles: by one block, when all rows are routed.
 * Memory: 3 · ROUTE_EXPERTS_MAX words. In which order an expert's rows come changes no result. */
__device__ __forceinline__ void route_list(const struct route_arguments &a, uint32_t pairs,
                                           uint32_t *memory)
{
    uint32_t *counts = memory;
    uint32_t *next = memory + ROUTE_EXPERTS_MAX;
    uint32_t *first = memory + 2 * ROUTE_EXPERTS_MAX;
    for (uint32_t e = threadIdx.x; e < a.expert_count; e += ROUTE_THREADS) {
        counts[e] = 0;
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < pairs; i += ROUTE_THREADS) {
        atomic_add(counts + load_volatile(a.ids + i), 1);
    }
    __syncthreads();
    if (threadIdx.x < 32) {
        route_scan(counts, next, a.expert_count, 1);
    }
    __syncthreads();
    for (uint32_t which = 0; which < 2; which++) {
        const uint32_t tokens = which ? a.tile_tokens[1] : a.tile_tokens[0];
        struct expert_tile *tiles = which ? a.tiles[1] : a.tiles[0];
        if (threadIdx.x < 32) {
            const uint32_t all = route_scan(counts, first, a.expert_count, tokens);
            if (threadIdx.x == 0) {
                a.tile_counts[which] = all;
            }
        }
        __syncthreads();
        for (uint32_t e = threadIdx.x; e < a.expert_count; e += ROUTE_THREADS) {
            for (uint32_t begin = 0; begin < counts[e]; begin += tokens) {
                struct expert_tile tile;
                tile.expert = e;
                tile.begin = next[e] + begin;
                tile.count = counts[e] - begin < tokens ? counts[e] - begin : tokens;
                tile.reserved = 0;
                tiles[first[e] + begin / tokens] = tile;
            }
        }
        __syncthreads();
    }
    for (uint32_t i = threadIdx.x; i < pairs; i += ROUTE_THREADS) {
        a.places[atomic_add(next + load_volatile(a.ids + i), 1)] = i;
    }
}

/* route: the experts of every row, and the rows of every expert. Grid: x = ROUTE_ROWS rows of the
 * bucket, a warp each; the block that arrives last makes the lists. Bound: latency: for few rows
 * that of one block, 5 · used_count shuffles after another; of many the lists, 8 bytes of the
 * second-level cache and two atomics of shared memory a row and expert. */
extern "C" __global__ void KERNEL_BOUNDS(ROUTE_THREADS, 1) route(const struct route_arguments a)
{
    __shared__ uint32_t memory[ROUTE_ROWS * ROUTE_EXPERTS_MAX];
    __shared__ uint32_t chosen[ROUTE_ROWS][ROUTE_USED_MAX];
    __shared__ float sorted[ROUTE_ROWS][ROUTE_USED_MAX];
    __shared__ uint32_t last;
    release_successor();
    wait_for_predecessor();
    const uint32_t n = *a.count;
    const uint32_t warp = threadIdx.x / 32;
    const uint32_t row = blockIdx.x * ROUTE_ROWS + warp;
    if (row < n) { /* the same for a warp */
        route_row(a, row, memory + warp * ROUTE_EXPERTS_MAX, chosen[warp], sorted[warp]);
        route_shared(a, row);
    }
    thread_fence();
    __syncthreads();
    if (threadIdx.x == 0) {
        last = atomic_add(a.arrived, 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last) {
        return;
    }
    thread_fence();
    route_list(a, n * a.used_count, memory);
    if (threadIdx.x == 0) {
        *a.arrived = 0;
    }
}

/* --- activation and sum ---------------------------------------------------------------------- */

#define EXPERTS_THREADS 256

__device__ __forceinline__ float gated(float gate, float up, uint32_t kind)
{
    if (kind == ACTIVATION_CLAMPED) {
        gate = gate > 7.0f ? 7.0f : gate;
        up = up > 7.0f ? 7.0f : up < -7.0f ? -7.0f : up;
        return gate / (1.0f + expf(-1.702f * gate)) * (up + 1.0f);
    }
    return activated(gate, kind) * up;
}

/* Grid: x = places of the bucket, y = EXPERTS_THREADS units of a row. Bound: 8 bytes read and 2
 * written an element, in the second-level cache as long as they fit. */
extern "C" __global__ void KERNEL_BOUNDS(EXPERTS_THREADS, 1)
    experts_activate(const struct experts_activate_arguments a)
{
    release_successor();
    wait_for_predecessor();
    const uint32_t i = (blockIdx.y * EXPERTS_THREADS + threadIdx.x) * UNIT_ELEMENTS;
    const uint32_t place = blockIdx.x;
    if (place >= *a.count * a.used_count || i >= a.width) {
        return;
    }
    const uint32_t left = a.width - i;
    const uint32_t here = left < UNIT_ELEMENTS ? left : UNIT_ELEMENTS;
    const float *raw = a.raw + (uint64_t)place * a.width * 2 + i;
    const uint64_t table = a.ids ? (uint64_t)a.ids[place] * a.width + i : 0;
    float gate[UNIT_ELEMENTS], up[UNIT_ELEMENTS];
    unit_load(gate, raw, a.width, here);
    unit_load(up, raw + a.width, a.width, here);
#pragma unroll
    for (uint32_t e = 0; e < UNIT_ELEMENTS; e++) {
        const uint64_t at = table + (e < here ? e : 0);
        gate[e] += a.gate_bias ? a.gate_bias[at] : 0.0f;
        up[e] += a.up_bias ? a.up_bias[at] : 0.0f;
        up[e] = gated(gate[e], up[e], a.kind);
    }
    unit_store<ACT_TYPE>((act_value *)a.hidden + (uint64_t)place * a.width + i, up, a.width, here);
}

/* Grid: x = rows of the bucket, y = EXPERTS_THREADS elements of a row. Bound: 4 · used bytes read an
 * element, in the second-level cache. */
extern "C" __global__ void KERNEL_BOUNDS(EXPERTS_THREADS, 1)
    experts_combine(const struct experts_combine_arguments a)
{
    release_successor();
    wait_for_predecessor();
    const uint32_t i = blockIdx.y * EXPERTS_THREADS + threadIdx.x;
    const uint32_t row = blockIdx.x;
    if (row >= *a.count || i >= a.width) {
        return;
    }
    float sum = 0;
    for (uint32_t j = 0; j < a.used_count; j++) {
        const uint64_t place = (uint64_t)row * a.used_count + j;
        const float bias = a.bias ? a.bias[(uint64_t)a.ids[place] * a.width + i] : 0.0f;
        sum = add_rn(sum, mul_rn(a.weights[place], a.products[place * a.width + i] + bias));
    }
    const uint64_t at = (uint64_t)row * a.width + i;
    if (a.shared_product) {
        sum = add_rn(sum, mul_rn(a.shared[row], a.shared_product[at]));
    }
    a.residual[at] += sum;
}
