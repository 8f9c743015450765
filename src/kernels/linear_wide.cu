/* Linear layers of many rows: y[n, rows] = x[n, columns] · Wᵀ in tiles, on tensor cores.
 *
 * A sum over the columns has the order of linear_decode.cu, to the bit: sixteen ranges of
 * ceil(columns / 32 / 16) chunks of 32 columns each; a range is summed chunk after chunk by two
 * mma.m16n8k16 of the same columns in the same places, weights as the A operand; the sums of the
 * ranges are added from first to last. It does not depend on the tile, nor on the rows beside it.
 *
 * A block makes WIDE_ROWS rows of W for WIDE_TOKENS rows of x. WIDE_STAGES pieces of 64 columns of
 * both come to shared memory by background copies while those before are worked on. A piece has two
 * chunks, each an array of rows of 64 bytes: lane (g = lane / 4, t = lane % 4) takes 8 bytes of row
 * g at k = 4 t and 8 at k = 16 + 4 t, its fragments of two products. Places are swapped (wide_place)
 * so that sixteen lanes read 32 bytes of four rows and no bank twice, and writing meets none twice
 * either.
 *
 * PAIR: half of a block's rows are of the gate, half of up; what is stored is
 * activation(gate) · up, as activations.
 *
 * Grid: x = tiles of the bucket's rows of x, so that blocks that run together share weights in the
 * second-level cache; y = tiles of W. Shared memory: WIDE_STAGES · (WIDE_ROWS + WIDE_TOKENS) · 128.
 *
 * Bound: 2 · columns FLOP an element of y at the rate of mma.sync (on compute capability 9.0 about
 * 62 % of wgmma's). Beside it, shared memory: a warp of 16 RT rows and 8 TT tokens reads
 * 64 · (16 RT + 8 TT) bytes for RT · TT · 2 products: of 128 by 128 in eight warps (RT = TT = 4)
 * 384 clocks at 128 bytes a clock, where the products take 512 on compute capability 8.0 and about
 * 413 on 9.0. Two sets of 64 sums a thread keep a warp's tile from being larger. */

#define WIDE_RANGES 16

#if ACT_TYPE == TYPE_BF16
#define wide_mma(d, a, b) mma_bf16(d, a, b)
#else
#define wide_mma(d, a, b) mma_f16(d, a, b)
#endif

/* Where 16 bytes lie: columns 8 unit … of row `row` of chunk `chunk` (0, 1), in 16-byte units; `rows`
 * of a chunk. */
__device__ __forceinline__ uint32_t wide_place(uint32_t rows, uint32_t chunk, uint32_t row,
                                               uint32_t unit)
{
    return (chunk * rows + (row ^ chunk)) * 4 + (unit ^ ((row & 2) | (row >> 2 & 1)));
}

/* A lane's four columns of the first half of a chunk, and of the second. */
__device__ __forceinline__ word4 wide_columns(const word4 *first, const word4 *second,
                                              uint32_t half)
{
    const word2 a = load_pair((const word2 *)first + half);
    const word2 b = load_pair((const word2 *)second + half);
    return word4{a.x, a.y, b.x, b.y};
}

template <int WARPS_ROWS, int WARPS_TOKENS, int RT, int TT, bool PAIR, bool GROUPED> struct wide {
    static constexpr int THREADS = 32 * WARPS_ROWS * WARPS_TOKENS;
    static constexpr int ROWS = 16 * RT * WARPS_ROWS;
    static constexpr int TOKENS = 8 * TT * WARPS_TOKENS;
    static constexpr int STEP = THREADS / 8; /* rows that all threads copy at a time */
    static constexpr int STAGE_UNITS = (ROWS + TOKENS) * 8;
    static_assert(!PAIR || (RT % 2 == 0 && 8 * RT % STEP == 0), "a copy takes rows of one matrix");

    const struct linear_wide_arguments &a;
    word4 *shared;
    const struct row_view<GROUPED> rows; /* of x */
    const uint32_t n;
    const uint32_t tile; /* of W */
    uint32_t sources[(TOKENS + STEP - 1) / STEP]; /* rows of x that this thread copies */

    /* The part that the tile lies in, and its first row there. */
    uint32_t part, row_begin;

    __device__ __forceinline__ wide(const struct linear_wide_arguments &arguments, word4 *memory,
                                    const struct row_view<GROUPED> &view)
        : a(arguments), shared(memory), rows(view), n(view.n), tile(blockIdx.y)
    {
#pragma unroll
        for (int i = 0; i < (TOKENS + STEP - 1) / STEP; i++) {
            const uint32_t token = i * STEP + threadIdx.x / 8;
            sources[i] = GROUPED && token >= n ? 0 : rows.input(token);
        }
        part = 0;
        row_begin = tile * (PAIR ? ROWS / 2 : ROWS);
        if (!PAIR) {
            const uint32_t tiles0 = (a.rows[0] + ROWS - 1) / ROWS;
            const uint32_t tiles1 = (a.rows[1] + ROWS - 1) / ROWS;
            part = tile < tiles0 ? 0 : tile < tiles0 + tiles1 ? 1 : 2;
            row_begin -= part == 0 ? 0 : (part == 1 ? tiles0 : tiles0 + tiles1) * ROWS;
        }
    }

    __device__ __forceinline__ uint32_t part_rows() const
    {
        return part == 0 ? a.rows[0] : part == 1 ? a.rows[1] : a.rows[2];
    }

    /* Starts to bring 64 columns from `k` of the weights into `to`. */
    __device__ __forceinline__ void fetch_weights(word4 *to, uint32_t k) const
    {
        const uint32_t unit = threadIdx.x % 4, chunk = threadIdx.x / 4 % 2, own = threadIdx.x / 8;
        const uint32_t column = k + chunk * 32 + unit * 8;
#pragma unroll
        for (int i = 0; i < ROWS / STEP; i++) {
            const uint32_t place = i * STEP + own;
            const int set = PAIR ? i * STEP % (16 * RT) / (8 * RT) : 0;
            const uint32_t row =
                row_begin + (PAIR ? i * STEP / (16 * RT) * (8 * RT) + i * STEP % (8 * RT) + own
                                  : place);
            const void *matrix = PAIR ? (set ? a.weights[1] : a.weights[0])
                                 : part == 0 ? a.weights[0]
                                 : part == 1 ? a.weights[1]
                                             : a.weights[2];
            copy_async16(to + wide_place(ROWS, chunk, place, unit),
                         (const uint16_t *)rows.weights(matrix) + (uint64_t)row * a.columns +
                             column,
                         row < part_rows() && column < a.columns);
        }
    }

    /* The same of x into `to`. */
    __device__ __forceinline__ void fetch_tokens(word4 *to, uint32_t k) const
    {
        const uint32_t unit = threadIdx.x % 4, chunk = threadIdx.x / 4 % 2, own = threadIdx.x / 8;
        const uint32_t column = k + chunk * 32 + unit * 8;
#pragma unroll
        for (int i = 0; i < (TOKENS + STEP - 1) / STEP; i++) {
            const uint32_t token = i * STEP + own;
            if (TOKENS % STEP == 0 || token < TOKENS) {
                copy_async16(to + wide_place(TOKENS, chunk, token, unit),
                             (const uint16_t *)a.input + (uint64_t)sources[i] * a.columns + column,
                             token < n && column < a.columns);
            }
        }
    }

    /* d += the products of a chunk of a piece of W and of x. */
    __device__ __forceinline__ void multiply(float (&d)[RT][TT][4], const word4 *weights,
                                             const word4 *tokens, uint32_t chunk) const
    {
        const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        const uint32_t g = lane / 4, t = lane % 4;
        const uint32_t row = warp / WARPS_TOKENS * (16 * RT) + g;
        const uint32_t token = warp % WARPS_TOKENS * (8 * TT) + g;
        const word4 *weights2 = weights + wide_place(ROWS, chunk, row, 2 + t / 2);
        const word4 *tokens2 = tokens + wide_place(TOKENS, chunk, token, 2 + t / 2);
        weights += wide_place(ROWS, chunk, row, t / 2);
        tokens += wide_place(TOKENS, chunk, token, t / 2);
        word4 x[TT], w[RT][2];
#pragma unroll
        for (int j = 0; j < TT; j++) {
            x[j] = wide_columns(tokens + j * 32, tokens2 + j * 32, t % 2);
        }
#pragma unroll
        for (int i = 0; i < RT; i++) {
            w[i][0] = wide_columns(weights + i * 64, weights2 + i * 64, t % 2);
            w[i][1] = wide_columns(weights + i * 64 + 32, weights2 + i * 64 + 32, t % 2);
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
#pragma unroll
            for (int i = 0; i < RT; i++) {
                const uint32_t fragment[4] = {
                    half ? w[i][0].z : w[i][0].x, half ? w[i][1].z : w[i][1].x,
                    half ? w[i][0].w : w[i][0].y, half ? w[i][1].w : w[i][1].y};
#pragma unroll
                for (int j = 0; j < TT; j++) {
                    const uint32_t b[2] = {half ? x[j].z : x[j].x, half ? x[j].w : x[j].y};
                    wide_mma(d[i][j], fragment, b);
                }
            }
        }
    }

    /* The sums leave: lane (g, t) holds rows g, g + 8 of each row tile for tokens 2 t, 2 t + 1. */
    __device__ __forceinline__ void store(const float (&y)[RT][TT][4]) const
    {
        const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        const uint32_t g = lane / 4, t = lane % 4;
        constexpr int OUT = PAIR ? RT / 2 : RT;
        const uint32_t begin = row_begin + warp / WARPS_TOKENS * (16 * OUT) + g;
        const uint32_t token = warp % WARPS_TOKENS * (8 * TT) + 2 * t;
        const uint32_t row_count = part_rows();
        const uint32_t before = (part > 0 ? a.rows[0] : 0) + (part > 1 ? a.rows[1] : 0);
#pragma unroll
        for (int j = 0; j < TT; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const uint32_t to = token + j * 8 + e % 2;
                const uint64_t at =
                    (uint64_t)(GROUPED && to >= n ? 0 : rows.output(to)) * a.output_stride + before;
#pragma unroll
                for (int i = 0; i < OUT; i++) {
                    const uint32_t row = begin + i * 16 + e / 2 * 8;
                    if (row >= row_count || to >= n) {
                        continue;
                    }
                    if (PAIR) {
                        ((act_value *)a.output)[at + row] =
                            act_of_float(activated(y[i][j][e], a.kind) * y[RT - OUT + i][j][e]);
                    } else if (a.kind == LINEAR_ADD) {
                        ((float *)a.output)[at + row] += y[i][j][e];
                    } else {
                        ((float *)a.output)[at + row] = y[i][j][e];
                    }
                }
            }
        }
    }

    /* The sums of the ranges so far, and of this range. */
    struct sums {
        float all[RT][TT][4] = {}, range[RT][TT][4] = {};
        uint32_t left; /* chunks of this range */
    };

    /* Adds the two chunks of piece `step`, ending ranges where they end. */
    __device__ __forceinline__ void add(struct sums &s, const word4 *weights, const word4 *tokens,
                                        uint32_t step) const
    {
        const uint32_t chunks = a.columns / 32;
#pragma unroll
        for (uint32_t chunk = 0; chunk < 2; chunk++) {
            if (2 * step + chunk < chunks) { /* the same for all threads */
                multiply(s.range, weights, tokens, chunk);
                if (--s.left == 0 || 2 * step + chunk + 1 == chunks) {
                    s.left = range_chunks();
#pragma unroll
                    for (int i = 0; i < RT * TT * 4; i++) {
                        float *of_range = &s.range[i / 4 / TT][i / 4 % TT][i % 4];
                        s.all[i / 4 / TT][i / 4 % TT][i % 4] += *of_range;
                        *of_range = 0;
                    }
                }
            }
        }
    }

    __device__ __forceinline__ uint32_t range_chunks() const
    {
        return (a.columns / 32 + WIDE_RANGES - 1) / WIDE_RANGES;
    }

    __device__ __forceinline__ uint32_t steps() const
    {
        return n ? (a.columns / 32 + 1) / 2 : 0;
    }

    __device__ __forceinline__ void run() const
    {
        struct sums s;
        s.left = range_chunks();
#pragma unroll
        for (uint32_t i = 0; i < WIDE_STAGES - 1; i++) {
            if (i < steps()) {
                fetch_weights(shared + i * STAGE_UNITS, i * 64);
            }
        }
        if (!GROUPED) {
            wait_for_predecessor();
        }
#pragma unroll
        for (uint32_t i = 0; i < WIDE_STAGES - 1; i++) {
            if (i < steps()) {
                fetch_tokens(shared + i * STAGE_UNITS + ROWS * 8, i * 64);
            }
            copy_async_commit();
        }
        word4 *stage = shared, *next = shared + (WIDE_STAGES - 1) * STAGE_UNITS;
        for (uint32_t step = 0; step < steps(); step++) {
            copy_async_wait<WIDE_STAGES - 2>();
            __syncthreads();
            /* Whoever reached this has done with the stage before. */
            if (step + WIDE_STAGES - 1 < steps()) {
                fetch_weights(next, (step + WIDE_STAGES - 1) * 64);
                fetch_tokens(next + ROWS * 8, (step + WIDE_STAGES - 1) * 64);
            }
            copy_async_commit();
            add(s, stage, stage + ROWS * 8, step);
            next = stage;
            stage = stage == shared + (WIDE_STAGES - 1) * STAGE_UNITS ? shared
                                                                      : stage + STAGE_UNITS;
        }
        store(s.all);
    }
};

/* The prelude lists what the model needs: LINEAR_WIDE_KERNELS(X) is X(name, warps of rows, warps of
 * tokens, row tiles of a warp, token tiles of a warp, pair, blocks a multiprocessor) … */
#define LINEAR_WIDE_KERNEL(name, warps_rows, warps_tokens, row_tiles, token_tiles, pair, blocks) \
    extern "C" __global__ void KERNEL_BOUNDS(32 * warps_rows * warps_tokens, blocks)           \
        name(const struct linear_wide_arguments arguments)                                     \
    {                                                                                          \
        SHARED_DYNAMIC(word4, memory);                                                         \
        typedef wide<warps_rows, warps_tokens, row_tiles, token_tiles, pair, false> tile;      \
        const uint32_t count = *arguments.count; /* written before anything that overlaps */   \
        release_successor();                                                                   \
        tile(arguments, memory, rows_from(blockIdx.x * tile::TOKENS, count, tile::TOKENS))     \
            .run();                                                                            \
    }

LINEAR_WIDE_KERNELS(LINEAR_WIDE_KERNEL)

/* The same of experts: x = tiles of rows of one expert. */
#define LINEAR_WIDE_GROUP(name, warps_rows, warps_tokens, row_tiles, token_tiles, pair, blocks) \
    extern "C" __global__ void KERNEL_BOUNDS(32 * warps_rows * warps_tokens, blocks)           \
        name(const struct linear_wide_group_arguments arguments)                               \
    {                                                                                          \
        SHARED_DYNAMIC(word4, memory);                                                         \
        release_successor();                                                                   \
        wait_for_predecessor(); /* who makes the lists */                                      \
        wide<warps_rows, warps_tokens, row_tiles, token_tiles, pair, true>(                    \
            arguments.linear, memory, rows_of_tile(arguments.group, blockIdx.x))               \
            .run();                                                                            \
    }

#ifdef LINEAR_WIDE_GROUPS
LINEAR_WIDE_GROUPS(LINEAR_WIDE_GROUP)
#endif
