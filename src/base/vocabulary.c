/* Owns the vocabulary table and the look-up of a piece. It knows no file format and no tokenising
 * algorithm. Invariants once the index is built: every slot's id is below token_count, at least
 * half of the slots are empty. The hash is seeded, so that a file cannot be made of collisions. */
#include "base/vocabulary.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/random.h"

struct index_slot {
    uint32_t tag; /* high half of the hash */
    uint32_t id;  /* TOKEN_NONE: empty */
};

struct vocabulary_index {
    uint64_t seed;
    size_t mask;
    struct index_slot slots[];
};

llcuda_status vocabulary_create(enum vocabulary_kind kind, struct vocabulary **vocabulary,
                                struct llcuda_error *error)
{
    *vocabulary = NULL;
    struct vocabulary *made = calloc(1, sizeof *made);
    if (!made) {
        return error_no_memory(error, "a vocabulary", sizeof *made);
    }
    made->kind = kind;
    made->bos_id = made->eos_id = made->unk_id = made->sep_id = made->pad_id = TOKEN_NONE;
    made->cls_id = made->mask_id = made->eot_id = made->eom_id = TOKEN_NONE;
    arena_init(&made->arena, 0);
    *vocabulary = made;
    return LLCUDA_OK;
}

void vocabulary_destroy(struct vocabulary *vocabulary)
{
    if (!vocabulary) {
        return;
    }
    free(vocabulary->pieces);
    free(vocabulary->kinds);
    free(vocabulary->in_model);
    free(vocabulary->scores);
    free(vocabulary->merges);
    free(vocabulary->added);
    free(vocabulary->end_ids);
    free(vocabulary->index);
    arena_deinit(&vocabulary->arena);
    free(vocabulary);
}

llcuda_status vocabulary_set_token_count(struct vocabulary *vocabulary, uint64_t count, bool scores,
                                         struct llcuda_error *error)
{
    if (count > LIMIT_VOCABULARY_TOKENS) {
        return error_set(error, LLCUDA_LIMIT, "a vocabulary of %llu tokens exceeds the limit of %u",
                         (unsigned long long)count, LIMIT_VOCABULARY_TOKENS);
    }
    size_t room = count ? (size_t)count : 1;
    vocabulary->pieces = calloc(room, sizeof *vocabulary->pieces);
    vocabulary->kinds = calloc(room, 1);
    vocabulary->in_model = calloc(room, 1);
    vocabulary->scores = scores ? calloc(room, sizeof *vocabulary->scores) : NULL;
    if (!vocabulary->pieces || !vocabulary->kinds || !vocabulary->in_model ||
        (scores && !vocabulary->scores)) {
        return error_no_memory(error, "the tokens of a vocabulary", count * 32);
    }
    vocabulary->token_count = (uint32_t)count;
    return LLCUDA_OK;
}

struct text_view vocabulary_copy(struct vocabulary *vocabulary, struct text_view text)
{
    return arena_copy_text(&vocabulary->arena, text);
}

static uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* 1 to 8 bytes as a number, by two loads that may overlap. */
static uint64_t load_up_to_8(const char *data, size_t length)
{
    if (length >= 4) {
        uint32_t low, high;
        memcpy(&low, data, sizeof low);
        memcpy(&high, data + length - sizeof high, sizeof high);
        return low | (uint64_t)high << 32;
    }
    const uint8_t *bytes = (const uint8_t *)data;
    return bytes[0] | (uint32_t)bytes[length / 2] << 8 | (uint32_t)bytes[length - 1] << 16;
}

static uint64_t hash_piece(uint64_t seed, struct text_view piece)
{
    uint64_t hash = seed ^ piece.length;
    const char *data = piece.data;
    size_t left = piece.length;
    while (left > 8) {
        uint64_t word;
        memcpy(&word, data, sizeof word);
        hash = fold(hash ^ word, 0x9E3779B97F4A7C15ull);
        data += 8;
        left -= 8;
    }
    if (left) {
        hash ^= load_up_to_8(data, left);
    }
    return fold(hash ^ 0xD6E8FEB86659FD93ull, 0xA0761D6478BD642Full ^ seed);
}

llcuda_status vocabulary_index_build(struct vocabulary *vocabulary, struct llcuda_error *error)
{
    size_t capacity = 16;
    while (capacity < (size_t)vocabulary->token_count * 2) {
        capacity *= 2;
    }
    struct vocabulary_index *index = malloc(sizeof *index + capacity * sizeof(struct index_slot));
    if (!index) {
        return error_no_memory(error, "the index of a vocabulary",
                               capacity * sizeof(struct index_slot));
    }
    memset(index->slots, 0xFF, capacity * sizeof(struct index_slot));
    index->seed = random_seed() | 1;
    index->mask = capacity - 1;
    for (uint32_t id = 0; id < vocabulary->token_count; id++) {
        if (!vocabulary->in_model[id]) {
            continue;
        }
        struct text_view piece = vocabulary->pieces[id];
        uint64_t hash = hash_piece(index->seed, piece);
        uint32_t tag = (uint32_t)(hash >> 32);
        size_t slot = (size_t)hash & index->mask;
        while (index->slots[slot].id != TOKEN_NONE &&
               !(index->slots[slot].tag == tag &&
                 text_view_equal(vocabulary->pieces[index->slots[slot].id], piece))) {
            slot = (slot + 1) & index->mask;
        }
        if (index->slots[slot].id == TOKEN_NONE) {
            index->slots[slot] = (struct index_slot){tag, id};
        }
    }
    free(vocabulary->index);
    vocabulary->index = index;
    return LLCUDA_OK;
}

uint32_t vocabulary_find(const struct vocabulary *vocabulary, struct text_view piece)
{
    const struct vocabulary_index *index = vocabulary->index;
    uint64_t hash = hash_piece(index->seed, piece);
    uint32_t tag = (uint32_t)(hash >> 32);
    size_t slot = (size_t)hash & index->mask;
    while (index->slots[slot].id != TOKEN_NONE) {
        if (index->slots[slot].tag == tag &&
            text_view_equal(vocabulary->pieces[index->slots[slot].id], piece)) {
            return index->slots[slot].id;
        }
        slot = (slot + 1) & index->mask;
    }
    return TOKEN_NONE;
}

void vocabulary_find_many(const struct vocabulary *vocabulary, const struct text_view *pieces,
                          size_t count, uint32_t *ids)
{
    enum { BATCH = 32 };
    const struct vocabulary_index *index = vocabulary->index;
    while (count > 0) {
        size_t batch = count < BATCH ? count : BATCH;
        uint64_t hashes[BATCH];
        for (size_t i = 0; i < batch; i++) {
            hashes[i] = hash_piece(index->seed, pieces[i]);
            __builtin_prefetch(&index->slots[(size_t)hashes[i] & index->mask]);
        }
        for (size_t i = 0; i < batch; i++) {
            size_t slot = (size_t)hashes[i] & index->mask;
            while (index->slots[slot].id != TOKEN_NONE &&
                   index->slots[slot].tag != (uint32_t)(hashes[i] >> 32)) {
                slot = (slot + 1) & index->mask;
            }
            ids[i] = index->slots[slot].id;
            __builtin_prefetch(ids[i] == TOKEN_NONE ? vocabulary->pieces
                                                    : &vocabulary->pieces[ids[i]]);
        }
        for (size_t i = 0; i < batch; i++) {
            if (ids[i] != TOKEN_NONE) {
                __builtin_prefetch(vocabulary->pieces[ids[i]].data);
            }
        }
        for (size_t i = 0; i < batch; i++) {
            if (ids[i] != TOKEN_NONE && !text_view_equal(vocabulary->pieces[ids[i]], pieces[i])) {
                ids[i] = vocabulary_find(vocabulary, pieces[i]); /* another piece with its tag */
            }
        }
        pieces += batch;
        ids += batch;
        count -= batch;
    }
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int vocabulary_piece_byte(struct text_view piece)
{
    if (piece.length != 6 || memcmp(piece.data, "<0x", 3) != 0 || piece.data[5] != '>') {
        return -1;
    }
    int high = hex_digit(piece.data[3]);
    int low = hex_digit(piece.data[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

llcuda_status vocabulary_add_end(struct vocabulary *vocabulary, uint32_t id,
                                 struct llcuda_error *error)
{
    uint32_t place = 0;
    while (place < vocabulary->end_count && vocabulary->end_ids[place] < id) {
        place++;
    }
    bool present = place < vocabulary->end_count && vocabulary->end_ids[place] == id;
    if (id == TOKEN_NONE || present) {
        return LLCUDA_OK;
    }
    size_t bytes = ((size_t)vocabulary->end_count + 1) * sizeof *vocabulary->end_ids;
    uint32_t *ids = realloc(vocabulary->end_ids, bytes);
    if (!ids) {
        return error_no_memory(error, "the ids that end a generation", bytes);
    }
    memmove(ids + place + 1, ids + place, (vocabulary->end_count - place) * sizeof *ids);
    ids[place] = id;
    vocabulary->end_ids = ids;
    vocabulary->end_count++;
    return LLCUDA_OK;
}

static llcuda_status check_special_ids(const struct vocabulary *vocabulary,
                                       struct llcuda_error *error)
{
    const struct {
        const char *name;
        uint32_t id;
    } ids[] = {
        {"bos", vocabulary->bos_id},   {"eos", vocabulary->eos_id}, {"unk", vocabulary->unk_id},
        {"sep", vocabulary->sep_id},   {"pad", vocabulary->pad_id}, {"cls", vocabulary->cls_id},
        {"mask", vocabulary->mask_id}, {"eot", vocabulary->eot_id}, {"eom", vocabulary->eom_id},
    };
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        if (ids[i].id != TOKEN_NONE && ids[i].id >= vocabulary->token_count) {
            return error_set(error, LLCUDA_BAD_FORMAT,
                             "the %s token has id %u, but the vocabulary has only %u tokens",
                             ids[i].name, ids[i].id, vocabulary->token_count);
        }
    }
    return LLCUDA_OK;
}

static bool ids_in_range(const uint32_t *ids, uint32_t count, uint32_t token_count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] >= token_count) {
            return false;
        }
    }
    return true;
}

llcuda_status vocabulary_check(const struct vocabulary *vocabulary, struct llcuda_error *error)
{
    uint32_t count = vocabulary->token_count;
    llcuda_status status = check_special_ids(vocabulary, error);
    if (status) {
        return status;
    }
    for (uint32_t i = 0; i < vocabulary->merge_count; i++) {
        const struct vocabulary_merge *merge = &vocabulary->merges[i];
        if (merge->left >= count || merge->right >= count || merge->result >= count) {
            return error_set(error, LLCUDA_BAD_FORMAT, "merge %u names a token out of range", i);
        }
    }
    for (uint32_t i = 0; i < vocabulary->added_count; i++) {
        if (vocabulary->added[i].id >= count || vocabulary->added[i].content.length == 0 ||
            vocabulary->added[i].content.length > VOCABULARY_ADDED_BYTES_MAX) {
            return error_set(error, LLCUDA_BAD_FORMAT,
                             "added token %u has an id out of range, or a text that is empty or "
                             "longer than %u bytes",
                             i, VOCABULARY_ADDED_BYTES_MAX);
        }
    }
    if (!ids_in_range(vocabulary->end_ids, vocabulary->end_count, count) ||
        !ids_in_range(vocabulary->prefix_ids, vocabulary->prefix_count, count) ||
        !ids_in_range(vocabulary->suffix_ids, vocabulary->suffix_count, count)) {
        return error_set(error, LLCUDA_BAD_FORMAT,
                         "an id that ends a generation or surrounds a text is out of range");
    }
    return LLCUDA_OK;
}
