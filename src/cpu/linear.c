/* Owns the table of matrix kernels, the choice among them, and how activation rows are laid out.
 * The table itself is linear_table.h: one line a kernel. Stateless: any thread. */
#include "cpu/linear.h"

#include <string.h>

#include "cpu/activation_q8.h"
#include "cpu/linear_table.h"

static const struct linear_kernel *const kernels[] = {
#if defined(__x86_64__)
#define LINEAR_KERNEL_X86(symbol) &symbol,
#else
#define LINEAR_KERNEL_X86(symbol)
#endif
#if defined(__aarch64__)
#define LINEAR_KERNEL_ARM(symbol) &symbol,
#else
#define LINEAR_KERNEL_ARM(symbol)
#endif
#define LINEAR_KERNEL(symbol) &symbol,
#include "cpu/linear_table.h"
};

#define KERNEL_COUNT ((uint32_t)(sizeof kernels / sizeof kernels[0]))

const struct linear_kernel *linear_kernel_choose(enum dtype dtype, uint64_t columns,
                                                 const struct cpu_features *features)
{
    if (columns == 0 || columns % dtype_info(dtype)->block_elements != 0) {
        return NULL;
    }
    for (uint32_t i = 0; i < KERNEL_COUNT; i++) {
        const struct linear_kernel *kernel = kernels[i];
        bool suits = kernel->activation == ACTIVATION_F32 || columns % 32 == 0;
        if (kernel->dtype == dtype && suits && kernel->available(features)) {
            return kernel;
        }
    }
    return NULL;
}

const struct linear_kernel *const *linear_kernels(uint32_t *count)
{
    *count = KERNEL_COUNT;
    return kernels;
}

/* Rows a multiple of 4,096 bytes apart fall into the same sets of the first-level cache; a kernel
 * that reads a dozen of them side by side would evict its own input. One more line avoids that. */
static uint64_t avoid_aliasing(uint64_t bytes)
{
    return bytes % 4096 == 0 ? bytes + 64 : bytes;
}

uint64_t activation_row_bytes(enum activation_format format, uint64_t columns)
{
    uint64_t bytes = 0;
    switch (format) {
    case ACTIVATION_F32:
        bytes = columns * sizeof(float);
        break;
    case ACTIVATION_Q8:
        bytes = columns / 32 * sizeof(struct activation_q8_block);
        break;
    case ACTIVATION_BF16:
        bytes = columns * sizeof(uint16_t);
        break;
    }
    return avoid_aliasing((bytes + 63) / 64 * 64);
}

void activation_prepare(enum activation_format format, const float *row, uint64_t columns,
                        void *out, const struct cpu_features *features)
{
    switch (format) {
    case ACTIVATION_F32:
        memcpy(out, row, columns * sizeof(float));
        break;
    case ACTIVATION_Q8:
        activation_prepare_q8(row, columns, out, features);
        break;
    case ACTIVATION_BF16: {
        uint16_t *values = out;
        for (uint64_t i = 0; i < columns; i++) {
            values[i] = float_to_bf16(row[i]);
        }
        break;
    }
    }
}
