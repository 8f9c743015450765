/* Owns the table of architectures and the order of a build: find the row, let it write the plan,
 * see that no tensor was left over, finish the plan. Stateless; any thread. */
#include "model/model.h"

#include <stdio.h>

#include "model/builder.h"

/* In the order in which messages list them. */
static const struct model_architecture architectures[] = {
    {"llama", "llama", {"llama"}, model_build_llama},
    {"mistral", NULL, {"mistral"}, model_build_mistral},
    {"mixtral", NULL, {"mixtral"}, model_build_mixtral},
    {"qwen2", "qwen2", {"qwen2"}, model_build_qwen2},
    {"qwen2moe", "qwen2moe", {"qwen2_moe"}, model_build_qwen2moe},
    {"qwen3", "qwen3", {"qwen3"}, model_build_qwen3},
    {"qwen3moe", "qwen3moe", {"qwen3_moe"}, model_build_qwen3moe},
    {"gemma", "gemma", {"gemma"}, model_build_gemma},
    {"gemma2", "gemma2", {"gemma2"}, model_build_gemma2},
    {"gemma3", "gemma3", {"gemma3_text", "gemma3"}, model_build_gemma3},
    {"phi3", "phi3", {"phi3"}, model_build_phi3},
    {"gpt-oss", "gpt-oss", {"gpt_oss"}, model_build_gpt_oss},
};
#define ARCHITECTURE_COUNT (sizeof architectures / sizeof *architectures)

const char *model_architecture_name(size_t index)
{
    return index < ARCHITECTURE_COUNT ? architectures[index].name : NULL;
}

static const struct model_architecture *find_architecture(const struct model_source *source)
{
    struct text_view name = model_source_architecture(source);
    bool gguf = model_source_container(source) == MODEL_GGUF;
    for (size_t i = 0; i < ARCHITECTURE_COUNT; i++) {
        const struct model_architecture *row = &architectures[i];
        if (gguf && row->gguf_name && text_view_is(name, row->gguf_name)) {
            return row;
        }
        for (size_t n = 0; !gguf && n < 3 && row->hf_names[n]; n++) {
            if (text_view_is(name, row->hf_names[n])) {
                return row;
            }
        }
    }
    return NULL;
}

static llcuda_status fail_unknown(const struct model_source *source, struct llcuda_error *error)
{
    char list[256];
    size_t length = 0;
    for (size_t i = 0; i < ARCHITECTURE_COUNT && length < sizeof list; i++) {
        length += (size_t)snprintf(list + length, sizeof list - length, "%s%s", i ? ", " : "",
                                   architectures[i].name);
    }
    struct text_view name = model_source_architecture(source);
    return error_set(error, LLCUDA_UNSUPPORTED,
                     "architecture '%.*s' is not supported; supported are %s", TEXT_ARGUMENTS(name),
                     list);
}

static llcuda_status fail_empty(struct llcuda_error *error)
{
    return error_set(error, LLCUDA_UNSUPPORTED,
                     "the file holds a vocabulary and no tensors: it can tokenise, but there is no "
                     "model in it to run");
}

/* An empty set of twice the size that can be needed. */
static llcuda_status init_bound(struct model_builder *builder)
{
    uint64_t count = model_source_tensor_count(builder->source);
    size_t slots = 16;
    while (slots < 2 * count) {
        slots *= 2;
    }
    builder->bound_mask = slots - 1;
    builder->bound = arena_alloc(&builder->plan->arena, slots, sizeof *builder->bound);
    return builder->bound ? LLCUDA_OK
                          : error_no_memory(builder->error, "the tensors of a model",
                                            slots * sizeof *builder->bound);
}

static uint64_t weight_bytes(const struct plan *plan)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < plan->weight_count; i++) {
        bytes += plan->weights[i].bytes;
    }
    return bytes;
}

llcuda_status model_plan_build(const struct model_source *source, struct plan **plan,
                               struct model_info *info, struct llcuda_error *error)
{
    if (model_source_tensor_count(source) == 0) {
        return fail_empty(error);
    }
    const struct model_architecture *architecture = find_architecture(source);
    if (!architecture) {
        return fail_unknown(source, error);
    }
    struct model_info found = {0};
    struct model_builder builder = {.source = source,
                                    .plan = plan_create(),
                                    .info = &found,
                                    .error = error,
                                    .hf_config_prefix = "",
                                    .hf_tensor_prefix = "model."};
    if (!builder.plan) {
        return error_no_memory(error, "the plan of a model", sizeof *builder.plan);
    }
    snprintf(found.architecture, sizeof found.architecture, "%s", architecture->name);
    builder.plan->weights_mapped = model_source_mapped(source);
    llcuda_status status = init_bound(&builder);
    if (status == LLCUDA_OK) {
        status = architecture->build(&builder);
    }
    if (status == LLCUDA_OK) {
        status = model_check_all_bound(&builder);
    }
    if (status == LLCUDA_OK) {
        status = plan_finish(builder.plan, error);
    }
    if (status != LLCUDA_OK) {
        plan_destroy(builder.plan);
        return status;
    }
    found.parameter_count = builder.plan->parameter_count;
    found.weight_bytes = weight_bytes(builder.plan);
    if (info) {
        *info = found;
    }
    *plan = builder.plan;
    return LLCUDA_OK;
}
