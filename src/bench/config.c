/* Owns the configuration: reading its top level, analysis, system and prices, and the defaults.
 * Engines and workloads have files of their own. */
#include "bench/config_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/limits.h"

const char *config_keep(struct config_reader *reader, const char *text, llcuda_status *status)
{
    if (!text || *status) {
        return NULL;
    }
    struct text_view copy = arena_copy_text(&reader->config->arena, text_view_of(text));
    if (!copy.data) {
        *status = error_no_memory(reader->error, "the configuration", strlen(text));
    }
    return copy.data;
}

llcuda_status config_text(struct config_reader *reader, const struct yaml_node *map,
                          const char *key, const char **out)
{
    const char *text = NULL;
    llcuda_status status = yaml_text(reader->tree, yaml_member(map, key), &text, reader->error);
    if (!status && text) {
        *out = config_keep(reader, text, &status);
    }
    return status;
}

llcuda_status config_word(struct config_reader *reader, const struct yaml_node *node,
                          const char *const *words, uint32_t count, uint32_t *out)
{
    const char *text = NULL;
    char list[300] = "";
    if (!node) {
        return LLCUDA_OK;
    }
    llcuda_status status = yaml_text(reader->tree, node, &text, reader->error);
    if (status) {
        return status;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(words[i], text) == 0) {
            *out = i;
            return LLCUDA_OK;
        }
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", words[i]);
    }
    return yaml_fail(reader->tree, node, reader->error, "'%.60s' is not one of %s", text, list);
}

static const char *const load_names[] = {"batch", "concurrent", "rate", "trace"};
static const char *const arrival_names[] = {"poisson", "constant", "gamma"};
static const char *const dataset_names[] = {"random", "shared-prefix", "file", "sharegpt"};

const char *load_kind_name(enum load_kind kind)
{
    return load_names[kind];
}

const char *arrival_kind_name(enum arrival_kind kind)
{
    return arrival_names[kind];
}

const char *dataset_kind_name(enum dataset_kind kind)
{
    return dataset_names[kind];
}

static llcuda_status read_benchmark(struct config_reader *reader, const struct yaml_node *map)
{
    static const char *const keys[] = {"name", "model_path", "model_gguf",      "model_hf",
                                       "seed", "repeats",    "timeout_seconds", "cooldown_seconds",
                                       NULL};
    const struct yaml_tree *tree = reader->tree;
    struct config *config = reader->config;
    uint32_t seed = 1;
    if (!map) {
        return yaml_fail(tree, tree->root, reader->error, "the section 'benchmark' is missing");
    }
    llcuda_status status = yaml_known_keys(tree, map, keys, reader->error);
    const char **texts[] = {&config->name, &config->model_path, &config->model_gguf,
                            &config->model_hf};
    for (size_t i = 0; !status && i < 4; i++) {
        status = config_text(reader, map, keys[i], texts[i]);
    }
    if (!status) {
        status = yaml_integer(tree, yaml_member(map, "seed"), 0, 4294967295, &seed, reader->error);
    }
    if (!status) {
        status = yaml_integer(tree, yaml_member(map, "repeats"), 1, 1000, &config->repeats,
                              reader->error);
    }
    if (!status) {
        status = yaml_integer(tree, yaml_member(map, "timeout_seconds"), 1, 1000000,
                              &config->timeout_seconds, reader->error);
    }
    if (!status) {
        status = yaml_number(tree, yaml_member(map, "cooldown_seconds"), 0, 3600,
                             &config->cooldown_seconds, reader->error);
    }
    config->seed = seed;
    return status;
}

static llcuda_status read_tests(struct config_reader *reader, const struct yaml_node *list)
{
    static const char *const words[] = {"mann_whitney_u", "welch_t_test"};
    struct config_analysis *analysis = &reader->config->analysis;
    if (!list) {
        return LLCUDA_OK;
    }
    if (list->kind != YAML_LIST) {
        return yaml_fail(reader->tree, list, reader->error, "'statistical_tests' must be a list");
    }
    if (!list->first) {
        return yaml_fail(reader->tree, list, reader->error,
                         "'statistical_tests' names one of mann_whitney_u, welch_t_test at least");
    }
    analysis->mann_whitney = analysis->welch = false;
    for (const struct yaml_node *item = list->first; item; item = item->next) {
        uint32_t word = 0;
        llcuda_status status = config_word(reader, item, words, 2, &word);
        if (status) {
            return status;
        }
        *(word ? &analysis->welch : &analysis->mann_whitney) = true;
    }
    return LLCUDA_OK;
}

static llcuda_status read_token_check(struct config_reader *reader, const struct yaml_node *map)
{
    static const char *const keys[] = {"prompts", "tokens", NULL};
    struct config_analysis *analysis = &reader->config->analysis;
    if (!map) {
        return LLCUDA_OK;
    }
    llcuda_status status = yaml_known_keys(reader->tree, map, keys, reader->error);
    if (!status) {
        status = yaml_integer(reader->tree, yaml_member(map, "prompts"), 0, 256,
                              &analysis->token_prompts, reader->error);
    }
    if (!status) {
        status = yaml_integer(reader->tree, yaml_member(map, "tokens"), 1, 4096,
                              &analysis->token_count, reader->error);
    }
    return status;
}

static llcuda_status read_profile(struct config_reader *reader, const struct yaml_node *map)
{
    static const char *const keys[] = {"prompt_tokens", "generate", "depth", NULL};
    struct config_analysis *analysis = &reader->config->analysis;
    uint32_t *const values[] = {&analysis->profile_prompt, &analysis->profile_generate,
                                &analysis->profile_depth};
    static const uint32_t defaults[] = {512, 16, 128};
    if (!map) {
        return LLCUDA_OK;
    }
    llcuda_status status = yaml_known_keys(reader->tree, map, keys, reader->error);
    for (size_t i = 0; !status && i < 3; i++) {
        *values[i] = defaults[i];
        status = yaml_integer(reader->tree, yaml_member(map, keys[i]), 0, 1 << 20, values[i],
                              reader->error);
    }
    if (!status && !analysis->profile_prompt && !analysis->profile_generate) {
        status = yaml_fail(reader->tree, map, reader->error,
                           "'kernel_profile' profiles prompt_tokens, generate, or both: one of "
                           "them must not be 0");
    }
    return status;
}

static llcuda_status read_analysis(struct config_reader *reader, const struct yaml_node *map)
{
    static const char *const keys[] = {
        "confidence_level",    "remove_outliers", "generate_plots", "statistical_tests",
        "reproducibility_bar", "token_check",     "kernel_profile", NULL};
    const struct yaml_tree *tree = reader->tree;
    struct config_analysis *analysis = &reader->config->analysis;
    if (!map) {
        return LLCUDA_OK;
    }
    llcuda_status status = yaml_known_keys(tree, map, keys, reader->error);
    if (!status) {
        status = yaml_number(tree, yaml_member(map, "confidence_level"), 0.5, 0.9999,
                             &analysis->confidence, reader->error);
    }
    if (!status) {
        status = yaml_number(tree, yaml_member(map, "reproducibility_bar"), 0, 1,
                             &analysis->reproducibility, reader->error);
    }
    if (!status) {
        status = yaml_bool(tree, yaml_member(map, "remove_outliers"), &analysis->remove_outliers,
                           reader->error);
    }
    if (!status) {
        status =
            yaml_bool(tree, yaml_member(map, "generate_plots"), &analysis->plots, reader->error);
    }
    if (!status) {
        status = read_tests(reader, yaml_member(map, "statistical_tests"));
    }
    if (!status) {
        status = read_token_check(reader, yaml_member(map, "token_check"));
    }
    return status ? status : read_profile(reader, yaml_member(map, "kernel_profile"));
}

static llcuda_status read_system(struct config_reader *reader, const struct yaml_node *map)
{
    static const char *const keys[] = {"gpu_device",  "thermal_limit", "memory_limit_gb",
                                       "steal_limit", "monitor_hz",    NULL};
    struct config_system *system = &reader->config->system;
    if (!map) {
        return LLCUDA_OK;
    }
    llcuda_status status = yaml_known_keys(reader->tree, map, keys, reader->error);
    if (!status) {
        status = config_text(reader, map, "gpu_device", &system->gpu_device);
    }
    if (!status) {
        status = yaml_number(reader->tree, yaml_member(map, "thermal_limit"), 0, 200,
                             &system->thermal_limit_c, reader->error);
    }
    if (!status) {
        status = yaml_number(reader->tree, yaml_member(map, "memory_limit_gb"), 0, 1e6,
                             &system->memory_limit_gb, reader->error);
    }
    if (!status) {
        status = yaml_number(reader->tree, yaml_member(map, "steal_limit"), 0, 1,
                             &system->steal_limit, reader->error);
    }
    if (!status) {
        status = yaml_number(reader->tree, yaml_member(map, "monitor_hz"), 0.1, 100,
                             &system->monitor_hz, reader->error);
    }
    return status;
}

static llcuda_status read_prices(struct config_reader *reader, const struct yaml_node *map)
{
    static const char *const keys[] = {"currency",  "machine_per_hour", "kwh", "hardware",
                                       "migration", "tokens_per_month", NULL};
    struct config_prices *prices = &reader->config->prices;
    double *const numbers[] = {&prices->machine_per_hour, &prices->kwh, &prices->hardware,
                               &prices->migration, &prices->tokens_per_month};
    if (!map) {
        return LLCUDA_OK;
    }
    llcuda_status status = yaml_known_keys(reader->tree, map, keys, reader->error);
    if (!status) {
        status = config_text(reader, map, "currency", &prices->currency);
    }
    for (size_t i = 0; !status && i < 5; i++) {
        status = yaml_number(reader->tree, yaml_member(map, keys[i + 1]), 0, 1e15, numbers[i],
                             reader->error);
    }
    return status;
}

static void set_defaults(struct config *config)
{
    config->name = "benchmark";
    config->model_path = "builtin";
    config->seed = 1;
    config->repeats = 5;
    config->timeout_seconds = 1800;
    config->analysis.confidence = 0.95;
    config->analysis.reproducibility = 0.10;
    config->analysis.plots = true;
    config->analysis.mann_whitney = true;
    config->analysis.welch = true;
    config->analysis.token_prompts = 4;
    config->analysis.token_count = 32;
    config->system.monitor_hz = 10;
    config->prices.currency = "EUR";
}

static llcuda_status read_sections(struct config_reader *reader)
{
    static const char *const keys[] = {"benchmark", "engines", "workloads", "analysis",
                                       "system",    "prices",  NULL};
    const struct yaml_node *root = reader->tree->root;
    llcuda_status status = yaml_known_keys(reader->tree, root, keys, reader->error);
    if (!status) {
        status = read_benchmark(reader, yaml_member(root, "benchmark"));
    }
    if (!status) {
        status = read_analysis(reader, yaml_member(root, "analysis"));
    }
    if (!status) {
        status = read_system(reader, yaml_member(root, "system"));
    }
    if (!status) {
        status = read_prices(reader, yaml_member(root, "prices"));
    }
    if (!status) {
        status = config_read_workloads(reader, yaml_member(root, "workloads"));
    }
    if (!status) {
        status = config_read_engines(reader, yaml_member(root, "engines"));
    }
    return status;
}

llcuda_status config_read(const char *path, const char *text, const struct config_places *places,
                          struct config **out, struct llcuda_error *error)
{
    struct yaml_tree tree;
    struct buffer contents = {0};
    struct config *config = NULL;
    llcuda_status status = LLCUDA_OK;
    if (!text) {
        status = file_read_all(path, LIMIT_CONFIG_BYTES, &contents, error);
        text = buffer_text(&contents);
    }
    if (!status) {
        status = yaml_tree_read(&tree, path, text, error);
    }
    if (status) {
        buffer_deinit(&contents);
        return status;
    }
    config = calloc(1, sizeof *config);
    status = config ? LLCUDA_OK : error_no_memory(error, "the configuration", sizeof *config);
    if (!status) {
        struct config_reader reader = {&tree, config, places, error};
        arena_init(&config->arena, 64u << 20);
        set_defaults(config);
        config->text = config_keep(&reader, text, &status);
        if (!status) {
            status = read_sections(&reader);
        }
    }
    yaml_tree_deinit(&tree);
    buffer_deinit(&contents);
    if (status) {
        config_destroy(config);
        return status;
    }
    *out = config;
    return LLCUDA_OK;
}

void config_destroy(struct config *config)
{
    if (config) {
        arena_deinit(&config->arena);
        free(config);
    }
}

uint32_t config_points(const struct config *config, uint32_t workload,
                       struct config_point points[CONFIG_LIST_MAX * CONFIG_LIST_MAX])
{
    static const char *const level_names[] = {"batch", "concurrency", "rate", "speed"};
    const struct config_workload *row = &config->workloads[workload];
    uint32_t count = 0;
    for (uint32_t l = 0; l < row->length_count; l++) {
        for (uint32_t i = 0; i < row->level_count; i++) {
            struct config_point *point = &points[count++];
            point->workload = workload;
            point->level = row->levels[i];
            point->length = row->lengths[l];
            snprintf(point->key, sizeof point->key, "%s=%g prompt=%u", level_names[row->kind],
                     point->level, point->length);
        }
    }
    return count;
}
