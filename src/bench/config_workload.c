/* Owns the reading of workloads: a preset fills in a row, keys of the file win over it. */
#include <math.h>

#include "bench/config_internal.h"

/* What businesses run. Levels and lengths of 0 end their lists. */
struct preset {
    const char *name;
    enum load_kind kind;
    double levels[6];
    uint32_t lengths[4];
    uint32_t output_min, output_max, iterations;
    double duration_seconds;
    enum dataset_kind dataset;
    uint32_t prefix_tokens;
    double goodput_ttft_ms, goodput_tpot_ms;
};

static const struct preset presets[] = {
    {"interactive", LOAD_RATE, {1, 2, 4}, {128}, 16, 128, 0, 60, DATASET_RANDOM, 0, 100, 50},
    {"sustained", LOAD_CONCURRENT, {32}, {256}, 128, 128, 0, 180, DATASET_RANDOM, 0, 500, 50},
    {"long_document", LOAD_BATCH, {1}, {1024, 4096}, 64, 64, 5, 0, DATASET_RANDOM, 0, 0, 0},
    {"code_generation", LOAD_CONCURRENT, {4, 8}, {256}, 64, 512, 0, 60, DATASET_RANDOM, 0, 500, 50},
    {"batch", LOAD_BATCH, {1, 2, 4, 8}, {128}, 64, 64, 10, 0, DATASET_RANDOM, 0, 0, 0},
    {"shared_prefix", LOAD_CONCURRENT, {8}, {512}, 32, 32, 0, 30, DATASET_SHARED_PREFIX, 384, 0, 0},
};

static const char *const keys[] = {"name",
                                   "preset",
                                   "type",
                                   "batch_sizes",
                                   "concurrency",
                                   "request_rates",
                                   "sequence_lengths",
                                   "output_tokens",
                                   "output_min",
                                   "output_max",
                                   "iterations",
                                   "warmup",
                                   "num_prompts",
                                   "duration",
                                   "arrival",
                                   "burstiness",
                                   "dataset",
                                   "dataset_path",
                                   "prefix_tokens",
                                   "goodput",
                                   "speed",
                                   NULL};

static llcuda_status apply_preset(struct config_reader *reader, const struct yaml_node *map,
                                  struct config_workload *workload)
{
    const char *names[sizeof presets / sizeof presets[0]];
    uint32_t count = (uint32_t)(sizeof presets / sizeof presets[0]);
    uint32_t chosen = count;
    for (uint32_t i = 0; i < count; i++) {
        names[i] = presets[i].name;
    }
    llcuda_status status = config_word(reader, yaml_member(map, "preset"), names, count, &chosen);
    if (status || chosen == count) {
        return status;
    }
    const struct preset *preset = &presets[chosen];
    workload->kind = preset->kind;
    workload->level_count = workload->length_count = 0;
    for (uint32_t i = 0; i < 6 && preset->levels[i] > 0; i++) {
        workload->levels[workload->level_count++] = preset->levels[i];
    }
    for (uint32_t i = 0; i < 4 && preset->lengths[i]; i++) {
        workload->lengths[workload->length_count++] = preset->lengths[i];
    }
    workload->output_min = preset->output_min;
    workload->output_max = preset->output_max;
    workload->iterations = preset->iterations ? preset->iterations : workload->iterations;
    workload->duration_seconds = preset->duration_seconds;
    workload->dataset = preset->dataset;
    workload->prefix_tokens = preset->prefix_tokens;
    workload->goodput_ttft_ms = preset->goodput_ttft_ms;
    workload->goodput_tpot_ms = preset->goodput_tpot_ms;
    return LLCUDA_OK;
}

/* A number or a list of them. */
static llcuda_status read_list(struct config_reader *reader, const struct yaml_node *node,
                               double minimum, double maximum, double *out, uint32_t *count)
{
    if (!node) {
        return LLCUDA_OK;
    }
    const struct yaml_node *item = node->kind == YAML_LIST ? node->first : node;
    *count = 0;
    while (item) {
        if (*count == CONFIG_LIST_MAX) {
            return yaml_fail(reader->tree, node, reader->error, "at most %u values may stand here",
                             CONFIG_LIST_MAX);
        }
        llcuda_status status =
            yaml_number(reader->tree, item, minimum, maximum, &out[*count], reader->error);
        for (uint32_t i = 0; !status && i < *count; i++) {
            if (out[i] == out[*count]) { /* two points of one name would be one in the report */
                status =
                    yaml_fail(reader->tree, item, reader->error, "%g stands here twice", out[i]);
            }
        }
        if (status) {
            return status;
        }
        (*count)++;
        item = node->kind == YAML_LIST ? item->next : NULL;
    }
    return *count
               ? LLCUDA_OK
               : yaml_fail(reader->tree, node, reader->error, "the list '%s' is empty", node->key);
}

/* Which of the level keys is there says what kind of load it is, unless `type` does. */
static llcuda_status read_levels(struct config_reader *reader, const struct yaml_node *map,
                                 struct config_workload *workload)
{
    static const char *const level_keys[] = {"batch_sizes", "concurrency", "request_rates",
                                             "speed"};
    static const char *const types[] = {"batch", "concurrent", "rate", "trace"};
    uint32_t type = (uint32_t)workload->kind;
    const struct yaml_node *given = NULL;
    for (uint32_t i = 0; i < 4; i++) {
        const struct yaml_node *node = yaml_member(map, level_keys[i]);
        if (node && given) {
            return yaml_fail(
                reader->tree, node, reader->error,
                "a workload has one of batch_sizes, concurrency, request_rates, speed");
        }
        given = node ? node : given;
        type = node ? i : type;
    }
    uint32_t stated = type;
    llcuda_status status = config_word(reader, yaml_member(map, "type"), types, 4, &stated);
    if (!status && given && stated != type) {
        status = yaml_fail(reader->tree, given, reader->error, "a workload of type %s has '%s'",
                           types[stated], level_keys[stated]);
    }
    workload->kind = (enum load_kind)stated;
    bool whole = stated == LOAD_BATCH || stated == LOAD_CONCURRENT;
    if (!status) {
        status = read_list(reader, given, whole ? 1 : 0.001,
                           stated == LOAD_BATCH ? 1024
                           : whole              ? 65536
                                                : 1e6,
                           workload->levels, &workload->level_count);
    }
    for (uint32_t i = 0; !status && whole && i < workload->level_count; i++) {
        if (workload->levels[i] != floor(workload->levels[i])) {
            status = yaml_fail(reader->tree, given, reader->error, "'%s' must be whole numbers",
                               given ? given->key : "levels");
        }
    }
    return status;
}

static llcuda_status read_lengths(struct config_reader *reader, const struct yaml_node *map,
                                  struct config_workload *workload)
{
    double lengths[CONFIG_LIST_MAX];
    uint32_t count = 0;
    uint32_t output = 0;
    const struct yaml_tree *tree = reader->tree;
    llcuda_status status =
        read_list(reader, yaml_member(map, "sequence_lengths"), 1, 1 << 24, lengths, &count);
    for (uint32_t i = 0; !status && i < count; i++) {
        workload->lengths[i] = (uint32_t)lengths[i];
        if (lengths[i] != floor(lengths[i])) {
            status = yaml_fail(tree, yaml_member(map, "sequence_lengths"), reader->error,
                               "'sequence_lengths' must be whole numbers");
        }
    }
    workload->length_count = count ? count : workload->length_count;
    if (!status) {
        status = yaml_integer(tree, yaml_member(map, "output_tokens"), 1, 1 << 20, &output,
                              reader->error);
    }
    if (!status && output) {
        workload->output_min = workload->output_max = output;
    }
    if (!status) {
        status = yaml_integer(tree, yaml_member(map, "output_min"), 1, 1 << 20,
                              &workload->output_min, reader->error);
    }
    if (!status) {
        status = yaml_integer(tree, yaml_member(map, "output_max"), 1, 1 << 20,
                              &workload->output_max, reader->error);
    }
    if (!status && workload->output_min > workload->output_max) {
        status = yaml_fail(tree, map, reader->error, "output_min is above output_max");
    }
    return status;
}

static llcuda_status read_amounts(struct config_reader *reader, const struct yaml_node *map,
                                  struct config_workload *workload)
{
    const struct yaml_tree *tree = reader->tree;
    const struct {
        const char *key;
        uint32_t *out;
    } counts[] = {{"iterations", &workload->iterations},
                  {"warmup", &workload->warmup},
                  {"num_prompts", &workload->request_count},
                  {"prefix_tokens", &workload->prefix_tokens}};
    llcuda_status status = LLCUDA_OK;
    for (size_t i = 0; !status && i < sizeof counts / sizeof counts[0]; i++) {
        status = yaml_integer(tree, yaml_member(map, counts[i].key), i ? 0 : 1, 10000000,
                              counts[i].out, reader->error);
    }
    if (workload->request_count) {
        workload->duration_seconds = 0; /* of the preset: the number was said instead */
    }
    if (!status) {
        status = yaml_number(tree, yaml_member(map, "duration"), 0.1, 86400,
                             &workload->duration_seconds, reader->error);
    }
    if (!status) {
        status = yaml_number(tree, yaml_member(map, "burstiness"), 0.01, 1000,
                             &workload->burstiness, reader->error);
    }
    return status;
}

static llcuda_status read_goodput(struct config_reader *reader, const struct yaml_node *map,
                                  struct config_workload *workload)
{
    static const char *const bounds[] = {"ttft", "tpot", "e2e", NULL};
    double *const out[] = {&workload->goodput_ttft_ms, &workload->goodput_tpot_ms,
                           &workload->goodput_e2e_ms};
    if (!map) {
        return LLCUDA_OK;
    }
    llcuda_status status = yaml_known_keys(reader->tree, map, bounds, reader->error);
    for (size_t i = 0; !status && i < 3; i++) {
        status = yaml_number(reader->tree, yaml_member(map, bounds[i]), 0.001, 1e9, out[i],
                             reader->error);
    }
    return status;
}

static llcuda_status read_source(struct config_reader *reader, const struct yaml_node *map,
                                 struct config_workload *workload)
{
    static const char *const arrivals[] = {"poisson", "constant", "gamma"};
    static const char *const datasets[] = {"random", "shared-prefix", "file", "sharegpt"};
    uint32_t arrival = (uint32_t)workload->arrival;
    uint32_t dataset = (uint32_t)workload->dataset;
    llcuda_status status = config_word(reader, yaml_member(map, "arrival"), arrivals, 3, &arrival);
    if (!status) {
        status = config_word(reader, yaml_member(map, "dataset"), datasets, 4, &dataset);
    }
    if (!status) {
        status = config_text(reader, map, "dataset_path", &workload->dataset_path);
    }
    workload->arrival = (enum arrival_kind)arrival;
    workload->dataset = (enum dataset_kind)dataset;
    bool needs_path = workload->kind == LOAD_TRACE || workload->dataset == DATASET_FILE ||
                      workload->dataset == DATASET_SHAREGPT;
    if (!status && needs_path && !workload->dataset_path) {
        status = yaml_fail(reader->tree, map, reader->error,
                           "this workload needs a dataset_path: the file to read");
    }
    return status;
}

static llcuda_status read_workload(struct config_reader *reader, const struct yaml_node *map,
                                   struct config_workload *workload)
{
    *workload = (struct config_workload){.name = "workload",
                                         .kind = LOAD_BATCH,
                                         .levels = {1},
                                         .level_count = 1,
                                         .lengths = {64},
                                         .length_count = 1,
                                         .output_min = 32,
                                         .output_max = 32,
                                         .iterations = 5,
                                         .warmup = 1,
                                         .burstiness = 1};
    llcuda_status status = yaml_known_keys(reader->tree, map, keys, reader->error);
    if (!status) {
        status = apply_preset(reader, map, workload);
    }
    if (!status) {
        status = config_text(reader, map, "name", &workload->name);
    }
    if (!status && !yaml_member(map, "name")) {
        status = yaml_fail(reader->tree, map, reader->error, "a workload needs a name");
    }
    llcuda_status (*const parts[])(struct config_reader *, const struct yaml_node *,
                                   struct config_workload *) = {read_levels, read_lengths,
                                                                read_amounts, read_source};
    for (size_t i = 0; !status && i < sizeof parts / sizeof parts[0]; i++) {
        status = parts[i](reader, map, workload);
    }
    return status ? status : read_goodput(reader, yaml_member(map, "goodput"), workload);
}

llcuda_status config_read_workloads(struct config_reader *reader, const struct yaml_node *list)
{
    struct config *config = reader->config;
    uint32_t count = yaml_count(list);
    if (!list || list->kind != YAML_LIST || count == 0 || count > CONFIG_WORKLOAD_MAX) {
        return yaml_fail(reader->tree, list ? list : reader->tree->root, reader->error,
                         "'workloads' must be a list of 1 to %u workloads", CONFIG_WORKLOAD_MAX);
    }
    config->workloads = arena_alloc(&config->arena, count, sizeof *config->workloads);
    if (!config->workloads) {
        return error_no_memory(reader->error, "workloads", count * sizeof *config->workloads);
    }
    for (const struct yaml_node *item = list->first; item; item = item->next) {
        struct config_workload *workload = &config->workloads[config->workload_count];
        llcuda_status status = read_workload(reader, item, workload);
        for (uint32_t i = 0; !status && i < config->workload_count; i++) {
            if (strcmp(config->workloads[i].name, workload->name) == 0) {
                status = yaml_fail(reader->tree, item, reader->error,
                                   "two workloads are called '%.60s'", workload->name);
            }
        }
        if (status) {
            return status;
        }
        config->workload_count++;
    }
    return LLCUDA_OK;
}
