/* Linear layers of one row with quantised weights: codes go through a ring in shared memory and
 * tensor cores at the speed of memory, in the order of packed_formats.cuh.
 *
 * Shapes: y[rows] = x[COLUMNS] · Wᵀ; x are halves, as elsewhere. A block makes tiles of sixteen
 * rows of W; its warps take the units of 128 columns in turn, and their sums are added in order.
 * One row leaves seven of eight columns of an mma free: packed_rows.cuh puts them to use.
 *
 * A warp copies units into a ring of its own, in the background and RING steps ahead, beginning
 * before the predecessor on the stream has ended. One block fits a multiprocessor: where two do,
 * a launch whose predecessors' blocks end at different times leaves others without one.
 *
 * Grid: x = one block a multiprocessor; those without a tile keep their places until the others
 * have begun. Dynamic shared memory: struct row_shared. Bound: the bytes of W from memory; about 100 instructions a warp and unit of
 * q4_k (1,184 bytes) are a third of what a multiprocessor can issue in that time. */
#define ROW_TILES 8 /* whose sums are kept between two barriers; of a pair four and four */

template <int N> struct number_of {
    static constexpr int value = N;
};

template <class FORMAT, int COLUMNS, int RUNS> struct row_shared {
    float partial[2][ROW_TILES][DECODE_WARPS_LINEAR][16];
    row_block blocks[COLUMNS / 32];
    uint32_t x[COLUMNS / 128][32][2]; /* of a unit: a lane's two words of B, of its block */
    uint8_t ring[DECODE_WARPS_LINEAR][RUNS][packed_slot<FORMAT>::BYTES]; /* units */
};

/* Bytes `index` of four words. */
__device__ __forceinline__ uint32_t bytes_of_words(const uint32_t *words, uint32_t index,
                                                   bool is_natural)
{
    const uint32_t pair = index | (index + 4) << 4;
    const uint32_t first = byte_permute(words[0], words[is_natural ? 1 : 2], pair);
    const uint32_t second = byte_permute(words[is_natural ? 2 : 1], words[3], pair);
    return byte_permute(first, second, 0x5410);
}

/* Piece `piece` of x, eight values, as whole numbers below 2^15 in size and the power of two that
 * is their scale, one for 32 values: the largest is within a factor of two of 2^15. Numbers no less
 * than 2^-4 of it that were halves are exact, others are rounded by 2^-16 of it at most: less than
 * what rounding to halves did to the largest. By whole warps. */
template <class STREAM, int COLUMNS, bool IS_NATURAL>
__device__ __forceinline__ void leave_row(STREAM *shared, uint32_t piece, const float (&values)[8])
{
    constexpr float MAGIC = 12582912.0f; /* 1.5 · 2^23: the sum's low bits are the whole number */
    uint32_t largest = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const uint32_t size = bits_of_float(values[i]) & 0x7fffffffu;
        largest = largest < size ? size : largest;
    }
    for (uint32_t mask = 1; mask < 4; mask *= 2) {
        const uint32_t others = warp_shuffle_xor(largest, mask);
        largest = largest < others ? others : largest;
    }
    /* High bytes are rounded, so that numbers must stay below 2^15 - 2^7. */
    const uint32_t exponent = bits_of_float(float_of_bits(largest) * 1.004f) >> 23;
    const uint32_t bounded = exponent < 20 ? 20 : exponent;
    const float up = float_of_bits((268 - bounded) << 23);
    /* What is not finite stays so. */
    const float down = float_of_bits(exponent < 255 ? (bounded - 14) << 23 : 0x7fc00000u);
    uint32_t words[8], rounded[8];
    int32_t sum = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        words[i] = bits_of_float(fmaf(values[i], up, MAGIC));
        rounded[i] = words[i] + 128;
        sum += (int32_t)(words[i] - 0x4b400000u);
    }
    sum += warp_shuffle_xor(sum, 1);
    const int32_t second = warp_shuffle_xor(sum, 2);
    if (piece < COLUMNS / 8) {
        const uint32_t s = piece / 4 % 4, j = piece / 2 % 2;
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
            const uint32_t lane = s * 8 + piece % 2 * 2 + i;
            shared->x[piece / 16][lane][j] = bytes_of_words(rounded + 4 * i, 1, IS_NATURAL);
            shared->x[piece / 16][lane + 4][j] = bytes_of_words(words + 4 * i, 0, IS_NATURAL);
        }
        if (piece % 4 == 0) {
            const float a = down * (float)sum, b = down * (float)second;
            const row_block block = {down, a, b, down * (float)(sum + second)};
            shared->blocks[piece / 4] = block;
        }
    }
}

template <class FORMAT, int COLUMNS, int RING, int SETS, int TILES, int TO, int ACTIVATION,
          bool GROUPED>
__device__ __forceinline__ void linear_packed_row(const struct linear_decode_arguments &a,
                                                  const struct linear_group *group)
{
    typedef packed_row<FORMAT> row;
    typedef row_shared<FORMAT, COLUMNS, RING *(SETS == 2 ? 2 : TILES)> stream;
    constexpr int WARPS = DECODE_WARPS_LINEAR;
    constexpr int UNITS = COLUMNS / PACK_COLUMNS;
    constexpr int OWN = (UNITS + WARPS - 1) / WARPS; /* units of a warp */
    constexpr bool EXACT = OWN * WARPS == UNITS;
    constexpr int SLOT = packed_slot<FORMAT>::BYTES;
    constexpr int WIDTH =
        SETS == 2 ? 1 : TILES;               /* tiles of a round: of a pair those of both sets */
    constexpr int RUN = SETS * WIDTH * SLOT; /* of a step: as many units side by side */
    constexpr bool RESIDENT = OWN <= 2;      /* x stays in registers, as B wants it */
    constexpr int GROUP = ROW_TILES / SETS;  /* results between two barriers, by sixteens */
    SHARED_DYNAMIC(stream, shared);
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const struct tile_range range = tiles_of<SETS>(a);
    const uint32_t own_tiles =
        blockIdx.x < range.count ? (range.count - blockIdx.x + gridDim.x - 1) / gridDim.x : 0;
    /* Where the next copy begins: tiles of parts lie one after another. A lane copies 16 bytes at a
     * time; the last piece of a unit ends in what the record's units share. */
    constexpr uint32_t TILE_BYTES = UNITS / FORMAT::UNITS * FORMAT::RECORD;
    constexpr uint32_t STEP_BYTES = WARPS / FORMAT::UNITS * FORMAT::RECORD;
    constexpr uint32_t LAST = (SLOT - 1) / 512 * 512;
    static_assert(LAST <= FORMAT::UNIT, "only the last piece crosses the unit's end");
    const uint32_t half = warp % FORMAT::UNITS;
    const uint8_t *next = (const uint8_t *)a.weights[0] + (uint64_t)blockIdx.x * TILE_BYTES +
                          warp / FORMAT::UNITS * FORMAT::RECORD + half * FORMAT::UNIT + lane * 16;
    const int64_t other = SETS == 2 ? (const uint8_t *)a.weights[1] - (const uint8_t *)a.weights[0]
                                    : (int64_t)gridDim.x * TILE_BYTES;
    const uint32_t last = LAST + lane * 16 >= SLOT ? 0
                          : LAST + lane * 16 < FORMAT::UNIT
                              ? LAST
                              : LAST + (FORMAT::UNITS - 1 - half) * FORMAT::UNIT;
    const uint64_t round_step = (uint64_t)WIDTH * gridDim.x * TILE_BYTES - (OWN - 1) * STEP_BYTES;
    uint32_t asked_unit = warp, asked_tile = 0; /* of the next copy */
    auto copy_unit = [&](uint8_t *to, const uint8_t *from) {
#pragma unroll
        for (uint32_t i = 0; i < LAST; i += 512) {
            copy_async16(to + i, from + i, true);
        }
        if (last) {
            copy_async16(to + LAST, from + last, true);
        }
    };
    auto ask = [&](uint8_t *to) {
        if (asked_tile < own_tiles) {
            if (EXACT || asked_unit < UNITS) {
                copy_unit(to, next);
                if (SETS == 2 || (WIDTH == 2 && asked_tile + 1 < own_tiles)) {
                    copy_unit(to + SLOT, next + other);
                }
            }
            if (OWN == 1 || asked_unit + WARPS >= OWN * WARPS) {
                asked_unit = warp;
                asked_tile += WIDTH;
                next += round_step;
            } else {
                asked_unit += WARPS;
                next += STEP_BYTES;
            }
        }
        copy_async_commit();
    };
    uint8_t *const ring = &shared->ring[warp][0][0];
    release_successor();
    if (own_tiles == 0) { /* it keeps its place until the others begin, who take one each */
        wait_for_predecessor();
        return;
    }
    struct row_view<GROUPED> rows;
    if constexpr (GROUPED) {
        wait_for_predecessor(); /* who makes the lists */
        rows = rows_of_tile(*group, blockIdx.y);
        if (rows.n == 0) {
            return;
        }
        next += rows.offset;
    }
#pragma unroll 1
    for (uint32_t i = 0; i < RING; i++) {
        ask(ring + i * RUN + lane * 16);
        copy_async_wait<pace_of<RUN * WARPS>::VALUE - 1>(); /* as in linear_stream.cu */
    }
    if constexpr (!GROUPED) {
        rows = rows_from(0, *a.count, 1); /* written before anything that overlaps */
        wait_for_predecessor();
    }
    const bool is_empty = rows.n == 0;
    const uint64_t input_row = GROUPED ? rows.input(0) : 0;
    const uint64_t output_row = GROUPED ? rows.output(0) : 0;

    /* x as whole numbers: a thread makes eight. */
    constexpr int PIECES = COLUMNS / 8;
    constexpr int EACH = (PIECES + DECODE_THREADS - 1) / DECODE_THREADS;
    word4 own[EACH];
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const uint32_t piece = i * DECODE_THREADS + threadIdx.x;
        own[i] = piece < PIECES
                     ? load16((const uint16_t *)a.input + input_row * COLUMNS + piece * 8)
                     : word4{0, 0, 0, 0};
    }
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        float y[8];
#pragma unroll
        for (int j = 0; j < 8; j++) {
            y[j] = half_of_word(word_of(&own[i], j / 2), j % 2);
        }
        leave_row<stream, COLUMNS, row::NATURAL>(shared, i * DECODE_THREADS + threadIdx.x, y);
    }
    __syncthreads();

    /* Thread i finishes row i % 16 of a set of tiles: tile i / 16 of the group. */
    auto output_at = [&](uint32_t tile, uint64_t &at) {
        uint32_t number = tile;
        const uint32_t part = part_of<SETS>(range, number);
        const uint32_t r = number * 16 + threadIdx.x % 16;
        at = output_row * a.output_stride + r + (part > 0 ? a.rows[0] : 0) +
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
                    y[m] += shared->partial[first / GROUP % 2][threadIdx.x / 16 * SETS + m][w]
                                           [threadIdx.x % 16];
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
    /* One unit of COUNT tiles; B is the same for all of them. */
    const uint32_t g = lane / 4, t = lane % 4;
    struct operand {
        uint32_t b[4][2]; /* of each block */
        row_block block;
    };
    auto load_x = [&](uint32_t unit, struct operand &x) {
        const struct word2 own = load_pair(shared->x[unit][lane]);
#pragma unroll
        for (uint32_t s = 0; s < 4; s++) {
            x.b[s][0] = g / 2 == s ? own.x : 0;
            x.b[s][1] = g / 2 == s ? own.y : 0;
        }
        x.block = shared->blocks[unit * 4 + t];
    };
    struct operand resident[RESIDENT ? OWN : 1];
    if constexpr (RESIDENT) {
#pragma unroll
        for (int i = 0; i < OWN; i++) {
            if (EXACT || i * WARPS + warp < UNITS) {
                load_x(i * WARPS + warp, resident[i]);
            }
        }
    }
    row_sums total[2] = {};
    auto multiply = [&](auto count, const uint8_t *copies, const struct operand &x) {
        constexpr int COUNT = decltype(count)::value;
        typename FORMAT::unit u[COUNT];
        int32_t c[COUNT][row::SPLIT ? 2 : 1][4] = {};
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            const uint8_t *copy = copies + i * SLOT;
            FORMAT::template load<pack_copy>(u[i], copy, copy + FORMAT::UNIT, lane);
        }
#pragma unroll
        for (int s = 0; s < 4; s++) {
#pragma unroll
            for (int i = 0; i < COUNT; i++) {
                uint32_t codes[4];
                row::codes(u[i], s, codes);
                if constexpr (row::SPLIT) {
                    const uint32_t first[2] = {x.b[s][0], 0}, second[2] = {0, x.b[s][1]};
                    mma_u8_s8(c[i][0], codes, first);
                    mma_u8_s8(c[i][1], codes, second);
                } else {
                    mma_u8_s8(c[i][0], codes, x.b[s]);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            float upper[2] = {}, lower[2] = {};
#pragma unroll
            for (int j = 0; j < (row::SPLIT ? 2 : 1); j++) { /* high and low bytes of x */
                upper[j] = (float)(c[i][j][0] * 256 + c[i][j][1]);
                lower[j] = (float)(c[i][j][2] * 256 + c[i][j][3]);
            }
            row::add(total[i], upper, lower, x.block, copies + i * SLOT, lane);
        }
    };
    const float share = t % 2 ? 1.0f / (float)row::LOWER : 1.0f;
    uint32_t used = 0; /* place in the ring */
    for (uint32_t index = 0; index < own_tiles; index += WIDTH) {
        const bool is_two = SETS == 2 || (WIDTH == 2 && index + 1 < own_tiles);
        if (index % GROUP == 0) {
            load_before(index);
        }
        auto take = [&](uint32_t unit, int number) {
            uint8_t *const copies = ring + used;
            copy_async_wait<RING - 1>();
            __syncwarp();
            if (EXACT || unit < UNITS) {
                struct operand x;
                if constexpr (!RESIDENT) {
                    load_x(unit, x);
                }
                const struct operand &own = RESIDENT ? resident[number] : x;
                if (SETS * WIDTH == 2 && is_two) {
                    multiply(number_of<SETS * WIDTH>(), copies, own);
                } else if (SETS == 1) {
                    multiply(number_of<1>(), copies, own);
                }
            }
            used = used == (RING - 1) * RUN ? 0 : used + RUN;
            __syncwarp(); /* all lanes have read what is now overwritten */
            ask(copies + lane * 16);
        };
        if constexpr (RESIDENT) {
#pragma unroll
            for (int i = 0; i < OWN; i++) {
                take(i * WARPS + warp, i);
            }
        } else {
#pragma unroll 1
            for (uint32_t unit = warp; unit < OWN * WARPS; unit += WARPS) {
                take(unit, 0);
            }
        }
        /* Sums over the lanes of a row: lane t keeps row half t % 2 of tile t / 2. */
        float keep[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float given = t % 2 ? total[i].upper : total[i].lower;
            keep[i] = (t % 2 ? total[i].lower : total[i].upper) + warp_shuffle_xor(given, 1);
            total[i].upper = total[i].lower = 0;
        }
        const float given = t / 2 ? keep[0] : keep[1];
        const float sum = (t / 2 ? keep[1] : keep[0]) + warp_shuffle_xor(given, 2);
        if (SETS * WIDTH == 2 || t < 2) {
            const uint32_t kept = SETS * (index % GROUP) + t / 2;
            shared->partial[index / GROUP % 2][kept][warp][g + t % 2 * 8] = sum * share;
        }
        const uint32_t end = index + WIDTH;
        if (end % GROUP == 0 || end >= own_tiles) {
            /* A warp that is ahead writes the other half of `partial`, and cannot come back before
             * all have read this one and met again. */
            finish(index / GROUP * GROUP,
                   (end < own_tiles ? end : own_tiles) - index / GROUP * GROUP);
        }
    }
}

/* The prelude lists what the model needs: LINEAR_PACKED_ROWS(X) is X(name, format, columns, ring,
 * sets, tiles, to, activation) … */
#define LINEAR_PACKED_ROW(name, format, columns, ring, sets, tiles, to, activation)           \
    extern "C" __global__ void KERNEL_BOUNDS(DECODE_THREADS, 1)                               \
        name(const struct linear_decode_arguments arguments)                                  \
    {                                                                                         \
        linear_packed_row<packed_##format, columns, ring, sets, tiles, to, activation,  \
                          false>(arguments, nullptr);                                         \
    }

/* The same of experts with a row each. */
#define LINEAR_PACKED_ROW_GROUP(name, format, columns, ring, sets, tiles, to, activation)       \
    extern "C" __global__ void KERNEL_BOUNDS(DECODE_THREADS, 1)                                 \
        name(const struct linear_decode_group_arguments arguments)                              \
    {                                                                                           \
        linear_packed_row<packed_##format, columns, ring, sets, tiles, to, activation,    \
                          true>(arguments.linear, &arguments.group);                            \
    }

#ifdef LINEAR_PACKED_ROWS
LINEAR_PACKED_ROWS(LINEAR_PACKED_ROW)
#endif
#ifdef LINEAR_PACKED_ROW_GROUPS
LINEAR_PACKED_ROW_GROUPS(LINEAR_PACKED_ROW_GROUP)
#endif
