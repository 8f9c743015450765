/* Pooling: from hidden states of a prompt's positions to one vector. Sums are made position by
 * position in double, so that neither chunks nor company change a bit of the result. */
#ifndef ENGINE_EMBEDDING_H
#define ENGINE_EMBEDDING_H

#include "engine/request.h"

/* Whether planned row `row` of a sequence gives a hidden state that its request wants. */
static inline bool embedding_wants(const struct sequence *sequence, uint32_t row)
{
    return sequence->output == SEQUENCE_ALL ||
           (sequence->output == SEQUENCE_LAST &&
            sequence->computed + row + 1 == sequence->prompt_count);
}

/* Adds the hidden states of a sequence's planned rows, before they are committed: wanted ones only,
 * `stride` floats apart. Returns how many there were. */
uint32_t embedding_pool(llcuda_request *request, const struct sequence *sequence,
                        const float *hidden, uint64_t stride);

/* The whole prompt is pooled: makes request->embedding. NOT_FINITE when it is no vector. */
llcuda_status embedding_finish(llcuda_request *request, struct llcuda_error *error);

#endif
