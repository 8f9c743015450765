/* Owns the shape of the common decoder: which tensors a layer has and which stages they become.
 * Knows no family by name. Invariant: sizes are in the ranges of base/limits.h before anything is
 * computed from them. */
#include "model/decoder.h"

#include <math.h>
#include <stdio.h>

#include "base/limits.h"
#include "model/model.h"
#include "model/rotary.h"

/* Where config.json keeps the rotary parameters when they differ between kinds of layers. */
#define ROTARY_GROUP "full_attention."

/* A number that config.json must have unless the family has a default for it. GGUF always has it.
 */
static uint32_t read_size(struct model_builder *builder, const char *gguf_key, const char *hf_key,
                          uint32_t maximum, uint32_t fallback)
{
    if (fallback == 0 || model_is_gguf(builder)) {
        return model_read_u32(builder, gguf_key, hf_key, 1, maximum);
    }
    return model_read_u32_or(builder, gguf_key, hf_key, 1, maximum, fallback);
}

static void read_sizes(struct model_builder *builder, struct decoder *decoder,
                       const struct decoder *defaults)
{
    decoder->layer_count =
        model_read_u32(builder, "block_count", "num_hidden_layers", 1, LIMIT_LAYER_COUNT);
    decoder->embedding_length =
        model_read_u32(builder, "embedding_length", "hidden_size", 1, LIMIT_EMBEDDING_LENGTH);
    decoder->head_count = read_size(builder, "attention.head_count", "num_attention_heads",
                                    LIMIT_HEAD_COUNT, defaults->head_count);
    bool use_default = !model_is_gguf(builder) && defaults->kv_head_count != 0;
    decoder->kv_head_count = model_read_u32_or(
        builder, "attention.head_count_kv", "num_key_value_heads", 1, LIMIT_HEAD_COUNT,
        use_default ? defaults->kv_head_count : decoder->head_count);
    decoder->feed_forward_length = model_read_u32(
        builder, "feed_forward_length", "intermediate_size", 1, LIMIT_FEED_FORWARD_LENGTH);
    decoder->context_length = read_size(builder, "context_length", "max_position_embeddings",
                                        LIMIT_CONTEXT_LENGTH, defaults->context_length);
    if (builder->status != LLCUDA_OK) {
        return;
    }
    if (decoder->head_count % decoder->kv_head_count != 0) {
        model_fail(builder, LLCUDA_BAD_FORMAT,
                   "%u query heads cannot share %u key-value heads evenly", decoder->head_count,
                   decoder->kv_head_count);
    }
    uint32_t implied = decoder->embedding_length / decoder->head_count;
    if (!model_is_gguf(builder) && defaults->head_size != 0) {
        implied = defaults->head_size;
    }
    decoder->head_size =
        model_read_u32_or(builder, "attention.key_length", "head_dim", 2, LIMIT_HEAD_SIZE, implied);
    uint32_t value_size = model_read_u32_or(builder, "attention.value_length", NULL, 2,
                                            LIMIT_HEAD_SIZE, decoder->head_size);
    if (builder->status == LLCUDA_OK && value_size != decoder->head_size) {
        model_fail(builder, LLCUDA_UNSUPPORTED, "keys of size %u with values of size %u",
                   decoder->head_size, value_size);
    }
    if (decoder->head_size < 2 || decoder->head_size > LIMIT_HEAD_SIZE ||
        decoder->head_size % 2 != 0) {
        model_fail(builder, LLCUDA_BAD_FORMAT,
                   "the head size %u (%u / %u) is not even and within 2 … %u", decoder->head_size,
                   decoder->embedding_length, decoder->head_count, LIMIT_HEAD_SIZE);
    }
}

/* The embedding says how many tokens there are; a configuration that says otherwise is wrong. */
static void read_vocabulary(struct model_builder *builder, struct decoder *decoder)
{
    const struct tensor *embedding =
        model_find(builder, MODEL_NO_LAYER, "token_embd.weight", "embed_tokens.weight");
    uint32_t said =
        model_read_u32_or(builder, "vocab_size", "vocab_size", 1, LIMIT_VOCABULARY_TOKENS, 0);
    if (builder->status != LLCUDA_OK) {
        return;
    }
    if (!embedding || embedding->rank != 2) {
        decoder->vocabulary_size = said ? said : 1; /* binding it reports what is wrong */
        return;
    }
    if (embedding->shape[0] < 1 || embedding->shape[0] > LIMIT_VOCABULARY_TOKENS) {
        model_fail(builder, LLCUDA_BAD_FORMAT, "tensor '%.*s' holds %llu tokens, wanted are 1 … %u",
                   TEXT_ARGUMENTS(embedding->name), (unsigned long long)embedding->shape[0],
                   LIMIT_VOCABULARY_TOKENS);
        return;
    }
    decoder->vocabulary_size = (uint32_t)embedding->shape[0];
    if (said && said != decoder->vocabulary_size) {
        model_fail(builder, LLCUDA_BAD_FORMAT,
                   "tensor '%.*s' holds %u tokens, but the configuration says vocab_size %u",
                   TEXT_ARGUMENTS(embedding->name), decoder->vocabulary_size, said);
    }
}

static void read_activation(struct model_builder *builder, struct decoder *decoder)
{
    struct text_view name = model_read_text(builder, NULL, "hidden_activation");
    if (!name.data) {
        name = model_read_text(builder, NULL, "hidden_act");
    }
    if (!name.data) {
        return;
    }
    if (text_view_is(name, "silu") || text_view_is(name, "swish")) {
        decoder->activation = PLAN_SILU;
    } else if (text_view_is(name, "gelu_pytorch_tanh") || text_view_is(name, "gelu_new")) {
        decoder->activation = PLAN_GELU_TANH;
    } else if (text_view_is(name, "gelu")) {
        decoder->activation = PLAN_GELU_ERF;
    } else {
        model_fail(builder, LLCUDA_UNSUPPORTED,
                   "activation '%.*s' is not supported; supported are silu, gelu and "
                   "gelu_pytorch_tanh",
                   TEXT_ARGUMENTS(name));
    }
}

/* Features that change the meaning of the tensors, whatever the family. */
static void refuse_unknown_features(struct model_builder *builder)
{
    const struct json_value *quantised = model_config_value(builder, "quantization_config");
    struct text_view method = json_text(json_member(quantised, "quant_method"));
    struct text_view form = json_text(json_member(quantised, "format"));
    bool is_f8 = text_view_is(method, "fp8") || (text_view_is(method, "compressed-tensors") &&
                                                 text_view_is(form, "float-quantized"));
    if (quantised && !is_f8) {
        model_fail(builder, LLCUDA_UNSUPPORTED,
                   "the weights are quantised with '%.*s'; supported are float weights of 32, 16 "
                   "and 8 bits in SafeTensors and quantised weights in GGUF",
                   TEXT_ARGUMENTS(method));
    }
}

llcuda_status decoder_read(struct model_builder *builder, struct decoder *decoder,
                           const struct decoder *defaults)
{
    static const struct decoder no_defaults;
    if (!defaults) {
        defaults = &no_defaults;
    }
    *decoder = (struct decoder){.activation = defaults->activation,
                                .embedding_scale = 1,
                                .feed_forward_norm_hf = "post_attention_layernorm.weight",
                                .feed_forward_norm_gguf = "ffn_norm.weight"};
    refuse_unknown_features(builder);
    read_sizes(builder, decoder, defaults);
    read_vocabulary(builder, decoder);
    read_activation(builder, decoder);
    double epsilon =
        model_is_gguf(builder)
            ? model_read_number(builder, "attention.layer_norm_rms_epsilon", NULL, 1e-12, 0.1)
            : model_read_number_or(builder, NULL, "rms_norm_eps", 1e-12, 0.1, 1e-6);
    if (builder->status != LLCUDA_OK) {
        return builder->status;
    }
    decoder->norm_epsilon = (float)epsilon;
    decoder->attention_scale = (float)(1 / sqrt((double)decoder->head_size));
    decoder->rotary = PLAN_ROTARY_HALF;
    decoder->rotary_base = rotary_read_base(builder, ROTARY_GROUP, 10000);
    decoder->rotary_size = rotary_read_size(builder, decoder->head_size);
    if (builder->status == LLCUDA_OK &&
        (decoder->rotary_size < 2 || decoder->rotary_size % 2 != 0)) {
        model_fail(builder, LLCUDA_BAD_FORMAT, "the rotary size %u is not even and at least 2",
                   decoder->rotary_size);
    }
    decoder->tied = model_is_gguf(builder)
                        ? !model_find(builder, MODEL_NO_LAYER, "output.weight", NULL)
                        : model_read_bool_or(builder, NULL, "tie_word_embeddings", defaults->tied);
    decoder->layer_local =
        arena_alloc(&builder->plan->arena, decoder->layer_count, sizeof *decoder->layer_local);
    if (!decoder->layer_local && builder->status == LLCUDA_OK) {
        builder->status =
            error_no_memory(builder->error, "the layers of a model", decoder->layer_count);
    }
    return builder->status;
}

/* layer_types of config.json: an array of "sliding_attention" and "full_attention". */
static bool read_layer_types(struct model_builder *builder, struct decoder *decoder)
{
    const struct json_value *types = model_config_value(builder, "layer_types");
    if (!types) {
        return false;
    }
    if (!json_is(types, JSON_ARRAY) || types->count != decoder->layer_count) {
        model_fail(builder, LLCUDA_BAD_FORMAT, "layer_types must be an array of %u names",
                   decoder->layer_count);
        return true;
    }
    uint32_t layer = 0;
    JSON_EACH(element, types)
    {
        struct text_view type = json_text(element);
        bool local = text_view_is(type, "sliding_attention");
        if (!local && !text_view_is(type, "full_attention")) {
            model_fail(builder, LLCUDA_UNSUPPORTED,
                       "layer type '%.*s' is not supported; supported are full_attention and "
                       "sliding_attention",
                       TEXT_ARGUMENTS(type));
            return true;
        }
        decoder->layer_local[layer++] = local;
    }
    return true;
}

/* attention.sliding_window_pattern of GGUF: an array of booleans. (A single number is a period.) */
static bool read_layer_pattern(struct model_builder *builder, struct decoder *decoder,
                               uint32_t *period)
{
    const struct gguf *gguf = model_source_gguf(builder->source);
    struct text_view architecture = model_source_architecture(builder->source);
    char key[128];
    snprintf(key, sizeof key, "%.*s.attention.sliding_window_pattern",
             TEXT_ARGUMENTS(architecture));
    const struct gguf_value *value = gguf ? gguf_find(gguf, key) : NULL;
    if (!value) {
        return false;
    }
    if (value->kind != GGUF_ARRAY) {
        *period =
            model_read_u32(builder, "attention.sliding_window_pattern", NULL, 1, LIMIT_LAYER_COUNT);
        return false;
    }
    if (value->element_kind != GGUF_BOOL || value->count != decoder->layer_count) {
        model_fail(builder, LLCUDA_BAD_FORMAT, "%s must be an array of %u booleans", key,
                   decoder->layer_count);
        return true;
    }
    for (uint32_t i = 0; i < decoder->layer_count; i++) {
        decoder->layer_local[i] = value->elements[i] != 0;
    }
    return true;
}

llcuda_status decoder_read_window(struct model_builder *builder, struct decoder *decoder,
                                  uint32_t fallback, uint32_t period)
{
    decoder->window = model_read_u32_or(builder, "attention.sliding_window", "sliding_window", 0,
                                        UINT32_MAX, fallback);
    bool listed = builder->status == LLCUDA_OK && (read_layer_types(builder, decoder) ||
                                                   read_layer_pattern(builder, decoder, &period));
    for (uint32_t i = 0; builder->status == LLCUDA_OK && i < decoder->layer_count; i++) {
        if (!listed) {
            decoder->layer_local[i] = period == 1 || i % period < period - 1;
        }
        if (decoder->window == 0) {
            decoder->layer_local[i] = false;
        }
    }
    return builder->status;
}

llcuda_status decoder_read_upper_window(struct model_builder *builder, struct decoder *decoder)
{
    if (model_is_gguf(builder)) {
        return decoder_read_window(builder, decoder, 0, 1);
    }
    bool used = model_read_bool_or(builder, NULL, "use_sliding_window", false);
    uint32_t first = model_read_u32_or(builder, NULL, "max_window_layers", 0, UINT32_MAX, 28);
    if (!used) {
        return builder->status;
    }
    bool listed = model_config_value(builder, "layer_types");
    decoder_read_window(builder, decoder, 4096, 1);
    for (uint32_t i = 0; !listed && i < decoder->layer_count && i < first; i++) {
        decoder->layer_local[i] = false;
    }
    return builder->status;
}

float decoder_read_soft_cap(struct model_builder *builder, const char *key, double fallback)
{
    const struct json_value *config = model_source_config(builder->source);
    if (builder->hf_config_prefix[0] != '\0') {
        config = json_member(config, "text_config");
    }
    if (json_is(json_member(config, key), JSON_NULL)) {
        return 0;
    }
    return (float)model_read_number_or(builder, key, key, 0, 1e6, fallback);
}

/* What the layers share while they are built. */
struct building {
    struct model_builder *builder;
    const struct decoder *decoder;
    uint32_t layer;
    uint32_t table, table_local;
};

static struct plan_norm bind_norm(const struct building *building, uint32_t layer,
                                  const char *gguf_name, const char *hf_name)
{
    const struct decoder *decoder = building->decoder;
    return (struct plan_norm){
        .kind = PLAN_NORM_RMS,
        .weight =
            model_bind(building->builder, layer, gguf_name, hf_name, decoder->embedding_length, 0),
        .bias = PLAN_NONE,
        .epsilon = decoder->norm_epsilon,
        .weight_offset = decoder->norm_offset,
    };
}

/* Rows [begin, begin + rows) of a tensor that holds several projections. */
static uint32_t bind_part(const struct building *building, const struct tensor *tensor,
                          uint64_t begin, uint64_t rows)
{
    return tensor ? plan_add_weight(building->builder->plan, tensor, begin, rows) : PLAN_NONE;
}

static void bind_fused_qkv(const struct building *building, struct plan_op *op)
{
    const struct decoder *decoder = building->decoder;
    struct model_builder *builder = building->builder;
    uint64_t query = (uint64_t)decoder->head_count * decoder->head_size;
    uint64_t key = (uint64_t)decoder->kv_head_count * decoder->head_size;
    const struct tensor *fused =
        model_demand(builder, building->layer, "attn_qkv.weight", "self_attn.qkv_proj.weight",
                     query + 2 * key, decoder->embedding_length);
    op->qkv.query = bind_part(building, fused, 0, query);
    op->qkv.key = bind_part(building, fused, query, key);
    op->qkv.value = bind_part(building, fused, query + key, key);
    if (decoder->qkv_bias != MODEL_REQUIRED &&
        !model_find(builder, building->layer, "attn_qkv.bias", "self_attn.qkv_proj.bias")) {
        return;
    }
    const struct tensor *bias = model_demand(builder, building->layer, "attn_qkv.bias",
                                             "self_attn.qkv_proj.bias", query + 2 * key, 0);
    if (bias && dtype_info(bias->dtype)->block_elements != 1) {
        model_fail(builder, LLCUDA_BAD_FORMAT, "tensor '%.*s' is a bias of type %s",
                   TEXT_ARGUMENTS(bias->name), dtype_info(bias->dtype)->name);
        return;
    }
    op->qkv.query_bias = bind_part(building, bias, 0, query);
    op->qkv.key_bias = bind_part(building, bias, query, key);
    op->qkv.value_bias = bind_part(building, bias, query + key, key);
}

static void bind_qkv(const struct building *building, struct plan_op *op)
{
    const struct decoder *decoder = building->decoder;
    struct model_builder *builder = building->builder;
    uint32_t layer = building->layer;
    if (model_find(builder, layer, "attn_qkv.weight", "self_attn.qkv_proj.weight")) {
        bind_fused_qkv(building, op);
        return;
    }
    uint64_t width = decoder->embedding_length;
    uint64_t query = (uint64_t)decoder->head_count * decoder->head_size;
    uint64_t key = (uint64_t)decoder->kv_head_count * decoder->head_size;
    op->qkv.query =
        model_bind(builder, layer, "attn_q.weight", "self_attn.q_proj.weight", query, width);
    op->qkv.key =
        model_bind(builder, layer, "attn_k.weight", "self_attn.k_proj.weight", key, width);
    op->qkv.value =
        model_bind(builder, layer, "attn_v.weight", "self_attn.v_proj.weight", key, width);
    enum model_presence bias = decoder->qkv_bias;
    op->qkv.query_bias =
        model_bind_vector(builder, bias, layer, "attn_q.bias", "self_attn.q_proj.bias", query);
    op->qkv.key_bias =
        model_bind_vector(builder, bias, layer, "attn_k.bias", "self_attn.k_proj.bias", key);
    op->qkv.value_bias =
        model_bind_vector(builder, bias, layer, "attn_v.bias", "self_attn.v_proj.bias", key);
}

static void build_attention(const struct building *building)
{
    const struct decoder *decoder = building->decoder;
    struct model_builder *builder = building->builder;
    uint32_t layer = building->layer;
    bool local = decoder->layer_local[layer];
    struct plan_op *op = model_add_op(builder, PLAN_QKV, layer);
    if (!op) {
        return;
    }
    op->qkv.norm = bind_norm(building, layer, "attn_norm.weight", "input_layernorm.weight");
    bind_qkv(building, op);
    enum model_presence head_norms = decoder->head_norms ? MODEL_REQUIRED : MODEL_ABSENT;
    op->qkv.query_norm = model_bind_vector(builder, head_norms, layer, "attn_q_norm.weight",
                                           "self_attn.q_norm.weight", decoder->head_size);
    op->qkv.key_norm = model_bind_vector(builder, head_norms, layer, "attn_k_norm.weight",
                                         "self_attn.k_norm.weight", decoder->head_size);
    op->qkv.head_norm_epsilon = decoder->norm_epsilon;
    op->qkv.head_norm_weight_offset = decoder->norm_offset;
    op->qkv.head_count = decoder->head_count;
    op->qkv.kv_head_count = decoder->kv_head_count;
    op->qkv.head_size = decoder->head_size;
    op->qkv.rotary = decoder->rotary;
    op->qkv.rotary_size = decoder->rotary_size;
    op->qkv.rotary_table = local ? building->table_local : building->table;

    op = model_add_op(builder, PLAN_ATTENTION, layer);
    if (!op) {
        return;
    }
    op->attention.head_count = decoder->head_count;
    op->attention.kv_head_count = decoder->kv_head_count;
    op->attention.head_size = decoder->head_size;
    op->attention.scale = decoder->attention_scale;
    op->attention.soft_cap = decoder->attention_soft_cap;
    op->attention.window = local ? decoder->window : 0;
    op->attention.sinks = model_bind_vector(builder, decoder->sinks, layer, "attn_sinks.weight",
                                            "self_attn.sinks", decoder->head_count);

    op = model_add_op(builder, PLAN_PROJECT, layer);
    if (!op) {
        return;
    }
    op->project.input = PLAN_BUFFER_ATTENDED;
    op->project.weight =
        model_bind(builder, layer, "attn_output.weight", "self_attn.o_proj.weight",
                   decoder->embedding_length, (uint64_t)decoder->head_count * decoder->head_size);
    op->project.bias = model_bind_vector(builder, decoder->output_bias, layer, "attn_output.bias",
                                         "self_attn.o_proj.bias", decoder->embedding_length);
    if (decoder->post_norms) {
        op->project.norm = bind_norm(building, layer, "post_attention_norm.weight",
                                     "post_attention_layernorm.weight");
    }
}

static void bind_gate_up(const struct building *building, struct plan_op *op)
{
    const struct decoder *decoder = building->decoder;
    struct model_builder *builder = building->builder;
    uint32_t layer = building->layer;
    uint64_t rows = decoder->feed_forward_length;
    uint64_t width = decoder->embedding_length;
    if (decoder->fused_gate_up) {
        const struct tensor *fused = model_demand(builder, layer, "ffn_up.weight",
                                                  "mlp.gate_up_proj.weight", 2 * rows, width);
        op->feed_forward.gate = bind_part(building, fused, 0, rows);
        op->feed_forward.up = bind_part(building, fused, rows, rows);
        return;
    }
    op->feed_forward.gate =
        model_bind(builder, layer, "ffn_gate.weight", "mlp.gate_proj.weight", rows, width);
    op->feed_forward.up =
        model_bind(builder, layer, "ffn_up.weight", "mlp.up_proj.weight", rows, width);
    op->feed_forward.gate_bias = model_bind_vector(builder, decoder->feed_forward_bias, layer,
                                                   "ffn_gate.bias", "mlp.gate_proj.bias", rows);
    op->feed_forward.up_bias = model_bind_vector(builder, decoder->feed_forward_bias, layer,
                                                 "ffn_up.bias", "mlp.up_proj.bias", rows);
}

static void build_experts(const struct building *building)
{
    struct plan_op *op = model_add_op(building->builder, PLAN_EXPERTS, building->layer);
    if (op) {
        op->experts.norm =
            bind_norm(building, building->layer, building->decoder->feed_forward_norm_gguf,
                      building->decoder->feed_forward_norm_hf);
        decoder_bind_experts(building->builder, building->decoder, building->layer, op);
    }
}

static void build_feed_forward(const struct building *building)
{
    const struct decoder *decoder = building->decoder;
    struct model_builder *builder = building->builder;
    uint32_t layer = building->layer;
    if (!decoder_layer_is_dense(decoder, layer)) {
        build_experts(building);
        return;
    }
    struct plan_op *op = model_add_op(builder, PLAN_FEED_FORWARD, layer);
    if (!op) {
        return;
    }
    op->feed_forward.norm =
        bind_norm(building, layer, decoder->feed_forward_norm_gguf, decoder->feed_forward_norm_hf);
    op->feed_forward.activation = decoder->activation;
    bind_gate_up(building, op);

    op = model_add_op(builder, PLAN_PROJECT, layer);
    if (!op) {
        return;
    }
    op->project.input = PLAN_BUFFER_HIDDEN;
    op->project.weight = model_bind(builder, layer, "ffn_down.weight", "mlp.down_proj.weight",
                                    decoder->embedding_length, decoder->feed_forward_length);
    op->project.bias =
        model_bind_vector(builder, decoder->feed_forward_bias, layer, "ffn_down.bias",
                          "mlp.down_proj.bias", decoder->embedding_length);
    if (decoder->post_norms) {
        op->project.norm =
            bind_norm(building, layer, "post_ffw_norm.weight", "post_feedforward_layernorm.weight");
    }
}

static void add_rotary_tables(struct building *building, struct decoder *decoder)
{
    struct rotary_request request = {.size = decoder->rotary_size,
                                     .context_length = decoder->context_length,
                                     .base = decoder->rotary_base,
                                     .scaled = true,
                                     .exact = decoder->rotary_exact,
                                     .hf_group = ROTARY_GROUP};
    building->table = rotary_add(building->builder, &request, &decoder->context_length);
    building->table_local = building->table;
    if (decoder->rotary_base_local != 0 && decoder->window != 0) {
        request.base = decoder->rotary_base_local;
        request.scaled = false;
        building->table_local = rotary_add(building->builder, &request, &decoder->context_length);
    }
}

static void fill_info(const struct decoder *decoder, struct model_info *info)
{
    char described[sizeof info->rotary];
    snprintf(described, sizeof described, "%s, %s",
             decoder->rotary == PLAN_ROTARY_INTERLEAVED ? "interleaved" : "half", info->rotary);
    memcpy(info->rotary, described, sizeof described);
    info->layer_count = decoder->layer_count;
    info->embedding_length = decoder->embedding_length;
    info->head_count = decoder->head_count;
    info->kv_head_count = decoder->kv_head_count;
    info->head_size = decoder->head_size;
    info->feed_forward_length = decoder->feed_forward_length;
    info->expert_count = decoder->experts.count;
    info->used_count = decoder->experts.used_count;
    info->expert_length = decoder->experts.length;
    info->shared_length = decoder->experts.shared_length;
    info->vocabulary_size = decoder->vocabulary_size;
    info->context_length = decoder->context_length;
    for (uint32_t i = 0; i < decoder->layer_count; i++) {
        info->window_layer_count += decoder->layer_local[i];
    }
    info->window = info->window_layer_count ? decoder->window : 0;
    info->tied_embeddings = decoder->tied;
}

llcuda_status decoder_build(struct model_builder *builder, struct decoder *decoder)
{
    if (decoder->experts.count == 0 && decoder_count_experts(builder) > 0) {
        model_fail(builder, LLCUDA_UNSUPPORTED,
                   "this is a mixture of experts, which this architecture is only known without");
    }
    if (builder->status != LLCUDA_OK) {
        return builder->status;
    }
    struct building building = {.builder = builder, .decoder = decoder};
    add_rotary_tables(&building, decoder);
    uint32_t embedding =
        model_bind(builder, MODEL_NO_LAYER, "token_embd.weight", "embed_tokens.weight",
                   decoder->vocabulary_size, decoder->embedding_length);
    struct plan_op *op = model_add_op(builder, PLAN_EMBED, 0);
    if (op) {
        op->embed.weight = embedding;
        op->embed.scale = decoder->embedding_scale;
    }
    for (uint32_t i = 0; i < decoder->layer_count; i++) {
        building.layer = i;
        build_attention(&building);
        build_feed_forward(&building);
    }
    op = model_add_op(builder, PLAN_LOGITS, 0);
    if (op) {
        op->logits.norm = bind_norm(&building, MODEL_NO_LAYER, "output_norm.weight", "norm.weight");
        op->logits.weight =
            decoder->tied ? embedding
                          : model_bind(builder, MODEL_NO_LAYER, "output.weight", "/lm_head.weight",
                                       decoder->vocabulary_size, decoder->embedding_length);
        op->logits.scale = 1;
        op->logits.soft_cap = decoder->logits_soft_cap;
    }
    builder->plan->context_length = decoder->context_length;
    if (builder->status == LLCUDA_OK) {
        fill_info(decoder, builder->info);
    }
    return builder->status;
}
