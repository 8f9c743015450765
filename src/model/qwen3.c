/* Qwen3: Qwen2 without its biases (unless attention_bias is set) and with norms of each head. */
#include "model/decoder.h"

llcuda_status model_build_qwen3(struct model_builder *builder)
{
    struct decoder decoder;
    if (decoder_read(builder, &decoder, NULL) != LLCUDA_OK) {
        return builder->status;
    }
    decoder.head_norms = true;
    if (model_read_bool_or(builder, NULL, "attention_bias", false)) {
        decoder.qkv_bias = decoder.output_bias = MODEL_REQUIRED;
    }
    decoder_read_upper_window(builder, &decoder);
    return decoder_build(builder, &decoder);
}
