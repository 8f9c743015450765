/* Pooling: from hidden states of a prompt's positions to one vector. Sums are made position by
 * position in double, so that neither chunks nor company change a bit of the result. */
#ifndef ENGINE_EMBEDDING_H
#define ENGINE_EMBEDDING_H

#include "engine/request.h"

/* Whether the row of a position gives a hidden state that its request wants. */
static inline bool embedding_wants(const struct sequence *sequence, uint32_t position)
{
    return sequence->output == SEQUENCE_ALL ||
           (sequence->output == SEQUENCE_LAST && position + 1 == sequence->prompt_count);
}

/* Adds the hidden states of the positions [begin, begin + rows) of a sequence: wanted ones only,
 * `stride` floats apart. Returns how many there were. */
uint32_t embedding_pool(llcuda_request *request, const struct sequence *sequence, uint32_t begin,
                        uint32_t rows, const float *hidden, uint64_t stride);

/* The whole prompt is pooled: makes request->embedding. NOT_FINITE when it is no vector. */
llcuda_status embedding_finish(llcuda_request *request, struct llcuda_error *error);

#endif
