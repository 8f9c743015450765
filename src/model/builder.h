/* What the architecture files share: reading configuration values and binding tensors, each under
 * its two names at once. The first failure is remembered in `status`; later calls then do nothing
 * and return harmless values, so that an architecture file reads like a list. Look at `status`
 * before arithmetic that a wrong value could break. */
#ifndef MODEL_BUILDER_H
#define MODEL_BUILDER_H

#include "format/model_source.h"
#include "plan/plan.h"

/* Tensors outside layers are bound with this instead of a layer's number. */
#define MODEL_NO_LAYER UINT32_MAX

struct model_builder;
struct model_info;

/* One row of the table of architectures. */
struct model_architecture {
    const char *name;
    const char *gguf_name;   /* general.architecture, NULL when GGUF has no own name */
    const char *hf_names[3]; /* model_type of config.json, NULL after the last */
    llcuda_status (*build)(struct model_builder *builder);
};

struct model_builder {
    const struct model_source *source;
    struct plan *plan;
    struct model_info *info;
    struct llcuda_error *error;
    llcuda_status status;
    const char *hf_config_prefix; /* "" or "text_config." */
    const char *hf_tensor_prefix; /* "model." */
    const struct tensor **bound;  /* open-addressed set of the tensors used so far */
    size_t bound_mask;
};

/* Records a failure (the first one wins) and returns it. */
llcuda_status model_fail(struct model_builder *builder, llcuda_status status, const char *format,
                         ...) BASE_PRINTF(3, 4);

bool model_is_gguf(const struct model_builder *builder);

/* Configuration. Keys as in format/model_source.h; NULL when that container has no such key. The
 * plain functions demand the key, the others return `fallback` without it. */
uint32_t model_read_u32(struct model_builder *builder, const char *gguf_key, const char *hf_key,
                        uint32_t minimum, uint32_t maximum);
uint32_t model_read_u32_or(struct model_builder *builder, const char *gguf_key, const char *hf_key,
                           uint32_t minimum, uint32_t maximum, uint32_t fallback);
double model_read_number(struct model_builder *builder, const char *gguf_key, const char *hf_key,
                         double minimum, double maximum);
double model_read_number_or(struct model_builder *builder, const char *gguf_key, const char *hf_key,
                            double minimum, double maximum, double fallback);
bool model_read_bool_or(struct model_builder *builder, const char *gguf_key, const char *hf_key,
                        bool fallback);
/* Empty with NULL data when absent. */
struct text_view model_read_text(struct model_builder *builder, const char *gguf_key,
                                 const char *hf_key);
/* The value at a dotted path of config.json; NULL when it is absent, null, or in a GGUF. */
const struct json_value *model_config_value(const struct model_builder *builder, const char *path);

/* Tensors. `gguf_name` is without "blk.%u." and `hf_name` without "model.layers.%u." when a layer
 * is given; outside layers `hf_name` is without "model.", or whole when it begins with '/'. */
const struct tensor *model_find(struct model_builder *builder, uint32_t layer,
                                const char *gguf_name, const char *hf_name);
/* Finds a tensor that must be there with exactly this shape; `columns` 0: a vector of `rows`
 * elements. Counts it as used. NULL after a failure. */
const struct tensor *model_demand(struct model_builder *builder, uint32_t layer,
                                  const char *gguf_name, const char *hf_name, uint64_t rows,
                                  uint64_t columns);
/* The same for any shape of `rank` dimensions. */
const struct tensor *model_demand_shape(struct model_builder *builder, uint32_t layer,
                                        const char *gguf_name, const char *hf_name, uint32_t rank,
                                        const uint64_t *shape);
/* Counts a tensor as used. */
void model_mark_bound(struct model_builder *builder, const struct tensor *tensor);
/* The same, added to the plan: a weight's index, or PLAN_NONE after a failure. */
uint32_t model_bind(struct model_builder *builder, uint32_t layer, const char *gguf_name,
                    const char *hf_name, uint64_t rows, uint64_t columns);

/* Whether a tensor must, may or must not be there. */
enum model_presence { MODEL_ABSENT, MODEL_OPTIONAL, MODEL_REQUIRED };
/* A vector of that presence; PLAN_NONE when there is none. */
uint32_t model_bind_vector(struct model_builder *builder, enum model_presence presence,
                           uint32_t layer, const char *gguf_name, const char *hf_name,
                           uint64_t elements);

/* plan_add_op that records missing memory; NULL after a failure. */
struct plan_op *model_add_op(struct model_builder *builder, enum plan_op_kind kind, uint32_t layer);

/* Fails on a tensor of the file that nothing has bound. */
llcuda_status model_check_all_bound(struct model_builder *builder);

/* The architectures, one file each. */
llcuda_status model_build_llama(struct model_builder *builder);
llcuda_status model_build_mistral(struct model_builder *builder);
llcuda_status model_build_qwen2(struct model_builder *builder);
llcuda_status model_build_qwen3(struct model_builder *builder);
llcuda_status model_build_gemma(struct model_builder *builder);
llcuda_status model_build_gemma2(struct model_builder *builder);
llcuda_status model_build_gemma3(struct model_builder *builder);
llcuda_status model_build_gpt_oss(struct model_builder *builder);
llcuda_status model_build_mixtral(struct model_builder *builder);
llcuda_status model_build_qwen2moe(struct model_builder *builder);
llcuda_status model_build_qwen3moe(struct model_builder *builder);
llcuda_status model_build_phi3(struct model_builder *builder);

#endif
