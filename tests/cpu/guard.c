/* Owns maps with a page without rights behind them. */
#include "cpu/guard.h"

#include <sys/mman.h>

#include "cpu/features.h"
#include "support/test_support.h"

#define PAGE 4096u

static uint64_t data_pages(uint64_t bytes)
{
    return (bytes + PAGE - 1) / PAGE + (bytes == 0);
}

void *guard_alloc(uint64_t bytes)
{
    uint64_t pages = data_pages(bytes);
    unsigned char *map =
        mmap(NULL, (pages + 1) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(map != MAP_FAILED);
    assert_int_equal(mprotect(map + pages * PAGE, PAGE, PROT_NONE), 0);
    return map + pages * PAGE - bytes;
}

void guard_free(void *data, uint64_t bytes)
{
    uint64_t pages = data_pages(bytes);
    munmap((unsigned char *)data + bytes - pages * PAGE, (pages + 1) * PAGE);
}

bool level_is_here(enum cpu_level level)
{
    struct cpu_features features;
    cpu_features_detect(&features);
    if (level == CPU_AVX512_BF16) {
        return features.avx512 && features.avx512_bf16;
    }
    if (level == CPU_AMX) {
        return features.avx512 && cpu_features_request_amx();
    }
    return level <= cpu_level_detect() && cpu_ops_choose(level)->level == level;
}
