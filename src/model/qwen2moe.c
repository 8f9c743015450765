/* Qwen1.5's and Qwen2's mixtures of experts: beside the chosen ones there is an expert that all
 * tokens go through, which has a factor of its own. */
#include "model/decoder.h"

llcuda_status model_build_qwen2moe(struct model_builder *builder)
{
    struct decoder decoder;
    if (decoder_read(builder, &decoder, NULL) != LLCUDA_OK) {
        return builder->status;
    }
    decoder.qkv_bias =
        model_read_bool_or(builder, NULL, "qkv_bias", true) ? MODEL_REQUIRED : MODEL_ABSENT;
    decoder.experts.shared_router = true;
    decoder.experts.normalised =
        model_read_bool_or(builder, "expert_weights_norm", "norm_topk_prob", false);
    decoder_read_upper_window(builder, &decoder);
    decoder_read_experts(builder, &decoder);
    decoder_read_shared_expert(builder, &decoder);
    return decoder_build(builder, &decoder);
}
