/* Where the time of steps goes on the device, by stage of the plan and by kernel: behind
 * device_profile and device_profile_kernels. A profiled step is launched once through a driver's
 * table that writes down every launch; each kind of launch is then repeated by itself, over all
 * layers in order, between two events; at last the step runs as it would have without a profile, so
 * that its results are the same. One thread: the one that steps. */
#ifndef GPU_PROFILE_H
#define GPU_PROFILE_H

#include "device/device.h"

struct gpu_model;
struct gpu_profile;

/* Profiles the step of model->shape, whose data is on the stream, before it runs. Nothing while
 * profiling is off. DEVICE, OUT_OF_MEMORY. */
llcuda_status gpu_profile_step(struct gpu_model *model, const struct step_batch *batch,
                               struct llcuda_error *error);

void gpu_profile_destroy(struct gpu_model *model);

/* device_profile and device_profile_kernels. */
uint32_t gpu_model_profile(struct device_model *model, struct device_profile_row *rows,
                           uint32_t capacity);
uint32_t gpu_model_profile_kernels(struct device_model *model, struct device_profile_steps *steps,
                                   struct device_profile_kernel *rows, uint32_t capacity);

#endif
