/* A plan: a model's forward pass as data. A linear list of stages over named weights and a handful
 * of buffers; every device runs the same list, and none of them sees a model's name.
 *
 * Axis letters (docs/GLOSSARY.md): n rows of a step (tokens), E embedding, H query heads, K
 * key-value heads, D head size, F feed-forward, V vocabulary, m rows that want logits. Weight
 * matrices are [rows, columns] with the sum over columns: y[n, rows] = x[n, columns] · Wᵀ.
 *
 * Each stage is *defined* by the composition of scalar primitives that its comment states (they
 * live in tensor/reference.h); a device may fuse them in any way that keeps the result. */
#ifndef PLAN_PLAN_H
#define PLAN_PLAN_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/error.h"
#include "tensor/tensor.h"

#define PLAN_NONE UINT32_MAX /* "this stage has no such weight" */

/* What the rows of a step pass through. Every buffer is float32, [n, width] (logits: [m, V]). */
enum plan_buffer {
    PLAN_BUFFER_RESIDUAL, /* [n, E] the residual stream */
    PLAN_BUFFER_QUERY,    /* [n, H·D] queries after rotary */
    PLAN_BUFFER_ATTENDED, /* [n, H·D] attention output before its projection */
    PLAN_BUFFER_HIDDEN,   /* [n, F] activated feed-forward */
    PLAN_BUFFER_LOGITS,   /* [m, V] */
    PLAN_BUFFER_COUNT
};

enum plan_norm_kind { PLAN_NORM_RMS, PLAN_NORM_LAYER };

/* A normalisation over E. RMS: x / sqrt(mean(x²) + epsilon) · (weight_offset + weight).
 * Layer: (x − mean) / sqrt(var + epsilon) · weight + bias. */
struct plan_norm {
    enum plan_norm_kind kind;
    uint32_t weight; /* index into plan->weights, float-typed vector [E] */
    uint32_t bias;   /* or PLAN_NONE */
    float epsilon;
    float weight_offset; /* 0; 1 for families that store weight − 1 */
};

enum plan_rotary_kind {
    PLAN_ROTARY_NONE,
    PLAN_ROTARY_INTERLEAVED, /* pairs (2i, 2i+1): GGUF's "llama" layout */
    PLAN_ROTARY_HALF         /* pairs (i, i + rotary_size/2): Hugging Face's layout */
};

enum plan_activation {
    PLAN_SILU,
    PLAN_GELU_TANH,
    PLAN_GELU_ERF,
    /* Of experts only, gate and up together: reference_swiglu_clamped. */
    PLAN_SWIGLU_CLAMPED
};

/* How the router's logits become probabilities. */
enum plan_scoring { PLAN_SCORING_SOFTMAX, PLAN_SCORING_SIGMOID };

enum plan_op_kind {
    /* residual = scale · embedding[token] */
    PLAN_EMBED,
    /* h = norm(residual); q, k, v = linear(h) + bias; optional RMS norm of each head of q and k;
     * rotary on q and k at the row's position; query = q; k and v go to the cache of `layer`. */
    PLAN_QKV,
    /* attended = softmax(scale · q·Kᵀ, capped, causal, window, sink)·V over the cache of `layer` */
    PLAN_ATTENTION,
    /* residual += linear(input) + bias (after an optional norm of the product) */
    PLAN_PROJECT,
    /* h = norm(residual); hidden = activation(gate(h)) · up(h), or activation(up(h)) when ungated
     */
    PLAN_FEED_FORWARD,
    /* h = norm(residual); ids, w = route(linear(h) of the router); residual += Σ over the chosen
     * experts, in the order of their numbers, of w · (down(activation(gate(h)) · up(h)) + bias),
     * and then of the shared expert, times sigmoid of its own router when it has one */
    PLAN_EXPERTS,
    /* logits = cap(scale · linear(norm(residual of the wanted rows))) */
    PLAN_LOGITS,
    PLAN_OP_KIND_COUNT
};

struct plan_op {
    enum plan_op_kind kind;
    uint32_t layer; /* of the cache and for dumps; 0 outside layers */
    union {
        struct {
            uint32_t weight; /* [V, E] */
            float scale;
        } embed;
        struct {
            struct plan_norm norm;
            uint32_t query, key, value;                /* [H·D, E], [K·D, E], [K·D, E] */
            uint32_t query_bias, key_bias, value_bias; /* or PLAN_NONE */
            uint32_t query_norm, key_norm;             /* [D], or PLAN_NONE */
            float head_norm_epsilon;
            float head_norm_weight_offset;
            uint32_t head_count, kv_head_count, head_size;
            enum plan_rotary_kind rotary;
            uint32_t rotary_size;  /* the first elements of a head that turn; even, ≤ head_size */
            uint32_t rotary_table; /* index into plan->rotary_tables */
        } qkv;
        struct {
            uint32_t head_count, kv_head_count, head_size; /* H is a multiple of K */
            float scale;
            float soft_cap;  /* 0: none; otherwise cap · tanh(score / cap) */
            uint32_t window; /* 0: all; otherwise only positions > row's position − window */
            uint32_t sinks;  /* [H] extra logit of the softmax's denominator, or PLAN_NONE */
        } attention;
        struct {
            enum plan_buffer input; /* PLAN_BUFFER_ATTENDED or PLAN_BUFFER_HIDDEN */
            uint32_t weight;        /* [E, width of input] */
            uint32_t bias;          /* [E] or PLAN_NONE */
            struct plan_norm norm;  /* of the product; norm.weight PLAN_NONE: none */
        } project;
        struct {
            struct plan_norm norm;
            uint32_t gate; /* [F, E], or PLAN_NONE when ungated */
            uint32_t up;   /* [F, E] */
            uint32_t gate_bias, up_bias;
            enum plan_activation activation;
        } feed_forward;
        struct {
            struct plan_norm norm;
            uint32_t expert_count; /* X */
            uint32_t used_count;   /* experts a row is sent to */
            uint32_t router;       /* [X, E] */
            uint32_t router_bias;  /* [X] or PLAN_NONE */
            /* [X] added to the probabilities for the choice alone, or PLAN_NONE. */
            uint32_t selection_bias;
            enum plan_scoring scoring;
            bool normalised; /* the weights of the chosen sum to 1 */
            float scale;     /* of the weights, afterwards */
            /* The first of X consecutive weights, one an expert: [G, E], [G, E], [E, G]. */
            uint32_t gate, up, down;
            /* Tables [X, G], [X, G], [X, E], or PLAN_NONE. */
            uint32_t gate_bias, up_bias, down_bias;
            enum plan_activation activation;
            uint32_t shared_gate, shared_up, shared_down; /* all or none: [S, E], [S, E], [E, S] */
            uint32_t shared_router;                       /* [E], or PLAN_NONE: the factor is 1 */
        } experts;
        struct {
            struct plan_norm norm;
            uint32_t weight; /* [V, E] */
            uint32_t bias;   /* [V] or PLAN_NONE */
            float scale;
            float soft_cap;
        } logits;
    };
};

/* What the values of a weight of f8_e4m3 are multiplied by: one factor for every `rows_each` rows
 * and `columns_each` columns. */
struct plan_scales {
    const void *data; /* factors row after row, alignment 1, borrowed; NULL: 1 */
    enum dtype dtype; /* F32, F16 or BF16 */
    uint64_t rows_each, columns_each;
    uint64_t columns; /* factors in a row */
};

/* A weight: a whole tensor or some rows of one (fused projections are bound as row ranges). */
struct plan_weight {
    struct text_view name; /* for people */
    enum dtype dtype;
    uint64_t rows;    /* 1 for a vector */
    uint64_t columns; /* whole blocks of dtype */
    const void *data; /* borrowed, row after row, alignment 1; NULL in a plan without weights */
    uint64_t bytes;
    struct plan_scales scales; /* of f8_e4m3 */
};

/* Angles of rotary pair i at position p are p · frequencies[i]; sine and cosine are multiplied by
 * `magnitude` (YaRN's attention factor, otherwise 1). */
struct plan_rotary_table {
    float *frequencies; /* [size / 2] */
    uint32_t size;      /* rotary_size of the stages that use it */
    float magnitude;
};

struct plan {
    struct arena arena; /* owns everything below except weight data */
    struct plan_op *ops;
    uint32_t op_count;
    struct plan_weight *weights;
    uint32_t weight_count;
    struct plan_rotary_table *rotary_tables;
    uint32_t rotary_table_count;

    /* plan_finish derives all of this from the stages, except context_length, weights_mapped and
     * what makes a part, which the builder sets. */
    uint32_t embedding_length;         /* E */
    uint32_t vocabulary_size;          /* V: width of the logits */
    uint32_t layer_count;              /* cache layers */
    uint32_t kv_head_count;            /* K, equal in all layers */
    uint32_t head_size;                /* D, equal in all layers */
    uint32_t context_length;           /* positions the model was made for */
    uint32_t width[PLAN_BUFFER_COUNT]; /* elements a row */
    uint32_t expert_count;             /* most X of a stage; 0: no experts */
    uint32_t used_count;               /* most experts that a row is sent to */
    uint32_t expert_width;             /* most G */
    uint32_t shared_width;             /* most S; 0: no shared experts */
    uint64_t parameter_count;          /* elements of all weights, each counted once */
    bool weights_mapped; /* weight data lies in a file map: pages may be dropped after repacking */
    /* Of a part of a model (plan_cut): rows bring their residual stream along, in place of an embed
     * stage; or it is what the part gives, in place of logits. */
    bool takes_residual, gives_residual;
    /* The last stage that writes to a cache. After it nobody reads a row whose logits or hidden
     * state are not wanted: a device may leave it out. PLAN_NONE when the residual stream of all
     * rows is what the part gives. */
    uint32_t last_cache_op;

    /* Of the builder. */
    uint32_t op_capacity, weight_capacity, rotary_table_capacity;
    bool out_of_memory; /* an add has failed */
};

/* Building. plan_create makes an empty plan; the add functions return false without memory (the
 * builder checks once, at plan_finish). Names are copied. */
struct plan *plan_create(void);
void plan_destroy(struct plan *plan);

/* Adds rows [row_begin, row_begin + rows) of a tensor of rank 1 or 2 as a weight; returns its index
 * or PLAN_NONE without memory. The ranges must lie inside the tensor (asserted). The "rows" of a
 * tensor of rank 1 are its elements (of a plain type when it is not taken whole); it becomes one
 * row of `rows` columns. Data that two stages share must be added once and its index used twice. */
uint32_t plan_add_weight(struct plan *plan, const struct tensor *tensor, uint64_t row_begin,
                         uint64_t rows);
/* Gives weight `index`, of f8_e4m3, its factors: a tensor with one value, [rows, 1] or [rows / a,
 * columns / b] values, both divisions rounded up; `block` is {a, b}, of the last kind. The tensor's
 * data are borrowed. BAD_FORMAT for any other shape or type. */
llcuda_status plan_set_scales(struct plan *plan, uint32_t index, const struct tensor *scales,
                              const uint64_t block[2], struct llcuda_error *error);
/* The values of row `row` as floats [columns], scales applied. The weight has data. */
void plan_weight_row(const struct plan_weight *weight, uint64_t row, float *out);
/* The factor of a value of a weight of f8_e4m3. */
float plan_weight_scale(const struct plan_weight *weight, uint64_t row, uint64_t column);
/* Adds a table; `frequencies` are copied. Returns its index or PLAN_NONE. */
uint32_t plan_add_rotary_table(struct plan *plan, const float *frequencies, uint32_t size,
                               float magnitude);
/* Adds a stage and returns it, or NULL. Its weights are PLAN_NONE, everything else is zero. The
 * pointer is valid until the next call. */
struct plan_op *plan_add_op(struct plan *plan, enum plan_op_kind kind, uint32_t layer);

/* Checks the whole plan: every index in range, every shape against its neighbours, every divisor
 * non-zero, float types where vectors are needed, stages in an order in which each buffer is
 * written before it is read and each layer's cache exactly once. Fills in the widths. OUT_OF_MEMORY
 * when an add has failed before, BAD_FORMAT with the stage and the weight otherwise. */
llcuda_status plan_finish(struct plan *plan, struct llcuda_error *error);

/* Two finished plans that give together what the whole gives: the stages before layer `layer`, and
 * those from there on, whose layers count from 0. Both use the numbers of the whole plan's weights
 * (some of them not at all) and borrow its names and rotary tables: the whole plan must outlive
 * them. INVALID_ARGUMENT when no layer before or none after would be left, BAD_FORMAT when a stage
 * behind the border reads anything but the residual stream from before it. */
llcuda_status plan_cut(const struct plan *whole, uint32_t layer, struct plan **first,
                       struct plan **second, struct llcuda_error *error);

/* Names for dumps: "embed", "qkv" … */
const char *plan_op_name(enum plan_op_kind kind);

/* The weights of a stage, absent ones left out: whoever uploads, shards, counts or prints weights
 * need not know the stages. */
#define PLAN_OP_WEIGHTS_MAX 16u
struct plan_op_weight {
    const char *role; /* "query", "norm" … */
    uint32_t weight;  /* index into plan->weights */
    uint32_t count;   /* so many from there on: 1, or the experts */
    bool is_matrix;   /* a linear layer or embedding; otherwise a float-typed vector or table */
    bool is_experts;  /* a matrix of each expert */
};
/* Writes at most PLAN_OP_WEIGHTS_MAX entries and returns their number. */
uint32_t plan_op_weights(const struct plan_op *op, struct plan_op_weight *out);

/* Cost of one stage for `rows` rows whose contexts sum to `context_sum` positions, with
 * `logits_rows` wanted: bytes of weights and cache read or written, and floating-point operations.
 * A weight counts once a step, an embedding only its rows. Each row reads its own context, as in
 * decode; rows of one sequence may share those reads. Of experts those count that rows of even
 * chance touch: X · (1 − (1 − used / X)^rows). The operations are those of the linear layers
 * and of attention, a multiply-add counted as two; all the rest is below a hundredth of them.
 */
struct plan_cost {
    uint64_t weight_bytes;
    uint64_t cache_bytes;
    uint64_t flop;
};
struct plan_cost plan_op_cost(const struct plan *plan, const struct plan_op *op, uint64_t rows,
                              uint64_t context_sum, uint64_t logits_rows, enum dtype cache_dtype);
/* The share of an experts stage's experts that so many rows touch when each is chosen as often. */
double plan_experts_share(const struct plan_op *op, uint64_t rows);
struct plan_cost plan_step_cost(const struct plan *plan, uint64_t rows, uint64_t context_sum,
                                uint64_t logits_rows, enum dtype cache_dtype);

/* Appends a listing for people, a line a stage with weights, types, shapes. */
void plan_dump(const struct plan *plan, struct buffer *out);

#endif
