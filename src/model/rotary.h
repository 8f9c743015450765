/* Rotary position tables from a model's configuration: the plain table and the published ways to
 * stretch it over a longer context. */
#ifndef MODEL_ROTARY_H
#define MODEL_ROTARY_H

#include "model/builder.h"

struct rotary_request {
    uint32_t size;           /* elements of a head that turn; even */
    uint32_t context_length; /* positions the model was made for */
    double base;             /* frequency i is base^(−2i / size) before scaling */
    bool scaled;             /* apply the configuration's scaling */
    bool exact;              /* of GGUF: YaRN's range of pairs is not rounded outwards */
    const char *hf_group;    /* inside rope_parameters: "" or "full_attention." */
};

/* Adds the table and describes it in builder->info when it is the first one. Returns its index,
 * PLAN_NONE after a failure. Longrope is run with its short factors, and *context_length is lowered
 * to the positions for which they hold. */
uint32_t rotary_add(struct model_builder *builder, const struct rotary_request *request,
                    uint32_t *context_length);

/* rope.freq_base or rope_theta, wherever a generation of config.json keeps it. */
double rotary_read_base(struct model_builder *builder, const char *hf_group, double fallback);

/* The same for layers with a window: rope.freq_base_swa or rope_local_base_freq. */
double rotary_read_local_base(struct model_builder *builder, double fallback);

/* Elements of a head that turn: rope.dimension_count, or partial_rotary_factor × head_size. */
uint32_t rotary_read_size(struct model_builder *builder, uint32_t head_size);

#endif
