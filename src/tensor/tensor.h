/* A tensor as a file holds it: a name, a type, a shape, and borrowed bytes. */
#ifndef TENSOR_TENSOR_H
#define TENSOR_TENSOR_H

#include "tensor/dtype.h"

#define TENSOR_RANK_MAX 4

struct tensor {
    struct text_view name; /* as the file has it */
    enum dtype dtype;
    uint32_t rank;                   /* 0 for a scalar */
    uint64_t shape[TENSOR_RANK_MAX]; /* outermost first: a weight matrix is [rows, columns], and
                                        columns is the axis that is summed over */
    const void *data; /* mapped or owned elsewhere; aligned to at least 1 byte only */
    uint64_t bytes;
};

/* Product of the shape; 1 for rank 0. The parser has checked that it fits. */
static inline uint64_t tensor_elements(const struct tensor *tensor)
{
    uint64_t count = 1;
    for (uint32_t i = 0; i < tensor->rank; i++) {
        count *= tensor->shape[i];
    }
    return count;
}

#endif
