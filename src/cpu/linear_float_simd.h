/* Matrix kernels of the plain types in the words of simd_*.h. The including file first defines
 * TILE_TOKENS and TILE_VECTORS, a rectangle of sums that fits the registers, and STRAIGHT_TOKENS.
 *
 * Up to STRAIGHT_TOKENS tokens each tile turns two-byte weights into floats itself, two operations
 * beside TILE_TOKENS multiply-adds a vector; more tokens share one conversion, whose floats cost a
 * store and twice the reading.
 *
 * Bound. One token: every weight byte is read once and used for one multiply-add a value, so that
 * memory is the limit: weight bytes / read bandwidth. Many tokens: 2 · rows · columns · tokens
 * floating-point operations / peak; a tile does TILE_TOKENS · TILE_VECTORS multiply-adds for
 * TILE_TOKENS + TILE_VECTORS loads.
 *
 * Order. out[t, r] = ((0 + s₀) + s₁) + …, s_i the fused multiply-adds of 256 columns in order from
 * zero. Both ways below do exactly this. */
#ifndef CPU_LINEAR_FLOAT_SIMD_H
#define CPU_LINEAR_FLOAT_SIMD_H

#include "cpu/linear_float_pack.h"
#include "cpu/linear_table.h"

#define GROUP_VECTORS (LINEAR_FLOAT_ROWS / SIMD_WIDTH)
/* Up to so many tokens read packed weights straight, both a stream and a rectangle of sums. */
#define DIRECT_TOKENS 4u
/* Weights are fetched twice: a piece (256 columns) ahead from memory into the second-level cache,
 * and so many bytes ahead from there into the first. Either alone leaves a tenth of the bandwidth
 * unused (docs/internals/cpu-device.md has the table). */
#define PREFETCH_NEAR_BYTES 3072u

SIMD_INLINE uint64_t element_bytes(enum dtype dtype)
{
    return dtype == DTYPE_F32 ? 4 : 2;
}

SIMD_INLINE const float *activation_row(const struct linear_call *call, uint64_t token)
{
    return (const float *)(const void *)((const unsigned char *)call->activations +
                                         token * call->activation_stride);
}

/* Rows of the group at `row` that exist. */
SIMD_INLINE uint32_t group_rows(const struct linear_call *call, uint64_t row)
{
    uint64_t rest = call->row_end - row;
    return rest < LINEAR_FLOAT_ROWS ? (uint32_t)rest : LINEAR_FLOAT_ROWS;
}

/* Stores the vector of rows that begins `offset` into a group of `rows` rows. */
SIMD_INLINE void store_rows(float *out, SIMD_VECTOR v, uint32_t offset, uint32_t rows)
{
    if (offset + SIMD_WIDTH <= rows) {
        simd_store(out + offset, v);
    } else if (offset < rows) {
        simd_store_part(out + offset, v, rows - offset);
    }
}

SIMD_INLINE SIMD_VECTOR load_rows(const float *out, uint32_t offset, uint32_t rows)
{
    if (offset + SIMD_WIDTH <= rows) {
        return simd_load(out + offset);
    }
    return offset < rows ? simd_load_part(out + offset, rows - offset) : simd_zero();
}

/* --- few tokens ----------------------------------------------------------------------------- */

SIMD_INLINE void clear(SIMD_VECTOR sums[2][DIRECT_TOKENS][GROUP_VECTORS])
{
    for (uint32_t g = 0; g < 2; g++) {
        for (uint32_t t = 0; t < DIRECT_TOKENS; t++) {
            for (uint32_t v = 0; v < GROUP_VECTORS; v++) {
                sums[g][t][v] = simd_zero();
            }
        }
    }
}

/* One piece of depth of `groups` neighbouring groups times `tokens` rows, while the piece at
 * `ahead` is fetched. */
SIMD_INLINE void direct_piece(enum dtype dtype, uint32_t groups, uint32_t tokens,
                              const unsigned char *weight, const unsigned char *ahead,
                              uint64_t group_bytes, const float *const *x, uint64_t begin,
                              uint64_t end, SIMD_VECTOR sums[2][DIRECT_TOKENS][GROUP_VECTORS])
{
    clear(sums);
    for (uint64_t k = begin; k < end; k++) {
        SIMD_VECTOR factor[DIRECT_TOKENS];
        for (uint32_t t = 0; t < tokens; t++) {
            factor[t] = simd_set(x[t][k]);
        }
        for (uint32_t g = 0; g < groups; g++) {
            const unsigned char *at =
                weight + g * group_bytes + k * LINEAR_FLOAT_ROWS * element_bytes(dtype);
            simd_prefetch(at + PREFETCH_NEAR_BYTES);
            for (uint64_t line = 0; line < LINEAR_FLOAT_ROWS * element_bytes(dtype); line += 64) {
                simd_prefetch_far(ahead + g * group_bytes +
                                  (k - begin) * LINEAR_FLOAT_ROWS * element_bytes(dtype) + line);
            }
            for (uint32_t v = 0; v < GROUP_VECTORS; v++) {
                SIMD_VECTOR w = simd_load_plain(dtype, at, v * SIMD_WIDTH);
                for (uint32_t t = 0; t < tokens; t++) {
                    sums[g][t][v] = simd_multiply_add(w, factor[t], sums[g][t][v]);
                }
            }
        }
    }
}

SIMD_INLINE void direct_groups(enum dtype dtype, uint32_t groups, uint32_t tokens,
                               const struct linear_call *call, uint64_t row)
{
    uint64_t group_bytes = LINEAR_FLOAT_ROWS * call->columns * element_bytes(dtype);
    const unsigned char *weight =
        (const unsigned char *)call->weight + row / LINEAR_FLOAT_ROWS * group_bytes;
    const float *x[DIRECT_TOKENS];
    SIMD_VECTOR totals[2][DIRECT_TOKENS][GROUP_VECTORS];
    SIMD_VECTOR sums[2][DIRECT_TOKENS][GROUP_VECTORS];
    for (uint32_t t = 0; t < tokens; t++) {
        x[t] = activation_row(call, t);
    }
    clear(totals);
    for (uint64_t k = 0; k < call->columns; k += LINEAR_FLOAT_DEPTH) {
        uint64_t rest = call->columns - k;
        uint64_t end = rest < LINEAR_FLOAT_DEPTH ? call->columns : k + LINEAR_FLOAT_DEPTH;
        /* After the last piece come the next groups' first. */
        const unsigned char *ahead =
            weight + (end < call->columns ? end * LINEAR_FLOAT_ROWS * element_bytes(dtype)
                                          : groups * group_bytes);
        direct_piece(dtype, groups, tokens, weight, ahead, group_bytes, x, k, end, sums);
        for (uint32_t g = 0; g < groups; g++) {
            for (uint32_t t = 0; t < tokens; t++) {
                for (uint32_t v = 0; v < GROUP_VECTORS; v++) {
                    totals[g][t][v] = simd_add(totals[g][t][v], sums[g][t][v]);
                }
            }
        }
    }
    for (uint32_t g = 0; g < groups; g++) {
        uint64_t first = row + g * LINEAR_FLOAT_ROWS;
        for (uint32_t t = 0; t < tokens; t++) {
            for (uint32_t v = 0; v < GROUP_VECTORS; v++) {
                store_rows(call->out + t * call->out_stride + first, totals[g][t][v],
                           v * SIMD_WIDTH, group_rows(call, first));
            }
        }
    }
}

SIMD_INLINE void direct(enum dtype dtype, uint32_t tokens, const struct linear_call *call)
{
    uint64_t row = call->row_begin;
    for (; tokens <= 2 && row + LINEAR_FLOAT_ROWS < call->row_end; row += 2 * LINEAR_FLOAT_ROWS) {
        direct_groups(dtype, 2, tokens, call, row);
    }
    for (; row < call->row_end; row += LINEAR_FLOAT_ROWS) {
        direct_groups(dtype, 1, tokens, call, row);
    }
}

/* --- many tokens ---------------------------------------------------------------------------- */

/* What a tile fetches while it computes, so that memory does not rest meanwhile: its share of the
 * piece of weights that comes next. */
struct ahead {
    const unsigned char *data;
    uint64_t step; /* bytes a column */
};

/* One tile of one piece: `tokens` rows times TILE_VECTORS vectors of weights from row `offset` on
 * at `panel`, [depth][32] elements. */
SIMD_INLINE void tile(enum dtype dtype, uint32_t tokens, const unsigned char *panel, const float *x,
                      uint64_t x_stride, uint64_t depth, float *out, uint64_t out_stride,
                      uint32_t offset, uint32_t rows, bool first, struct ahead ahead)
{
    SIMD_VECTOR sums[TILE_TOKENS][TILE_VECTORS];
    for (uint32_t t = 0; t < tokens; t++) {
        for (uint32_t v = 0; v < TILE_VECTORS; v++) {
            sums[t][v] = simd_zero();
        }
    }
    /* Every third row has a pointer of its own; the others are one and two strides away, which x86
     * addresses for free. Twelve pointers would not fit the registers. */
    const float *base[(TILE_TOKENS + 2) / 3];
    for (uint32_t i = 0; i < (tokens + 2) / 3; i++) {
        base[i] = x + 3 * i * x_stride;
    }
    for (uint64_t k = 0; k < depth; k++) {
        SIMD_VECTOR w[TILE_VECTORS];
        simd_prefetch(ahead.data + k * ahead.step);
        for (uint32_t v = 0; v < TILE_VECTORS; v++) {
            w[v] = simd_load_plain(dtype, panel, k * LINEAR_FLOAT_ROWS + offset + v * SIMD_WIDTH);
        }
        for (uint32_t t = 0; t < tokens; t++) {
            SIMD_VECTOR factor = simd_set(base[t / 3][t % 3 * x_stride]);
            for (uint32_t v = 0; v < TILE_VECTORS; v++) {
                sums[t][v] = simd_multiply_add(w[v], factor, sums[t][v]);
            }
        }
        for (uint32_t i = 0; i < (tokens + 2) / 3; i++) {
            base[i]++;
        }
    }
    for (uint32_t t = 0; t < tokens; t++) {
        float *to = out + t * out_stride;
        for (uint32_t v = 0; v < TILE_VECTORS; v++) {
            uint32_t at = offset + v * SIMD_WIDTH;
            SIMD_VECTOR before = first ? simd_zero() : load_rows(to, at, rows);
            SIMD_VECTOR total = simd_add(before, sums[t][v]);
            store_rows(to, total, at, rows);
        }
    }
}

/* `tokens` tokens from `token` against one group's piece. */
SIMD_INLINE void panel_tile(enum dtype dtype, uint32_t tokens, const struct linear_call *call,
                            const unsigned char *panel, uint64_t row, uint64_t k, uint64_t depth,
                            uint32_t token, struct ahead ahead)
{
    uint64_t x_stride = call->activation_stride / sizeof(float);
    uint32_t rows = group_rows(call, row);
    const float *x = activation_row(call, token) + k;
    float *out = call->out + token * call->out_stride + row;
    for (uint32_t offset = 0; offset < rows; offset += TILE_VECTORS * SIMD_WIDTH) {
        tile(dtype, tokens, panel, x, x_stride, depth, out, call->out_stride, offset, rows, k == 0,
             ahead);
    }
}

/* All tokens against one group's piece, in tiles of about the same size. */
SIMD_INLINE void panel_tokens(enum dtype dtype, const struct linear_call *call,
                              const unsigned char *panel, uint64_t row, uint64_t k, uint64_t depth,
                              const unsigned char *next, uint64_t next_bytes)
{
    uint32_t tiles = (call->token_count + TILE_TOKENS - 1) / TILE_TOKENS;
    uint32_t token = 0;
    struct ahead ahead = {next, next_bytes / tiles / depth};
    for (uint32_t i = 0; i < tiles; i++) {
        uint32_t tokens = call->token_count / tiles + (i < call->token_count % tiles);
        switch (tokens) {
        case 1:
            panel_tile(dtype, 1, call, panel, row, k, depth, token, ahead);
            break;
        case 2:
            panel_tile(dtype, 2, call, panel, row, k, depth, token, ahead);
            break;
        case 3:
            panel_tile(dtype, 3, call, panel, row, k, depth, token, ahead);
            break;
        case 4:
            panel_tile(dtype, 4, call, panel, row, k, depth, token, ahead);
            break;
        case 5:
            panel_tile(dtype, 5, call, panel, row, k, depth, token, ahead);
            break;
        case 6:
            panel_tile(dtype, 6, call, panel, row, k, depth, token, ahead);
            break;
#if TILE_TOKENS > 6
        case 7:
            panel_tile(dtype, 7, call, panel, row, k, depth, token, ahead);
            break;
        case 8:
            panel_tile(dtype, 8, call, panel, row, k, depth, token, ahead);
            break;
        case 9:
            panel_tile(dtype, 9, call, panel, row, k, depth, token, ahead);
            break;
        case 10:
            panel_tile(dtype, 10, call, panel, row, k, depth, token, ahead);
            break;
        case 11:
            panel_tile(dtype, 11, call, panel, row, k, depth, token, ahead);
            break;
        case 12:
            panel_tile(dtype, 12, call, panel, row, k, depth, token, ahead);
            break;
#endif
        }
        token += tokens;
        ahead.data += next_bytes / tiles;
    }
}

/* Functions of their own, one a type: within a larger one the compiler finds no registers for the
 * pointers of a tile. */
#define PANEL_FUNCTION(name, dtype)                                                           \
    static __attribute__((noinline)) void panel_##name(                                       \
        const struct linear_call *call, const unsigned char *panel, uint64_t row, uint64_t k, \
        uint64_t depth, const unsigned char *next, uint64_t next_bytes)                       \
    {                                                                                         \
        panel_tokens(dtype, call, panel, row, k, depth, next, next_bytes);                    \
    }

PANEL_FUNCTION(f32, DTYPE_F32)
PANEL_FUNCTION(f16, DTYPE_F16)
PANEL_FUNCTION(bf16, DTYPE_BF16)

SIMD_INLINE void panels(enum dtype dtype, const struct linear_call *call)
{
    _Alignas(64) float converted[LINEAR_FLOAT_DEPTH * LINEAR_FLOAT_ROWS];
    uint64_t group_bytes = LINEAR_FLOAT_ROWS * call->columns * element_bytes(dtype);
    const unsigned char *weight = call->weight;
    const bool straight = call->token_count <= STRAIGHT_TOKENS;
    for (uint64_t k = 0; k < call->columns; k += LINEAR_FLOAT_DEPTH) {
        uint64_t rest = call->columns - k;
        uint64_t depth = rest < LINEAR_FLOAT_DEPTH ? rest : LINEAR_FLOAT_DEPTH;
        for (uint64_t row = call->row_begin; row < call->row_end; row += LINEAR_FLOAT_ROWS) {
            const unsigned char *piece = weight + row / LINEAR_FLOAT_ROWS * group_bytes +
                                         k * LINEAR_FLOAT_ROWS * element_bytes(dtype);
            bool last = row + LINEAR_FLOAT_ROWS >= call->row_end;
            const unsigned char *next =
                !last          ? piece + group_bytes
                : rest > depth ? weight + call->row_begin / LINEAR_FLOAT_ROWS * group_bytes +
                                     (k + depth) * LINEAR_FLOAT_ROWS * element_bytes(dtype)
                               : piece;
            const uint64_t next_bytes = depth * LINEAR_FLOAT_ROWS * element_bytes(dtype);
            if (dtype == DTYPE_F16 && straight) {
                panel_f16(call, piece, row, k, depth, next, next_bytes);
            } else if (dtype == DTYPE_BF16 && straight) {
                panel_bf16(call, piece, row, k, depth, next, next_bytes);
            } else if (dtype == DTYPE_F32) {
                panel_f32(call, piece, row, k, depth, next, next_bytes);
            } else {
                for (uint64_t i = 0; i < depth * LINEAR_FLOAT_ROWS; i += SIMD_WIDTH) {
                    simd_store(converted + i, simd_load_plain(dtype, piece, i));
                }
                panel_f32(call, (const unsigned char *)converted, row, k, depth, next, next_bytes);
            }
        }
    }
}

SIMD_INLINE void multiply(enum dtype dtype, const struct linear_call *call)
{
    switch (call->token_count) {
    case 0:
        break;
    case 1:
        direct(dtype, 1, call);
        break;
    case 2:
        direct(dtype, 2, call);
        break;
    case 3:
        direct(dtype, 3, call);
        break;
    case 4:
        direct(dtype, 4, call);
        break;
    default:
        panels(dtype, call);
    }
}

static void multiply_f32(const struct linear_call *call)
{
    multiply(DTYPE_F32, call);
}

static void multiply_f16(const struct linear_call *call)
{
    multiply(DTYPE_F16, call);
}

static void multiply_bf16(const struct linear_call *call)
{
    multiply(DTYPE_BF16, call);
}

/* The table entry of one type: `size` is that of its elements. */
#define LINEAR_FLOAT_KERNEL(lower, dtype_id, size, level, check)      \
    const struct linear_kernel linear_##lower##_f32_##level##_r32 = { \
        .name = "linear_" #lower "_f32_" #level "_r32",               \
        .dtype = DTYPE_##dtype_id,                                    \
        .activation = ACTIVATION_F32,                                 \
        .row_group = LINEAR_FLOAT_ROWS,                               \
        .available = check,                                           \
        .packed_bytes = linear_packed_bytes_##size,                   \
        .pack = linear_pack_##size,                                   \
        .multiply = multiply_##lower,                                 \
    };

/* The plain types at one level; `check` says whether a CPU has it. */
#define LINEAR_FLOAT_KERNELS(level, check)         \
    LINEAR_FLOAT_KERNEL(f32, F32, 4, level, check) \
    LINEAR_FLOAT_KERNEL(f16, F16, 2, level, check) \
    LINEAR_FLOAT_KERNEL(bf16, BF16, 2, level, check)

#endif
