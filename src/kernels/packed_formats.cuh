/* Quantised weights in the order in which tensor cores take them. repack.cu makes it once, while a
 * model is loaded; linear_packed.cu multiplies with it; everything else reads it by tile_reader.
 *
 * A matrix is cut into tiles of 16 rows, a tile into units of 128 columns. Lane (g = lane / 4,
 * t = lane % 4) of a warp owns rows g and g + 8 of a tile and, of every 16 columns m of a unit,
 * columns 4 t … 4 t + 3: what it hands to one mma.m16n8k16 (A: rows, k counted as 4 t + i). Its
 * codes of a unit lie side by side, so that a warp loads 16 bytes a lane without a gap. Scales
 * follow: a word or two a lane, of its two rows and columns 32 t … 32 t + 31 of the unit. Codes and
 * scales are those of the file, moved and not rounded: a record holds what tensor/quant_blocks.h
 * calls blocks, of 16 rows.
 *
 * Four bits: a word holds the 8 codes of one mma. Code i of row g is at bit 16 (i % 2) + 8 (i / 2),
 * of row g + 8 four bits further: one mask gives a pair of halves 1024 + q, and 1024 + 16 q for the
 * lower row. The sum of a group of columns that share a scale starts from a product with minus the
 * offset in the place of all codes, which takes it away without rounding. Further bits of a code
 * lie in words of their own, at the same distances.
 *
 * A record is UNITS units of UNIT bytes, and END_BYTES of scales that they share (`ends`). Each
 * format has these numbers; UPPER and LOWER, halves of minus the offsets of codes; struct unit,
 * what a lane holds of one; load(); multiply(), to which load_x(m, x) gives a lane's activations of
 * mma m; codes() and terms() to make weights of a unit; and for single values code(), scale() and
 * minimum(). */
#define PACK_COLUMNS 128
#define PACK_STEPS   8           /* mma instructions of a unit */
#define PACK_BIAS    0x64006400u /* halves of 1024 */

/* Fields of the mma's four A registers: row half, then columns. */
__device__ __forceinline__ uint32_t pack_bit(uint32_t is_lower, uint32_t i)
{
    return 16 * (i % 2) + 4 * (2 * (i / 2) + is_lower);
}

/* Where the value of row `row` and column `column` of a unit lies. */
struct pack_place {
    uint32_t lane, m, i, is_lower;
};

__device__ __forceinline__ struct pack_place pack_place_of(uint32_t row, uint32_t column)
{
    const struct pack_place place = {row % 8 * 4 + column % 16 / 4, column / 16, column % 4,
                                     row / 8};
    return place;
}

/* The byte of a word as a float, less `offset`. */
__device__ __forceinline__ float float_of_byte(uint32_t word, uint32_t index, int offset)
{
    return biased_float_of_byte(word, index) - (0x1p23f + (float)offset);
}

__device__ __forceinline__ float half_of_word(uint32_t word, uint32_t index)
{
    return float_of_f16((uint16_t)(word >> 16 * index));
}

__device__ __forceinline__ uint32_t word_at(const uint8_t *from, uint32_t index)
{
    return ((const uint32_t *)from)[index];
}

/* Four A registers of one mma from the word of its codes, each a pair of halves: 1024 + q for the
 * upper row, 1024 + 16 q for the lower. */
template <uint32_t BIAS>
__device__ __forceinline__ void codes_of_nibbles(uint32_t word, uint32_t (&a)[4])
{
    const uint32_t next = word >> 8;
    a[0] = and_or(word, 0x000f000fu, BIAS);
    a[1] = and_or(word, 0x00f000f0u, BIAS);
    a[2] = and_or(next, 0x000f000fu, BIAS);
    a[3] = and_or(next, 0x00f000f0u, BIAS);
}

/* The same of codes of two bits, those of two mma a word. */
template <uint32_t BIAS>
__device__ __forceinline__ void codes_of_pairs(uint32_t word, int m, uint32_t (&a)[4])
{
    const uint32_t first = word >> m % 2 * 2, next = first >> 8;
    a[0] = and_or(first, 0x00030003u, BIAS);
    a[1] = and_or(first, 0x00300030u, BIAS);
    a[2] = and_or(next, 0x00030003u, BIAS);
    a[3] = and_or(next, 0x00300030u, BIAS);
}

/* One more bit of each code, those of four mma a word: the fifth. */
__device__ __forceinline__ void add_fifth(uint32_t word, int m, uint32_t (&a)[4])
{
    const uint32_t left = word << (4 - m % 4);
    const uint32_t right = word >> (4 + m % 4);
    a[0] = and_or(left, 0x00100010u, a[0]);
    a[1] = and_or(left, 0x01000100u, a[1]);
    a[2] = and_or(right, 0x00100010u, a[2]);
    a[3] = and_or(right, 0x01000100u, a[3]);
}

/* c = the products of mma with a half as all weights of the upper rows, one as all of the lower. */
template <int TILES>
__device__ __forceinline__ void take_offset(float (&c)[TILES][4], uint32_t upper, uint32_t lower,
                                            const uint32_t (&x)[TILES][2])
{
    const uint32_t a[4] = {upper * 0x10001u, lower * 0x10001u, upper * 0x10001u, lower * 0x10001u};
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
        mma_f16(c[tile], a, x[tile]);
    }
}

template <int TILES>
__device__ __forceinline__ void take_codes(float (&c)[TILES][4], const uint32_t (&a)[4],
                                           const uint32_t (&x)[TILES][2])
{
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
        mma_f16(c[tile], a, x[tile]);
    }
}

/* sum += scale · c, for the two rows of a lane. */
template <int TILES>
__device__ __forceinline__ void add_scaled(float (&sum)[TILES][4], float upper, float lower,
                                           const float (&c)[TILES][4])
{
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
        sum[tile][0] = fmaf(upper, c[tile][0], sum[tile][0]);
        sum[tile][1] = fmaf(upper, c[tile][1], sum[tile][1]);
        sum[tile][2] = fmaf(lower, c[tile][2], sum[tile][2]);
        sum[tile][3] = fmaf(lower, c[tile][3], sum[tile][3]);
    }
}

/* A weight is its half times `scale` and `shift` added: of the upper and the lower row. */
struct pack_terms {
    float upper_scale, upper_shift, lower_scale, lower_shift;
};

/* A lane's word of scales is of its two rows and 32 of the unit's columns: those of all columns. */
__device__ __forceinline__ void row_words(uint32_t word, uint32_t (&words)[4])
{
#pragma unroll
    for (uint32_t s = 0; s < 4; s++) {
        words[s] = warp_shuffle(word, threadIdx.x % 32 / 4 * 4 + s);
    }
}

/* Where the word of row `row` and 32-column block `s` lies. */
__device__ __forceinline__ uint32_t scale_word(uint32_t row, uint32_t s)
{
    return (row % 8 * 4 + s) * 4;
}

/* Where a lane finds what it loads of a unit: memory, or a copy in shared memory. */
struct pack_memory {
    static __device__ __forceinline__ word4 load4(const uint8_t *from)
    {
        return load_stream16(from);
    }
    static __device__ __forceinline__ uint32_t load1(const uint8_t *from)
    {
        return load_stream4(from);
    }
};

struct pack_copy {
    static __device__ __forceinline__ word4 load4(const uint8_t *from)
    {
        return load16(from);
    }
    static __device__ __forceinline__ uint32_t load1(const uint8_t *from)
    {
        return *(const uint32_t *)from;
    }
};

__device__ __forceinline__ uint32_t word_of(const struct word4 *words, int index)
{
    const struct word4 w = words[index / 4];
    return index % 4 == 0 ? w.x : index % 4 == 1 ? w.y : index % 4 == 2 ? w.z : w.w;
}

/* --- codes of one value ------------------------------------------------------------------------
 */

__device__ __forceinline__ uint32_t packed_nibble(const uint8_t *codes, struct pack_place at)
{
    return word_at(codes + at.m / 4 * 512 + at.lane * 16, at.m % 4) >> pack_bit(at.is_lower, at.i) &
           0xf;
}

__device__ __forceinline__ void pack_nibbles(uint8_t *codes, uint32_t lane, uint32_t m,
                                             const uint32_t (&q)[2][4])
{
    uint32_t word = 0;
    for (uint32_t i = 0; i < 8; i++) {
        word |= (q[i / 4][i % 4] & 0xf) << pack_bit(i / 4, i % 4);
    }
    ((uint32_t *)(codes + m / 4 * 512 + lane * 16))[m % 4] = word;
}

/* One bit of a code, those of four mma a word, m ascending: `bit` of q. */
__device__ __forceinline__ void pack_bits(uint32_t *words, uint32_t m, uint32_t bit,
                                          const uint32_t (&q)[2][4])
{
    uint32_t bits = m % 4 ? words[m / 4] : 0;
    for (uint32_t i = 0; i < 8; i++) {
        bits |= (q[i / 4][i % 4] >> bit & 1) << (m % 4 + pack_bit(i / 4, i % 4));
    }
    words[m / 4] = bits;
}

/* Two bits of a code from `bit` on, those of two mma a word, m ascending. */
__device__ __forceinline__ void pack_pairs(uint32_t *words, uint32_t m, uint32_t bit,
                                           const uint32_t (&q)[2][4])
{
    uint32_t bits = m % 2 ? words[m / 2] : 0;
    for (uint32_t i = 0; i < 8; i++) {
        bits |= (q[i / 4][i % 4] >> bit & 3) << (m % 2 * 2 + pack_bit(i / 4, i % 4));
    }
    words[m / 2] = bits;
}

__device__ __forceinline__ uint32_t packed_bit(const uint8_t *words, struct pack_place at)
{
    return word_at(words, at.m / 4) >> (at.m % 4 + pack_bit(at.is_lower, at.i)) & 1;
}

__device__ __forceinline__ uint32_t packed_pair(const uint8_t *words, struct pack_place at)
{
    return word_at(words, at.m / 2) >> (at.m % 2 * 2 + pack_bit(at.is_lower, at.i)) & 3;
}

/* --- formats of 32 columns with a half as scale --------------------------------------------------
 */

/* A record: codes [PIECES][lane][4 words], d [lane][2 rows], halves. FORMAT adds codes(), code()
 * and LOWER_SHARE, by which the halves of the lower row are too large. */
template <class FORMAT, int PIECES, int MINUS_UPPER, int MINUS_LOWER> struct packed_halves {
    static constexpr int SCALES = 512 * PIECES, UNIT = SCALES + 128, END_BYTES = 0, UNITS = 1;
    static constexpr int RECORD = UNIT;
    static constexpr int UPPER = MINUS_UPPER, LOWER = MINUS_LOWER;
    struct unit {
        word4 codes[PIECES];
        uint32_t scales;
    };
    template <class FROM>
    static __device__ __forceinline__ void load(unit &u, const uint8_t *from, const uint8_t *ends,
                                                uint32_t lane)
    {
#pragma unroll
        for (int i = 0; i < PIECES; i++) {
            u.codes[i] = FROM::load4(from + i * 512 + lane * 16);
        }
        u.scales = FROM::load1(from + SCALES + lane * 4);
    }
    struct shared_scales {
        uint32_t words[4];
    };
    static __device__ __forceinline__ struct shared_scales scales_of(const unit &u)
    {
        struct shared_scales scales;
        row_words(u.scales, scales.words);
        return scales;
    }
    static __device__ __forceinline__ struct pack_terms terms(const struct shared_scales &scales,
                                                              int m)
    {
        const float upper = half_of_word(scales.words[m / 2], 0);
        const float lower = half_of_word(scales.words[m / 2], 1) * FORMAT::LOWER_SHARE;
        const struct pack_terms terms = {upper, float_of_f16(UPPER) * upper, lower,
                                         float_of_f16(LOWER) * lower};
        return terms;
    }
    template <int TILES, class LOAD>
    static __device__ __forceinline__ void multiply(const unit &u, LOAD &&load_x,
                                                    float (&total)[TILES][4])
    {
        const struct shared_scales scales = scales_of(u);
#pragma unroll
        for (int s = 0; s < 4; s++) {
            uint32_t x[2][TILES][2];
            load_x(2 * s, x[0]);
            load_x(2 * s + 1, x[1]);
            float c[TILES][4] = {};
            take_offset<TILES>(c, UPPER, LOWER, x[0]);
            take_offset<TILES>(c, UPPER, LOWER, x[1]);
#pragma unroll
            for (int j = 0; j < 2; j++) {
                uint32_t a[4];
                FORMAT::template codes<PACK_BIAS>(u, 2 * s + j, a);
                take_codes<TILES>(c, a, x[j]);
            }
            add_scaled<TILES>(total, half_of_word(scales.words[s], 0),
                              half_of_word(scales.words[s], 1) * FORMAT::LOWER_SHARE, c);
        }
    }
    static __device__ __forceinline__ float scale(const uint8_t *unit, const uint8_t *ends,
                                                  uint32_t row, uint32_t m)
    {
        return half_of_word(*(const uint32_t *)(unit + SCALES + scale_word(row, m / 2)), row / 8);
    }
    static __device__ __forceinline__ float minimum(const uint8_t *, const uint8_t *, uint32_t,
                                                    uint32_t)
    {
        return 0.0f;
    }
};

/* q4_0: w = d (q - 8). Offsets: -1032, -1152. */
struct packed_q4_0 : packed_halves<packed_q4_0, 2, 0xe408, 0xe480> {
    static constexpr float LOWER_SHARE = 0.0625f;
    template <uint32_t BIAS = PACK_BIAS>
    static __device__ __forceinline__ void codes(const unit &u, int m, uint32_t (&a)[4])
    {
        codes_of_nibbles<BIAS>(word_of(u.codes, m), a);
    }
    static __device__ __forceinline__ float code(const uint8_t *unit, struct pack_place at)
    {
        return (float)((int)packed_nibble(unit, at) - 8);
    }
};

/* q8_0: w = d q; codes are q + 128. Word 2 j + (row half) of piece s has the four columns of mma
 * 2 s + j. Offsets: -1152. */
struct packed_q8_0 : packed_halves<packed_q8_0, 4, 0xe480, 0xe480> {
    static constexpr float LOWER_SHARE = 1.0f;
    template <uint32_t BIAS = PACK_BIAS>
    static __device__ __forceinline__ void codes(const unit &u, int m, uint32_t (&a)[4])
    {
        const uint32_t first = word_of(u.codes, 2 * m), second = word_of(u.codes, 2 * m + 1);
        a[0] = byte_permute(first, BIAS, 0x5150);
        a[1] = byte_permute(second, BIAS, 0x5150);
        a[2] = byte_permute(first, BIAS, 0x5352);
        a[3] = byte_permute(second, BIAS, 0x5352);
    }
    static __device__ __forceinline__ float code(const uint8_t *unit, struct pack_place at)
    {
        return (float)((int)unit[at.m / 2 * 512 + at.lane * 16 + (at.m % 2 * 2 + at.is_lower) * 4 +
                                 at.i] -
                       128);
    }
};

/* q4_1: w = d q + m; q5_0: w = d (q - 16); q5_1: w = d q + m with five bits. A record: codes
 * [2][lane][4 words]; fifth bits [lane][2 words]; d [lane][2 rows], halves; m likewise. */
template <bool HAS_FIFTH, bool HAS_MINIMA> struct packed_32 {
    static constexpr int FIFTH = 1024;
    static constexpr int SCALES = FIFTH + (HAS_FIFTH ? 256 : 0);
    static constexpr int MINIMA = SCALES + 128;
    static constexpr int UNIT = MINIMA + (HAS_MINIMA ? 128 : 0), END_BYTES = 0, UNITS = 1;
    static constexpr int RECORD = UNIT;
    static constexpr int UPPER = HAS_MINIMA ? 0xe400 : 0xe410; /* -1024, -1040 */
    static constexpr int LOWER = HAS_MINIMA ? 0xe400 : 0xe500; /* -1024, -1280 */
    struct unit {
        word4 codes[2];
        uint32_t fifth[2];
        uint32_t scales, minima;
    };
    template <class FROM>
    static __device__ __forceinline__ void load(unit &u, const uint8_t *from, const uint8_t *ends,
                                                uint32_t lane)
    {
        u.codes[0] = FROM::load4(from + lane * 16);
        u.codes[1] = FROM::load4(from + 512 + lane * 16);
        if (HAS_FIFTH) {
            u.fifth[0] = FROM::load1(from + FIFTH + lane * 8);
            u.fifth[1] = FROM::load1(from + FIFTH + lane * 8 + 4);
        }
        u.scales = FROM::load1(from + SCALES + lane * 4);
        if (HAS_MINIMA) {
            u.minima = FROM::load1(from + MINIMA + lane * 4);
        }
    }
    struct shared_scales {
        uint32_t words[4], minima[4];
    };
    static __device__ __forceinline__ struct shared_scales scales_of(const unit &u)
    {
        struct shared_scales scales;
        row_words(u.scales, scales.words);
        row_words(HAS_MINIMA ? u.minima : 0, scales.minima);
        return scales;
    }
    template <uint32_t BIAS = PACK_BIAS>
    static __device__ __forceinline__ void codes(const unit &u, int m, uint32_t (&a)[4])
    {
        codes_of_nibbles<BIAS>(word_of(u.codes, m), a);
        if (HAS_FIFTH) {
            add_fifth(u.fifth[m / 4], m, a);
        }
    }
    static __device__ __forceinline__ struct pack_terms terms(const struct shared_scales &scales,
                                                              int m)
    {
        const float upper = half_of_word(scales.words[m / 2], 0);
        const float lower = half_of_word(scales.words[m / 2], 1) * 0.0625f;
        const struct pack_terms terms = {
            upper, fmaf(float_of_f16(UPPER), upper, half_of_word(scales.minima[m / 2], 0)), lower,
            fmaf(float_of_f16(LOWER), lower, half_of_word(scales.minima[m / 2], 1))};
        return terms;
    }
    template <int TILES, class LOAD>
    static __device__ __forceinline__ void multiply(const unit &u, LOAD &&load_x,
                                                    float (&total)[TILES][4])
    {
        const struct shared_scales scales = scales_of(u);
#pragma unroll
        for (int s = 0; s < 4; s++) {
            uint32_t x[2][TILES][2];
            load_x(2 * s, x[0]);
            load_x(2 * s + 1, x[1]);
            float c[TILES][4] = {};
            take_offset<TILES>(c, UPPER, LOWER, x[0]);
            take_offset<TILES>(c, UPPER, LOWER, x[1]);
            if (HAS_MINIMA) { /* c is -1024 times the sum of x */
                add_scaled<TILES>(total, half_of_word(scales.minima[s], 0) * -0x1p-10f,
                                  half_of_word(scales.minima[s], 1) * -0x1p-10f, c);
            }
#pragma unroll
            for (int j = 0; j < 2; j++) {
                uint32_t a[4];
                codes<PACK_BIAS>(u, 2 * s + j, a);
                take_codes<TILES>(c, a, x[j]);
            }
            add_scaled<TILES>(total, half_of_word(scales.words[s], 0),
                              half_of_word(scales.words[s], 1) * 0.0625f, c);
        }
    }
    static __device__ __forceinline__ float code(const uint8_t *unit, struct pack_place at)
    {
        uint32_t q = packed_nibble(unit, at);
        if (HAS_FIFTH) {
            q |= packed_bit(unit + FIFTH + at.lane * 8, at) << 4;
        }
        return (float)((int)q - (HAS_MINIMA ? 0 : 16));
    }
    static __device__ __forceinline__ float scale(const uint8_t *unit, const uint8_t *ends,
                                                  uint32_t row, uint32_t m)
    {
        return half_of_word(*(const uint32_t *)(unit + SCALES + scale_word(row, m / 2)), row / 8);
    }
    static __device__ __forceinline__ float minimum(const uint8_t *unit, const uint8_t *ends,
                                                    uint32_t row, uint32_t m)
    {
        return HAS_MINIMA
                   ? -half_of_word(*(const uint32_t *)(unit + MINIMA + scale_word(row, m / 2)),
                                   row / 8)
                   : 0.0f;
    }
};
typedef packed_32<false, true> packed_q4_1;
typedef packed_32<true, false> packed_q5_0;
typedef packed_32<true, true> packed_q5_1;

/* mxfp4: w = 2^(e - 127) times a float of four bits. These become halves by masks alone, 2^-14 of
 * their value: the bits of a code, sign and the three others, lie where a shift of the word brings
 * them to bits 15 and 11 … 9 of each half. A record: codes [2][lane][4 words]; e, a byte for 32
 * columns, [16 rows][4]. 4.25 bits a weight. */
struct packed_mxfp4 {
    static constexpr int SCALES = 1024, UNIT = 1088, END_BYTES = 0, UNITS = 1, RECORD = UNIT;
    /* Of a code of A register r: how far its sign, and the rest, are below their places. */
    static __device__ __forceinline__ uint32_t sign_shift(uint32_t r)
    {
        return 0x2130u >> 4 * r & 0xf;
    }
    static __device__ __forceinline__ uint32_t size_shift(uint32_t r)
    {
        return 3 * r;
    }
    struct unit {
        word4 codes[2];
        uint32_t scales;
    };
    template <class FROM>
    static __device__ __forceinline__ void load(unit &u, const uint8_t *from, const uint8_t *ends,
                                                uint32_t lane)
    {
        u.codes[0] = FROM::load4(from + lane * 16);
        u.codes[1] = FROM::load4(from + 512 + lane * 16);
        u.scales = FROM::load1(from + SCALES + lane % 16 * 4);
    }
    struct shared_scales {
        uint32_t upper, lower;
    };
    static __device__ __forceinline__ struct shared_scales scales_of(const unit &u)
    {
        const uint32_t g = threadIdx.x % 32 / 4;
        const struct shared_scales scales = {warp_shuffle(u.scales, g),
                                             warp_shuffle(u.scales, g + 8)};
        return scales;
    }
    template <uint32_t BIAS = PACK_BIAS>
    static __device__ __forceinline__ void codes(const unit &u, int m, uint32_t (&a)[4])
    {
        const uint32_t word = word_of(u.codes, m);
        a[0] = word & 0x8e008e00u;
        a[1] = word << 3 & 0x8e008e00u;
        a[2] = and_or(word << 1, 0x80008000u, word << 6 & 0x0e000e00u);
        a[3] = and_or(word << 2, 0x80008000u, word << 9 & 0x0e000e00u);
    }
    /* 2^(e - 127 + 14); beyond what a float holds no weight is. */
    static __device__ __forceinline__ float factor(uint32_t word, uint32_t index)
    {
        const uint32_t e = (word >> 8 * index & 0xff) + 14;
        return float_of_bits((e < 254 ? e : 254u) << 23);
    }
    static __device__ __forceinline__ struct pack_terms terms(const struct shared_scales &scales,
                                                              int m)
    {
        const struct pack_terms terms = {factor(scales.upper, m / 2), 0.0f,
                                         factor(scales.lower, m / 2), 0.0f};
        return terms;
    }
    template <int TILES, class LOAD>
    static __device__ __forceinline__ void multiply(const unit &u, LOAD &&load_x,
                                                    float (&total)[TILES][4])
    {
        const struct shared_scales scales = scales_of(u);
#pragma unroll
        for (int s = 0; s < 4; s++) {
            float c[TILES][4] = {};
#pragma unroll
            for (int j = 0; j < 2; j++) {
                uint32_t x[TILES][2], a[4];
                load_x(2 * s + j, x);
                codes<PACK_BIAS>(u, 2 * s + j, a);
                take_codes<TILES>(c, a, x);
            }
            add_scaled<TILES>(total, factor(scales.upper, s), factor(scales.lower, s), c);
        }
    }
    static __device__ __forceinline__ float code(const uint8_t *unit, struct pack_place at)
    {
        const uint32_t word =
            word_at(unit + at.m / 4 * 512 + at.lane * 16, at.m % 4) >> 16 * (at.i % 2);
        const uint32_t r = 2 * (at.i / 2) + at.is_lower;
        const uint32_t half = (word << sign_shift(r) & 0x8000u) | (word << size_shift(r) & 0x0e00u);
        return float_of_f16((uint16_t)half) * 0x1p14f;
    }
    static __device__ __forceinline__ float scale(const uint8_t *unit, const uint8_t *ends,
                                                  uint32_t row, uint32_t m)
    {
        return factor(word_at(unit + SCALES, row), m / 2) * 0x1p-14f;
    }
    static __device__ __forceinline__ float minimum(const uint8_t *, const uint8_t *, uint32_t,
                                                    uint32_t)
    {
        return 0.0f;
    }
};

/* --- formats of 256 columns ----------------------------------------------------------------------
 */

/* q4_k and q5_k: w = (d s) q - (dmin m), s and m a byte for 32 columns. A record of two units:
 * codes [2][2][lane][4 words]; of q5_k the fifth bits [2][lane][2 words], those of four mma a word;
 * for each unit and row a word of s and a word of m; for each row d and dmin. */
template <bool HAS_FIFTH> struct packed_k4 {
    static constexpr int FIFTH = 1024;
    static constexpr int SCALES = FIFTH + (HAS_FIFTH ? 256 : 0);
    static constexpr int UNIT = SCALES + 128, END_BYTES = 64, UNITS = 2;
    static constexpr int RECORD = 2 * UNIT + END_BYTES;
    static constexpr int UPPER = 0xe400, LOWER = 0xe400; /* -1024 */
    struct unit {
        word4 codes[2];
        uint32_t fifth[2];
        uint32_t scales, ends;
    };
    template <class FROM>
    static __device__ __forceinline__ void load(unit &u, const uint8_t *from, const uint8_t *ends,
                                                uint32_t lane)
    {
        u.codes[0] = FROM::load4(from + lane * 16);
        u.codes[1] = FROM::load4(from + 512 + lane * 16);
        if (HAS_FIFTH) {
            u.fifth[0] = FROM::load1(from + FIFTH + lane * 8);
            u.fifth[1] = FROM::load1(from + FIFTH + lane * 8 + 4);
        }
        u.scales = FROM::load1(from + SCALES + lane * 4);
        u.ends = FROM::load1(ends + lane % 16 * 4);
    }
    struct shared_scales {
        uint32_t words[4]; /* bytes: s of both rows, m of both */
        uint32_t upper_ends, lower_ends;
    };
    static __device__ __forceinline__ struct shared_scales scales_of(const unit &u)
    {
        const uint32_t g = threadIdx.x % 32 / 4;
        struct shared_scales scales;
        row_words(u.scales, scales.words);
        scales.upper_ends = warp_shuffle(u.ends, g);
        scales.lower_ends = warp_shuffle(u.ends, g + 8);
        return scales;
    }
    template <uint32_t BIAS = PACK_BIAS>
    static __device__ __forceinline__ void codes(const unit &u, int m, uint32_t (&a)[4])
    {
        codes_of_nibbles<BIAS>(word_of(u.codes, m), a);
        if (HAS_FIFTH) {
            add_fifth(u.fifth[m / 4], m, a);
        }
    }
    static __device__ __forceinline__ struct pack_terms terms(const struct shared_scales &scales,
                                                              int m)
    {
        const uint32_t s = m / 2;
        const float upper =
            half_of_word(scales.upper_ends, 0) * float_of_byte(scales.words[s], 0, 0);
        const float lower =
            half_of_word(scales.lower_ends, 0) * float_of_byte(scales.words[s], 1, 0) * 0.0625f;
        const float upper_minimum =
            half_of_word(scales.upper_ends, 1) * float_of_byte(scales.words[s], 2, 0);
        const float lower_minimum =
            half_of_word(scales.lower_ends, 1) * float_of_byte(scales.words[s], 3, 0);
        const struct pack_terms terms = {upper, -1024.0f * upper - upper_minimum, lower,
                                         -1024.0f * lower - lower_minimum};
        return terms;
    }
    template <int TILES, class LOAD>
    static __device__ __forceinline__ void multiply(const unit &u, LOAD &&load_x,
                                                    float (&total)[TILES][4])
    {
        const struct shared_scales scales = scales_of(u);
        float sum[TILES][4] = {}, minima[TILES][4] = {};
#pragma unroll
        for (int s = 0; s < 4; s++) {
            uint32_t x[2][TILES][2];
            load_x(2 * s, x[0]);
            load_x(2 * s + 1, x[1]);
            float c[TILES][4] = {};
            take_offset<TILES>(c, UPPER, LOWER, x[0]);
            take_offset<TILES>(c, UPPER, LOWER, x[1]);
            add_scaled<TILES>(minima, float_of_byte(scales.words[s], 2, 0),
                              float_of_byte(scales.words[s], 3, 0), c);
#pragma unroll
            for (int j = 0; j < 2; j++) {
                uint32_t a[4];
                codes<PACK_BIAS>(u, 2 * s + j, a);
                take_codes<TILES>(c, a, x[j]);
            }
            add_scaled<TILES>(sum, float_of_byte(scales.words[s], 0, 0),
                              float_of_byte(scales.words[s], 1, 0), c);
        }
        add_scaled<TILES>(total, half_of_word(scales.upper_ends, 0),
                          half_of_word(scales.lower_ends, 0) * 0.0625f, sum);
        add_scaled<TILES>(total, half_of_word(scales.upper_ends, 1) * 0x1p-10f,
                          half_of_word(scales.lower_ends, 1) * 0x1p-10f, minima);
    }
    static __device__ __forceinline__ float code(const uint8_t *unit, struct pack_place at)
    {
        uint32_t q = packed_nibble(unit, at);
        if (HAS_FIFTH) {
            q |= packed_bit(unit + FIFTH + at.lane * 8, at) << 4;
        }
        return (float)q;
    }
    static __device__ __forceinline__ float scale(const uint8_t *unit, const uint8_t *ends,
                                                  uint32_t row, uint32_t m)
    {
        return half_of_word(word_at(ends, row), 0) *
               (float)unit[SCALES + scale_word(row, m / 2) + row / 8];
    }
    static __device__ __forceinline__ float minimum(const uint8_t *unit, const uint8_t *ends,
                                                    uint32_t row, uint32_t m)
    {
        return half_of_word(word_at(ends, row), 1) *
               (float)unit[SCALES + scale_word(row, m / 2) + 2 + row / 8];
    }
};
typedef packed_k4<false> packed_q4_k;
typedef packed_k4<true> packed_q5_k;

/* q6_k: w = (d s) (q - 32), s a byte for 16 columns, here s + 128. A record of two units: low codes
 * [2][2][lane][4 words]; high pairs of bits [2][lane][4 words], those of two mma a word; for each
 * unit and row two words of s; d [16 halves]. */
struct packed_q6_k {
    static constexpr int HIGH = 1024, SCALES = 1536, UNIT = 1664, END_BYTES = 32, UNITS = 2;
    static constexpr int RECORD = 2 * UNIT + END_BYTES;
    static constexpr int UPPER = 0xe420, LOWER = 0xe600; /* -1056, -1536 */
    struct unit {
        word4 codes[2];
        word4 high;
        uint32_t scales, ends;
    };
    template <class FROM>
    static __device__ __forceinline__ void load(unit &u, const uint8_t *from, const uint8_t *ends,
                                                uint32_t lane)
    {
        u.codes[0] = FROM::load4(from + lane * 16);
        u.codes[1] = FROM::load4(from + 512 + lane * 16);
        u.high = FROM::load4(from + HIGH + lane * 16);
        u.scales = FROM::load1(from + SCALES + lane * 4);
        u.ends = FROM::load1(ends + lane % 8 * 4);
    }
    struct shared_scales {
        uint32_t words[4]; /* bytes: two of the upper row, two of the lower */
        float upper_end, lower_end;
    };
    static __device__ __forceinline__ struct shared_scales scales_of(const unit &u)
    {
        const uint32_t g = threadIdx.x % 32 / 4;
        struct shared_scales scales;
        row_words(u.scales, scales.words);
        scales.upper_end = half_of_word(warp_shuffle(u.ends, g / 2), g % 2);
        scales.lower_end = half_of_word(warp_shuffle(u.ends, g / 2 + 4), g % 2) * 0.0625f;
        return scales;
    }
    template <uint32_t BIAS = PACK_BIAS>
    static __device__ __forceinline__ void codes(const unit &u, int m, uint32_t (&a)[4])
    {
        const uint32_t left = word_of(&u.high, m / 2) << (4 - m % 2 * 2);
        const uint32_t right = word_of(&u.high, m / 2) >> (4 + m % 2 * 2);
        codes_of_nibbles<BIAS>(word_of(u.codes, m), a);
        a[0] = and_or(left, 0x00300030u, a[0]);
        a[1] = and_or(left, 0x03000300u, a[1]);
        a[2] = and_or(right, 0x00300030u, a[2]);
        a[3] = and_or(right, 0x03000300u, a[3]);
    }
    static __device__ __forceinline__ struct pack_terms terms(const struct shared_scales &scales,
                                                              int m)
    {
        const float upper = scales.upper_end * float_of_byte(scales.words[m / 2], m % 2, 128);
        const float lower = scales.lower_end * float_of_byte(scales.words[m / 2], 2 + m % 2, 128);
        const struct pack_terms terms = {upper, -1056.0f * upper, lower, -1536.0f * lower};
        return terms;
    }
    template <int TILES, class LOAD>
    static __device__ __forceinline__ void multiply(const unit &u, LOAD &&load_x,
                                                    float (&total)[TILES][4])
    {
        const struct shared_scales scales = scales_of(u);
        float sum[TILES][4] = {};
#pragma unroll
        for (int m = 0; m < PACK_STEPS; m++) {
            uint32_t x[TILES][2];
            load_x(m, x);
            float c[TILES][4] = {};
            take_offset<TILES>(c, UPPER, LOWER, x);
            uint32_t a[4];
            codes<PACK_BIAS>(u, m, a);
            take_codes<TILES>(c, a, x);
            add_scaled<TILES>(sum, float_of_byte(scales.words[m / 2], m % 2, 128),
                              float_of_byte(scales.words[m / 2], 2 + m % 2, 128), c);
        }
        add_scaled<TILES>(total, scales.upper_end, scales.lower_end, sum);
    }
    static __device__ __forceinline__ float code(const uint8_t *unit, struct pack_place at)
    {
        const uint32_t high = packed_pair(unit + HIGH + at.lane * 16, at);
        return (float)((int)(packed_nibble(unit, at) | high << 4) - 32);
    }
    static __device__ __forceinline__ float scale(const uint8_t *unit, const uint8_t *ends,
                                                  uint32_t row, uint32_t m)
    {
        return half_of_word(word_at(ends, row / 2), row % 2) *
               (float)((int)unit[SCALES + scale_word(row, m / 2) + row / 8 * 2 + m % 2] - 128);
    }
    static __device__ __forceinline__ float minimum(const uint8_t *, const uint8_t *, uint32_t,
                                                    uint32_t)
    {
        return 0.0f;
    }
};

/* q2_k: w = (d s) q - (dmin m), s and m four bits for 16 columns. A record of two units: codes
 * [2][lane][4 words], those of two mma a word; for each unit and row two words of s and m; for each
 * row d and dmin. */
struct packed_q2_k {
    static constexpr int SCALES = 512, UNIT = 640, END_BYTES = 64, UNITS = 2;
    static constexpr int RECORD = 2 * UNIT + END_BYTES;
    static constexpr int UPPER = 0xe400, LOWER = 0xe400; /* -1024 */
    struct unit {
        word4 codes;
        uint32_t scales, ends;
    };
    template <class FROM>
    static __device__ __forceinline__ void load(unit &u, const uint8_t *from, const uint8_t *ends,
                                                uint32_t lane)
    {
        u.codes = FROM::load4(from + lane * 16);
        u.scales = FROM::load1(from + SCALES + lane * 4);
        u.ends = FROM::load1(ends + lane % 16 * 4);
    }
    struct shared_scales {
        uint32_t words[4]; /* bytes: two of the upper row, two of the lower */
        uint32_t upper_ends, lower_ends;
    };
    static __device__ __forceinline__ struct shared_scales scales_of(const unit &u)
    {
        const uint32_t g = threadIdx.x % 32 / 4;
        struct shared_scales scales;
        row_words(u.scales, scales.words);
        scales.upper_ends = warp_shuffle(u.ends, g);
        scales.lower_ends = warp_shuffle(u.ends, g + 8);
        return scales;
    }
    template <uint32_t BIAS = PACK_BIAS>
    static __device__ __forceinline__ void codes(const unit &u, int m, uint32_t (&a)[4])
    {
        codes_of_pairs<BIAS>(word_of(&u.codes, m / 2), m, a);
    }
    static __device__ __forceinline__ float share(const uint32_t (&words)[4], int m, int is_lower,
                                                  int shift)
    {
        return (float)(words[m / 2] >> (8 * (m % 2 + 2 * is_lower) + shift) & 0xf);
    }
    static __device__ __forceinline__ struct pack_terms terms(const struct shared_scales &scales,
                                                              int m)
    {
        const float upper = half_of_word(scales.upper_ends, 0) * share(scales.words, m, 0, 0);
        const float lower =
            half_of_word(scales.lower_ends, 0) * share(scales.words, m, 1, 0) * 0.0625f;
        const struct pack_terms terms = {
            upper,
            -1024.0f * upper - half_of_word(scales.upper_ends, 1) * share(scales.words, m, 0, 4),
            lower,
            -1024.0f * lower - half_of_word(scales.lower_ends, 1) * share(scales.words, m, 1, 4)};
        return terms;
    }
    template <int TILES, class LOAD>
    static __device__ __forceinline__ void multiply(const unit &u, LOAD &&load_x,
                                                    float (&total)[TILES][4])
    {
        const struct shared_scales scales = scales_of(u);
        float sum[TILES][4] = {}, minima[TILES][4] = {};
#pragma unroll
        for (int m = 0; m < PACK_STEPS; m++) {
            uint32_t x[TILES][2], a[4];
            load_x(m, x);
            float c[TILES][4] = {};
            take_offset<TILES>(c, UPPER, LOWER, x);
            add_scaled<TILES>(minima, share(scales.words, m, 0, 4), share(scales.words, m, 1, 4),
                              c);
            codes<PACK_BIAS>(u, m, a);
            take_codes<TILES>(c, a, x);
            add_scaled<TILES>(sum, share(scales.words, m, 0, 0), share(scales.words, m, 1, 0), c);
        }
        add_scaled<TILES>(total, half_of_word(scales.upper_ends, 0),
                          half_of_word(scales.lower_ends, 0) * 0.0625f, sum);
        add_scaled<TILES>(total, half_of_word(scales.upper_ends, 1) * 0x1p-10f,
                          half_of_word(scales.lower_ends, 1) * 0x1p-10f, minima);
    }
    static __device__ __forceinline__ float code(const uint8_t *unit, struct pack_place at)
    {
        return (float)packed_pair(unit + at.lane * 16, at);
    }
    static __device__ __forceinline__ float scale(const uint8_t *unit, const uint8_t *ends,
                                                  uint32_t row, uint32_t m)
    {
        return half_of_word(word_at(ends, row), 0) *
               (float)(unit[SCALES + scale_word(row, m / 2) + row / 8 * 2 + m % 2] & 0xf);
    }
    static __device__ __forceinline__ float minimum(const uint8_t *unit, const uint8_t *ends,
                                                    uint32_t row, uint32_t m)
    {
        return half_of_word(word_at(ends, row), 1) *
               (float)(unit[SCALES + scale_word(row, m / 2) + row / 8 * 2 + m % 2] >> 4);
    }
};

/* q3_k: w = (d (s - 32)) (q - 4), s six bits for 16 columns, here a byte. A record of two units:
 * low codes [2][lane][4 words], those of two mma a word; third bits [2][lane][2 words], those of
 * four; for each unit and row two words of s; d [16 halves]. */
struct packed_q3_k {
    static constexpr int THIRD = 512, SCALES = 768, UNIT = 896, END_BYTES = 32, UNITS = 2;
    static constexpr int RECORD = 2 * UNIT + END_BYTES;
    static constexpr int UPPER = 0xe404, LOWER = 0xe440; /* -1028, -1088 */
    struct unit {
        word4 codes;
        uint32_t third[2];
        uint32_t scales, ends;
    };
    template <class FROM>
    static __device__ __forceinline__ void load(unit &u, const uint8_t *from, const uint8_t *ends,
                                                uint32_t lane)
    {
        u.codes = FROM::load4(from + lane * 16);
        u.third[0] = FROM::load1(from + THIRD + lane * 8);
        u.third[1] = FROM::load1(from + THIRD + lane * 8 + 4);
        u.scales = FROM::load1(from + SCALES + lane * 4);
        u.ends = FROM::load1(ends + lane % 8 * 4);
    }
    struct shared_scales {
        uint32_t words[4]; /* bytes: two of the upper row, two of the lower */
        float upper_end, lower_end;
    };
    static __device__ __forceinline__ struct shared_scales scales_of(const unit &u)
    {
        const uint32_t g = threadIdx.x % 32 / 4;
        struct shared_scales scales;
        row_words(u.scales, scales.words);
        scales.upper_end = half_of_word(warp_shuffle(u.ends, g / 2), g % 2);
        scales.lower_end = half_of_word(warp_shuffle(u.ends, g / 2 + 4), g % 2) * 0.0625f;
        return scales;
    }
    template <uint32_t BIAS = PACK_BIAS>
    static __device__ __forceinline__ void codes(const unit &u, int m, uint32_t (&a)[4])
    {
        const uint32_t third = u.third[m / 4];
        const uint32_t first = m % 4 <= 2 ? third << (2 - m % 4) : third >> 1;
        codes_of_pairs<BIAS>(word_of(&u.codes, m / 2), m, a);
        a[0] = and_or(first, 0x00040004u, a[0]);
        a[1] = and_or(first, 0x00400040u, a[1]);
        a[2] = and_or(first >> 8, 0x00040004u, a[2]);
        a[3] = and_or(first >> 8, 0x00400040u, a[3]);
    }
    static __device__ __forceinline__ struct pack_terms terms(const struct shared_scales &scales,
                                                              int m)
    {
        const float upper = scales.upper_end * float_of_byte(scales.words[m / 2], m % 2, 32);
        const float lower = scales.lower_end * float_of_byte(scales.words[m / 2], 2 + m % 2, 32);
        const struct pack_terms terms = {upper, -1028.0f * upper, lower, -1088.0f * lower};
        return terms;
    }
    template <int TILES, class LOAD>
    static __device__ __forceinline__ void multiply(const unit &u, LOAD &&load_x,
                                                    float (&total)[TILES][4])
    {
        const struct shared_scales scales = scales_of(u);
        float sum[TILES][4] = {};
#pragma unroll
        for (int m = 0; m < PACK_STEPS; m++) {
            uint32_t x[TILES][2], a[4];
            load_x(m, x);
            float c[TILES][4] = {};
            take_offset<TILES>(c, UPPER, LOWER, x);
            codes<PACK_BIAS>(u, m, a);
            take_codes<TILES>(c, a, x);
            add_scaled<TILES>(sum, float_of_byte(scales.words[m / 2], m % 2, 32),
                              float_of_byte(scales.words[m / 2], 2 + m % 2, 32), c);
        }
        add_scaled<TILES>(total, scales.upper_end, scales.lower_end, sum);
    }
    static __device__ __forceinline__ float code(const uint8_t *unit, struct pack_place at)
    {
        const uint32_t low = packed_pair(unit + at.lane * 16, at);
        const uint32_t third = packed_bit(unit + THIRD + at.lane * 8, at);
        return (float)((int)(low | third << 2) - 4);
    }
    static __device__ __forceinline__ float scale(const uint8_t *unit, const uint8_t *ends,
                                                  uint32_t row, uint32_t m)
    {
        return half_of_word(word_at(ends, row / 2), row % 2) *
               (float)((int)unit[SCALES + scale_word(row, m / 2) + row / 8 * 2 + m % 2] - 32);
    }
    static __device__ __forceinline__ float minimum(const uint8_t *, const uint8_t *, uint32_t,
                                                    uint32_t)
    {
        return 0.0f;
    }
};

/* Eight weights of a row from column k on, k a multiple of 8. */
template <class FORMAT> struct tile_reader {
    static __device__ __forceinline__ void load8(const uint8_t *matrix, uint64_t, uint32_t row,
                                                 uint32_t k, uint32_t columns, float *w)
    {
        const uint32_t records = columns / (PACK_COLUMNS * FORMAT::UNITS); /* of a tile */
        const uint32_t unit = k / PACK_COLUMNS;
        const uint8_t *record =
            matrix + ((uint64_t)(row / 16) * records + unit / FORMAT::UNITS) * FORMAT::RECORD;
        const uint8_t *own = record + unit % FORMAT::UNITS * FORMAT::UNIT;
        const uint8_t *ends = record + FORMAT::UNITS * FORMAT::UNIT;
        const float scale = FORMAT::scale(own, ends, row % 16, k % PACK_COLUMNS / 16);
        const float minimum = FORMAT::minimum(own, ends, row % 16, k % PACK_COLUMNS / 16);
        for (uint32_t i = 0; i < 8; i++) {
            const struct pack_place at = pack_place_of(row % 16, k % PACK_COLUMNS + i);
            w[i] = scale * FORMAT::code(own, at) - minimum;
        }
    }
};
