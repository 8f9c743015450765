/* The yardstick of 8-bit products with AMX: four tiles of sums, so that none waits for the last. */
#include "cpu/amx_tile.h"
#include "cpu/measure.h"

uint64_t measure_integer_amxint8(uint64_t rounds, int32_t *sink)
{
    _Alignas(64) int8_t values[AMX_ROWS][AMX_ROW_BYTES];
    _Alignas(64) int32_t sums[AMX_ROWS][AMX_ROW_BYTES / 4];
    memset(values, *sink, sizeof values);
    struct amx_config config = {0};
    for (int tile = 0; tile < AMX_TILES; tile++) {
        amx_config_set(&config, tile, AMX_ROWS, AMX_ROW_BYTES);
    }
    amx_configure(&config);
    AMX_ZERO(0);
    AMX_ZERO(1);
    AMX_ZERO(2);
    AMX_ZERO(3);
    AMX_LOAD(4, values, AMX_ROW_BYTES);
    AMX_LOAD(5, values, AMX_ROW_BYTES);
    for (uint64_t i = 0; i < rounds / 16; i++) {
        AMX_DOT_S8_U8(0, 4, 5);
        AMX_DOT_S8_U8(1, 4, 5);
        AMX_DOT_S8_U8(2, 4, 5);
        AMX_DOT_S8_U8(3, 4, 5);
    }
    AMX_STORE(0, sums, AMX_ROW_BYTES);
    amx_release();
    *sink = sums[0][0];
    return rounds / 16 * 4 * 2 * AMX_ROWS * AMX_ROWS * AMX_ROW_BYTES;
}
