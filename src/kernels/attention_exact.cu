/* Attention whose sums have one order, whether a row decodes alone or is one of a tile of a prompt:
 * what attention_decode.cu and attention_prefill.cu do where ATTENTION_EXACT is set.
 *
 * The past is cut at absolute positions into partitions of 64, each of four cache blocks of 16. What
 * a partition gives a row is made of its own numbers alone:
 *   scores     from zero, 32 elements of D after another, each by two mma of 16: of four lanes, lane
 *              t brings elements 8 t … 8 t + 7, the first four of them to the first mma
 *   largest    of its valid scores, at least SCORE_NONE
 *   weights    exp2(score − largest), rounded to the cache's type for the sums
 *   sums       from zero, block after block by one mma: places 2 t, 2 t + 1 of its sixteen are slots
 *              4 t, 4 t + 1 of the block, places 8 + 2 t … are slots 4 t + 2, 4 t + 3
 *   total      of unrounded weights: of slots 4 t … 4 t + 3 in turn, of those block after block,
 *              then of the four t: (0 + 1) + (2 + 3)
 * Partitions are joined from first to last as decode_merge does: the sums so far are scaled to the
 * new largest score, which is exact and left out where the scale is 1, then the partition's sums are
 * added, scaled, in one step. Positions that a row does not attend to weigh exactly zero; whole
 * blocks or partitions of them change no bit, whether they are done or left out.
 *
 * The instruction's sum of an element depends on the operands of its own row and column and on their
 * places only, so that heads or rows beside it do not matter, nor which of the two operands they are.
 *
 * Decode: a block of four warps takes a partition of one row and a group's heads. A warp's keys come
 * to registers, its values to shared memory; weights meet there, and then each warp makes sums of
 * sixteen elements of D over all blocks. Tiles: as attention_prefill.cu; keys and values lie in
 * shared memory in the order of places, so that what a lane has of the scores are its weights. */
#if EXACT_MATRIX

static_assert(DECODE_WARPS == 4 && PARTITION == 64, "the order of sums is that of partitions of 64");

/* The place of a block's slot: slot 4 t + s is place 8 (s / 2) + 2 t + s % 2. */
__device__ __forceinline__ uint32_t exact_place(uint32_t slot)
{
    return slot % 4 / 2 * 8 + slot / 4 * 2 + slot % 2;
}

/* Brings the values of the warp's cache block to shared memory, zeros outside [begin, end). */
__device__ __forceinline__ void exact_fetch_values(struct decode_shared *shared,
                                                   const kv_value *unit, uint32_t position,
                                                   uint32_t begin, uint32_t end)
{
    const uint32_t warp = threadIdx.x / 32;
#pragma unroll
    for (uint32_t i = 0; i < EXACT_SIZE / 16; i++) {
        const uint32_t piece = threadIdx.x % 32 + 32 * i;
        const uint32_t slot = piece / (EXACT_SIZE / 8);
        const uint32_t d = piece % (EXACT_SIZE / 8) * 8;
        const bool valid = d < HEAD_SIZE && position + slot >= begin && position + slot < end;
        copy_async16(&shared->values[KV_BLOCK * warp + exact_place(slot)][d],
                     unit + (KV_BLOCK + slot) * HEAD_SIZE + (d < HEAD_SIZE ? d : 0), valid);
    }
}

/* Puts the row's own key and value where the cache was not read; values have arrived. */
__device__ __forceinline__ void exact_insert(struct decode_keys *keys, struct decode_shared *shared,
                                             uint32_t own_slot)
{
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t row = KV_BLOCK * (threadIdx.x / 32) + exact_place(own_slot);
#pragma unroll
    for (uint32_t u = 0; u < 2; u++) {
#pragma unroll
        for (uint32_t j = 0; j < KEY_PIECES; j++) {
            if (decode_key_slot(u) == own_slot) {
                keys->pieces[u][j] = load16(shared->key + 32 * j + 8 * (lane % 4));
            }
        }
    }
    for (uint32_t d = 8 * lane; d < HEAD_SIZE; d += 256) {
        store16(&shared->values[row][d], load16(shared->value + d));
    }
}

/* Raw scores of the warp's block, and the largest of each head in shared memory. */
__device__ __forceinline__ void exact_scores(float scores[HEAD_COLUMNS][4],
                                             const struct decode_keys *keys,
                                             struct decode_shared *shared,
                                             const struct attention_score &score, uint32_t position,
                                             uint32_t begin, uint32_t end)
{
    const uint32_t lane = threadIdx.x % 32;
    decode_scores(scores, keys, shared);
#pragma unroll
    for (uint32_t c = 0; c < HEAD_COLUMNS; c++) {
        float largest = SCORE_MASKED;
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t p = position + 4 * (lane % 4) + i;
            if (score.cap != 0) {
                scores[c][i] = score_capped(scores[c][i], score);
            }
            scores[c][i] = p >= begin && p < end ? scores[c][i] : SCORE_MASKED;
            largest = fmaxf(largest, scores[c][i]);
        }
        largest = fmaxf(largest, warp_shuffle_xor(largest, 1));
        largest = fmaxf(largest, warp_shuffle_xor(largest, 2));
        const uint32_t head = 8 * c + lane / 4;
        if (head < TILE_HEADS && lane % 4 == 0) {
            shared->largest[threadIdx.x / 32][head] = largest;
        }
    }
}

/* The largest score of a head over the warps [first, last) that have a block; raw, see above. */
__device__ __forceinline__ float exact_largest(const struct decode_shared *shared, uint32_t head,
                                               float factor, uint32_t first, uint32_t last)
{
    float largest = SCORE_MASKED;
    for (uint32_t w = first; head < TILE_HEADS && w < last; w++) {
        largest = fmaxf(largest, shared->largest[w][head]);
    }
    return fmaxf(SCORE_NONE, largest * factor);
}

/* Scores become weights in shared memory, with each lane's own total. */
__device__ __forceinline__ void exact_weigh(const float scores[HEAD_COLUMNS][4],
                                            struct decode_shared *shared, float factor,
                                            uint32_t first, uint32_t last)
{
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t warp = threadIdx.x / 32;
#pragma unroll
    for (uint32_t c = 0; c < HEAD_COLUMNS; c++) {
        const uint32_t head = 8 * c + lane / 4;
        const float largest = exact_largest(shared, head, factor, first, last);
        float weights[4];
        float total = 0;
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            weights[i] = fast_exp2(fmaf(scores[c][i], factor, -largest));
            total += weights[i];
        }
        uint32_t *to = (uint32_t *)&shared->weights[head][KV_BLOCK * warp + 2 * (lane % 4)];
        to[0] = kv_pair(weights[0], weights[1]);
        to[4] = kv_pair(weights[2], weights[3]);
        if (head < TILE_HEADS) {
            shared->totals[warp][head][lane % 4] = total;
        }
    }
}

/* Sums of the partition: the row's result when it has no other, else its partial sums. */
__device__ __forceinline__ void exact_sum(const struct attention_decode_arguments &a,
                                          struct decode_shared *shared, float factor,
                                          uint32_t first, uint32_t last)
{
    const struct decode_place &place = shared->place;
    const uint32_t lane = threadIdx.x % 32;
    const bool alone = place.span.group_count == 1;
    act_value *out = decode_out(a, place);
    float *mine = decode_partials(a) + (uint64_t)blockIdx.x * DECODE_PARTIAL;
    float largest[HEAD_COLUMNS], totals[HEAD_COLUMNS];
#pragma unroll
    for (uint32_t c = 0; c < HEAD_COLUMNS; c++) {
        const uint32_t head = 8 * c + lane / 4;
        largest[c] = exact_largest(shared, head, factor, first, last);
        float total = 0;
        for (uint32_t w = first; head < TILE_HEADS && w < last; w++) {
            total += shared->totals[w][head][lane % 4];
        }
        total += warp_shuffle_xor(total, 1);
        total += warp_shuffle_xor(total, 2);
        totals[c] = total;
        if (!alone && threadIdx.x < 32 && lane % 4 == 0 && head < place.head_count) {
            mine[TILE_HEADS * HEAD_SIZE + 2 * head] = largest[c];
            mine[TILE_HEADS * HEAD_SIZE + 2 * head + 1] = total;
        }
    }
    for (uint32_t pair = threadIdx.x / 32; pair < EXACT_SIZE / 16; pair += DECODE_WARPS) {
        float sums[2][4] = {};
        for (uint32_t w = first; w < last; w++) {
            uint32_t values[4];
            uint32_t weights[4] = {0, 0, 0, 0};
#pragma unroll
            for (uint32_t c = 0; c < HEAD_COLUMNS; c++) {
                const uint32_t *from = (const uint32_t *)&shared->weights[8 * c + lane / 4]
                                                                         [KV_BLOCK * w +
                                                                          2 * (lane % 4)];
                weights[c] = from[0];
                weights[2 + c] = from[4];
            }
            ldmatrix4_transposed(
                values, &shared->values[KV_BLOCK * w + lane % 16][16 * pair + lane / 16 * 8]);
            kv_mma(sums[0], weights, values);
            kv_mma(sums[1], weights, values + 2);
        }
#pragma unroll
        for (uint32_t c = 0; c < HEAD_COLUMNS; c++) {
            const uint32_t head = 8 * c + lane / 4;
#pragma unroll
            for (uint32_t i = 0; i < 4; i++) {
                const uint32_t d = 16 * pair + i / 2 * 8 + lane % 4 * 2 + i % 2;
                const float sum = sums[i / 2][2 * c + i % 2];
                if (head >= place.head_count || d >= HEAD_SIZE) {
                    continue;
                }
                if (alone) {
                    out[head * HEAD_SIZE + d] = value_of_float<ACT_TYPE>(decode_normalise(
                        a.sinks, place.head_first + head, largest[c], totals[c], sum));
                } else {
                    mine[head * HEAD_SIZE + d] = sum;
                }
            }
        }
    }
    if (!alone) {
        decode_arrive(a, shared);
    }
}

template <bool FUSED>
__device__ __forceinline__ void decode_run(const struct attention_decode_arguments &a,
                                           const struct decode_place &place,
                                           struct decode_shared *shared)
{
    const uint32_t begin = place.span.begin;
    const uint32_t end = place.span.end;
    /* The fused kernel's own position is not in the cache yet. */
    const uint32_t cached_end = FUSED ? end - 1 : end;
    const uint32_t group_begin = decode_blocks_begin(place);
    const uint32_t last = decode_blocks_end(place) - group_begin;
    const uint32_t first = begin / KV_BLOCK > group_begin ? begin / KV_BLOCK - group_begin : 0;
    const uint32_t warp = threadIdx.x / 32;
    const uint32_t block = group_begin + warp;
    const bool works = warp >= first && warp < last; /* the same for a warp */
    struct decode_keys keys;
    if constexpr (!FUSED) {
        wait_for_predecessor();
    }
    if (works) {
        const kv_value *unit = kv_unit(a.cache, place.block_table[block], place.kv_head);
        decode_load_keys(&keys, unit, block * KV_BLOCK, begin, cached_end);
        exact_fetch_values(shared, unit, block * KV_BLOCK, begin, cached_end);
    }
    copy_async_commit();
    if constexpr (FUSED) {
        /* The past was written by earlier steps: it is on its way while the predecessor ends. */
        rotary_fill(&shared->table, a.projection, place.position);
        __syncthreads();
        wait_for_predecessor();
    }
    decode_prepare<FUSED>(a, place, shared);
    copy_async_wait<0>();
    __syncthreads();
    float scores[HEAD_COLUMNS][4];
    const float factor = a.score.cap != 0 ? 1.0f : a.score.factor;
    if (works) {
        if (FUSED && block == (end - 1) / KV_BLOCK) {
            exact_insert(&keys, shared, (end - 1) % KV_BLOCK);
        }
        exact_scores(scores, &keys, shared, a.score, block * KV_BLOCK, begin, end);
    }
    __syncthreads();
    if (works) {
        exact_weigh(scores, shared, factor, first, last);
    }
    __syncthreads();
    exact_sum(a, shared, factor, first, last);
}

#ifdef PREFILL_ROW_TILES

static_assert(PREFILL_POSITIONS == PARTITION, "a round is a partition");

/* Where a row's elements 8 unit … lie: with rows of a multiple of 128 bytes, neighbours swap halves
 * of these, so that eight lanes that read 64 bytes of each meet no bank twice. */
__device__ __forceinline__ uint32_t exact_column(uint32_t row, uint32_t d)
{
    return HEAD_SIZE_TILED % 64 == 0 ? d ^ row % 2 * 32 : d;
}

__device__ __forceinline__ kv_value *prefill_query(struct prefill_shared *shared, uint32_t row,
                                                   uint32_t d)
{
    return &shared->query[row][exact_column(row, d)];
}

__device__ __forceinline__ void prefill_fetch(struct prefill_shared *shared, uint32_t stage,
                                              const void *cache, uint32_t kv_head, uint32_t block,
                                              uint32_t first, uint32_t begin, uint32_t end)
{
#pragma unroll
    for (uint32_t i = 0; i < PREFILL_POSITIONS / KV_BLOCK; i++) {
        const kv_value *unit = kv_unit(cache, warp_shuffle(block, i), kv_head);
        for (uint32_t piece = threadIdx.x; piece < KV_BLOCK * QUERY_PIECES;
             piece += PREFILL_THREADS) {
            const uint32_t slot = piece / QUERY_PIECES;
            const uint32_t d = piece % QUERY_PIECES * 8;
            const uint32_t position = first + KV_BLOCK * i + slot;
            const uint32_t row = KV_BLOCK * i + exact_place(slot);
            const bool valid = d < HEAD_SIZE && position >= begin && position < end;
            const kv_value *key = unit + (d < HEAD_SIZE ? slot * HEAD_SIZE + d : 0);
            copy_async16(&shared->keys[stage][row][exact_column(row, d)], key, valid);
            if (d < EXACT_SIZE) {
                copy_async16(&shared->values[stage][row][d], key + KV_BLOCK * HEAD_SIZE, valid);
            }
        }
    }
}

/* S = Q·Kᵀ of the warp's rows: scores[r][n] are of places 8 n … of the partition. */
__device__ __forceinline__ void
prefill_scores(float scores[PREFILL_ROW_TILES][PREFILL_COLUMNS][4],
               const struct prefill_rows *rows, const struct prefill_shared *shared, uint32_t stage,
               uint32_t warp_row)
{
    (void)rows;
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t g = lane / 4;
#pragma unroll
    for (uint32_t r = 0; r < PREFILL_ROW_TILES; r++) {
#pragma unroll
        for (uint32_t i = 0; i < 4 * PREFILL_COLUMNS; i++) {
            scores[r][i / 4][i % 4] = 0;
        }
    }
    /* Unrolled, the next fragments would need registers that a large head does not leave. */
    constexpr uint32_t UNROLL = HEAD_SIZE > 64 ? 1 : 2;
#pragma unroll(UNROLL)
    for (uint32_t d = 0; d < HEAD_SIZE_TILED; d += 32) {
        /* All rows that a lane reads are even or odd as g is. */
        const uint32_t column = exact_column(g, d + 8 * (lane % 4));
        uint32_t query[PREFILL_ROW_TILES][2][4];
#pragma unroll
        for (uint32_t r = 0; r < PREFILL_ROW_TILES; r++) {
            const kv_value *from = &shared->query[warp_row + 16 * r + g][column];
            const struct word4 low = load16(from);
            const struct word4 high = load16(from + 8 * HEAD_SIZE_TILED);
            query[r][0][0] = low.x;
            query[r][0][1] = high.x;
            query[r][0][2] = low.y;
            query[r][0][3] = high.y;
            query[r][1][0] = low.z;
            query[r][1][1] = high.z;
            query[r][1][2] = low.w;
            query[r][1][3] = high.w;
        }
#pragma unroll
        for (uint32_t n = 0; n < PREFILL_COLUMNS; n++) {
            const struct word4 key = load16(&shared->keys[stage][8 * n + g][column]);
            const uint32_t key_first[2] = {key.x, key.y};
            const uint32_t key_second[2] = {key.z, key.w};
#pragma unroll
            for (uint32_t r = 0; r < PREFILL_ROW_TILES; r++) {
                kv_mma(scores[r][n], query[r][0], key_first);
                kv_mma(scores[r][n], query[r][1], key_second);
            }
        }
    }
}

/* Scores of a row become weights; what its sums so far and those of the partition are multiplied by
 * is returned and left in `rows`. */
__device__ __forceinline__ float
exact_weigh_row(float scores[PREFILL_COLUMNS][4], struct prefill_rows *rows, uint32_t r,
                uint32_t half, float factor)
{
    float largest = SCORE_MASKED;
#pragma unroll
    for (uint32_t i = 0; i < 2 * PREFILL_COLUMNS; i++) {
        largest = fmaxf(largest, scores[i / 2][2 * half + i % 2]);
    }
    largest = fmaxf(largest, warp_shuffle_xor(largest, 1));
    largest = fmaxf(largest, warp_shuffle_xor(largest, 2));
    largest = fmaxf(SCORE_NONE, largest * factor);
    float total = 0;
#pragma unroll
    for (uint32_t b = 0; b < PREFILL_COLUMNS / 2; b++) {
        float of_block = 0;
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            float *score = &scores[2 * b + i / 2][2 * half + i % 2];
            *score = fast_exp2(fmaf(*score, factor, -largest));
            of_block += *score;
        }
        total += of_block;
    }
    total += warp_shuffle_xor(total, 1);
    total += warp_shuffle_xor(total, 2);
    const float next = fmaxf(rows->largest[r][half], largest);
    const float keep = fast_exp2(rows->largest[r][half] - next);
    rows->add[r][half] = fast_exp2(largest - next);
    rows->total[r][half] =
        fmaf(total, rows->add[r][half], mul_rn(rows->total[r][half], keep));
    rows->largest[r][half] = next;
    return keep;
}

__device__ __forceinline__ void
prefill_weigh(float scores[PREFILL_ROW_TILES][PREFILL_COLUMNS][4], struct prefill_rows *rows,
              const struct attention_prefill_arguments &a, uint32_t first, uint32_t row_position,
              bool masked)
{
    const uint32_t lane = threadIdx.x % 32;
    const float factor = a.score.cap != 0 ? 1.0f : a.score.factor;
#pragma unroll
    for (uint32_t r = 0; r < PREFILL_ROW_TILES; r++) {
        if (a.score.cap != 0) {
#pragma unroll
            for (uint32_t i = 0; i < 4 * PREFILL_COLUMNS; i++) {
                scores[r][i / 4][i % 4] = score_capped(scores[r][i / 4][i % 4], a.score);
            }
        }
#pragma unroll
        for (uint32_t half = 0; half < 2; half++) {
            if (masked) {
                const uint32_t position = row_position + 16 * r + 8 * half + lane / 4;
                const uint32_t begin =
                    a.window && position >= a.window ? position + 1 - a.window : 0;
#pragma unroll
                for (uint32_t i = 0; i < 2 * PREFILL_COLUMNS; i++) {
                    /* The slots of places 2 t, 2 t + 1, then of 8 + 2 t, 8 + 2 t + 1. */
                    const uint32_t p = first + i / 4 * KV_BLOCK + 4 * (lane % 4) + i % 4;
                    if (p > position || p < begin) {
                        scores[r][i / 2][2 * half + i % 2] = SCORE_MASKED;
                    }
                }
            }
            const float keep = exact_weigh_row(scores[r], rows, r, half, factor);
            /* Past the first partitions the largest score rarely changes. */
            if (warp_any(keep != 1.0f)) {
#pragma unroll
                for (uint32_t n = 0; n < PREFILL_OUTPUTS; n++) {
                    rows->output[r][n][2 * half] = mul_rn(rows->output[r][n][2 * half], keep);
                    rows->output[r][n][2 * half + 1] =
                        mul_rn(rows->output[r][n][2 * half + 1], keep);
                }
            }
        }
    }
}

/* O += P·V, a partition's sums from zero: of EXACT_TOGETHER output tiles at a time, for large heads
 * fewer, since registers are. */
#define EXACT_TOGETHER (HEAD_SIZE <= 64 && PREFILL_OUTPUTS % 4 == 0 ? 4 : 2)

__device__ __forceinline__ void
prefill_add_values(struct prefill_rows *rows,
                   const float weights[PREFILL_ROW_TILES][PREFILL_COLUMNS][4],
                   const struct prefill_shared *shared, uint32_t stage)
{
    const uint32_t lane = threadIdx.x % 32;
    uint32_t a[PREFILL_COLUMNS / 2][PREFILL_ROW_TILES][4];
#pragma unroll
    for (uint32_t n = 0; n < PREFILL_COLUMNS; n += 2) {
#pragma unroll
        for (uint32_t r = 0; r < PREFILL_ROW_TILES; r++) {
            a[n / 2][r][0] = kv_pair(weights[r][n][0], weights[r][n][1]);
            a[n / 2][r][1] = kv_pair(weights[r][n][2], weights[r][n][3]);
            a[n / 2][r][2] = kv_pair(weights[r][n + 1][0], weights[r][n + 1][1]);
            a[n / 2][r][3] = kv_pair(weights[r][n + 1][2], weights[r][n + 1][3]);
        }
    }
#pragma unroll
    for (uint32_t o = 0; o < PREFILL_OUTPUTS; o += EXACT_TOGETHER) {
        float sums[PREFILL_ROW_TILES][EXACT_TOGETHER][4] = {};
#pragma unroll
        for (uint32_t n = 0; n < PREFILL_COLUMNS; n += 2) {
#pragma unroll
            for (uint32_t i = 0; i < EXACT_TOGETHER; i += 2) {
                uint32_t values[4];
                ldmatrix4_transposed(values, &shared->values[stage][8 * n + lane % 16]
                                                            [8 * (o + i) + lane / 16 * 8]);
#pragma unroll
                for (uint32_t r = 0; r < PREFILL_ROW_TILES; r++) {
                    kv_mma(sums[r][i], a[n / 2][r], values);
                    kv_mma(sums[r][i + 1], a[n / 2][r], values + 2);
                }
            }
        }
#pragma unroll
        for (uint32_t i = 0; i < PREFILL_ROW_TILES * EXACT_TOGETHER * 4; i++) {
            const uint32_t r = i / 4 / EXACT_TOGETHER, n = i / 4 % EXACT_TOGETHER;
            float *output = &rows->output[r][o + n][i % 4];
            *output = fmaf(sums[r][n][i % 4], rows->add[r][i % 4 / 2], *output);
        }
    }
}

#endif
#endif
