/* Mixtral: Mistral with experts in every layer, two of which a token goes through. (In GGUF it is
 * called "llama".) */
#include "model/decoder.h"

llcuda_status model_build_mixtral(struct model_builder *builder)
{
    struct decoder decoder;
    if (decoder_read(builder, &decoder, NULL) != LLCUDA_OK) {
        return builder->status;
    }
    decoder.experts = (struct decoder_experts){
        .normalised = true,
        .block_hf = "block_sparse_moe.",
        .gate_hf = "w1.weight",
        .up_hf = "w3.weight",
        .down_hf = "w2.weight",
    };
    decoder_read_window(builder, &decoder, 0, 1);
    decoder_read_experts(builder, &decoder);
    return decoder_build(builder, &decoder);
}
