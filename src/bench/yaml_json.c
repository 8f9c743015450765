/* Owns the reading of JSON as the YAML that it is, for configurations on machines without libyaml.
 * The same tree comes out: numbers and words stay text, every node knows its line. */
#include "bench/yaml_json.h"

#include <stdio.h>

#include "base/json.h"

#define DEPTH_MAX 32u

struct walk {
    struct yaml_tree *tree;
    const char *text;
    size_t counted; /* bytes of `text` whose lines are counted */
    uint32_t line;
    size_t line_begin;
};

/* Values come in the order of their bytes, so that every byte is looked at once. */
static void find_place(struct walk *walk, struct yaml_node *node, size_t offset)
{
    for (; walk->counted < offset; walk->counted++) {
        if (walk->text[walk->counted] == '\n') {
            walk->line++;
            walk->line_begin = walk->counted + 1;
        }
    }
    node->line = walk->line;
    node->column = (uint32_t)(offset - walk->line_begin) + 1;
}

/* A scalar as it would stand in YAML: what is not in quotes there stays what the file says. */
static bool set_text(struct walk *walk, struct yaml_node *node, const struct json_value *value)
{
    struct text_view text = json_text(value);
    if (!text.data) {
        const char *begin = walk->text + value->offset;
        text = text_view_make(begin, strcspn(begin, ",]} \t\r\n"));
    }
    node->kind = YAML_TEXT;
    node->quoted = json_is(value, JSON_STRING);
    node->text = arena_copy_text(&walk->tree->arena, text).data;
    return node->text != NULL;
}

static struct yaml_node *make_node(struct walk *walk, const struct json_value *value,
                                   const char *key);

static bool add_children(struct walk *walk, struct yaml_node *node, const struct json_value *value)
{
    struct yaml_node **end = &node->first;
    bool map = json_is(value, JSON_OBJECT);
    const struct json_value *child = json_first(value);
    for (uint32_t i = 0; i < value->count; i++) {
        const char *key = NULL;
        struct yaml_node place = {0};
        if (map) {
            find_place(walk, &place, child->offset);
            key = arena_copy_text(&walk->tree->arena, json_text(child)).data;
            child = json_next(child);
        }
        struct yaml_node *made = !map || key ? make_node(walk, child, key) : NULL;
        if (!made) {
            return false;
        }
        made->key_line = place.line;
        node->weight += made->weight;
        *end = made;
        end = &made->next;
        child = json_next(child);
    }
    return true;
}

/* NULL: out of memory. */
static struct yaml_node *make_node(struct walk *walk, const struct json_value *value,
                                   const char *key)
{
    struct yaml_node *node = arena_alloc(&walk->tree->arena, 1, sizeof *node);
    if (!node) {
        return NULL;
    }
    node->weight = 1;
    node->key = key;
    find_place(walk, node, value->offset);
    if (json_is(value, JSON_ARRAY) || json_is(value, JSON_OBJECT)) {
        node->kind = json_is(value, JSON_ARRAY) ? YAML_LIST : YAML_MAP;
        return add_children(walk, node, value) ? node : NULL;
    }
    return set_text(walk, node, value) ? node : NULL;
}

llcuda_status yaml_json_read(struct yaml_tree *tree, struct text_view text,
                             struct llcuda_error *error)
{
    const struct json_options options = {.depth_max = DEPTH_MAX, .unique_keys = true};
    struct json_document *document = NULL;
    struct walk walk = {.tree = tree, .text = text.data, .line = 1};
    llcuda_status status = json_parse(text, &options, &document, error);
    if (status) {
        struct yaml_node place;
        size_t offset = error && error->offset < text.length ? (size_t)error->offset : text.length;
        find_place(&walk, &place, offset);
        char message[300];
        snprintf(message, sizeof message, "%s", error ? error->message : "");
        return error_set_at(error, status, offset, "%s:%u:%u: %s", tree->path, place.line,
                            place.column, message);
    }
    tree->root = make_node(&walk, json_root(document), NULL);
    json_destroy(document);
    return tree->root ? LLCUDA_OK : error_no_memory(error, "a configuration", text.length);
}
