/* Every matrix kernel, a line each, the best of a data type first: the first that the CPU can run
 * is chosen. Included on its own it declares them; linear.c defines the two macros otherwise to get
 * the table. Kernels in LINEAR_KERNEL_X86 are built for x86-64 only. */
#ifndef LINEAR_KERNEL
#include "cpu/linear.h"
#define LINEAR_KERNEL(symbol)     extern const struct linear_kernel symbol;
#define LINEAR_KERNEL_X86(symbol) extern const struct linear_kernel symbol;
#endif

/* clang-format off */
LINEAR_KERNEL_X86(linear_f32_f32_avx512_r32)
LINEAR_KERNEL_X86(linear_f32_f32_avx2_r32)
LINEAR_KERNEL(linear_f32_f32_scalar)
LINEAR_KERNEL_X86(linear_f16_f32_avx512_r32)
LINEAR_KERNEL_X86(linear_f16_f32_avx2_r32)
LINEAR_KERNEL(linear_f16_f32_scalar)
LINEAR_KERNEL_X86(linear_bf16_f32_avx512_r32)
LINEAR_KERNEL_X86(linear_bf16_f32_avx2_r32)
LINEAR_KERNEL(linear_bf16_f32_scalar)
/* Quantised types. */
LINEAR_KERNEL_X86(linear_q8_0_q8_avx512vnni)
LINEAR_KERNEL_X86(linear_q8_0_q8_avx512)
LINEAR_KERNEL_X86(linear_q8_0_q8_avxvnni)
LINEAR_KERNEL_X86(linear_q8_0_q8_avx2)
LINEAR_KERNEL(linear_q8_0_q8_scalar)
LINEAR_KERNEL_X86(linear_q4_0_q8_avx512vnni)
LINEAR_KERNEL_X86(linear_q4_0_q8_avx512)
LINEAR_KERNEL_X86(linear_q4_0_q8_avxvnni)
LINEAR_KERNEL_X86(linear_q4_0_q8_avx2)
LINEAR_KERNEL(linear_q4_0_q8_scalar)
LINEAR_KERNEL_X86(linear_q4_k_q8_avx512vnni)
LINEAR_KERNEL_X86(linear_q4_k_q8_avx512)
LINEAR_KERNEL_X86(linear_q4_k_q8_avxvnni)
LINEAR_KERNEL_X86(linear_q4_k_q8_avx2)
LINEAR_KERNEL(linear_q4_k_q8_scalar)
LINEAR_KERNEL_X86(linear_q6_k_q8_avx512vnni)
LINEAR_KERNEL_X86(linear_q6_k_q8_avx512)
LINEAR_KERNEL_X86(linear_q6_k_q8_avxvnni)
LINEAR_KERNEL_X86(linear_q6_k_q8_avx2)
LINEAR_KERNEL(linear_q6_k_q8_scalar)
LINEAR_KERNEL_X86(linear_q5_k_q8_avx512vnni)
LINEAR_KERNEL_X86(linear_q5_k_q8_avx512)
LINEAR_KERNEL_X86(linear_q5_k_q8_avxvnni)
LINEAR_KERNEL_X86(linear_q5_k_q8_avx2)
LINEAR_KERNEL(linear_q5_k_q8_scalar)
LINEAR_KERNEL_X86(linear_q4_1_q8_avx512vnni)
LINEAR_KERNEL_X86(linear_q4_1_q8_avx512)
LINEAR_KERNEL_X86(linear_q4_1_q8_avxvnni)
LINEAR_KERNEL_X86(linear_q4_1_q8_avx2)
LINEAR_KERNEL(linear_q4_1_q8_scalar)
LINEAR_KERNEL_X86(linear_q5_0_q8_avx512vnni)
LINEAR_KERNEL_X86(linear_q5_0_q8_avx512)
LINEAR_KERNEL_X86(linear_q5_0_q8_avxvnni)
LINEAR_KERNEL_X86(linear_q5_0_q8_avx2)
LINEAR_KERNEL(linear_q5_0_q8_scalar)
LINEAR_KERNEL_X86(linear_q5_1_q8_avx512vnni)
LINEAR_KERNEL_X86(linear_q5_1_q8_avx512)
LINEAR_KERNEL_X86(linear_q5_1_q8_avxvnni)
LINEAR_KERNEL_X86(linear_q5_1_q8_avx2)
LINEAR_KERNEL(linear_q5_1_q8_scalar)
LINEAR_KERNEL_X86(linear_q3_k_q8_avx512vnni)
LINEAR_KERNEL_X86(linear_q3_k_q8_avx512)
LINEAR_KERNEL_X86(linear_q3_k_q8_avxvnni)
LINEAR_KERNEL_X86(linear_q3_k_q8_avx2)
LINEAR_KERNEL(linear_q3_k_q8_scalar)
LINEAR_KERNEL_X86(linear_q2_k_q8_avx512vnni)
LINEAR_KERNEL_X86(linear_q2_k_q8_avx512)
LINEAR_KERNEL_X86(linear_q2_k_q8_avxvnni)
LINEAR_KERNEL_X86(linear_q2_k_q8_avx2)
LINEAR_KERNEL(linear_q2_k_q8_scalar)
/* clang-format on */

#undef LINEAR_KERNEL
#undef LINEAR_KERNEL_X86
