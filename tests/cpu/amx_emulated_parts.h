/* The emulated kernels, for the table of amx_emulated.c. */
#ifndef AMX_EMULATED_PARTS_H
#define AMX_EMULATED_PARTS_H

#include "cpu/linear.h"

extern const struct linear_kernel linear_q8_0_q8_amxemulated;
extern const struct linear_kernel linear_q4_0_q8_amxemulated;
extern const struct linear_kernel linear_q4_1_q8_amxemulated;
extern const struct linear_kernel linear_q4_k_q8_amxemulated;
extern const struct linear_kernel linear_q6_k_q8_amxemulated;
extern const struct linear_kernel linear_q2_k_q8_amxemulated;
extern const struct linear_kernel linear_iq4_xs_q8_amxemulated;

#endif
