/* Qwen3's mixtures of experts: Qwen3 with experts in all layers, or in some. */
#include "model/decoder.h"

llcuda_status model_build_qwen3moe(struct model_builder *builder)
{
    struct decoder decoder;
    if (decoder_read(builder, &decoder, NULL) != LLCUDA_OK) {
        return builder->status;
    }
    decoder.head_norms = true;
    if (model_read_bool_or(builder, NULL, "attention_bias", false)) {
        decoder.qkv_bias = decoder.output_bias = MODEL_REQUIRED;
    }
    /* GGUF often leaves it out: all published models of this name do. */
    decoder.experts.normalised = model_read_bool_or(builder, "expert_weights_norm",
                                                    "norm_topk_prob", model_is_gguf(builder));
    decoder_read_upper_window(builder, &decoder);
    decoder_read_experts(builder, &decoder);
    return decoder_build(builder, &decoder);
}
