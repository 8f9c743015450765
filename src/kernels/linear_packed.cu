/* Linear layers of few rows with quantised weights: codes stream through tensor cores at the speed
 * of memory, in the order of packed_formats.cuh.
 *
 * Shapes: y[n, rows] = x[n, COLUMNS] · Wᵀ, 8 TOKEN_TILES rows of x at a time; x are halves. As in
 * linear_decode.cu a block makes tiles of sixteen rows of W; its warps share the units of 128
 * columns and their sums are added in order: one order for every number of rows and TOKEN_TILES.
 * Codes enter the instructions as they are, scales multiply the sums of a block of columns: weights
 * are never rounded.
 *
 * Loads run DEPTH units ahead and begin before the predecessor on the stream has ended. STAGES: the
 * activations lie in shared memory.
 *
 * Grid: x = one block a multiprocessor, or one a tile when there are fewer; y = groups of 8
 * TOKEN_TILES rows of the bucket. Dynamic shared memory: KEPT · SETS · TOKEN_TILES · 8 KB and
 * the activations that are staged. Bound: the bytes of W from memory; about 130 instructions a warp
 * and unit of q4_k (1,184 bytes) are half of what a multiprocessor can issue in that time. */
#define PACK_PAD 32 /* bytes after a row of activations in shared memory: other banks */

template <class FORMAT, int COLUMNS, int SETS, int TOKEN_TILES, int TO, int ACTIVATION, bool STAGES,
          bool GROUPED>
__device__ __forceinline__ void linear_packed(const struct linear_decode_arguments &a,
                                              const struct linear_group *group)
{
    constexpr int WARPS = DECODE_WARPS_LINEAR;
    constexpr int UNITS = COLUMNS / PACK_COLUMNS;
    constexpr int OWN = (UNITS + WARPS - 1) / WARPS; /* units of a warp */
    constexpr bool EXACT = OWN * WARPS == UNITS;
    /* Four tiles are bound by the products, and need the registers. */
    constexpr int DEPTH = TOKEN_TILES == 4 ? 1 : 4 / SETS;
    constexpr bool RESIDENT = !STAGES && OWN * TOKEN_TILES == 1;
    /* Tiles between two barriers, and the sums of so many are kept: twice, where there is room. */
    constexpr int GROUP = SETS * TOKEN_TILES >= 4 ? 1 : 4 / (SETS * TOKEN_TILES);
    constexpr int KEPT = SETS * TOKEN_TILES >= 8 ? 1 : 2 * GROUP;
    constexpr int TOKENS = 8 * TOKEN_TILES;
    /* Tiles of rows of x that are multiplied at a time: codes are taken apart twice for four, whose
     * sums of a block of columns would not fit in registers. */
    constexpr int PASS = TOKEN_TILES < 2 ? 1 : 2;
    constexpr int ROW = COLUMNS * 2 + PACK_PAD; /* of activations in shared memory, bytes */
    typedef float sums[SETS][WARPS][16 * TOKENS];
    SHARED_DYNAMIC(sums, partial); /* KEPT of them, then the activations */
    uint8_t *made = (uint8_t *)(partial + KEPT);
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t g = lane / 4, t = lane % 4;
    const uint32_t first = GROUPED ? 0 : blockIdx.y * TOKENS;
    struct row_view<GROUPED> rows;
    const struct tile_range range = tiles_of<SETS>(a);
    const uint32_t own_tiles =
        blockIdx.x < range.count ? (range.count - blockIdx.x + gridDim.x - 1) / gridDim.x : 0;

    typename FORMAT::unit units[DEPTH][SETS];
    auto is_valid = [&](uint32_t unit) { return EXACT || unit < UNITS; };
    /* The parts' tiles lie one after another. Loads go through them in order. */
    constexpr uint32_t TILE_BYTES = UNITS / FORMAT::UNITS * FORMAT::RECORD;
    const uint8_t *next[SETS];
#pragma unroll
    for (int m = 0; m < SETS; m++) {
        next[m] = (const uint8_t *)part_weights(a, m) + (uint64_t)blockIdx.x * TILE_BYTES +
                  warp / FORMAT::UNITS * FORMAT::RECORD;
    }
    const uint64_t tile_step =
        (uint64_t)gridDim.x * TILE_BYTES - (OWN - 1) * (WARPS / FORMAT::UNITS * FORMAT::RECORD);
    auto load_units = [&](typename FORMAT::unit(&to)[SETS], uint32_t step) {
#pragma unroll
        for (int m = 0; m < SETS; m++) {
            if (is_valid(step % OWN * WARPS + warp)) {
                FORMAT::template load<pack_memory>(to[m],
                                                   next[m] + warp % FORMAT::UNITS * FORMAT::UNIT,
                                                   next[m] + FORMAT::UNITS * FORMAT::UNIT, lane);
            }
            next[m] += step % OWN == OWN - 1 ? tile_step : WARPS / FORMAT::UNITS * FORMAT::RECORD;
        }
    };
    release_successor();
    /* The first weights do not wait for the number of rows, which is far away, too. */
    auto load_first = [&]() {
#pragma unroll
        for (uint32_t i = 0; i < DEPTH; i++) {
            if (i < own_tiles * OWN) {
                load_units(units[i], i);
            }
        }
    };
    if constexpr (GROUPED) {
        wait_for_predecessor(); /* who makes the lists */
        rows = rows_of_tile(*group, blockIdx.y);
        if (rows.n == 0) {
            return;
        }
#pragma unroll
        for (int m = 0; m < SETS; m++) {
            next[m] += rows.offset;
        }
        load_first();
    } else {
        if (first == 0) {
            load_first();
        }
        rows = rows_from(first, *a.count, TOKENS); /* written before anything that overlaps */
        if (first != 0 && rows.n) {
            load_first();
        }
        wait_for_predecessor();
    }
    const uint32_t n = rows.n;
    const uint32_t steps = n ? own_tiles * OWN : 0;

    if (STAGES) {
        constexpr uint32_t PIECES = COLUMNS / 8; /* of 16 bytes, in a row */
        for (uint32_t i = threadIdx.x; i < n * PIECES; i += DECODE_THREADS) {
            const uint8_t *from =
                (const uint8_t *)a.input + (uint64_t)rows.input(i / PIECES) * COLUMNS * 2;
            store16(made + i / PIECES * ROW + i % PIECES * 16, load16(from + i % PIECES * 16));
        }
        __syncthreads();
    }

    /* Where a lane's rows of x are, of those that are not staged. */
    const uint8_t *row_at[STAGES ? 1 : TOKEN_TILES];
#pragma unroll
    for (int tile = 0; tile < (STAGES ? 0 : TOKEN_TILES); tile++) {
        const uint32_t token = tile * 8 + g;
        row_at[tile] =
            (const uint8_t *)a.input + (uint64_t)(token < n ? rows.input(token) : 0) * COLUMNS * 2;
    }
    /* The activations of mma m of a unit as a lane hands them over; zero where there is no token.
     */
    auto load_step = [&](uint32_t unit, int m, int first_tile, uint32_t(&x)[PASS][2]) {
#pragma unroll
        for (int tile = 0; tile < PASS; tile++) {
            const uint32_t token = (first_tile + tile) * 8 + g;
            const uint8_t *from =
                STAGES ? made + token * ROW : row_at[STAGES ? 0 : first_tile + tile];
            struct word2 pair = {0, 0};
            if (token < n) {
                pair = load_pair(from + unit * (PACK_COLUMNS * 2) + m * 32 + t * 8);
            }
            x[tile][0] = pair.x;
            x[tile][1] = pair.y;
        }
    };
    uint32_t resident[RESIDENT ? PACK_STEPS : 1][PASS][2];
    if constexpr (RESIDENT) {
        if (is_valid(warp)) {
#pragma unroll
            for (int m = 0; m < PACK_STEPS; m++) {
                load_step(warp, m, 0, resident[m]);
            }
        }
    }
    /* The tiles from the last barrier to tile number `last` of the block. A warp that is ahead
     * writes the other half of what is kept, and cannot come back before all have read and met
     * again. */
    auto finish_tiles = [&](uint32_t last) {
        const uint32_t before = last / GROUP * GROUP;
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < (last + 1 - before) * 16 * n; i += DECODE_THREADS) {
            const uint32_t index = before + i / (16 * n), j = i % (16 * n);
            const struct output_place place = output_place_of<SETS, TO>(
                a, range, blockIdx.x + index * gridDim.x, rows.output(j / 16), j % 16);
            finish_row<SETS, TOKENS, TO, ACTIVATION>(
                a, partial[index % KEPT], place, output_before<TO>(a, place), j / 16, j % 16);
        }
        if (KEPT == 1) {
            __syncthreads();
        }
    };
    float d[SETS][TOKEN_TILES / PASS][PASS][4] = {};
    auto compute = [&](typename FORMAT::unit(&from)[SETS], uint32_t step) {
        const uint32_t unit = step % OWN * WARPS + warp;
        if (is_valid(unit)) { /* the same for a warp */
#pragma unroll
            for (int i = 0; i < SETS * (TOKEN_TILES / PASS); i++) {
                const int first_tile = i % (TOKEN_TILES / PASS) * PASS;
                auto load_x = [&](int m, uint32_t(&x)[PASS][2]) {
                    if constexpr (RESIDENT) {
                        x[0][0] = resident[m][0][0];
                        x[0][1] = resident[m][0][1];
                    } else {
                        load_step(unit, m, first_tile, x);
                    }
                };
                const int set = i / (TOKEN_TILES / PASS);
                FORMAT::template multiply<PASS>(from[set], load_x, d[set][first_tile / PASS]);
            }
        }
        if (step % OWN == OWN - 1) { /* the same for all threads */
            const uint32_t index = step / OWN;
#pragma unroll
            for (int m = 0; m < SETS; m++) {
                leave_sums<TOKEN_TILES>(partial[index % KEPT][m][warp],
                                        *(float(*)[TOKEN_TILES][4]) & d[m]);
            }
            if (index % GROUP == GROUP - 1 || index == own_tiles - 1) {
                finish_tiles(index);
            }
        }
    };
    for (uint32_t step = 0; step < steps; step += DEPTH) {
#pragma unroll
        for (uint32_t i = 0; i < DEPTH; i++) {
            if (step + i < steps) {
                compute(units[i], step + i);
                if (step + i + DEPTH < steps) {
                    load_units(units[i], step + i + DEPTH);
                }
            }
        }
    }
}

/* The prelude lists what the model needs: LINEAR_PACKED_KERNELS(X) is X(name, format, columns,
 * sets, token tiles, to, activation, stages) … */
#define LINEAR_PACKED_KERNEL(name, format, columns, sets, tiles, to, activation, stages)     \
    extern "C" __global__ void KERNEL_BOUNDS(DECODE_THREADS, 1)                                    \
        name(const struct linear_decode_arguments arguments)                                       \
    {                                                                                              \
        linear_packed<packed_##format, columns, sets, tiles, to, activation, stages, false>( \
            arguments, nullptr);                                                                   \
    }

/* The same of experts: as in linear_decode.cu. */
#define LINEAR_PACKED_GROUP(name, format, columns, sets, tiles, to, activation, stages)     \
    extern "C" __global__ void KERNEL_BOUNDS(DECODE_THREADS, 1)                                   \
        name(const struct linear_decode_group_arguments arguments)                                \
    {                                                                                             \
        linear_packed<packed_##format, columns, sets, tiles, to, activation, stages, true>( \
            arguments.linear, &arguments.group);                                                  \
    }

LINEAR_PACKED_KERNELS(LINEAR_PACKED_KERNEL)
#ifdef LINEAR_PACKED_GROUPS
LINEAR_PACKED_GROUPS(LINEAR_PACKED_GROUP)
#endif
