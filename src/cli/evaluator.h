/* A model on a device without the engine around it: for commands that want logits, not text.
 */
#ifndef CLI_EVALUATOR_H
#define CLI_EVALUATOR_H

#include "cli/open.h"
#include "device/device.h"
#include "format/model_source.h"
#include "model/model.h"

struct evaluator {
    struct model_source *source;
    struct plan *plan;
    struct model_info info;
    struct device *device;
    struct device_model *model;
    uint32_t context_length;
    const char *path;         /* set before opening: instead of --model */
    uint32_t rows_max;        /* of a step; set before opening, 0: 64, all of them with logits */
    uint32_t logits_rows_max; /* likewise */
    bool steps_as_served;     /* set before opening: rows_max is what the engine would have */
    uint32_t *blocks;         /* the identity: position p lies in block p / 16 */
};

/* Opens the model that the options name, the evaluator being zero but for what its fields say, for
 * sequences of up to `context_length` positions (0: the
 * --ctx option, or the model's own length up to `context_default`). On failure the evaluator is
 * still to be closed. */
llcuda_status evaluator_open(struct evaluator *evaluator, struct options *options,
                             uint32_t context_default, struct llcuda_error *error);
void evaluator_close(struct evaluator *evaluator);

/* Runs `count` tokens from position 0 on, at most context_length, and calls `each` for every
 * position in order with its V logits (valid during the call); false from `each` ends with
 * CANCELLED. */
llcuda_status evaluator_run(struct evaluator *evaluator, const uint32_t *tokens, uint32_t count,
                            bool (*each)(void *user, uint32_t position, const float *logits),
                            void *user, struct llcuda_error *error);

/* The device that --device, --threads and --cpu-level ask for. */
llcuda_status evaluator_open_device(struct options *options, struct device **device,
                                    struct llcuda_error *error);
/* The same with other layers on the GPU than --gpu-layers says; NULL: as it says. */
llcuda_status evaluator_open_device_sharing(struct options *options, const int32_t *gpu_layers,
                                            struct device **device, struct llcuda_error *error);

#endif
