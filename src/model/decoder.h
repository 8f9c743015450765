/* The decoder that most published models are: a stack of attention and gated feed-forward blocks
 * over a residual stream. decoder_read fills in what the configuration says and the usual defaults;
 * an architecture file changes what is particular to it; decoder_build binds the tensors and writes
 * the stages. */
#ifndef MODEL_DECODER_H
#define MODEL_DECODER_H

#include "model/builder.h"

/* Feed-forward blocks of experts: what they are, and what their tensors are called in folders. */
struct decoder_experts {
    uint32_t count; /* 0: there are none */
    uint32_t used_count;
    uint32_t length;        /* of an expert */
    uint32_t shared_length; /* of an expert that all rows go to; 0: there is none */
    bool shared_router;     /* it has a factor of its own */
    bool biases;            /* of the router and of the experts */
    bool *layer_dense;      /* [layer_count] which layers have an ordinary block */
    enum plan_scoring scoring;
    bool normalised;
    float scale;
    enum plan_activation activation;
    const char *block_hf;                  /* "mlp.": what all names of the block begin with */
    const char *gate_hf, *up_hf, *down_hf; /* "gate_proj.weight", behind "experts.N." */
};

struct decoder {
    uint32_t layer_count;
    uint32_t embedding_length;
    uint32_t head_count;
    uint32_t kv_head_count;
    uint32_t head_size;
    uint32_t feed_forward_length;
    uint32_t vocabulary_size;
    uint32_t context_length;

    float norm_epsilon;
    float norm_offset; /* 1 where a file stores norm weights minus 1 */
    enum plan_activation activation;

    enum model_presence qkv_bias, output_bias, feed_forward_bias;
    enum model_presence sinks; /* a logit of each head in the denominator of the softmax */
    bool head_norms;           /* RMS norms of each query and key head */
    bool post_norms;           /* norms of what attention and feed-forward add to the residual */
    bool fused_gate_up;        /* one matrix holds the gate's rows and then up's */
    bool tied;                 /* the output matrix is the embedding */

    float embedding_scale;    /* 1 */
    float attention_scale;    /* 1 / sqrt(head_size) */
    float attention_soft_cap; /* 0: none */
    float logits_soft_cap;    /* 0: none */

    enum plan_rotary_kind rotary;
    uint32_t rotary_size;
    bool rotary_exact;        /* YaRN's range of pairs is not rounded outwards */
    double rotary_base;       /* of layers that see everything */
    double rotary_base_local; /* of layers with a window; 0: the same table as the others */

    uint32_t window;   /* positions that a local layer sees, itself included; 0: no local layers */
    bool *layer_local; /* [layer_count] */

    struct decoder_experts experts;

    /* Names that differ between families. */
    const char *feed_forward_norm_hf;   /* "post_attention_layernorm.weight" */
    const char *feed_forward_norm_gguf; /* "ffn_norm.weight" */
};

/* Reads sizes, norms, rotary and tying; no windows, no biases, no scales. `defaults` holds what a
 * family's config.json may leave out: head counts, head_size, context_length, activation, tied; a
 * zero there means that the value is demanded (head_size: E / H, kv_head_count: H). NULL: all zero.
 */
llcuda_status decoder_read(struct model_builder *builder, struct decoder *decoder,
                           const struct decoder *defaults);

/* Sets window and layer_local. The window comes from attention.sliding_window or sliding_window, or
 * else `fallback` (0: none); which layers have it, from layer_types or
 * attention.sliding_window_pattern, or else every layer i with i % period < period − 1 (1: all). */
llcuda_status decoder_read_window(struct model_builder *builder, struct decoder *decoder,
                                  uint32_t fallback, uint32_t period);

/* The same for Qwen2 and its successors: without use_sliding_window there is none; otherwise the
 * layers from max_window_layers on have it, unless layer_types says more. */
llcuda_status decoder_read_upper_window(struct model_builder *builder, struct decoder *decoder);

/* A soft cap: `fallback` when the key (the same in both containers) is absent, 0 for none. An
 * explicit null or 0 in config.json means none. */
float decoder_read_soft_cap(struct model_builder *builder, const char *key, double fallback);

/* How many experts the configuration speaks of, 0 for a dense model. experts.c */
uint32_t decoder_count_experts(struct model_builder *builder);
/* Reads counts, lengths and which layers have experts, if there are any. The family sets how they
 * are chosen, and their names where they are not those of Qwen. */
void decoder_read_experts(struct model_builder *builder, struct decoder *decoder);
/* The length of the expert that all rows go to. */
void decoder_read_shared_expert(struct model_builder *builder, struct decoder *decoder);
/* Whether layer `layer` has an ordinary feed-forward block. */
bool decoder_layer_is_dense(const struct decoder *decoder, uint32_t layer);
/* Binds the tensors of a layer's experts; the norm is the caller's. */
void decoder_bind_experts(struct model_builder *builder, const struct decoder *decoder,
                          uint32_t layer, struct plan_op *op);

llcuda_status decoder_build(struct model_builder *builder, struct decoder *decoder);

#endif
