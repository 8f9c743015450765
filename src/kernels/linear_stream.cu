/* Linear layers of few rows: weights stream through shared memory and tensor cores at the speed of
 * memory. The sums are those of linear_decode.cu to the bit.
 *
 * What differs is the way of the weights. There a warp's load takes 64 bytes each of eight rows, as
 * the fragments of mma want them, and memory gives 3.3 to 3.8 TB/s. Here a warp copies runs of
 * SEGMENT columns (256 bytes at 128) of its sixteen rows into a ring of its own in shared memory,
 * in the background and RING runs ahead, and takes the fragments from there: no other warp has to
 * be waited for. Pieces of sixteen bytes change places in pairs, by the row, so that sixteen lanes
 * that read 32 bytes of four rows at a time meet 32 different banks.
 *
 * Until the predecessor has ended, the ring fills at a pace: what else is read then, activations
 * and the cache, decides when work begins, and would wait behind 27 MB of weights for 6 us.
 *
 * Shapes, grid, and who sums what: as in linear_decode.cu; COLUMNS is a multiple of
 * DECODE_WARPS · SEGMENT. Dynamic shared memory: SETS · TOKEN_TILES · 16 KB of sums, and RING ·
 * DECODE_WARPS · SEGMENT · 32 bytes. Bound: the bytes of W from memory. Measured on an H200 with
 * bfloat16, where a plain read has 4.55 to 4.65 TB/s: logits of a 1B and an 8B model 4.50 and 4.53
 * (3.93, 3.46 by linear_decode.cu), down of 8B 4.09 (3.83), gate and up of 1B 3.90 (3.69). */

/* Four columns of piece `first` of a row, and four of piece `second`. */
__device__ __forceinline__ word4 columns_at(const word4 *row, int first, int second, int half)
{
    const word2 a = load_pair((const word2 *)(row + first) + half);
    const word2 b = load_pair((const word2 *)(row + second) + half);
    return word4{a.x, a.y, b.x, b.y};
}

template <int COLUMNS, int SEGMENT, int RING, int SETS, int TOKEN_TILES, int FROM, int TO,
          int ACTIVATION, bool GROUPED>
__device__ __forceinline__ void linear_stream(const struct linear_decode_arguments &a,
                                              const struct linear_group *group)
{
    static_assert(!GROUPED || FROM == DECODE_FROM_ACTIVATIONS, "rows of experts are not normed");
    constexpr int WARPS = DECODE_WARPS_LINEAR;
    static_assert(COLUMNS % (WARPS * SEGMENT) == 0, "whole runs for every warp");
    static_assert(SEGMENT == 64 || SEGMENT == 128, "pieces of a row are 8 or 16");
    constexpr int OWN = COLUMNS / WARPS;      /* columns of a warp */
    constexpr int CHUNKS = SEGMENT / 32;      /* of a run */
    constexpr int RUNS = OWN / SEGMENT;       /* a tile and set */
    constexpr int PIECES = SEGMENT / 8;       /* of sixteen bytes, of a row of a run */
    constexpr int ROWS_AT_ONCE = 32 / PIECES; /* by one copy of the warp */
    /* Activations stay in registers where there is room. */
    constexpr bool RESIDENT = OWN / 32 * TOKEN_TILES <= (SETS * TOKEN_TILES < 8 ? 16 : 8);
    constexpr int TOKENS = 8 * TOKEN_TILES;
    typedef float sums[SETS][WARPS][16 * TOKENS];
    struct run {
        word4 rows[16][PIECES];
    };
    struct stream {
        sums partial[2];
        struct run ring[WARPS][RING];
    };
    SHARED_DYNAMIC(stream, shared);
    /* Rows that are normed at a time, on their way into registers where the sums come later. */
    constexpr int FITTING = sizeof(sums) * 2 / (2 * COLUMNS);
    constexpr int ROUND = FITTING < TOKENS ? FITTING : TOKENS;
    static_assert(FROM != DECODE_FROM_NORM || (RESIDENT && ROUND > 0), "room for normed rows");
    __shared__ float squares[FROM == DECODE_FROM_NORM ? ROUND : 1][WARPS];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int g = lane / 4, t = lane % 4;
    const uint32_t first = GROUPED ? 0 : blockIdx.y * TOKENS;
    struct row_view<GROUPED> rows;
    const struct tile_range range = tiles_of<SETS>(a);
    const uint32_t own_tiles =
        blockIdx.x < range.count ? (range.count - blockIdx.x + gridDim.x - 1) / gridDim.x : 0;
    const uint32_t steps = own_tiles * RUNS * SETS;
    uint32_t asked = 0, used = 0; /* places in the ring */

    /* Asks for a run: the runs of a tile one after the other, of each the sets. A group is
     * committed in any case, so that their number tells how far the copies are. */
    auto ask = [&](uint32_t step) {
        if (step < steps) {
            uint32_t tile = blockIdx.x + step / (RUNS * SETS) * gridDim.x;
            const uint32_t part = SETS == 2 ? step % SETS : part_of<SETS>(range, tile);
            const int row = lane / PIECES, piece = lane % PIECES;
            const uint16_t *from = (const uint16_t *)rows.weights(part_weights(a, part)) +
                                   ((uint64_t)tile * 16 + row) * COLUMNS + warp * OWN +
                                   step / SETS % RUNS * SEGMENT + piece * 8;
            struct run &to = shared->ring[warp][asked];
#pragma unroll
            for (int i = 0; i < 16; i += ROWS_AT_ONCE) {
                copy_async16(&to.rows[row + i][piece ^ (row + i) % 4 * 2],
                             from + (uint64_t)i * COLUMNS, true);
            }
            asked = asked + 1 == RING ? 0 : asked + 1;
        }
        copy_async_commit();
    };
    /* What the predecessors still have to read must not queue behind what is only wanted early: so
     * few runs are on their way at a time that memory has little more than enough to do. */
    constexpr int PACE = pace_of<sizeof(struct run) * WARPS>::VALUE;
    auto fill = [&]() {
        for (int i = 0; i < RING; i++) {
            ask(i);
            copy_async_wait<PACE - 1>();
        }
    };
    float norm_weights[NORM_EACH(COLUMNS)];
    release_successor();
    if constexpr (GROUPED) {
        wait_for_predecessor(); /* who makes the lists */
        rows = rows_of_tile(*group, blockIdx.y);
        if (rows.n) {
            fill();
        }
    } else {
        if (FROM == DECODE_FROM_NORM) {
            load_norm_weights<COLUMNS>(a, norm_weights);
        }
        /* The first weights do not wait for the number of rows, which is far away, too. */
        const uint32_t count = *a.count; /* written before anything that overlaps */
        if (first == 0) {
            fill();
        }
        rows = rows_from(first, count, TOKENS);
        if (rows.n && first != 0) {
            fill();
        }
        wait_for_predecessor();
    }
    const uint32_t n = rows.n;
    if (n == 0) {
        copy_async_wait<0>();
        return;
    }

    /* Eight activations of a token: zero where there is none. */
    auto load_tokens = [&](int chunk, int tile) -> word4 {
        const uint32_t token = tile * 8 + g;
        if (token >= n) {
            return word4{0, 0, 0, 0};
        }
        return tokens_at<COLUMNS, TOKEN_TILES == 1>(a, rows.input(token), warp * OWN + chunk * 32);
    };
    word4 resident[RESIDENT ? OWN / 32 : 1][TOKEN_TILES];
    if constexpr (FROM == DECODE_FROM_NORM) {
        act_value(*staged)[COLUMNS] = (act_value(*)[COLUMNS])shared->partial;
#pragma unroll
        for (int c = 0; c < OWN / 32; c++) {
            resident[c][0] = word4{0, 0, 0, 0};
        }
        for (uint32_t from = 0; from < n; from += ROUND) {
            stage_normed<COLUMNS, ROUND>(a, first, from, n, norm_weights, squares, staged);
            if ((uint32_t)g >= from && (uint32_t)g < from + ROUND && (uint32_t)g < n) {
#pragma unroll
                for (int c = 0; c < OWN / 32; c++) {
                    resident[c][0] = load16(&staged[g - from][warp * OWN + c * 32 + t * 8]);
                }
            }
            __syncthreads(); /* all have read what is now overwritten */
        }
    } else if constexpr (RESIDENT) {
#pragma unroll
        for (int c = 0; c < OWN / 32; c++) {
#pragma unroll
            for (int tile = 0; tile < TOKEN_TILES; tile++) {
                resident[c][tile] = load_tokens(c, tile);
            }
        }
    }
    float d[SETS][TOKEN_TILES][4] = {};
    /* Activations that are not resident come from far away: those of the next run are on their way
     * while one is multiplied, where registers have room. */
    constexpr bool AHEAD = !RESIDENT && SETS == 1 && TOKEN_TILES <= 2;
    constexpr int FETCHED = AHEAD ? CHUNKS : 1;
    word4 ahead[FETCHED][TOKEN_TILES];
    auto fetch = [&](word4(&to)[FETCHED][TOKEN_TILES], int number) {
#pragma unroll
        for (int c = 0; c < FETCHED; c++) {
#pragma unroll
            for (int tile = 0; tile < TOKEN_TILES; tile++) {
                to[c][tile] = load_tokens(number * CHUNKS + c, tile);
            }
        }
    };
    if (AHEAD) {
        fetch(ahead, 0);
    }

    /* Multiplies the run that the ring has next. */
    auto multiply = [&](uint32_t step, int set, int number) {
        word4 own[FETCHED][TOKEN_TILES];
        if (AHEAD) {
#pragma unroll
            for (int c = 0; c < FETCHED; c++) {
#pragma unroll
                for (int tile = 0; tile < TOKEN_TILES; tile++) {
                    own[c][tile] = ahead[c][tile];
                }
            }
            fetch(ahead, number + 1 < RUNS ? number + 1 : 0);
        }
        copy_async_wait<RING - 1>();
        __syncwarp();
        const struct run &from = shared->ring[warp][used];
        word4 upper[CHUNKS], lower[CHUNKS];
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
            const int piece = (c * 4 + t / 2) ^ (g % 4 * 2), other = piece ^ 2;
            upper[c] = columns_at(from.rows[g], piece, other, t % 2);
            lower[c] = columns_at(from.rows[g + 8], piece, other, t % 2);
        }
        used = used + 1 == RING ? 0 : used + 1;
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
#pragma unroll
            for (int tile = 0; tile < TOKEN_TILES; tile++) {
                word4 tokens;
                if constexpr (RESIDENT) {
                    tokens = resident[c][tile];
#pragma unroll
                    for (int i = 1; i < RUNS; i++) { /* registers have no changing index */
                        if (i == number) {
                            tokens = resident[i * CHUNKS + c][tile];
                        }
                    }
                } else if constexpr (AHEAD) {
                    tokens = own[c][tile];
                } else {
                    tokens = load_tokens(number * CHUNKS + c, tile);
                }
                multiply_chunk(d[set][tile], upper[c], lower[c], tokens);
            }
        }
        __syncwarp(); /* all lanes have read what is now overwritten */
        ask(step + RING);
    };
    uint32_t step = 0;
    /* Whose sums a thread finishes: a row of a tile of a token. Where there are just two tiles, both
     * are finished at once. */
    static_assert(16 * TOKENS <= DECODE_THREADS, "a thread finishes one row of a tile");
    const bool both = 32 * TOKENS <= DECODE_THREADS && own_tiles == 2;
    const uint32_t of_both = both ? threadIdx.x / (16 * TOKENS) : 0;
    const uint32_t token = (threadIdx.x - of_both * 16 * TOKENS) / 16, row = threadIdx.x % 16;
    const bool finishes = token < n && of_both < 2;
    struct output_place place = {0, false};
    float before = 0;
    for (uint32_t index = 0; index < own_tiles; index++) {
        if (finishes && (index == 0 || !both)) { /* on its way while weights are multiplied */
            place = output_place_of<SETS, TO>(a, range, blockIdx.x + (index + of_both) * gridDim.x,
                                          rows.output(token), row);
            before = output_before<TO>(a, place);
        }
        for (int number = 0; number < RUNS; number++) {
#pragma unroll
            for (int set = 0; set < SETS; set++) {
                multiply(step++, set, number);
            }
        }
#pragma unroll
        for (int set = 0; set < SETS; set++) {
            leave_sums<TOKEN_TILES>(shared->partial[index & 1][set][warp], d[set]);
        }
        if (both && index == 0) {
            continue;
        }
        /* One barrier a tile: a warp that is ahead writes the other half of `partial`, and cannot
         * come back to this one before all have read it and met again. */
        __syncthreads();
        if (finishes) {
            finish_row<SETS, TOKENS, TO, ACTIVATION>(
                a, shared->partial[both ? of_both : index & 1], place, before, token, row);
        }
    }
}

/* The prelude lists what the model needs: LINEAR_STREAM_KERNELS(X) is X(name, columns, segment,
 * ring, sets, token tiles, from, to, activation) … */
#define LINEAR_STREAM_KERNEL(name, columns, segment, ring, sets, tiles, from, to, activation)      \
    extern "C" __global__ void KERNEL_BOUNDS(DECODE_THREADS, 1)                                    \
        name(const struct linear_decode_arguments arguments)                                       \
    {                                                                                              \
        linear_stream<columns, segment, ring, sets, tiles, from, to, activation, false>(arguments, \
                                                                                        nullptr);  \
    }

/* The same of experts: as in linear_decode.cu. */
#define LINEAR_STREAM_GROUP(name, columns, segment, ring, sets, tiles, from, to, activation) \
    extern "C" __global__ void KERNEL_BOUNDS(DECODE_THREADS, 1)                              \
        name(const struct linear_decode_group_arguments arguments)                           \
    {                                                                                        \
        linear_stream<columns, segment, ring, sets, tiles, from, to, activation, true>(      \
            arguments.linear, &arguments.group);                                             \
    }

#ifdef LINEAR_STREAM_KERNELS
LINEAR_STREAM_KERNELS(LINEAR_STREAM_KERNEL)
LINEAR_STREAM_GROUPS(LINEAR_STREAM_GROUP)
#endif
