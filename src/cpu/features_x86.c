/* Owns CPUID on x86-64. A feature counts only when the system saves its registers (XCR0). */
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cpu/features.h"

static uint64_t saved_registers(void)
{
    uint32_t low;
    uint32_t high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static bool bit(uint32_t word, int index)
{
    return (word >> index & 1) != 0;
}

void cpu_features_detect(struct cpu_features *features)
{
    *features = (struct cpu_features){0};
    uint32_t a;
    uint32_t b1, c1, d1;
    uint32_t b7, c7, d7;
    uint32_t a71 = 0, b71, c71, d71;
    if (!__get_cpuid(1, &a, &b1, &c1, &d1) || !bit(c1, 27)) {
        return; /* no XGETBV: the system saves no vector registers */
    }
    uint64_t saved = saved_registers();
    if ((saved & 0x6) != 0x6 || !__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) {
        return;
    }
    bool has_leaf_1 = a >= 1 && __get_cpuid_count(7, 1, &a71, &b71, &c71, &d71);
    features->avx2_fma_f16c = bit(c1, 12) && bit(c1, 28) && bit(c1, 29) && bit(b7, 5);
    features->avx_vnni = features->avx2_fma_f16c && has_leaf_1 && bit(a71, 4);
    bool saved_512 = (saved & 0xE6) == 0xE6;
    features->avx512 = features->avx2_fma_f16c && saved_512 && bit(b7, 16) && bit(b7, 17) &&
                       bit(b7, 28) && bit(b7, 30) && bit(b7, 31);
    features->avx512_vnni = features->avx512 && bit(c7, 11);
    features->avx512_bf16 = features->avx512 && has_leaf_1 && bit(a71, 5);
    features->avx512_fp16 = features->avx512 && bit(d7, 23);
    bool saved_tiles = (saved & 0x60000) == 0x60000;
    features->amx_bf16 = saved_tiles && bit(d7, 22);
    features->amx_int8 = saved_tiles && bit(d7, 25);
}

/* Of Linux: arch_prctl(ARCH_REQ_XCOMP_PERM, the number of the tiles' state component). */
#define REQUEST_STATE_PERMISSION 0x1023
#define STATE_TILE_DATA          18

bool cpu_features_request_amx(void)
{
#if defined(SYS_arch_prctl)
    struct cpu_features features;
    cpu_features_detect(&features);
    return (features.amx_int8 || features.amx_bf16) &&
           syscall(SYS_arch_prctl, REQUEST_STATE_PERMISSION, STATE_TILE_DATA) == 0;
#else
    return false;
#endif
}
