/* Data types of weights and caches, and the layout of quantised blocks exactly as GGUF publishes
 * them. A row is a sequence of whole blocks; a tensor is row-major, its innermost axis in blocks.
 */
#ifndef TENSOR_DTYPE_H
#define TENSOR_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/view.h"

/* Types that GGUF does not have. */
#define DTYPE_NO_GGUF UINT32_MAX

/* X(name, GGUF type id, elements a block, bytes a block, lower-case name). f8_e4m3 is what
 * SafeTensors holds, with scales in a tensor of their own; f8_block what devices make of both: a
 * float32 scale and 128 values of e4m3. */
#define DTYPE_LIST(X)                          \
    X(F32, 0, 1, 4, "f32")                     \
    X(F16, 1, 1, 2, "f16")                     \
    X(Q4_0, 2, 32, 18, "q4_0")                 \
    X(Q4_1, 3, 32, 20, "q4_1")                 \
    X(Q5_0, 6, 32, 22, "q5_0")                 \
    X(Q5_1, 7, 32, 24, "q5_1")                 \
    X(Q8_0, 8, 32, 34, "q8_0")                 \
    X(Q2_K, 10, 256, 84, "q2_k")               \
    X(Q3_K, 11, 256, 110, "q3_k")              \
    X(Q4_K, 12, 256, 144, "q4_k")              \
    X(Q5_K, 13, 256, 176, "q5_k")              \
    X(Q6_K, 14, 256, 210, "q6_k")              \
    X(BF16, 30, 1, 2, "bf16")                  \
    X(IQ4_NL, 20, 32, 18, "iq4_nl")            \
    X(IQ4_XS, 23, 256, 136, "iq4_xs")          \
    X(MXFP4, 39, 32, 17, "mxfp4")              \
    X(TQ1_0, 34, 256, 54, "tq1_0")             \
    X(TQ2_0, 35, 256, 66, "tq2_0")             \
    X(IQ3_S, 21, 256, 110, "iq3_s")            \
    X(IQ3_XXS, 18, 256, 98, "iq3_xxs")         \
    X(IQ2_S, 22, 256, 82, "iq2_s")             \
    X(IQ2_XS, 17, 256, 74, "iq2_xs")           \
    X(IQ2_XXS, 16, 256, 66, "iq2_xxs")         \
    X(IQ1_M, 29, 256, 56, "iq1_m")             \
    X(IQ1_S, 19, 256, 50, "iq1_s")             \
    X(F8_E4M3, DTYPE_NO_GGUF, 1, 1, "f8_e4m3") \
    X(F8_BLOCK, DTYPE_NO_GGUF, 128, 132, "f8_block")

enum dtype {
#define DTYPE_ENUM(name, id, elements, bytes, text) DTYPE_##name,
    DTYPE_LIST(DTYPE_ENUM)
#undef DTYPE_ENUM
        DTYPE_COUNT
};

struct dtype_info {
    const char *name;        /* "q4_k" */
    uint32_t gguf_id;        /* as GGUF files number it, or DTYPE_NO_GGUF */
    uint32_t block_elements; /* 1 for plain types */
    uint32_t block_bytes;
};

/* Table row of a valid type. Any thread. */
const struct dtype_info *dtype_info(enum dtype dtype);

/* The type with this GGUF id; false when it is unknown to this build. */
bool dtype_from_gguf(uint32_t gguf_id, enum dtype *dtype);

/* The published name of a GGUF type id, also of types that are not supported; NULL when unknown. */
const char *dtype_gguf_name(uint32_t gguf_id);

/* Bytes of a row of `elements`; false when `elements` is no multiple of the block or the size does
 * not fit. */
bool dtype_row_bytes(enum dtype dtype, uint64_t elements, uint64_t *bytes);

/* Conversions of single values; bf16 and f16 round to nearest, ties to even. */
float float_from_f16(uint16_t bits);
float float_from_bf16(uint16_t bits);
float float_from_e4m3(uint8_t bits); /* without infinities; 0x7F and 0xFF are NaN */
uint8_t float_to_e4m3(float value);  /* to nearest, ties to even; saturates at ±448; NaN stays */
uint16_t float_to_f16(float value);
uint16_t float_to_bf16(float value);

#endif
