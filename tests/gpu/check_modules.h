/* The kernel modules that `make check-kernels` compiles, with preludes that stand for the models in
 * use. */
#ifndef CHECK_MODULES_H
#define CHECK_MODULES_H

#include "gpu/driver.h"

struct check_module {
    const char *name;
    const char *const *files; /* after the vendor's words; NULL at the end */
    uint32_t variant_count;
    /* Appends the prelude of a variant for a device; false when the device cannot have it. */
    bool (*prelude)(const struct gpu_device_info *device, uint32_t variant, struct buffer *out);
};

extern const struct check_module check_modules[];
extern const uint32_t check_module_count;

#endif
