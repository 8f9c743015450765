/* The inner loops of the machine's yardsticks, one table an instruction set. */
#ifndef CPU_MEASURE_H
#define CPU_MEASURE_H

#include <stdint.h>

struct measure_kernels {
    /* Reads all of [data, data + bytes), both multiples of 4,096; returns something of it. */
    uint64_t (*read)(const void *data, uint64_t bytes);
    /* Copies past the caches where the machine can. Multiples of 4,096. */
    void (*copy)(void *to, const void *from, uint64_t bytes);
    /* Runs `rounds` rounds of independent multiply-adds; returns floating-point operations done, a
     * multiply-add counted as two. *sink keeps the compiler honest. */
    uint64_t (*multiply_add)(uint64_t rounds, float *sink);
    /* The same with 8-bit integers; NULL when there is no such instruction. */
    uint64_t (*integer)(uint64_t rounds, int32_t *sink);
};

extern const struct measure_kernels measure_scalar;
extern const struct measure_kernels measure_avx2;
extern const struct measure_kernels measure_avx512;
uint64_t measure_integer_amxint8(uint64_t rounds, int32_t *sink);
uint64_t measure_integer_avx512vnni(uint64_t rounds, int32_t *sink);

#endif
