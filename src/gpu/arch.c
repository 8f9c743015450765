/* The table of architectures: limits as the CUDA programming guide's table of compute capabilities
 * and AMD's instruction set guides have them. Stateless. */
#include "gpu/arch.h"

#include <stdio.h>
#include <string.h>

#define AMD_SHARED_BYTES 65536u

static const struct {
    const char *arch;
    uint32_t capability;
    uint32_t shared_bytes_block_max;
} list[] = {
    {"sm_70", 70, 98304},     {"sm_75", 75, 65536},    {"sm_80", 80, 166912},
    {"sm_86", 86, 101376},    {"sm_87", 87, 166912},   {"sm_89", 89, 101376},
    {"sm_90", 90, 232448},    {"sm_90a", 90, 232448},  {"sm_100", 100, 232448},
    {"sm_100a", 100, 232448}, {"sm_103", 103, 232448}, {"sm_120", 120, 101376},
    {"sm_121", 121, 101376},
};

llcuda_status gpu_arch_info(const char *arch, struct gpu_device_info *info,
                            struct llcuda_error *error)
{
    size_t length = strlen(arch);
    *info = (struct gpu_device_info){.warp_size = 32};
    if (length >= 6 && length < sizeof info->arch && strncmp(arch, "gfx", 3) == 0 &&
        strspn(arch + 3, "0123456789abcdef") == length - 3) {
        info->vendor = GPU_HIP;
        info->shared_bytes_block_max = AMD_SHARED_BYTES;
        snprintf(info->arch, sizeof info->arch, "%s", arch);
        return LLCUDA_OK;
    }
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        if (strcmp(arch, list[i].arch) == 0) {
            info->vendor = GPU_CUDA;
            info->capability = list[i].capability;
            info->shared_bytes_block_max = list[i].shared_bytes_block_max;
            snprintf(info->arch, sizeof info->arch, "%s", arch);
            return LLCUDA_OK;
        }
    }
    return error_set(error, LLCUDA_INVALID_ARGUMENT,
                     "'%s' is no architecture that kernels are made for: sm_70, sm_75, sm_80, "
                     "sm_86, sm_87, sm_89, sm_90, sm_90a, sm_100, sm_100a, sm_103, sm_120, sm_121, "
                     "or AMD's, such as gfx90a",
                     arch);
}
