/* Owns where the tensors of a Hugging Face folder go in a GGUF file: the published names, and rows
 * of queries and keys reordered for the architectures whose GGUF form keeps rotary pairs side by
 * side. Architectures that are not in the table are refused rather than guessed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "convert/items.h"
#include "model/model.h"

static const struct hf_architecture architectures[] = {
    {"llama", "llama", true},         {"mistral", "llama", true},       {"mixtral", "llama", true},
    {"qwen2", "qwen2", false},        {"qwen2_moe", "qwen2moe", false}, {"qwen3", "qwen3", false},
    {"qwen3_moe", "qwen3moe", false},
};

static const struct {
    const char *hf, *gguf;
    bool is_query, is_key;
} layer_names[] = {
    {"input_layernorm.weight", "attn_norm.weight", false, false},
    {"self_attn.q_proj.weight", "attn_q.weight", true, false},
    {"self_attn.q_proj.bias", "attn_q.bias", true, false},
    {"self_attn.k_proj.weight", "attn_k.weight", false, true},
    {"self_attn.k_proj.bias", "attn_k.bias", false, true},
    {"self_attn.v_proj.weight", "attn_v.weight", false, false},
    {"self_attn.v_proj.bias", "attn_v.bias", false, false},
    {"self_attn.o_proj.weight", "attn_output.weight", false, false},
    {"self_attn.o_proj.bias", "attn_output.bias", false, false},
    {"self_attn.q_norm.weight", "attn_q_norm.weight", false, false},
    {"self_attn.k_norm.weight", "attn_k_norm.weight", false, false},
    {"post_attention_layernorm.weight", "ffn_norm.weight", false, false},
    {"mlp.gate_proj.weight", "ffn_gate.weight", false, false},
    {"mlp.gate_proj.bias", "ffn_gate.bias", false, false},
    {"mlp.up_proj.weight", "ffn_up.weight", false, false},
    {"mlp.up_proj.bias", "ffn_up.bias", false, false},
    {"mlp.down_proj.weight", "ffn_down.weight", false, false},
    {"mlp.down_proj.bias", "ffn_down.bias", false, false},
    {"block_sparse_moe.gate.weight", "ffn_gate_inp.weight", false, false},
    {"mlp.gate.weight", "ffn_gate_inp.weight", false, false},
    {"mlp.shared_expert.gate_proj.weight", "ffn_gate_shexp.weight", false, false},
    {"mlp.shared_expert.up_proj.weight", "ffn_up_shexp.weight", false, false},
    {"mlp.shared_expert.down_proj.weight", "ffn_down_shexp.weight", false, false},
    {"mlp.shared_expert_gate.weight", "ffn_gate_inp_shexp.weight", false, false},
};

/* Behind "experts.N."; the order of a layer's merges. */
static const char *const expert_endings[3][2] = {{"gate_proj.weight", "w1.weight"},
                                                 {"up_proj.weight", "w3.weight"},
                                                 {"down_proj.weight", "w2.weight"}};
static const char *const expert_names[3] = {"ffn_gate_exps.weight", "ffn_up_exps.weight",
                                            "ffn_down_exps.weight"};

const struct hf_architecture *hf_architecture_of(const struct model_source *source)
{
    struct text_view name = model_source_architecture(source);
    for (size_t i = 0; i < sizeof architectures / sizeof architectures[0]; i++) {
        if (text_view_is(name, architectures[i].hf)) {
            return &architectures[i];
        }
    }
    return NULL;
}

llcuda_status hf_architecture_refuse(const struct model_source *source, struct llcuda_error *error)
{
    return error_set(
        error, LLCUDA_UNSUPPORTED,
        "folders of architecture '%.*s' cannot be converted; llama, mistral, mixtral, qwen2, "
        "qwen2_moe, qwen3 and qwen3_moe can",
        TEXT_ARGUMENTS(model_source_architecture(source)));
}

/* The part of `name` behind "model.layers.N.", and N; NULL data for other names. */
static struct text_view behind_layer(struct text_view name, uint32_t *layer)
{
    static const char prefix[] = "model.layers.";
    size_t at = sizeof prefix - 1;
    struct text_view none = {NULL, 0};
    if (name.length <= at || memcmp(name.data, prefix, at) != 0) {
        return none;
    }
    *layer = 0;
    while (at < name.length && name.data[at] >= '0' && name.data[at] <= '9' && *layer < 1000000) {
        *layer = *layer * 10 + (uint32_t)(name.data[at++] - '0');
    }
    return at + 1 < name.length ? text_view_make(name.data + at + 1, name.length - at - 1) : none;
}

/* False for a tensor without a place; an empty name for one that is left out. */
static bool place(const struct hf_architecture *architecture, const struct model_info *info,
                  struct text_view name, struct convert_item *item)
{
    uint32_t layer;
    struct text_view rest = behind_layer(name, &layer);
    if (text_view_is(name, "model.embed_tokens.weight")) {
        snprintf(item->name, sizeof item->name, "token_embd.weight");
        return true;
    }
    if (text_view_is(name, "model.norm.weight")) {
        snprintf(item->name, sizeof item->name, "output_norm.weight");
        return true;
    }
    if (text_view_is(name, "lm_head.weight")) {
        snprintf(item->name, sizeof item->name, "%s", info->tied_embeddings ? "" : "output.weight");
        return true;
    }
    if (rest.data && text_view_is(rest, "self_attn.rotary_emb.inv_freq")) {
        return true; /* follows from the configuration */
    }
    for (size_t i = 0; rest.data && i < sizeof layer_names / sizeof layer_names[0]; i++) {
        if (text_view_is(rest, layer_names[i].hf)) {
            snprintf(item->name, sizeof item->name, "blk.%u.%s", layer, layer_names[i].gguf);
            if (architecture->pairs) {
                item->heads = layer_names[i].is_query ? info->head_count
                              : layer_names[i].is_key ? info->kv_head_count
                                                      : 0;
            }
            return true;
        }
    }
    return false;
}

/* Which expert of which of the three matrices a name stands for; false for all other names. */
static bool is_expert(struct text_view rest, uint32_t *expert, uint32_t *kind)
{
    static const char *const blocks[] = {"mlp.experts.", "block_sparse_moe.experts."};
    for (size_t i = 0; rest.data && i < 2; i++) {
        size_t at = strlen(blocks[i]);
        if (rest.length <= at || memcmp(rest.data, blocks[i], at) != 0) {
            continue;
        }
        *expert = 0;
        while (at < rest.length && rest.data[at] >= '0' && rest.data[at] <= '9' &&
               *expert < 1000000) {
            *expert = *expert * 10 + (uint32_t)(rest.data[at++] - '0');
        }
        struct text_view ending =
            at + 1 < rest.length ? text_view_make(rest.data + at + 1, rest.length - at - 1) : rest;
        for (*kind = 0; *kind < 3; (*kind)++) {
            if (text_view_is(ending, expert_endings[*kind][i])) {
                return true;
            }
        }
    }
    return false;
}

/* Makes room for the merged matrices of all layers. */
static llcuda_status make_merges(struct convert_items *items, const struct model_info *info,
                                 struct llcuda_error *error)
{
    uint64_t count = 3ull * info->layer_count;
    items->merges = calloc(count, sizeof *items->merges);
    items->merge_count = items->merges ? count : 0;
    for (uint64_t i = 0; i < items->merge_count; i++) {
        items->merges[i].parts = calloc(info->expert_count, sizeof *items->merges[i].parts);
        if (!items->merges[i].parts) {
            return error_no_memory(error, "a table of experts", info->expert_count);
        }
    }
    return items->merges ? LLCUDA_OK : error_no_memory(error, "a table of experts", count);
}

/* Adds one expert's matrix to its merged tensor, whose item is made with the first. The plan has
 * been built: numbers and shapes are right. */
static llcuda_status merge_expert(struct convert_items *items, const struct model_info *info,
                                  const struct tensor *tensor, uint32_t layer, uint32_t expert,
                                  uint32_t kind, struct llcuda_error *error)
{
    if (!items->merges || layer >= info->layer_count || expert >= info->expert_count) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "tensor '%.*s' has no place in a GGUF file of this architecture",
                         TEXT_ARGUMENTS(tensor->name));
    }
    struct convert_merge *merge = &items->merges[3ull * layer + kind];
    merge->parts[expert] = tensor;
    if (merge->part_count++ > 0) {
        return LLCUDA_OK;
    }
    merge->tensor = (struct tensor){
        .name = tensor->name,
        .dtype = tensor->dtype,
        .rank = 3,
        .shape = {info->expert_count, tensor->shape[0], tensor->shape[1]},
        .bytes = tensor->bytes * info->expert_count,
    };
    struct convert_item *item = &items->items[items->count++];
    *item = (struct convert_item){.tensor = &merge->tensor, .parts = merge->parts};
    snprintf(item->name, sizeof item->name, "blk.%u.%s", layer, expert_names[kind]);
    return LLCUDA_OK;
}

/* Llama 3.1's scaling of rotary frequencies is a tensor of divisors in GGUF. */
static llcuda_status add_divisors(const struct model_source *source, const struct plan *plan,
                                  struct convert_items *items, struct llcuda_error *error)
{
    const struct plan_rotary_table *table = &plan->rotary_tables[0];
    double base;
    if (!hf_has_divisors(source) || plan->rotary_table_count == 0) {
        return LLCUDA_OK;
    }
    base = hf_rotary_base(source);
    uint32_t count = table->size / 2;
    items->divisors = malloc(count * sizeof *items->divisors);
    if (!items->divisors) {
        return error_no_memory(error, "a table of divisors", count * sizeof *items->divisors);
    }
    for (uint32_t i = 0; i < count; i++) {
        double plain = pow(base, -2.0 * i / table->size);
        items->divisors[i] = (float)(plain / (double)table->frequencies[i]);
    }
    items->divisor_tensor = (struct tensor){.name = text_view_of("rope_freqs.weight"),
                                            .dtype = DTYPE_F32,
                                            .rank = 1,
                                            .shape = {count},
                                            .data = items->divisors,
                                            .bytes = count * sizeof *items->divisors};
    struct convert_item *item = &items->items[items->count++];
    *item = (struct convert_item){.name = "rope_freqs.weight", .tensor = &items->divisor_tensor};
    return LLCUDA_OK;
}

llcuda_status convert_items_hf(const struct model_source *source, struct convert_items *items,
                               struct llcuda_error *error)
{
    const struct hf_architecture *architecture = hf_architecture_of(source);
    struct plan *plan = NULL;
    struct model_info info;
    if (!architecture) {
        return hf_architecture_refuse(source, error);
    }
    /* Building a plan checks every tensor and number that is used below. */
    llcuda_status status = model_plan_build(source, &plan, &info, error);
    if (status) {
        return status;
    }
    items->model.layer_count = info.layer_count;
    items->model.group_size = info.head_count / info.kv_head_count;
    uint64_t count = items->count;
    items->count = 0;
    status = info.expert_count ? make_merges(items, &info, error) : LLCUDA_OK;
    for (uint64_t i = 0; !status && i < count; i++) {
        const struct tensor *tensor = model_source_tensor_at(source, i);
        struct convert_item item = {.tensor = tensor};
        uint32_t layer;
        uint32_t expert;
        uint32_t kind;
        if (is_expert(behind_layer(tensor->name, &layer), &expert, &kind)) {
            status = merge_expert(items, &info, tensor, layer, expert, kind, error);
        } else if (!place(architecture, &info, tensor->name, &item)) {
            status = error_set(error, LLCUDA_UNSUPPORTED,
                               "tensor '%.*s' has no place in a GGUF file of this architecture",
                               TEXT_ARGUMENTS(tensor->name));
        } else if (item.name[0]) {
            items->items[items->count++] = item;
        }
    }
    if (!status) {
        status = add_divisors(source, plan, items, error);
    }
    plan_destroy(plan);
    return status;
}
