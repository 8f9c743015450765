/* Owns the reading of experiments and their spelling-out as a benchmark: every combination of the
 * factors' levels, or with `ablation` the first of each and every change of one alone. */
#include "bench/experiment.h"

#include <ctype.h>
#include <stdio.h>

#include "base/json.h"
#include "bench/yaml_tree.h"

struct factor {
    const char *key;
    const struct yaml_node *levels[CONFIG_LIST_MAX];
    uint32_t count;
};

struct plan {
    const struct yaml_tree *tree;
    const struct yaml_node *engine;
    struct factor factors[EXPERIMENT_FACTOR_MAX];
    uint32_t factor_count;
    bool ablation;
    struct llcuda_error *error;
};

/* A node as JSON, which is YAML. Plain values stay plain, so that numbers stay numbers. */
static void write_node(struct buffer *out, const struct yaml_node *node)
{
    if (node->kind == YAML_TEXT) {
        json_quote(out, text_view_of(node->text));
        if (!node->quoted) { /* quotes off again where the text is a plain number or word */
            size_t length = strlen(node->text);
            bool plain = length > 0;
            for (const char *c = node->text; *c; c++) {
                plain = plain && (isalnum((unsigned char)*c) || *c == '.' || *c == '_' ||
                                  *c == '-' || *c == '+');
            }
            if (plain) {
                out->length -= length + 2;
                buffer_append_text(out, node->text);
            }
        }
        return;
    }
    buffer_append_byte(out, node->kind == YAML_LIST ? '[' : '{');
    for (const struct yaml_node *child = node->first; child; child = child->next) {
        if (node->kind == YAML_MAP) {
            json_quote(out, text_view_of(child->key));
            buffer_append_text(out, ": ");
        }
        write_node(out, child);
        buffer_append_text(out, child->next ? ", " : "");
    }
    buffer_append_byte(out, node->kind == YAML_LIST ? ']' : '}');
}

static llcuda_status read_factors(struct plan *plan, const struct yaml_node *map)
{
    if (!map || map->kind != YAML_MAP || !map->first) {
        return yaml_fail(plan->tree, map ? map : plan->tree->root, plan->error,
                         "'factors' must name at least one factor with its levels");
    }
    for (const struct yaml_node *node = map->first; node; node = node->next) {
        struct factor *factor = &plan->factors[plan->factor_count];
        if (plan->factor_count == EXPERIMENT_FACTOR_MAX) {
            return yaml_fail(plan->tree, node, plan->error, "at most %u factors",
                             EXPERIMENT_FACTOR_MAX);
        }
        if (node->kind != YAML_LIST || !node->first || yaml_count(node) > CONFIG_LIST_MAX) {
            return yaml_fail(plan->tree, node, plan->error,
                             "the factor '%.60s' needs a list of 1 to %u levels", node->key,
                             CONFIG_LIST_MAX);
        }
        *factor = (struct factor){.key = node->key};
        for (const struct yaml_node *level = node->first; level; level = level->next) {
            if (level->kind != YAML_TEXT) {
                return yaml_fail(plan->tree, level, plan->error, "a level must be a plain value");
            }
            factor->levels[factor->count++] = level;
        }
        plan->factor_count++;
    }
    return LLCUDA_OK;
}

static bool sets(const struct plan *plan, const char *key)
{
    for (uint32_t f = 0; f < plan->factor_count; f++) {
        if (strcmp(plan->factors[f].key, key) == 0) {
            return true;
        }
    }
    return false;
}

static void write_options(const struct plan *plan, const uint32_t *choice, struct buffer *out)
{
    const struct yaml_node *base = yaml_member(plan->engine, "options");
    const char *between = "";
    buffer_append_text(out, ", \"options\": {");
    for (const struct yaml_node *node = base ? base->first : NULL; node; node = node->next) {
        char whole[128];
        snprintf(whole, sizeof whole, "options.%s", node->key);
        if (!sets(plan, whole)) {
            buffer_append_text(out, between);
            json_quote(out, text_view_of(node->key));
            buffer_append_text(out, ": ");
            write_node(out, node);
            between = ", ";
        }
    }
    for (uint32_t f = 0; f < plan->factor_count; f++) {
        if (strncmp(plan->factors[f].key, "options.", 8) == 0) {
            buffer_append_text(out, between);
            json_quote(out, text_view_of(plan->factors[f].key + 8));
            buffer_append_text(out, ": ");
            write_node(out, plan->factors[f].levels[choice[f]]);
            between = ", ";
        }
    }
    buffer_append_byte(out, '}');
}

/* What a level is called: of a path its last part. */
static const char *level_name(const struct yaml_node *level)
{
    const char *slash = strrchr(level->text, '/');
    return slash && slash[1] ? slash + 1 : level->text;
}

static void write_cell(const struct plan *plan, const uint32_t *choice, struct buffer *out)
{
    struct buffer name = {0};
    for (uint32_t f = 0; f < plan->factor_count; f++) {
        const char *key = strncmp(plan->factors[f].key, "options.", 8) == 0
                              ? plan->factors[f].key + 8
                              : plan->factors[f].key;
        buffer_printf(&name, "%s%s=%s", f ? " " : "", key,
                      level_name(plan->factors[f].levels[choice[f]]));
    }
    buffer_append_text(out, "  - {\"name\": ");
    json_quote(out, buffer_view(&name));
    for (const struct yaml_node *node = plan->engine->first; node; node = node->next) {
        if (!sets(plan, node->key) && strcmp(node->key, "options") != 0) {
            buffer_append_text(out, ", ");
            json_quote(out, text_view_of(node->key));
            buffer_append_text(out, ": ");
            write_node(out, node);
        }
    }
    for (uint32_t f = 0; f < plan->factor_count; f++) {
        if (strncmp(plan->factors[f].key, "options.", 8) != 0) {
            buffer_append_text(out, ", ");
            json_quote(out, text_view_of(plan->factors[f].key));
            buffer_append_text(out, ": ");
            write_node(out, plan->factors[f].levels[choice[f]]);
        }
    }
    write_options(plan, choice, out);
    buffer_append_text(out, "}\n");
    buffer_deinit(&name);
}

/* The next choice; false after the last. */
static bool advance(const struct plan *plan, uint32_t *choice)
{
    uint32_t changed = plan->factor_count;
    if (plan->ablation) {
        /* One factor away from its first level at a time. */
        for (uint32_t f = 0; f < plan->factor_count; f++) {
            changed = choice[f] ? f : changed;
        }
        uint32_t f = changed == plan->factor_count ? 0 : changed;
        choice[f]++;
        while (f < plan->factor_count && choice[f] == plan->factors[f].count) {
            choice[f] = 0;
            if (++f < plan->factor_count) {
                choice[f] = 1;
            }
        }
        return f < plan->factor_count;
    }
    for (uint32_t f = plan->factor_count; f-- > 0;) {
        if (++choice[f] < plan->factors[f].count) {
            return true;
        }
        choice[f] = 0;
    }
    return false;
}

static llcuda_status write_cells(const struct plan *plan, struct buffer *out, uint32_t *count)
{
    uint32_t choice[EXPERIMENT_FACTOR_MAX] = {0};
    *count = 0;
    do {
        if (++*count > CONFIG_ENGINE_MAX) {
            return error_set(plan->error, LLCUDA_LIMIT,
                             "%s: more than %u combinations; set ablation, or take fewer levels",
                             plan->tree->path, CONFIG_ENGINE_MAX);
        }
        write_cell(plan, choice, out);
    } while (advance(plan, choice));
    return LLCUDA_OK;
}

static void write_section(const struct yaml_tree *tree, const char *key, struct buffer *out)
{
    const struct yaml_node *node = yaml_member(tree->root, key);
    if (node) {
        buffer_printf(out, "%s: ", key);
        write_node(out, node);
        buffer_append_byte(out, '\n');
    }
}

static llcuda_status keep(struct experiment *experiment, const char *text, const char **out,
                          struct llcuda_error *error)
{
    *out = arena_copy_text(&experiment->arena, text_view_of(text)).data;
    return *out ? LLCUDA_OK : error_no_memory(error, "an experiment", strlen(text));
}

static llcuda_status read_head(const struct yaml_tree *tree, struct experiment *experiment,
                               struct buffer *out, bool *ablation, struct llcuda_error *error)
{
    static const char *const keys[] = {
        "name",       "id",         "quality_text", "ablation",        "repeats",          "seed",
        "model_path", "model_gguf", "model_hf",     "timeout_seconds", "cooldown_seconds", NULL};
    const struct yaml_node *map = yaml_member(tree->root, "experiment");
    const char *name = "experiment";
    const char *id = NULL;
    const char *quality = NULL;
    if (!map) {
        return yaml_fail(tree, tree->root, error, "the section 'experiment' is missing");
    }
    llcuda_status status = yaml_known_keys(tree, map, keys, error);
    if (!status) {
        status = yaml_text(tree, yaml_member(map, "name"), &name, error);
    }
    if (!status) {
        status = yaml_text(tree, yaml_member(map, "id"), &id, error);
    }
    if (!status) {
        status = yaml_text(tree, yaml_member(map, "quality_text"), &quality, error);
    }
    if (!status) {
        status = yaml_bool(tree, yaml_member(map, "ablation"), ablation, error);
    }
    for (const char *c = id ? id : ""; !status && *c; c++) {
        if (!isalnum((unsigned char)*c) && !strchr("-_.", *c)) {
            status = yaml_fail(tree, yaml_member(map, "id"), error,
                               "an id has only letters, digits, '-', '_' and '.'");
        }
    }
    if (!status && !id) {
        status = yaml_fail(tree, map, error, "an experiment needs an id");
    }
    buffer_append_text(out, "benchmark: {\"name\": ");
    json_quote(out, text_view_of(name));
    for (const struct yaml_node *node = map->first; !status && node; node = node->next) {
        if (strcmp(node->key, "name") != 0 && strcmp(node->key, "id") != 0 &&
            strcmp(node->key, "quality_text") != 0 && strcmp(node->key, "ablation") != 0) {
            buffer_printf(out, ", \"%s\": ", node->key);
            write_node(out, node);
        }
    }
    buffer_append_text(out, "}\n");
    if (!status) {
        status = keep(experiment, name, &experiment->name, error);
    }
    if (!status) {
        status = keep(experiment, id, &experiment->id, error);
    }
    if (!status && quality) {
        status = keep(experiment, quality, &experiment->quality_text, error);
    }
    return status;
}

llcuda_status experiment_read(const char *path, struct experiment *experiment,
                              struct llcuda_error *error)
{
    static const char *const keys[] = {"experiment", "engine", "factors", "workloads",
                                       "analysis",   "system", "prices",  NULL};
    struct yaml_tree tree;
    struct buffer out = {0};
    *experiment = (struct experiment){0};
    llcuda_status status = yaml_tree_read(&tree, path, NULL, error);
    if (status) {
        return status;
    }
    arena_init(&experiment->arena, 0);
    struct plan plan = {.tree = &tree, .error = error, .engine = yaml_member(tree.root, "engine")};
    status = yaml_known_keys(&tree, tree.root, keys, error);
    if (!status) {
        status = read_head(&tree, experiment, &out, &plan.ablation, error);
    }
    if (!status && (!plan.engine || plan.engine->kind != YAML_MAP)) {
        status = yaml_fail(&tree, tree.root, error, "the section 'engine' is missing");
    }
    if (!status) {
        status = read_factors(&plan, yaml_member(tree.root, "factors"));
    }
    buffer_append_text(&out, "engines:\n");
    if (!status) {
        status = write_cells(&plan, &out, &experiment->cell_count);
    }
    write_section(&tree, "workloads", &out);
    write_section(&tree, "analysis", &out);
    write_section(&tree, "system", &out);
    write_section(&tree, "prices", &out);
    if (!status) {
        status = keep(experiment, buffer_text(&out), &experiment->config, error);
    }
    yaml_tree_deinit(&tree);
    buffer_deinit(&out);
    if (status) {
        experiment_deinit(experiment);
    }
    return status;
}

void experiment_deinit(struct experiment *experiment)
{
    arena_deinit(&experiment->arena);
}
