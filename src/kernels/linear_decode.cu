/* Linear layers of few rows: weights stream through registers and tensor cores. linear_stream.cu
 * does the same to the bit and faster, where a block has the shared memory for it.
 *
 * Shapes: y[n, rows] = x[n, COLUMNS] · Wᵀ, 8 TOKEN_TILES rows of x at a time. Weights are the A operand of
 * mma.m16n8k16 (sixteen of their rows), activations the B operand (eight of theirs). A sum over k
 * does not mind in which order the instruction counts k: lane (g = lane / 4, t = lane % 4) loads
 * 8 bytes of rows g and g + 8 at k = 32 chunk + 4 t, and 8 at k + 16, unchanged from the file,
 * which feed two instructions; the activations are loaded at the same k. The DECODE_WARPS warps of a block
 * share COLUMNS among them, and their sums are added in order: one order for every number of rows
 * and of TOKEN_TILES.
 *
 * SETS: tiles of sixteen rows that a block makes at a time, of one matrix each: 2 for gate and up.
 * Loads of weights run UNROLL chunks ahead, and begin before the predecessor on the stream has
 * ended: they do not depend on it.
 *
 * Grid: x = one block a multiprocessor, or one a tile when there are fewer; y = groups of 8
 * TOKEN_TILES rows of the bucket, each of which reads all weights. Dynamic shared memory: SETS ·
 * TOKEN_TILES · 16 KB. Bound: the bytes of W from memory. Measured on an H200 with bfloat16: 3.3 to
 * 3.8 of 4.6 TB/s, since a warp's load takes 64 bytes each of eight rows. */
template <int COLUMNS, int UNROLL, int SETS, int TOKEN_TILES, int FROM, int TO, int ACTIVATION,
          bool GROUPED>
__device__ __forceinline__ void linear_decode(const struct linear_decode_arguments &a,
                                              const struct linear_group *group)
{
    static_assert(!GROUPED || FROM == DECODE_FROM_ACTIVATIONS, "rows of experts are not normed");
    constexpr int WARPS = DECODE_WARPS_LINEAR;
    constexpr int CHUNKS = COLUMNS / 32;
    constexpr int OWN = (CHUNKS + WARPS - 1) / WARPS; /* chunks of a warp */
    constexpr int BATCHES = (OWN + UNROLL - 1) / UNROLL;
    constexpr bool EXACT = OWN * WARPS == CHUNKS && BATCHES * UNROLL == OWN;
    /* Activations stay in registers where there is room. */
    constexpr bool RESIDENT = BATCHES * UNROLL * TOKEN_TILES <= (SETS == 2 ? 4 : 8);
    constexpr int TOKENS = 8 * TOKEN_TILES;
    typedef float sums[SETS][WARPS][16 * TOKENS];
    struct decode_room {
        sums partial[2];
        act_value staged[FROM == DECODE_FROM_NORM ? TOKENS : 1][COLUMNS]; /* normed rows */
    };
    SHARED_DYNAMIC(decode_room, shared);
    /* Rows that are normed at a time: what a thread has of them lies in registers. */
    constexpr int ROUND = NORM_EACH(COLUMNS) <= 2 ? 8 : NORM_EACH(COLUMNS) <= 4 ? 4 : 1;
    __shared__ float squares[FROM == DECODE_FROM_NORM ? ROUND : 1][WARPS];
    static_assert(FROM != DECODE_FROM_NORM || TOKENS % ROUND == 0, "whole rounds");
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int g = lane / 4, t = lane % 4;
    const uint32_t first = GROUPED ? 0 : blockIdx.y * TOKENS;
    struct row_view<GROUPED> rows;
    const struct tile_range range = tiles_of<SETS>(a);
    const uint32_t own_tiles =
        blockIdx.x < range.count ? (range.count - blockIdx.x + gridDim.x - 1) / gridDim.x : 0;

    auto is_valid = [&](int chunk) {
        return EXACT || (chunk < OWN && warp * OWN + chunk < CHUNKS);
    };
    word4 weights[2][UNROLL][SETS][2];
    auto load_weights = [&](word4(&to)[UNROLL][SETS][2], uint32_t step) {
        const uint32_t batch = step % BATCHES;
#pragma unroll
        for (int m = 0; m < SETS; m++) {
            uint32_t tile = blockIdx.x + step / BATCHES * gridDim.x;
            const uint32_t part = SETS == 2 ? (uint32_t)m : part_of<SETS>(range, tile);
            const uint16_t *from = (const uint16_t *)rows.weights(part_weights(a, part)) +
                                   ((uint64_t)tile * 16 + g) * COLUMNS + warp * OWN * 32 + t * 4;
#pragma unroll
            for (int u = 0; u < UNROLL; u++) {
                const int chunk = batch * UNROLL + u;
                if (is_valid(chunk)) {
                    to[u][m][0] = stream_columns(from + chunk * 32);
                    to[u][m][1] = stream_columns(from + chunk * 32 + 8 * COLUMNS);
                } else {
                    to[u][m][0] = to[u][m][1] = word4{0, 0, 0, 0};
                }
            }
        }
    };
    float norm_weights[NORM_EACH(COLUMNS)];
    release_successor();
    if constexpr (GROUPED) {
        wait_for_predecessor(); /* who makes the lists */
        rows = rows_of_tile(*group, blockIdx.y);
        if (own_tiles && rows.n) {
            load_weights(weights[0], 0);
        }
    } else {
        /* The first weights do not wait for the number of rows, which is far away, too. */
        if (own_tiles && first == 0) {
            load_weights(weights[0], 0);
        }
        rows = rows_from(first, *a.count, TOKENS); /* written before anything that overlaps */
        if (own_tiles && rows.n && first != 0) {
            load_weights(weights[0], 0);
        }
        if (FROM == DECODE_FROM_NORM) {
            load_norm_weights<COLUMNS>(a, norm_weights);
        }
        wait_for_predecessor();
    }
    const uint32_t n = rows.n;
    const uint32_t steps = n ? own_tiles * BATCHES : 0;

    if constexpr (FROM == DECODE_FROM_NORM) {
        for (uint32_t from = 0; from < n; from += ROUND) {
            stage_normed<COLUMNS, ROUND>(a, first, from, n, norm_weights, squares,
                                         shared->staged + from);
        }
    }

    /* Eight activations of a token: zero where there is none. */
    auto load_tokens = [&](int chunk, int tile) -> word4 {
        const uint32_t token = tile * 8 + g;
        if (token >= n || !is_valid(chunk)) {
            return word4{0, 0, 0, 0};
        }
        const uint32_t k = (warp * OWN + chunk) * 32;
        if constexpr (FROM == DECODE_FROM_NORM) {
            return load16(&shared->staged[token][k + t * 8]);
        }
        return tokens_at<COLUMNS, TOKEN_TILES == 1>(a, rows.input(token), k);
    };
    word4 resident[RESIDENT ? BATCHES * UNROLL : 1][TOKEN_TILES];
    if constexpr (RESIDENT) {
#pragma unroll
        for (int c = 0; c < BATCHES * UNROLL; c++) {
#pragma unroll
            for (int tile = 0; tile < TOKEN_TILES; tile++) {
                resident[c][tile] = load_tokens(c, tile);
            }
        }
    }
    float d[SETS][TOKEN_TILES][4] = {};

    auto compute = [&](word4(&from)[UNROLL][SETS][2], uint32_t step) {
        const uint32_t batch = step % BATCHES;
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
#pragma unroll
            for (int tile = 0; tile < TOKEN_TILES; tile++) {
                word4 b;
                if constexpr (RESIDENT) {
                    b = resident[u][tile];
#pragma unroll
                    for (int i = 1; i < BATCHES; i++) { /* registers have no changing index */
                        if (i == (int)batch) {
                            b = resident[i * UNROLL + u][tile];
                        }
                    }
                } else {
                    b = load_tokens(batch * UNROLL + u, tile);
                }
#pragma unroll
                for (int m = 0; m < SETS; m++) {
                    multiply_chunk(d[m][tile], from[u][m][0], from[u][m][1], b);
                }
            }
        }
        if (batch == BATCHES - 1) { /* the same for all threads */
            const uint32_t index = step / BATCHES;
#pragma unroll
            for (int m = 0; m < SETS; m++) {
                leave_sums<TOKEN_TILES>(shared->partial[index & 1][m][warp], d[m]);
            }
            /* One barrier a tile: a warp that is ahead writes the other half of `partial`, and
             * cannot come back to this one before all have read it and met again. */
            __syncthreads();
            const uint32_t token = threadIdx.x / 16, row = threadIdx.x % 16;
            static_assert(16 * TOKENS <= DECODE_THREADS, "a thread finishes one row of a tile");
            if (token < n) {
                const struct output_place place = output_place_of<SETS, TO>(
                    a, range, blockIdx.x + index * gridDim.x, rows.output(token), row);
                finish_row<SETS, TOKENS, TO, ACTIVATION>(a, shared->partial[index & 1], place,
                                                         output_before<TO>(a, place), token, row);
            }
        }
    };
    for (uint32_t step = 0; step < steps; step += 2) {
        if (step + 1 < steps) {
            load_weights(weights[1], step + 1);
        }
        compute(weights[0], step);
        if (step + 1 < steps) {
            if (step + 2 < steps) {
                load_weights(weights[0], step + 2);
            }
            compute(weights[1], step + 1);
        }
    }
}

/* The prelude lists what the model needs: LINEAR_DECODE_KERNELS(X) is X(name, columns, unroll,
 * sets, token tiles, from, to, activation) … */
#define LINEAR_DECODE_KERNEL(name, columns, unroll, sets, tiles, from, to, activation)      \
    extern "C" __global__ void KERNEL_BOUNDS(DECODE_THREADS, 1)                             \
        name(const struct linear_decode_arguments arguments)                                \
    {                                                                                       \
        linear_decode<columns, unroll, sets, tiles, from, to, activation, false>(arguments, \
                                                                                 nullptr);  \
    }

LINEAR_DECODE_KERNELS(LINEAR_DECODE_KERNEL)

/* The same of experts: y = tiles of 8 TOKEN_TILES rows of one expert, each of which reads that
 * expert's weights; x = so many blocks that all tiles together fill the device. */
#define LINEAR_DECODE_GROUP(name, columns, unroll, sets, tiles, from, to, activation)              \
    extern "C" __global__ void KERNEL_BOUNDS(DECODE_THREADS, 1)                                    \
        name(const struct linear_decode_group_arguments arguments)                                 \
    {                                                                                              \
        linear_decode<columns, unroll, sets, tiles, from, to, activation, true>(arguments.linear,  \
                                                                                &arguments.group); \
    }

#ifdef LINEAR_DECODE_GROUPS
LINEAR_DECODE_GROUPS(LINEAR_DECODE_GROUP)
#endif
