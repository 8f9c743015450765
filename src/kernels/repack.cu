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
            q[half][i] = r < a.rows ? NATIVE::code(a.weight + (uint64_t)r * a.row_bytes, k + i) : 0;
        }
    }
}

/* Value `at` of a row's blocks; of rows beyond the last there are none: zeros. */
__device__ __forceinline__ uint32_t half_at_row(const uint8_t *blocks, uint32_t at)
{
    return blocks ? *(const uint16_t *)(blocks + at) : 0;
}

__device__ __forceinline__ uint32_t word_at_row(const uint8_t *blocks)
{
    return half_at_row(blocks, 0) | half_at_row(blocks, 2) << 16;
}

/* Blocks of 32 columns that begin with a half. */
template <class PACKED, int BYTES> struct native_halves {
    typedef PACKED packed;
    static constexpr int BLOCK_COLUMNS = 32, BLOCK_BYTES = BYTES;
    static __device__ __forceinline__ void store_scales(uint8_t *unit, uint8_t *, uint32_t,
                                                        uint32_t lane, const uint8_t *upper,
                                                        const uint8_t *lower)
    {
        const uint32_t at = lane % 4 * BYTES;
        ((uint32_t *)(unit + packed::SCALES))[lane] =
            half_at_row(upper, at) | half_at_row(lower, at) << 16;
    }
};

struct native_q4_0 : native_halves<packed_q4_0, 18> {
    static __device__ __forceinline__ uint32_t code(const uint8_t *row, uint32_t k)
    {
        return (uint32_t)nibble_of(row + k / 32 * 18 + 2, k % 32);
    }
    static __device__ __forceinline__ void store(uint8_t *unit, uint32_t lane, uint32_t m,
                                                 const uint32_t (&q)[2][4])
    {
        pack_nibbles(unit, lane, m, q);
    }
};

struct native_q8_0 : native_halves<packed_q8_0, 34> {
    static __device__ __forceinline__ uint32_t code(const uint8_t *row, uint32_t k)
    {
        return row[k / 32 * 34 + 2 + k % 32] ^ 0x80u;
    }
    static __device__ __forceinline__ void store(uint8_t *unit, uint32_t lane, uint32_t m,
                                                 const uint32_t (&q)[2][4])
    {
        uint32_t *words = (uint32_t *)(unit + m / 2 * 512 + lane * 16) + m % 2 * 2;
        for (uint32_t half = 0; half < 2; half++) {
            words[half] = q[half][0] | q[half][1] << 8 | q[half][2] << 16 | q[half][3] << 24;
        }
    }
};

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
    static __device__ __forceinline__ void store(uint8_t *unit, uint32_t lane, uint32_t m,
                                                 const uint32_t (&q)[2][4])
    {
        pack_nibbles(unit, lane, m, q);
        if (HAS_FIFTH) {
            pack_bits((uint32_t *)(unit + packed::FIFTH + lane * 8), m, 4, q);
        }
    }
    static __device__ __forceinline__ void store_scales(uint8_t *unit, uint8_t *, uint32_t,
                                                        uint32_t lane, const uint8_t *upper,
                                                        const uint8_t *lower)
    {
        const uint32_t at = lane % 4 * BLOCK_BYTES;
        ((uint32_t *)(unit + packed::SCALES))[lane] =
            half_at_row(upper, at) | half_at_row(lower, at) << 16;
        if (HAS_MINIMA) {
            ((uint32_t *)(unit + packed::MINIMA))[lane] =
                half_at_row(upper, at + 2) | half_at_row(lower, at + 2) << 16;
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
    static __device__ __forceinline__ void store(uint8_t *unit, uint32_t lane, uint32_t m,
                                                 const uint32_t (&q)[2][4])
    {
        uint32_t word = 0;
        for (uint32_t i = 0; i < 8; i++) {
            const uint32_t code = q[i / 4][i % 4], r = 2 * (i % 4 / 2) + i / 4;
            const uint32_t half = (code & 8) << 12 >> packed::sign_shift(r) |
                                  (code & 7) << 9 >> packed::size_shift(r);
            word |= half << 16 * (i % 2);
        }
        ((uint32_t *)(unit + m / 4 * 512 + lane * 16))[m % 4] = word;
    }
    static __device__ __forceinline__ void store_scales(uint8_t *unit, uint8_t *, uint32_t,
                                                        uint32_t lane, const uint8_t *upper,
                                                        const uint8_t *lower)
    {
        const uint32_t at = lane % 4 * BLOCK_BYTES;
        unit[packed::SCALES + lane] = upper ? upper[at] : 0;
        unit[packed::SCALES + 32 + lane] = lower ? lower[at] : 0;
    }
};

struct native_q2_k {
    typedef packed_q2_k packed;
    static constexpr int BLOCK_COLUMNS = 256, BLOCK_BYTES = 84;
    static __device__ __forceinline__ uint32_t code(const uint8_t *row, uint32_t k)
    {
        return (uint32_t)pair_of(row + k / 256 * 84 + 16, k % 256);
    }
    static __device__ __forceinline__ void store(uint8_t *unit, uint32_t lane, uint32_t m,
                                                 const uint32_t (&q)[2][4])
    {
        pack_pairs((uint32_t *)(unit + lane * 16), m, 0, q);
    }
    static __device__ __forceinline__ void store_scales(uint8_t *unit, uint8_t *ends, uint32_t half,
                                                        uint32_t lane, const uint8_t *upper,
                                                        const uint8_t *lower)
    {
        uint32_t bytes = 0;
        for (uint32_t i = 0; i < 4; i++) {
            const uint8_t *block = i / 2 ? lower : upper;
            if (block) {
                bytes |= (uint32_t)block[half * 8 + lane % 4 * 2 + i % 2] << 8 * i;
            }
        }
        ((uint32_t *)(unit + packed::SCALES))[lane] = bytes;
        if (lane % 4 == 0 && half == 0) {
            ((uint32_t *)ends)[lane / 4] = upper ? word_at_row(upper + 80) : 0;
            ((uint32_t *)ends)[lane / 4 + 8] = lower ? word_at_row(lower + 80) : 0;
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
    static __device__ __forceinline__ void store(uint8_t *unit, uint32_t lane, uint32_t m,
                                                 const uint32_t (&q)[2][4])
    {
        pack_pairs((uint32_t *)(unit + lane * 16), m, 0, q);
        pack_bits((uint32_t *)(unit + packed::THIRD + lane * 8), m, 2, q);
    }
    static __device__ __forceinline__ void store_scales(uint8_t *unit, uint8_t *ends, uint32_t half,
                                                        uint32_t lane, const uint8_t *upper,
                                                        const uint8_t *lower)
    {
        uint32_t bytes = 0;
        for (uint32_t i = 0; i < 4; i++) {
            const uint8_t *block = i / 2 ? lower : upper;
            if (block) {
                bytes |= (uint32_t)scale_q3_k_code(block, half * 8 + lane % 4 * 2 + i % 2) << 8 * i;
            }
        }
        ((uint32_t *)(unit + packed::SCALES))[lane] = bytes;
        if (lane % 4 == 0 && half == 0) {
            ((uint16_t *)ends)[lane / 4] = (uint16_t)half_at_row(upper, 108);
            ((uint16_t *)ends)[lane / 4 + 8] = (uint16_t)half_at_row(lower, 108);
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
    static __device__ __forceinline__ void store(uint8_t *unit, uint32_t lane, uint32_t m,
                                                 const uint32_t (&q)[2][4])
    {
        pack_nibbles(unit, lane, m, q);
        if (HAS_FIFTH) {
            pack_bits((uint32_t *)(unit + packed::FIFTH + lane * 8), m, 4, q);
        }
    }
    static __device__ __forceinline__ void store_scales(uint8_t *unit, uint8_t *ends, uint32_t half,
                                                        uint32_t lane, const uint8_t *upper,
                                                        const uint8_t *lower)
    {
        uint32_t bytes = 0;
        for (uint32_t i = 0; i < 2; i++) {
            const uint8_t *block = i ? lower : upper;
            if (block) {
                uint32_t scale, minimum;
                scale_min_k4_codes(block, half * 4 + lane % 4, &scale, &minimum);
                bytes |= scale << 8 * i | minimum << (16 + 8 * i);
            }
        }
        ((uint32_t *)(unit + packed::SCALES))[lane] = bytes;
        if (lane % 4 == 0 && half == 0) {
            ((uint32_t *)ends)[lane / 4] = word_at_row(upper);
            ((uint32_t *)ends)[lane / 4 + 8] = word_at_row(lower);
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
        return (uint32_t)(*nibbles >> (at / 64 % 2 * 4) & 0xf) | (uint32_t)pair_of(block + 128, at)
                                                                     << 4;
    }
    static __device__ __forceinline__ void store(uint8_t *unit, uint32_t lane, uint32_t m,
                                                 const uint32_t (&q)[2][4])
    {
        pack_nibbles(unit, lane, m, q);
        pack_pairs((uint32_t *)(unit + packed::HIGH + lane * 16), m, 4, q);
    }
    static __device__ __forceinline__ void store_scales(uint8_t *unit, uint8_t *ends, uint32_t half,
                                                        uint32_t lane, const uint8_t *upper,
                                                        const uint8_t *lower)
    {
        uint32_t bytes = 0;
        for (uint32_t i = 0; i < 4; i++) {
            const uint8_t *block = i / 2 ? lower : upper;
            if (block) {
                bytes |= (uint32_t)(block[192 + half * 8 + lane % 4 * 2 + i % 2] ^ 0x80u) << 8 * i;
            }
        }
        ((uint32_t *)(unit + packed::SCALES))[lane] = bytes;
        if (lane % 4 == 0 && half == 0) {
            ((uint16_t *)ends)[lane / 4] = (uint16_t)half_at_row(upper, 208);
            ((uint16_t *)ends)[lane / 4 + 8] = (uint16_t)half_at_row(lower, 208);
        }
    }
};

template <class NATIVE> __device__ __forceinline__ void repack(const struct repack_arguments &a)
{
    typedef typename NATIVE::packed packed;
    const uint32_t lane = threadIdx.x, unit = blockIdx.x, tile = blockIdx.y;
    uint8_t *record =
        (uint8_t *)a.output +
        ((uint64_t)tile * (gridDim.x / packed::UNITS) + unit / packed::UNITS) * packed::RECORD;
    uint8_t *own = record + unit % packed::UNITS * packed::UNIT;
    for (uint32_t m = 0; m < PACK_STEPS; m++) {
        uint32_t q[2][4];
        gather<NATIVE>(a, tile * 16 + lane / 4, unit * PACK_COLUMNS + m * 16 + lane % 4 * 4, q);
        NATIVE::store(own, lane, m, q);
    }
    const uint8_t *blocks[2];
    for (uint32_t i = 0; i < 2; i++) {
        const uint32_t row = tile * 16 + i * 8 + lane / 4;
        blocks[i] = row < a.rows
                        ? a.weight + (uint64_t)row * a.row_bytes +
                              unit * PACK_COLUMNS / NATIVE::BLOCK_COLUMNS * NATIVE::BLOCK_BYTES
                        : nullptr;
    }
    NATIVE::store_scales(own, record + packed::UNITS * packed::UNIT, unit % packed::UNITS, lane,
                         blocks[0], blocks[1]);
}

#define REPACK_KERNEL(format)                                    \
    extern "C" __global__ void KERNEL_BOUNDS(32, 1)              \
        repack_##format(const struct repack_arguments arguments) \
    {                                                            \
        repack<native_##format>(arguments);                      \
    }

REPACK_FORMATS(REPACK_KERNEL)
