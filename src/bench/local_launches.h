/* What a device that launches kernels adds to a profile: the kernels of the same steps, and the
 * steps as wholes. */
#ifndef BENCH_LOCAL_LAUNCHES_H
#define BENCH_LOCAL_LAUNCHES_H

#include "base/buffer.h"
#include "base/json.h"
#include "device/device.h"

#define LAUNCH_KERNELS_MAX 64u

struct local_launches {
    struct device_profile_steps steps;
    struct device_profile_kernel kernels[LAUNCH_KERNELS_MAX];
    uint32_t count; /* 0: a device without launches */
};

/* Appends tables; nothing without launches. */
void local_launches_text(const struct local_launches *launches,
                         const struct device_ceilings *ceilings, struct buffer *out);
/* Members "kernels" and "steps" of an object that has begun; nothing without launches. */
void local_launches_json(const struct local_launches *launches,
                         const struct device_ceilings *ceilings, struct json_writer *writer);

/* What graphs save of the time that launches add to a step's kernels: 0 … 1, less than 0 when they
 * add to it; NaN when launches add nothing that could be saved. */
double local_launches_saved(const struct device_profile_steps *steps);

#endif
