/* What is known of an architecture without a device of it. */
#ifndef GPU_ARCH_H
#define GPU_ARCH_H

#include "gpu/driver.h"

/* Fills arch, vendor, capability, warp size and what blocks may have of shared memory, zeros
 * elsewhere. INVALID_ARGUMENT for an architecture that is unknown or too old, with the known ones.
 */
llcuda_status gpu_arch_info(const char *arch, struct gpu_device_info *info,
                            struct llcuda_error *error);

#endif
