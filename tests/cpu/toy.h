/* Small random models made by hand, for tests of the device: a plan with weights in memory, and a
 * forward pass over whole sequences in double precision that shares no code with the device. */
#ifndef TOY_H
#define TOY_H

#include "cpu/cpu.h"
#include "support/test_support.h"

struct toy_options {
    uint32_t embedding, heads, kv_heads, head_size, feed_forward, vocabulary, layers;
    enum dtype dtype; /* of matrices; vectors are F32 */
    float gain;       /* of matrices: root mean square of a product over that of its input */
    bool biases;
    bool head_norms;
    bool sinks;
    bool layer_norm;   /* instead of RMS */
    bool ungated;      /* feed-forward without a gate */
    bool product_norm; /* norms after the projections */
    bool tied;         /* the embedding is the output too */
    enum plan_rotary_kind rotary;
    enum plan_activation activation;
    float attention_cap, logits_cap;
    uint32_t window; /* of odd layers */
    /* Of experts, in all layers but the first of several; 0: none. */
    uint32_t experts, experts_used;
    uint32_t expert_width, shared_width;
    enum dtype expert_dtype; /* DTYPE_F32: that of the others */
    bool sigmoid, normalised, expert_biases, selection_bias, shared_router;
};

struct toy {
    struct toy_options options;
    struct plan *plan;
    void *blobs[2048]; /* weight data, freed by toy_destroy */
    uint32_t blob_count;
};

/* A small default: 2 layers, everything optional off. */
struct toy_options toy_defaults(void);
/* Everything on or off by chance. */
struct toy_options toy_random_options(void);
/* Experts by chance, on top of `options`. */
void toy_random_experts(struct toy_options *options);
struct toy *toy_create(const struct toy_options *options);
void toy_destroy(struct toy *toy);

/* Logits [count, vocabulary] of all positions of one sequence; the caller frees. */
float *toy_forward(const struct toy *toy, const uint32_t *tokens, uint32_t count);

/* ‖a − b‖ / ‖b‖. */
double toy_distance(const float *a, const float *b, uint64_t count);

/* Opens the CPU device at a level; NULL when this machine or build does not have it. */
struct device *toy_device(enum cpu_level level, uint32_t threads);

/* --- driving a device ----------------------------------------------------------------------- */

#define TOY_TABLE_STRIDE 64u

/* Sequences with block tables over one cache, filled in by chance. */
struct toy_batch {
    struct step_batch batch;
    uint32_t tokens[4096], positions[4096], sequences[4096], logits_rows[4096];
    uint32_t tables[16 * TOY_TABLE_STRIDE];
};

/* Empty batch over `sequences` block tables that take turns through a shuffled cache. */
void toy_batch_init(struct toy_batch *batch, uint32_t sequences, uint32_t block_count);
void toy_batch_clear(struct toy_batch *batch);
/* Adds rows `begin` … `begin + count − 1` of a sequence; all of them want logits. */
void toy_batch_add(struct toy_batch *batch, uint32_t sequence, const uint32_t *tokens,
                   uint32_t begin, uint32_t count);

#endif
