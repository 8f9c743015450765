/* Qwen2 and Qwen2.5: Llama with biases on queries, keys and values. A window, where one is switched
 * on, belongs to the layers from max_window_layers on. */
#include "model/decoder.h"

llcuda_status model_build_qwen2(struct model_builder *builder)
{
    struct decoder decoder;
    if (decoder_read(builder, &decoder, NULL) != LLCUDA_OK) {
        return builder->status;
    }
    decoder.qkv_bias = MODEL_REQUIRED;
    decoder_read_upper_window(builder, &decoder);
    return decoder_build(builder, &decoder);
}
