/* Owns the unigram model: the sequence of pieces with the best sum of scores, found from left to
 * right (Viterbi), one pass over the text and one back. */
#include <stdlib.h>

#include "base/checked.h"
#include "text/unicode.h"
#include "text/word_model.h"

static struct path_node *reserve_path(struct word_scratch *scratch, size_t count)
{
    if (count > scratch->path_capacity) {
        uint64_t bytes;
        if (!checked_mul_u64(count, sizeof(struct path_node), &bytes)) {
            return NULL;
        }
        struct path_node *path = realloc(scratch->path, (size_t)bytes);
        if (!path) {
            return NULL;
        }
        scratch->path = path;
        scratch->path_capacity = count;
    }
    return scratch->path;
}

static inline void offer(const struct word_model *model, struct path_node *node, double score,
                         uint32_t id, size_t length)
{
    if (node->length == 0 || score > node->score) {
        /* The library keeps sums as float between the steps; ties depend on it. */
        node->score = model->vocabulary->float_sums ? (double)(float)score : score;
        node->id = id;
        node->length = (uint32_t)length;
    }
}

static double score_of(const struct word_model *model, uint32_t id, size_t length)
{
    const struct vocabulary *vocabulary = model->vocabulary;
    if (vocabulary->only_usable_kinds && vocabulary->kinds[id] == TOKEN_USER_DEFINED) {
        return (double)((float)length * (float)model->user_defined_score) - 0.1;
    }
    return vocabulary->scores[id];
}

static llcuda_status find_path(const struct word_model *model, struct path_node *path,
                               struct text_view word, struct llcuda_error *error)
{
    size_t character;
    for (size_t at = 0; at < word.length; at += character) {
        double here = path[at].score;
        unicode_next(word.data + at, &character);
        bool single = false;
        uint32_t node = 0;
        for (size_t end = at; end < word.length; end++) {
            node = trie_step(&model->pieces, node, (uint8_t)word.data[end]);
            if (node == 0) {
                break;
            }
            uint32_t id = model->pieces.nodes[node].value;
            if (id != TRIE_NO_VALUE) {
                size_t length = end + 1 - at;
                offer(model, &path[end + 1], score_of(model, id, length) + here, id, length);
                single = single || length == character;
            }
        }
        if (!single) {
            if (model->vocabulary->unk_id == TOKEN_NONE) {
                return error_set(error, LLCUDA_BAD_FORMAT,
                                 "U+%04X is in no token, and the vocabulary has no unknown token",
                                 unicode_next(word.data + at, &character));
            }
            offer(model, &path[at + character], model->unknown_score + here,
                  model->vocabulary->unk_id, character);
        }
    }
    return LLCUDA_OK;
}

/* A run of unknown characters, or one known piece. */
static llcuda_status append_piece(const struct word_model *model, struct text_view text,
                                  uint32_t id, struct token_ids *out, struct llcuda_error *error)
{
    const struct vocabulary *vocabulary = model->vocabulary;
    bool failed = false;
    bool done = false;
    if (id == vocabulary->unk_id) {
        uint32_t known =
            text.length <= model->piece_bytes_max ? vocabulary_find(vocabulary, text) : TOKEN_NONE;
        if (known != TOKEN_NONE && !vocabulary->only_usable_kinds) {
            id = known;
        } else if (vocabulary->byte_fallback) {
            done = append_fallback(model, text, out, &failed);
        }
    }
    if (!failed && (done || token_ids_append(out, id))) {
        return LLCUDA_OK;
    }
    return error_no_memory(error, "token ids", out->count * sizeof *out->data);
}

llcuda_status encode_unigram(const struct word_model *model, struct word_scratch *scratch,
                             struct text_view word, struct token_ids *out,
                             struct llcuda_error *error)
{
    struct path_node *path = reserve_path(scratch, word.length + 1);
    if (!path) {
        return error_no_memory(error, "a path through the pieces",
                               (word.length + 1) * sizeof *path);
    }
    memset(path, 0, (word.length + 1) * sizeof *path);
    llcuda_status status = find_path(model, path, word, error);
    if (status) {
        return status;
    }
    /* Backwards along the best path, leaving at each place where its piece ends. */
    uint32_t unk_id = model->vocabulary->unk_id;
    size_t end = word.length;
    uint32_t next_length = 0;
    while (end > 0) {
        uint32_t length = path[end].length;
        size_t begin = end - length;
        path[end].length = next_length;
        next_length = length;
        end = begin;
    }
    /* path[begin] must tell the length of the piece that begins there: shift while going forward.
     */
    size_t begin = 0;
    while (begin < word.length) {
        uint32_t length = next_length;
        uint32_t id = path[begin + length].id;
        next_length = path[begin + length].length;
        size_t stop = begin + length;
        while (id == unk_id && stop < word.length && path[stop + next_length].id == unk_id) {
            stop += next_length;
            next_length = path[stop].length;
        }
        status =
            append_piece(model, text_view_make(word.data + begin, stop - begin), id, out, error);
        if (status) {
            return status;
        }
        begin = stop;
    }
    return LLCUDA_OK;
}
