/* Linear layers of many rows whose weights are quantised: linear_wide.cu, but what comes to shared
 * memory are the blocks as published, 256 columns of each row at a time, and the threads unpack
 * 64 columns ahead of the products. The sums have the same order, of the same 16-bit weights that
 * dequantize.cu makes.
 *
 * Rows of blocks lie at any even address (any address, of mxfp4): a row comes in the 16-byte units
 * that it touches, and is read at its offset in the first of them. Two such tiles alternate, and two
 * of unpacked weights; a thread unpacks 32 columns of one row a step, so that a block has twice as
 * many threads as rows. Rows lie an odd number of units apart, so that reading eight of them meets
 * few banks twice.
 *
 * Shared memory: 2 · WIDE_ROWS · 16 · BLOCK_UNITS + 256 · WIDE_ROWS + stages · 128 · WIDE_TOKENS.
 *
 * Bound: the larger of the products', as in linear_wide.cu, and of unpacking: about five
 * instructions a weight, which 64 to 128 rows of x share. */

/* Units of a row of `bytes` at any offset; odd. */
#define BLOCK_UNITS(bytes) (((bytes) + 15 + 14) / 16 / 2 * 2 + 1)

#if ACT_TYPE == TYPE_BF16
#define weight_pair(low, high) bf16x2_of_floats(low, high)
#else
#define weight_pair(low, high) f16x2_of_floats(low, high)
#endif

/* N words from any byte of a row: one more is read, and shifted into place. */
template <int N>
__device__ __forceinline__ void words_at(const uint8_t *row, uint32_t at, uint32_t (&to)[N])
{
    const uint32_t *from = (const uint32_t *)row + at / 4;
    uint32_t low = from[0];
#pragma unroll
    for (int i = 0; i < N; i++) {
        const uint32_t high = from[i + 1];
        to[i] = (uint32_t)(((uint64_t)high << 32 | low) >> at % 4 * 8);
        low = high;
    }
}

/* Four weights of codes 0 … 255 in a word: scale · (code − offset) − minimum. */
__device__ __forceinline__ void unpack_codes(uint32_t codes, float offset, float scale,
                                             float minimum, uint32_t &first, uint32_t &second)
{
    float w[4];
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
        w[i] = scale * (biased_float_of_byte(codes, i) - (8388608.0f + offset)) - minimum;
    }
    first = weight_pair(w[0], w[1]);
    second = weight_pair(w[2], w[3]);
}

/* 32 columns from column 32 `chunk` of the row whose block lies at byte `at` of `row`. Any format by
 * eights; those in wide use below, by words. */
template <class FORMAT> struct unpacker {
    static __device__ __forceinline__ void chunk(const uint8_t *row, uint32_t at, uint32_t chunk,
                                                 word4 (&to)[4])
    {
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            float w[8];
            FORMAT::load8(row + at, chunk * 32 + i * 8, 256, w);
            to[i] = word4{weight_pair(w[0], w[1]), weight_pair(w[2], w[3]), weight_pair(w[4], w[5]),
                          weight_pair(w[6], w[7])};
        }
    }
};

template <> struct unpacker<format_q8_0> {
    static __device__ __forceinline__ void chunk(const uint8_t *row, uint32_t at, uint32_t chunk,
                                                 word4 (&to)[4])
    {
        uint32_t codes[8];
        const float scale = half_at(row + at + chunk * 34);
        words_at(row, at + chunk * 34 + 2, codes);
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            unpack_codes(codes[2 * i] ^ 0x80808080u, 128, scale, 0, to[i].x, to[i].y);
            unpack_codes(codes[2 * i + 1] ^ 0x80808080u, 128, scale, 0, to[i].z, to[i].w);
        }
    }
};

template <> struct unpacker<format_q4_0> {
    static __device__ __forceinline__ void chunk(const uint8_t *row, uint32_t at, uint32_t chunk,
                                                 word4 (&to)[4])
    {
        uint32_t codes[4];
        const float scale = half_at(row + at + chunk * 18);
        words_at(row, at + chunk * 18 + 2, codes);
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t *from = codes + i % 2 * 2;
            const uint32_t shift = i / 2 * 4;
            unpack_codes(from[0] >> shift & 0x0F0F0F0Fu, 8, scale, 0, to[i].x, to[i].y);
            unpack_codes(from[1] >> shift & 0x0F0F0F0Fu, 8, scale, 0, to[i].z, to[i].w);
        }
    }
};

template <> struct unpacker<format_mxfp4> {
    /* As the bits of a half, e2m1 is 2^-15 of its doubled value. */
    static __device__ __forceinline__ float doubled(uint32_t code)
    {
        return float_of_f16((uint16_t)((code & 7) << 9 | code >> 3 << 15)) * 32768.0f;
    }
    static __device__ __forceinline__ void chunk(const uint8_t *row, uint32_t at, uint32_t chunk,
                                                 word4 (&to)[4])
    {
        uint32_t codes[4], words[16];
        const float scale = mxfp4_scale(row[at + chunk * 17]);
        words_at(row, at + chunk * 17 + 1, codes);
#pragma unroll
        for (uint32_t i = 0; i < 16; i++) {
            const uint32_t two = codes[i % 8 / 2] >> (i / 8 * 4 + i % 2 * 16);
            const uint32_t first = two & 0xF, second = two >> 8 & 0xF;
            words[i] = weight_pair(scale * doubled(first), scale * doubled(second));
        }
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            to[i] = word4{words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3]};
        }
    }
};

template <> struct unpacker<format_f8_block> {
    static __device__ __forceinline__ void chunk(const uint8_t *row, uint32_t at, uint32_t chunk,
                                                 word4 (&to)[4])
    {
        uint32_t codes[8], words[16];
        const float scale = *(const float *)(row + at + chunk / 4 * 132);
        words_at(row, at + chunk / 4 * 132 + 4 + chunk % 4 * 32, codes);
#pragma unroll
        for (uint32_t i = 0; i < 16; i++) {
            const uint32_t two = codes[i / 2] >> i % 2 * 16;
            words[i] = weight_pair(scale * float_of_e4m3(two), scale * float_of_e4m3(two >> 8));
        }
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            to[i] = word4{words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3]};
        }
    }
};

template <> struct unpacker<format_q4_k> {
    static __device__ __forceinline__ void chunk(const uint8_t *row, uint32_t at, uint32_t chunk,
                                                 word4 (&to)[4])
    {
        uint32_t codes[8];
        float scale, minimum;
        scale_min_k4(row + at, chunk, &scale, &minimum);
        words_at(row, at + 16 + chunk / 2 * 32, codes);
        const uint32_t shift = chunk % 2 * 4;
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            unpack_codes(codes[2 * i] >> shift & 0x0F0F0F0Fu, 0, scale, minimum, to[i].x, to[i].y);
            unpack_codes(codes[2 * i + 1] >> shift & 0x0F0F0F0Fu, 0, scale, minimum, to[i].z,
                         to[i].w);
        }
    }
};

template <> struct unpacker<format_q5_k> {
    static __device__ __forceinline__ void chunk(const uint8_t *row, uint32_t at, uint32_t chunk,
                                                 word4 (&to)[4])
    {
        uint32_t codes[8], fifth[8];
        float scale, minimum;
        scale_min_k4(row + at, chunk, &scale, &minimum);
        words_at(row, at + 16, fifth);
        words_at(row, at + 48 + chunk / 2 * 32, codes);
        const uint32_t shift = chunk % 2 * 4;
#pragma unroll
        for (uint32_t i = 0; i < 8; i++) {
            codes[i] = (codes[i] >> shift & 0x0F0F0F0Fu) | (fifth[i] >> chunk & 0x01010101u) << 4;
        }
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            unpack_codes(codes[2 * i], 0, scale, minimum, to[i].x, to[i].y);
            unpack_codes(codes[2 * i + 1], 0, scale, minimum, to[i].z, to[i].w);
        }
    }
};

template <> struct unpacker<format_q6_k> {
    static __device__ __forceinline__ void chunk(const uint8_t *row, uint32_t at, uint32_t chunk,
                                                 word4 (&to)[4])
    {
        uint32_t codes[8], pairs[8];
        const float d = half_at(row + at + 208);
        words_at(row, at + chunk / 4 * 64 + chunk % 2 * 32, codes);
        words_at(row, at + 128 + chunk / 4 * 32, pairs);
        const uint32_t shift = chunk / 2 % 2 * 4;
#pragma unroll
        for (uint32_t i = 0; i < 8; i++) {
            codes[i] = (codes[i] >> shift & 0x0F0F0F0Fu) |
                       (pairs[i] >> chunk % 4 * 2 & 0x03030303u) << 4;
        }
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            const float scale = d * (float)(int8_t)row[at + 192 + chunk * 2 + i / 2];
            unpack_codes(codes[2 * i], 32, scale, 0, to[i].x, to[i].y);
            unpack_codes(codes[2 * i + 1], 32, scale, 0, to[i].z, to[i].w);
        }
    }
};

template <class FORMAT, int BYTES, int STAGES, int WARPS_ROWS, int WARPS_TOKENS, int RT, int TT,
          bool PAIR, bool GROUPED>
struct packed : wide<WARPS_ROWS, WARPS_TOKENS, RT, TT, PAIR, GROUPED> {
    typedef wide<WARPS_ROWS, WARPS_TOKENS, RT, TT, PAIR, GROUPED> base;
    using base::a;
    using base::ROWS;
    using base::THREADS;
    using base::TOKENS;
    static constexpr int UNITS = BLOCK_UNITS(BYTES);
    static_assert(THREADS == 2 * ROWS, "a thread unpacks a chunk of a row a step");

    __device__ __forceinline__ packed(const struct linear_wide_arguments &arguments, word4 *memory,
                                      const struct row_view<GROUPED> &view)
        : base(arguments, memory, view)
    {
    }

    /* Parts of shared memory. */
    __device__ __forceinline__ word4 *blocks(uint32_t turn) const
    {
        return this->shared + turn % 2 * (ROWS * UNITS);
    }

    __device__ __forceinline__ word4 *unpacked(uint32_t step) const
    {
        return this->shared + 2 * ROWS * UNITS + step % 2 * (ROWS * 8);
    }

    __device__ __forceinline__ word4 *tokens(uint32_t step) const
    {
        return this->shared + 2 * ROWS * UNITS + 2 * ROWS * 8 + step % STAGES * (TOKENS * 8);
    }

    /* The row of W at a place of the tile, as an address; 0 when there is none. */
    __device__ __forceinline__ uint64_t row_at(uint32_t place) const
    {
        const bool second = PAIR && place % (16 * RT) >= 8 * RT;
        const uint32_t row =
            this->row_begin +
            (PAIR ? place / (16 * RT) * (8 * RT) + place % (8 * RT) : place);
        const void *matrix = (PAIR ? second : this->part == 1) ? a.weights[1]
                             : !PAIR && this->part == 2        ? a.weights[2]
                                                               : a.weights[0];
        return row < this->part_rows()
                   ? (uint64_t)this->rows.weights(matrix) + row * a.row_bytes
                   : 0;
    }

    /* Starts to bring 256 columns of all rows, as far as there are. */
    __device__ __forceinline__ void fetch_blocks(uint32_t turn) const
    {
        const uint64_t begin = (uint64_t)turn * BYTES;
        const uint64_t end = begin + BYTES < a.row_bytes ? begin + BYTES : a.row_bytes;
        for (uint32_t i = threadIdx.x; i < ROWS * UNITS; i += THREADS) {
            const uint64_t row = row_at(i / UNITS);
            const uint64_t from = ((row + begin) & ~(uint64_t)15) + i % UNITS * 16;
            copy_async16(blocks(turn) + i, (const void *)from, row && from < row + end);
        }
    }

    /* 32 columns of one row for each thread, zeros where there are none. */
    __device__ __forceinline__ void unpack(uint32_t step) const
    {
        const uint32_t place = threadIdx.x % ROWS, chunk = threadIdx.x / ROWS;
        const uint64_t row = row_at(place);
        word4 values[4] = {};
        if (row && (2 * step + chunk) * 32 < a.columns) {
            const uint32_t offset = (uint32_t)(row + (uint64_t)(step / 4) * BYTES) & 15;
            unpacker<FORMAT>::chunk((const uint8_t *)(blocks(step / 4) + place * UNITS), offset,
                                    step % 4 * 2 + chunk, values);
        }
        word4 *to = unpacked(step);
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            store16(to + wide_place(ROWS, chunk, place, i), values[i]);
        }
    }

    __device__ __forceinline__ void run() const
    {
        const uint32_t steps = this->steps(), turns = (steps + 3) / 4;
        struct base::sums s;
        s.left = this->range_chunks();
        if (steps) {
            fetch_blocks(0);
        }
        if (!GROUPED) {
            wait_for_predecessor();
        }
#pragma unroll
        for (uint32_t i = 0; i < STAGES - 1; i++) {
            if (i < steps) {
                this->fetch_tokens(tokens(i), i * 64);
            }
            copy_async_commit();
        }
        if (steps) {
            copy_async_wait<STAGES - 2>();
            __syncthreads();
            unpack(0);
        }
        for (uint32_t step = 0; step < steps; step++) {
            /* Blocks were asked for three steps before they are unpacked, so they are there, too. */
            copy_async_wait<STAGES - 2>();
            __syncthreads();
            if (step + STAGES - 1 < steps) {
                this->fetch_tokens(tokens(step + STAGES - 1), (step + STAGES - 1) * 64);
            }
            if (step % 4 == 0 && step / 4 + 1 < turns) {
                fetch_blocks(step / 4 + 1);
            }
            copy_async_commit();
            if (step + 1 < steps) {
                unpack(step + 1);
            }
            this->add(s, unpacked(step), tokens(step), step);
        }
        this->store(s.all);
    }
};

/* The prelude lists what the model needs: LINEAR_BLOCK_KERNELS(X) is X(name, format, bytes of 256
 * columns, stages, and as in LINEAR_WIDE_KERNELS) … */
#define LINEAR_BLOCK_KERNEL(name, format, bytes, stages, warps_rows, warps_tokens, row_tiles, \
                             token_tiles, pair, blocks)                                        \
    extern "C" __global__ void KERNEL_BOUNDS(32 * warps_rows * warps_tokens, blocks)           \
        name(const struct linear_wide_arguments arguments)                                     \
    {                                                                                          \
        SHARED_DYNAMIC(word4, memory);                                                         \
        typedef packed<format_##format, bytes, stages, warps_rows, warps_tokens, row_tiles,    \
                       token_tiles, pair, false>                                               \
            tile;                                                                              \
        const uint32_t count = *arguments.count; /* written before anything that overlaps */   \
        release_successor();                                                                   \
        tile(arguments, memory, rows_from(blockIdx.x * tile::TOKENS, count, tile::TOKENS))     \
            .run();                                                                            \
    }

LINEAR_BLOCK_KERNELS(LINEAR_BLOCK_KERNEL)

/* The same of experts: x = tiles of rows of one expert. */
#define LINEAR_BLOCK_GROUP(name, format, bytes, stages, warps_rows, warps_tokens, row_tiles,  \
                            token_tiles, pair, blocks)                                         \
    extern "C" __global__ void KERNEL_BOUNDS(32 * warps_rows * warps_tokens, blocks)           \
        name(const struct linear_wide_group_arguments arguments)                               \
    {                                                                                          \
        SHARED_DYNAMIC(word4, memory);                                                         \
        release_successor();                                                                   \
        wait_for_predecessor(); /* who makes the lists */                                      \
        packed<format_##format, bytes, stages, warps_rows, warps_tokens, row_tiles,            \
               token_tiles, pair, true>(arguments.linear, memory,                              \
                                        rows_of_tile(arguments.group, blockIdx.x))             \
            .run();                                                                            \
    }

#ifdef LINEAR_BLOCK_GROUPS
LINEAR_BLOCK_GROUPS(LINEAR_BLOCK_GROUP)
#endif
