/* Owns the reading of YAML into a tree. The events come from libyaml, or a file is JSON
 * (yaml_json.c); depth, nodes and what aliases stand for are bounded here, since a small file can
 * otherwise stand for a huge one. An anchor is known only after its node ended, so that no node can
 * contain itself. */
#include "bench/yaml_tree.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/limits.h"
#include "bench/yaml_json.h"
#include "build_config.h"

#define NODE_WEIGHT_MAX 100000u
#define DEPTH_MAX       32u
#define ANCHOR_MAX      256u

const struct yaml_node *yaml_member(const struct yaml_node *map, const char *key)
{
    if (!map || map->kind != YAML_MAP) {
        return NULL;
    }
    for (const struct yaml_node *node = map->first; node; node = node->next) {
        if (strcmp(node->key, key) == 0) {
            return node;
        }
    }
    return NULL;
}

uint32_t yaml_count(const struct yaml_node *node)
{
    uint32_t count = 0;
    for (const struct yaml_node *child = node ? node->first : NULL; child; child = child->next) {
        count++;
    }
    return count;
}

llcuda_status yaml_fail(const struct yaml_tree *tree, const struct yaml_node *node,
                        struct llcuda_error *error, const char *format, ...)
{
    char message[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return error_set(error, LLCUDA_BAD_FORMAT, "%s:%u: %s", tree->path, node ? node->line : 1,
                     message);
}

llcuda_status yaml_text(const struct yaml_tree *tree, const struct yaml_node *node,
                        const char **out, struct llcuda_error *error)
{
    if (!node) {
        return LLCUDA_OK;
    }
    if (node->kind != YAML_TEXT) {
        return yaml_fail(tree, node, error, "'%s' must be a text", node->key ? node->key : "item");
    }
    *out = node->text;
    return LLCUDA_OK;
}

llcuda_status yaml_bool(const struct yaml_tree *tree, const struct yaml_node *node, bool *out,
                        struct llcuda_error *error)
{
    static const char *const yes[] = {"true", "yes", "on"};
    static const char *const no[] = {"false", "no", "off"};
    if (!node) {
        return LLCUDA_OK;
    }
    for (size_t i = 0; node->kind == YAML_TEXT && i < 3; i++) {
        if (strcmp(node->text, yes[i]) == 0 || strcmp(node->text, no[i]) == 0) {
            *out = strcmp(node->text, yes[i]) == 0;
            return LLCUDA_OK;
        }
    }
    return yaml_fail(tree, node, error, "'%s' must be true or false",
                     node->key ? node->key : "item");
}

llcuda_status yaml_number(const struct yaml_tree *tree, const struct yaml_node *node,
                          double minimum, double maximum, double *out, struct llcuda_error *error)
{
    if (!node) {
        return LLCUDA_OK;
    }
    char *end = NULL;
    double value = NAN;
    if (node->kind == YAML_TEXT && !node->quoted && node->text[0]) {
        value = strtod(node->text, &end);
    }
    if (!end || *end || !(value >= minimum && value <= maximum)) {
        return yaml_fail(tree, node, error, "'%s' must be a number from %g to %g",
                         node->key ? node->key : "item", minimum, maximum);
    }
    *out = value;
    return LLCUDA_OK;
}

llcuda_status yaml_integer(const struct yaml_tree *tree, const struct yaml_node *node,
                           int64_t minimum, int64_t maximum, uint32_t *out,
                           struct llcuda_error *error)
{
    double value = 0;
    if (!node) {
        return LLCUDA_OK;
    }
    llcuda_status status = yaml_number(tree, node, (double)minimum, (double)maximum, &value, error);
    if (!status && value != floor(value)) {
        status = yaml_fail(tree, node, error, "'%s' must be a whole number",
                           node->key ? node->key : "item");
    }
    if (!status) {
        *out = (uint32_t)value;
    }
    return status;
}

llcuda_status yaml_known_keys(const struct yaml_tree *tree, const struct yaml_node *map,
                              const char *const *known, struct llcuda_error *error)
{
    if (map->kind != YAML_MAP) {
        return yaml_fail(tree, map, error, "'%s' must hold 'key: value' lines",
                         map->key ? map->key : "this");
    }
    for (const struct yaml_node *node = map->first; node; node = node->next) {
        bool found = false;
        char list[300] = "";
        for (size_t i = 0; known[i]; i++) {
            size_t used = strlen(list);
            found = found || strcmp(known[i], node->key) == 0;
            snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", known[i]);
        }
        if (!found) {
            const struct yaml_node place = {.line = node->key_line};
            return yaml_fail(tree, &place, error,
                             "there is no key '%.60s' here; expected one of %s", node->key, list);
        }
    }
    return LLCUDA_OK;
}

void yaml_tree_deinit(struct yaml_tree *tree)
{
    arena_deinit(&tree->arena);
    tree->root = NULL;
}

#if LLCUDA_HAVE_YAML

#include <yaml.h>

struct anchor {
    const char *name;
    struct yaml_node *node;
};

struct yaml_reader {
    yaml_parser_t parser;
    yaml_event_t event;
    struct yaml_tree *tree;
    struct anchor anchors[ANCHOR_MAX];
    uint32_t anchor_count;
    struct llcuda_error *error;
};

static llcuda_status fail_at(struct yaml_reader *reader, const yaml_mark_t *mark,
                             llcuda_status status, const char *what)
{
    return error_set_at(reader->error, status, mark->index, "%s:%zu:%zu: %s", reader->tree->path,
                        mark->line + 1, mark->column + 1, what);
}

static llcuda_status next_event(struct yaml_reader *reader)
{
    yaml_event_delete(&reader->event);
    if (!yaml_parser_parse(&reader->parser, &reader->event)) {
        const char *problem = reader->parser.problem;
        return fail_at(reader, &reader->parser.problem_mark, LLCUDA_BAD_FORMAT,
                       problem ? problem : "no valid YAML");
    }
    return LLCUDA_OK;
}

static const char *keep(struct yaml_reader *reader, const yaml_char_t *text, size_t length)
{
    const char *data = (const char *)text;
    return arena_copy_text(&reader->tree->arena, text_view_make(data, length)).data;
}

static llcuda_status remember(struct yaml_reader *reader, const char *name, struct yaml_node *node)
{
    if (!name) {
        return LLCUDA_OK;
    }
    if (reader->anchor_count == ANCHOR_MAX) {
        return fail_at(reader, &reader->event.start_mark, LLCUDA_LIMIT, "too many anchors");
    }
    reader->anchors[reader->anchor_count].name = name;
    reader->anchors[reader->anchor_count++].node = node;
    return LLCUDA_OK;
}

/* The node that an alias stands for, as a node of its own over the same children. */
static llcuda_status follow_alias(struct yaml_reader *reader, struct yaml_node *node)
{
    const char *name = (const char *)reader->event.data.alias.anchor;
    for (uint32_t i = reader->anchor_count; i-- > 0;) {
        if (strcmp(reader->anchors[i].name, name) == 0) {
            *node = *reader->anchors[i].node;
            node->next = NULL;
            return LLCUDA_OK;
        }
    }
    return fail_at(reader, &reader->event.start_mark, LLCUDA_BAD_FORMAT,
                   "this alias has no anchor before it");
}

static llcuda_status read_node(struct yaml_reader *reader, uint32_t depth, struct yaml_node **out);

/* One item of a list, or a key and its value; *out stays NULL at the end of the container. */
static llcuda_status read_child(struct yaml_reader *reader, const struct yaml_node *parent,
                                uint32_t depth, struct yaml_node **out)
{
    const char *key = NULL;
    uint32_t key_line = 0;
    llcuda_status status = next_event(reader);
    if (status || reader->event.type == YAML_SEQUENCE_END_EVENT ||
        reader->event.type == YAML_MAPPING_END_EVENT) {
        return status;
    }
    if (parent->kind == YAML_MAP) {
        if (reader->event.type != YAML_SCALAR_EVENT) {
            return fail_at(reader, &reader->event.start_mark, LLCUDA_BAD_FORMAT,
                           "a key must be plain text");
        }
        key = keep(reader, reader->event.data.scalar.value, reader->event.data.scalar.length);
        if (!key) {
            return error_no_memory(reader->error, "a YAML key", reader->event.data.scalar.length);
        }
        key_line = (uint32_t)reader->event.start_mark.line + 1;
        if (yaml_member(parent, key)) {
            return fail_at(reader, &reader->event.start_mark, LLCUDA_BAD_FORMAT,
                           "this key stands here twice");
        }
        status = next_event(reader);
    }
    if (!status) {
        status = read_node(reader, depth, out);
    }
    if (!status) {
        (*out)->key = key;
        (*out)->key_line = key_line;
    }
    return status;
}

static llcuda_status read_children(struct yaml_reader *reader, struct yaml_node *node,
                                   uint32_t depth)
{
    struct yaml_node **end = &node->first;
    yaml_mark_t begin = reader->event.start_mark;
    for (;;) {
        struct yaml_node *child = NULL;
        llcuda_status status = read_child(reader, node, depth + 1, &child);
        if (status || !child) {
            return status;
        }
        *end = child;
        end = &child->next;
        node->weight += child->weight;
        if (node->weight > NODE_WEIGHT_MAX) {
            return fail_at(reader, &begin, LLCUDA_LIMIT,
                           "with its aliases this stands for more than 100,000 values");
        }
    }
}

/* The node that the current event begins. */
static llcuda_status read_node(struct yaml_reader *reader, uint32_t depth, struct yaml_node **out)
{
    const yaml_event_t *event = &reader->event;
    const yaml_char_t *anchor = NULL;
    struct yaml_node *node = arena_alloc(&reader->tree->arena, 1, sizeof *node);
    llcuda_status status = LLCUDA_OK;
    if (!node) {
        return error_no_memory(reader->error, "a YAML value", sizeof *node);
    }
    if (depth > DEPTH_MAX) {
        return fail_at(reader, &event->start_mark, LLCUDA_LIMIT, "nested too deeply");
    }
    node->weight = 1;
    yaml_mark_t mark = event->start_mark;
    const char *name = NULL;
    if (event->type == YAML_SCALAR_EVENT) {
        node->kind = YAML_TEXT;
        node->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
        node->text = keep(reader, event->data.scalar.value, event->data.scalar.length);
        anchor = event->data.scalar.anchor;
        status = node->text ? LLCUDA_OK : error_no_memory(reader->error, "a YAML text", 1);
    } else if (event->type == YAML_ALIAS_EVENT) {
        status = follow_alias(reader, node);
    } else if (event->type == YAML_SEQUENCE_START_EVENT ||
               event->type == YAML_MAPPING_START_EVENT) {
        bool list = event->type == YAML_SEQUENCE_START_EVENT;
        node->kind = list ? YAML_LIST : YAML_MAP;
        anchor = list ? event->data.sequence_start.anchor : event->data.mapping_start.anchor;
    } else {
        status = fail_at(reader, &event->start_mark, LLCUDA_BAD_FORMAT, "a value was expected");
    }
    if (!status && anchor) {
        name = keep(reader, anchor, strlen((const char *)anchor));
    }
    if (!status && event->type != YAML_ALIAS_EVENT && node->kind != YAML_TEXT) {
        status = read_children(reader, node, depth);
    }
    node->line = (uint32_t)mark.line + 1;
    node->column = (uint32_t)mark.column + 1;
    *out = node;
    return status ? status : remember(reader, name, node);
}

static llcuda_status read_document(struct yaml_reader *reader)
{
    do {
        llcuda_status status = next_event(reader);
        if (status) {
            return status;
        }
        if (reader->event.type == YAML_STREAM_END_EVENT) {
            return error_set(reader->error, LLCUDA_BAD_FORMAT, "%s: the file is empty",
                             reader->tree->path);
        }
    } while (reader->event.type == YAML_STREAM_START_EVENT ||
             reader->event.type == YAML_DOCUMENT_START_EVENT);
    return read_node(reader, 0, &reader->tree->root);
}

static llcuda_status read_yaml(struct yaml_tree *tree, const struct buffer *contents,
                               struct llcuda_error *error)
{
    struct yaml_reader *reader = calloc(1, sizeof *reader);
    if (!reader || !yaml_parser_initialize(&reader->parser)) {
        free(reader);
        return error_no_memory(error, "a YAML reader", sizeof *reader);
    }
    reader->tree = tree;
    reader->error = error;
    yaml_parser_set_input_string(&reader->parser, (const unsigned char *)buffer_text(contents),
                                 contents->length);
    llcuda_status status = read_document(reader);
    yaml_event_delete(&reader->event);
    yaml_parser_delete(&reader->parser);
    free(reader);
    return status;
}

#else

static llcuda_status read_yaml(struct yaml_tree *tree, const struct buffer *contents,
                               struct llcuda_error *error)
{
    (void)contents;
    return error_set(error, LLCUDA_UNSUPPORTED,
                     "'%s' cannot be read: this build was made without libyaml; the same as JSON "
                     "can, in a file whose name ends with .json",
                     tree->path);
}

#endif

/* Whether the text is to be read as JSON: the file's name says so, or there is no reader of YAML
 * and it looks like it (a configuration that a run has kept). */
static bool is_json(const char *path, const struct buffer *contents)
{
    size_t length = strlen(path);
    const char *text = buffer_text(contents);
    text += strspn(text, " \t\r\n");
    return (length > 5 && strcmp(path + length - 5, ".json") == 0) ||
           (!LLCUDA_HAVE_YAML && *text == '{');
}

llcuda_status yaml_tree_read(struct yaml_tree *tree, const char *path, const char *text,
                             struct llcuda_error *error)
{
    struct buffer contents = {0};
    llcuda_status status = LLCUDA_OK;
    tree->path = path;
    tree->root = NULL;
    arena_init(&tree->arena, 64u << 20);
    if (text) {
        buffer_append_text(&contents, text);
    } else {
        status = file_read_all(path, LIMIT_CONFIG_BYTES, &contents, error);
    }
    if (!status) {
        status = is_json(path, &contents) ? yaml_json_read(tree, buffer_view(&contents), error)
                                          : read_yaml(tree, &contents, error);
    }
    buffer_deinit(&contents);
    if (status) {
        yaml_tree_deinit(tree);
    }
    return status;
}
