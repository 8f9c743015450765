/* Reads weights as GGUF publishes them, eight columns at a time: tensor/quant_blocks.h and
 * quant_read.c in the words of kernels. Rows lie at even addresses, since every block but that of
 * mxfp4 has an even number of bytes; columns come in whole blocks, of the plain types in any number.
 *
 * load8(row, k, columns, w): w[i] = weight of column k + i, zero from `columns` on; k is a multiple
 * of 8. */

__device__ __forceinline__ float half_at(const uint8_t *from)
{
    return float_of_f16(*(const uint16_t *)from);
}

struct format_f32 {
    static __device__ __forceinline__ void load8(const uint8_t *row, uint32_t k, uint32_t columns,
                                                 float *w)
    {
        for (uint32_t i = 0; i < 8; i++) {
            w[i] = k + i < columns ? ((const float *)row)[k + i] : 0.0f;
        }
    }
};

struct format_f16 {
    static __device__ __forceinline__ void load8(const uint8_t *row, uint32_t k, uint32_t columns,
                                                 float *w)
    {
        for (uint32_t i = 0; i < 8; i++) {
            w[i] = k + i < columns ? float_of_f16(((const uint16_t *)row)[k + i]) : 0.0f;
        }
    }
};

struct format_bf16 {
    static __device__ __forceinline__ void load8(const uint8_t *row, uint32_t k, uint32_t columns,
                                                 float *w)
    {
        for (uint32_t i = 0; i < 8; i++) {
            w[i] = k + i < columns ? float_of_bf16(((const uint16_t *)row)[k + i]) : 0.0f;
        }
    }
};

/* Byte i of a block of 32 nibbles holds values i and i + 16. */
__device__ __forceinline__ int nibble_of(const uint8_t *nibbles, uint32_t index)
{
    return nibbles[index % 16] >> (index / 16 * 4) & 0xf;
}

struct format_q4_0 {
    static __device__ __forceinline__ void load8(const uint8_t *row, uint32_t k, uint32_t,
                                                 float *w)
    {
        const uint8_t *block = row + k / 32 * 18;
        const float scale = half_at(block);
        for (uint32_t i = 0; i < 8; i++) {
            w[i] = scale * (float)(nibble_of(block + 2, k % 32 + i) - 8);
        }
    }
};

struct format_q4_1 {
    static __device__ __forceinline__ void load8(const uint8_t *row, uint32_t k, uint32_t,
                                                 float *w)
    {
        const uint8_t *block = row + k / 32 * 20;
        const float scale = half_at(block), minimum = half_at(block + 2);
        for (uint32_t i = 0; i < 8; i++) {
            w[i] = scale * (float)nibble_of(block + 4, k % 32 + i) + minimum;
        }
    }
};

struct format_q5_0 {
    static __device__ __forceinline__ void load8(const uint8_t *row, uint32_t k, uint32_t,
                                                 float *w)
    {
        const uint8_t *block = row + k / 32 * 22;
        const float scale = half_at(block);
        for (uint32_t i = 0; i < 8; i++) {
            const uint32_t at = k % 32 + i;
            const int fifth = block[2 + at / 8] >> at % 8 & 1;
            w[i] = scale * (float)(nibble_of(block + 6, at) + 16 * fifth - 16);
        }
    }
};

struct format_q5_1 {
    static __device__ __forceinline__ void load8(const uint8_t *row, uint32_t k, uint32_t,
                                                 float *w)
    {
        const uint8_t *block = row + k / 32 * 24;
        const float scale = half_at(block), minimum = half_at(block + 2);
        for (uint32_t i = 0; i < 8; i++) {
            const uint32_t at = k % 32 + i;
            const int fifth = block[4 + at / 8] >> at % 8 & 1;
            w[i] = scale * (float)(nibble_of(block + 8, at) + 16 * fifth) + minimum;
        }
    }
};

struct format_q8_0 {
    static __device__ __forceinline__ void load8(const uint8_t *row, uint32_t k, uint32_t,
                                                 float *w)
    {
        const uint8_t *block = row + k / 32 * 34;
        const float scale = half_at(block);
        for (uint32_t i = 0; i < 8; i++) {
            w[i] = scale * (float)(int8_t)block[2 + k % 32 + i];
        }
    }
};

/* 2^(e − 128), the scale of doubled values. */
__device__ __forceinline__ float mxfp4_scale(uint32_t e)
{
    return float_of_bf16((uint16_t)(e < 2 ? 0x20u << e : (e - 1) << 7));
}

/* Blocks have an odd number of bytes and lie anywhere. */
struct format_mxfp4 {
    static __device__ __forceinline__ void load8(const uint8_t *row, uint32_t k, uint32_t,
                                                 float *w)
    {
        const uint8_t *block = row + k / 32 * 17;
        const float scale = mxfp4_scale(block[0]);
        for (uint32_t i = 0; i < 8; i++) {
            const int code = nibble_of(block + 1, k % 32 + i);
            const int size = code & 7;
            const int doubled = size < 2 ? size : (2 + (size & 1)) << (size >> 1) >> 1;
            w[i] = scale * (float)(code & 8 ? -doubled : doubled);
        }
    }
};

/* As the bits of a half, e4m3 is 2^-8 of its value. NaN, which no weight is, counts as 480. */
__device__ __forceinline__ float float_of_e4m3(uint32_t bits)
{
    return float_of_f16((uint16_t)((bits & 0x80) << 8 | (bits & 0x7F) << 7)) * 256.0f;
}

/* A float32 scale and 128 values of e4m3; rows lie at multiples of four bytes. */
struct format_f8_block {
    static __device__ __forceinline__ void load8(const uint8_t *row, uint32_t k, uint32_t,
                                                 float *w)
    {
        const uint8_t *block = row + k / 128 * 132;
        const float scale = *(const float *)block;
        for (uint32_t i = 0; i < 8; i++) {
            w[i] = scale * float_of_e4m3(block[4 + k % 128 + i]);
        }
    }
};

/* Two-bit field of value `at` of a super-block. */
__device__ __forceinline__ int pair_of(const uint8_t *pairs, uint32_t at)
{
    return pairs[at / 128 * 32 + at % 32] >> (at % 128 / 32 * 2) & 3;
}

struct format_q2_k {
    static __device__ __forceinline__ void load8(const uint8_t *row, uint32_t k, uint32_t,
                                                 float *w)
    {
        const uint8_t *block = row + k / 256 * 84;
        const uint32_t at = k % 256;
        const uint32_t packed = block[at / 16];
        const float scale = half_at(block + 80) * (float)(packed & 0xf);
        const float minimum = half_at(block + 82) * (float)(packed >> 4);
        for (uint32_t i = 0; i < 8; i++) {
            w[i] = scale * (float)pair_of(block + 16, at + i) - minimum;
        }
    }
};

/* The 6-bit scale of 16 columns, which counts from 32. */
__device__ __forceinline__ uint32_t scale_q3_k_code(const uint8_t *block, uint32_t sub)
{
    const uint8_t *scales = block + 96;
    const uint32_t low = scales[sub % 8] >> (sub / 8 * 4) & 0xf;
    const uint32_t high = scales[8 + sub % 4] >> (sub / 4 * 2) & 3;
    return low | high << 4;
}

struct format_q3_k {
    static __device__ __forceinline__ void load8(const uint8_t *row, uint32_t k, uint32_t,
                                                 float *w)
    {
        const uint8_t *block = row + k / 256 * 110;
        const uint32_t at = k % 256;
        const float scale =
            half_at(block + 108) * (float)((int)scale_q3_k_code(block, at / 16) - 32);
        for (uint32_t i = 0; i < 8; i++) {
            const int third = block[at % 32 + i] >> at / 32 & 1;
            w[i] = scale * (float)(pair_of(block + 32, at + i) - (third ? 0 : 4));
        }
    }
};

/* The 6-bit scale and minimum of sub-block `sub` of q4_k and q5_k. */
__device__ __forceinline__ void scale_min_k4_codes(const uint8_t *block, uint32_t sub,
                                                   uint32_t *scale, uint32_t *minimum)
{
    const uint8_t *scales = block + 4;
    if (sub < 4) {
        *scale = scales[sub] & 63u;
        *minimum = scales[sub + 4] & 63u;
    } else {
        const uint32_t both = scales[sub + 4];
        *scale = (both & 0xf) | (uint32_t)scales[sub - 4] >> 6 << 4;
        *minimum = both >> 4 | (uint32_t)scales[sub] >> 6 << 4;
    }
}

/* The same times d and dmin. */
__device__ __forceinline__ void scale_min_k4(const uint8_t *block, uint32_t sub, float *scale,
                                             float *minimum)
{
    uint32_t s, m;
    scale_min_k4_codes(block, sub, &s, &m);
    *scale = half_at(block) * (float)s;
    *minimum = half_at(block + 2) * (float)m;
}

struct format_q4_k {
    static __device__ __forceinline__ void load8(const uint8_t *row, uint32_t k, uint32_t,
                                                 float *w)
    {
        const uint8_t *block = row + k / 256 * 144;
        const uint32_t at = k % 256;
        const uint8_t *nibbles = block + 16 + at / 64 * 32 + at % 32;
        float scale, minimum;
        scale_min_k4(block, at / 32, &scale, &minimum);
        for (uint32_t i = 0; i < 8; i++) {
            w[i] = scale * (float)(nibbles[i] >> (at / 32 % 2 * 4) & 0xf) - minimum;
        }
    }
};

struct format_q5_k {
    static __device__ __forceinline__ void load8(const uint8_t *row, uint32_t k, uint32_t,
                                                 float *w)
    {
        const uint8_t *block = row + k / 256 * 176;
        const uint32_t at = k % 256;
        const uint8_t *nibbles = block + 48 + at / 64 * 32 + at % 32;
        float scale, minimum;
        scale_min_k4(block, at / 32, &scale, &minimum);
        for (uint32_t i = 0; i < 8; i++) {
            const int fifth = block[16 + at % 32 + i] >> at / 32 & 1;
            const int code = (nibbles[i] >> (at / 32 % 2 * 4) & 0xf) + 16 * fifth;
            w[i] = scale * (float)code - minimum;
        }
    }
};

struct format_q6_k {
    static __device__ __forceinline__ void load8(const uint8_t *row, uint32_t k, uint32_t,
                                                 float *w)
    {
        const uint8_t *block = row + k / 256 * 210;
        const uint32_t at = k % 256;
        const uint8_t *nibbles = block + at / 128 * 64 + at / 32 % 2 * 32 + at % 32;
        const float scale = half_at(block + 208) * (float)(int8_t)block[192 + at / 16];
        for (uint32_t i = 0; i < 8; i++) {
            const int low = nibbles[i] >> (at / 64 % 2 * 4) & 0xf;
            w[i] = scale * (float)((pair_of(block + 128, at + i) << 4 | low) - 32);
        }
    }
};

/* Eight weights of a row of a matrix whose rows lie one after another. */
template <class FORMAT> struct row_reader {
    static __device__ __forceinline__ void load8(const uint8_t *matrix, uint64_t row_bytes,
                                                 uint32_t row, uint32_t k, uint32_t columns,
                                                 float *w)
    {
        FORMAT::load8(matrix + row * row_bytes, k, columns, w);
    }
};
