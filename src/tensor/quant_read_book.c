/* Owns the blocks whose codes go through a table of sixteen values, are digits of base three, or
 * name entries of a code book. Values are those of the published definitions to the bit: where they
 * add a half or an eighth to a small integer, codes and scales here are scaled by powers of two
 * instead, which is exact. Stateless: any thread. */
#include "tensor/quant_read_book.h"

#include "tensor/quant_blocks.h"
#include "tensor/quant_books.h"

const int8_t quant_values_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};
const int8_t quant_values_mxfp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static const int8_t values_iq2[4] = {8, 25, 43, 0};
static const int8_t values_iq3_xxs[8] = {4, 12, 20, 28, 36, 44, 52, 62};

static uint32_t load_u32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

static unsigned load_u16(const uint8_t *bytes)
{
    return bytes[0] | (unsigned)bytes[1] << 8;
}

static void set_scale(struct quant_step *out, float scale)
{
    out->scale[0] = out->scale[1] = scale;
    out->minimum[0] = out->minimum[1] = 0.0f;
}

static void read_table(const int8_t values[16], const uint8_t nibbles[16], struct quant_step *out)
{
    for (unsigned i = 0; i < 16; i++) {
        out->codes[i] = values[nibbles[i] & 0xf];
        out->codes[i + 16] = values[nibbles[i] >> 4];
    }
}

/* --- small scales --------------------------------------------------------------------------- */

/* Four values of four bits each make up the scale of iq1_m. */
static uint16_t d_iq1_m(const uint8_t scales[8])
{
    unsigned d = 0;
    for (unsigned i = 0; i < 4; i++) {
        d |= (load_u16(scales + 2 * i) >> 12) << 4 * i;
    }
    return (uint16_t)d;
}

uint16_t quant_book_half(enum dtype dtype, const void *source)
{
    uint16_t d;
    if (dtype == DTYPE_IQ1_M) {
        return d_iq1_m(((const struct block_iq1_m *)source)->scales);
    }
    memcpy(&d, source, sizeof d); /* every other type begins with it */
    return d;
}

float quant_book_d(enum dtype dtype, const void *source)
{
    float d = float_from_f16(quant_book_half(dtype, source));
    switch (dtype) {
    case DTYPE_IQ2_XXS:
    case DTYPE_IQ2_XS:
    case DTYPE_IQ2_S:
    case DTYPE_IQ1_S:
    case DTYPE_IQ1_M:
        return d * 0.125f;
    case DTYPE_IQ3_XXS:
        return d * 0.25f;
    default:
        return d;
    }
}

int quant_book_scale(enum dtype dtype, const void *source, unsigned index)
{
    unsigned step = index / 2;
    unsigned scale = 0;
    switch (dtype) {
    case DTYPE_IQ4_XS: {
        const struct block_iq4_xs *block = source;
        unsigned low = block->scales_low[step / 2] >> step % 2 * 4 & 0xf;
        return (int)(low | (load_u16(block->scales_high) >> 2 * step & 3) << 4) - 32;
    }
    case DTYPE_IQ2_XXS:
        scale = load_u32(((const struct block_iq2_xxs *)source)->codes + 8 * step + 4) >> 28;
        break;
    case DTYPE_IQ2_XS:
        scale = ((const struct block_iq2_xs *)source)->scales[step] >> index % 2 * 4 & 0xf;
        break;
    case DTYPE_IQ2_S:
        scale = ((const struct block_iq2_s *)source)->scales[step] >> index % 2 * 4 & 0xf;
        break;
    case DTYPE_IQ3_XXS:
        scale = load_u32(((const struct block_iq3_xxs *)source)->signs + 4 * step) >> 28;
        break;
    case DTYPE_IQ3_S:
        scale = ((const struct block_iq3_s *)source)->scales[step / 2] >> step % 2 * 4 & 0xf;
        break;
    case DTYPE_IQ1_S:
        scale = load_u16(((const struct block_iq1_s *)source)->high + 2 * step) >> 12 & 7;
        break;
    case DTYPE_IQ1_M:
        scale = load_u16(((const struct block_iq1_m *)source)->scales + index / 4 * 2) >>
                    index % 4 * 3 &
                7;
        break;
    default:
        break;
    }
    return (int)(2 * scale + 1);
}

static void set_scales(enum dtype dtype, const void *block, unsigned part, struct quant_step *out)
{
    float d = quant_book_d(dtype, block);
    for (unsigned half = 0; half < 2; half++) {
        out->scale[half] = d * (float)quant_book_scale(dtype, block, 2 * part + half);
        out->minimum[half] = 0.0f;
    }
}

/* --- tables --------------------------------------------------------------------------------- */

void quant_read_iq4_nl(const void *row, uint64_t step, struct quant_step *out)
{
    const struct block_iq4_nl *block = (const struct block_iq4_nl *)row + step;
    read_table(quant_values_iq4, block->nibbles, out);
    set_scale(out, float_from_f16(block->d));
}

void quant_read_iq4_xs(const void *row, uint64_t step, struct quant_step *out)
{
    const struct block_iq4_xs *block = (const struct block_iq4_xs *)row + step / 8;
    unsigned part = (unsigned)(step % 8);
    read_table(quant_values_iq4, block->nibbles + 16 * part, out);
    set_scales(DTYPE_IQ4_XS, block, part, out);
}

float quant_e8m0_half(uint8_t e)
{
    uint32_t bits = e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void quant_read_mxfp4(const void *row, uint64_t step, struct quant_step *out)
{
    const struct block_mxfp4 *block = (const struct block_mxfp4 *)row + step;
    read_table(quant_values_mxfp4, block->nibbles, out);
    set_scale(out, quant_e8m0_half(block->e));
}

/* --- base three ----------------------------------------------------------------------------- */

/* Digit `place` of a byte that holds 256/243 times a number of five digits of base three. */
static int8_t digit(uint8_t byte, unsigned place)
{
    static const uint8_t powers[5] = {1, 3, 9, 27, 81};
    uint8_t rest = (uint8_t)(byte * powers[place]);
    return (int8_t)((rest * 3u >> 8) - 1);
}

void quant_read_tq1_0(const void *row, uint64_t step, struct quant_step *out)
{
    const struct block_tq1_0 *block = (const struct block_tq1_0 *)row + step / 8;
    for (unsigned i = 0; i < QUANT_STEP; i++) {
        unsigned column = (unsigned)(step % 8) * QUANT_STEP + i;
        if (column < 160) {
            out->codes[i] = digit(block->fives[column % 32], column / 32);
        } else if (column < 240) {
            out->codes[i] = digit(block->fives[32 + column % 16], (column - 160) / 16);
        } else {
            out->codes[i] = digit(block->fours[column % 4], (column - 240) / 4);
        }
    }
    set_scale(out, float_from_f16(block->d));
}

void quant_read_tq2_0(const void *row, uint64_t step, struct quant_step *out)
{
    const struct block_tq2_0 *block = (const struct block_tq2_0 *)row + step / 8;
    unsigned part = (unsigned)(step % 8);
    for (unsigned i = 0; i < QUANT_STEP; i++) {
        out->codes[i] = (int8_t)((block->pairs[part / 4 * 32 + i] >> part % 4 * 2 & 3) - 1);
    }
    set_scale(out, float_from_f16(block->d));
}

/* --- code books ----------------------------------------------------------------------------- */

/* Seven sign bits stand for eight with an even number of ones. */
static unsigned even_signs(uint32_t seven)
{
    seven &= 0x7f;
    return seven | (unsigned)(__builtin_popcount(seven) & 1) << 7;
}

static int8_t with_sign(int8_t value, unsigned signs, unsigned bit)
{
    return (int8_t)(signs >> bit & 1 ? -value : value);
}

static void eight_iq2(unsigned entry, unsigned signs, int8_t out[8])
{
    for (unsigned i = 0; i < 8; i++) {
        out[i] = with_sign(values_iq2[entry >> 2 * i & 3], signs, i);
    }
}

void quant_read_iq2_xxs(const void *row, uint64_t step, struct quant_step *out)
{
    const struct block_iq2_xxs *block = (const struct block_iq2_xxs *)row + step / 8;
    unsigned part = (unsigned)(step % 8);
    const uint8_t *codes = block->codes + 8 * part;
    uint32_t signs = load_u32(codes + 4);
    for (unsigned i = 0; i < 4; i++) {
        eight_iq2(quant_book_iq2_xxs[codes[i]], even_signs(signs >> 7 * i), out->codes + 8 * i);
    }
    set_scales(DTYPE_IQ2_XXS, block, part, out);
}

void quant_read_iq2_xs(const void *row, uint64_t step, struct quant_step *out)
{
    const struct block_iq2_xs *block = (const struct block_iq2_xs *)row + step / 8;
    unsigned part = (unsigned)(step % 8);
    for (unsigned i = 0; i < 4; i++) {
        unsigned code = load_u16(block->codes + 8 * part + 2 * i);
        eight_iq2(quant_book_iq2_xs[code & 511], even_signs(code >> 9), out->codes + 8 * i);
    }
    set_scales(DTYPE_IQ2_XS, block, part, out);
}

void quant_read_iq2_s(const void *row, uint64_t step, struct quant_step *out)
{
    const struct block_iq2_s *block = (const struct block_iq2_s *)row + step / 8;
    unsigned part = (unsigned)(step % 8);
    for (unsigned i = 0; i < 4; i++) {
        unsigned high = block->high[part] >> 2 * i & 3;
        eight_iq2(quant_book_iq2_s[block->codes[4 * part + i] | high << 8],
                  block->signs[4 * part + i], out->codes + 8 * i);
    }
    set_scales(DTYPE_IQ2_S, block, part, out);
}

void quant_read_iq3_xxs(const void *row, uint64_t step, struct quant_step *out)
{
    const struct block_iq3_xxs *block = (const struct block_iq3_xxs *)row + step / 8;
    unsigned part = (unsigned)(step % 8);
    uint32_t signs = load_u32(block->signs + 4 * part);
    for (unsigned i = 0; i < QUANT_STEP; i++) {
        unsigned entry = quant_book_iq3_xxs[block->codes[8 * part + i / 4]];
        out->codes[i] = with_sign(values_iq3_xxs[entry >> i % 4 * 3 & 7],
                                  even_signs(signs >> 7 * (i / 8)), i % 8);
    }
    set_scales(DTYPE_IQ3_XXS, block, part, out);
}

void quant_read_iq3_s(const void *row, uint64_t step, struct quant_step *out)
{
    const struct block_iq3_s *block = (const struct block_iq3_s *)row + step / 8;
    unsigned part = (unsigned)(step % 8);
    for (unsigned i = 0; i < QUANT_STEP; i++) {
        unsigned high = block->high[part] >> i / 4 & 1;
        unsigned entry = quant_book_iq3_s[block->codes[8 * part + i / 4] | high << 8];
        int8_t value = (int8_t)(2 * (entry >> i % 4 * 3 & 7) + 1);
        out->codes[i] = with_sign(value, block->signs[4 * part + i / 8], i % 8);
    }
    set_scales(DTYPE_IQ3_S, block, part, out);
}

/* Values of iq1 are −1, 0 or 1, plus or minus an eighth: codes count eighths. */
static void eight_iq1(unsigned index, bool is_below, int8_t out[8])
{
    unsigned entry = quant_book_iq1[index];
    for (unsigned i = 0; i < 8; i++) {
        out[i] = (int8_t)(8 * ((int)(entry >> 2 * i & 3) - 1) + (is_below ? -1 : 1));
    }
}

void quant_read_iq1_s(const void *row, uint64_t step, struct quant_step *out)
{
    const struct block_iq1_s *block = (const struct block_iq1_s *)row + step / 8;
    unsigned part = (unsigned)(step % 8);
    unsigned high = load_u16(block->high + 2 * part);
    for (unsigned i = 0; i < 4; i++) {
        eight_iq1(block->codes[4 * part + i] | (high >> 3 * i & 7) << 8, high >> 15,
                  out->codes + 8 * i);
    }
    set_scales(DTYPE_IQ1_S, block, part, out);
}

void quant_read_iq1_m(const void *row, uint64_t step, struct quant_step *out)
{
    const struct block_iq1_m *block = (const struct block_iq1_m *)row + step / 8;
    unsigned part = (unsigned)(step % 8);
    for (unsigned i = 0; i < 4; i++) {
        unsigned high = (unsigned)block->high[2 * part + i / 2] >> i % 2 * 4;
        eight_iq1(block->codes[4 * part + i] | (high & 7) << 8, high >> 3 & 1, out->codes + 8 * i);
    }
    set_scales(DTYPE_IQ1_M, block, part, out);
}
