/* Owns the way from rows as a file has them to groups of rows side by side (linear_q_layout.h). The
 * words of four rows are transposed first, and bits are then put together in four rows at once; the
 * 16-byte vectors of the compiler do that on every CPU, fast enough to wait for memory. Types with
 * code books go row by row through their reader. Stateless: any thread, and threads may pack
 * different groups of one weight. */
#include <string.h>

#include "cpu/linear_q_layout.h"
#include "tensor/quant_blocks.h"
#include "tensor/quant_read_book.h"

/* So that the layout is made of constants where the type is one. */
#define INLINE static inline __attribute__((always_inline))

/* One word of each of four rows; lane i is row i of the four. */
typedef uint32_t quad __attribute__((vector_size(16)));

static inline quad load_quad(const unsigned char *bytes)
{
    quad words;
    memcpy(&words, bytes, sizeof words);
    return words;
}

/* Sixteen bytes of four rows, which lie `stride` apart, as four words of each row. */
INLINE void transpose(const unsigned char *bytes, uint64_t stride, quad words[4])
{
    quad rows[4];
    for (unsigned i = 0; i < 4; i++) {
        rows[i] = load_quad(bytes + i * stride);
    }
    quad low_01 = __builtin_shufflevector(rows[0], rows[1], 0, 4, 1, 5);
    quad low_23 = __builtin_shufflevector(rows[2], rows[3], 0, 4, 1, 5);
    quad high_01 = __builtin_shufflevector(rows[0], rows[1], 2, 6, 3, 7);
    quad high_23 = __builtin_shufflevector(rows[2], rows[3], 2, 6, 3, 7);
    words[0] = __builtin_shufflevector(low_01, low_23, 0, 1, 4, 5);
    words[1] = __builtin_shufflevector(low_01, low_23, 2, 3, 6, 7);
    words[2] = __builtin_shufflevector(high_01, high_23, 0, 1, 4, 5);
    words[3] = __builtin_shufflevector(high_01, high_23, 2, 3, 6, 7);
}

/* The words of four rows' blocks that planes and scales are made of, and which are which. */
struct block_words {
    unsigned first;                        /* byte of the block that the words begin at */
    unsigned count;                        /* 0: the type's reader must be asked */
    unsigned nibbles, pairs, bits, scales; /* words, counted from `first` */
};

/* Of a q6_k block, the largest. */
#define BLOCK_WORDS_MAX 52
#define BLOCK_BYTES_MAX sizeof(struct block_q6_k)

/* Folds to constants where `dtype` is one. */
static inline struct block_words block_words_of(enum dtype dtype)
{
    switch (dtype) {
    case DTYPE_Q4_0:
    case DTYPE_IQ4_NL:
        return (struct block_words){.first = 2, .count = 4};
    case DTYPE_MXFP4:
        return (struct block_words){.first = 1, .count = 4};
    case DTYPE_Q4_1:
        return (struct block_words){.first = 4, .count = 4};
    case DTYPE_Q5_0:
        return (struct block_words){.first = 2, .count = 5, .bits = 0, .nibbles = 1};
    case DTYPE_Q5_1:
        return (struct block_words){.first = 4, .count = 5, .bits = 0, .nibbles = 1};
    case DTYPE_Q8_0:
        return (struct block_words){.first = 2, .count = 8};
    case DTYPE_Q2_K:
        return (struct block_words){.count = 20, .scales = 0, .pairs = 4};
    case DTYPE_Q3_K:
        return (struct block_words){.count = 27, .bits = 0, .pairs = 8, .scales = 24};
    case DTYPE_Q4_K:
        return (struct block_words){.count = 36, .scales = 1, .nibbles = 4};
    case DTYPE_Q5_K:
        return (struct block_words){.count = 44, .scales = 1, .bits = 4, .nibbles = 12};
    case DTYPE_Q6_K:
        return (struct block_words){.count = 52, .nibbles = 0, .pairs = 32, .scales = 48};
    case DTYPE_IQ4_XS: /* its scales lie in odd places */
        return (struct block_words){.first = 8, .count = 32};
    case DTYPE_TQ2_0:
        return (struct block_words){.count = 16};
    default:
        return (struct block_words){.count = 0};
    }
}

INLINE void load_words(struct block_words layout, const unsigned char *block, uint64_t stride,
                       quad words[BLOCK_WORDS_MAX])
{
    const unsigned char *first = block + layout.first;
    unsigned w = 0;
    for (; w + 4 <= layout.count; w += 4) {
        transpose(first + 4 * w, stride, words + w);
    }
    if (w < layout.count) { /* the last four, some of them again */
        w = layout.count - 4;
        transpose(first + 4 * w, stride, words + w);
    }
}

/* --- scales --------------------------------------------------------------------------------- */

/* A block's halves; one row. */
INLINE void block_halves(enum dtype dtype, const void *source, uint16_t halves[2])
{
    switch (dtype) {
    case DTYPE_MXFP4: {
        float scale = quant_e8m0_half(((const struct block_mxfp4 *)source)->e);
        halves[0] = float_to_bf16(scale); /* exact */
        break;
    }
    case DTYPE_TQ1_0:
        halves[0] = ((const struct block_tq1_0 *)source)->d;
        break;
    case DTYPE_TQ2_0:
        halves[0] = ((const struct block_tq2_0 *)source)->d;
        break;
    case DTYPE_Q2_K:
        memcpy(halves, &((const struct block_q2_k *)source)->d, 4);
        break;
    case DTYPE_Q3_K:
        halves[0] = ((const struct block_q3_k *)source)->d;
        break;
    case DTYPE_Q6_K:
        halves[0] = ((const struct block_q6_k *)source)->d;
        break;
    default:
        if (q_layout_of(dtype).has_table && q_layout_of(dtype).block_steps == 8) {
            halves[0] = quant_book_half(dtype, source);
        } else { /* the other blocks begin with their halves */
            memcpy(halves, source, 2 * q_layout_of(dtype).halves);
        }
        break;
    }
}

/* Types with small integer scales that the file keeps in odd places: as signed bytes, in the words
 * of one row. */
static void book_scales(enum dtype dtype, const void *source, uint32_t words[4])
{
    const struct q_layout layout = q_layout_of(dtype);
    const unsigned count = layout.scale_16 ? 16 : 8;
    for (unsigned i = 0; i < count; i++) {
        unsigned index = layout.scale_16 ? i : 2 * i;
        uint32_t scale = (uint32_t)quant_book_scale(dtype, source, index) & 0xff;
        words[i / 4] |= scale << 8 * (i % 4);
    }
}

/* --- planes --------------------------------------------------------------------------------- */

/* The plane of 4 bits from 32 bytes of which each has the wanted nibble `shift` up. */
INLINE void nibble_plane(const quad bytes[8], unsigned shift, quad out[4])
{
    for (unsigned v = 0; v < 4; v++) {
        quad low = bytes[v] >> shift & 0x0f0f0f0fu;
        quad high = bytes[4 + v] >> shift & 0x0f0f0f0fu;
        out[v] = low | high << 4;
    }
}

/* The plane of 2 bits from the pairs of a super-block. */
INLINE void pair_plane(const quad pairs[16], unsigned part, quad out[2])
{
    for (unsigned v = 0; v < 2; v++) {
        out[v] = (quad){0};
        for (unsigned j = 0; j < 4; j++) {
            quad word = pairs[part / 4 * 8 + 4 * v + j] >> part % 4 * 2;
            out[v] |= (word & 0x03030303u) << 2 * j;
        }
    }
}

/* The plane of 1 bit from 32 bytes of which each has the wanted bit `part` up. */
static inline quad bit_plane(const quad bytes[8], unsigned part)
{
    quad out = {0};
    for (unsigned j = 0; j < 8; j++) {
        out |= (bytes[j] >> part & 0x01010101u) << j;
    }
    return out;
}

/* The same from 32 bits in a row: bit 4j + b goes to bit j of byte b. */
static inline quad bit_plane_q5(quad bits)
{
    quad out = {0};
    for (unsigned j = 0; j < 8; j++) {
        quad four = bits >> 4 * j & 0xfu;
        /* Four bits to the lowest bit of four bytes. */
        out |= ((four | four << 7 | four << 14 | four << 21) & 0x01010101u) << j;
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
        unsigned four = i / 4;
        unsigned byte = 8 * (i % 4);
        if (bits == 4) {
            out[four % 4] |= (uint32_t)indices[i] << (byte + four / 4 * 4);
        } else {
            out[four / 4] |= (uint32_t)(indices[i] & 3u) << (byte + four % 4 * 2);
        }
        if (bits == 3) {
            out[2] |= (uint32_t)(indices[i] >> 2) << (byte + four);
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

/* The words of four rows in all vectors of one step, from their blocks' words. */
INLINE void word_planes(enum dtype dtype, const quad *words, unsigned part, quad out[8])
{
    const struct block_words at = block_words_of(dtype);
    const quad *nibbles = words + at.nibbles;
    switch (dtype) {
    case DTYPE_Q5_0:
    case DTYPE_Q5_1:
        memcpy(out, nibbles, 4 * sizeof *out);
        out[4] = bit_plane_q5(words[at.bits]);
        break;
    case DTYPE_Q8_0:
        for (unsigned v = 0; v < 8; v++) {
            /* Adding 128 to a signed byte turns its top bit round. */
            out[v] = words[v] ^ 0x80808080u;
        }
        break;
    case DTYPE_TQ2_0:
    case DTYPE_Q2_K:
        pair_plane(words + at.pairs, part, out);
        break;
    case DTYPE_Q3_K:
        pair_plane(words + at.pairs, part, out);
        out[2] = bit_plane(words + at.bits, part);
        break;
    case DTYPE_Q4_K:
        nibble_plane(nibbles + part / 2 * 8, part % 2 * 4, out);
        break;
    case DTYPE_Q5_K:
        nibble_plane(nibbles + part / 2 * 8, part % 2 * 4, out);
        out[4] = bit_plane(words + at.bits, part);
        break;
    case DTYPE_Q6_K:
        nibble_plane(nibbles + part / 4 * 16 + part % 2 * 8, part % 4 / 2 * 4, out);
        pair_plane(words + at.pairs, part, out + 4);
        break;
    default: /* nibbles as a plane has them */
        memcpy(out, nibbles + 4 * part, 4 * sizeof *out);
        break;
    }
}

/* Where a block's scales and planes go: of its first row, in its group. */
struct block_place {
    unsigned char *halves, *words, *planes;
};

/* The blocks of four rows, `stride` apart, whose words need only be moved. */
INLINE void pack_quad(enum dtype dtype, unsigned lanes, const unsigned char *block, uint64_t stride,
                      struct block_place to)
{
    const struct q_layout layout = q_layout_of(dtype);
    const struct block_words at = block_words_of(dtype);
    const unsigned vectors = q_layout_vectors(layout);
    quad words[BLOCK_WORDS_MAX];
    load_words(at, block, stride, words);
    for (unsigned w = 0; w < layout.words && dtype != DTYPE_IQ4_XS; w++) {
        memcpy(to.words + w * lanes * 4, &words[at.scales + w], sizeof(quad));
    }
    for (unsigned part = 0; part < layout.block_steps; part++) {
        quad planes[8];
        word_planes(dtype, words, part, planes);
        for (unsigned v = 0; v < vectors; v++) {
            memcpy(to.planes + (part * vectors + v) * lanes * 4, &planes[v], sizeof(quad));
        }
    }
}

/* A row's block in the words of a type that only its reader understands. */
static inline void pack_read(enum dtype dtype, unsigned lanes, const unsigned char *block,
                             const uint8_t index_of[256], struct block_place to)
{
    const struct q_layout layout = q_layout_of(dtype);
    const unsigned vectors = q_layout_vectors(layout);
    for (unsigned part = 0; part < layout.block_steps; part++) {
        uint32_t words[8] = {0};
        read_planes(dtype, block, part, index_of, words);
        for (unsigned v = 0; v < vectors; v++) {
            memcpy(to.planes + (part * vectors + v) * lanes * 4, &words[v], 4);
        }
    }
}

/* A row's halves, and small scales from odd places. */
INLINE void pack_scales(enum dtype dtype, unsigned lanes, const unsigned char *block,
                        struct block_place to)
{
    const struct q_layout layout = q_layout_of(dtype);
    uint16_t halves[2];
    block_halves(dtype, block, halves);
    for (unsigned h = 0; h < layout.halves; h++) {
        memcpy(to.halves + h * lanes * 2, &halves[h], 2);
    }
    if (layout.has_table && layout.block_steps == 8) {
        uint32_t words[4] = {0};
        book_scales(dtype, block, words);
        for (unsigned w = 0; w < layout.words; w++) {
            memcpy(to.words + w * lanes * 4, &words[w], 4);
        }
    }
}

/* Zeros in rows [row_count, lanes) of `vectors` vectors of `bytes` a row. */
static void clear_rows(unsigned char *array, uint64_t vectors, unsigned lanes, unsigned row_count,
                       unsigned bytes)
{
    for (uint64_t v = 0; v < vectors; v++) {
        memset(array + (v * lanes + row_count) * bytes, 0, (size_t)(lanes - row_count) * bytes);
    }
}

/* The padding between and behind the arrays of a group, and the rows that a short group lacks. */
static void clear_rest(enum dtype dtype, unsigned lanes, unsigned row_count, uint64_t columns,
                       unsigned char *group)
{
    const struct q_layout layout = q_layout_of(dtype);
    const struct q_group_offsets offsets = q_group_offsets_of(dtype, lanes, columns);
    const uint64_t steps = columns / 32;
    const uint64_t blocks = steps / layout.block_steps;
    const uint64_t vectors = steps * q_layout_vectors(layout);
    const uint64_t halves_end = blocks * layout.halves * lanes * 2;
    const uint64_t words_end = offsets.words + blocks * layout.words * lanes * 4;
    const uint64_t planes_end = offsets.planes + vectors * lanes * 4;
    memset(group + halves_end, 0, offsets.words - halves_end);
    memset(group + words_end, 0, offsets.planes - words_end);
    memset(group + planes_end, 0, offsets.end - planes_end);
    if (row_count < lanes) {
        clear_rows(group, blocks * layout.halves, lanes, row_count, 2);
        clear_rows(group + offsets.words, blocks * layout.words, lanes, row_count, 4);
        clear_rows(group + offsets.planes, vectors, lanes, row_count, 4);
    }
}

/* Four rows' block b, of which `count` exist; those that do not are left zero or as they were. */
INLINE void pack_blocks(enum dtype dtype, unsigned lanes, const unsigned char *block,
                        uint64_t row_bytes, unsigned count, const uint8_t index_of[256],
                        struct block_place to)
{
    unsigned char spare[4][BLOCK_BYTES_MAX];
    for (unsigned i = 0; i < count; i++) {
        const struct block_place place = {to.halves + 2 * i, to.words + 4 * i, to.planes + 4 * i};
        pack_scales(dtype, lanes, block + i * row_bytes, place);
        if (block_words_of(dtype).count == 0) {
            pack_read(dtype, lanes, block + i * row_bytes, index_of, place);
        }
    }
    if (block_words_of(dtype).count != 0 && count == 4) {
        pack_quad(dtype, lanes, block, row_bytes, to);
    } else if (block_words_of(dtype).count != 0 && count > 0) {
        memset(spare, 0, sizeof spare);
        for (unsigned i = 0; i < count; i++) {
            memcpy(spare[i], block + i * row_bytes, dtype_info(dtype)->block_bytes);
        }
        pack_quad(dtype, lanes, spare[0], sizeof spare[0], to);
    }
}

INLINE void pack_group(enum dtype dtype, unsigned lanes, const unsigned char *source,
                       uint64_t row_bytes, unsigned row_count, uint64_t columns,
                       unsigned char *group)
{
    const struct q_layout layout = q_layout_of(dtype);
    const struct q_group_offsets offsets = q_group_offsets_of(dtype, lanes, columns);
    const uint64_t block_bytes = dtype_info(dtype)->block_bytes;
    const uint64_t blocks = columns / 32 / layout.block_steps;
    const uint64_t step_bytes = (uint64_t)q_layout_vectors(layout) * lanes * 4;
    uint8_t index_of[256] = {0};
    if (layout.has_table) {
        invert_table(dtype, index_of);
    }
    /* Block by block over all rows: what is written stays in the nearest cache until it is full. */
    for (uint64_t b = 0; b < blocks; b++) {
        /* The next group's rows lie behind this one's. */
        const unsigned char *next = source + lanes * (row_bytes + b * block_bytes);
        for (uint64_t i = 0; i < lanes * block_bytes; i += 64) {
            __builtin_prefetch(next + i, 0, 2);
        }
        for (unsigned row = 0; row < row_count; row += 4) {
            const unsigned char *block = source + row * row_bytes + b * block_bytes;
            const struct block_place to = {
                group + (b * layout.halves * lanes + row) * 2,
                group + offsets.words + (b * layout.words * lanes + row) * 4,
                group + offsets.planes + b * layout.block_steps * step_bytes + row * 4ull};
            unsigned count = row_count - row < 4 ? row_count - row : 4;
            pack_blocks(dtype, lanes, block, row_bytes, count, index_of, to);
        }
    }
    clear_rest(dtype, lanes, row_count, columns, group);
}

uint64_t linear_q_packed_bytes(enum dtype dtype, unsigned lanes, uint64_t rows, uint64_t columns)
{
    return (rows + lanes - 1) / lanes * q_group_offsets_of(dtype, lanes, columns).end;
}

/* One specialisation a type and width, so that the layout is made of constants. */
INLINE void pack_groups(enum dtype dtype, unsigned lanes, const unsigned char *source,
                        uint64_t rows, uint64_t columns, uint64_t row_begin, uint64_t row_end,
                        unsigned char *packed)
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
#define PACK_LANES(type, count) \
    pack_groups(type, count, source, rows, columns, row_begin, row_end, packed)
#define PACK_CASE(type)           \
    case type:                    \
        if (lanes == 16) {        \
            PACK_LANES(type, 16); \
        } else if (lanes == 8) {  \
            PACK_LANES(type, 8);  \
        } else {                  \
            PACK_LANES(type, 4);  \
        }                         \
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
#undef PACK_LANES
    default:
        break;
    }
}
