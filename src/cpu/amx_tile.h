/* The matrix registers of AMX: eight tiles of up to 16 rows of 64 bytes. Macros, because a tile's
 * number is part of the instruction. A thread configures its tiles, uses them and releases them,
 * all within one call of a kernel; the process must have asked the system for them first
 * (cpu_features_request_amx).
 *
 * With AMX_EMULATED the same words are plain C, so that the logic of tiles can be tested where the
 * CPU has none: the sums are those of the published pseudo-code, in its order. */
#ifndef CPU_AMX_TILE_H
#define CPU_AMX_TILE_H

#include <stdint.h>
#include <string.h>

#define AMX_TILES     8
#define AMX_ROWS      16
#define AMX_ROW_BYTES 64

/* The operand of ldtilecfg, palette 1. */
struct amx_config {
    uint8_t palette, start_row;
    uint8_t reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
_Static_assert(sizeof(struct amx_config) == 64, "as the instruction reads it");

static inline void amx_config_set(struct amx_config *config, int tile, unsigned rows,
                                  unsigned row_bytes)
{
    config->palette = 1;
    config->rows[tile] = (uint8_t)rows;
    config->row_bytes[tile] = (uint16_t)row_bytes;
}

#if !defined(AMX_EMULATED)

/* Every instruction that touches memory says so: the compiler must not move stores across it. */
static inline void amx_configure(const struct amx_config *config)
{
    __asm__ volatile("ldtilecfg %0" ::"m"(*config));
}

static inline void amx_release(void)
{
    __asm__ volatile("tilerelease" ::: "memory");
}

#define AMX_LOAD(tile, base, stride)                                                 \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile ::"r"((const void *)(base)), \
                     "r"((int64_t)(stride))                                          \
                     : "memory")
#define AMX_STORE(tile, base, stride)                                              \
    __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" ::"r"((void *)(base)), \
                     "r"((int64_t)(stride))                                        \
                     : "memory")
#define AMX_ZERO(tile) __asm__ volatile("tilezero %%tmm" #tile ::)
/* sums += signed bytes of a · unsigned bytes of b, four at a time. */
#define AMX_DOT_S8_U8(sums, a, b) \
    __asm__ volatile("tdpbsud %%tmm" #b ", %%tmm" #a ", %%tmm" #sums ::)
/* sums += pairs of bf16. */
#define AMX_DOT_BF16(sums, a, b) \
    __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #sums ::)

#else

static _Thread_local struct {
    struct amx_config config;
    unsigned char data[AMX_TILES][AMX_ROWS][AMX_ROW_BYTES];
} amx_state;

static inline void amx_configure(const struct amx_config *config)
{
    amx_state.config = *config;
    memset(amx_state.data, 0, sizeof amx_state.data);
}

static inline void amx_release(void)
{
    memset(&amx_state, 0, sizeof amx_state);
}

static inline void amx_load(int tile, const void *base, int64_t stride)
{
    memset(amx_state.data[tile], 0, sizeof amx_state.data[tile]);
    for (int row = 0; row < amx_state.config.rows[tile]; row++) {
        memcpy(amx_state.data[tile][row], (const unsigned char *)base + row * stride,
               amx_state.config.row_bytes[tile]);
    }
}

static inline void amx_store(int tile, void *base, int64_t stride)
{
    for (int row = 0; row < amx_state.config.rows[tile]; row++) {
        memcpy((unsigned char *)base + row * stride, amx_state.data[tile][row],
               amx_state.config.row_bytes[tile]);
    }
}

/* Rows of b are what a row of a has quads of; a mismatch is an exception on silicon. */
static inline void amx_check(int sums, int a, int b)
{
    const struct amx_config *config = &amx_state.config;
    if (config->palette != 1 || config->rows[sums] != config->rows[a] ||
        config->row_bytes[a] != config->rows[b] * 4 ||
        config->row_bytes[sums] != config->row_bytes[b] || config->rows[sums] == 0) {
        __builtin_trap();
    }
}

static inline void amx_dot_s8_u8(int sums, int a, int b)
{
    amx_check(sums, a, b);
    for (int m = 0; m < amx_state.config.rows[sums]; m++) {
        for (int k = 0; k < amx_state.config.rows[b]; k++) {
            for (int n = 0; n < amx_state.config.row_bytes[b] / 4; n++) {
                int32_t sum;
                memcpy(&sum, &amx_state.data[sums][m][4 * n], sizeof sum);
                for (int i = 0; i < 4; i++) {
                    sum +=
                        (int8_t)amx_state.data[a][m][4 * k + i] * amx_state.data[b][k][4 * n + i];
                }
                memcpy(&amx_state.data[sums][m][4 * n], &sum, sizeof sum);
            }
        }
    }
}

static inline float amx_bf16(const unsigned char *from)
{
    uint32_t bits = (uint32_t)(from[0] | from[1] << 8) << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Even and odd columns in a sum each, in order of columns; then both together onto the tile's. */
static inline void amx_dot_bf16(int sums, int a, int b)
{
    amx_check(sums, a, b);
    for (int m = 0; m < amx_state.config.rows[sums]; m++) {
        for (int n = 0; n < amx_state.config.row_bytes[b] / 4; n++) {
            float parts[2] = {0, 0};
            for (int k = 0; k < amx_state.config.rows[b]; k++) {
                for (int i = 0; i < 2; i++) {
                    parts[i] =
                        __builtin_fmaf(amx_bf16(&amx_state.data[a][m][4 * k + 2 * i]),
                                       amx_bf16(&amx_state.data[b][k][4 * n + 2 * i]), parts[i]);
                }
            }
            float sum;
            memcpy(&sum, &amx_state.data[sums][m][4 * n], sizeof sum);
            sum += parts[0] + parts[1];
            memcpy(&amx_state.data[sums][m][4 * n], &sum, sizeof sum);
        }
    }
}

#define AMX_LOAD(tile, base, stride)  amx_load(tile, base, (int64_t)(stride))
#define AMX_STORE(tile, base, stride) amx_store(tile, base, (int64_t)(stride))
#define AMX_ZERO(tile)                memset(amx_state.data[tile], 0, sizeof amx_state.data[tile])
#define AMX_DOT_S8_U8(sums, a, b)     amx_dot_s8_u8(sums, a, b)
#define AMX_DOT_BF16(sums, a, b)      amx_dot_bf16(sums, a, b)

#endif
#endif
