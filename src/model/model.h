/* From a model on disk to a plan: finds the architecture by name, reads its configuration, binds
 * its tensors and writes down the stages. The one place in the program that knows models by name.
 *
 * Everything in the file is outside input: each number has a range, each tensor's shape is checked
 * against them, and a tensor that the architecture does not use is refused, since leaving out a
 * bias or a norm gives wrong text without any error. */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include "format/model_source.h"
#include "plan/plan.h"

/* What people want to know about a model. */
struct model_info {
    char architecture[32]; /* the name of the table below, "llama" */
    uint32_t layer_count;
    uint32_t embedding_length; /* E */
    uint32_t head_count;       /* H */
    uint32_t kv_head_count;    /* K */
    uint32_t head_size;        /* D */
    uint32_t feed_forward_length;
    uint32_t expert_count; /* 0: a dense model */
    uint32_t used_count;   /* experts that a token goes through */
    uint32_t expert_length;
    uint32_t shared_length; /* of an expert that all tokens go through; 0: none */
    uint32_t vocabulary_size;
    uint32_t context_length;
    uint32_t window; /* of the layers with a sliding window, 0 when there is none */
    uint32_t window_layer_count;
    char rotary[96];      /* "half, base 500000, llama3 × 8" */
    bool tied_embeddings; /* the output matrix is the embedding */
    uint64_t parameter_count;
    uint64_t weight_bytes; /* of the weights that the plan uses */
};

/* Builds and finishes the plan. `source` must outlive it: the plan borrows its tensor data (none
 * when the source was opened with header_only). `info` may be NULL; both outputs are set on success
 * only; free the plan with plan_destroy.
 * Errors: UNSUPPORTED for an architecture or a feature that this build does not know (the message
 * names it and lists what is known) and for files without tensors; BAD_FORMAT for a missing or
 * impossible number and for a missing or misshapen tensor (the message names it); OUT_OF_MEMORY. */
llcuda_status model_plan_build(const struct model_source *source, struct plan **plan,
                               struct model_info *info, struct llcuda_error *error);

/* The supported architectures by index, NULL after the last: "llama", "mistral" … */
const char *model_architecture_name(size_t index);

#endif
