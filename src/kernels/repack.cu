/* repack_TYPE: rows of a quantised weight as published to the order of packed_formats.cuh. Of the
 * prelude: REPACK_FORMATS(X), the types wanted. A warp makes a unit: 16 rows of 128 columns. Rows
 * from `rows` on are zeros.
 *
 * Grid: x = units of a tile, y = tiles; 32 threads. Bound: the bytes read and written once; single
 * bytes are gathered, so it stays far from that, but every weight goes through it once. */

/* The codes of one mma: rows g and g + 8, columns k … k + 3. */
template <class NATIVE>
__device__ __forceinline__ void gather(const struct repack_arguments &a, uint32_t row, uint32_t k,
                                       uint32_t (&q)[2][4])
{
    for (uint32_t half = 0; half < 2; half++) {
        const uint32_t r = row + 8 * half;
        for (uint32_t i = 0; i < 4; i++) {
            q[half][i] =
                r < a.rows ? NATIVE::code(a.weight + (uint64_t)r * a.row_bytes, k + i) : 0;
        }
    }
}

/* Blocks of 32 columns that begin with a half. */
template <class PACKED, int BYTES> struct native_halves {
    typedef PACKED packed;
    static constexpr int BLOCK_COLUMNS = 32, BLOCK_BYTES = BYTES;
    /* Word `word` of the scales of a row that starts at `unit`, or of a row of zeros. */
    static __device__ __forceinline__ void store_scales(uint8_t *record, uint32_t, uint32_t row,
                                                        uint32_t word, const uint8_t *unit)
    {
        uint32_t both = 0;
        if (unit) {
            unit += word * 2 * BYTES;
            both = *(const uint16_t *)unit | (uint32_t)*(const uint16_t *)(unit + BYTES) << 16;
        }
        ((uint32_t *)(record + packed::SCALES))[2 * row + word] = both;
    }
};

struct native_q4_0 : native_halves<packed_q4_0, 18> {
    static __device__ __forceinline__ uint32_t code(const uint8_t *row, uint32_t k)
    {
        return (uint32_t)nibble_of(row + k / 32 * 18 + 2, k % 32);
    }
    static __device__ __forceinline__ void store(uint8_t *record, uint32_t, uint32_t lane,
                                                 uint32_t m, const uint32_t (&q)[2][4])
    {
        pack_nibbles(record, lane, m, q);
    }
};

struct native_q8_0 : native_halves<packed_q8_0, 34> {
    static __device__ __forceinline__ uint32_t code(const uint8_t *row, uint32_t k)
    {
        return row[k / 32 * 34 + 2 + k % 32] ^ 0x80u;
    }
    static __device__ __forceinline__ void store(uint8_t *record, uint32_t, uint32_t lane,
                                                 uint32_t m, const uint32_t (&q)[2][4])
    {
        uint32_t *words = (uint32_t *)(record + m / 2 * 512 + lane * 16) + m % 2 * 2;
        for (uint32_t half = 0; half < 2; half++) {
            words[half] = q[half][0] | q[half][1] << 8 | q[half][2] << 16 | q[half][3] << 24;
        }
    }
};

/* Two halves of two neighbouring blocks. */
__device__ __forceinline__ uint32_t halves_of_blocks(const uint8_t *block, uint32_t block_bytes)
{
    return *(const uint16_t *)block | (uint32_t)*(const uint16_t *)(block + block_bytes) << 16;
}

/* d, m where there are minima, fifth bits, nibbles. */
template <bool HAS_FIFTH, bool HAS_MINIMA> struct native_32 {
    typedef packed_32<HAS_FIFTH, HAS_MINIMA> packed;
    static constexpr int FIFTH = HAS_MINIMA ? 4 : 2, NIBBLES = FIFTH + (HAS_FIFTH ? 4 : 0);
    static constexpr int BLOCK_COLUMNS = 32, BLOCK_BYTES = NIBBLES + 16;
    static __device__ __forceinline__ uint32_t code(const uint8_t *row, uint32_t k)
    {
        const uint8_t *block = row + k / 32 * BLOCK_BYTES;
        const uint32_t at = k % 32;
        uint32_t q = (uint32_t)nibble_of(block + NIBBLES, at);
        if (HAS_FIFTH) {
            q |= (uint32_t)(block[FIFTH + at / 8] >> at % 8 & 1) << 4;
        }
        return q;
    }
    static __device__ __forceinline__ void store(uint8_t *record, uint32_t, uint32_t lane,
                                                 uint32_t m, const uint32_t (&q)[2][4])
    {
        pack_nibbles(record, lane, m, q);
        if (HAS_FIFTH) {
            pack_bits((uint32_t *)(record + packed::FIFTH + lane * 8), m, 4, q);
        }
    }
    static __device__ __forceinline__ void store_scales(uint8_t *record, uint32_t, uint32_t row,
                                                        uint32_t word, const uint8_t *blocks)
    {
        const uint8_t *first = blocks + word * 2 * BLOCK_BYTES;
        ((uint32_t *)(record + packed::SCALES))[2 * row + word] =
            blocks ? halves_of_blocks(first, BLOCK_BYTES) : 0;
        if (HAS_MINIMA) {
            ((uint32_t *)(record + packed::MINIMA))[2 * row + word] =
                blocks ? halves_of_blocks(first + 2, BLOCK_BYTES) : 0;
        }
    }
};
typedef native_32<false, true> native_q4_1;
typedef native_32<true, false> native_q5_0;
typedef native_32<true, true> native_q5_1;

struct native_mxfp4 {
    typedef packed_mxfp4 packed;
    static constexpr int BLOCK_COLUMNS = 32, BLOCK_BYTES = 17;
    static __device__ __forceinline__ uint32_t code(const uint8_t *row, uint32_t k)
    {
        return (uint32_t)nibble_of(row + k / 32 * 17 + 1, k % 32);
    }
    static __device__ __forceinline__ void store(uint8_t *record, uint32_t, uint32_t lane,
                                                 uint32_t m, const uint32_t (&q)[2][4])
    {
        uint32_t word = 0;
        for (uint32_t i = 0; i < 8; i++) {
            const uint32_t code = q[i / 4][i % 4], r = 2 * (i % 4 / 2) + i / 4;
            const uint32_t half = (code & 8) << 12 >> packed::sign_shift(r) |
                                  (code & 7) << 9 >> packed::size_shift(r);
            word |= half << 16 * (i % 2);
        }
        ((uint32_t *)(record + m / 4 * 512 + lane * 16))[m % 4] = word;
    }
    static __device__ __forceinline__ void store_scales(uint8_t *record, uint32_t, uint32_t row,
                                                        uint32_t word, const uint8_t *blocks)
    {
        uint32_t bytes = 0;
        for (uint32_t i = 0; blocks && i < 4; i++) {
            bytes |= (uint32_t)blocks[i * BLOCK_BYTES] << 8 * i;
        }
        if (word == 0) {
            ((uint32_t *)(record + packed::SCALES))[row] = bytes;
        }
    }
};

struct native_q2_k {
    typedef packed_q2_k packed;
    static constexpr int BLOCK_COLUMNS = 256, BLOCK_BYTES = 84;
    static __device__ __forceinline__ uint32_t code(const uint8_t *row, uint32_t k)
    {
        return (uint32_t)pair_of(row + k / 256 * 84 + 16, k % 256);
    }
    static __device__ __forceinline__ void store(uint8_t *record, uint32_t half, uint32_t lane,
                                                 uint32_t m, const uint32_t (&q)[2][4])
    {
        pack_pairs((uint32_t *)(record + half * 512 + lane * 16), m, 0, q);
    }
    static __device__ __forceinline__ void store_scales(uint8_t *record, uint32_t half,
                                                        uint32_t row, uint32_t word,
                                                        const uint8_t *block)
    {
        uint32_t bytes = 0, ends = 0;
        if (block) {
            for (uint32_t i = 0; i < 4; i++) {
                bytes |= (uint32_t)block[half * 8 + word * 4 + i] << 8 * i;
            }
            ends = *(const uint16_t *)(block + 80) | (uint32_t)*(const uint16_t *)(block + 82) << 16;
        }
        ((uint32_t *)(record + packed::SCALES + half * 128))[2 * row + word] = bytes;
        if (word == 0 && half == 0) {
            ((uint32_t *)(record + packed::ENDS))[row] = ends;
        }
    }
};

struct native_q3_k {
    typedef packed_q3_k packed;
    static constexpr int BLOCK_COLUMNS = 256, BLOCK_BYTES = 110;
    static __device__ __forceinline__ uint32_t code(const uint8_t *row, uint32_t k)
    {
        const uint8_t *block = row + k / 256 * 110;
        const uint32_t at = k % 256;
        return (uint32_t)pair_of(block + 32, at) | (uint32_t)(block[at % 32] >> at / 32 & 1) << 2;
    }
    static __device__ __forceinline__ void store(uint8_t *record, uint32_t half, uint32_t lane,
                                                 uint32_t m, const uint32_t (&q)[2][4])
    {
        pack_pairs((uint32_t *)(record + half * 512 + lane * 16), m, 0, q);
        pack_bits((uint32_t *)(record + packed::THIRD + half * 256 + lane * 8), m, 2, q);
    }
    static __device__ __forceinline__ void store_scales(uint8_t *record, uint32_t half,
                                                        uint32_t row, uint32_t word,
                                                        const uint8_t *block)
    {
        uint32_t bytes = 0x20202020u;
        uint16_t end = 0;
        if (block) {
            bytes = 0;
            for (uint32_t i = 0; i < 4; i++) {
                bytes |= scale_q3_k_code(block, half * 8 + word * 4 + i) << 8 * i;
            }
            end = *(const uint16_t *)(block + 108);
        }
        ((uint32_t *)(record + packed::SCALES + half * 128))[2 * row + word] = bytes;
        if (word == 0 && half == 0) {
            ((uint16_t *)(record + packed::ENDS))[row] = end;
        }
    }
};

template <bool HAS_FIFTH> struct native_k4 {
    typedef packed_k4<HAS_FIFTH> packed;
    static constexpr int BLOCK_COLUMNS = 256, BLOCK_BYTES = HAS_FIFTH ? 176 : 144;
    static __device__ __forceinline__ uint32_t code(const uint8_t *row, uint32_t k)
    {
        const uint8_t *block = row + k / 256 * BLOCK_BYTES;
        const uint32_t at = k % 256;
        const uint8_t *nibbles = block + (HAS_FIFTH ? 48 : 16) + at / 64 * 32;
        uint32_t q = nibbles[at % 32] >> (at / 32 % 2 * 4) & 0xf;
        if (HAS_FIFTH) {
            q |= (uint32_t)(block[16 + at % 32] >> at / 32 & 1) << 4;
        }
        return q;
    }
    static __device__ __forceinline__ void store(uint8_t *record, uint32_t half, uint32_t lane,
                                                 uint32_t m, const uint32_t (&q)[2][4])
    {
        pack_nibbles(record + half * 1024, lane, m, q);
        if (HAS_FIFTH) {
            pack_bits((uint32_t *)(record + packed::FIFTH + half * 256 + lane * 8), m, 4, q);
        }
    }
    static __device__ __forceinline__ void store_scales(uint8_t *record, uint32_t half,
                                                        uint32_t row, uint32_t word,
                                                        const uint8_t *block)
    {
        uint32_t bytes = 0, ends = 0;
        if (block) {
            for (uint32_t s = 0; s < 4; s++) {
                uint32_t scale, minimum;
                scale_min_k4_codes(block, half * 4 + s, &scale, &minimum);
                bytes |= (word ? minimum : scale) << 8 * s;
            }
            ends = *(const uint16_t *)block | (uint32_t)*(const uint16_t *)(block + 2) << 16;
        }
        ((uint32_t *)(record + packed::SCALES + half * 128))[2 * row + word] = bytes;
        if (word == 0 && half == 0) {
            ((uint32_t *)(record + packed::ENDS))[row] = ends;
        }
    }
};
typedef native_k4<false> native_q4_k;
typedef native_k4<true> native_q5_k;

struct native_q6_k {
    typedef packed_q6_k packed;
    static constexpr int BLOCK_COLUMNS = 256, BLOCK_BYTES = 210;
    static __device__ __forceinline__ uint32_t code(const uint8_t *row, uint32_t k)
    {
        const uint8_t *block = row + k / 256 * 210;
        const uint32_t at = k % 256;
        const uint8_t *nibbles = block + at / 128 * 64 + at / 32 % 2 * 32 + at % 32;
        return (uint32_t)(*nibbles >> (at / 64 % 2 * 4) & 0xf) |
               (uint32_t)pair_of(block + 128, at) << 4;
    }
    static __device__ __forceinline__ void store(uint8_t *record, uint32_t half, uint32_t lane,
                                                 uint32_t m, const uint32_t (&q)[2][4])
    {
        pack_nibbles(record + half * 1024, lane, m, q);
        pack_pairs((uint32_t *)(record + packed::HIGH + half * 512 + lane * 16), m, 4, q);
    }
    static __device__ __forceinline__ void store_scales(uint8_t *record, uint32_t half,
                                                        uint32_t row, uint32_t word,
                                                        const uint8_t *block)
    {
        uint32_t bytes = 0x80808080u;
        uint16_t end = 0;
        if (block) {
            bytes = 0;
            for (uint32_t i = 0; i < 4; i++) {
                bytes |= (block[192 + half * 8 + word * 4 + i] ^ 0x80u) << 8 * i;
            }
            end = *(const uint16_t *)(block + 208);
        }
        ((uint32_t *)(record + packed::SCALES + half * 128))[2 * row + word] = bytes;
        if (word == 0 && half == 0) {
            ((uint16_t *)(record + packed::ENDS))[row] = end;
        }
    }
};

template <class NATIVE>
__device__ __forceinline__ void repack(const struct repack_arguments &a)
{
    typedef typename NATIVE::packed packed;
    const uint32_t lane = threadIdx.x, unit = blockIdx.x, tile = blockIdx.y;
    const uint32_t half = unit % packed::UNITS;
    uint8_t *record = (uint8_t *)a.output + ((uint64_t)tile * (gridDim.x / packed::UNITS) +
                                             unit / packed::UNITS) *
                                                packed::RECORD;
    for (uint32_t m = 0; m < PACK_STEPS; m++) {
        uint32_t q[2][4];
        gather<NATIVE>(a, tile * 16 + lane / 4, unit * PACK_COLUMNS + m * 16 + lane % 4 * 4, q);
        NATIVE::store(record, half, lane, m, q);
    }
    const uint32_t row = tile * 16 + lane / 2;
    const uint8_t *blocks = nullptr;
    if (row < a.rows) {
        blocks = a.weight + (uint64_t)row * a.row_bytes +
                 unit * PACK_COLUMNS / NATIVE::BLOCK_COLUMNS * NATIVE::BLOCK_BYTES;
    }
    NATIVE::store_scales(record, half, lane / 2, lane % 2, blocks);
}

#define REPACK_KERNEL(format)                                                                  \
    extern "C" __global__ void KERNEL_BOUNDS(32, 1)                                            \
        repack_##format(const struct repack_arguments arguments)                               \
    {                                                                                          \
        repack<native_##format>(arguments);                                                    \
    }

REPACK_FORMATS(REPACK_KERNEL)
