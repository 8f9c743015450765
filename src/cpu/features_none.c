/* Machines whose vector kernels are still to be written: the scalar level. */
#include "cpu/features.h"

void cpu_features_detect(struct cpu_features *features)
{
    *features = (struct cpu_features){0};
}

bool cpu_features_request_amx(void)
{
    return false;
}
