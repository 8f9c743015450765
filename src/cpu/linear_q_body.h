/* The vector kernels of the quantised types, written once over a handful of vector operations. A
 * source of one instruction set defines those operations (listed below), includes this, and so
 * gets its own static copy; there is nothing here to include from anywhere else.
 *
 * Rows lie in lanes (linear_q_layout.h): four columns of all rows of a group times four broadcast
 * activations add up in 32-bit lanes. For each step of 32 columns, row and token:
 *     i = Σ (code − offset) · activation            exact integers, in any order
 *     t = float(i) · scale                          types with scales of 32 columns
 *     t = fma(float(i₁), scale₁, float(i₀) · scale₀)     with scales of 16 columns
 *     t = fma(minimum, float(Σ activation), t)      types with minima, one or two
 *     sum = fma(t, activation scale, sum)           over the steps in order
 * This is what linear_q_scalar.c computes too, so that all levels agree to the bit. Few tokens take
 * codes straight from memory through registers; more share a panel of unpacked codes that stays in
 * the nearest cache, and tiles of groups × tokens run over it. Both execute `accumulate` below, so
 * the company of a token cannot change its result.
 *
 * The includer defines: LANES, TILE_TOKENS (4 or 6), DOT_IS_EXACT32 (a dot product of four bytes
 * goes straight into 32 bits), DOT_CODE_MAX (the largest code that a dot product takes), the types
 * vint and vfloat, and
 *     vint load(const void *)             any alignment
 *     vint broadcast_i32(int32_t)
 *     vint and_bits(vint, uint32_t)       the mask in every lane
 *     vint or_bits(vint, vint)
 *     vint shift_right(vint, int), shift_left(vint, int), shift_right_signed(vint, int)   32 bits
 *     vint add_i32(vint, vint)
 *     vint dot(vint part, vint codes, vint activations)
 *     int32_t sum_half(const int8_t values[16])
 *     void prefetch_near(const void *), prefetch_far(const void *)   first, second cache
 *     vint widen(vint part)               of 16-bit sums to 32 bits; DOT_IS_EXACT32: not called
 *     vfloat to_float(vint), multiply_f32(vfloat, vfloat), fma_f32(vfloat, vfloat, vfloat)
 *     vint lookup(const uint8_t table[16], vint indices)     byte by byte, indices below 16
 *     vfloat broadcast_f32(float), negate_f32(vfloat), load_f16(const void *), load_bf16(…)
 *     vfloat load_f32(const float *), void store_f32(float *, vfloat)
 *     vfloat load_some(const float *, unsigned), void store_some(float *, vfloat, unsigned)
 *
 * A machine with matrix registers also defines MATRIX_TOKENS, tokens whose products with one group
 * are one instruction, and
 *     void matrix_begin(void), matrix_end(void)   around everything of one call
 *     void matrix_products(bool halves, const vint codes[8], const int8_t *values,
 *                          uint64_t stride, unsigned turn, int32_t out[][MATRIX_TOKENS][LANES])
 * the integer sums of a step: of 32 columns, or of each 16 with `halves`; a token's values are
 * `stride` bytes from the last one's, `turn` alternates between steps. */
#include <string.h>

#include "cpu/linear_q_layout.h"

/* Loops over constants that must become straight code, or arrays of vectors end up in memory. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define INLINE static inline __attribute__((always_inline))

/* Out of line on purpose: kernels of several types share one copy. */
#define NO_INLINE static __attribute__((noinline))

#define TILE_GROUPS   2
#define PANEL_STEPS   8 /* 256 columns */
#define PANEL_GROUPS  6
#define PANEL_TOKENS  192  /* a multiple of TILE_TOKENS */
#define PREFETCH_FAR  6144 /* bytes, into the second-level cache */
#define PREFETCH_NEAR 1536 /* and into the first */
/* So many tokens read weights straight, without a panel: as many as registers hold sums of. */
#define FEW_TOKENS   (LANES == 16 ? 8 : 4)
#define FEW_PREPARED 2048 /* steps of all few tokens that are prepared at a time */
#define SUM_TOKENS   (TILE_TOKENS > FEW_TOKENS ? TILE_TOKENS : FEW_TOKENS)
#if defined(MATRIX_TOKENS)
#define PREPARED_TOKENS MATRIX_TOKENS /* of the larger kind of tile */
#else
#define PREPARED_TOKENS TILE_TOKENS
#endif

/* Codes of one step and group in bytes, with what they are multiplied by. Codes that are too large
 * for the dot product are split in two nibbles: low 0 … 7, high 8 … 15. */
struct step_weights {
    vint codes[DOT_CODE_MAX >= 255 ? 8 : 16];
    vfloat scale[2];
    vfloat minimum[2];
};

/* A step's activations as the inner loop wants them, in a cache line of their own: what depends on
 * the token alone is computed once for all rows. */
struct prepared {
    int8_t values[32];
    float scale;
    int32_t start[2]; /* −offset · Σ values, from which integer sums begin */
    float total[2];   /* Σ values; the halves of both for scale_16 types, else the first alone */
    int32_t unused[3];
};
_Static_assert(sizeof(struct prepared) == 64, "a cache line");

INLINE bool codes_are_split(struct q_layout layout)
{
    return layout.code_max > DOT_CODE_MAX;
}

/* How many products of codes with activations (at most 127) a 16-bit sum of two columns holds. */
INLINE unsigned products_per_widening(struct q_layout layout)
{
    if (codes_are_split(layout)) {
        return 8;
    }
    return layout.code_max > 64 ? 1 : layout.code_max > 32 ? 2 : layout.code_max > 16 ? 4 : 8;
}

/* What the steps of a block share: d and dmin, and the small scales as bytes, four a word. */
struct block_scales {
    vfloat d, minimum;
    vint scales[4], minima[4];
};

struct group {
    const unsigned char *halves, *words, *planes;
};

INLINE struct group group_at(enum dtype dtype, const struct linear_call *call, uint64_t row)
{
    struct q_group_offsets offsets = q_group_offsets_of(dtype, LANES, call->columns);
    const unsigned char *base = (const unsigned char *)call->weight + row / LANES * offsets.end;
    return (struct group){base, base + offsets.words, base + offsets.planes};
}

INLINE void load_block(enum dtype dtype, const struct group *group, uint64_t block,
                       struct block_scales *out)
{
    const struct q_layout layout = q_layout_of(dtype);
    const unsigned char *halves = group->halves + block * layout.halves * LANES * 2;
    const unsigned char *words = group->words + block * layout.words * LANES * 4;
    out->d = layout.is_bf16 ? load_bf16(halves) : load_f16(halves);
    if (q_scale_unit(dtype) != 1.0f) {
        out->d = multiply_f32(out->d, broadcast_f32(q_scale_unit(dtype)));
    }
    if (layout.halves == 2) {
        out->minimum = load_f16(halves + LANES * 2);
    }
    if (layout.words == 0) {
        return;
    }
    vint w[4];
    UNROLL for (unsigned i = 0; i < layout.words; i++)
    {
        w[i] = load(words + i * LANES * 4);
    }
    if (dtype == DTYPE_Q4_K || dtype == DTYPE_Q5_K) {
        out->minimum = negate_f32(out->minimum);
        out->scales[0] = and_bits(w[0], 0x3f3f3f3f);
        out->minima[0] = and_bits(w[1], 0x3f3f3f3f);
        out->scales[1] =
            or_bits(and_bits(w[2], 0x0f0f0f0f), and_bits(shift_right(w[0], 2), 0x30303030));
        out->minima[1] = or_bits(and_bits(shift_right(w[2], 4), 0x0f0f0f0f),
                                 and_bits(shift_right(w[1], 2), 0x30303030));
    }
    UNROLL for (unsigned i = 0; i < 4; i++)
    {
        if (dtype == DTYPE_Q6_K || (layout.has_table && i < layout.words)) {
            out->scales[i] = w[i];
        } else if (dtype == DTYPE_Q2_K) {
            out->scales[i] = and_bits(w[i], 0x0f0f0f0f);
            out->minima[i] = and_bits(shift_right(w[i], 4), 0x0f0f0f0f);
        } else if (dtype == DTYPE_Q3_K) {
            vint low = and_bits(shift_right(w[i % 2], (int)(i / 2 * 4)), 0x0f0f0f0f);
            vint high = and_bits(shift_right(w[2], (int)(2 * i)), 0x03030303);
            out->scales[i] = or_bits(low, shift_left(high, 4));
        }
    }
    if (dtype == DTYPE_Q2_K) {
        out->minimum = negate_f32(out->minimum);
    }
}

INLINE vfloat byte_to_float(vint words, unsigned byte, bool is_signed)
{
    if (is_signed) {
        return to_float(shift_right_signed(shift_left(words, (int)(24 - 8 * byte)), 24));
    }
    return to_float(and_bits(shift_right(words, (int)(8 * byte)), 0xff));
}

/* The float scales of step `part` of a block. */
INLINE void set_scales(enum dtype dtype, const struct block_scales *block, unsigned part,
                       struct step_weights *out)
{
    const struct q_layout layout = q_layout_of(dtype);
    if (layout.words == 0) {
        out->scale[0] = block->d;
        if (layout.has_minimum) {
            out->minimum[0] = block->minimum;
        }
        return;
    }
    const unsigned parts = layout.scale_16 ? 2 : 1;
    UNROLL for (unsigned half = 0; half < parts; half++)
    {
        unsigned index = layout.scale_16 ? 2 * part + half : part;
        vint words = block->scales[index / 4];
        if (dtype == DTYPE_Q3_K) {
            vint code = and_bits(shift_right(words, (int)(8 * (index % 4))), 0xff);
            out->scale[half] = multiply_f32(block->d, to_float(add_i32(code, broadcast_i32(-32))));
        } else {
            out->scale[half] = multiply_f32(
                block->d, byte_to_float(words, index % 4, dtype == DTYPE_Q6_K || layout.has_table));
        }
        if (layout.has_minimum) {
            out->minimum[half] = multiply_f32(
                block->minimum, byte_to_float(block->minima[index / 4], index % 4, false));
        }
    }
}

/* Indices become the codes that they stand for. */
INLINE void look_up_codes(enum dtype dtype, struct step_weights *out)
{
    const uint8_t *table = q_table_of(dtype);
    uint8_t low[16];
    uint8_t high[16];
    for (unsigned i = 0; i < 16; i++) {
        low[i] = table[i] & 0xf;
        high[i] = table[i] >> 4;
    }
    UNROLL for (unsigned v = 0; v < 8; v++)
    {
        vint indices = out->codes[v];
        if (codes_are_split(q_layout_of(dtype))) {
            out->codes[v] = lookup(low, indices);
            out->codes[v + 8] = lookup(high, indices);
        } else {
            out->codes[v] = lookup(table, indices);
        }
    }
}

/* The codes of one step as bytes. */
INLINE void unpack_codes(enum dtype dtype, const struct group *group, uint64_t step,
                         struct step_weights *out)
{
    const struct q_layout layout = q_layout_of(dtype);
    const unsigned char *planes = group->planes + step * q_layout_vectors(layout) * LANES * 4;
    if (layout.bits == 8) {
        UNROLL for (unsigned v = 0; v < 8; v++)
        {
            vint codes = load(planes + v * LANES * 4);
            if (codes_are_split(layout)) {
                out->codes[v] = and_bits(codes, 0x0f0f0f0f);
                out->codes[v + 8] = and_bits(shift_right(codes, 4), 0x0f0f0f0f);
            } else {
                out->codes[v] = codes;
            }
        }
        return;
    }
    unsigned next = 0;
    if (layout.bits >= 4) {
        UNROLL for (unsigned v = 0; v < 4; v++)
        {
            vint nibbles = load(planes + v * LANES * 4);
            out->codes[v] = and_bits(nibbles, 0x0f0f0f0f);
            out->codes[v + 4] = and_bits(shift_right(nibbles, 4), 0x0f0f0f0f);
        }
        next = 4;
    }
    if (layout.bits == 6 || layout.bits < 4) {
        UNROLL for (unsigned v = 0; v < 8; v++)
        {
            vint pairs = load(planes + (next + v / 4) * LANES * 4);
            int shift = (int)(v % 4 * 2);
            if (layout.bits == 6) {
                vint high = shift == 6 ? shift_right(pairs, 2) : shift_left(pairs, 4 - shift);
                out->codes[v] = or_bits(out->codes[v], and_bits(high, 0x30303030));
            } else {
                out->codes[v] = and_bits(shift_right(pairs, shift), 0x03030303);
            }
        }
        next += 2;
    }
    if (layout.bits == 5 || layout.bits == 3) {
        vint bits = load(planes + next * LANES * 4);
        int place = layout.bits == 5 ? 4 : 2;
        UNROLL for (int v = 0; v < 8; v++)
        {
            vint moved = v <= place ? shift_left(bits, place - v) : shift_right(bits, v - place);
            out->codes[v] = or_bits(out->codes[v], and_bits(moved, 0x01010101u << place));
        }
    }
    if (layout.has_table) {
        look_up_codes(dtype, out);
    }
}

/* Prepares `count` steps of one token. */
INLINE void prepare_steps(struct q_layout layout, int offset,
                          const struct activation_q8_block *blocks, uint64_t count,
                          struct prepared *out)
{
    const unsigned parts = layout.scale_16 ? 2 : 1;
    for (uint64_t i = 0; i < count; i++) {
        int32_t sums[2] = {blocks[i].sum, 0};
        if (layout.scale_16) {
            sums[0] = sum_half(blocks[i].values);
            sums[1] = blocks[i].sum - sums[0];
        }
        memcpy(out[i].values, blocks[i].values, sizeof out[i].values);
        out[i].scale = blocks[i].scale;
        UNROLL for (unsigned half = 0; half < parts; half++)
        {
            if (layout.has_minimum) {
                out[i].total[half] = (float)sums[half];
            } else {
                out[i].start[half] = -offset * sums[half];
            }
        }
    }
}

/* Adds the products of vectors [first, first + count) of the codes to `sums`. */
INLINE void add_products(struct q_layout layout, unsigned groups, unsigned tokens, unsigned first,
                         unsigned count, const struct step_weights *weights, unsigned weight_stride,
                         const struct prepared *activations, unsigned activation_stride,
                         vint sums[TILE_GROUPS][SUM_TOKENS])
{
    const unsigned products = DOT_IS_EXACT32 ? 8 : products_per_widening(layout);
    const unsigned batch = products < count ? products : count;
    UNROLL for (unsigned start = first; start < first + count; start += batch)
    {
        vint parts[TILE_GROUPS][SUM_TOKENS];
        UNROLL for (unsigned g = 0; g < groups; g++)
        {
            UNROLL for (unsigned t = 0; t < tokens; t++)
            {
                parts[g][t] = DOT_IS_EXACT32 ? sums[g][t] : broadcast_i32(0);
            }
        }
        UNROLL for (unsigned v = start; v < start + batch; v++)
        {
            vint codes[TILE_GROUPS];
            UNROLL for (unsigned g = 0; g < groups; g++)
            {
                codes[g] = weights[g * weight_stride].codes[v];
            }
            UNROLL for (unsigned t = 0; t < tokens; t++)
            {
                int32_t quad;
                memcpy(&quad, &activations[t * activation_stride].values[v % 8 * 4], sizeof quad);
                vint values = broadcast_i32(quad);
                UNROLL for (unsigned g = 0; g < groups; g++)
                {
                    parts[g][t] = dot(parts[g][t], codes[g], values);
                }
            }
        }
        UNROLL for (unsigned g = 0; g < groups; g++)
        {
            UNROLL for (unsigned t = 0; t < tokens; t++)
            {
                sums[g][t] = DOT_IS_EXACT32 ? parts[g][t] : add_i32(sums[g][t], widen(parts[g][t]));
            }
        }
    }
}

/* One step of `groups` × `tokens` sums. Weights of the next group lie weight_stride on, activations
 * of the next token activation_stride. */
INLINE void accumulate(enum dtype dtype, unsigned groups, unsigned tokens,
                       const struct step_weights *weights, unsigned weight_stride,
                       const struct prepared *activations, unsigned activation_stride,
                       vfloat sums[TILE_GROUPS][SUM_TOKENS])
{
    const struct q_layout layout = q_layout_of(dtype);
    const unsigned parts = layout.scale_16 ? 2 : 1;
    const unsigned minima = layout.has_minimum ? parts : 0;
    const bool is_split = codes_are_split(layout);
    vfloat terms[TILE_GROUPS][SUM_TOKENS];
    UNROLL for (unsigned part = 0; part < parts; part++)
    {
        vint integers[TILE_GROUPS][SUM_TOKENS];
        UNROLL for (unsigned t = 0; t < tokens; t++)
        {
            vint start = layout.has_minimum || is_split
                             ? broadcast_i32(0)
                             : broadcast_i32(activations[t * activation_stride].start[part]);
            UNROLL for (unsigned g = 0; g < groups; g++)
            {
                integers[g][t] = start;
            }
        }
        if (is_split) {
            add_products(layout, groups, tokens, 8, 8, weights, weight_stride, activations,
                         activation_stride, integers);
            UNROLL for (unsigned t = 0; t < tokens; t++)
            {
                vint start = broadcast_i32(activations[t * activation_stride].start[part]);
                UNROLL for (unsigned g = 0; g < groups; g++)
                {
                    integers[g][t] = add_i32(shift_left(integers[g][t], 4), start);
                }
            }
        }
        add_products(layout, groups, tokens, part * 4, 8 / parts, weights, weight_stride,
                     activations, activation_stride, integers);
        UNROLL for (unsigned t = 0; t < tokens; t++)
        {
            UNROLL for (unsigned g = 0; g < groups; g++)
            {
                vfloat integer = to_float(integers[g][t]);
                vfloat scale = weights[g * weight_stride].scale[part];
                terms[g][t] =
                    part == 0 ? multiply_f32(integer, scale) : fma_f32(integer, scale, terms[g][t]);
            }
        }
    }
    UNROLL for (unsigned t = 0; t < tokens; t++)
    {
        UNROLL for (unsigned part = 0; part < minima; part++)
        {
            vfloat total = broadcast_f32(activations[t * activation_stride].total[part]);
            UNROLL for (unsigned g = 0; g < groups; g++)
            {
                terms[g][t] = fma_f32(weights[g * weight_stride].minimum[part], total, terms[g][t]);
            }
        }
        vfloat scale = broadcast_f32(activations[t * activation_stride].scale);
        UNROLL for (unsigned g = 0; g < groups; g++)
        {
            sums[g][t] = fma_f32(terms[g][t], scale, sums[g][t]);
        }
    }
}

INLINE unsigned lanes_used(const struct linear_call *call, uint64_t row)
{
    return call->row_end - row < LANES ? (unsigned)(call->row_end - row) : LANES;
}

/* Asks for the codes of later steps, in two hops: one alone leaves memory waiting. The next group
 * follows at once, so that this is right across its boundary too; past the end of the weight it
 * does no harm. */
INLINE void prefetch_codes(enum dtype dtype, const struct group *group, uint64_t step)
{
    const unsigned bytes = q_layout_vectors(q_layout_of(dtype)) * LANES * 4;
    const char *codes = (const char *)group->planes + step * bytes;
    UNROLL for (unsigned i = 0; i < bytes; i += 64)
    {
        prefetch_far(codes + PREFETCH_FAR + i);
        prefetch_near(codes + PREFETCH_NEAR + i);
    }
}

/* Asks for the same block's scales in the next group: they are streams too short for the hardware
 * to notice. */
INLINE void prefetch_scales(enum dtype dtype, const struct group *group, uint64_t block,
                            uint64_t group_bytes)
{
    const struct q_layout layout = q_layout_of(dtype);
    const unsigned half_bytes = layout.halves * LANES * 2;
    const unsigned word_bytes = layout.words * LANES * 4;
    const unsigned char *halves = group->halves + group_bytes + block * half_bytes;
    const unsigned char *words = group->words + group_bytes + block * word_bytes;
    if (half_bytes >= 64 || block % (64 / half_bytes) == 0) {
        prefetch_far(halves);
    }
    for (unsigned i = 0; i < word_bytes; i += 64) {
        prefetch_far(words + i);
    }
}

/* Up to FEW_TOKENS tokens: weights pass through registers once. Code is made for `tokens`; the call
 * may have fewer, and what is computed beyond them is dropped. */
INLINE void multiply_few(enum dtype dtype, unsigned tokens, const struct linear_call *call)
{
    const unsigned count = call->token_count < tokens ? call->token_count : tokens;
    const unsigned steps_max = FEW_PREPARED / tokens / 8 * 8; /* whole blocks */
    const struct q_layout layout = q_layout_of(dtype);
    const uint64_t steps = call->columns / 32;
    const uint64_t group_bytes = q_group_offsets_of(dtype, LANES, call->columns).end;
    struct prepared prepared[FEW_PREPARED];
    for (uint64_t begin = 0; begin < steps; begin += steps_max) {
        uint64_t end = steps - begin < steps_max ? steps : begin + steps_max;
        for (unsigned t = 0; t < count; t++) {
            const unsigned char *row =
                (const unsigned char *)call->activations + t * call->activation_stride;
            prepare_steps(layout, layout.offset,
                          (const struct activation_q8_block *)(const void *)row + begin,
                          end - begin, prepared + t * steps_max);
        }
        for (unsigned t = count; t < tokens; t++) {
            memcpy(prepared + t * steps_max, prepared, (end - begin) * sizeof *prepared);
        }
        for (uint64_t row = call->row_begin; row < call->row_end; row += LANES) {
            const struct group group = group_at(dtype, call, row);
            vfloat sums[TILE_GROUPS][SUM_TOKENS];
            UNROLL for (unsigned t = 0; t < tokens; t++)
            {
                const float *out = call->out + (t < count ? t : 0) * call->out_stride + row;
                sums[0][t] = begin == 0 ? broadcast_f32(0) : load_some(out, lanes_used(call, row));
            }
            for (uint64_t step = begin; step < end; step += layout.block_steps) {
                struct block_scales block;
                load_block(dtype, &group, step / layout.block_steps, &block);
                prefetch_scales(dtype, &group, step / layout.block_steps, group_bytes);
                UNROLL for (unsigned part = 0; part < layout.block_steps; part++)
                {
                    struct step_weights weights;
                    set_scales(dtype, &block, part, &weights);
                    prefetch_codes(dtype, &group, step + part);
                    unpack_codes(dtype, &group, step + part, &weights);
                    accumulate(dtype, 1, tokens, &weights, 1, prepared + (step + part - begin),
                               steps_max, sums);
                }
            }
            UNROLL for (unsigned t = 0; t < tokens; t++)
            {
                if (t >= count) {
                    break;
                }
                store_some(call->out + t * call->out_stride + row, sums[0][t],
                           lanes_used(call, row));
            }
        }
    }
}

/* Part of a product: a panel of unpacked steps times some tokens, into sums [token][row of the
 * panel] that live as long as the rows and tokens do. */
struct panel {
    struct step_weights weights[PANEL_GROUPS * PANEL_STEPS]; /* [group][step] */
    float sums[PANEL_TOKENS][PANEL_GROUPS * LANES];
    struct prepared activations[PREPARED_TOKENS * PANEL_STEPS]; /* of one tile: [token][step] */
    const unsigned char *activation; /* the first step of the first token */
    uint64_t stride;
    unsigned groups, steps, tokens;
    int offset;
    bool is_first; /* sums start from zero */
};

/* A tile of constant size over the panel's steps. `dtype` stands for all types of its form. */
INLINE void multiply_tile(enum dtype dtype, unsigned groups, unsigned tokens, struct panel *panel,
                          unsigned group, unsigned token)
{
    const struct step_weights *weights = panel->weights + group * PANEL_STEPS;
    vfloat sums[TILE_GROUPS][SUM_TOKENS];
    UNROLL for (unsigned t = 0; t < tokens; t++)
    {
        UNROLL for (unsigned g = 0; g < groups; g++)
        {
            sums[g][t] = panel->is_first ? broadcast_f32(0)
                                         : load_f32(&panel->sums[token + t][(group + g) * LANES]);
        }
    }
    for (unsigned step = 0; step < panel->steps; step++) {
        accumulate(dtype, groups, tokens, weights + step, PANEL_STEPS, panel->activations + step,
                   PANEL_STEPS, sums);
    }
    UNROLL for (unsigned t = 0; t < tokens; t++)
    {
        UNROLL for (unsigned g = 0; g < groups; g++)
        {
            store_f32(&panel->sums[token + t][(group + g) * LANES], sums[g][t]);
        }
    }
}

/* Asks for the activations of the tile after this one, and from the second-level cache for those of
 * the panel after this one: short pieces of many rows, which the hardware does not foresee. */
INLINE void prefetch_activations(const unsigned char *blocks, unsigned tokens,
                                 const struct panel *panel)
{
    const uint64_t bytes = panel->steps * sizeof(struct activation_q8_block);
    for (uint64_t i = 0; i < bytes; i += 64) {
        prefetch_near(blocks + tokens * panel->stride + i);
        prefetch_far(blocks + bytes + i);
    }
}

INLINE void prepare_tokens(enum dtype dtype, unsigned tokens, struct panel *panel, unsigned token)
{
    for (unsigned t = 0; t < tokens; t++) {
        const unsigned char *blocks = panel->activation + (token + t) * panel->stride;
        prefetch_activations(blocks, tokens, panel);
        prepare_steps(q_layout_of(dtype), panel->offset,
                      (const struct activation_q8_block *)(const void *)blocks, panel->steps,
                      panel->activations + t * PANEL_STEPS);
    }
}

#if defined(MATRIX_TOKENS)
/* What `accumulate` does for one group, with integer sums from the matrix registers: they are
 * exact, so that the bits are the same. */
INLINE void accumulate_matrix(enum dtype dtype, unsigned turn, const struct step_weights *weights,
                              const struct prepared *activations, vfloat sums[MATRIX_TOKENS])
{
    const struct q_layout layout = q_layout_of(dtype);
    const unsigned parts = layout.scale_16 ? 2 : 1;
    const unsigned minima = layout.has_minimum ? parts : 0;
    _Alignas(64) int32_t integers[2][MATRIX_TOKENS][LANES];
    matrix_products(layout.scale_16, weights->codes, activations->values,
                    PANEL_STEPS * sizeof *activations, turn, integers);
    UNROLL for (unsigned t = 0; t < MATRIX_TOKENS; t++)
    {
        const struct prepared *own = activations + t * PANEL_STEPS;
        vfloat term = broadcast_f32(0);
        UNROLL for (unsigned part = 0; part < parts; part++)
        {
            vint integer = load(integers[part][t]);
            if (!layout.has_minimum) {
                integer = add_i32(integer, broadcast_i32(own->start[part]));
            }
            term = part == 0 ? multiply_f32(to_float(integer), weights->scale[0])
                             : fma_f32(to_float(integer), weights->scale[1], term);
        }
        UNROLL for (unsigned part = 0; part < minima; part++)
        {
            term = fma_f32(weights->minimum[part], broadcast_f32(own->total[part]), term);
        }
        sums[t] = fma_f32(term, broadcast_f32(own->scale), sums[t]);
    }
}

/* MATRIX_TOKENS tokens over all groups of the panel. */
INLINE void multiply_matrix(enum dtype dtype, struct panel *panel, unsigned token)
{
    prepare_tokens(dtype, MATRIX_TOKENS, panel, token);
    for (unsigned group = 0; group < panel->groups; group++) {
        vfloat sums[MATRIX_TOKENS];
        UNROLL for (unsigned t = 0; t < MATRIX_TOKENS; t++)
        {
            sums[t] = panel->is_first ? broadcast_f32(0)
                                      : load_f32(&panel->sums[token + t][group * LANES]);
        }
        for (unsigned step = 0; step < panel->steps; step++) {
            accumulate_matrix(dtype, step % 2, panel->weights + group * PANEL_STEPS + step,
                              panel->activations + step, sums);
        }
        UNROLL for (unsigned t = 0; t < MATRIX_TOKENS; t++)
        {
            store_f32(&panel->sums[token + t][group * LANES], sums[t]);
        }
    }
}
#endif

/* Some tokens over all groups of the panel. */
INLINE void multiply_tokens(enum dtype dtype, unsigned tokens, struct panel *panel, unsigned token)
{
    prepare_tokens(dtype, tokens, panel, token);
    unsigned group = 0;
    for (; group + TILE_GROUPS <= panel->groups; group += TILE_GROUPS) {
        multiply_tile(dtype, TILE_GROUPS, tokens, panel, group, token);
    }
    if (group < panel->groups) {
        multiply_tile(dtype, 1, tokens, panel, group, token);
    }
}

INLINE void multiply_panel(enum dtype dtype, struct panel *panel)
{
    unsigned token = 0;
#if defined(MATRIX_TOKENS)
    for (; token + MATRIX_TOKENS <= panel->tokens; token += MATRIX_TOKENS) {
        multiply_matrix(dtype, panel, token);
    }
#endif
    for (; token + TILE_TOKENS <= panel->tokens; token += TILE_TOKENS) {
        multiply_tokens(dtype, TILE_TOKENS, panel, token);
    }
    for (; token + 2 <= panel->tokens; token += 2) {
        multiply_tokens(dtype, 2, panel, token);
    }
    if (token < panel->tokens) {
        multiply_tokens(dtype, 1, panel, token);
    }
}

/* One copy for each form of a panel: whether there are minima, what a scale belongs to, and without
 * an exact dot how soon sums must be widened. */
typedef void panel_function(struct panel *panel);

NO_INLINE void panel_q4_0(struct panel *panel)
{
    multiply_panel(DTYPE_Q4_0, panel);
}

NO_INLINE void panel_q4_1(struct panel *panel)
{
    multiply_panel(DTYPE_Q4_1, panel);
}

NO_INLINE void panel_q5_0(struct panel *panel)
{
    multiply_panel(DTYPE_Q5_0, panel);
}

NO_INLINE void panel_q5_1(struct panel *panel)
{
    multiply_panel(DTYPE_Q5_1, panel);
}

NO_INLINE void panel_q8_0(struct panel *panel)
{
    multiply_panel(DTYPE_Q8_0, panel);
}

NO_INLINE void panel_q2_k(struct panel *panel)
{
    multiply_panel(DTYPE_Q2_K, panel);
}

NO_INLINE void panel_q3_k(struct panel *panel)
{
    multiply_panel(DTYPE_Q3_K, panel);
}

NO_INLINE void panel_q6_k(struct panel *panel)
{
    multiply_panel(DTYPE_Q6_K, panel);
}

NO_INLINE void panel_iq2_xxs(struct panel *panel)
{
    multiply_panel(DTYPE_IQ2_XXS, panel);
}

NO_INLINE void panel_iq2_xs(struct panel *panel)
{
    multiply_panel(DTYPE_IQ2_XS, panel);
}

NO_INLINE void panel_iq1_m(struct panel *panel)
{
    multiply_panel(DTYPE_IQ1_M, panel);
}

static panel_function *panel_function_of(enum dtype dtype)
{
    switch (dtype) {
    case DTYPE_Q4_0:
    case DTYPE_TQ1_0:
    case DTYPE_TQ2_0:
        return panel_q4_0;
    case DTYPE_Q5_0:
    case DTYPE_MXFP4:
    case DTYPE_IQ3_S:
    case DTYPE_IQ1_S:
        return DOT_IS_EXACT32 ? panel_q4_0 : panel_q5_0;
    case DTYPE_IQ3_XXS:
    case DTYPE_IQ2_XXS:
        return DOT_IS_EXACT32 ? panel_q4_0 : panel_iq2_xxs;
    case DTYPE_IQ2_XS:
    case DTYPE_IQ2_S:
        return DOT_IS_EXACT32 ? panel_q6_k : panel_iq2_xs;
    case DTYPE_IQ1_M:
        return DOT_IS_EXACT32 ? panel_q6_k : panel_iq1_m;
    case DTYPE_IQ4_NL:
    case DTYPE_IQ4_XS:
    case DTYPE_Q8_0:
        return DOT_CODE_MAX >= 255 ? panel_q4_0 : panel_q8_0;
    case DTYPE_Q4_1:
    case DTYPE_Q4_K:
        return panel_q4_1;
    case DTYPE_Q5_1:
    case DTYPE_Q5_K:
        return DOT_IS_EXACT32 ? panel_q4_1 : panel_q5_1;
    case DTYPE_Q3_K:
        return DOT_IS_EXACT32 ? panel_q6_k : panel_q3_k;
    case DTYPE_Q6_K:
        return panel_q6_k;
    default:
        return panel_q2_k;
    }
}

/* Asks for the codes that the next panel will unpack; not into the first cache, which this one
 * fills.
 */
INLINE void prefetch_panel(enum dtype dtype, const struct group *group, uint64_t step)
{
    const unsigned bytes = q_layout_vectors(q_layout_of(dtype)) * LANES * 4;
    const char *codes = (const char *)group->planes + (step + PANEL_STEPS) * bytes;
    UNROLL for (unsigned i = 0; i < bytes; i += 64)
    {
        prefetch_far(codes + i);
    }
}

/* Steps [begin, begin + count) of one group. */
INLINE void unpack_panel(enum dtype dtype, const struct group *group, uint64_t begin,
                         unsigned count, struct step_weights *weights)
{
    const struct q_layout layout = q_layout_of(dtype);
    for (unsigned step = 0; step < count; step += layout.block_steps) {
        struct block_scales block;
        load_block(dtype, group, (begin + step) / layout.block_steps, &block);
        UNROLL for (unsigned part = 0; part < layout.block_steps; part++)
        {
            set_scales(dtype, &block, part, &weights[step + part]);
            prefetch_panel(dtype, group, begin + step + part);
            unpack_codes(dtype, group, begin + step + part, &weights[step + part]);
        }
    }
}

/* Some groups of rows times some tokens: panel after panel along the columns. */
INLINE void multiply_panels(enum dtype dtype, const struct linear_call *call, uint64_t row,
                            uint32_t token, struct panel *panel)
{
    const uint64_t steps = call->columns / 32;
    for (uint64_t begin = 0; begin < steps; begin += PANEL_STEPS) {
        panel->steps = steps - begin < PANEL_STEPS ? (unsigned)(steps - begin) : PANEL_STEPS;
        panel->is_first = begin == 0;
        panel->activation = (const unsigned char *)call->activations + token * panel->stride +
                            begin * sizeof(struct activation_q8_block);
        for (unsigned g = 0; g < panel->groups; g++) {
            struct group group = group_at(dtype, call, row + g * LANES);
            unpack_panel(dtype, &group, begin, panel->steps, panel->weights + g * PANEL_STEPS);
        }
        panel_function_of(dtype)(panel);
    }
}

INLINE void multiply_many(enum dtype dtype, const struct linear_call *call)
{
    struct panel panel;
    const unsigned groups_max = codes_are_split(q_layout_of(dtype)) ? 2 : PANEL_GROUPS;
    const uint64_t groups = (call->row_end - call->row_begin + LANES - 1) / LANES;
    const uint64_t panels = (groups + groups_max - 1) / groups_max;
    /* Panels of equal size: what activations cost is paid once a panel. */
    const uint64_t panel_groups =
        ((groups + panels - 1) / panels + TILE_GROUPS - 1) / TILE_GROUPS * TILE_GROUPS;
    panel.stride = call->activation_stride;
    panel.offset = q_layout_of(dtype).offset;
    for (uint64_t row = call->row_begin; row < call->row_end; row += panel_groups * LANES) {
        uint64_t rows = call->row_end - row;
        rows = rows < panel_groups * LANES ? rows : panel_groups * LANES;
        panel.groups = (unsigned)((rows + LANES - 1) / LANES);
        for (uint32_t token = 0; token < call->token_count; token += PANEL_TOKENS) {
            uint32_t left = call->token_count - token;
            panel.tokens = left < PANEL_TOKENS ? left : PANEL_TOKENS;
            multiply_panels(dtype, call, row, token, &panel);
            for (unsigned t = 0; t < panel.tokens; t++) {
                memcpy(call->out + (token + t) * call->out_stride + row, panel.sums[t],
                       rows * sizeof(float));
            }
        }
    }
}

INLINE void multiply(enum dtype dtype, const struct linear_call *call)
{
    switch (call->token_count) {
    case 1:
        multiply_few(dtype, 1, call);
        return;
    case 2:
        multiply_few(dtype, 2, call);
        return;
    case 3:
        multiply_few(dtype, 3, call);
        return;
    case 4:
        multiply_few(dtype, 4, call);
        return;
    case 5:
    case 6:
    case 7:
    case 8:
        if (FEW_TOKENS == 8) {
            multiply_few(dtype, 8, call);
            return;
        }
        break;
    default:
        break;
    }
#if defined(MATRIX_TOKENS)
    matrix_begin();
    multiply_many(dtype, call);
    matrix_end();
#else
    multiply_many(dtype, call);
#endif
}

/* The table entry of one type: `type` as in DTYPE_type, `lower` as in names, `level` such as
 * avx2, `check` the function that says whether a CPU has it. */
#define LINEAR_Q_KERNEL(type, lower, level, suffix, check)                                     \
    static uint64_t bytes_##lower(uint64_t rows, uint64_t columns)                             \
    {                                                                                          \
        return linear_q_packed_bytes(DTYPE_##type, LANES, rows, columns);                      \
    }                                                                                          \
    static void pack_##lower(const void *source, uint64_t rows, uint64_t columns,              \
                             uint64_t row_begin, uint64_t row_end, void *packed)               \
    {                                                                                          \
        linear_q_pack(DTYPE_##type, LANES, source, rows, columns, row_begin, row_end, packed); \
    }                                                                                          \
    static void multiply_##lower(const struct linear_call *call)                               \
    {                                                                                          \
        multiply(DTYPE_##type, call);                                                          \
    }                                                                                          \
    const struct linear_kernel linear_##lower##_q8_##level = {                                 \
        .name = "linear_" #lower "_q8_" suffix,                                                \
        .dtype = DTYPE_##type,                                                                 \
        .activation = ACTIVATION_Q8,                                                           \
        .row_group = LANES,                                                                    \
        .available = check,                                                                    \
        .packed_bytes = bytes_##lower,                                                         \
        .pack = pack_##lower,                                                                  \
        .multiply = multiply_##lower,                                                          \
    };

#define LINEAR_Q_KERNELS(level, suffix, check)              \
    LINEAR_Q_KERNEL(Q4_0, q4_0, level, suffix, check)       \
    LINEAR_Q_KERNEL(Q4_1, q4_1, level, suffix, check)       \
    LINEAR_Q_KERNEL(Q5_0, q5_0, level, suffix, check)       \
    LINEAR_Q_KERNEL(Q5_1, q5_1, level, suffix, check)       \
    LINEAR_Q_KERNEL(Q8_0, q8_0, level, suffix, check)       \
    LINEAR_Q_KERNEL(Q2_K, q2_k, level, suffix, check)       \
    LINEAR_Q_KERNEL(Q3_K, q3_k, level, suffix, check)       \
    LINEAR_Q_KERNEL(Q4_K, q4_k, level, suffix, check)       \
    LINEAR_Q_KERNEL(Q5_K, q5_k, level, suffix, check)       \
    LINEAR_Q_KERNEL(Q6_K, q6_k, level, suffix, check)       \
    LINEAR_Q_KERNEL(IQ4_NL, iq4_nl, level, suffix, check)   \
    LINEAR_Q_KERNEL(IQ4_XS, iq4_xs, level, suffix, check)   \
    LINEAR_Q_KERNEL(MXFP4, mxfp4, level, suffix, check)     \
    LINEAR_Q_KERNEL(TQ1_0, tq1_0, level, suffix, check)     \
    LINEAR_Q_KERNEL(TQ2_0, tq2_0, level, suffix, check)     \
    LINEAR_Q_KERNEL(IQ3_S, iq3_s, level, suffix, check)     \
    LINEAR_Q_KERNEL(IQ3_XXS, iq3_xxs, level, suffix, check) \
    LINEAR_Q_KERNEL(IQ2_S, iq2_s, level, suffix, check)     \
    LINEAR_Q_KERNEL(IQ2_XS, iq2_xs, level, suffix, check)   \
    LINEAR_Q_KERNEL(IQ2_XXS, iq2_xxs, level, suffix, check) \
    LINEAR_Q_KERNEL(IQ1_M, iq1_m, level, suffix, check)     \
    LINEAR_Q_KERNEL(IQ1_S, iq1_s, level, suffix, check)
