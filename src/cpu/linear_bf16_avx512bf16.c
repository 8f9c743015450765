/* The matrix kernel of BF16 weights with the CPU's own products of pairs (vdpbf16ps): activations
 * are rounded to BF16, nothing is converted.
 *
 * Order. out[t, r] is one sum over pairs of columns in order; of a pair the instruction adds the
 * odd column first, each product rounded once. One token and many do exactly this.
 *
 * Bound. A product of 32 columns' pairs is one instruction: where the CPU does two of them a cycle
 * (or one while it does one multiply-add) prefill is twice as fast as with floats; where it does
 * one in two cycles, half as fast, and decode waits for memory either way.
 * docs/internals/cpu-device.md has what was measured. Stateless: any thread. */
#include <immintrin.h>
#include <string.h>

#include "cpu/linear_float_pack.h"
#include "cpu/linear_table.h"

#define TILE_TOKENS   12u
#define VECTORS       (LINEAR_FLOAT_ROWS / 16)
#define PAIR_ELEMENTS (2 * LINEAR_FLOAT_ROWS) /* of a group and pair of columns */
/* Bytes of weights that are fetched ahead, into the second-level cache and into the first. */
#define FETCH_FAR  16384u
#define FETCH_NEAR 1024u

#define INLINE static inline __attribute__((always_inline))

INLINE const uint16_t *group_at(const struct linear_call *call, uint64_t row)
{
    return (const uint16_t *)call->weight + row * call->columns;
}

INLINE void store_rows(const struct linear_call *call, uint64_t row, uint32_t token,
                       const __m512 sums[VECTORS])
{
    uint64_t rows = call->row_end - row;
    float *out = call->out + token * call->out_stride + row;
    for (uint32_t v = 0; v < VECTORS; v++) {
        uint64_t left = rows > 16 * v ? rows - 16 * v : 0;
        left = left < 16 ? left : 16;
        _mm512_mask_storeu_ps(out + 16 * v, (__mmask16)((1u << left) - 1), sums[v]);
    }
}

/* `groups` neighbouring groups of rows times `tokens` tokens from `token`, over all columns. */
INLINE void tile(uint32_t groups, uint32_t tokens, const struct linear_call *call, uint64_t row,
                 uint32_t token)
{
    const uint16_t *weight[2] = {group_at(call, row), group_at(call, row + LINEAR_FLOAT_ROWS)};
    const unsigned char *x = (const unsigned char *)call->activations;
    const uint64_t stride = call->activation_stride;
    __m512 sums[2][TILE_TOKENS][VECTORS];
    for (uint32_t g = 0; g < groups; g++) {
        for (uint32_t t = 0; t < tokens; t++) {
            for (uint32_t v = 0; v < VECTORS; v++) {
                sums[g][t][v] = _mm512_setzero_ps();
            }
        }
    }
    /* As in the float kernels: a pointer to every third row, so that they fit the registers. */
    const unsigned char *base[(TILE_TOKENS + 2) / 3];
    for (uint32_t i = 0; i < (tokens + 2) / 3; i++) {
        base[i] = x + (token + 3 * i) * stride;
    }
    for (uint64_t pair = 0; pair < call->columns / 2; pair++) {
        __m512bh w[2][VECTORS];
        for (uint32_t g = 0; g < groups; g++) {
            const uint16_t *at = weight[g] + pair * PAIR_ELEMENTS;
            for (uint32_t v = 0; v < VECTORS; v++) {
                w[g][v] = (__m512bh)_mm512_loadu_si512(at + 32 * v);
                _mm_prefetch((const char *)at + FETCH_NEAR + 64 * v, _MM_HINT_T0);
                _mm_prefetch((const char *)at + FETCH_FAR + 64 * v, _MM_HINT_T1);
            }
        }
        for (uint32_t t = 0; t < tokens; t++) {
            int32_t both;
            memcpy(&both, base[t / 3] + t % 3 * stride + 4 * pair, sizeof both);
            __m512bh factor = (__m512bh)_mm512_set1_epi32(both);
            for (uint32_t g = 0; g < groups; g++) {
                for (uint32_t v = 0; v < VECTORS; v++) {
                    sums[g][t][v] = _mm512_dpbf16_ps(sums[g][t][v], w[g][v], factor);
                }
            }
        }
    }
    for (uint32_t g = 0; g < groups; g++) {
        for (uint32_t t = 0; t < tokens; t++) {
            store_rows(call, row + g * LINEAR_FLOAT_ROWS, token + t, sums[g][t]);
        }
    }
}

/* All tokens against one group, which stays in the second-level cache meanwhile. */
static void multiply_group(const struct linear_call *call, uint64_t row)
{
    uint32_t token = 0;
    for (; token + TILE_TOKENS <= call->token_count; token += TILE_TOKENS) {
        tile(1, TILE_TOKENS, call, row, token);
    }
    for (; token + 4 <= call->token_count; token += 4) {
        tile(1, 4, call, row, token);
    }
    for (; token < call->token_count; token++) {
        tile(1, 1, call, row, token);
    }
}

static void multiply(const struct linear_call *call)
{
    uint64_t row = call->row_begin;
    for (; call->token_count == 1 && row + LINEAR_FLOAT_ROWS < call->row_end;
         row += 2 * LINEAR_FLOAT_ROWS) {
        tile(2, 1, call, row, 0);
    }
    for (; row < call->row_end; row += LINEAR_FLOAT_ROWS) {
        multiply_group(call, row);
    }
}

static bool available(const struct cpu_features *features)
{
    return features->avx512 && features->avx512_bf16;
}

const struct linear_kernel linear_bf16_bf16_avx512bf16_r32 = {
    .name = "linear_bf16_bf16_avx512bf16_r32",
    .dtype = DTYPE_BF16,
    .activation = ACTIVATION_BF16,
    .row_group = LINEAR_FLOAT_ROWS,
    .available = available,
    .packed_bytes = linear_packed_bytes_2,
    .pack = linear_pack_pairs,
    .multiply = multiply,
};
