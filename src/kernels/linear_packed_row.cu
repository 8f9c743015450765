/* Linear layers of one row with quantised weights: codes go through a ring in shared memory and
 * tensor cores at the speed of memory, in the order of packed_formats.cuh.
 *
 * Shapes: y[rows] = x[COLUMNS] · Wᵀ; x are halves, as elsewhere. A block makes tiles of sixteen
 * rows of W; its warps take the units of 128 columns in turn, and their sums are added in order.
 * One row leaves seven of eight columns of an mma free: packed_rows.cuh puts them to use.
 *
 * A warp copies units into a ring of its own, in the background and RING steps ahead, beginning
 * before the predecessor on the stream has ended. Two blocks fit a multiprocessor, so that the next
 * launch fills its rings while this one ends.
 *
 * Grid: x = one block a multiprocessor, or one a tile when there are fewer. Dynamic shared memory:
 * struct row_shared. Bound: the bytes of W from memory; about 100 instructions a warp and unit of
 * q4_k (1,184 bytes) are a third of what a multiprocessor can issue in that time. */
#define ROW_TILES 8 /* whose sums are kept between two barriers */

template <class FORMAT, int COLUMNS, int RING, int SETS> struct row_shared {
    float partial[2][ROW_TILES / SETS][SETS][DECODE_WARPS_LINEAR][16];
    float sums[COLUMNS / 16]; /* of sixteen values of x, times 2^-24 */
    float squares[DECODE_WARPS_LINEAR];
    word4 x[COLUMNS / 8];
    uint8_t ring[DECODE_WARPS_LINEAR][RING][SETS][packed_slot<FORMAT>::BYTES];
};

/* Piece `piece` of x, eight values, and its share of the sums. By whole warps. */
template <int COLUMNS>
__device__ __forceinline__ void leave_row(word4 *x, float *sums, uint32_t piece, word4 values)
{
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        sum += half_of_word(word_of(&values, i / 2), i % 2);
    }
    sum += warp_shuffle_xor(sum, 1);
    if (piece < COLUMNS / 8) {
        store16(&x[piece], values);
        if (piece % 2 == 0) {
            sums[piece / 2] = sum * 0x1p-24f;
        }
    }
}

template <class FORMAT, int COLUMNS, int RING, int SETS, int FROM, int TO, int ACTIVATION,
          bool GROUPED>
__device__ __forceinline__ void linear_packed_row(const struct linear_decode_arguments &a,
                                                  const struct linear_group *group)
{
    static_assert(!GROUPED || FROM == DECODE_FROM_ACTIVATIONS, "rows of experts are not normed");
    typedef packed_row<FORMAT> row;
    typedef row_shared<FORMAT, COLUMNS, RING, SETS> stream;
    constexpr int WARPS = DECODE_WARPS_LINEAR;
    constexpr int UNITS = COLUMNS / PACK_COLUMNS;
    constexpr int OWN = (UNITS + WARPS - 1) / WARPS; /* units of a warp */
    constexpr bool EXACT = OWN * WARPS == UNITS;
    constexpr int SLOT = packed_slot<FORMAT>::BYTES;
    constexpr int GROUP = ROW_TILES / SETS; /* tiles between two barriers */
    SHARED_DYNAMIC(stream, shared);
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const struct tile_range range = tiles_of<SETS>(a);
    const uint32_t own_tiles =
        blockIdx.x < range.count ? (range.count - blockIdx.x + gridDim.x - 1) / gridDim.x : 0;
    const uint32_t steps = own_tiles * OWN;

    /* Where the next copy begins: tiles of parts lie one after another. A lane copies 16 bytes at a
     * time; the last piece of a unit ends in what the record's units share. */
    constexpr uint32_t TILE_BYTES = UNITS / FORMAT::UNITS * FORMAT::RECORD;
    constexpr uint32_t STEP_BYTES = WARPS / FORMAT::UNITS * FORMAT::RECORD;
    constexpr uint32_t LAST = (SLOT - 1) / 512 * 512;
    static_assert(LAST <= FORMAT::UNIT, "only the last piece crosses the unit's end");
    const uint32_t half = warp % FORMAT::UNITS;
    const uint8_t *next = (const uint8_t *)a.weights[0] + (uint64_t)blockIdx.x * TILE_BYTES +
                          warp / FORMAT::UNITS * FORMAT::RECORD + half * FORMAT::UNIT + lane * 16;
    const int64_t other =
        SETS == 2 ? (const uint8_t *)a.weights[1] - (const uint8_t *)a.weights[0] : 0;
    const uint32_t last = LAST + lane * 16 >= SLOT ? 0
                          : LAST + lane * 16 < FORMAT::UNIT
                              ? LAST
                              : LAST + (FORMAT::UNITS - 1 - half) * FORMAT::UNIT;
    const uint64_t tile_step = (uint64_t)gridDim.x * TILE_BYTES - (OWN - 1) * STEP_BYTES;
    uint32_t asked_unit = warp; /* of the next copy */
    auto ask = [&](uint8_t *to, bool is_wanted) {
        if (is_wanted) {
            if (EXACT || asked_unit < UNITS) {
#pragma unroll
                for (int m = 0; m < SETS; m++) {
                    const uint8_t *from = next + m * other;
#pragma unroll
                    for (uint32_t i = 0; i < LAST; i += 512) {
                        copy_async16(to + m * SLOT + i, from + i, true);
                    }
                    if (last) {
                        copy_async16(to + m * SLOT + LAST, from + last, true);
                    }
                }
            }
            const bool ends = asked_unit + WARPS >= OWN * WARPS;
            asked_unit = ends ? warp : asked_unit + WARPS;
            next += ends ? tile_step : STEP_BYTES;
        }
        copy_async_commit();
    };
    uint8_t *const ring = &shared->ring[warp][0][0][0];
    struct row_view<GROUPED> rows;
    release_successor();
    if constexpr (GROUPED) {
        wait_for_predecessor(); /* who makes the lists */
        rows = rows_of_tile(*group, blockIdx.y);
        if (rows.n == 0) {
            return;
        }
        next += rows.offset;
    }
    for (uint32_t i = 0; i < RING; i++) {
        ask(ring + i * (SETS * SLOT) + lane * 16, i < steps);
    }
    if constexpr (!GROUPED) {
        if (FROM == DECODE_FROM_NORM) {
            touch_norm<COLUMNS>(a);
        }
        rows = rows_from(0, *a.count, 1); /* written before anything that overlaps */
        wait_for_predecessor();
    }
    const bool is_empty = rows.n == 0;
    const uint32_t input_row = GROUPED ? rows.input(0) : 0;
    const uint32_t output_row = GROUPED ? rows.output(0) : 0;

    /* x as halves, and sums of sixteen of them: a thread makes eight. */
    constexpr int PIECES = COLUMNS / 8;
    constexpr int EACH = (PIECES + DECODE_THREADS - 1) / DECODE_THREADS;
    if (FROM == DECODE_FROM_NORM) {
        const float *x = (const float *)a.input;
        float own[EACH][8];
        float sum = 0;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const uint32_t piece = i * DECODE_THREADS + threadIdx.x;
#pragma unroll
            for (int j = 0; j < 8; j++) {
                own[i][j] = piece < PIECES ? x[piece * 8 + j] : 0.0f;
                sum = fmaf(own[i][j], own[i][j], sum);
            }
        }
        const float scale =
            norm_scale(block_sum<WARPS>(sum, shared->squares), COLUMNS, a.norm_epsilon);
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const uint32_t piece = i * DECODE_THREADS + threadIdx.x;
            float y[8];
#pragma unroll
            for (int j = 0; j < 8; j++) {
                y[j] = piece < PIECES ? norm_scaled(own[i][j], scale, a.norm_weight_offset,
                                                    a.norm_weight[piece * 8 + j])
                                      : 0.0f;
            }
            const word4 packed = {act_pair(y[0], y[1]), act_pair(y[2], y[3]), act_pair(y[4], y[5]),
                                  act_pair(y[6], y[7])};
            leave_row<COLUMNS>(shared->x, shared->sums, piece, packed);
        }
    } else {
        word4 own[EACH];
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const uint32_t piece = i * DECODE_THREADS + threadIdx.x;
            own[i] =
                piece < PIECES
                    ? load16((const uint16_t *)a.input + (uint64_t)input_row * COLUMNS + piece * 8)
                    : word4{0, 0, 0, 0};
        }
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            leave_row<COLUMNS>(shared->x, shared->sums, i * DECODE_THREADS + threadIdx.x, own[i]);
        }
    }
    __syncthreads();

    /* Thread i finishes row i % 16 of a set of tiles: tile i / 16 of the group. */
    auto output_at = [&](uint32_t tile, uint64_t &at) {
        uint32_t number = tile;
        const uint32_t part = part_of<SETS>(range, number);
        const uint32_t r = number * 16 + threadIdx.x % 16;
        at = (uint64_t)output_row * a.output_stride + r + (part > 0 ? a.rows[0] : 0) +
             (part > 1 ? a.rows[1] : 0);
        return tile < range.count && r < (part == 0   ? a.rows[0]
                                          : part == 1 ? a.rows[1]
                                                      : a.rows[2]);
    };
    float before = 0; /* what the output had: on its way while tiles are multiplied */
    auto load_before = [&](uint32_t index) {
        uint64_t at;
        if (TO == DECODE_ADD && threadIdx.x < GROUP * 16 && !is_empty &&
            output_at(blockIdx.x + (index + threadIdx.x / 16) * gridDim.x, at)) {
            before = ((const float *)a.output)[at];
        }
    };
    auto finish = [&](uint32_t first, uint32_t count) {
        uint64_t at;
        __syncthreads();
        const uint32_t tile = blockIdx.x + (first + threadIdx.x / 16) * gridDim.x;
        if (threadIdx.x < count * 16 && !is_empty && output_at(tile, at)) {
            float y[SETS];
#pragma unroll
            for (int m = 0; m < SETS; m++) {
                y[m] = 0;
#pragma unroll
                for (int w = 0; w < WARPS; w++) {
                    y[m] +=
                        shared
                            ->partial[first / GROUP % 2][threadIdx.x / 16][m][w][threadIdx.x % 16];
                }
            }
            if (TO == DECODE_PAIR) {
                ((act_value *)a.output)[at] =
                    act_of_float(activated(y[0], ACTIVATION) * y[SETS - 1]);
            } else {
                ((float *)a.output)[at] = before + y[0];
            }
        }
    };
    row_sums total[SETS] = {};
    uint32_t left = steps > RING ? steps - RING : 0; /* copies not asked for */
    uint32_t used = 0;                               /* place in the ring */
    for (uint32_t index = 0; index < own_tiles; index++) {
        if (index % GROUP == 0) {
            load_before(index);
        }
#pragma unroll 1
        for (uint32_t unit = warp; unit < OWN * WARPS; unit += WARPS) {
            uint8_t *const copies = ring + used;
            copy_async_wait<RING - 1>();
            __syncwarp();
            if (EXACT || unit < UNITS) {
                const struct word2 x =
                    load_pair((const uint8_t *)shared->x + unit * 256 + lane * 8);
                const float *of_x = &shared->sums[unit * 8 + lane % 4 * 2];
                const float sums[2] = {of_x[0], of_x[1]};
                typename FORMAT::unit u[SETS];
                float c[SETS][2][4] = {};
#pragma unroll
                for (int m = 0; m < SETS; m++) {
                    const uint8_t *copy = copies + m * SLOT;
                    FORMAT::template load<pack_copy>(u[m], copy, copy + FORMAT::UNIT, lane);
                }
#pragma unroll
                for (int m = 0; m < PACK_STEPS; m++) {
                    const uint32_t b[2] = {lane / 4 == m ? x.x : 0, lane / 4 == m ? x.y : 0};
#pragma unroll
                    for (int set = 0; set < SETS; set++) {
                        uint32_t codes[4];
                        FORMAT::template codes<0>(u[set], m, codes);
                        mma_f16(c[set][m % 2], codes, b);
                    }
                }
#pragma unroll
                for (int m = 0; m < SETS; m++) {
                    /* Each of the two has every other column. */
                    const float both[4] = {c[m][0][0], c[m][1][1], c[m][0][2], c[m][1][3]};
                    row::add(total[m], both, sums, copies + m * SLOT, lane);
                }
            }
            used = used == (RING - 1) * SETS * SLOT ? 0 : used + SETS * SLOT;
            __syncwarp(); /* all lanes have read what is now overwritten */
            ask(copies + lane * 16, left != 0);
            left -= left != 0;
        }
#pragma unroll
        for (int m = 0; m < SETS; m++) {
            float upper = total[m].upper, lower = total[m].lower;
            for (uint32_t mask = 1; mask < 4; mask *= 2) {
                upper += warp_shuffle_xor(upper, mask);
                lower += warp_shuffle_xor(lower, mask);
            }
            if (lane % 4 == 0) {
                float *to = shared->partial[index / GROUP % 2][index % GROUP][m][warp];
                to[lane / 4] = upper * row::UPPER_SHARE;
                to[lane / 4 + 8] = lower * row::LOWER_SHARE;
            }
            total[m].upper = total[m].lower = 0;
        }
        if (index % GROUP == GROUP - 1 || index + 1 == own_tiles) {
            /* A warp that is ahead writes the other half of `partial`, and cannot come back before
             * all have read this one and met again. */
            finish(index / GROUP * GROUP, index % GROUP + 1);
        }
    }
}

/* The prelude lists what the model needs: LINEAR_PACKED_ROWS(X) is X(name, format, columns, ring,
 * sets, from, to, activation) … */
#define LINEAR_PACKED_ROW(name, format, columns, ring, sets, from, to, activation)            \
    extern "C" __global__ void KERNEL_BOUNDS(DECODE_THREADS, 2)                               \
        name(const struct linear_decode_arguments arguments)                                  \
    {                                                                                         \
        linear_packed_row<packed_##format, columns, ring, sets, from, to, activation, false>( \
            arguments, nullptr);                                                              \
    }

/* The same of experts with a row each. */
#define LINEAR_PACKED_ROW_GROUP(name, format, columns, ring, sets, from, to, activation)     \
    extern "C" __global__ void KERNEL_BOUNDS(DECODE_THREADS, 2)                              \
        name(const struct linear_decode_group_arguments arguments)                           \
    {                                                                                        \
        linear_packed_row<packed_##format, columns, ring, sets, from, to, activation, true>( \
            arguments.linear, &arguments.group);                                             \
    }

#ifdef LINEAR_PACKED_ROWS
LINEAR_PACKED_ROWS(LINEAR_PACKED_ROW)
#endif
#ifdef LINEAR_PACKED_ROW_GROUPS
LINEAR_PACKED_ROW_GROUPS(LINEAR_PACKED_ROW_GROUP)
#endif
