/* A YAML file as a tree in which every node knows its line, for messages that say where. Plain
 * values stay text until somebody asks for a type. Any thread, one owner. */
#ifndef BENCH_YAML_TREE_H
#define BENCH_YAML_TREE_H

#include "base/arena.h"
#include "base/error.h"
#include "base/view.h"

enum yaml_kind { YAML_TEXT, YAML_LIST, YAML_MAP };

struct yaml_node {
    enum yaml_kind kind;
    bool quoted;           /* a text in quotes is never a number */
    uint32_t line, column; /* from 1 */
    uint32_t key_line;     /* in a map: a value may begin lines after its key */
    uint64_t weight;       /* nodes below and itself, aliases counted as often as they stand */
    const char *key;       /* in a map: this node's key; NUL-terminated, otherwise NULL */
    const char *text;      /* YAML_TEXT: NUL-terminated */
    struct yaml_node *first, *next; /* children of lists and maps, in order */
};

struct yaml_tree {
    const char *path; /* borrowed; for messages */
    struct arena arena;
    struct yaml_node *root; /* never NULL after success */
};

/* Reads a file, or `text` when that is not NULL. On failure the tree needs no deinit. Aliases are
 * followed; together with them a file may stand for at most 100,000 nodes, 32 deep. Errors: IO,
 * NOT_FOUND, BAD_FORMAT and LIMIT with "path:line:column: ", UNSUPPORTED without libyaml, unless it
 * is JSON in a file of that name. */
llcuda_status yaml_tree_read(struct yaml_tree *tree, const char *path, const char *text,
                             struct llcuda_error *error);
void yaml_tree_deinit(struct yaml_tree *tree);

/* The value of a key, or NULL. */
const struct yaml_node *yaml_member(const struct yaml_node *map, const char *key);
uint32_t yaml_count(const struct yaml_node *node);

/* "path:line: " and the message, BAD_FORMAT. */
llcuda_status yaml_fail(const struct yaml_tree *tree, const struct yaml_node *node,
                        struct llcuda_error *error, const char *format, ...) BASE_PRINTF(4, 5);

/* Typed readings. Each leaves *out alone when `node` is NULL, so that defaults stay. */
llcuda_status yaml_text(const struct yaml_tree *tree, const struct yaml_node *node,
                        const char **out, struct llcuda_error *error);
llcuda_status yaml_bool(const struct yaml_tree *tree, const struct yaml_node *node, bool *out,
                        struct llcuda_error *error);
llcuda_status yaml_number(const struct yaml_tree *tree, const struct yaml_node *node,
                          double minimum, double maximum, double *out, struct llcuda_error *error);
llcuda_status yaml_integer(const struct yaml_tree *tree, const struct yaml_node *node,
                           int64_t minimum, int64_t maximum, uint32_t *out,
                           struct llcuda_error *error);

/* Fails at the first key of `map` that is not among `known` (NULL-terminated), and names what was
 * expected; also when `map` is no map. */
llcuda_status yaml_known_keys(const struct yaml_tree *tree, const struct yaml_node *map,
                              const char *const *known, struct llcuda_error *error);

#endif
