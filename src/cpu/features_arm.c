/* Owns asking 64-bit ARM for its instruction sets. */
#include <sys/auxv.h>

#include "cpu/features.h"

/* Bits of the system's words, as the kernel's documentation of ELF hardware capabilities has them.
 */
#define CAPABILITY_ASIMD   (1ul << 1)
#define CAPABILITY_ASIMDDP (1ul << 20)
#define CAPABILITY_2_I8MM  (1ul << 13)

void cpu_features_detect(struct cpu_features *features)
{
    unsigned long first = getauxval(AT_HWCAP);
    unsigned long second = getauxval(AT_HWCAP2);
    *features = (struct cpu_features){
        .neon = (first & CAPABILITY_ASIMD) != 0,
        .dotprod = (first & CAPABILITY_ASIMDDP) != 0,
        .i8mm = (second & CAPABILITY_2_I8MM) != 0,
    };
}

bool cpu_features_request_amx(void)
{
    return false;
}
