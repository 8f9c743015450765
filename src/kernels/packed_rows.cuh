/* What each packed format does for one row of x: linear_packed_row.cu.
 *
 * All eight mma of a unit go into one sum: B has the sixteen columns of mma m in column m and zeros
 * elsewhere, so that C holds, for row g and g + 8, the sums of sixteen columns each, those of
 * columns 32 t … 32 t + 15 and 32 t + 16 … 32 t + 31 in lane (g, t): the lane that has their
 * scales. Codes are halves without an exponent, q · 2^-24 and 16 q · 2^-24, which tensor cores
 * multiply exactly: there is no offset of 1024 to take away. What remains, offsets of signed codes
 * and minima, is multiplied with the sum of x over the same columns, given times 2^-24, too.
 *
 * A lane's sum of a row is UPPER_SHARE or LOWER_SHARE (what the codes are too small by) times what
 * add() has come to. add(total, c, sums, copy, lane): c, the sums of products, of a unit's copy in
 * shared memory (its bytes and behind them the ends); sums, of x in the lane's columns. */
template <class FORMAT> struct packed_row;

/* Bytes of a unit and its ends in shared memory. */
template <class FORMAT> struct packed_slot {
    static constexpr int BYTES = FORMAT::UNIT + FORMAT::END_BYTES;
};

struct row_sums {
    float upper, lower;
};

/* d c − OFFSET d Σ x, of blocks of 32 columns; LOWER: by which codes of the lower row are larger.
 */
template <class FORMAT, int OFFSET, int LOWER> struct packed_row_halves {
    static constexpr float UPPER_SHARE = 0x1p24f, LOWER_SHARE = 0x1p24f / LOWER;
    static __device__ __forceinline__ void add(row_sums &total, const float (&c)[4],
                                               const float (&sums)[2], const uint8_t *copy,
                                               uint32_t lane)
    {
        const uint32_t d = word_at(copy + FORMAT::SCALES, lane);
        const float sum = sums[0] + sums[1];
        total.upper = fmaf(half_of_word(d, 0), fmaf(-(float)OFFSET, sum, c[0] + c[1]), total.upper);
        total.lower =
            fmaf(half_of_word(d, 1), fmaf(-(float)(OFFSET * LOWER), sum, c[2] + c[3]), total.lower);
    }
};
template <> struct packed_row<packed_q4_0> : packed_row_halves<packed_q4_0, 8, 16> {
};
template <> struct packed_row<packed_q8_0> : packed_row_halves<packed_q8_0, 128, 1> {
};
template <> struct packed_row<packed_q5_0> : packed_row_halves<packed_q5_0, 16, 16> {
};

template <bool HAS_FIFTH> struct packed_row<packed_32<HAS_FIFTH, true>> {
    typedef packed_32<HAS_FIFTH, true> format;
    static constexpr float UPPER_SHARE = 0x1p24f, LOWER_SHARE = 0x1p20f;
    static __device__ __forceinline__ void add(row_sums &total, const float (&c)[4],
                                               const float (&sums)[2], const uint8_t *copy,
                                               uint32_t lane)
    {
        const uint32_t d = word_at(copy + format::SCALES, lane);
        const uint32_t m = word_at(copy + format::MINIMA, lane);
        const float sum = sums[0] + sums[1];
        total.upper = fmaf(half_of_word(d, 0), c[0] + c[1], total.upper);
        total.lower = fmaf(half_of_word(d, 1), c[2] + c[3], total.lower);
        total.upper = fmaf(half_of_word(m, 0), sum, total.upper);
        total.lower = fmaf(half_of_word(m, 1), 16.0f * sum, total.lower);
    }
};

template <> struct packed_row<packed_mxfp4> {
    static constexpr float UPPER_SHARE = 1.0f, LOWER_SHARE = 1.0f;
    static __device__ __forceinline__ void add(row_sums &total, const float (&c)[4],
                                               const float (&)[2], const uint8_t *copy,
                                               uint32_t lane)
    {
        const uint8_t *e = copy + packed_mxfp4::SCALES + lane;
        total.upper = fmaf(packed_mxfp4::factor(e[0], 0), c[0] + c[1], total.upper);
        total.lower = fmaf(packed_mxfp4::factor(e[32], 0), c[2] + c[3], total.lower);
    }
};

template <bool HAS_FIFTH> struct packed_row<packed_k4<HAS_FIFTH>> {
    typedef packed_k4<HAS_FIFTH> format;
    static constexpr float UPPER_SHARE = 0x1p24f, LOWER_SHARE = 0x1p20f;
    static __device__ __forceinline__ void add(row_sums &total, const float (&c)[4],
                                               const float (&sums)[2], const uint8_t *copy,
                                               uint32_t lane)
    {
        const uint32_t s = word_at(copy + format::SCALES, lane);
        const uint32_t upper = word_at(copy + format::UNIT, lane / 4);
        const uint32_t lower = word_at(copy + format::UNIT, lane / 4 + 8);
        const float sum = -(sums[0] + sums[1]);
        total.upper =
            fmaf(half_of_word(upper, 0), float_of_byte(s, 0, 0) * (c[0] + c[1]), total.upper);
        total.lower =
            fmaf(half_of_word(lower, 0), float_of_byte(s, 1, 0) * (c[2] + c[3]), total.lower);
        total.upper = fmaf(half_of_word(upper, 1), float_of_byte(s, 2, 0) * sum, total.upper);
        total.lower =
            fmaf(half_of_word(lower, 1), float_of_byte(s, 3, 0) * (16.0f * sum), total.lower);
    }
};

/* Scales of sixteen columns, less BIAS, and codes less OFFSET. */
template <class FORMAT, int BIAS, int OFFSET> struct packed_row_sixteens {
    static constexpr float UPPER_SHARE = 0x1p24f, LOWER_SHARE = 0x1p20f;
    static __device__ __forceinline__ void add(row_sums &total, const float (&c)[4],
                                               const float (&sums)[2], const uint8_t *copy,
                                               uint32_t lane)
    {
        const uint32_t s = word_at(copy + FORMAT::SCALES, lane);
        const uint16_t *ends = (const uint16_t *)(copy + FORMAT::UNIT) + lane / 4;
        const float first = -(float)OFFSET * sums[0], second = -(float)OFFSET * sums[1];
        total.upper = fmaf(float_of_f16(ends[0]),
                           fmaf(float_of_byte(s, 0, BIAS), c[0] + first,
                                float_of_byte(s, 1, BIAS) * (c[1] + second)),
                           total.upper);
        total.lower = fmaf(float_of_f16(ends[8]),
                           fmaf(float_of_byte(s, 2, BIAS), fmaf(16.0f, first, c[2]),
                                float_of_byte(s, 3, BIAS) * fmaf(16.0f, second, c[3])),
                           total.lower);
    }
};
template <> struct packed_row<packed_q6_k> : packed_row_sixteens<packed_q6_k, 128, 32> {
};
template <> struct packed_row<packed_q3_k> : packed_row_sixteens<packed_q3_k, 32, 4> {
};

template <> struct packed_row<packed_q2_k> {
    static constexpr float UPPER_SHARE = 0x1p24f, LOWER_SHARE = 0x1p20f;
    static __device__ __forceinline__ float part(uint32_t word, int i)
    {
        return (float)(word >> 4 * i & 0xf);
    }
    static __device__ __forceinline__ void add(row_sums &total, const float (&c)[4],
                                               const float (&sums)[2], const uint8_t *copy,
                                               uint32_t lane)
    {
        const uint32_t s = word_at(copy + packed_q2_k::SCALES, lane);
        const uint32_t upper = word_at(copy + packed_q2_k::UNIT, lane / 4);
        const uint32_t lower = word_at(copy + packed_q2_k::UNIT, lane / 4 + 8);
        const float first = -sums[0], second = -sums[1];
        total.upper =
            fmaf(half_of_word(upper, 0), fmaf(part(s, 0), c[0], part(s, 2) * c[1]), total.upper);
        total.upper =
            fmaf(half_of_word(upper, 1), fmaf(part(s, 1), first, part(s, 3) * second), total.upper);
        total.lower =
            fmaf(half_of_word(lower, 0), fmaf(part(s, 4), c[2], part(s, 6) * c[3]), total.lower);
        total.lower = fmaf(16.0f * half_of_word(lower, 1),
                           fmaf(part(s, 5), first, part(s, 7) * second), total.lower);
    }
};
