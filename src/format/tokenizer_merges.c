/* Owns the resolution of merges from texts to ids, many at a time: a large vocabulary has some
 * 300,000 merges, and three look-ups each would be most of the time that loading takes. */
#include "format/tokenizer_internal.h"

/* The token that two texts make together. In files it mostly follows the result before, or is the
 * same again; otherwise it is looked up. */
static uint32_t find_result(struct merge_batch *batch, struct text_view left,
                            struct text_view right)
{
    const struct vocabulary *v = batch->vocabulary;
    for (uint32_t guess = batch->last_result; guess - batch->last_result < 2; guess++) {
        struct text_view piece = guess < v->token_count ? v->pieces[guess] : (struct text_view){0};
        if (piece.length == left.length + right.length && piece.length > 0 && v->in_model[guess] &&
            memcmp(piece.data, left.data, left.length) == 0 &&
            memcmp(piece.data + left.length, right.data, right.length) == 0) {
            return guess;
        }
    }
    buffer_clear(&batch->joined);
    buffer_append_view(&batch->joined, left);
    buffer_append_view(&batch->joined, right);
    return batch->joined.failed ? TOKEN_NONE : vocabulary_find(v, buffer_view(&batch->joined));
}

static llcuda_status flush(struct merge_batch *batch, struct llcuda_error *error)
{
    struct vocabulary *v = batch->vocabulary;
    uint32_t left[MERGE_BATCH];
    uint32_t right[MERGE_BATCH];
    vocabulary_find_many(v, batch->left, batch->count, left);
    vocabulary_find_many(v, batch->right, batch->count, right);
    for (uint32_t i = 0; i < batch->count; i++) {
        struct text_view rest = batch->right[i];
        rest.data += batch->prefix_bytes;
        rest.length -= batch->prefix_bytes;
        uint32_t result = find_result(batch, batch->left[i], rest);
        if (batch->joined.failed) {
            return error_no_memory(error, "a merge", rest.length);
        }
        if (left[i] != TOKEN_NONE && right[i] != TOKEN_NONE && result != TOKEN_NONE) {
            v->merges[v->merge_count++] = (struct vocabulary_merge){left[i], right[i], result};
            batch->last_result = result;
        } else if (batch->must_exist) {
            return error_set_at(error, LLCUDA_BAD_FORMAT, batch->offsets[i],
                                "a merge at byte %llu names a token that is not in the vocabulary",
                                (unsigned long long)batch->offsets[i]);
        }
    }
    batch->count = 0;
    return LLCUDA_OK;
}

llcuda_status merge_batch_add(struct merge_batch *batch, struct text_view left,
                              struct text_view right, uint64_t offset, struct llcuda_error *error)
{
    batch->left[batch->count] = left;
    batch->right[batch->count] = right;
    batch->offsets[batch->count++] = offset;
    return batch->count == MERGE_BATCH ? flush(batch, error) : LLCUDA_OK;
}

llcuda_status merge_batch_finish(struct merge_batch *batch, llcuda_status status,
                                 struct llcuda_error *error)
{
    if (!status) {
        status = flush(batch, error);
    }
    buffer_deinit(&batch->joined);
    return status;
}
