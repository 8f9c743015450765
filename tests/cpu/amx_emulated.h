/* The kernels for AMX with matrix registers in plain C: the same source, so that the logic of tiles
 * is tested where the CPU has none. They need AVX-512 with VNNI beside it. */
#ifndef AMX_EMULATED_H
#define AMX_EMULATED_H

#include "cpu/linear.h"

/* Empty on other machines than x86-64. */
const struct linear_kernel *const *amx_emulated_kernels(uint32_t *count);

#endif
