/* Attention of rows that have one query each and a long past: split over the past.
 *
 * Shapes: H query heads in groups of H/K over a key-value head, D head size. The past of a row is
 * cut at absolute positions into partitions of 16 · DECODE_WARPS: warp w of a block takes cache
 * block w of each. A group is as many partitions, done by one block in turn, as leave the row at
 * most DECODE_GROUPS_MAX groups, and no fewer than the launch says, which has them the larger the more
 * rows it has; DECODE_ALONE partitions are one group in any case: joining two groups takes longer
 * (2 us on an H200) than a second partition (0.9 us). So the row's position and the bucket of rows
 * decide, and a row's sums do not depend on its company within one. Blocks of
 * a row with several groups leave partial sums; the last of them to arrive adds them in order, and
 * puts the counter back to zero.
 *
 * Grid: x = groups (of the longest past in the bucket), y = K · head tiles of up to 16 heads,
 * z = rows; surplus blocks leave at once. 32 · DECODE_WARPS threads.
 *
 * Matrix path (16-bit caches): heads are the rows of S = Q·Kᵀ and the columns of Oᵀ = Vᵀ·Pᵀ in
 * mma.m16n8k16. Sums over D and over positions do not mind in which order the instruction counts
 * them, so fragments are what 16-byte loads bring: keys and values go from memory to registers to
 * the tensor cores, never through shared memory, and the scores of a lane are its own fragment of
 * the second product. Slot of the block that a lane's column n of tile u is: 4 (n/2) + n%2 + 2 u.
 *
 * Bound: 4 D bytes a position and key-value head (16-bit). At 36 bytes/ns a multiprocessor this is
 * one cache block of D = 128 in 227 ns; a warp needs about 150 instructions for it, of 1,500 that
 * the multiprocessor issues meanwhile, and 32 mma of the ~180 it could do. Plain multiply-adds for
 * a group of 4 would take half of all issue slots, for 8 all of them. */

#define PARTITION    (KV_BLOCK * DECODE_WARPS)
#define TILE_HEADS   (HEAD_GROUP < 16 ? HEAD_GROUP : 16)
#define HEAD_TILES   ((HEAD_GROUP + TILE_HEADS - 1) / TILE_HEADS)
#define DECODE_BLOCK (32 * DECODE_WARPS)

/* What a row attends to, and how it is cut. Equal to gpu_attention_span in src/gpu/attention.c. */
struct decode_span {
    uint32_t begin; /* positions [begin, end) */
    uint32_t end;
    uint32_t first_partition;
    uint32_t group_partitions;
    uint32_t group_count;
};

__device__ __forceinline__ struct decode_span decode_span_of(uint32_t position, uint32_t window,
                                                             uint32_t partitions_least)
{
    struct decode_span span;
    span.end = position + 1;
    span.begin = window && window < span.end ? span.end - window : 0;
    span.first_partition = span.begin / PARTITION;
    uint32_t partitions = position / PARTITION - span.first_partition + 1;
    span.group_partitions = (partitions + DECODE_GROUPS_MAX - 1) / DECODE_GROUPS_MAX;
    const uint32_t least = partitions <= DECODE_ALONE ? DECODE_ALONE : partitions_least;
    span.group_partitions = span.group_partitions < least ? least : span.group_partitions;
    span.group_count = (partitions + span.group_partitions - 1) / span.group_partitions;
    return span;
}

/* Where a block works. */
struct decode_place {
    uint32_t index; /* of the row among those that decode: its counter */
    uint32_t row;
    uint32_t position;
    uint32_t kv_head;
    uint32_t head_first; /* query heads [head_first, head_first + head_count) */
    uint32_t head_count;
    const uint32_t *block_table;
    struct decode_span span;
};

/* False when there is nothing to do for this block. */
__device__ __forceinline__ bool decode_place_find(struct decode_place *place,
                                                  const struct attention_decode_arguments &a)
{
    const struct step_state *state = a.step.state;
    place->index = a.index_first + blockIdx.z;
    if (place->index >= (a.decode_rows ? state->decode_count : state->row_count)) {
        return false;
    }
    place->row = a.decode_rows ? a.decode_rows[place->index] : place->index;
    place->position = a.step.positions[place->row];
    place->block_table =
        a.step.block_tables + (uint64_t)a.step.sequences[place->row] * state->block_table_stride;
    place->span = decode_span_of(place->position, a.window, a.partitions_least);
    uint32_t tile = blockIdx.y % HEAD_TILES;
    place->kv_head = blockIdx.y / HEAD_TILES;
    place->head_first = place->kv_head * HEAD_GROUP + tile * TILE_HEADS;
    uint32_t rest = HEAD_GROUP - tile * TILE_HEADS;
    place->head_count = rest < TILE_HEADS ? rest : TILE_HEADS;
    return blockIdx.x < place->span.group_count;
}

/* The cache blocks of the block's group, [begin, end); the row may attend to none of the first. */
__device__ __forceinline__ uint32_t decode_blocks_begin(const struct decode_place &place)
{
    return (place.span.first_partition + blockIdx.x * place.span.group_partitions) * DECODE_WARPS;
}

__device__ __forceinline__ uint32_t decode_blocks_end(const struct decode_place &place)
{
    uint32_t end = decode_blocks_begin(place) + place.span.group_partitions * DECODE_WARPS;
    uint32_t last = place.position / KV_BLOCK + 1;
    return end < last ? end : last;
}

/* Groups that are merged at a time. */
#define MERGE_GROUPS 32u
/* What a group leaves: sums [heads, D], and for each head its largest score and its denominator. */
#define DECODE_PARTIAL (TILE_HEADS * (HEAD_SIZE + 2))

/* Keys of 16-byte pieces a lane and tile, and of values a lane and slot. */
#define KEY_PIECES      ((HEAD_SIZE + 31) / 32)
#define VALUE_PIECES    ((HEAD_SIZE + 63) / 64)
#define HEAD_COLUMNS    ((TILE_HEADS + 7) / 8) /* tiles of 8 heads */
#define HEAD_SIZE_TILED (32 * KEY_PIECES)

/* Warps whose sums meet in shared memory. */
#define SUMMING_WARPS (ATTENTION_MATRIX ? DECODE_WARPS : 1)

/* Of attention_exact.cu: values of a partition, rows D rounded up to 16 with 16 bytes between. */
#define EXACT_SIZE         ((HEAD_SIZE + 15) / 16 * 16)
#define EXACT_VALUE_STRIDE (EXACT_SIZE + 8)

struct decode_shared {
    /* Zero above D and above the block's heads. */
    kv_value query[8 * HEAD_COLUMNS][HEAD_SIZE_TILED];
    kv_store key[HEAD_SIZE_TILED]; /* of the row's own position, in the fused kernel */
    kv_store value[HEAD_SIZE_TILED];
#if EXACT_MATRIX
    kv_value values[PARTITION][EXACT_VALUE_STRIDE];
    kv_value weights[8 * HEAD_COLUMNS][PARTITION + 8];
#endif
    struct rotary_row table;
    /* For the tail of a block: kept here, the loop over the past has its registers. */
    struct decode_place place;
#if EXACT_MATRIX
    float totals[DECODE_WARPS][TILE_HEADS][4]; /* of each lane of a head's four */
    float largest[DECODE_WARPS][TILE_HEADS];
#else
    /* Sums of the warps, relative to the largest score of the block, and their denominators. */
    float sums[SUMMING_WARPS][TILE_HEADS][HEAD_SIZE];
    float totals[SUMMING_WARPS][TILE_HEADS];
    float largest[SUMMING_WARPS][TILE_HEADS];
    float block_largest[TILE_HEADS];
#endif
    /* Of the merge. */
    float group_largest[MERGE_GROUPS][TILE_HEADS];
    float group_totals[MERGE_GROUPS][TILE_HEADS];
    float merged_largest[TILE_HEADS];
    float merged_totals[TILE_HEADS];
    uint32_t is_last;
    float own_scales[2]; /* of key and value */
    uint32_t unused[3];
};
static_assert(sizeof(struct decode_shared) == DECODE_SHARED_BYTES, "the host knows another size");

/* sum / total of a head with the sink in its denominator. */
__device__ __forceinline__ float decode_normalise(const float *sinks, uint32_t head, float largest,
                                                  float total, float sum)
{
    if (sinks) {
        float sink = sinks[head] * LOG2_E;
        float with_sink = fmaxf(largest, sink);
        float factor = fast_exp2(largest - with_sink);
        sum *= factor;
        total = fmaf(total, factor, fast_exp2(sink - with_sink));
    }
    return sum / total;
}

__device__ __forceinline__ float load_partial(const float *from)
{
    return float_of_bits(load_volatile((const uint32_t *)from));
}

/* Adds the partial sums of all groups of a row from the first to the last, each relative to the
 * largest score so far, and writes the row's result. The sums so far are scaled first and rounded,
 * then the group's are added in one step: where the scale is 1, as it mostly is, the tiles of
 * attention_exact.cu leave it out and come to the same bits. */
__device__ __forceinline__ void decode_merge(const struct attention_decode_arguments &a,
                                             struct decode_shared *shared, const float *partials,
                                             act_value *out)
{
    const struct decode_place &place = shared->place;
    constexpr uint32_t ELEMENTS = (TILE_HEADS * HEAD_SIZE + DECODE_BLOCK - 1) / DECODE_BLOCK;
    const uint32_t elements = place.head_count * HEAD_SIZE;
    float sums[ELEMENTS] = {};
    for (uint32_t first = 0; first < place.span.group_count; first += MERGE_GROUPS) {
        uint32_t rest = place.span.group_count - first;
        uint32_t count = rest < MERGE_GROUPS ? rest : MERGE_GROUPS;
        for (uint32_t i = threadIdx.x; i < count * TILE_HEADS; i += DECODE_BLOCK) {
            uint32_t head = i % TILE_HEADS;
            const float *ends = partials + (uint64_t)(first + i / TILE_HEADS) * DECODE_PARTIAL +
                                TILE_HEADS * HEAD_SIZE + 2 * head;
            shared->group_largest[i / TILE_HEADS][head] = load_partial(ends);
            shared->group_totals[i / TILE_HEADS][head] = load_partial(ends + 1);
        }
        __syncthreads();
        if (threadIdx.x < TILE_HEADS) {
            /* From here on: what the sums so far, and what the group's sum is multiplied by. */
            uint32_t head = threadIdx.x;
            float largest = first ? shared->merged_largest[head] : SCORE_NONE;
            float total = first ? shared->merged_totals[head] : 0.0f;
            for (uint32_t g = 0; g < count; g++) {
                float of_group = shared->group_largest[g][head];
                float next = fmaxf(largest, of_group);
                float keep = fast_exp2(largest - next);
                float add = fast_exp2(of_group - next);
                total = fmaf(shared->group_totals[g][head], add, mul_rn(total, keep));
                shared->group_largest[g][head] = keep;
                shared->group_totals[g][head] = add;
                largest = next;
            }
            shared->merged_largest[head] = largest;
            shared->merged_totals[head] = total;
        }
        __syncthreads();
#pragma unroll
        for (uint32_t i = 0; i < ELEMENTS; i++) {
            uint32_t e = threadIdx.x + i * DECODE_BLOCK;
            if (e < elements) {
                const float *from = partials + (uint64_t)first * DECODE_PARTIAL + e;
#pragma unroll 4
                for (uint32_t g = 0; g < count; g++) {
                    float sum = load_partial(from + (uint64_t)g * DECODE_PARTIAL);
                    sums[i] = fmaf(sum, shared->group_totals[g][e / HEAD_SIZE],
                                   mul_rn(sums[i], shared->group_largest[g][e / HEAD_SIZE]));
                }
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (uint32_t i = 0; i < ELEMENTS; i++) {
        uint32_t e = threadIdx.x + i * DECODE_BLOCK;
        if (e < elements) {
            uint32_t head = e / HEAD_SIZE;
            out[e] = value_of_float<ACT_TYPE>(
                decode_normalise(a.sinks, place.head_first + head, shared->merged_largest[head],
                                 shared->merged_totals[head], sums[i]));
        }
    }
}

/* Where a block of a row with several groups leaves its sums. */
__device__ __forceinline__ float *decode_partials(const struct attention_decode_arguments &a)
{
    const uint32_t tile = blockIdx.z * (KV_HEADS * HEAD_TILES) + blockIdx.y;
    return a.partials + (uint64_t)tile * a.group_stride * DECODE_PARTIAL;
}

__device__ __forceinline__ act_value *decode_out(const struct attention_decode_arguments &a,
                                                 const struct decode_place &place)
{
    return (act_value *)a.attended + ((uint64_t)place.row * HEADS + place.head_first) * HEAD_SIZE;
}

/* Ends a block that has left its partial sums: the last of its row to arrive merges them. */
__device__ __forceinline__ void decode_arrive(const struct attention_decode_arguments &a,
                                              struct decode_shared *shared)
{
    const struct decode_place &place = shared->place;
    const uint32_t tile = place.index * (KV_HEADS * HEAD_TILES) + blockIdx.y;
    thread_fence();
    __syncthreads();
    if (threadIdx.x == 0) {
        uint32_t arrived = atomic_add(&a.arrivals[tile], 1);
        shared->is_last = arrived + 1 == place.span.group_count;
        if (shared->is_last) {
            a.arrivals[tile] = 0;
        }
    }
    __syncthreads();
    if (shared->is_last) {
        thread_fence();
        decode_merge(a, shared, decode_partials(a), decode_out(a, place));
    }
}

#if !EXACT_MATRIX
/* Ends a block, after a barrier: the sums of the first `warps` warps are in shared memory. Writes
 * the row's result when the block is the row's only one, or the last to arrive. */
__device__ __forceinline__ void decode_finish(const struct attention_decode_arguments &a,
                                              struct decode_shared *shared, uint32_t warps)
{
    const struct decode_place &place = shared->place;
    act_value *out = decode_out(a, place);
    float *mine = decode_partials(a) + (uint64_t)blockIdx.x * DECODE_PARTIAL;
    const bool alone = place.span.group_count == 1;
    for (uint32_t e = threadIdx.x; e < place.head_count * HEAD_SIZE; e += DECODE_BLOCK) {
        uint32_t head = e / HEAD_SIZE;
        float sum = 0;
        float total = 0;
        for (uint32_t w = 0; w < warps; w++) {
            sum += shared->sums[w][head][e % HEAD_SIZE];
            total += shared->totals[w][head];
        }
        if (alone) {
            out[e] = value_of_float<ACT_TYPE>(decode_normalise(
                a.sinks, place.head_first + head, shared->block_largest[head], total, sum));
        } else {
            mine[e] = sum;
            if (e % HEAD_SIZE == 0) {
                mine[TILE_HEADS * HEAD_SIZE + 2 * head] = shared->block_largest[head];
                mine[TILE_HEADS * HEAD_SIZE + 2 * head + 1] = total;
            }
        }
    }
    if (!alone) {
        decode_arrive(a, shared);
    }
}
#endif

/* Makes the query heads of the block in shared memory, and in the fused kernel the key and value of
 * the row's own position where the block reads it; one head tile also writes those to the cache.
 * A barrier must follow. */
template <bool FUSED>
__device__ __forceinline__ void decode_prepare(const struct attention_decode_arguments &a,
                                               const struct decode_place &place,
                                               struct decode_shared *shared)
{
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t warp = threadIdx.x / 32;
    if constexpr (FUSED) {
        const bool owns = blockIdx.x == place.span.group_count - 1;
        const uint32_t vectors = place.head_count + (owns ? 2 : 0);
        for (uint32_t i = warp; i < vectors; i += DECODE_WARPS) {
            struct head_pairs head;
            bool is_query = i < place.head_count;
            bool is_key = i == place.head_count;
            uint32_t vector =
                is_query ? place.head_first + i : HEADS + (is_key ? 0 : KV_HEADS) + place.kv_head;
            vector_finish(&head, vector, place.row, &shared->table, a.projection);
            if (is_query) {
                head_store(&head, shared->query[i]);
                continue;
            }
            head_keep(&head, is_key ? shared->key : shared->value, &shared->own_scales[!is_key]);
            if (blockIdx.y % HEAD_TILES == 0) {
                kv_store *unit = (kv_store *)kv_unit(
                    a.cache, place.block_table[place.position / KV_BLOCK], place.kv_head);
                uint32_t slot = (is_key ? 0 : KV_BLOCK) + place.position % KV_BLOCK;
                head_keep(&head, unit + slot * HEAD_SIZE, (float *)kv_scale(unit, slot));
            }
        }
    } else {
        const kv_value *query = (const kv_value *)a.query +
                                ((uint64_t)place.row * HEADS + place.head_first) * HEAD_SIZE;
        for (uint32_t e = threadIdx.x; e < place.head_count * HEAD_SIZE; e += DECODE_BLOCK) {
            shared->query[e / HEAD_SIZE][e % HEAD_SIZE] = query[e];
        }
    }
    /* Zeros where no head and no element is. */
    for (uint32_t i = warp; i < 8 * HEAD_COLUMNS; i += DECODE_WARPS) {
        uint32_t first = i < place.head_count ? HEAD_SIZE : 0;
        for (uint32_t d = first + lane; d < HEAD_SIZE_TILED; d += 32) {
            shared->query[i][d] = 0;
        }
    }
    for (uint32_t d = HEAD_SIZE + threadIdx.x; d < HEAD_SIZE_TILED; d += DECODE_BLOCK) {
        shared->key[d] = 0;
        shared->value[d] = 0;
    }
}

#if ATTENTION_MATRIX

/* A lane's part of a cache block. */
struct decode_keys {
    kv_piece pieces[2][KEY_PIECES]; /* slot of tile u, elements 32 j + 8 (lane % 4) … + 7 */
    float scales[2];                /* where there are scales */
};
struct decode_values {
    kv_piece pieces[VALUE_PIECES]
                   [4]; /* slots 4 (lane % 4) + s, elements 64 i + 8 (lane / 4) … */
    float scales[4];
};

__device__ __forceinline__ uint32_t decode_key_slot(uint32_t tile)
{
    const uint32_t column = threadIdx.x % 32 / 4;
    return 4 * (column / 2) + column % 2 + 2 * tile;
}

/* Positions [begin, end) of the cache are read, the others are zeros. */
__device__ __forceinline__ void decode_load_keys(struct decode_keys *keys, const kv_store *unit,
                                                 uint32_t position, uint32_t begin, uint32_t end)
{
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (uint32_t u = 0; u < 2; u++) {
        const uint32_t slot = decode_key_slot(u);
        const bool valid = position + slot >= begin && position + slot < end;
#pragma unroll
        for (uint32_t j = 0; j < KEY_PIECES; j++) {
            const uint32_t d = 32 * j + 8 * (lane % 4);
            kv_piece piece = {};
            if (valid && d < HEAD_SIZE) {
                kv_piece_load(&piece, unit + slot * HEAD_SIZE + d);
            }
            keys->pieces[u][j] = piece;
        }
        if constexpr (KV_STORE == KV_STORE_Q8_0) {
            keys->scales[u] = valid ? float_of_bits(load_stream4(kv_scale(unit, slot))) : 0.0f;
        }
    }
}

__device__ __forceinline__ void decode_load_values(struct decode_values *values,
                                                   const kv_store *unit, uint32_t position,
                                                   uint32_t begin, uint32_t end)
{
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (uint32_t s = 0; s < 4; s++) {
        const uint32_t slot = 4 * (lane % 4) + s;
        const bool valid = position + slot >= begin && position + slot < end;
#pragma unroll
        for (uint32_t i = 0; i < VALUE_PIECES; i++) {
            const uint32_t d = 64 * i + 8 * (lane / 4);
            kv_piece piece = {};
            if (valid && d < HEAD_SIZE) {
                kv_piece_load(&piece, unit + (KV_BLOCK + slot) * HEAD_SIZE + d);
            }
            values->pieces[i][s] = piece;
        }
        if constexpr (KV_STORE == KV_STORE_Q8_0) {
            values->scales[s] =
                valid ? float_of_bits(load_stream4(kv_scale(unit, KV_BLOCK + slot))) : 0.0f;
        }
    }
}

/* Puts the row's own key and value, which are in shared memory, where the cache was not read. */
__device__ __forceinline__ void decode_insert(struct decode_keys *keys,
                                              struct decode_values *values,
                                              const struct decode_shared *shared, uint32_t own_slot)
{
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (uint32_t u = 0; u < 2; u++) {
#pragma unroll
        for (uint32_t j = 0; j < KEY_PIECES; j++) {
            if (decode_key_slot(u) == own_slot) {
                kv_piece_load_shared(&keys->pieces[u][j], shared->key + 32 * j + 8 * (lane % 4));
            }
        }
        if (KV_STORE == KV_STORE_Q8_0 && decode_key_slot(u) == own_slot) {
            keys->scales[u] = shared->own_scales[0];
        }
    }
#pragma unroll
    for (uint32_t s = 0; s < 4; s++) {
#pragma unroll
        for (uint32_t i = 0; i < VALUE_PIECES; i++) {
            const uint32_t d = 64 * i + 8 * (lane / 4);
            if (4 * (lane % 4) + s == own_slot && d < HEAD_SIZE) {
                kv_piece_load_shared(&values->pieces[i][s], shared->value + d);
            }
        }
        if (KV_STORE == KV_STORE_Q8_0 && 4 * (lane % 4) + s == own_slot) {
            values->scales[s] = shared->own_scales[1];
        }
    }
}

/* What a warp has summed so far. Lane l holds heads l / 4 + 8 c of largest and total (the total
 * of its own slots), and of output m-tile (i, j): elements 64 i + 8 (l / 4) + 2 j + {0, 1} of heads
 * 8 c + 2 (l % 4) + {0, 1}, as [0] = (d, head), [1] = (d, head + 1), [2] = (d + 1, head), [3]. */
struct decode_sums {
    float output[4 * VALUE_PIECES][HEAD_COLUMNS][4];
    float largest[HEAD_COLUMNS];
    float total[HEAD_COLUMNS];
};

/* S = Q·Kᵀ of 16 positions: scores[c][2 u + e] is head l / 4 + 8 c, slot 4 (l % 4) + 2 u + e. */
__device__ __forceinline__ void decode_scores(float scores[HEAD_COLUMNS][4],
                                              const struct decode_keys *keys,
                                              const struct decode_shared *shared)
{
    const uint32_t lane = threadIdx.x % 32;
    float products[2][4] = {};
#pragma unroll
    for (uint32_t j = 0; j < KEY_PIECES; j++) {
        struct word4 low = load16(&shared->query[lane / 4][32 * j + 8 * (lane % 4)]);
        struct word4 high = {0, 0, 0, 0};
        if constexpr (HEAD_COLUMNS == 2) {
            high = load16(&shared->query[8 + lane / 4][32 * j + 8 * (lane % 4)]);
        }
        const uint32_t first[4] = {low.x, high.x, low.y, high.y};
        const uint32_t second[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
        for (uint32_t u = 0; u < 2; u++) {
            const struct word4 key = kv_widen(keys->pieces[u][j], keys->scales[u]);
            const uint32_t key_first[2] = {key.x, key.y};
            const uint32_t key_second[2] = {key.z, key.w};
            kv_mma(products[u], first, key_first);
            kv_mma(products[u], second, key_second);
        }
    }
#pragma unroll
    for (uint32_t c = 0; c < HEAD_COLUMNS; c++) {
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            scores[c][i] = products[i / 2][2 * c + i % 2];
        }
    }
}

#if EXACT_MATRIX
template <bool FUSED> /* attention_exact.cu */
__device__ __forceinline__ void decode_run(const struct attention_decode_arguments &a,
                                           const struct decode_place &place,
                                           struct decode_shared *shared);
#else
/* Scores become weights relative to the largest score so far; the sums so far are scaled to it. */
__device__ __forceinline__ void decode_weigh(float scores[HEAD_COLUMNS][4],
                                             struct decode_sums *sums,
                                             const struct attention_decode_arguments &a,
                                             uint32_t position, uint32_t begin, uint32_t end)
{
    const uint32_t lane = threadIdx.x % 32;
    if (a.score.cap != 0) {
#pragma unroll
        for (uint32_t i = 0; i < 4 * HEAD_COLUMNS; i++) {
            scores[i / 4][i % 4] = score_capped(scores[i / 4][i % 4], a.score);
        }
    }
    const float factor = a.score.cap != 0 ? 1.0f : a.score.factor;
#pragma unroll
    for (uint32_t c = 0; c < HEAD_COLUMNS; c++) {
        float largest = sums->largest[c];
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t p = position + 4 * (lane % 4) + i;
            scores[c][i] = p >= begin && p < end ? scores[c][i] * factor : SCORE_MASKED;
            largest = fmaxf(largest, scores[c][i]);
        }
        largest = fmaxf(largest, warp_shuffle_xor(largest, 1));
        largest = fmaxf(largest, warp_shuffle_xor(largest, 2));
        const float keep = fast_exp2(sums->largest[c] - largest);
        sums->largest[c] = largest;
        float total = 0;
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            scores[c][i] = fast_exp2(scores[c][i] - largest);
            total += scores[c][i];
        }
        sums->total[c] = fmaf(sums->total[c], keep, total);
        const float keep_first = warp_shuffle(keep, 8 * (lane % 4));
        const float keep_second = warp_shuffle(keep, 8 * (lane % 4) + 4);
#pragma unroll
        for (uint32_t m = 0; m < 4 * VALUE_PIECES; m++) {
            sums->output[m][c][0] *= keep_first;
            sums->output[m][c][1] *= keep_second;
            sums->output[m][c][2] *= keep_first;
            sums->output[m][c][3] *= keep_second;
        }
    }
}

__device__ __forceinline__ uint32_t word_of(const struct word4 &piece, uint32_t index)
{
    return index == 0 ? piece.x : index == 1 ? piece.y : index == 2 ? piece.z : piece.w;
}

/* Oᵀ += Vᵀ·Pᵀ of 16 positions. */
__device__ __forceinline__ void decode_add_values(struct decode_sums *sums,
                                                  const float weights[HEAD_COLUMNS][4],
                                                  const struct decode_values *values)
{
    uint32_t b[HEAD_COLUMNS][2];
#pragma unroll
    for (uint32_t c = 0; c < HEAD_COLUMNS; c++) {
        b[c][0] = kv_pair(weights[c][0], weights[c][1]);
        b[c][1] = kv_pair(weights[c][2], weights[c][3]);
    }
#pragma unroll
    for (uint32_t i = 0; i < VALUE_PIECES; i++) {
        const struct word4 slots[4] = {kv_widen(values->pieces[i][0], values->scales[0]),
                                       kv_widen(values->pieces[i][1], values->scales[1]),
                                       kv_widen(values->pieces[i][2], values->scales[2]),
                                       kv_widen(values->pieces[i][3], values->scales[3])};
#pragma unroll
        for (uint32_t j = 0; j < 4; j++) {
            const uint32_t v0 = word_of(slots[0], j);
            const uint32_t v1 = word_of(slots[1], j);
            const uint32_t v2 = word_of(slots[2], j);
            const uint32_t v3 = word_of(slots[3], j);
            const uint32_t transposed[4] = {
                (v0 & 0xffffu) | v1 << 16,
                v0 >> 16 | (v1 & 0xffff0000u),
                (v2 & 0xffffu) | v3 << 16,
                v2 >> 16 | (v3 & 0xffff0000u),
            };
#pragma unroll
            for (uint32_t c = 0; c < HEAD_COLUMNS; c++) {
                kv_mma(sums->output[4 * i + j][c], transposed, b[c]);
            }
        }
    }
}

/* Leaves the warps' sums in shared memory, relative to the largest score of the block. Barriers
 * inside; one must follow. */
__device__ __forceinline__ void decode_leave(struct decode_sums *sums, struct decode_shared *shared,
                                             uint32_t warps)
{
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t warp = threadIdx.x / 32;
#pragma unroll
    for (uint32_t c = 0; c < HEAD_COLUMNS; c++) {
        const uint32_t head = 8 * c + lane / 4;
        sums->total[c] += warp_shuffle_xor(sums->total[c], 1);
        sums->total[c] += warp_shuffle_xor(sums->total[c], 2);
        if (head < TILE_HEADS && lane % 4 == 0) {
            shared->largest[warp][head] = sums->largest[c];
        }
    }
    __syncthreads();
#pragma unroll
    for (uint32_t c = 0; c < HEAD_COLUMNS; c++) {
        const uint32_t head = 8 * c + lane / 4;
        float largest = SCORE_NONE;
        for (uint32_t w = 0; head < TILE_HEADS && w < warps; w++) {
            largest = fmaxf(largest, shared->largest[w][head]);
        }
        const float factor = fast_exp2(sums->largest[c] - largest);
        if (head < TILE_HEADS && lane % 4 == 0) {
            shared->totals[warp][head] = sums->total[c] * factor;
            if (warp == 0) {
                shared->block_largest[head] = largest;
            }
        }
        const float factors[2] = {warp_shuffle(factor, 8 * (lane % 4)),
                                  warp_shuffle(factor, 8 * (lane % 4) + 4)};
#pragma unroll
        for (uint32_t e = 0; e < 2; e++) {
            const uint32_t column = 8 * c + 2 * (lane % 4) + e;
            if (warp >= warps || column >= TILE_HEADS) {
                continue;
            }
#pragma unroll
            for (uint32_t m = 0; m < 4 * VALUE_PIECES; m++) {
                const uint32_t d = 64 * (m / 4) + 8 * (lane / 4) + 2 * (m % 4);
                if (d < HEAD_SIZE) {
                    float *to = &shared->sums[warp][column][d];
                    to[0] = sums->output[m][c][e] * factors[e];
                    to[1] = sums->output[m][c][2 + e] * factors[e];
                }
            }
        }
    }
}

template <bool FUSED>
__device__ __forceinline__ void decode_run(const struct attention_decode_arguments &a,
                                           const struct decode_place &place,
                                           struct decode_shared *shared)
{
    const uint32_t warp = threadIdx.x / 32;
    const uint32_t begin = place.span.begin;
    const uint32_t end = place.span.end;
    const uint32_t group_begin = decode_blocks_begin(place);
    const uint32_t blocks_end = decode_blocks_end(place);
    /* The fused kernel's own position is not in the cache yet. */
    const uint32_t cached_end = FUSED ? end - 1 : end;
    uint32_t block = group_begin + warp;
    while (block < begin / KV_BLOCK) {
        block += DECODE_WARPS;
    }
    struct decode_keys keys;
    struct decode_values values;
    const kv_store *unit = nullptr;
    if constexpr (!FUSED) {
        wait_for_predecessor();
    }
    if (block < blocks_end) {
        unit = kv_unit(a.cache, place.block_table[block], place.kv_head);
        decode_load_keys(&keys, unit, block * KV_BLOCK, begin, cached_end);
        decode_load_values(&values, unit, block * KV_BLOCK, begin, cached_end);
    }
    if constexpr (FUSED) {
        /* The past was written by earlier steps: it is on its way while the predecessor ends. */
        rotary_fill(&shared->table, a.projection, place.position);
        __syncthreads();
        wait_for_predecessor();
    }
    decode_prepare<FUSED>(a, place, shared);
    __syncthreads();

    struct decode_sums sums = {};
#pragma unroll
    for (uint32_t c = 0; c < HEAD_COLUMNS; c++) {
        sums.largest[c] = SCORE_NONE;
    }
    while (block < blocks_end) {
        const uint32_t next = block + DECODE_WARPS;
        /* What the loop does not need all the time stays in shared memory, and is read anew: the
         * registers are for keys and values on their way. */
        asm volatile("" ::: "memory");
        const uint32_t begin = shared->place.span.begin;
        const uint32_t end = shared->place.span.end;
        const uint32_t cached_end = FUSED ? end - 1 : end;
        const uint32_t next_id = next < blocks_end ? shared->place.block_table[next] : 0;
        if (FUSED && block == (end - 1) / KV_BLOCK) {
            decode_insert(&keys, &values, shared, (end - 1) % KV_BLOCK);
        }
        float scores[HEAD_COLUMNS][4];
        decode_scores(scores, &keys, shared);
        unit = kv_unit(a.cache, next_id, place.kv_head);
        if (next < blocks_end) {
            decode_load_keys(&keys, unit, next * KV_BLOCK, begin, cached_end);
        }
        decode_weigh(scores, &sums, a, block * KV_BLOCK, begin, end);
        decode_add_values(&sums, scores, &values);
        if (next < blocks_end) {
            decode_load_values(&values, unit, next * KV_BLOCK, begin, cached_end);
        }
        block = next;
    }
    const uint32_t blocks = blocks_end - group_begin;
    const uint32_t warps = blocks < DECODE_WARPS ? blocks : DECODE_WARPS;
    decode_leave(&sums, shared, warps);
    __syncthreads();
    decode_finish(a, shared, warps);
}

#endif

#else

/* Any type and head size, by plain multiply-adds: a thread a (head, position), then a thread a
 * (head, element). One partition at a time; "warp" 0 of the shared sums holds the block's. */
template <bool FUSED>
__device__ __forceinline__ void decode_run(const struct attention_decode_arguments &a,
                                           const struct decode_place &place,
                                           struct decode_shared *shared)
{
    __shared__ float weights[TILE_HEADS][PARTITION];
    __shared__ float keep[TILE_HEADS];
    const struct decode_span &span = place.span;
    const uint32_t group_begin = decode_blocks_begin(place);
    const uint32_t blocks_end = decode_blocks_end(place);
    if constexpr (FUSED) {
        rotary_fill(&shared->table, a.projection, place.position);
        __syncthreads();
    }
    wait_for_predecessor();
    decode_prepare<FUSED>(a, place, shared);
    for (uint32_t e = threadIdx.x; e < TILE_HEADS * HEAD_SIZE; e += DECODE_BLOCK) {
        shared->sums[0][e / HEAD_SIZE][e % HEAD_SIZE] = 0;
    }
    if (threadIdx.x < TILE_HEADS) {
        shared->block_largest[threadIdx.x] = SCORE_NONE;
        shared->totals[0][threadIdx.x] = 0;
    }
    __syncthreads();
    for (uint32_t first = group_begin; first < blocks_end; first += DECODE_WARPS) {
        const uint32_t position = first * KV_BLOCK;
        const uint32_t low = span.begin > position ? span.begin - position : 0;
        const uint32_t rest = span.end - position;
        const uint32_t high = rest < PARTITION ? rest : PARTITION;
        if (low >= high) {
            continue;
        }
        for (uint32_t i = threadIdx.x; i < place.head_count * PARTITION; i += DECODE_BLOCK) {
            const uint32_t head = i / PARTITION;
            const uint32_t slot = i % PARTITION;
            float score = SCORE_MASKED;
            if (slot >= low && slot < high) {
                const uint32_t p = position + slot;
                const bool own = FUSED && p == place.position;
                const kv_store *key =
                    own ? shared->key
                        : kv_unit(a.cache, place.block_table[p / KV_BLOCK], place.kv_head) +
                              p % KV_BLOCK * HEAD_SIZE;
                float product = 0;
                for (uint32_t d = 0; d < HEAD_SIZE; d++) {
                    product = fmaf(float_of_value<KV_TYPE>(shared->query[head][d]),
                                   float_of_value<KV_TYPE>(key[d]), product);
                }
                score = a.score.cap != 0 ? score_capped(product, a.score) : product * a.score.factor;
            }
            weights[head][slot] = score;
        }
        __syncthreads();
        for (uint32_t head = threadIdx.x / 32; head < place.head_count; head += DECODE_WARPS) {
            const float before = shared->block_largest[head];
            float largest = before;
            for (uint32_t slot = threadIdx.x % 32; slot < PARTITION; slot += 32) {
                largest = fmaxf(largest, weights[head][slot]);
            }
            largest = warp_max(largest);
            float total = 0;
            for (uint32_t slot = threadIdx.x % 32; slot < PARTITION; slot += 32) {
                const float weight = fast_exp2(weights[head][slot] - largest);
                weights[head][slot] = weight;
                total += weight;
            }
            total = warp_sum(total);
            if (threadIdx.x % 32 == 0) {
                keep[head] = fast_exp2(before - largest);
                shared->block_largest[head] = largest;
                shared->totals[0][head] = fmaf(shared->totals[0][head], keep[head], total);
            }
        }
        __syncthreads();
        for (uint32_t e = threadIdx.x; e < place.head_count * HEAD_SIZE; e += DECODE_BLOCK) {
            const uint32_t head = e / HEAD_SIZE;
            const uint32_t d = e % HEAD_SIZE;
            float sum = shared->sums[0][head][d] * keep[head];
            for (uint32_t slot = low; slot < high; slot++) {
                const uint32_t p = position + slot;
                const bool own = FUSED && p == place.position;
                const kv_store *value =
                    own ? shared->value
                        : kv_unit(a.cache, place.block_table[p / KV_BLOCK], place.kv_head) +
                              (KV_BLOCK + p % KV_BLOCK) * HEAD_SIZE;
                sum = fmaf(weights[head][slot], float_of_value<KV_TYPE>(value[d]), sum);
            }
            shared->sums[0][head][d] = sum;
        }
        __syncthreads();
    }
    decode_finish(a, shared, 1);
}

#endif

template <bool FUSED>
__device__ __forceinline__ void attention_decode_body(const struct attention_decode_arguments &a,
                                                      struct decode_shared *shared)
{
    release_successor();
    struct decode_place place;
    if (!decode_place_find(&place, a)) {
        /* One block of every launch waits, so that launches end in their order. */
        if (blockIdx.x + blockIdx.y + blockIdx.z == 0) {
            wait_for_predecessor();
        }
        return;
    }
    if (threadIdx.x == 0) {
        shared->place = place;
    }
    decode_run<FUSED>(a, place, shared);
}

/* Reads queries that qkv_finish has written; all keys and values are in the cache. */
extern "C" __global__ void KERNEL_BOUNDS(DECODE_BLOCK, 2)
    attention_decode(const struct attention_decode_arguments arguments)
{
    SHARED_DYNAMIC(struct decode_shared, shared);
    attention_decode_body<false>(arguments, shared);
}

/* Reads raw projections and does the work of qkv_finish for its rows: one launch a layer. No two
 * rows of the step may belong to one sequence. */
extern "C" __global__ void KERNEL_BOUNDS(DECODE_BLOCK, 2)
    attention_decode_fused(const struct attention_decode_arguments arguments)
{
    SHARED_DYNAMIC(struct decode_shared, shared);
    attention_decode_body<true>(arguments, shared);
}
