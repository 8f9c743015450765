/* Owns the way from rows as a file has them to groups of rows side by side (linear_q_layout.h). All
 * on 32-bit words of four columns, in portable C: it runs once a weight. Stateless: any thread, and
 * threads may pack different groups of one weight. */
#include <string.h>

#include "cpu/linear_q_layout.h"
#include "tensor/quant_blocks.h"
#include "tensor/quant_read_book.h"

static uint32_t load_u32(const void *bytes)
{
    uint32_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

/* A block's halves and words; one row. */
struct block_scales {
    uint16_t halves[2];
    uint32_t words[4];
};

/* Types with small integer scales that the file keeps in odd places: as signed bytes. */
static void book_scales_of(enum dtype dtype, const void *source, struct block_scales *out)
{
    const struct q_layout layout = q_layout_of(dtype);
    const unsigned count = layout.scale_16 ? 16 : 8;
    out->halves[0] = quant_book_half(dtype, source);
    for (unsigned i = 0; i < count; i++) {
        unsigned index = layout.scale_16 ? i : 2 * i;
        uint32_t scale = (uint32_t)quant_book_scale(dtype, source, index) & 0xff;
        out->words[i / 4] |= scale << 8 * (i % 4);
    }
}

static void block_scales_of(enum dtype dtype, const void *source, struct block_scales *out)
{
    memset(out, 0, sizeof *out);
    const void *words = NULL;
    if (q_layout_of(dtype).has_table && q_layout_of(dtype).block_steps == 8) {
        book_scales_of(dtype, source, out);
        return;
    }
    switch (dtype) {
    case DTYPE_MXFP4: {
        float scale = quant_e8m0_half(((const struct block_mxfp4 *)source)->e);
        out->halves[0] = float_to_bf16(scale); /* exact */
        break;
    }
    case DTYPE_TQ1_0:
        out->halves[0] = ((const struct block_tq1_0 *)source)->d;
        break;
    case DTYPE_TQ2_0:
        out->halves[0] = ((const struct block_tq2_0 *)source)->d;
        break;
    case DTYPE_Q2_K: {
        const struct block_q2_k *block = source;
        out->halves[0] = block->d;
        out->halves[1] = block->dmin;
        words = block->scales;
        break;
    }
    case DTYPE_Q3_K: {
        const struct block_q3_k *block = source;
        out->halves[0] = block->d;
        words = block->scales;
        break;
    }
    case DTYPE_Q6_K: {
        const struct block_q6_k *block = source;
        out->halves[0] = block->d;
        words = block->scales;
        break;
    }
    case DTYPE_Q4_K:
    case DTYPE_Q5_K:
        memcpy(out->halves, source, 4);
        words = (const unsigned char *)source + 4;
        break;
    default: /* the blocks of 32 begin with their halves */
        memcpy(out->halves, source, 2 * q_layout_of(dtype).halves);
        break;
    }
    if (words) {
        memcpy(out->words, words, 4 * q_layout_of(dtype).words);
    }
}

/* The plane of 4 bits from 32 bytes of which each has the wanted nibble `shift` up. */
static void nibble_plane(const uint8_t bytes[32], unsigned shift, uint32_t out[4])
{
    for (unsigned v = 0; v < 4; v++) {
        uint32_t low = load_u32(bytes + 4 * v) >> shift & 0x0f0f0f0fu;
        uint32_t high = load_u32(bytes + 16 + 4 * v) >> shift & 0x0f0f0f0fu;
        out[v] = low | high << 4;
    }
}

/* The plane of 2 bits from the pairs of a super-block. */
static void pair_plane(const uint8_t pairs[64], unsigned part, uint32_t out[2])
{
    const uint8_t *bytes = pairs + part / 4 * 32;
    for (unsigned v = 0; v < 2; v++) {
        out[v] = 0;
        for (unsigned j = 0; j < 4; j++) {
            uint32_t word = load_u32(bytes + 16 * v + 4 * j) >> part % 4 * 2;
            out[v] |= (word & 0x03030303u) << 2 * j;
        }
    }
}

/* The plane of 1 bit from 32 bytes of which each has the wanted bit `part` up. */
static uint32_t bit_plane(const uint8_t bytes[32], unsigned part)
{
    uint32_t out = 0;
    for (unsigned j = 0; j < 8; j++) {
        out |= (load_u32(bytes + 4 * j) >> part & 0x01010101u) << j;
    }
    return out;
}

/* The same from 32 bits in a row: bit 4j + b goes to bit j of byte b. */
static uint32_t bit_plane_q5(uint32_t bits)
{
    uint32_t out = 0;
    for (unsigned j = 0; j < 8; j++) {
        uint32_t quad = bits >> 4 * j & 0xf;
        /* Four bits to the lowest bit of four bytes; no two products meet. */
        out |= (quad * 0x00204081u & 0x01010101u) << j;
    }
    return out;
}

/* The index of each byte that a table holds; what it does not hold is not asked for. */
static void invert_table(enum dtype dtype, uint8_t index_of[256])
{
    const struct q_layout layout = q_layout_of(dtype);
    const uint8_t *table = q_table_of(dtype);
    for (unsigned i = 1u << layout.bits; i-- > 0;) {
        index_of[table[i]] = (uint8_t)i;
    }
}

/* Planes of 4, 3 or 2 bits from 32 indices. */
static void index_planes(unsigned bits, const uint8_t indices[32], uint32_t out[8])
{
    for (unsigned i = 0; i < 32; i++) {
        unsigned quad = i / 4;
        unsigned byte = 8 * (i % 4);
        if (bits == 4) {
            out[quad % 4] |= (uint32_t)indices[i] << (byte + quad / 4 * 4);
        } else {
            out[quad / 4] |= (uint32_t)(indices[i] & 3u) << (byte + quad % 4 * 2);
        }
        if (bits == 3) {
            out[2] |= (uint32_t)(indices[i] >> 2) << (byte + quad);
        }
    }
}

/* Codes as the type's reader gives them, as indices or as they are. */
static void read_planes(enum dtype dtype, const void *block, unsigned part,
                        const uint8_t index_of[256], uint32_t out[8])
{
    const struct q_layout layout = q_layout_of(dtype);
    struct quant_step step;
    uint8_t indices[32];
    quant_reader(dtype)(block, part, &step);
    for (unsigned i = 0; i < 32; i++) {
        unsigned code = (unsigned)(step.codes[i] + layout.offset);
        indices[i] = layout.has_table ? index_of[code] : (uint8_t)code;
    }
    index_planes(layout.bits, indices, out);
}

/* The words of one row in all vectors of one step. */
static inline void step_planes(enum dtype dtype, const void *source, unsigned part,
                               const uint8_t index_of[256], uint32_t out[8])
{
    switch (dtype) {
    case DTYPE_IQ4_NL:
        memcpy(out, ((const struct block_iq4_nl *)source)->nibbles, 16);
        break;
    case DTYPE_IQ4_XS:
        memcpy(out, ((const struct block_iq4_xs *)source)->nibbles + 16 * part, 16);
        break;
    case DTYPE_MXFP4:
        memcpy(out, ((const struct block_mxfp4 *)source)->nibbles, 16);
        break;
    case DTYPE_TQ2_0:
        pair_plane(((const struct block_tq2_0 *)source)->pairs, part, out);
        break;
    case DTYPE_Q4_0:
        memcpy(out, ((const struct block_q4_0 *)source)->nibbles, 16);
        break;
    case DTYPE_Q4_1:
        memcpy(out, ((const struct block_q4_1 *)source)->nibbles, 16);
        break;
    case DTYPE_Q5_0:
        memcpy(out, ((const struct block_q5_0 *)source)->nibbles, 16);
        out[4] = bit_plane_q5(load_u32(((const struct block_q5_0 *)source)->fifth));
        break;
    case DTYPE_Q5_1:
        memcpy(out, ((const struct block_q5_1 *)source)->nibbles, 16);
        out[4] = bit_plane_q5(load_u32(((const struct block_q5_1 *)source)->fifth));
        break;
    case DTYPE_Q8_0:
        for (unsigned v = 0; v < 8; v++) {
            /* Adding 128 to a signed byte turns its top bit round. */
            out[v] = load_u32(((const struct block_q8_0 *)source)->values + 4 * v) ^ 0x80808080u;
        }
        break;
    case DTYPE_Q2_K:
        pair_plane(((const struct block_q2_k *)source)->pairs, part, out);
        break;
    case DTYPE_Q3_K:
        pair_plane(((const struct block_q3_k *)source)->pairs, part, out);
        out[2] = bit_plane(((const struct block_q3_k *)source)->third, part);
        break;
    case DTYPE_Q4_K: {
        const struct block_q4_k *block = source;
        nibble_plane(block->nibbles + part / 2 * 32, part % 2 * 4, out);
        break;
    }
    case DTYPE_Q5_K: {
        const struct block_q5_k *block = source;
        nibble_plane(block->nibbles + part / 2 * 32, part % 2 * 4, out);
        out[4] = bit_plane(block->fifth, part);
        break;
    }
    case DTYPE_Q6_K: {
        const struct block_q6_k *block = source;
        nibble_plane(block->nibbles + part / 4 * 64 + part % 2 * 32, part % 4 / 2 * 4, out);
        pair_plane(block->pairs, part, out + 4);
        break;
    }
    default:
        read_planes(dtype, source, part, index_of, out);
        break;
    }
}

static inline void pack_group(enum dtype dtype, unsigned lanes, const unsigned char *source,
                              uint64_t row_bytes, unsigned row_count, uint64_t columns,
                              unsigned char *group)
{
    const struct q_layout layout = q_layout_of(dtype);
    const struct q_group_offsets offsets = q_group_offsets_of(dtype, lanes, columns);
    const unsigned vectors = q_layout_vectors(layout);
    const uint64_t block_bytes = dtype_info(dtype)->block_bytes;
    const uint64_t blocks = columns / 32 / layout.block_steps;
    unsigned char *planes = group + offsets.planes;
    uint8_t index_of[256] = {0};
    if (layout.has_table) {
        invert_table(dtype, index_of);
    }
    memset(group, 0, offsets.planes);
    /* Block by block over all rows: what is written stays in the nearest cache until it is full. */
    for (uint64_t b = 0; b < blocks; b++) {
        for (unsigned row = 0; row < lanes; row++) {
            const unsigned char *block = source + row * row_bytes + b * block_bytes;
            struct block_scales scales = {{0}, {0}};
            if (row < row_count) {
                block_scales_of(dtype, block, &scales);
            }
            for (unsigned h = 0; h < layout.halves; h++) {
                memcpy(group + ((b * layout.halves + h) * lanes + row) * 2, &scales.halves[h], 2);
            }
            for (unsigned w = 0; w < layout.words; w++) {
                memcpy(group + offsets.words + ((b * layout.words + w) * lanes + row) * 4,
                       &scales.words[w], 4);
            }
            for (unsigned part = 0; part < layout.block_steps; part++) {
                uint32_t words[8] = {0};
                if (row < row_count) {
                    step_planes(dtype, block, part, index_of, words);
                }
                uint64_t step = b * layout.block_steps + part;
                for (unsigned v = 0; v < vectors; v++) {
                    memcpy(planes + ((step * vectors + v) * lanes + row) * 4, &words[v], 4);
                }
            }
        }
    }
    uint64_t used = offsets.planes + columns / 32 * vectors * lanes * 4;
    memset(group + used, 0, offsets.end - used);
}

uint64_t linear_q_packed_bytes(enum dtype dtype, unsigned lanes, uint64_t rows, uint64_t columns)
{
    return (rows + lanes - 1) / lanes * q_group_offsets_of(dtype, lanes, columns).end;
}

/* One specialisation a type and width, so that the layout is made of constants. */
static inline void pack_groups(enum dtype dtype, unsigned lanes, const unsigned char *source,
                               uint64_t rows, uint64_t columns, uint64_t row_begin,
                               uint64_t row_end, unsigned char *packed)
{
    const struct dtype_info *info = dtype_info(dtype);
    uint64_t row_bytes = columns / info->block_elements * info->block_bytes;
    uint64_t group_bytes = q_group_offsets_of(dtype, lanes, columns).end;
    for (uint64_t row = row_begin; row < row_end; row += lanes) {
        unsigned count = rows - row < lanes ? (unsigned)(rows - row) : lanes;
        pack_group(dtype, lanes, source + row * row_bytes, row_bytes, count, columns,
                   packed + row / lanes * group_bytes);
    }
}

void linear_q_pack(enum dtype dtype, unsigned lanes, const void *source, uint64_t rows,
                   uint64_t columns, uint64_t row_begin, uint64_t row_end, void *packed)
{
    switch (dtype) {
#define PACK_CASE(type)                                                               \
    case type:                                                                        \
        if (lanes == 16) {                                                            \
            pack_groups(type, 16, source, rows, columns, row_begin, row_end, packed); \
        } else {                                                                      \
            pack_groups(type, 8, source, rows, columns, row_begin, row_end, packed);  \
        }                                                                             \
        break;
        PACK_CASE(DTYPE_Q4_0)
        PACK_CASE(DTYPE_Q4_1)
        PACK_CASE(DTYPE_Q5_0)
        PACK_CASE(DTYPE_Q5_1)
        PACK_CASE(DTYPE_Q8_0)
        PACK_CASE(DTYPE_Q2_K)
        PACK_CASE(DTYPE_Q3_K)
        PACK_CASE(DTYPE_Q4_K)
        PACK_CASE(DTYPE_Q5_K)
        PACK_CASE(DTYPE_Q6_K)
        PACK_CASE(DTYPE_IQ4_NL)
        PACK_CASE(DTYPE_IQ4_XS)
        PACK_CASE(DTYPE_MXFP4)
        PACK_CASE(DTYPE_TQ1_0)
        PACK_CASE(DTYPE_TQ2_0)
        PACK_CASE(DTYPE_IQ3_S)
        PACK_CASE(DTYPE_IQ3_XXS)
        PACK_CASE(DTYPE_IQ2_S)
        PACK_CASE(DTYPE_IQ2_XS)
        PACK_CASE(DTYPE_IQ2_XXS)
        PACK_CASE(DTYPE_IQ1_M)
        PACK_CASE(DTYPE_IQ1_S)
#undef PACK_CASE
    default:
        break;
    }
}
