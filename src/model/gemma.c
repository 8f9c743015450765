/* Gemma 1, 2 and 3 (text). Against Llama: embeddings are scaled by sqrt(E), config.json's files
 * store norm weights minus 1 (GGUF has them whole), GELU; 2 adds norms behind both blocks, soft
 * caps and windows in every other layer; 3 replaces the caps by head norms and gives local layers
 * their own rotary base. */
#include <math.h>

#include "model/decoder.h"
#include "model/rotary.h"

/* What all generations share. `defaults` is the family's class of defaults in config.json. */
static llcuda_status read_common(struct model_builder *builder, struct decoder *decoder,
                                 const struct decoder *defaults)
{
    if (decoder_read(builder, decoder, defaults) != LLCUDA_OK) {
        return builder->status;
    }
    if (model_read_bool_or(builder, NULL, "use_bidirectional_attention", false)) {
        return model_fail(builder, LLCUDA_UNSUPPORTED,
                          "use_bidirectional_attention: this model embeds text, it does not "
                          "continue it");
    }
    decoder->activation = PLAN_GELU_TANH; /* early files say "gelu" and mean this */
    decoder->norm_offset = model_is_gguf(builder) ? 0.0f : 1.0f;
    decoder->embedding_scale = (float)sqrt((double)decoder->embedding_length);
    return builder->status;
}

/* Scores are scaled by query_pre_attn_scalar; GGUF leaves it out, and the largest model of each
 * generation is known by its number of layers. */
static void read_attention_scale(struct model_builder *builder, struct decoder *decoder,
                                 uint32_t layers_of_27b)
{
    double scalar = decoder->head_size;
    if (model_is_gguf(builder)) {
        if (decoder->layer_count == layers_of_27b) {
            scalar = (double)(decoder->embedding_length / decoder->head_count);
        }
    } else {
        scalar = model_read_number_or(builder, NULL, "query_pre_attn_scalar", 1, 1e6, 256);
    }
    decoder->attention_scale = (float)(1 / sqrt(scalar));
}

llcuda_status model_build_gemma(struct model_builder *builder)
{
    static const struct decoder defaults = {
        .head_size = 256, .activation = PLAN_GELU_TANH, .tied = true};
    struct decoder decoder;
    if (read_common(builder, &decoder, &defaults) != LLCUDA_OK) {
        return builder->status;
    }
    return decoder_build(builder, &decoder);
}

llcuda_status model_build_gemma2(struct model_builder *builder)
{
    static const struct decoder defaults = {.head_count = 8,
                                            .kv_head_count = 4,
                                            .head_size = 256,
                                            .context_length = 8192,
                                            .activation = PLAN_GELU_TANH,
                                            .tied = true};
    struct decoder decoder;
    if (read_common(builder, &decoder, &defaults) != LLCUDA_OK) {
        return builder->status;
    }
    decoder.post_norms = true;
    decoder.feed_forward_norm_hf = "pre_feedforward_layernorm.weight";
    read_attention_scale(builder, &decoder, 46);
    decoder.attention_soft_cap = decoder_read_soft_cap(builder, "attn_logit_softcapping", 50);
    decoder.logits_soft_cap = decoder_read_soft_cap(builder, "final_logit_softcapping", 30);
    decoder_read_window(builder, &decoder, 4096, 2);
    return decoder_build(builder, &decoder);
}

/* A folder with a vision tower keeps the text model's configuration and tensors one level down. */
static void find_text_model(struct model_builder *builder)
{
    if (!model_config_value(builder, "text_config")) {
        return;
    }
    builder->hf_config_prefix = "text_config.";
    builder->hf_tensor_prefix = "language_model.model.";
    if (!model_find(builder, MODEL_NO_LAYER, NULL, "embed_tokens.weight")) {
        builder->hf_tensor_prefix = "model.language_model.";
    }
}

llcuda_status model_build_gemma3(struct model_builder *builder)
{
    static const struct decoder defaults = {.head_count = 8,
                                            .kv_head_count = 4,
                                            .head_size = 256,
                                            .context_length = 131072,
                                            .activation = PLAN_GELU_TANH,
                                            .tied = true};
    struct decoder decoder;
    find_text_model(builder);
    if (read_common(builder, &decoder, &defaults) != LLCUDA_OK) {
        return builder->status;
    }
    decoder.post_norms = true;
    decoder.head_norms = true;
    decoder.feed_forward_norm_hf = "pre_feedforward_layernorm.weight";
    read_attention_scale(builder, &decoder, 62);
    decoder.attention_soft_cap = decoder_read_soft_cap(builder, "attn_logit_softcapping", 0);
    decoder.logits_soft_cap = decoder_read_soft_cap(builder, "final_logit_softcapping", 0);
    decoder.rotary_base = rotary_read_base(builder, "full_attention.", 1e6);
    decoder.rotary_base_local = rotary_read_local_base(builder, 10000);
    uint32_t period = model_read_u32_or(builder, NULL, "sliding_window_pattern", 1, 1024, 6);
    decoder_read_window(builder, &decoder, 4096, period);
    return decoder_build(builder, &decoder);
}
