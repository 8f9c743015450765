/* What the kernels around experts are launched with; as in arguments_linear.h, which comes first.
 */
#ifndef KERNELS_ARGUMENTS_EXPERTS_H
#define KERNELS_ARGUMENTS_EXPERTS_H

#ifndef KERNEL_POINTER
#include "kernels/arguments_linear.h"
#endif

#define ROUTE_THREADS     256u
#define ROUTE_ROWS        8u /* of a block */
#define ROUTE_EXPERTS_MAX 1024u
#define ROUTE_USED_MAX    64u

/* Which experts a row goes to and how much each counts, and the rows of each expert. */
struct route_arguments {
    KERNEL_POINTER(const uint32_t) count;
    KERNEL_POINTER(const float) logits;          /* [n, expert_count] */
    KERNEL_POINTER(const float) bias;            /* [expert_count] or none */
    KERNEL_POINTER(const float) selection_bias;  /* [expert_count] or none */
    KERNEL_POINTER(const void) input;            /* activations [n, columns] */
    KERNEL_POINTER(const float) shared_router;   /* [columns] or none: the factor is 1 */
    KERNEL_POINTER(uint32_t) ids;                /* [n, used], ascending */
    KERNEL_POINTER(float) weights;               /* [n, used] */
    KERNEL_POINTER(float) shared;                /* [n] factor of the shared expert */
    KERNEL_POINTER(uint32_t) places;             /* [n · used] sorted by expert */
    KERNEL_POINTER(struct expert_tile) tiles[2]; /* for the two products */
    KERNEL_POINTER(uint32_t) tile_counts;        /* [2] */
    KERNEL_POINTER(uint32_t) arrived;            /* [1] zero between launches */
    uint32_t expert_count;
    uint32_t used_count;
    uint32_t columns;
    uint32_t sigmoid; /* otherwise softmax */
    uint32_t normalised;
    float scale;
    uint32_t tile_tokens[2]; /* most rows of a tile */
};

/* hidden[p, i] = activation(gate[p, i]) · up[p, i], or the clamped form of both */
struct experts_activate_arguments {
    KERNEL_POINTER(const uint32_t) count;
    KERNEL_POINTER(const float) raw;       /* [n · used] rows: gate [width], up [width] */
    KERNEL_POINTER(const uint32_t) ids;    /* [n · used] or none: no biases */
    KERNEL_POINTER(const float) gate_bias; /* [experts, width] or none */
    KERNEL_POINTER(const float) up_bias;   /* [experts, width] or none */
    KERNEL_POINTER(void) hidden;           /* [n · used, width] activations */
    uint32_t width;
    uint32_t used_count;
    uint32_t kind; /* ACTIVATION_* */
    uint32_t reserved;
};

/* residual[t] += Σ weights[p] · (products[p] + bias of its expert), p from t · used on, then
 * shared[t] · shared_product[t] */
struct experts_combine_arguments {
    KERNEL_POINTER(const uint32_t) count;
    KERNEL_POINTER(const float) products;       /* [n · used, width] */
    KERNEL_POINTER(const uint32_t) ids;         /* [n, used] */
    KERNEL_POINTER(const float) weights;        /* [n, used] */
    KERNEL_POINTER(const float) bias;           /* [experts, width] or none */
    KERNEL_POINTER(const float) shared_product; /* [n, width] or none */
    KERNEL_POINTER(const float) shared;         /* [n] */
    KERNEL_POINTER(float) residual;             /* [n, width] */
    uint32_t width;
    uint32_t used_count;
};

#endif
