/* The operations of linear_q_body.h with AMX for sixteen tokens and more, on top of AVX-512 with
 * VNNI for fewer: a step's unpacked codes are a matrix register as they lie (quads of columns of
 * sixteen rows), and so are the prepared activations of sixteen tokens. */
#ifndef CPU_LINEAR_Q_AMX_OPS_H
#define CPU_LINEAR_Q_AMX_OPS_H

#include <immintrin.h>
#include <stdbool.h>

#include "cpu/amx_tile.h"

#define LANES          16
#define TILE_TOKENS    6
#define DOT_IS_EXACT32 1
#define DOT_CODE_MAX   255
#define MATRIX_TOKENS  16

#include "cpu/linear_q_avx512_ops.h"

static inline vint dot(vint part, vint codes, vint activations)
{
    return _mm512_dpbusd_epi32(part, codes, activations);
}

static inline vint widen(vint part)
{
    return part;
}

/* Tiles 0 and 1 are sums; 2 activations and 3 codes of 32 columns; 4 and 5, 6 and 7 those of the
 * first and the last 16. */
static inline void matrix_begin(void)
{
    struct amx_config config = {0};
    amx_config_set(&config, 0, AMX_ROWS, AMX_ROW_BYTES);
    amx_config_set(&config, 1, AMX_ROWS, AMX_ROW_BYTES);
    amx_config_set(&config, 2, AMX_ROWS, 32);
    amx_config_set(&config, 3, 8, AMX_ROW_BYTES);
    for (int half = 0; half < 2; half++) {
        amx_config_set(&config, 4 + 2 * half, AMX_ROWS, 16);
        amx_config_set(&config, 5 + 2 * half, 4, AMX_ROW_BYTES);
    }
    amx_configure(&config);
}

static inline void matrix_end(void)
{
    amx_release();
}

static inline __attribute__((always_inline)) void
matrix_products(bool halves, const vint codes[8], const int8_t *values, uint64_t stride,
                unsigned turn, int32_t out[][MATRIX_TOKENS][LANES])
{
    if (halves) {
        AMX_ZERO(0);
        AMX_ZERO(1);
        AMX_LOAD(4, values, stride);
        AMX_LOAD(5, codes, AMX_ROW_BYTES);
        AMX_LOAD(6, values + 16, stride);
        AMX_LOAD(7, codes + 4, AMX_ROW_BYTES);
        AMX_DOT_S8_U8(0, 4, 5);
        AMX_DOT_S8_U8(1, 6, 7);
        AMX_STORE(0, out[0], AMX_ROW_BYTES);
        AMX_STORE(1, out[1], AMX_ROW_BYTES);
    } else if (turn == 0) {
        AMX_ZERO(0);
        AMX_LOAD(2, values, stride);
        AMX_LOAD(3, codes, AMX_ROW_BYTES);
        AMX_DOT_S8_U8(0, 2, 3);
        AMX_STORE(0, out[0], AMX_ROW_BYTES);
    } else {
        AMX_ZERO(1);
        AMX_LOAD(2, values, stride);
        AMX_LOAD(3, codes, AMX_ROW_BYTES);
        AMX_DOT_S8_U8(1, 2, 3);
        AMX_STORE(1, out[0], AMX_ROW_BYTES);
    }
}

#endif
