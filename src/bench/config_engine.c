/* Owns the reading of engines: a row of the catalogue, what the file changes in it, and the words
 * of its command line with their places filled in. */
#include <stdio.h>

#include "base/json.h"
#include "bench/catalog.h"
#include "bench/config_internal.h"

static const char *const keys[] = {
    "name",           "engine",   "command",  "url",           "model_path", "device", "threads",
    "context",        "parallel", "options",  "environment",   "api_model",  "prompt", "baseline",
    "price_per_hour", "install",  "maturity", "start_seconds", "ranks",      NULL};

/* Puts `value` for `place` wherever it stands in `word`. */
static void replace(struct buffer *word, const char *place, const char *value)
{
    struct buffer result = {0};
    const char *rest = buffer_text(word);
    for (const char *found = strstr(rest, place); found; found = strstr(rest, place)) {
        buffer_append(&result, rest, (size_t)(found - rest));
        buffer_append_text(&result, value);
        rest = found + strlen(place);
    }
    buffer_append_text(&result, rest);
    buffer_deinit(word);
    *word = result;
}

static llcuda_status fill_word(struct config_reader *reader, const struct config_engine *engine,
                               const char *text, size_t length, const char **out)
{
    char numbers[4][16];
    const uint32_t values[] = {engine->threads, engine->context, engine->parallel,
                               engine->context * engine->parallel};
    struct buffer word = {0};
    llcuda_status status = LLCUDA_OK;
    for (size_t i = 0; i < 4; i++) {
        snprintf(numbers[i], sizeof numbers[i], "%u", values[i]);
    }
    const struct {
        const char *place, *value;
    } places[] = {{"{self}", reader->places->self},
                  {"{engines}", reader->places->engines},
                  {"{python}", reader->places->python},
                  {"{model}", engine->model},
                  {"{device}", engine->device},
                  {"{threads}", numbers[0]},
                  {"{context}", numbers[1]},
                  {"{parallel}", numbers[2]},
                  {"{context_total}", numbers[3]},
                  {"{host}", "127.0.0.1"}};
    buffer_append(&word, text, length);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        replace(&word, places[i].place, places[i].value ? places[i].value : "");
    }
    *out = config_keep(reader, buffer_text(&word), &status);
    buffer_deinit(&word);
    return status;
}

/* A flag whose value is not set is left out together with it. */
static bool left_out(const struct config_engine *engine, const char *word, size_t length)
{
    struct text_view view = text_view_make(word, length);
    return (text_view_is(view, "{threads}") && engine->threads == 0) ||
           (text_view_is(view, "{model}") && strcmp(engine->model, "builtin") == 0);
}

static llcuda_status add_word(struct config_reader *reader, const struct yaml_node *node,
                              struct config_engine *engine, const char *word, size_t length)
{
    if (left_out(engine, word, length)) {
        engine->command_count -= engine->command_count > 1;
        engine->command[engine->command_count] = NULL;
        return LLCUDA_OK;
    }
    if (engine->command_count == CONFIG_COMMAND_MAX) {
        return yaml_fail(reader->tree, node, reader->error, "a command has at most %u words",
                         CONFIG_COMMAND_MAX);
    }
    return fill_word(reader, engine, word, length, &engine->command[engine->command_count++]);
}

static llcuda_status read_command(struct config_reader *reader, const struct yaml_node *node,
                                  const struct catalog_row *row, struct config_engine *engine)
{
    const struct yaml_node *list = yaml_member(node, "command");
    llcuda_status status = LLCUDA_OK;
    if (list && list->kind != YAML_LIST) {
        return yaml_fail(reader->tree, list, reader->error,
                         "'command' must be a list of words; no shell reads it");
    }
    for (const struct yaml_node *item = list ? list->first : NULL; !status && item;
         item = item->next) {
        const char *word = NULL;
        status = yaml_text(reader->tree, item, &word, reader->error);
        if (!status) {
            status = add_word(reader, item, engine, word, strlen(word));
        }
    }
    for (const char *word = list || engine->url ? "" : row->command; !status && *word;) {
        size_t length = strcspn(word, " ");
        status = add_word(reader, node, engine, word, length);
        word += length + (word[length] == ' ');
    }
    if (!status && engine->command_count == 0 && !engine->url) {
        status = yaml_fail(reader->tree, node, reader->error,
                           "the engine '%.60s' needs a command, or the url of a running server",
                           engine->name);
    }
    return status;
}

/* A text as JSON: a number or a truth value where it stands without quotes. */
static void write_plain(const struct yaml_tree *tree, const struct yaml_node *node,
                        struct json_writer *writer)
{
    double number = 0;
    if (!yaml_number(tree, node, -1e300, 1e300, &number, NULL)) {
        json_write_number(writer, number);
    } else if (!node->quoted &&
               (strcmp(node->text, "true") == 0 || strcmp(node->text, "false") == 0)) {
        json_write_bool(writer, node->text[0] == 't');
    } else {
        json_write_string(writer, node->text);
    }
}

/* A mapping of plain values, as one JSON object. */
static llcuda_status read_options(struct config_reader *reader, const struct yaml_node *map,
                                  const char **out)
{
    struct buffer text = {0};
    struct json_writer writer;
    llcuda_status status = LLCUDA_OK;
    if (!map) {
        return LLCUDA_OK;
    }
    if (map->kind != YAML_MAP) {
        return yaml_fail(reader->tree, map, reader->error, "'options' must hold key: value lines");
    }
    json_writer_init(&writer, &text, 0);
    json_begin_object(&writer);
    for (const struct yaml_node *item = map->first; item && !status; item = item->next) {
        json_key(&writer, item->key);
        if (item->kind == YAML_LIST) {
            json_begin_array(&writer);
            for (const struct yaml_node *word = item->first; word && !status; word = word->next) {
                const char *plain;
                status = yaml_text(reader->tree, word, &plain, reader->error);
                if (!status) {
                    write_plain(reader->tree, word, &writer);
                }
            }
            json_end_array(&writer);
        } else if (item->kind != YAML_TEXT) {
            status = yaml_fail(reader->tree, item, reader->error, "'%s' is nested too deeply",
                               item->key);
        } else {
            write_plain(reader->tree, item, &writer);
        }
    }
    json_end_object(&writer);
    if (!status) {
        *out = config_keep(reader, buffer_text(&text), &status);
    }
    buffer_deinit(&text);
    return status;
}

static llcuda_status read_environment(struct config_reader *reader, const struct yaml_node *map,
                                      struct config_engine *engine)
{
    llcuda_status status = LLCUDA_OK;
    if (map && (map->kind != YAML_MAP || yaml_count(map) > CONFIG_LIST_MAX)) {
        return yaml_fail(reader->tree, map, reader->error,
                         "'environment' must hold at most %u NAME: value lines", CONFIG_LIST_MAX);
    }
    for (const struct yaml_node *item = map ? map->first : NULL; item && !status;
         item = item->next) {
        const char *value = NULL;
        char line[1024];
        status = yaml_text(reader->tree, item, &value, reader->error);
        if (!status) {
            snprintf(line, sizeof line, "%s=%s", item->key, value);
            engine->environment[engine->environment_count++] = config_keep(reader, line, &status);
        }
    }
    return status;
}

static const char *model_for(const struct config *config, enum catalog_format format)
{
    if (format == CATALOG_HF && config->model_hf) {
        return config->model_hf;
    }
    if (format != CATALOG_HF && config->model_gguf) {
        return config->model_gguf;
    }
    return config->model_path;
}

static llcuda_status read_texts(struct config_reader *reader, const struct yaml_node *map,
                                struct config_engine *engine)
{
    static const char *const prompts[] = {"ids", "text"};
    uint32_t prompt = 0;
    const struct {
        const char *key;
        const char **out;
    } texts[] = {{"name", &engine->name},           {"url", &engine->url},
                 {"model_path", &engine->model},    {"device", &engine->device},
                 {"api_model", &engine->api_model}, {"install", &engine->install},
                 {"maturity", &engine->maturity}};
    llcuda_status status = LLCUDA_OK;
    for (size_t i = 0; !status && i < sizeof texts / sizeof texts[0]; i++) {
        status = config_text(reader, map, texts[i].key, texts[i].out);
    }
    if (!status) {
        status = config_word(reader, yaml_member(map, "prompt"), prompts, 2, &prompt);
    }
    engine->prompt_text = prompt == 1;
    if (!status && engine->url && strncmp(engine->url, "http://", 7) != 0) {
        status = yaml_fail(reader->tree, yaml_member(map, "url"), reader->error,
                           "'url' must begin with http:// (put a TLS proxy before others)");
    }
    return status;
}

static llcuda_status read_numbers(struct config_reader *reader, const struct yaml_node *map,
                                  struct config_engine *engine)
{
    const struct {
        const char *key;
        int64_t minimum, maximum;
        uint32_t *out;
    } counts[] = {{"threads", 0, 4096, &engine->threads},
                  {"ranks", 1, CONFIG_RANKS_MAX, &engine->ranks},
                  {"context", 16, 1 << 24, &engine->context},
                  {"parallel", 1, 65536, &engine->parallel},
                  {"start_seconds", 1, 86400, &engine->start_seconds}};
    llcuda_status status = LLCUDA_OK;
    for (size_t i = 0; !status && i < sizeof counts / sizeof counts[0]; i++) {
        status = yaml_integer(reader->tree, yaml_member(map, counts[i].key), counts[i].minimum,
                              counts[i].maximum, counts[i].out, reader->error);
    }
    if (!status) {
        status = yaml_number(reader->tree, yaml_member(map, "price_per_hour"), 0, 1e9,
                             &engine->price_per_hour, reader->error);
    }
    if (!status) {
        status =
            yaml_bool(reader->tree, yaml_member(map, "baseline"), &engine->baseline, reader->error);
    }
    return status;
}

static llcuda_status read_engine(struct config_reader *reader, const struct yaml_node *node,
                                 struct config_engine *engine)
{
    bool plain = node->kind == YAML_TEXT;
    const struct yaml_node *type = plain ? node : yaml_member(node, "engine");
    llcuda_status status =
        plain ? LLCUDA_OK : yaml_known_keys(reader->tree, node, keys, reader->error);
    const char *name = yaml_member(node, "url") && !type ? "openai_server" : "custom";
    if (!status) {
        status = yaml_text(reader->tree, type, &name, reader->error);
    }
    if (status) {
        return status;
    }
    const struct catalog_row *row = catalog_find(name);
    if (!row) {
        return yaml_fail(reader->tree, type, reader->error,
                         "there is no engine '%.60s'; known are %s", name, catalog_names());
    }
    *engine = (struct config_engine){.name = row->name,
                                     .type = row->name,
                                     .kind = row->kind,
                                     .device = row->device,
                                     .options = row->options,
                                     .install = row->install,
                                     .maturity = row->maturity,
                                     .replayed = catalog_is_replayed(row->name),
                                     .parallel = row->parallel,
                                     .context = 2048,
                                     .start_seconds = 300,
                                     .ranks = 1,
                                     .model = model_for(reader->config, row->format)};
    if (!plain) {
        status = read_texts(reader, node, engine);
    }
    if (!status && !plain) {
        status = read_numbers(reader, node, engine);
    }
    if (!status && engine->ranks > 1 && engine->kind == ENGINE_HTTP) {
        status = yaml_fail(reader->tree, yaml_member(node, "ranks"), reader->error,
                           "'ranks' are for engines behind adapters, not for servers");
    }
    if (!status) {
        status = read_options(reader, yaml_member(node, "options"), &engine->options);
    }
    if (!status) {
        status = read_environment(reader, yaml_member(node, "environment"), engine);
    }
    return status ? status : read_command(reader, node, row, engine);
}

llcuda_status config_read_engines(struct config_reader *reader, const struct yaml_node *list)
{
    struct config *config = reader->config;
    uint32_t count = yaml_count(list);
    if (!list || list->kind != YAML_LIST || count == 0 || count > CONFIG_ENGINE_MAX) {
        return yaml_fail(reader->tree, list ? list : reader->tree->root, reader->error,
                         "'engines' must be a list of 1 to %u engines", CONFIG_ENGINE_MAX);
    }
    config->engines = arena_alloc(&config->arena, count, sizeof *config->engines);
    if (!config->engines) {
        return error_no_memory(reader->error, "engines", count * sizeof *config->engines);
    }
    bool baseline = false;
    for (const struct yaml_node *item = list->first; item; item = item->next) {
        struct config_engine *engine = &config->engines[config->engine_count];
        llcuda_status status = read_engine(reader, item, engine);
        for (uint32_t i = 0; !status && i < config->engine_count; i++) {
            if (strcmp(config->engines[i].name, engine->name) == 0) {
                status = yaml_fail(reader->tree, item, reader->error,
                                   "two engines are called '%.60s': give one a name", engine->name);
            }
        }
        if (!status && baseline && engine->baseline) {
            status = yaml_fail(reader->tree, item, reader->error, "there is a baseline already");
        }
        if (status) {
            return status;
        }
        baseline = baseline || engine->baseline;
        config->engine_count++;
    }
    /* The unoptimised PyTorch run is what deployments start from; otherwise the first one. */
    for (uint32_t i = 0; !baseline && i < config->engine_count; i++) {
        baseline = strcmp(config->engines[i].type, "pytorch_baseline") == 0;
        config->engines[i].baseline = baseline;
    }
    config->engines[0].baseline = config->engines[0].baseline || !baseline;
    return LLCUDA_OK;
}
