/* Owns the feed-forward blocks of experts: what the configuration says of them, and their tensors,
 * which are one for each expert in folders and one for all in GGUF. Either way the plan gets one
 * weight an expert, which borrows the file's bytes. Invariant: counts are in range, and no more
 * experts are used than there are, before a tensor is looked for. Knows no family by name. */
#include <stdio.h>

#include "base/limits.h"
#include "model/decoder.h"

#define NAME_BYTES 96

/* Folders count them under two names. */
static const char *count_key(const struct model_builder *builder)
{
    return model_config_value(builder, "num_local_experts") ? "num_local_experts" : "num_experts";
}

/* mlp_only_layers and decoder_sparse_step of folders; in GGUF the tensors tell. */
static void read_dense_layers(struct model_builder *builder, struct decoder *decoder)
{
    bool *dense =
        arena_alloc(&builder->plan->arena, decoder->layer_count, sizeof *decoder->layer_local);
    if (!dense) {
        builder->status =
            error_no_memory(builder->error, "the layers of a model", decoder->layer_count);
        return;
    }
    uint32_t step =
        model_read_u32_or(builder, NULL, "decoder_sparse_step", 1, LIMIT_LAYER_COUNT, 1);
    for (uint32_t i = 0; i < decoder->layer_count; i++) {
        dense[i] = model_is_gguf(builder) ? model_find(builder, i, "ffn_up.weight", NULL) != NULL
                                          : (i + 1) % step != 0;
    }
    const struct json_value *listed = model_config_value(builder, "mlp_only_layers");
    if (listed && !json_is(listed, JSON_ARRAY)) {
        model_fail(builder, LLCUDA_BAD_FORMAT, "mlp_only_layers must be an array of layers");
        return;
    }
    JSON_EACH(element, listed)
    {
        int64_t layer;
        if (!json_integer(element, 0, decoder->layer_count - 1, &layer)) {
            model_fail(builder, LLCUDA_BAD_FORMAT,
                       "mlp_only_layers must be an array of layers below %u", decoder->layer_count);
            return;
        }
        dense[layer] = true;
    }
    decoder->experts.layer_dense = dense;
}

uint32_t decoder_count_experts(struct model_builder *builder)
{
    return model_read_u32_or(builder, "expert_count", count_key(builder), 0, LIMIT_EXPERT_COUNT, 0);
}

void decoder_read_experts(struct model_builder *builder, struct decoder *decoder)
{
    struct decoder_experts *experts = &decoder->experts;
    uint32_t count = decoder_count_experts(builder);
    if (count == 0) {
        return;
    }
    experts->used_count =
        model_read_u32(builder, "expert_used_count", "num_experts_per_tok", 1, LIMIT_EXPERTS_USED);
    if (builder->status == LLCUDA_OK && experts->used_count > count) {
        model_fail(builder, LLCUDA_BAD_FORMAT,
                   "a token goes to %u experts, but there are %u of them", experts->used_count,
                   count);
    }
    experts->length =
        model_read_u32_or(builder, "expert_feed_forward_length", "moe_intermediate_size", 1,
                          LIMIT_FEED_FORWARD_LENGTH, decoder->feed_forward_length);
    experts->scale =
        (float)model_read_number_or(builder, "expert_weights_scale", NULL, 0, 1e6, 1.0);
    experts->scale = experts->scale == 0 ? 1 : experts->scale; /* writers put 0 for "none" */
    experts->activation = decoder->activation;
    if (!experts->block_hf) {
        experts->block_hf = "mlp.";
        experts->gate_hf = "gate_proj.weight";
        experts->up_hf = "up_proj.weight";
        experts->down_hf = "down_proj.weight";
    }
    read_dense_layers(builder, decoder);
    experts->count = count;
}

void decoder_read_shared_expert(struct model_builder *builder, struct decoder *decoder)
{
    decoder->experts.shared_length =
        model_read_u32(builder, "expert_shared_feed_forward_length",
                       "shared_expert_intermediate_size", 1, LIMIT_FEED_FORWARD_LENGTH);
}

bool decoder_layer_is_dense(const struct decoder *decoder, uint32_t layer)
{
    const struct decoder_experts *experts = &decoder->experts;
    return experts->count == 0 || (experts->layer_dense && experts->layer_dense[layer]);
}

/* --- tensors -------------------------------------------------------------------------------- */

/* One weight an expert: parts of one tensor. */
static uint32_t bind_merged(struct model_builder *builder, uint32_t layer, const char *gguf_name,
                            uint64_t count, uint64_t rows, uint64_t columns)
{
    const uint64_t shape[3] = {count, rows, columns};
    const struct tensor *tensor = model_demand_shape(builder, layer, gguf_name, NULL, 3, shape);
    if (!tensor) {
        return PLAN_NONE;
    }
    struct tensor flat = *tensor;
    flat.rank = 2;
    flat.shape[0] = count * rows;
    flat.shape[1] = columns;
    uint32_t first = plan_add_weight(builder->plan, &flat, 0, rows);
    for (uint64_t i = 1; i < count; i++) {
        plan_add_weight(builder->plan, &flat, i * rows, rows);
    }
    return first;
}

static uint32_t bind_each(struct model_builder *builder, const char *block, const char *ending,
                          uint32_t layer, uint32_t count, uint64_t rows, uint64_t columns)
{
    uint32_t first = PLAN_NONE;
    for (uint32_t i = 0; i < count && builder->status == LLCUDA_OK; i++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "%sexperts.%u.%s", block, i, ending);
        uint32_t index = model_bind(builder, layer, NULL, name, rows, columns);
        first = i == 0 ? index : first;
    }
    return first;
}

static uint32_t bind_matrices(struct model_builder *builder, const struct decoder_experts *experts,
                              uint32_t layer, const char *gguf_name, const char *ending,
                              uint64_t rows, uint64_t columns)
{
    return model_is_gguf(builder)
               ? bind_merged(builder, layer, gguf_name, experts->count, rows, columns)
               : bind_each(builder, experts->block_hf, ending, layer, experts->count, rows,
                           columns);
}

/* The router of the shared expert is a vector, or a matrix of one row. */
static uint32_t bind_shared_router(struct model_builder *builder, const char *hf_name,
                                   uint32_t layer, uint64_t columns)
{
    const char *gguf_name = "ffn_gate_inp_shexp.weight";
    const struct tensor *tensor = model_find(builder, layer, gguf_name, hf_name);
    return tensor && tensor->rank == 2 ? model_bind(builder, layer, gguf_name, hf_name, 1, columns)
                                       : model_bind(builder, layer, gguf_name, hf_name, columns, 0);
}

static void bind_shared(struct model_builder *builder, const struct decoder *decoder,
                        uint32_t layer, struct plan_op *op)
{
    uint64_t width = decoder->embedding_length;
    uint64_t rows = decoder->experts.shared_length;
    op->experts.shared_gate = model_bind(builder, layer, "ffn_gate_shexp.weight",
                                         "mlp.shared_expert.gate_proj.weight", rows, width);
    op->experts.shared_up = model_bind(builder, layer, "ffn_up_shexp.weight",
                                       "mlp.shared_expert.up_proj.weight", rows, width);
    op->experts.shared_down = model_bind(builder, layer, "ffn_down_shexp.weight",
                                         "mlp.shared_expert.down_proj.weight", width, rows);
    if (decoder->experts.shared_router) {
        op->experts.shared_router =
            bind_shared_router(builder, "mlp.shared_expert_gate.weight", layer, width);
    }
}

/* Only GGUF has them so. */
static void bind_biases(struct model_builder *builder, const struct decoder *decoder,
                        uint32_t layer, struct plan_op *op)
{
    const struct decoder_experts *experts = &decoder->experts;
    op->experts.router_bias = model_bind_vector(builder, MODEL_REQUIRED, layer, "ffn_gate_inp.bias",
                                                NULL, experts->count);
    op->experts.gate_bias =
        model_bind(builder, layer, "ffn_gate_exps.bias", NULL, experts->count, experts->length);
    op->experts.up_bias =
        model_bind(builder, layer, "ffn_up_exps.bias", NULL, experts->count, experts->length);
    op->experts.down_bias = model_bind(builder, layer, "ffn_down_exps.bias", NULL, experts->count,
                                       decoder->embedding_length);
}

void decoder_bind_experts(struct model_builder *builder, const struct decoder *decoder,
                          uint32_t layer, struct plan_op *op)
{
    const struct decoder_experts *experts = &decoder->experts;
    uint64_t width = decoder->embedding_length;
    char router[NAME_BYTES];
    snprintf(router, sizeof router, "%sgate.weight", experts->block_hf);
    op->experts.expert_count = experts->count;
    op->experts.used_count = experts->used_count;
    op->experts.scoring = experts->scoring;
    op->experts.normalised = experts->normalised;
    op->experts.scale = experts->scale;
    op->experts.activation = experts->activation;
    op->experts.router =
        model_bind(builder, layer, "ffn_gate_inp.weight", router, experts->count, width);
    op->experts.gate = bind_matrices(builder, experts, layer, "ffn_gate_exps.weight",
                                     experts->gate_hf, experts->length, width);
    op->experts.up = bind_matrices(builder, experts, layer, "ffn_up_exps.weight", experts->up_hf,
                                   experts->length, width);
    op->experts.down = bind_matrices(builder, experts, layer, "ffn_down_exps.weight",
                                     experts->down_hf, width, experts->length);
    if (experts->biases) {
        bind_biases(builder, decoder, layer, op);
    }
    if (experts->shared_length) {
        bind_shared(builder, decoder, layer, op);
    }
}
