/* Owns the building of tries: sorted keys, then breadth first, so that the children of a node lie
 * together. Invariant: every index in nodes[] is below node_count. */
#include "text/trie.h"

#include <stdlib.h>

/* A node whose children are still to be made: keys [first, last) share its `depth` bytes. */
struct pending {
    uint32_t first, last;
    uint32_t depth;
};

static int compare_keys(const void *a, const void *b)
{
    const struct trie_key *left = a;
    const struct trie_key *right = b;
    size_t common = left->text.length < right->text.length ? left->text.length : right->text.length;
    int order = memcmp(left->text.data, right->text.data, common);
    if (order == 0 && left->text.length != right->text.length) {
        order = left->text.length < right->text.length ? -1 : 1;
    }
    /* Equal keys: the lower value first. */
    return order ? order : (left->value > right->value) - (left->value < right->value);
}

static void expand(struct trie *trie, struct pending *queue, const struct trie_key *keys,
                   uint32_t node)
{
    struct pending job = queue[node];
    uint32_t first = job.first;
    while (first < job.last && keys[first].text.length == job.depth) {
        if (trie->nodes[node].value == TRIE_NO_VALUE) {
            trie->nodes[node].value = keys[first].value;
        }
        first++;
    }
    trie->nodes[node].children = trie->node_count;
    while (first < job.last) {
        uint8_t byte = (uint8_t)keys[first].text.data[job.depth];
        uint32_t last = first + 1;
        while (last < job.last && (uint8_t)keys[last].text.data[job.depth] == byte) {
            last++;
        }
        uint32_t child = trie->node_count++;
        trie->nodes[child] = (struct trie_node){.value = TRIE_NO_VALUE, .byte = byte};
        trie->nodes[node].child_count++;
        queue[child] = (struct pending){first, last, job.depth + 1};
        if (node == 0) {
            trie->root[byte] = child;
        }
        first = last;
    }
}

llcuda_status trie_build(struct trie *trie, struct trie_key *keys, size_t count,
                         struct llcuda_error *error)
{
    *trie = (struct trie){0};
    if (count == 0) {
        return LLCUDA_OK;
    }
    qsort(keys, count, sizeof *keys, compare_keys);
    /* A key adds a node for each byte that it does not share with the key before it. */
    uint64_t nodes = 1;
    for (size_t i = 0; i < count; i++) {
        size_t shared = 0;
        if (i > 0) {
            size_t limit = keys[i - 1].text.length < keys[i].text.length ? keys[i - 1].text.length
                                                                         : keys[i].text.length;
            while (shared < limit && keys[i - 1].text.data[shared] == keys[i].text.data[shared]) {
                shared++;
            }
        }
        nodes += keys[i].text.length - shared;
    }
    if (nodes > UINT32_MAX / 2) {
        return error_set(error, LLCUDA_LIMIT, "the tokens of a vocabulary are too long together");
    }
    trie->nodes = calloc((size_t)nodes, sizeof *trie->nodes);
    struct pending *queue = malloc((size_t)nodes * sizeof *queue);
    if (!trie->nodes || !queue) {
        free(queue);
        trie_deinit(trie);
        return error_no_memory(error, "a trie", nodes * sizeof *trie->nodes);
    }
    trie->nodes[0] = (struct trie_node){.value = TRIE_NO_VALUE};
    queue[0] = (struct pending){0, (uint32_t)count, 0};
    trie->node_count = 1;
    for (uint32_t node = 0; node < trie->node_count; node++) {
        expand(trie, queue, keys, node);
    }
    free(queue);
    return LLCUDA_OK;
}

void trie_deinit(struct trie *trie)
{
    free(trie->nodes);
    *trie = (struct trie){0};
}

uint32_t trie_longest(const struct trie *trie, const char *text, size_t length, size_t *matched)
{
    uint32_t value = TRIE_NO_VALUE;
    uint32_t node = 0;
    for (size_t i = 0; i < length; i++) {
        node = trie_step(trie, node, (uint8_t)text[i]);
        if (node == 0) {
            break;
        }
        if (trie->nodes[node].value != TRIE_NO_VALUE) {
            value = trie->nodes[node].value;
            *matched = i + 1;
        }
    }
    return value;
}
