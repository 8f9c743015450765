/* Attention of tiles of consecutive rows of one sequence, in flash style: scores of 64 positions at
 * a time live in registers and never reach memory.
 *
 * Shapes: a tile has up to PREFILL_ROWS = 64 · PREFILL_ROW_TILES rows at ascending positions; the
 * four warps of a block take 16 · PREFILL_ROW_TILES rows each, of one query head. Keys and values of
 * 64 positions are brought to shared memory while those before are worked on; rows there are D
 * rounded up to 16 with 16 bytes between, so that eight of them lie in different banks.
 * Grid: x = H, y = tiles of the bucket, the host puts tiles with the longest past first; surplus
 * blocks leave at once. 128 threads, PREFILL_SHARED_BYTES.
 *
 * Bound: 4 D FLOP a row, position and head. A tile of 128 rows reads 4 D bytes a position for
 * 512 D FLOP: 128 FLOP a byte, from the second-level cache, so the tensor cores decide. A fragment
 * of keys or values (256 bytes of shared memory) serves PREFILL_ROW_TILES products: with one, shared
 * memory is as slow as they are, and a warp's scores, exponentials and sums wait for one another.
 * What fills those waits are other warps: with small heads many narrow ones are faster.
 *
 * The largest score of a row is followed by PREFILL_POSITIONS at a time, where decode does so by
 * partitions: the two do not agree to the bit. With ATTENTION_EXACT they do: fetching, scores,
 * weights and sums are then those of attention_exact.cu. */
#if ATTENTION_MATRIX && defined(PREFILL_ROW_TILES)

#define PREFILL_THREADS   128
#define PREFILL_ROWS      (64 * PREFILL_ROW_TILES)
#define HEAD_SIZE_PADDED  ((HEAD_SIZE + 15) / 16 * 16)
#define PREFILL_STRIDE    (HEAD_SIZE_PADDED + 8)
#define PREFILL_PIECES    (HEAD_SIZE_PADDED / 8)
#define PREFILL_COLUMNS   (PREFILL_POSITIONS / 8)
#define PREFILL_OUTPUTS   (HEAD_SIZE_PADDED / 8)
/* Few rows leave registers for their queries, which are then read once. */
#define PREFILL_HELD      (PREFILL_ROW_TILES == 1 && HEAD_SIZE <= 128 && !EXACT_MATRIX)

#if !EXACT_MATRIX
#define QUERY_PIECES PREFILL_PIECES
struct prefill_shared {
    kv_value query[PREFILL_ROWS][PREFILL_STRIDE];
    kv_value keys[2][PREFILL_POSITIONS][PREFILL_STRIDE];
    kv_value values[2][PREFILL_POSITIONS][PREFILL_STRIDE];
#if KV_STORE == KV_STORE_Q8_0
    float scales[2][2][PREFILL_POSITIONS]; /* of keys, of values */
#endif
};
#else
/* Rows in which eight lanes read 128 bytes of two neighbours. */
#define QUERY_PIECES (HEAD_SIZE_TILED / 8)
struct prefill_shared {
    kv_value query[PREFILL_ROWS][HEAD_SIZE_TILED];
    kv_value keys[2][PREFILL_POSITIONS][HEAD_SIZE_TILED];
    kv_value values[2][PREFILL_POSITIONS][EXACT_VALUE_STRIDE];
};
#endif
static_assert(sizeof(struct prefill_shared) == PREFILL_SHARED_BYTES, "the host knows another size");

/* What a warp has of its rows: lane l holds rows l / 4 and l / 4 + 8 of each row tile, of output
 * tile n the elements 8 n + 2 (l % 4) + {0, 1}: [0], [1] of the first row, [2], [3] of the second.
 * `total` is of the lane's own columns until the end; with ATTENTION_EXACT of all, and what the sums
 * of these positions are multiplied by is kept. */
struct prefill_rows {
#if PREFILL_HELD
    uint32_t query[HEAD_SIZE_PADDED / 16][4]; /* fragments */
#endif
    float output[PREFILL_ROW_TILES][PREFILL_OUTPUTS][4];
    float largest[PREFILL_ROW_TILES][2];
    float total[PREFILL_ROW_TILES][2];
#if EXACT_MATRIX
    float add[PREFILL_ROW_TILES][2];
#endif
};

__device__ __forceinline__ uint32_t prefill_block(const uint32_t *block_table, uint32_t first,
                                                  uint32_t end)
{
    const uint32_t position = first + threadIdx.x % 32 * KV_BLOCK;
    return position < end ? block_table[position / KV_BLOCK] : 0;
}

#if EXACT_MATRIX
__device__ __forceinline__ kv_value *prefill_query(struct prefill_shared *shared, uint32_t row,
                                                   uint32_t d);
__device__ __forceinline__ void prefill_fetch(struct prefill_shared *shared, uint32_t stage,
                                              const void *cache, uint32_t kv_head, uint32_t block,
                                              uint32_t first, uint32_t begin, uint32_t end);
__device__ __forceinline__ void
prefill_scores(float scores[PREFILL_ROW_TILES][PREFILL_COLUMNS][4],
               const struct prefill_rows *rows, const struct prefill_shared *shared, uint32_t stage,
               uint32_t warp_row);
__device__ __forceinline__ void
prefill_weigh(float scores[PREFILL_ROW_TILES][PREFILL_COLUMNS][4], struct prefill_rows *rows,
              const struct attention_prefill_arguments &a, uint32_t first, uint32_t row_position,
              bool masked);
__device__ __forceinline__ void
prefill_add_values(struct prefill_rows *rows,
                   const float weights[PREFILL_ROW_TILES][PREFILL_COLUMNS][4],
                   const struct prefill_shared *shared, uint32_t stage);
#else
__device__ __forceinline__ kv_value *prefill_query(struct prefill_shared *shared, uint32_t row,
                                                   uint32_t d)
{
    return &shared->query[row][d];
}

/* Starts bringing PREFILL_POSITIONS positions from `first`; `block` of lane i is the cache block of
 * positions first + 16 i. Zeros outside [begin, end). */
__device__ __forceinline__ void prefill_fetch(struct prefill_shared *shared, uint32_t stage,
                                              const void *cache, uint32_t kv_head, uint32_t block,
                                              uint32_t first, uint32_t begin, uint32_t end)
{
    constexpr uint32_t IN_PIECE = KV_IS_BYTES ? 16 : 8; /* elements */
    /* Bytes come to the second half of their row, whose first half they fill as halves later. */
    constexpr uint32_t OFFSET = KV_IS_BYTES ? HEAD_SIZE / 2 : 0;
#pragma unroll
    for (uint32_t i = 0; i < PREFILL_POSITIONS / KV_BLOCK; i++) {
        const kv_store *unit = kv_unit(cache, warp_shuffle(block, i), kv_head);
#if KV_STORE == KV_STORE_Q8_0
        if (threadIdx.x < 8) {
            copy_async16(&shared->scales[stage][threadIdx.x / 4][KV_BLOCK * i + threadIdx.x % 4 * 4],
                         kv_scale(unit, threadIdx.x * 4), first + KV_BLOCK * i < end);
        }
#endif
        for (uint32_t piece = threadIdx.x; piece < KV_BLOCK * (HEAD_SIZE_PADDED / IN_PIECE);
             piece += PREFILL_THREADS) {
            const uint32_t slot = piece / (HEAD_SIZE_PADDED / IN_PIECE);
            const uint32_t d = piece % (HEAD_SIZE_PADDED / IN_PIECE) * IN_PIECE;
            const uint32_t at = OFFSET + d / (IN_PIECE / 8);
            const uint32_t position = first + KV_BLOCK * i + slot;
            const bool valid = d < HEAD_SIZE && position >= begin && position < end;
            const kv_store *key = unit + (d < HEAD_SIZE ? slot * HEAD_SIZE + d : 0);
            copy_async16(&shared->keys[stage][KV_BLOCK * i + slot][at], key, valid);
            copy_async16(&shared->values[stage][KV_BLOCK * i + slot][at],
                         key + KV_BLOCK * HEAD_SIZE, valid);
        }
    }
}

#if KV_IS_BYTES
/* Bytes that have arrived become halves: a row is read by one warp before the same writes it. */
__device__ __forceinline__ void prefill_widen(struct prefill_shared *shared, uint32_t stage,
                                              uint32_t first, uint32_t begin, uint32_t end)
{
    constexpr uint32_t ROWS = 32 / PREFILL_PIECES; /* that a warp takes at a time */
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t d = lane % PREFILL_PIECES * 8;
    for (uint32_t base = threadIdx.x / 32 * ROWS; base < 2 * PREFILL_POSITIONS;
         base += PREFILL_THREADS / 32 * ROWS) {
        const uint32_t row = base + lane / PREFILL_PIECES;
        const bool inside = lane < ROWS * PREFILL_PIECES && row < 2 * PREFILL_POSITIONS;
        const uint32_t slot = row % PREFILL_POSITIONS;
        kv_value *to = row < PREFILL_POSITIONS ? shared->keys[stage][slot]
                                               : shared->values[stage][slot];
        struct word2 bytes = {0, 0};
        float scale = 0;
        if (inside) {
            bytes = load_pair((const uint8_t *)to + HEAD_SIZE + d);
#if KV_STORE == KV_STORE_Q8_0
            /* Of a slot that nothing was written to it could be anything. */
            const uint32_t position = first + slot;
            scale = position >= begin && position < end
                        ? shared->scales[stage][row / PREFILL_POSITIONS][slot]
                        : 0.0f;
#endif
        }
        __syncwarp();
        if (inside) {
            store16(to + d, kv_widen(bytes, scale));
        }
    }
    __syncthreads();
}
#endif

/* S = Q·Kᵀ of the warp's rows. */
__device__ __forceinline__ void
prefill_scores(float scores[PREFILL_ROW_TILES][PREFILL_COLUMNS][4],
               const struct prefill_rows *rows, const struct prefill_shared *shared, uint32_t stage,
               uint32_t warp_row)
{
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (uint32_t r = 0; r < PREFILL_ROW_TILES; r++) {
#pragma unroll
        for (uint32_t n = 0; n < PREFILL_COLUMNS; n++) {
#pragma unroll
            for (uint32_t i = 0; i < 4; i++) {
                scores[r][n][i] = 0;
            }
        }
    }
    /* Unrolled, the next fragments would need registers that a head of 128 does not leave. */
    constexpr uint32_t UNROLL = PREFILL_HELD             ? HEAD_SIZE_PADDED / 16
                                : HEAD_SIZE_PADDED > 112 ? 1
                                                         : 2;
#pragma unroll(UNROLL)
    for (uint32_t d = 0; d < HEAD_SIZE_PADDED; d += 16) {
        uint32_t query[PREFILL_ROW_TILES][4];
#pragma unroll
        for (uint32_t r = 0; r < PREFILL_ROW_TILES; r++) {
#if PREFILL_HELD
#pragma unroll
            for (uint32_t i = 0; i < 4; i++) {
                query[r][i] = rows->query[d / 16][i];
            }
#else
            ldmatrix4(query[r], &shared->query[warp_row + 16 * r + lane % 16][d + lane / 16 * 8]);
#endif
        }
#pragma unroll
        for (uint32_t n = 0; n < PREFILL_COLUMNS; n += 2) {
            uint32_t keys[4];
            ldmatrix4(keys, &shared->keys[stage][8 * n + lane / 16 * 8 + lane % 8]
                                         [d + lane / 8 % 2 * 8]);
#pragma unroll
            for (uint32_t r = 0; r < PREFILL_ROW_TILES; r++) {
                kv_mma(scores[r][n], query[r], keys);
                kv_mma(scores[r][n + 1], query[r], keys + 2);
            }
        }
    }
}

/* Scores become weights. `masked`: some position of the block is not for every row of the warp. */
__device__ __forceinline__ void
prefill_weigh(float scores[PREFILL_ROW_TILES][PREFILL_COLUMNS][4], struct prefill_rows *rows,
              const struct attention_prefill_arguments &a, uint32_t first, uint32_t row_position,
              bool masked)
{
    const uint32_t lane = threadIdx.x % 32;
    const float factor = a.score.cap != 0 ? 1.0f : a.score.factor;
    if (a.score.cap != 0) {
#pragma unroll
        for (uint32_t r = 0; r < PREFILL_ROW_TILES; r++) {
#pragma unroll
            for (uint32_t i = 0; i < 4 * PREFILL_COLUMNS; i++) {
                scores[r][i / 4][i % 4] = score_capped(scores[r][i / 4][i % 4], a.score);
            }
        }
    }
#pragma unroll
    for (uint32_t r = 0; r < PREFILL_ROW_TILES; r++) {
#pragma unroll
        for (uint32_t half = 0; half < 2; half++) {
            if (masked) {
                const uint32_t position = row_position + 16 * r + 8 * half + lane / 4;
                const uint32_t begin =
                    a.window && position >= a.window ? position + 1 - a.window : 0;
#pragma unroll
                for (uint32_t i = 0; i < 2 * PREFILL_COLUMNS; i++) {
                    const uint32_t p = first + i / 2 * 8 + lane % 4 * 2 + i % 2;
                    if (p > position || p < begin) {
                        scores[r][i / 2][2 * half + i % 2] = SCORE_MASKED;
                    }
                }
            }
            float largest = SCORE_MASKED;
#pragma unroll
            for (uint32_t i = 0; i < 2 * PREFILL_COLUMNS; i++) {
                largest = fmaxf(largest, scores[r][i / 2][2 * half + i % 2]);
            }
            largest = fmaxf(largest, warp_shuffle_xor(largest, 1));
            largest = fmaxf(largest, warp_shuffle_xor(largest, 2));
            largest = fmaxf(rows->largest[r][half], largest * factor);
            const float keep = fast_exp2(rows->largest[r][half] - largest);
            rows->largest[r][half] = largest;
            float total = 0;
#pragma unroll
            for (uint32_t i = 0; i < 2 * PREFILL_COLUMNS; i++) {
                float *score = &scores[r][i / 2][2 * half + i % 2];
                *score = fast_exp2(fmaf(*score, factor, -largest));
                total += *score;
            }
            rows->total[r][half] = fmaf(rows->total[r][half], keep, total);
            /* Past the first blocks the largest score rarely changes. */
            if (warp_any(keep != 1.0f)) {
#pragma unroll
                for (uint32_t n = 0; n < PREFILL_OUTPUTS; n++) {
                    rows->output[r][n][2 * half] *= keep;
                    rows->output[r][n][2 * half + 1] *= keep;
                }
            }
        }
    }
}

/* O += P·V. */
__device__ __forceinline__ void
prefill_add_values(struct prefill_rows *rows,
                   const float weights[PREFILL_ROW_TILES][PREFILL_COLUMNS][4],
                   const struct prefill_shared *shared, uint32_t stage)
{
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (uint32_t n = 0; n < PREFILL_COLUMNS; n += 2) {
        uint32_t a[PREFILL_ROW_TILES][4];
#pragma unroll
        for (uint32_t r = 0; r < PREFILL_ROW_TILES; r++) {
            a[r][0] = kv_pair(weights[r][n][0], weights[r][n][1]);
            a[r][1] = kv_pair(weights[r][n][2], weights[r][n][3]);
            a[r][2] = kv_pair(weights[r][n + 1][0], weights[r][n + 1][1]);
            a[r][3] = kv_pair(weights[r][n + 1][2], weights[r][n + 1][3]);
        }
#pragma unroll
        for (uint32_t o = 0; o < PREFILL_OUTPUTS; o += 2) {
            uint32_t values[4];
            ldmatrix4_transposed(
                values, &shared->values[stage][8 * n + lane % 16][8 * o + lane / 16 * 8]);
#pragma unroll
            for (uint32_t r = 0; r < PREFILL_ROW_TILES; r++) {
                kv_mma(rows->output[r][o], a[r], values);
                kv_mma(rows->output[r][o + 1], a[r], values + 2);
            }
        }
    }
}

#endif

__device__ __forceinline__ void prefill_store(struct prefill_rows *rows,
                                              const struct attention_prefill_arguments &a,
                                              uint32_t warp_row, uint32_t row_count)
{
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t head = blockIdx.x;
    /* Read once more: a register less meanwhile. */
    const uint32_t row_begin = load_volatile(&a.tiles[blockIdx.y].row_begin);
#pragma unroll
    for (uint32_t i = 0; i < 2 * PREFILL_ROW_TILES; i++) {
        float total = rows->total[i / 2][i % 2];
#if !EXACT_MATRIX
        float factor = 1.0f;
        total += warp_shuffle_xor(total, 1);
        total += warp_shuffle_xor(total, 2);
        if (a.sinks) {
            const float sink = a.sinks[head] * LOG2_E;
            const float largest = fmaxf(rows->largest[i / 2][i % 2], sink);
            factor = fast_exp2(rows->largest[i / 2][i % 2] - largest);
            total = fmaf(total, factor, fast_exp2(sink - largest));
        }
        factor /= total;
#endif
        const uint32_t row = warp_row + 16 * (i / 2) + 8 * (i % 2) + lane / 4;
        if (row >= row_count) {
            continue;
        }
        act_value *out = (act_value *)a.attended +
                         ((uint64_t)(row_begin + row) * HEADS + head) * HEAD_SIZE;
#pragma unroll
        for (uint32_t o = 0; o < PREFILL_OUTPUTS; o++) {
            const uint32_t d = 8 * o + lane % 4 * 2;
            float first = rows->output[i / 2][o][i % 2 * 2];
            float second = rows->output[i / 2][o][i % 2 * 2 + 1];
#if EXACT_MATRIX
            first = decode_normalise(a.sinks, head, rows->largest[i / 2][i % 2], total, first);
            second = decode_normalise(a.sinks, head, rows->largest[i / 2][i % 2], total, second);
#else
            first *= factor;
            second *= factor;
#endif
            if (d < HEAD_SIZE) {
                if constexpr (ACT_TYPE == TYPE_F16) {
                    *(uint32_t *)(out + d) = f16x2_of_floats(first, second);
                } else if constexpr (ACT_TYPE == TYPE_BF16) {
                    *(uint32_t *)(out + d) = bf16x2_of_floats(first, second);
                } else {
                    out[d] = value_of_float<ACT_TYPE>(first);
                    out[d + 1] = value_of_float<ACT_TYPE>(second);
                }
            }
        }
    }
}

extern "C" __global__ void KERNEL_BOUNDS(PREFILL_THREADS, PREFILL_BLOCKS)
    attention_prefill(const struct attention_prefill_arguments arguments)
{
    SHARED_DYNAMIC(struct prefill_shared, shared);
    const struct attention_prefill_arguments &a = arguments;
    release_successor();
    if (blockIdx.y >= a.step.state->tile_count) {
        /* One block of every launch waits, so that launches end in their order. */
        if (blockIdx.x + blockIdx.y == 0) {
            wait_for_predecessor();
        }
        return;
    }
    const struct word4 words = load16(&a.tiles[blockIdx.y]);
    const struct attention_tile tile = {words.x, words.y, words.z, words.w};
    const uint32_t *block_table =
        a.step.block_tables + (uint64_t)tile.sequence * a.step.state->block_table_stride;
    const uint32_t head = blockIdx.x;
    const uint32_t kv_head = head / HEAD_GROUP;
    const uint32_t warp_row = threadIdx.x / 32 * (16 * PREFILL_ROW_TILES);
    const uint32_t end = tile.position + tile.row_count;
    const uint32_t begin =
        a.window && tile.position >= a.window ? tile.position + 1 - a.window : 0;
    wait_for_predecessor();

    const kv_value *query =
        (const kv_value *)a.query + ((uint64_t)tile.row_begin * HEADS + head) * HEAD_SIZE;
    for (uint32_t piece = threadIdx.x; piece < PREFILL_ROWS * QUERY_PIECES;
         piece += PREFILL_THREADS) {
        const uint32_t row = piece / QUERY_PIECES;
        const uint32_t d = piece % QUERY_PIECES * 8;
        const bool valid = row < tile.row_count && d < HEAD_SIZE;
        copy_async16(prefill_query(shared, row, d),
                     query + (valid ? (uint64_t)row * (HEADS * HEAD_SIZE) + d : 0), valid);
    }
    uint32_t first = begin / PREFILL_POSITIONS * PREFILL_POSITIONS;
    /* Lane i holds the cache block of positions first + 16 i, one round ahead. */
    uint32_t block = prefill_block(block_table, first, end);
    prefill_fetch(shared, first / PREFILL_POSITIONS % 2, a.cache, kv_head, block, first, begin, end);
    copy_async_commit();
    block = prefill_block(block_table, first + PREFILL_POSITIONS, end);

    struct prefill_rows rows = {};
#pragma unroll
    for (uint32_t i = 0; i < 2 * PREFILL_ROW_TILES; i++) {
        rows.largest[i / 2][i % 2] = SCORE_NONE;
    }
#if PREFILL_HELD
    copy_async_wait<0>();
    __syncthreads();
#pragma unroll
    for (uint32_t d = 0; d < HEAD_SIZE_PADDED; d += 16) {
        ldmatrix4(rows.query[d / 16],
                  &shared->query[warp_row + threadIdx.x % 16][d + threadIdx.x % 32 / 16 * 8]);
    }
#endif
    const uint32_t row_position = tile.position + warp_row;
    const uint32_t row_last = row_position + 16 * PREFILL_ROW_TILES - 1;
    while (first < end) {
        const uint32_t stage = first / PREFILL_POSITIONS % 2;
        copy_async_wait<0>();
        __syncthreads();
        /* Whoever reached this has done with the other stage. */
        const uint32_t next = first + PREFILL_POSITIONS;
        if (next < end) {
            prefill_fetch(shared, stage ^ 1, a.cache, kv_head, block, next, begin, end);
            copy_async_commit();
            block = prefill_block(block_table, next + PREFILL_POSITIONS, end);
        }
#if KV_IS_BYTES
        prefill_widen(shared, stage, first, begin, end);
#endif
        if (row_position < end && first <= row_last) {
            const bool masked = next - 1 > row_position ||
                                (a.window && row_last >= a.window && first <= row_last - a.window);
            float scores[PREFILL_ROW_TILES][PREFILL_COLUMNS][4];
            prefill_scores(scores, &rows, shared, stage, warp_row);
            prefill_weigh(scores, &rows, a, first, row_position, masked);
            prefill_add_values(&rows, scores, shared, stage);
        }
        first = next;
    }
    if (row_position < end) {
        prefill_store(&rows, a, warp_row, end - (row_position - warp_row));
    }
}

#endif
