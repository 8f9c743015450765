/* Matrix kernels of the CPU device: y[t, r] = Σ_k W[r, k] · x[t, k] for a range of rows r and one
 * or more activation rows t. One table entry a data type and instruction set; the fastest that the
 * CPU can run is chosen when a weight is loaded, and then serves decode and prefill alike.
 *
 * The rule of idea 7: for a given kernel, out[t, r] depends on row t and row r alone — not on
 * token_count, on the row range, or on the thread. A kernel may treat one token and many tokens
 * with different loops only if both add the same terms in the same order. */
#ifndef CPU_LINEAR_H
#define CPU_LINEAR_H

#include "base/error.h"
#include "tensor/dtype.h"

/* What CPUID says, beyond the level. Zeroed under no_extensions. */
struct cpu_features {
    bool avx2_fma_f16c; /* the AVX2 level */
    bool avx512;        /* F, BW, VL, DQ, CD: the AVX-512 level */
    bool avx512_vnni;
    bool avx_vnni;
    bool avx512_bf16;
    bool avx512_fp16;
    bool amx_int8, amx_bf16;
    bool neon, dotprod, i8mm; /* of 64-bit ARM */
};

/* How a kernel wants activations. Prepared once a row and stage, shared by all threads. */
enum activation_format {
    ACTIVATION_F32, /* float[columns] */
    ACTIVATION_Q8,  /* struct activation_q8_block[columns / 32] */
    ACTIVATION_BF16 /* uint16_t[columns], rounded to nearest even */
};

/* 32 activations as 8-bit integers: x ≈ scale · values. `sum` serves types with an offset. */
struct activation_q8_block {
    float scale;
    int32_t sum; /* of values */
    int8_t values[32];
};
_Static_assert(sizeof(struct activation_q8_block) == 40, "packed without holes");

struct linear_call {
    const void *weight; /* packed by the kernel's pack(), or rows as the file has them */
    uint64_t columns;
    uint64_t row_begin;         /* multiple of row_group */
    uint64_t row_end;           /* multiple of row_group, or the number of rows */
    uint64_t row_count;         /* of the whole weight: the last group may be short */
    const void *activations;    /* token_count prepared rows, 64-byte aligned */
    uint64_t activation_stride; /* bytes between rows */
    uint32_t token_count;
    float *out;          /* out[t · out_stride + r] is overwritten for r in [row_begin, row_end) */
    uint64_t out_stride; /* elements */
};

struct linear_kernel {
    const char *name; /* its contract: "linear_q8_0_q8_avx512vnni_r16" */
    enum dtype dtype;
    enum activation_format activation;
    uint32_t row_group; /* rows that lie interleaved after packing; 1: any range of rows */
    bool (*available)(const struct cpu_features *features);
    /* Bytes after packing; 0 when the file's own layout is used in place (pack is NULL then). */
    uint64_t (*packed_bytes)(uint64_t rows, uint64_t columns);
    /* Packs rows [row_begin, row_end) (begin a multiple of row_group) of `source`, rows as in the
     * file, into their place in `packed`. Rows that a last, short group lacks are zeros. */
    void (*pack)(const void *source, uint64_t rows, uint64_t columns, uint64_t row_begin,
                 uint64_t row_end, void *packed);
    void (*multiply)(const struct linear_call *call);
};

/* The fastest available kernel for a type; NULL when the type is unsupported. `columns` must suit.
 */
const struct linear_kernel *linear_kernel_choose(enum dtype dtype, uint64_t columns,
                                                 const struct cpu_features *features);

/* All kernels, for tests and benchmarks: every entry, available or not. */
const struct linear_kernel *const *linear_kernels(uint32_t *count);

/* Bytes of one prepared activation row, a multiple of 64. */
uint64_t activation_row_bytes(enum activation_format format, uint64_t columns);
/* Prepares one row. The result depends on this row alone and is the same at every level. */
void activation_prepare(enum activation_format format, const float *row, uint64_t columns,
                        void *out, const struct cpu_features *features);

#endif
