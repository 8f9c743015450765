/* Owns the choice of an instruction-set level's functions. Stateless: any thread. */
#include "cpu/ops.h"

const struct cpu_ops *cpu_ops_choose(enum cpu_level level)
{
    (void)level;
    return &cpu_ops_scalar;
}
