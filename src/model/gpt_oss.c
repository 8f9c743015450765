/* gpt-oss: experts in every layer, with biases and a clamped activation; a logit of each head that
 * takes part in the softmax alone; a window in every other layer, from the first on. In GGUF:
 * folders keep the experts in a form of their own. */
#include "model/decoder.h"

llcuda_status model_build_gpt_oss(struct model_builder *builder)
{
    struct decoder decoder;
    if (!model_is_gguf(builder)) {
        return model_fail(builder, LLCUDA_UNSUPPORTED,
                          "folders of gpt-oss keep the experts in a form that is not read here: "
                          "use its GGUF file");
    }
    if (decoder_read(builder, &decoder, NULL) != LLCUDA_OK) {
        return builder->status;
    }
    decoder.qkv_bias = decoder.output_bias = decoder.sinks = MODEL_REQUIRED;
    decoder.feed_forward_norm_gguf = "post_attention_norm.weight";
    decoder.rotary_exact = true;
    decoder.experts.normalised = true;
    decoder.experts.biases = true;
    decoder_read_window(builder, &decoder, 0, 2);
    decoder_read_experts(builder, &decoder);
    decoder.experts.activation = PLAN_SWIGLU_CLAMPED;
    return decoder_build(builder, &decoder);
}
