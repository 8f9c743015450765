/* Owns the knowledge of where a block keeps its bits: one reader a type, from published bytes to
 * `struct quant_step`. The order of float operations is that of the published definitions, so that
 * values are the same to the bit. Any bytes are valid input; scales that are NaN or infinite give
 * such values and nothing else. Stateless: any thread. */
#include "tensor/quant_read.h"

#include "tensor/quant_blocks.h"
#include "tensor/quant_read_book.h"

static void set_scale(struct quant_step *out, float scale)
{
    out->scale[0] = out->scale[1] = scale;
    out->minimum[0] = out->minimum[1] = 0.0f;
}

static void set_scale_minimum(struct quant_step *out, float scale, float minimum)
{
    out->scale[0] = out->scale[1] = scale;
    out->minimum[0] = out->minimum[1] = minimum;
}

/* Codes of a 32-value block of nibbles less an offset. */
static void read_nibbles(const uint8_t nibbles[16], int offset, struct quant_step *out)
{
    for (unsigned i = 0; i < 16; i++) {
        out->codes[i] = (int8_t)((nibbles[i] & 0xf) - offset);
        out->codes[i + 16] = (int8_t)((nibbles[i] >> 4) - offset);
    }
}

static void add_fifth_bits(const uint8_t fifth[4], struct quant_step *out)
{
    for (unsigned i = 0; i < QUANT_STEP; i++) {
        out->codes[i] = (int8_t)(out->codes[i] + 16 * (fifth[i / 8] >> i % 8 & 1));
    }
}

static void read_q4_0(const void *row, uint64_t step, struct quant_step *out)
{
    const struct block_q4_0 *block = (const struct block_q4_0 *)row + step;
    read_nibbles(block->nibbles, 8, out);
    set_scale(out, float_from_f16(block->d));
}

static void read_q4_1(const void *row, uint64_t step, struct quant_step *out)
{
    const struct block_q4_1 *block = (const struct block_q4_1 *)row + step;
    read_nibbles(block->nibbles, 0, out);
    set_scale_minimum(out, float_from_f16(block->d), float_from_f16(block->minimum));
}

static void read_q5_0(const void *row, uint64_t step, struct quant_step *out)
{
    const struct block_q5_0 *block = (const struct block_q5_0 *)row + step;
    read_nibbles(block->nibbles, 16, out);
    add_fifth_bits(block->fifth, out);
    set_scale(out, float_from_f16(block->d));
}

static void read_q5_1(const void *row, uint64_t step, struct quant_step *out)
{
    const struct block_q5_1 *block = (const struct block_q5_1 *)row + step;
    read_nibbles(block->nibbles, 0, out);
    add_fifth_bits(block->fifth, out);
    set_scale_minimum(out, float_from_f16(block->d), float_from_f16(block->minimum));
}

static void read_q8_0(const void *row, uint64_t step, struct quant_step *out)
{
    const struct block_q8_0 *block = (const struct block_q8_0 *)row + step;
    memcpy(out->codes, block->values, sizeof out->codes);
    set_scale(out, float_from_f16(block->d));
}

/* Two-bit fields of sub-block `part` (0…7) of a super-block. */
static void read_pairs(const uint8_t pairs[64], unsigned part, struct quant_step *out)
{
    const uint8_t *bytes = pairs + part / 4 * 32;
    unsigned shift = part % 4 * 2;
    for (unsigned i = 0; i < QUANT_STEP; i++) {
        out->codes[i] = (int8_t)(bytes[i] >> shift & 3);
    }
}

static void read_q2_k(const void *row, uint64_t step, struct quant_step *out)
{
    const struct block_q2_k *block = (const struct block_q2_k *)row + step / 8;
    unsigned part = (unsigned)(step % 8);
    read_pairs(block->pairs, part, out);
    float d = float_from_f16(block->d);
    float dmin = float_from_f16(block->dmin);
    for (unsigned half = 0; half < 2; half++) {
        uint8_t packed = block->scales[2 * part + half];
        out->scale[half] = d * (float)(packed & 0xf);
        out->minimum[half] = -(dmin * (float)(packed >> 4));
    }
}

/* Bytes 0…7 hold the low nibbles of scales 0…7 (low halves) and 8…15 (high halves); bytes 8…11
 * hold the upper two bits, four scales a byte, strided by four. */
uint8_t quant_scale_k3(const uint8_t scales[12], unsigned index)
{
    unsigned low = scales[index % 8] >> index / 8 * 4 & 0xf;
    unsigned high = scales[8 + index % 4] >> index / 4 * 2 & 3;
    return (uint8_t)(low | high << 4);
}

static void read_q3_k(const void *row, uint64_t step, struct quant_step *out)
{
    const struct block_q3_k *block = (const struct block_q3_k *)row + step / 8;
    unsigned part = (unsigned)(step % 8);
    read_pairs(block->pairs, part, out);
    for (unsigned i = 0; i < QUANT_STEP; i++) {
        /* The third bit counts 4, and 4 is taken off: −4 when it is clear. */
        out->codes[i] = (int8_t)(out->codes[i] - (block->third[i] >> part & 1 ? 0 : 4));
    }
    float d = float_from_f16(block->d);
    for (unsigned half = 0; half < 2; half++) {
        int scale = quant_scale_k3(block->scales, 2 * part + half) - 32;
        out->scale[half] = d * (float)scale;
        out->minimum[half] = 0.0f;
    }
}

/* Bytes 0…3: scales 0…3 in the low six bits; bytes 4…7: minima 0…3. Bytes 8…11: scales 4…7 in the
 * low nibble and minima 4…7 in the high one; their upper two bits are in the top of bytes 0…7. */
void quant_scale_min_k4(const uint8_t scales[12], unsigned index, uint8_t *scale, uint8_t *minimum)
{
    if (index < 4) {
        *scale = scales[index] & 63;
        *minimum = scales[index + 4] & 63;
    } else {
        unsigned both = scales[index + 4];
        *scale = (uint8_t)((both & 0xf) | (unsigned)scales[index - 4] >> 6 << 4);
        *minimum = (uint8_t)(both >> 4 | (unsigned)scales[index] >> 6 << 4);
    }
}

/* What q4_k and q5_k have in common. */
static void read_k45(uint16_t d, uint16_t dmin, const uint8_t scales[12], const uint8_t *nibbles,
                     unsigned part, struct quant_step *out)
{
    uint8_t scale;
    uint8_t minimum;
    quant_scale_min_k4(scales, part, &scale, &minimum);
    set_scale_minimum(out, float_from_f16(d) * (float)scale,
                      -(float_from_f16(dmin) * (float)minimum));
    const uint8_t *bytes = nibbles + part / 2 * 32;
    unsigned shift = part % 2 * 4;
    for (unsigned i = 0; i < QUANT_STEP; i++) {
        out->codes[i] = (int8_t)(bytes[i] >> shift & 0xf);
    }
}

static void read_q4_k(const void *row, uint64_t step, struct quant_step *out)
{
    const struct block_q4_k *block = (const struct block_q4_k *)row + step / 8;
    read_k45(block->d, block->dmin, block->scales, block->nibbles, (unsigned)(step % 8), out);
}

static void read_q5_k(const void *row, uint64_t step, struct quant_step *out)
{
    const struct block_q5_k *block = (const struct block_q5_k *)row + step / 8;
    unsigned part = (unsigned)(step % 8);
    read_k45(block->d, block->dmin, block->scales, block->nibbles, part, out);
    for (unsigned i = 0; i < QUANT_STEP; i++) {
        out->codes[i] = (int8_t)(out->codes[i] + 16 * (block->fifth[i] >> part & 1));
    }
}

static void read_q6_k(const void *row, uint64_t step, struct quant_step *out)
{
    const struct block_q6_k *block = (const struct block_q6_k *)row + step / 8;
    unsigned part = (unsigned)(step % 8);
    read_pairs(block->pairs, part, out);
    const uint8_t *bytes = block->nibbles + part / 4 * 64 + part % 2 * 32;
    unsigned shift = part % 4 / 2 * 4;
    for (unsigned i = 0; i < QUANT_STEP; i++) {
        out->codes[i] = (int8_t)((out->codes[i] << 4 | (bytes[i] >> shift & 0xf)) - 32);
    }
    float d = float_from_f16(block->d);
    for (unsigned half = 0; half < 2; half++) {
        out->scale[half] = d * (float)block->scales[2 * part + half];
        out->minimum[half] = 0.0f;
    }
}

static const struct {
    quant_read_function *read;
    bool has_minimum;
} readers[DTYPE_COUNT] = {
    [DTYPE_Q4_0] = {read_q4_0, false},
    [DTYPE_Q4_1] = {read_q4_1, true},
    [DTYPE_Q5_0] = {read_q5_0, false},
    [DTYPE_Q5_1] = {read_q5_1, true},
    [DTYPE_Q8_0] = {read_q8_0, false},
    [DTYPE_Q2_K] = {read_q2_k, true},
    [DTYPE_Q3_K] = {read_q3_k, false},
    [DTYPE_Q4_K] = {read_q4_k, true},
    [DTYPE_Q5_K] = {read_q5_k, true},
    [DTYPE_Q6_K] = {read_q6_k, false},
    [DTYPE_IQ4_NL] = {quant_read_iq4_nl, false},
    [DTYPE_IQ4_XS] = {quant_read_iq4_xs, false},
    [DTYPE_MXFP4] = {quant_read_mxfp4, false},
    [DTYPE_TQ1_0] = {quant_read_tq1_0, false},
    [DTYPE_TQ2_0] = {quant_read_tq2_0, false},
    [DTYPE_IQ3_S] = {quant_read_iq3_s, false},
    [DTYPE_IQ3_XXS] = {quant_read_iq3_xxs, false},
    [DTYPE_IQ2_S] = {quant_read_iq2_s, false},
    [DTYPE_IQ2_XS] = {quant_read_iq2_xs, false},
    [DTYPE_IQ2_XXS] = {quant_read_iq2_xxs, false},
    [DTYPE_IQ1_M] = {quant_read_iq1_m, false},
    [DTYPE_IQ1_S] = {quant_read_iq1_s, false},
};

quant_read_function *quant_reader(enum dtype dtype)
{
    return readers[dtype].read;
}

bool quant_has_minimum(enum dtype dtype)
{
    return readers[dtype].has_minimum;
}
