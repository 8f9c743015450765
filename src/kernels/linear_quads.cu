/* Linear layers of many rows by products of four warps together (compute capability 9.0): as
 * linear_wide.cu, with the same order of sums and the same bits. The instruction adds sixteen
 * products without an order of its own, as mma.m16n8k16 does there: what counts is which columns
 * share an instruction.
 *
 * A tile is 64 GROUPS rows of W for TOKENS rows of x. One thread, the first of the last four warps,
 * asks for boxes of 64 columns of both, which the copy engine brings to STAGES places of shared
 * memory; GROUPS times four warps multiply. A place has two barriers: `full`, at which the bytes
 * arrive, and `empty`, at which the warps that have read it do. PAIR: boxes have eight rows of the
 * gate and eight of up in turn, so that a thread has both.
 *
 * Columns are summed by ranges: two sets of sums, of the range and of those before, keep a tile
 * from being larger. Of few tiles `splits` blocks share one by its ranges: the sums of every range
 * go to memory, and when all have arrived each adds a slice of them, in the same order. Nobody
 * waits without end: a block that has looked for the others VENDOR_LOOKS times leaves its slice to
 * the last that arrives. So it does not matter whether all of them run at the same time, which they
 * do when the device has nothing else: they are no more than there are multiprocessors.
 *
 * Grid: x = blocks, at most one a multiprocessor; each takes item after item, of all tiles and
 * splits, and the copies for the next item run while sums are stored. Shared memory: STAGES · 128 ·
 * (64 GROUPS + TOKENS), for results the larger of 64 GROUPS · TOKENS and 8,192 GROUPS, and 1,024 to
 * begin at a multiple of it.
 *
 * Bound: the matrix rate, and for few rows the bytes of W. Measured on an H200 at 2,048 rows: 60 to
 * 90 % of the matrix rate, most where rows are long and many. */
#ifdef VENDOR_WARPGROUPS

#if ACT_TYPE == TYPE_BF16
#define quad_mma(d, a, b, more) warpgroup_mma_bf16(d, a, b, more)
#else
#define quad_mma(d, a, b, more) warpgroup_mma_f16(d, a, b, more)
#endif

/* A tile's counter: blocks that have arrived, blocks that will not look at it again, and a bit for
 * each of those that left before all had arrived (up to sixteen share a tile), or might have. */
#define QUAD_LEAVES  256u
#define QUAD_LEFT_AT 16
/* What four warps bring together of their sums at a time: 64 rows of 32 tokens. */
#define QUAD_STORE_BYTES 8192u

/* What a block works on: a tile, or some of its ranges. */
struct quad_item {
    uint32_t tile;     /* of all, counted for arrivals and partial sums */
    uint32_t split;    /* which of those that share it */
    uint32_t first, n; /* rows of x: the tile's first, and how many there are */
    uint32_t part, row_begin, rows;
    uint32_t range_begin, chunk_begin, chunk_end;
};

/* Goes round the places of a ring: `parity` is that of the phase which ends next. */
template <int STAGES> struct quad_place {
    uint32_t at = 0, parity = 0;
    __device__ __forceinline__ void next()
    {
        at = at + 1 == STAGES ? 0 : at + 1;
        parity ^= at == 0;
    }
};

/* In shared memory. `joined`: warps that multiply meet there. */
template <int STAGES> struct quad_barriers {
    uint64_t full[STAGES], empty[STAGES], joined[3];
    uint32_t slices;
};

template <int TOKENS, int GROUPS, bool PAIR, int STAGES> struct wide_quad {
    static constexpr int ROWS = 64 * GROUPS;
    static constexpr int OWN_ROWS = PAIR ? ROWS / 2 : ROWS; /* of one part */
    static constexpr int MULTIPLIERS = 128 * GROUPS;        /* threads */
    static constexpr uint32_t ROWS_BYTES = 128 * ROWS;      /* of a stage */
    static constexpr uint32_t STAGE_BYTES = ROWS_BYTES + 128 * TOKENS;
    static constexpr bool SHARES = TOKENS <= 64;            /* tiles with other blocks */
    typedef float sums[TOKENS / 8][4];

    const struct linear_quad_arguments &q;
    const struct linear_wide_arguments &a;
    uint8_t *shared;
    struct quad_barriers<STAGES> &barriers;
    const uint32_t count, of_range, token_tiles;

    __device__ __forceinline__ wide_quad(const struct linear_quad_arguments &arguments,
                                          uint8_t *memory, struct quad_barriers<STAGES> &made,
                                          uint32_t n)
        : q(arguments), a(arguments.linear),
          shared(memory + (1024 - shared_address(memory) % 1024) % 1024), barriers(made), count(n),
          of_range((a.columns / 32 + WIDE_RANGES - 1) / WIDE_RANGES),
          token_tiles((n + TOKENS - 1) / TOKENS)
    {
    }

    __device__ __forceinline__ uint32_t tiles_of(uint32_t part) const
    {
        return (a.rows[part] + OWN_ROWS - 1) / OWN_ROWS;
    }

    __device__ __forceinline__ uint32_t items() const
    {
        const uint32_t tiles = PAIR ? tiles_of(0) : tiles_of(0) + tiles_of(1) + tiles_of(2);
        return tiles * token_tiles * q.splits;
    }

    /* Blocks that run together share rows of W, and the rows of x are few: both stay near. */
    __device__ __forceinline__ struct quad_item item(uint32_t index) const
    {
        struct quad_item it;
        it.split = index / token_tiles % q.splits;
        uint32_t tile = index / token_tiles / q.splits;
        it.first = index % token_tiles * TOKENS;
        it.n = count - it.first < TOKENS ? count - it.first : TOKENS;
        it.tile = tile * token_tiles + index % token_tiles;
        it.part = 0;
        if (!PAIR) {
            const uint32_t tiles0 = tiles_of(0), tiles1 = tiles0 + tiles_of(1);
            it.part = tile < tiles0 ? 0 : tile < tiles1 ? 1 : 2;
            tile -= it.part == 0 ? 0 : it.part == 1 ? tiles0 : tiles1;
        }
        it.row_begin = tile * OWN_ROWS;
        it.rows = it.part == 0 ? a.rows[0] : it.part == 1 ? a.rows[1] : a.rows[2];
        const uint32_t chunks = a.columns / 32;
        const uint32_t ranges = (WIDE_RANGES + q.splits - 1) / q.splits;
        it.range_begin = it.split * ranges;
        it.chunk_begin = it.range_begin * of_range < chunks ? it.range_begin * of_range : chunks;
        it.chunk_end = chunks - it.chunk_begin < ranges * of_range
                           ? chunks
                           : it.chunk_begin + ranges * of_range;
        return it;
    }

    /* --- asking ------------------------------------------------------------------------------ */

    __device__ __forceinline__ void ask_weights(const struct quad_item &it, uint32_t step,
                                                uint32_t place) const
    {
        uint8_t *to = shared + place * STAGE_BYTES;
        const uint32_t column = (it.chunk_begin + 2 * step) * 32;
        if (PAIR) {
            tensor_copy4(to, &q.weights[0], &barriers.full[place], column, 0, 0, it.row_begin / 8);
        } else {
            const struct tensor_map *map = it.part == 0   ? &q.weights[0]
                                           : it.part == 1 ? &q.weights[1]
                                                          : &q.weights[2];
            tensor_copy2(to, map, &barriers.full[place], column, it.row_begin);
        }
    }

    __device__ __forceinline__ void ask_tokens(const struct quad_item &it, uint32_t step,
                                               uint32_t place) const
    {
        tensor_copy2(shared + place * STAGE_BYTES + ROWS_BYTES, &q.input, &barriers.full[place],
                     (it.chunk_begin + 2 * step) * 32, it.first);
    }

    static __device__ __forceinline__ uint32_t steps_of(const struct quad_item &it)
    {
        return (it.chunk_end - it.chunk_begin + 1) / 2;
    }

    __device__ __forceinline__ void ask() const
    {
        struct quad_place<STAGES> place;
        uint32_t ahead = 0; /* steps of the first item whose weights do not wait */
        if (blockIdx.x < items()) {
            const struct quad_item it = item(blockIdx.x);
            ahead = steps_of(it) < STAGES ? steps_of(it) : STAGES;
            for (uint32_t step = 0; step < ahead; step++) {
                barrier_expect(&barriers.full[step], STAGE_BYTES);
                ask_weights(it, step, step);
            }
        }
        wait_for_predecessor();
        for (uint32_t index = blockIdx.x; index < items(); index += gridDim.x) {
            const struct quad_item it = item(index);
            for (uint32_t step = 0; step < steps_of(it); step++) {
                if (ahead) {
                    ahead--;
                } else {
                    barrier_wait(&barriers.empty[place.at], place.parity ^ 1);
                    barrier_expect(&barriers.full[place.at], STAGE_BYTES);
                    ask_weights(it, step, place.at);
                }
                ask_tokens(it, step, place.at);
                place.next();
            }
        }
    }

    /* --- multiplying ------------------------------------------------------------------------- */

    /* CHUNKS chunks from `chunk` (0, 1) of a place. No branch may lie between these products, or
     * the compiler lets each wait for the one before. */
    template <int CHUNKS>
    __device__ __forceinline__ void multiply(sums &d, uint32_t place, uint32_t chunk,
                                             bool more) const
    {
        const uint8_t *weights =
            shared + place * STAGE_BYTES + threadIdx.x / 128 * (64 * 128) + chunk * 64;
        const uint8_t *tokens = shared + place * STAGE_BYTES + ROWS_BYTES + chunk * 64;
        warpgroup_arrive();
#pragma unroll
        for (uint32_t i = 0; i < 2 * CHUNKS; i++) {
            quad_mma(d, warpgroup_operand_of(weights + i * 32),
                     warpgroup_operand_of(tokens + i * 32), more || i);
        }
        warpgroup_commit();
    }

    __device__ __forceinline__ void release(uint32_t place) const
    {
        if (threadIdx.x % 32 == 0) {
            barrier_arrive(&barriers.empty[place]);
        }
    }

    /* What becomes of a thread's four sums of tokens 8 j …: lane (g, t) holds rows g, g + 8 of its
     * warp's sixteen for tokens 8 j + 2 t, 8 j + 2 t + 1. */
    __device__ __forceinline__ void store_four(const float (&y)[4], const struct quad_item &it,
                                               uint32_t j) const
    {
        const uint32_t g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, warp = threadIdx.x / 32;
        const uint32_t row = it.row_begin + warp * (PAIR ? 8 : 16) + g;
        const uint32_t token = 8 * j + 2 * t;
        const uint64_t at = (uint64_t)(it.first + token) * a.output_stride + row +
                            (it.part > 0 ? a.rows[0] : 0) + (it.part > 1 ? a.rows[1] : 0);
#pragma unroll
        for (uint32_t e = 0; e < 2; e++) {
            const uint64_t to = at + (uint64_t)e * a.output_stride;
            if (token + e >= it.n) {
                continue;
            }
            if (PAIR) {
                if (row < it.rows) {
                    ((act_value *)a.output)[to] = act_of_float(
                        activated(q.is_swapped ? y[2 + e] : y[e], a.kind) *
                        (q.is_swapped ? y[e] : y[2 + e]));
                }
                continue;
            }
            float *output = (float *)a.output + to;
            if (row < it.rows) {
                output[0] = a.kind == LINEAR_ADD ? output[0] + y[e] : y[e];
            }
            if (row + 8 < it.rows) {
                output[8] = a.kind == LINEAR_ADD ? output[8] + y[2 + e] : y[2 + e];
            }
        }
    }

    static constexpr uint32_t UNITS = OWN_ROWS / 8; /* of a token's activations: 16 bytes */

    __device__ __forceinline__ bool has_whole_units(const struct quad_item &it) const
    {
        return ((uint64_t)a.output | a.output_stride * 2u | it.rows * 2u) % 16 == 0;
    }

    /* Activations meet in shared memory, from where whole lines leave. */
    template <class ACTIVATE>
    __device__ __forceinline__ void store_units(const sums &y, const struct quad_item &it,
                                                uint32_t &parity, ACTIVATE activate) const
    {
        const uint32_t g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, warp = threadIdx.x / 32;
        word4 *units = (word4 *)(shared + STAGES * STAGE_BYTES);
        meet(0, parity); /* what the item before has left is read */
#pragma unroll
        for (int j = 0; j < TOKENS / 8; j++) {
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const uint32_t token = 8 * j + 2 * t + e;
                const float gate = q.is_swapped ? y[j][2 + e] : y[j][e];
                const float up = q.is_swapped ? y[j][e] : y[j][2 + e];
                act_value *unit = (act_value *)(units + token * UNITS + (warp ^ token / 2 % UNITS));
                unit[g] = act_of_float(activate(gate) * up);
            }
        }
        meet(0, parity);
        for (uint32_t i = threadIdx.x; i < TOKENS * UNITS; i += MULTIPLIERS) {
            const uint32_t token = i / UNITS, unit = i % UNITS;
            const uint32_t row = it.row_begin + unit * 8;
            if (token < it.n && row < it.rows) {
                act_value *to = (act_value *)a.output + row;
                store16(to + (uint64_t)(it.first + token) * a.output_stride,
                        units[token * UNITS + (unit ^ token / 2 % UNITS)]);
            }
        }
    }

    __device__ __forceinline__ void store_pair(const sums &y, const struct quad_item &it,
                                               uint32_t &parity) const
    {
        if (has_whole_units(it) && a.kind == ACTIVATION_SILU) { /* the others by a kind a value */
            store_units(y, it, parity, [](float x) { return activated(x, ACTIVATION_SILU); });
            return;
        }
#pragma unroll
        for (int j = 0; j < TOKENS / 8; j++) {
            store_four(y[j], it, j);
        }
    }

    /* Four warps bring 32 tokens at a time together in shared memory, from where lines of 64 rows
     * leave: runs of 32 bytes, as the sums lie in registers, take four times as long. */
    __device__ __forceinline__ void store(const sums &y, const struct quad_item &it,
                                          uint32_t &parity) const
    {
        const uint32_t before_part = (it.part > 0 ? a.rows[0] : 0) + (it.part > 1 ? a.rows[1] : 0);
        if (((uint64_t)a.output | a.output_stride * 4u | before_part * 4u | it.rows * 4u) % 16) {
#pragma unroll
            for (int j = 0; j < TOKENS / 8; j++) {
                store_four(y[j], it, j);
            }
            return;
        }
        const uint32_t g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, warp = threadIdx.x / 32 % 4;
        const uint32_t group = threadIdx.x / 128, own = threadIdx.x % 128;
        const uint32_t row = it.row_begin + group * 64 + own % 16 * 4;
        float *memory = (float *)(shared + STAGES * STAGE_BYTES + group * QUAD_STORE_BYTES);
        /* Thread `own` stores rows 4 (own % 16) … of tokens own / 16, + 8, …. */
        float *output = (float *)a.output + (uint64_t)(it.first + own / 16) * a.output_stride +
                        before_part + row;
        word4 old[TOKENS / 8] = {};
        if (a.kind == LINEAR_ADD && row < it.rows) { /* all of it is asked for together */
#pragma unroll
            for (int j = 0; j < TOKENS / 8; j++) {
                if (8 * j + own / 16 < it.n) {
                    old[j] = load16(output + (uint64_t)(8 * j) * a.output_stride);
                }
            }
        }
#pragma unroll
        for (int begin = 0; begin < TOKENS / 8; begin += 4) {
            meet(1 + group, parity);
#pragma unroll
            for (int j = 0; j < 4; j++) {
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    const uint32_t token = 8 * j + 2 * t + e % 2;
                    const uint32_t unit = (warp * 4 + e / 2 * 2 + g / 4) ^ token / 2 % 4 * 2;
                    memory[token * 64 + unit * 4 + g % 4] = y[begin + j][e];
                }
            }
            meet(1 + group, parity);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const uint32_t token = 8 * j + own / 16;
                const uint32_t unit = own % 16 ^ token / 2 % 4 * 2;
                word4 four = load16(memory + token * 64 + unit * 4);
                if (8 * begin + token < it.n && row < it.rows) {
                    if (a.kind == LINEAR_ADD) {
                        four = added(old[begin + j], four);
                    }
                    store16(output + (uint64_t)(8 * (begin + j)) * a.output_stride, four);
                }
            }
        }
    }

    static __device__ __forceinline__ word4 added(const word4 &x, const word4 &y)
    {
        return word4{bits_of_float(float_of_bits(x.x) + float_of_bits(y.x)),
                     bits_of_float(float_of_bits(x.y) + float_of_bits(y.y)),
                     bits_of_float(float_of_bits(x.z) + float_of_bits(y.z)),
                     bits_of_float(float_of_bits(x.w) + float_of_bits(y.w))};
    }

    /* Where a thread's sums of a range lie: fours, MULTIPLIERS of them apart. */
    __device__ __forceinline__ word4 *partial(const struct quad_item &it, uint32_t range) const
    {
        return (word4 *)q.partials +
               ((uint64_t)it.tile * WIDE_RANGES + range) * (ROWS * TOKENS / 4) + threadIdx.x;
    }

    /* A range has ended. */
    __device__ __forceinline__ void keep(sums &all, const sums &range, const struct quad_item &it,
                                         uint32_t index) const
    {
        if (!SHARES || q.splits == 1) {
#pragma unroll
            for (int i = 0; i < TOKENS / 2; i++) {
                all[i / 4][i % 4] += range[i / 4][i % 4];
            }
            return;
        }
        word4 *to = partial(it, index);
#pragma unroll
        for (int j = 0; j < TOKENS / 8; j++) {
            store16(to + j * MULTIPLIERS,
                    word4{bits_of_float(range[j][0]), bits_of_float(range[j][1]),
                          bits_of_float(range[j][2]), bits_of_float(range[j][3])});
        }
    }

    /* All who multiply (0), or four warps of them (1 + group). */
    __device__ __forceinline__ void meet(uint32_t who, uint32_t &parity) const
    {
        barrier_arrive(&barriers.joined[who]);
        barrier_wait(&barriers.joined[who], parity);
        parity ^= 1;
    }

    /* Waits until all who share a tile have left their sums; each stores a slice. Returns the
     * slices that this block stores, a bit each: none when it has waited long enough, else its own,
     * and of the last to arrive those of all that did not wait. */
    __device__ __forceinline__ uint32_t arrive(const struct quad_item &it, uint32_t &parity) const
    {
        thread_fence();
        meet(0, parity);
        if (threadIdx.x == 0) {
            uint32_t *arrivals = q.arrivals + it.tile;
            const uint32_t own = 1u << it.split;
            uint32_t seen = atomic_add(arrivals, 1) + 1;
            uint32_t slices = own | seen >> QUAD_LEFT_AT; /* of the last */
            uint32_t leaves = QUAD_LEAVES;
            if (seen % QUAD_LEAVES != q.splits) {
                for (uint32_t look = 0; look < VENDOR_LOOKS && seen % QUAD_LEAVES != q.splits;
                     look++) {
                    seen = load_volatile(arrivals);
                }
                slices = own;
                leaves |= own << QUAD_LEFT_AT;
            }
            /* Whoever leaves before the last arrives is seen by it; later the bit says nothing. */
            seen = atomic_add(arrivals, leaves);
            if (seen % QUAD_LEAVES != q.splits) {
                slices = 0;
            } else if (seen / QUAD_LEAVES % QUAD_LEAVES + 1 == q.splits) {
                *arrivals = 0;
            }
            barriers.slices = slices;
        }
        meet(0, parity);
        thread_fence();
        return barriers.slices;
    }

    /* Adds the sums of all ranges, of eight tokens at a time, and stores them: those of slice s are
     * the s-th part of them. All of a sum's ranges are asked for together. */
    __device__ __forceinline__ void join(const struct quad_item &it, uint32_t slices) const
    {
        const uint32_t each = TOKENS / 8;
#pragma unroll 1
        for (uint32_t slice = 0; slices; slice++, slices >>= 1) {
            const uint32_t begin = each * slice / q.splits;
            const uint32_t end = slices & 1 ? each * (slice + 1) / q.splits : begin;
#pragma unroll 1 /* once, mostly: more code would have to come from memory first */
            for (uint32_t j = begin; j < end; j++) {
                join_eight(it, j);
            }
        }
    }

    /* Tokens 8 j …. */
    __device__ __forceinline__ void join_eight(const struct quad_item &it, uint32_t j) const
    {
        const uint32_t ranges = (a.columns / 32 + of_range - 1) / of_range;
        word4 fours[WIDE_RANGES];
#pragma unroll
        for (uint32_t range = 0; range < WIDE_RANGES; range++) {
            fours[range] =
                load_volatile16(partial(it, range < ranges ? range : 0) + j * MULTIPLIERS);
        }
        float y[4] = {};
#pragma unroll
        for (uint32_t range = 0; range < WIDE_RANGES; range++) {
            if (range < ranges) {
                y[0] += float_of_bits(fours[range].x);
                y[1] += float_of_bits(fours[range].y);
                y[2] += float_of_bits(fours[range].z);
                y[3] += float_of_bits(fours[range].w);
            }
        }
        store_four(y, it, j);
    }

    /* Adds all chunks of an item, CHUNKS at a time: two where ranges are of even numbers, since
     * what lies behind the last column is zero. A place is given back when the products that came after
     * its own are under way. */
    template <int CHUNKS>
    __device__ __forceinline__ void add(sums &all, sums &range, const struct quad_item &it,
                                        struct quad_place<STAGES> &place) const
    {
        const uint32_t chunks = it.chunk_end - it.chunk_begin;
        uint32_t index = it.range_begin, held = STAGES; /* none */
        for (uint32_t chunk = 0; chunk < chunks;) {
            const uint32_t begin = chunk;
            const uint32_t end = chunks - begin < of_range ? chunks : begin + of_range;
            for (; chunk < end; chunk += CHUNKS) {
                if (CHUNKS == 2 || chunk % 2 == 0) {
                    barrier_wait(&barriers.full[place.at], place.parity);
                }
                multiply<CHUNKS>(range, place.at, CHUNKS == 2 ? 0 : chunk % 2, chunk != begin);
                if (held != STAGES) {
                    warpgroup_wait<1>();
                    release(held);
                    held = STAGES;
                }
                if (CHUNKS == 2 || chunk % 2 == 1 || chunk + 1 == chunks) {
                    held = place.at;
                    place.next();
                }
            }
            warpgroup_wait<0>();
            if (held != STAGES) {
                release(held);
                held = STAGES;
            }
            keep(all, range, it, index++);
        }
    }

    __device__ __forceinline__ void work() const
    {
        struct quad_place<STAGES> place;
        uint32_t parity = 0, group_parity = 0; /* of meetings */
        wait_for_predecessor();
        for (uint32_t index = blockIdx.x; index < items(); index += gridDim.x) {
            const struct quad_item it = item(index);
            sums all = {}, range = {};
            if (of_range % 2 == 0) {
                add<2>(all, range, it, place);
            } else {
                add<1>(all, range, it, place);
            }
            if (SHARES && q.splits > 1) {
                join(it, arrive(it, parity));
            } else if constexpr (PAIR) {
                store_pair(all, it, parity);
            } else {
                store(all, it, group_parity);
            }
        }
    }

    __device__ __forceinline__ void run() const
    {
        if (threadIdx.x == 0) {
            for (uint32_t i = 0; i < STAGES; i++) {
                barrier_init(&barriers.full[i], 1);
                barrier_init(&barriers.empty[i], MULTIPLIERS / 32);
            }
            barrier_init(&barriers.joined[0], MULTIPLIERS);
            barrier_init(&barriers.joined[1], 128);
            barrier_init(&barriers.joined[2], 128);
            barriers_made();
        }
        __syncthreads();
        if (threadIdx.x >= MULTIPLIERS) {
            if constexpr (GROUPS > 1) {
                warpgroup_registers_fewer<24>();
            }
            if (threadIdx.x == MULTIPLIERS) {
                ask();
            }
        } else {
            if constexpr (GROUPS > 1) {
                warpgroup_registers_more<240>();
            }
            work();
        }
    }
};

/* The prelude lists what the model needs: LINEAR_QUAD_KERNELS(X) is X(name, rows of x, groups of
 * four warps, pair, stages) … */
#define LINEAR_QUAD_KERNEL(name, tokens, groups, pair, stages)                                \
    extern "C" __global__ void KERNEL_BOUNDS(128 * groups + 128, 1)                            \
        name(KERNEL_CONSTANT const struct linear_quad_arguments arguments)                     \
    {                                                                                          \
        SHARED_DYNAMIC(uint8_t, memory);                                                       \
        __shared__ struct quad_barriers<stages> barriers;                                      \
        const uint32_t count = *arguments.linear.count; /* before anything that overlaps */    \
        release_successor();                                                                   \
        wide_quad<tokens, groups, pair, stages>(arguments, memory, barriers, count).run();     \
    }

LINEAR_QUAD_KERNELS(LINEAR_QUAD_KERNEL)
#endif
