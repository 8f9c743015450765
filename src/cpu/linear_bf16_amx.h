/* The matrix kernel of BF16 weights with AMX: 16 tokens times 32 rows of weights are two matrix
 * registers of sums. Activations are rounded to BF16.
 *
 * Order. out[t, r] is the sum over pieces of 32 columns in order; of a piece the instruction adds
 * even and odd columns apart, then both. One token is a tile of one row: the same sums.
 *
 * Bound. Two products of 16 cycles for three loads of 8 each: the matrix unit, while weights come
 * from the second-level cache; for one token memory. The including file says whether the registers
 * are those of the CPU or plain C. */
#ifndef CPU_LINEAR_BF16_AMX_H
#define CPU_LINEAR_BF16_AMX_H

#include "cpu/amx_tile.h"
#include "cpu/linear_float_pack.h"
#include "cpu/linear_table.h"

#define PIECE_COLUMNS 32u
#define GROUP_BYTES   (4 * LINEAR_FLOAT_ROWS) /* of a pair of columns */
#define FETCH_BYTES   8192u

/* Tiles 0 and 1 are sums of 16 rows each, 2 the activations, 3 and 4 the weights. */
static void configure(uint32_t tokens)
{
    struct amx_config config = {0};
    amx_config_set(&config, 0, tokens, AMX_ROW_BYTES);
    amx_config_set(&config, 1, tokens, AMX_ROW_BYTES);
    amx_config_set(&config, 2, tokens, 2 * PIECE_COLUMNS);
    amx_config_set(&config, 3, AMX_ROWS, AMX_ROW_BYTES);
    amx_config_set(&config, 4, AMX_ROWS, AMX_ROW_BYTES);
    amx_configure(&config);
}

/* `tokens` (as configured) tokens from `token` times the group at `row`. */
static void tile(const struct linear_call *call, uint64_t row, uint32_t token, uint32_t tokens)
{
    _Alignas(64) float sums[AMX_ROWS][LINEAR_FLOAT_ROWS];
    const unsigned char *weight = (const unsigned char *)call->weight + row * call->columns * 2;
    const unsigned char *x =
        (const unsigned char *)call->activations + token * call->activation_stride;
    AMX_ZERO(0);
    AMX_ZERO(1);
    for (uint64_t k = 0; k < call->columns; k += PIECE_COLUMNS) {
        const unsigned char *at = weight + k / 2 * GROUP_BYTES;
        for (uint32_t line = 0; line < PIECE_COLUMNS / 2 * GROUP_BYTES; line += 64) {
            __builtin_prefetch(at + FETCH_BYTES + line, 0, 2);
        }
        AMX_LOAD(2, x + 2 * k, call->activation_stride);
        AMX_LOAD(3, at, GROUP_BYTES);
        AMX_LOAD(4, at + AMX_ROW_BYTES, GROUP_BYTES);
        AMX_DOT_BF16(0, 2, 3);
        AMX_DOT_BF16(1, 2, 4);
    }
    AMX_STORE(0, sums, sizeof sums[0]);
    AMX_STORE(1, &sums[0][16], sizeof sums[0]);
    uint64_t rows = call->row_end - row;
    rows = rows < LINEAR_FLOAT_ROWS ? rows : LINEAR_FLOAT_ROWS;
    for (uint32_t t = 0; t < tokens; t++) {
        memcpy(call->out + (token + t) * call->out_stride + row, sums[t], rows * sizeof(float));
    }
}

static void multiply(const struct linear_call *call)
{
    uint32_t whole = call->token_count / AMX_ROWS * AMX_ROWS;
    uint32_t rest = call->token_count - whole;
    if (whole) {
        configure(AMX_ROWS);
        for (uint64_t row = call->row_begin; row < call->row_end; row += LINEAR_FLOAT_ROWS) {
            for (uint32_t token = 0; token < whole; token += AMX_ROWS) {
                tile(call, row, token, AMX_ROWS);
            }
        }
    }
    if (rest) {
        configure(rest);
        for (uint64_t row = call->row_begin; row < call->row_end; row += LINEAR_FLOAT_ROWS) {
            tile(call, row, whole, rest);
        }
    }
    amx_release();
}

#endif
