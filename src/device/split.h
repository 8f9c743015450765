/* One device out of two: the first layers of a model run on a host, the last ones and the logits on
 * a GPU, in the same step. For models that are larger than the GPU's memory.
 *
 * Idea: the plan is cut at the border of a layer (plan_cut), and each device runs its part as if it
 * were a model; only the residual stream of the rows, [n, E] floats, goes from one to the other.
 * Each keeps the cache of its own layers under the same block numbers. */
#ifndef DEVICE_SPLIT_H
#define DEVICE_SPLIT_H

#include "device/device.h"

/* As many layers on the GPU as fit what is free there. */
#define SPLIT_AUTO UINT32_MAX

/* Both devices belong to the new one from then on, also when it fails. `layers`: how many of the
 * last layers the GPU computes; a model with fewer is computed there alone, and with 0 by the host
 * alone. */
llcuda_status split_device_open(struct device *host, struct device *gpu, uint32_t layers,
                                const struct log_sink *log, struct device **device,
                                struct llcuda_error *error);

/* How many of the last layers, with their cache, the logits and the workspace, fit what a model may
 * take of `gpu` now. The errors of device_place, BAD_FORMAT. */
llcuda_status split_layers_fit(struct device *gpu, const struct plan *plan,
                               const struct device_model_options *options, uint32_t *layers,
                               struct llcuda_error *error);

#endif
