/* Mistral: Llama with a sliding window in all layers (in GGUF it is called "llama"). */
#include "model/decoder.h"

llcuda_status model_build_mistral(struct model_builder *builder)
{
    struct decoder decoder;
    if (decoder_read(builder, &decoder, NULL) != LLCUDA_OK) {
        return builder->status;
    }
    decoder_read_window(builder, &decoder, 0, 1);
    return decoder_build(builder, &decoder);
}
