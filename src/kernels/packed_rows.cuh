/* What each packed format does for one row of x: linear_packed_row.cu.
 *
 * x is there as whole numbers of sixteen bits, of one scale for 32 columns: two bytes each, high
 * and low. One mma_u8_s8 takes 32 columns of codes as bytes; B has the high bytes of block s of a
 * unit in column 2 s, the low ones in column 2 s + 1, and zeros elsewhere, so that all products of
 * a unit add up in one C: lane (g, t) has the sums of rows g and g + 8 over block t, whose scales
 * it has, too. Sums are exact; scales multiply them as floats.
 *
 * Each format has: SPLIT, whether scales are of sixteen columns, which then have a C each; NATURAL,
 * whether byte i of a word is column i, else columns lie in the order 0, 2, 1, 3; LOWER, by which
 * codes of the lower row are too large; codes(u, s, a), block s of a unit as A; add(total, upper,
 * lower, x, copy, lane), where upper and lower are sums of products of the two halves of a block
 * (the first has it all when not split) and `copy` is the unit in shared memory, its ends behind.
 */
template <class FORMAT> struct packed_row;

/* Bytes of a unit and its ends in shared memory. */
template <class FORMAT> struct packed_slot {
    static constexpr int BYTES = FORMAT::UNIT + FORMAT::END_BYTES;
};

struct row_sums {
    float upper, lower;
};

/* Of 32 columns of x: the scale, and sums of x over either half and all of them. */
struct alignas(16) row_block {
    float scale, first, second, all;
};

/* Block s of a unit of nibbles. */
__device__ __forceinline__ void bytes_of_nibbles(const word4 *codes, int s, uint32_t (&a)[4])
{
#pragma unroll
    for (int j = 0; j < 2; j++) {
        const uint32_t word = word_of(codes, 2 * s + j);
        a[2 * j] = word & 0x0f0f0f0fu;
        a[2 * j + 1] = word & 0xf0f0f0f0u;
    }
}

/* The same with a fifth bit, the lower row's moved down to its place. */
__device__ __forceinline__ void bytes_of_fives(const word4 *codes, const uint32_t (&fifth)[2],
                                               int s, uint32_t (&a)[4])
{
#pragma unroll
    for (int j = 0; j < 2; j++) {
        const int m = 2 * s + j;
        const uint32_t word = word_of(codes, m);
        a[2 * j] = and_or(fifth[m / 4] << (4 - m % 4), 0x10101010u, word & 0x0f0f0f0fu);
        a[2 * j + 1] = and_or(fifth[m / 4] >> m % 4, 0x10101010u, word >> 4 & 0x0f0f0f0fu);
    }
}

/* Of codes of two bits, those of a block a word. */
__device__ __forceinline__ void bytes_of_pairs(uint32_t word, uint32_t (&a)[4])
{
    const uint32_t next = word >> 2;
    a[0] = word & 0x03030303u;
    a[1] = word & 0x30303030u;
    a[2] = next & 0x03030303u;
    a[3] = next & 0x30303030u;
}

/* w = d (q - OFFSET), of 32 columns. */
template <class FORMAT, int OFFSET, int LOWER_ROW> struct packed_row_halves {
    static constexpr bool SPLIT = false, NATURAL = false;
    static constexpr int LOWER = LOWER_ROW;
    static __device__ __forceinline__ void add(row_sums &total, const float (&upper)[2],
                                               const float (&lower)[2], const row_block &x,
                                               const uint8_t *copy, uint32_t lane)
    {
        const uint32_t d = word_at(copy + FORMAT::SCALES, lane);
        total.upper =
            fmaf(half_of_word(d, 0), fmaf(x.scale, upper[0], -(float)OFFSET * x.all), total.upper);
        total.lower = fmaf(half_of_word(d, 1),
                           fmaf(x.scale, lower[0], -(float)(OFFSET * LOWER) * x.all), total.lower);
    }
};

template <> struct packed_row<packed_q4_0> : packed_row_halves<packed_q4_0, 8, 16> {
    static __device__ __forceinline__ void codes(const packed_q4_0::unit &u, int s,
                                                 uint32_t (&a)[4])
    {
        bytes_of_nibbles(u.codes, s, a);
    }
};

template <> struct packed_row<packed_q8_0> : packed_row_halves<packed_q8_0, 128, 1> {
    static constexpr bool NATURAL = true;
    static __device__ __forceinline__ void codes(const packed_q8_0::unit &u, int s,
                                                 uint32_t (&a)[4])
    {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            a[i] = word_of(u.codes, 4 * s + i);
        }
    }
};

template <> struct packed_row<packed_q5_0> : packed_row_halves<packed_q5_0, 16, 1> {
    static __device__ __forceinline__ void codes(const packed_q5_0::unit &u, int s,
                                                 uint32_t (&a)[4])
    {
        bytes_of_fives(u.codes, u.fifth, s, a);
    }
};

/* w = d q + m */
template <bool HAS_FIFTH> struct packed_row<packed_32<HAS_FIFTH, true>> {
    typedef packed_32<HAS_FIFTH, true> format;
    static constexpr bool SPLIT = false, NATURAL = false;
    static constexpr int LOWER = HAS_FIFTH ? 1 : 16;
    static __device__ __forceinline__ void codes(const typename format::unit &u, int s,
                                                 uint32_t (&a)[4])
    {
        if constexpr (HAS_FIFTH) {
            bytes_of_fives(u.codes, u.fifth, s, a);
        } else {
            bytes_of_nibbles(u.codes, s, a);
        }
    }
    static __device__ __forceinline__ void add(row_sums &total, const float (&upper)[2],
                                               const float (&lower)[2], const row_block &x,
                                               const uint8_t *copy, uint32_t lane)
    {
        const uint32_t d = word_at(copy + format::SCALES, lane);
        const uint32_t m = word_at(copy + format::MINIMA, lane);
        total.upper = fmaf(half_of_word(d, 0), x.scale * upper[0], total.upper);
        total.lower = fmaf(half_of_word(d, 1), x.scale * lower[0], total.lower);
        total.upper = fmaf(half_of_word(m, 0), x.all, total.upper);
        total.lower = fmaf(half_of_word(m, 1), (float)LOWER * x.all, total.lower);
    }
};

/* w = (d s) q - (dmin m) */
template <bool HAS_FIFTH> struct packed_row<packed_k4<HAS_FIFTH>> {
    typedef packed_k4<HAS_FIFTH> format;
    static constexpr bool SPLIT = false, NATURAL = false;
    static constexpr int LOWER = HAS_FIFTH ? 1 : 16;
    static __device__ __forceinline__ void codes(const typename format::unit &u, int s,
                                                 uint32_t (&a)[4])
    {
        if constexpr (HAS_FIFTH) {
            bytes_of_fives(u.codes, u.fifth, s, a);
        } else {
            bytes_of_nibbles(u.codes, s, a);
        }
    }
    static __device__ __forceinline__ void add(row_sums &total, const float (&upper)[2],
                                               const float (&lower)[2], const row_block &x,
                                               const uint8_t *copy, uint32_t lane)
    {
        const uint32_t s = word_at(copy + format::SCALES, lane);
        const uint32_t upper_ends = word_at(copy + format::UNIT, lane / 4);
        const uint32_t lower_ends = word_at(copy + format::UNIT, lane / 4 + 8);
        total.upper = fmaf(half_of_word(upper_ends, 0),
                           float_of_byte(s, 0, 0) * (x.scale * upper[0]), total.upper);
        total.lower = fmaf(half_of_word(lower_ends, 0),
                           float_of_byte(s, 1, 0) * (x.scale * lower[0]), total.lower);
        total.upper =
            fmaf(half_of_word(upper_ends, 1), float_of_byte(s, 2, 0) * -x.all, total.upper);
        total.lower = fmaf(half_of_word(lower_ends, 1),
                           float_of_byte(s, 3, 0) * ((float)-LOWER * x.all), total.lower);
    }
};

/* w = d (s - BIAS) (q - OFFSET), s of sixteen columns. */
template <class FORMAT, int BIAS, int OFFSET, int LOWER_ROW> struct packed_row_sixteens {
    static constexpr bool SPLIT = true, NATURAL = false;
    static constexpr int LOWER = LOWER_ROW;
    static __device__ __forceinline__ void add(row_sums &total, const float (&upper)[2],
                                               const float (&lower)[2], const row_block &x,
                                               const uint8_t *copy, uint32_t lane)
    {
        const uint32_t s = word_at(copy + FORMAT::SCALES, lane);
        const uint16_t *ends = (const uint16_t *)(copy + FORMAT::UNIT) + lane / 4;
        const float first = -(float)OFFSET * x.first, second = -(float)OFFSET * x.second;
        total.upper = fmaf(float_of_f16(ends[0]),
                           fmaf(float_of_byte(s, 0, BIAS), fmaf(x.scale, upper[0], first),
                                float_of_byte(s, 1, BIAS) * fmaf(x.scale, upper[1], second)),
                           total.upper);
        total.lower =
            fmaf(float_of_f16(ends[8]),
                 fmaf(float_of_byte(s, 2, BIAS), fmaf(x.scale, lower[0], (float)LOWER * first),
                      float_of_byte(s, 3, BIAS) * fmaf(x.scale, lower[1], (float)LOWER * second)),
                 total.lower);
    }
};

template <> struct packed_row<packed_q6_k> : packed_row_sixteens<packed_q6_k, 128, 32, 1> {
    static __device__ __forceinline__ void codes(const packed_q6_k::unit &u, int s,
                                                 uint32_t (&a)[4])
    {
        const uint32_t high = word_of(&u.high, s);
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const uint32_t word = word_of(u.codes, 2 * s + j);
            a[2 * j] = and_or(high << (4 - 2 * j), 0x30303030u, word & 0x0f0f0f0fu);
            a[2 * j + 1] = and_or(high >> 2 * j, 0x30303030u, word >> 4 & 0x0f0f0f0fu);
        }
    }
};

template <> struct packed_row<packed_q3_k> : packed_row_sixteens<packed_q3_k, 32, 4, 16> {
    static __device__ __forceinline__ void codes(const packed_q3_k::unit &u, int s,
                                                 uint32_t (&a)[4])
    {
        bytes_of_pairs(word_of(&u.codes, s), a);
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const int m = (2 * s + j) % 4;
            const uint32_t third = m <= 2 ? u.third[s / 2] << (2 - m) : u.third[s / 2] >> 1;
            a[2 * j] = and_or(third, 0x04040404u, a[2 * j]);
            a[2 * j + 1] = and_or(third, 0x40404040u, a[2 * j + 1]);
        }
    }
};

/* w = (d s) q - (dmin m), s and m four bits of sixteen columns. */
template <> struct packed_row<packed_q2_k> {
    static constexpr bool SPLIT = true, NATURAL = false;
    static constexpr int LOWER = 16;
    static __device__ __forceinline__ void codes(const packed_q2_k::unit &u, int s,
                                                 uint32_t (&a)[4])
    {
        bytes_of_pairs(word_of(&u.codes, s), a);
    }
    static __device__ __forceinline__ float part(uint32_t word, int i)
    {
        return (float)(word >> 4 * i & 0xf);
    }
    static __device__ __forceinline__ void add(row_sums &total, const float (&upper)[2],
                                               const float (&lower)[2], const row_block &x,
                                               const uint8_t *copy, uint32_t lane)
    {
        const uint32_t s = word_at(copy + packed_q2_k::SCALES, lane);
        const uint32_t upper_ends = word_at(copy + packed_q2_k::UNIT, lane / 4);
        const uint32_t lower_ends = word_at(copy + packed_q2_k::UNIT, lane / 4 + 8);
        total.upper =
            fmaf(half_of_word(upper_ends, 0),
                 x.scale * fmaf(part(s, 0), upper[0], part(s, 2) * upper[1]), total.upper);
        total.upper = fmaf(half_of_word(upper_ends, 1),
                           -fmaf(part(s, 1), x.first, part(s, 3) * x.second), total.upper);
        total.lower =
            fmaf(half_of_word(lower_ends, 0),
                 x.scale * fmaf(part(s, 4), lower[0], part(s, 6) * lower[1]), total.lower);
        total.lower = fmaf(half_of_word(lower_ends, 1) * -16.0f,
                           fmaf(part(s, 5), x.first, part(s, 7) * x.second), total.lower);
    }
};
