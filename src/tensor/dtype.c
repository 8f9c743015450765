/* Owns the table of data types and the scalar conversions of the 16-bit floats. Knows the published
 * numbers of GGUF types, also of those that this build does not support, so that a refusal can name
 * them. Stateless: any thread. */
#include "tensor/dtype.h"

#include <assert.h>

#include "base/checked.h"

static const struct dtype_info dtype_rows[DTYPE_COUNT] = {
#define DTYPE_ROW(name, id, elements, bytes, text) [DTYPE_##name] = {text, id, elements, bytes},
    DTYPE_LIST(DTYPE_ROW)
#undef DTYPE_ROW
};

/* Every id that the GGUF specification or its reference implementation has ever given out; 4, 5,
 * 31–33 and 36–38 were withdrawn. */
static const char *const gguf_names[] = {
    [0] = "f32",     [1] = "f16",         [2] = "q4_0",        [3] = "q4_1",        [4] = "q4_2",
    [5] = "q4_3",    [6] = "q5_0",        [7] = "q5_1",        [8] = "q8_0",        [9] = "q8_1",
    [10] = "q2_k",   [11] = "q3_k",       [12] = "q4_k",       [13] = "q5_k",       [14] = "q6_k",
    [15] = "q8_k",   [16] = "iq2_xxs",    [17] = "iq2_xs",     [18] = "iq3_xxs",    [19] = "iq1_s",
    [20] = "iq4_nl", [21] = "iq3_s",      [22] = "iq2_s",      [23] = "iq4_xs",     [24] = "i8",
    [25] = "i16",    [26] = "i32",        [27] = "i64",        [28] = "f64",        [29] = "iq1_m",
    [30] = "bf16",   [31] = "q4_0_4_4",   [32] = "q4_0_4_8",   [33] = "q4_0_8_8",   [34] = "tq1_0",
    [35] = "tq2_0",  [36] = "iq4_nl_4_4", [37] = "iq4_nl_4_8", [38] = "iq4_nl_8_8", [39] = "mxfp4",
    [40] = "nvfp4",  [41] = "q1_0",
};

const struct dtype_info *dtype_info(enum dtype dtype)
{
    assert((unsigned)dtype < DTYPE_COUNT);
    return &dtype_rows[dtype];
}

bool dtype_from_gguf(uint32_t gguf_id, enum dtype *dtype)
{
    for (int i = 0; i < DTYPE_COUNT; i++) {
        if (dtype_rows[i].gguf_id == gguf_id && gguf_id != DTYPE_NO_GGUF) {
            *dtype = (enum dtype)i;
            return true;
        }
    }
    return false;
}

const char *dtype_gguf_name(uint32_t gguf_id)
{
    return gguf_id < sizeof gguf_names / sizeof gguf_names[0] ? gguf_names[gguf_id] : NULL;
}

bool dtype_row_bytes(enum dtype dtype, uint64_t elements, uint64_t *bytes)
{
    const struct dtype_info *info = dtype_info(dtype);
    return elements % info->block_elements == 0 &&
           checked_mul_u64(elements / info->block_elements, info->block_bytes, bytes);
}

static float float_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_from_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* NaNs become quiet and keep the top of their payload, as the conversion instructions of x86 and
 * ARM do it, so that scalar and vector code agree to the bit. */
float float_from_f16(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000u) << 16;
    uint32_t exponent = bits >> 10 & 0x1fu;
    uint32_t mantissa = bits & 0x3ffu;
    if (exponent == 0x1f) {
        uint32_t quiet = mantissa ? 0x400000u : 0;
        return float_from_bits(sign | 0x7f800000u | quiet | mantissa << 13);
    }
    if (exponent == 0) {
        /* Zero or subnormal: mantissa * 2^-24 is exact in a float. */
        float magnitude = (float)mantissa * 0x1p-24f;
        return float_from_bits(sign | bits_from_float(magnitude));
    }
    return float_from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

float float_from_bf16(uint16_t bits)
{
    return float_from_bits((uint32_t)bits << 16);
}

/* Moved into the exponent and mantissa of a half, the value is 2^-8 of what it is here. */
float float_from_e4m3(uint8_t bits)
{
    if ((bits & 0x7fu) == 0x7fu) {
        return float_from_bits((uint32_t)(bits & 0x80u) << 24 | 0x7fc00000u);
    }
    return float_from_f16((uint16_t)((bits & 0x80u) << 8 | (bits & 0x7fu) << 7)) * 256.0f;
}

uint8_t float_to_e4m3(float value)
{
    uint32_t bits = bits_from_float(value);
    uint8_t sign = (uint8_t)(bits >> 24 & 0x80u);
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {
        return sign | 0x7fu;
    }
    if (magnitude >= 0x43e80000u) { /* 464 lies half-way between 448 and what would be 480 */
        return sign | 0x7eu;
    }
    if (magnitude < 0x3c800000u) { /* below 2^-6: count in units of 2^-9 by the adder's rounding */
        return sign | (uint8_t)(bits_from_float(float_from_bits(magnitude) + 0x1p14f) & 0xfu);
    }
    return sign | (uint8_t)((magnitude - 0x3c000000u + 0x7ffffu + (magnitude >> 20 & 1u)) >> 20);
}

uint16_t float_to_f16(float value)
{
    uint32_t bits = bits_from_float(value);
    uint32_t sign = bits >> 16 & 0x8000u;
    uint32_t magnitude = bits & 0x7fffffffu;
    uint32_t result;
    if (magnitude > 0x7f800000u) {
        result = 0x7e00u | (magnitude >> 13 & 0x3ffu);
    } else if (magnitude >= 0x477ff000u) {
        /* 65520 lies half-way between the largest finite value and 65536, and ties to infinity. */
        result = 0x7c00u;
    } else if (magnitude >= 0x38800000u) {
        /* A carry out of the mantissa goes into the exponent, as it should. */
        result = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
    } else if (magnitude < 0x33000000u) {
        result = 0; /* below half of the smallest subnormal */
    } else {
        uint32_t shift = 126u - (magnitude >> 23);
        uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
        uint32_t rest = mantissa & ((1u << shift) - 1);
        uint32_t half = 1u << (shift - 1);
        result = mantissa >> shift;
        result += rest > half || (rest == half && (result & 1u));
    }
    return (uint16_t)(sign | result);
}

uint16_t float_to_bf16(float value)
{
    uint32_t bits = bits_from_float(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)(bits >> 16 | 0x40u);
    }
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
