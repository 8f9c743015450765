/* Linear layers of many rows by products of four warps together (compute capability 9.0): as
 * linear_wide.cu, with the same order of sums and the same bits.
 *
 * The instruction adds sixteen products without an order of its own, as mma.m16n8k16 does there: what
 * counts is which columns share an instruction: sixteen neighbours. Both operands come to shared
 * memory as core matrices, eight rows of 16 bytes. Those of neighbouring rows lie side by side, those
 * of the next eight columns QUAD_PAD further than they need, so that writing meets no bank twice.
 *
 * A block of GROUPS · 128 threads makes 64 GROUPS rows of W for TOKENS rows of x. Pieces of 64 columns
 * of both come to STAGES places of shared memory by background copies, STAGES − 2 ahead. PAIR: of a
 * warp's sixteen rows eight are of the gate and eight of up, so that a thread has both.
 *
 * Grid: x, y as linear_wide.cu; z: blocks that share the ranges of a tile. With one, the sums of
 * ranges are added as they end; with more, every range's go to memory, and the last block of a tile
 * to arrive adds them, in the same order. Shared memory: STAGES · 8 · (1,024 GROUPS + 16 TOKENS + 32).
 *
 * Bound: the matrix rate, and for few rows the bytes of W. Measured on an H200: 36 to 43 % of the
 * matrix rate. Copies through registers (LDG, then STS) instead of background copies, and products
 * asked for before copies, were slower. Two sets of sums, of the range and of those before, keep the
 * tile from being larger. */
#ifdef VENDOR_WARPGROUPS

#define QUAD_PAD 16u

#if ACT_TYPE == TYPE_BF16
#define quad_mma(d, a, b, more) warpgroup_mma_bf16(d, a, b, more)
#else
#define quad_mma(d, a, b, more) warpgroup_mma_f16(d, a, b, more)
#endif

template <int TOKENS, int GROUPS, bool PAIR, int STAGES> struct wide_quad {
    static constexpr int ROWS = 64 * GROUPS;
    static constexpr int THREADS = 128 * GROUPS;
    static constexpr int OWN_ROWS = PAIR ? ROWS / 2 : ROWS; /* of one part */
    static constexpr int STEP = 16 * GROUPS;                /* rows that all threads copy at a time */
    static constexpr int AHEAD = STAGES - 2;
    static constexpr uint32_t ROWS_SLAB = 16 * ROWS + QUAD_PAD; /* 16 bytes of all rows */
    static constexpr uint32_t TOKENS_SLAB = 16 * TOKENS + QUAD_PAD;
    static constexpr uint32_t STAGE_BYTES = 8 * (ROWS_SLAB + TOKENS_SLAB);
    static_assert(TOKENS % STEP == 0, "copies are of whole steps");

    const struct linear_wide_arguments &a;
    uint8_t *shared;
    const uint32_t first, n; /* rows of x: the tile's first, and how many there are */
    uint32_t part, row_begin, rows;
    uint32_t of_range, range_begin, chunk_begin, chunk_end; /* of this block */

    __device__ __forceinline__ wide_quad(const struct linear_wide_arguments &arguments,
                                          uint8_t *memory, uint32_t count)
        : a(arguments), shared(memory), first(blockIdx.x * TOKENS),
          n(count <= first ? 0 : count - first < TOKENS ? count - first : TOKENS)
    {
        part = 0;
        row_begin = blockIdx.y * OWN_ROWS;
        if (!PAIR) {
            const uint32_t tiles0 = (a.rows[0] + ROWS - 1) / ROWS;
            const uint32_t tiles1 = (a.rows[1] + ROWS - 1) / ROWS;
            part = blockIdx.y < tiles0 ? 0 : blockIdx.y < tiles0 + tiles1 ? 1 : 2;
            row_begin -= part == 0 ? 0 : (part == 1 ? tiles0 : tiles0 + tiles1) * ROWS;
        }
        rows = part == 0 ? a.rows[0] : part == 1 ? a.rows[1] : a.rows[2];
        const uint32_t chunks = a.columns / 32;
        const uint32_t ranges = (WIDE_RANGES + gridDim.z - 1) / gridDim.z;
        of_range = (chunks + WIDE_RANGES - 1) / WIDE_RANGES;
        range_begin = blockIdx.z * ranges;
        chunk_begin = range_begin * of_range < chunks ? range_begin * of_range : chunks;
        chunk_end = chunks - chunk_begin < ranges * of_range ? chunks
                                                             : chunk_begin + ranges * of_range;
    }

    /* Where this thread's piece of a row goes: eight threads copy 64 columns of a row. */
    static __device__ __forceinline__ uint32_t piece_place(uint32_t slab)
    {
        return threadIdx.x % 8 * slab + threadIdx.x / 8 * 16;
    }

    /* Starts to bring 64 columns, piece `step` of the block's, of the weights and of x. */
    __device__ __forceinline__ void fetch_weights(uint32_t step) const
    {
        uint8_t *stage = shared + step % STAGES * STAGE_BYTES;
        const uint32_t own = threadIdx.x / 8;
        const uint32_t column = chunk_begin * 32 + step * 64 + threadIdx.x % 8 * 8;
        const uint32_t set = PAIR ? own % 16 / 8 : part;
        const void *matrix = set == 0 ? a.weights[0] : set == 1 ? a.weights[1] : a.weights[2];
        uint8_t *to = stage + piece_place(ROWS_SLAB);
#pragma unroll
        for (int i = 0; i < ROWS / STEP; i++) {
            const uint32_t place = i * STEP + own;
            const uint32_t row = row_begin + (PAIR ? place / 16 * 8 + place % 8 : place);
            const bool valid = row < rows && column < chunk_end * 32;
            const uint64_t at = valid ? (uint64_t)row * a.columns + column : 0;
            copy_async16(to + i * STEP * 16, (const uint16_t *)matrix + at, valid);
        }
    }

    __device__ __forceinline__ void fetch_tokens(uint32_t step) const
    {
        uint8_t *stage = shared + step % STAGES * STAGE_BYTES;
        const uint32_t own = threadIdx.x / 8;
        const uint32_t column = chunk_begin * 32 + step * 64 + threadIdx.x % 8 * 8;
        uint8_t *to = stage + 8 * ROWS_SLAB + piece_place(TOKENS_SLAB);
#pragma unroll
        for (int i = 0; i < TOKENS / STEP; i++) {
            const uint32_t token = i * STEP + own;
            const bool valid = token < n && column < chunk_end * 32;
            const uint64_t at = valid ? (uint64_t)(first + token) * a.columns + column : 0;
            copy_async16(to + i * STEP * 16, (const uint16_t *)a.input + at, valid);
        }
    }

    __device__ __forceinline__ uint32_t steps() const
    {
        return n ? (chunk_end - chunk_begin + 1) / 2 : 0;
    }

    /* The next piece has arrived, and all but the last before it is done with. */
    __device__ __forceinline__ void arrived() const
    {
        warpgroup_wait<1>();
        copy_async_wait<AHEAD - 1>();
        warpgroup_fence_shared();
        __syncthreads();
    }

    __device__ __forceinline__ void fetch_ahead(uint32_t step) const
    {
        if (step + AHEAD < steps()) {
            fetch_weights(step + AHEAD);
            fetch_tokens(step + AHEAD);
        }
        copy_async_commit();
    }

    /* `chunk` counts from the block's first. */
    __device__ __forceinline__ void multiply(float (&d)[TOKENS / 8][4], uint32_t chunk,
                                             bool more) const
    {
        const uint8_t *stage = shared + chunk / 2 % STAGES * STAGE_BYTES;
        const uint8_t *weights = stage + chunk % 2 * 4 * ROWS_SLAB + threadIdx.x / 128 * 1024;
        const uint8_t *tokens = stage + 8 * ROWS_SLAB + chunk % 2 * 4 * TOKENS_SLAB;
        warpgroup_arrive();
#pragma unroll
        for (uint32_t half = 0; half < 2; half++) {
            quad_mma(d, warpgroup_operand_of(weights + half * 2 * ROWS_SLAB, ROWS_SLAB),
                      warpgroup_operand_of(tokens + half * 2 * TOKENS_SLAB, TOKENS_SLAB),
                      more || half);
        }
        warpgroup_commit();
    }

    /* Lane (g, t) holds rows g, g + 8 of its warp's sixteen for tokens 8 j + 2 t, 8 j + 2 t + 1. */
    __device__ __forceinline__ void store(const float (&y)[TOKENS / 8][4]) const
    {
        const uint32_t g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, warp = threadIdx.x / 32;
        const uint32_t row = row_begin + warp * (PAIR ? 8 : 16) + g;
        const uint32_t before = (part > 0 ? a.rows[0] : 0) + (part > 1 ? a.rows[1] : 0);
#pragma unroll
        for (int j = 0; j < TOKENS / 8; j++) {
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const uint32_t token = 8 * j + 2 * t + e;
                const uint64_t at = (uint64_t)(first + token) * a.output_stride + before + row;
                if (token >= n) {
                    continue;
                }
                if (PAIR) {
                    if (row < rows) {
                        ((act_value *)a.output)[at] =
                            act_of_float(activated(y[j][e], a.kind) * y[j][2 + e]);
                    }
                    continue;
                }
                float *to = (float *)a.output + at;
                if (row < rows) {
                    to[0] = a.kind == LINEAR_ADD ? to[0] + y[j][e] : y[j][e];
                }
                if (row + 8 < rows) {
                    to[8] = a.kind == LINEAR_ADD ? to[8] + y[j][2 + e] : y[j][2 + e];
                }
            }
        }
    }

    /* Where a thread's sums of a range lie, THREADS floats apart. */
    __device__ __forceinline__ float *partial(uint32_t range) const
    {
        const uint64_t tile = (uint64_t)blockIdx.y * gridDim.x + blockIdx.x;
        return a.partials + (tile * WIDE_RANGES + range) * (ROWS * TOKENS) + threadIdx.x;
    }

    /* A range has ended. */
    __device__ __forceinline__ void keep(float (&all)[TOKENS / 8][4],
                                         const float (&range)[TOKENS / 8][4], uint32_t index) const
    {
        if (gridDim.z == 1) {
#pragma unroll
            for (int i = 0; i < TOKENS / 2; i++) {
                all[i / 4][i % 4] += range[i / 4][i % 4];
            }
            return;
        }
        float *to = partial(index);
#pragma unroll
        for (int i = 0; i < TOKENS / 2; i++) {
            to[i * THREADS] = range[i / 4][i % 4];
        }
    }

    /* Whether this block is the last of its tile; then the sums of all ranges are added. */
    __device__ __forceinline__ bool join(float (&all)[TOKENS / 8][4], uint32_t *is_last) const
    {
        thread_fence();
        __syncthreads();
        if (threadIdx.x == 0) {
            uint32_t *arrivals = a.arrivals + blockIdx.y * gridDim.x + blockIdx.x;
            *is_last = atomic_add(arrivals, 1) + 1 == gridDim.z;
            if (*is_last) {
                *arrivals = 0;
            }
        }
        __syncthreads();
        if (!*is_last) {
            return false;
        }
        thread_fence();
#pragma unroll 2
        for (uint32_t range = 0; range < WIDE_RANGES; range++) {
            const uint32_t *from = (const uint32_t *)partial(range);
            if (range * of_range < a.columns / 32) {
#pragma unroll
                for (int i = 0; i < TOKENS / 2; i++) {
                    all[i / 4][i % 4] += float_of_bits(load_volatile(from + i * THREADS));
                }
            }
        }
        return true;
    }

    __device__ __forceinline__ void fetch_first() const
    {
#pragma unroll
        for (uint32_t i = 0; i < AHEAD; i++) {
            if (i < steps()) {
                fetch_weights(i);
            }
        }
        wait_for_predecessor();
#pragma unroll
        for (uint32_t i = 0; i < AHEAD; i++) {
            if (i < steps()) {
                fetch_tokens(i);
            }
            copy_async_commit();
        }
    }

    __device__ __forceinline__ void run(uint32_t *is_last) const
    {
        fetch_first();
        if (n == 0) { /* the same for all blocks of a tile */
            return;
        }
        const uint32_t count = chunk_end - chunk_begin;
        float all[TOKENS / 8][4] = {}, range[TOKENS / 8][4] = {};
        uint32_t index = range_begin;
        for (uint32_t chunk = 0; chunk < count;) {
            const uint32_t begin = chunk;
            const uint32_t end = count - begin < of_range ? count : begin + of_range;
            while (chunk < end) {
                if (chunk % 2 == 0) {
                    arrived();
                    fetch_ahead(chunk / 2);
                }
                multiply(range, chunk, chunk != begin);
                chunk++;
            }
            warpgroup_wait<0>();
            keep(all, range, index++);
        }
        if (gridDim.z == 1 || join(all, is_last)) {
            store(all);
        }
    }
};

/* The prelude lists what the model needs: LINEAR_QUAD_KERNELS(X) is X(name, rows of x, groups of
 * four warps, pair, stages) … */
#define LINEAR_QUAD_KERNEL(name, tokens, groups, pair, stages)                                \
    extern "C" __global__ void KERNEL_BOUNDS(128 * groups, 1)                                  \
        name(const struct linear_wide_arguments arguments)                                     \
    {                                                                                          \
        SHARED_DYNAMIC(uint8_t, memory);                                                       \
        __shared__ uint32_t is_last;                                                           \
        const uint32_t count = *arguments.count; /* written before anything that overlaps */   \
        release_successor();                                                                   \
        wide_quad<tokens, groups, pair, stages>(arguments, memory, count).run(&is_last);      \
    }

LINEAR_QUAD_KERNELS(LINEAR_QUAD_KERNEL)
#endif
