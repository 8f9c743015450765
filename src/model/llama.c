/* Llama 1 to 3, and the many models that took over its shape (TinyLlama, SmolLM, Yi …). GGUF files
 * hold the query and key rows permuted, so that rotary pairs lie side by side; Hugging Face folders
 * keep the halves apart. Files converted from Mistral models say "llama" too and bring a window,
 * those from Mixtral models experts. */
#include "model/decoder.h"

llcuda_status model_build_llama(struct model_builder *builder)
{
    struct decoder decoder;
    if (decoder_read(builder, &decoder, NULL) != LLCUDA_OK) {
        return builder->status;
    }
    if (model_is_gguf(builder)) {
        decoder.rotary = PLAN_ROTARY_INTERLEAVED;
        decoder.qkv_bias = decoder.output_bias = decoder.feed_forward_bias = MODEL_OPTIONAL;
        decoder_read_window(builder, &decoder, 0, 1);
        decoder.experts.normalised = true;
        decoder_read_experts(builder, &decoder);
    } else {
        bool attention_bias = model_read_bool_or(builder, NULL, "attention_bias", false);
        bool mlp_bias = model_read_bool_or(builder, NULL, "mlp_bias", false);
        decoder.qkv_bias = decoder.output_bias = attention_bias ? MODEL_REQUIRED : MODEL_ABSENT;
        decoder.feed_forward_bias = mlp_bias ? MODEL_REQUIRED : MODEL_ABSENT;
    }
    return decoder_build(builder, &decoder);
}
