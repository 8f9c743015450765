/* Phi-3 and Phi-4: Llama with one matrix for queries, keys and values and one for gate and up. */
#include "model/decoder.h"

llcuda_status model_build_phi3(struct model_builder *builder)
{
    struct decoder decoder;
    if (decoder_read(builder, &decoder, NULL) != LLCUDA_OK) {
        return builder->status;
    }
    decoder.fused_gate_up = true;
    decoder_read_window(builder, &decoder, 0, 1);
    return decoder_build(builder, &decoder);
}
