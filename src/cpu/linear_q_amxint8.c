/* The quantised matrix kernels for AMX: a step of sixteen tokens times sixteen rows is one
 * instruction; scales and sums stay with AVX-512, which is what bounds it. Fewer tokens, and what
 * is left of a multiple of sixteen, go as with VNNI, to the same bits. Stateless: any thread. */
#include "cpu/linear_q_amx_ops.h"
#include "cpu/linear_table.h"

#include "cpu/linear_q_body.h"

static bool available(const struct cpu_features *features)
{
    return features->avx512 && features->avx512_vnni && features->amx_int8;
}

LINEAR_Q_KERNELS(amxint8, "amxint8_r16", available)
