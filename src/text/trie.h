/* A trie over bytes: the longest, or every, key that a text begins with. Built once, then read by
 * any number of threads. */
#ifndef TEXT_TRIE_H
#define TEXT_TRIE_H

#include "base/error.h"
#include "base/view.h"

#define TRIE_NO_VALUE UINT32_MAX

struct trie_key {
    struct text_view text; /* not empty; borrowed while building */
    uint32_t value;
};

/* Children of a node are neighbours, sorted by byte. Node 0 is the root. */
struct trie_node {
    uint32_t children; /* the first child */
    uint32_t value;    /* of the key that ends here, TRIE_NO_VALUE for none */
    uint16_t child_count;
    uint8_t byte; /* that leads here */
};

struct trie {
    struct trie_node *nodes; /* NULL when there are no keys */
    uint32_t node_count;
    uint32_t root[256]; /* children of the root by byte, 0 for none */
};

/* Sorts `keys`. Of equal keys the lowest value counts. A zeroed trie is a valid empty one.
 */
llcuda_status trie_build(struct trie *trie, struct trie_key *keys, size_t count,
                         struct llcuda_error *error);
void trie_deinit(struct trie *trie);

/* The child of a node for a byte, 0 for none. */
static inline uint32_t trie_step(const struct trie *trie, uint32_t node, uint8_t byte)
{
    if (node == 0) {
        return trie->root[byte];
    }
    const struct trie_node *parent = &trie->nodes[node];
    uint32_t low = parent->children;
    uint32_t high = low + parent->child_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        uint8_t found = trie->nodes[middle].byte;
        if (found == byte) {
            return middle;
        }
        if (found < byte) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return 0;
}

/* The value of the longest key that text[0, length) begins with, TRIE_NO_VALUE for none; *matched
 * gets its bytes. */
uint32_t trie_longest(const struct trie *trie, const char *text, size_t length, size_t *matched);

#endif
