/* Owns the arithmetic of embedding requests. Invariant: a request's sums hold exactly the positions
 * that have been computed since its last beginning. The engine thread only. */
#include "engine/embedding.h"

#include <math.h>

uint32_t embedding_pool(llcuda_request *request, const struct sequence *sequence, uint32_t begin,
                        uint32_t rows, const float *hidden, uint64_t stride)
{
    uint32_t taken = 0;
    if (begin == 0) {
        /* The beginning, or all over again after a preemption. */
        memset(request->pooled, 0, request->embedding_length * sizeof *request->pooled);
    }
    for (uint32_t row = 0; row < rows; row++) {
        if (embedding_wants(sequence, begin + row)) {
            const float *state = hidden + taken++ * stride;
            for (uint32_t i = 0; i < request->embedding_length; i++) {
                request->pooled[i] += (double)state[i];
            }
        }
    }
    return taken;
}

llcuda_status embedding_finish(llcuda_request *request, struct llcuda_error *error)
{
    double squares = 0;
    for (uint32_t i = 0; i < request->embedding_length; i++) {
        squares += request->pooled[i] * request->pooled[i];
    }
    if (!isfinite(squares)) {
        return error_set(error, LLCUDA_NOT_FINITE, "the embedding is not finite");
    }
    double scale = request->pooling == LLCUDA_POOLING_MEAN ? 1.0 / request->prompt_count : 1;
    if (!request->embedding_raw) {
        scale = squares > 0 ? 1 / sqrt(squares) : 0;
    }
    for (uint32_t i = 0; i < request->embedding_length; i++) {
        request->embedding[i] = (float)(request->pooled[i] * scale);
    }
    return LLCUDA_OK;
}
