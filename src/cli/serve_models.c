/* Owns the way from options to the list of models that are served. Each model has a set of options
 * of its own: what it says itself, and the program's for the rest. */
#include "cli/serve_models.h"

#include <stdlib.h>

#define MODELS_MAX   64u
#define BUILTIN_NAME "llcuda-demo"

/* Room for one more model, with empty options of its own; NULL without memory or above the limit.
 */
static struct options *add(struct serve_models *models, struct options *options)
{
    uint32_t count = models->count;
    struct options *own = calloc(1, sizeof *own);
    struct model_config *configs =
        count < MODELS_MAX ? realloc(models->configs, (count + 1) * sizeof *configs) : NULL;
    models->configs = configs ? configs : models->configs;
    struct options **owned =
        configs ? realloc(models->owned, (count + 1) * sizeof(struct options *)) : NULL;
    models->owned = owned ? owned : models->owned;
    if (!own || !configs || !owned) {
        free(own);
        return NULL;
    }
    own->command = options->command;
    arena_init(&own->arena, 0);
    configs[count] = (struct model_config){0};
    owned[count] = own;
    models->count++;
    return own;
}

/* What the model's own options leave open is taken from the program's. */
static void inherit(struct options *own, const struct options *options)
{
    for (int id = 0; id < OPTION_COUNT; id++) {
        if (id != OPTION_MODEL && own->values[id].origin == ORIGIN_DEFAULT) {
            own->values[id] = options->values[id];
        }
    }
}

/* The last part of a path without ".gguf". */
static struct text_view name_of_path(const char *path)
{
    struct text_view text = text_view_of(path);
    while (text.length > 1 && text.data[text.length - 1] == '/') {
        text.length--;
    }
    for (size_t i = text.length; i > 0; i--) {
        if (text.data[i - 1] == '/' && i < text.length) {
            text = text_view_make(text.data + i, text.length - i);
            break;
        }
    }
    if (text.length > 5 && memcmp(text.data + text.length - 5, ".gguf", 5) == 0) {
        text.length -= 5;
    }
    return text;
}

/* "NAME=PATH" or "PATH": what stands before '=' is a name when it is no path itself. */
static struct text_view split_name(const char **model)
{
    const char *equals = strchr(*model, '=');
    if (equals && equals > *model && !memchr(*model, '/', (size_t)(equals - *model))) {
        struct text_view name = text_view_make(*model, (size_t)(equals - *model));
        *model = equals + 1;
        return name;
    }
    return name_of_path(*model);
}

static int add_model(struct serve_models *models, struct options *options, const char *model)
{
    struct options *own = add(models, options);
    if (!own) {
        return console_usage(options->command, "at most %u models can be served", MODELS_MAX);
    }
    struct model_config *config = &models->configs[models->count - 1];
    const char *alias = models->count == 1 ? option_text(options, OPTION_ALIAS) : NULL;
    struct text_view name = model ? split_name(&model) : text_view_of(BUILTIN_NAME);
    inherit(own, options);
    own->values[OPTION_MODEL] =
        (struct option_value){.origin = model ? ORIGIN_FLAG : ORIGIN_DEFAULT, .text = model};
    config->name = alias ? alias : arena_copy_text(&own->arena, name).data;
    config->preload = models->count == 1 || option_flag(options, OPTION_PRELOAD);
    return config->name ? open_engine_options(own, &config->engine)
                        : console_usage(options->command, "not enough memory for the models");
}

/* ------------------------------------------------------------------ --models */

struct group_reader {
    struct serve_models *models;
    struct options *options;
};

static struct options *begin_group(void *user, struct text_view name, struct llcuda_error *error)
{
    struct group_reader *reader = user;
    struct options *own = add(reader->models, reader->options);
    if (!own) {
        error_set(error, LLCUDA_LIMIT, "at most %u models can be served", MODELS_MAX);
        return NULL;
    }
    struct model_config *config = &reader->models->configs[reader->models->count - 1];
    config->name = arena_copy_text(&own->arena, name).data;
    if (!config->name) {
        error_no_memory(error, "a model's name", name.length);
        return NULL;
    }
    return own;
}

static int read_file(struct serve_models *models, struct options *options, const char *path)
{
    struct llcuda_error error = {0};
    struct group_reader reader = {models, options};
    bool any = false;
    if (options_read_groups(path, begin_group, &reader, &error) != LLCUDA_OK) {
        return console_fail(options, &error);
    }
    for (uint32_t i = 0; i < models->count; i++) {
        struct options *own = models->owned[i];
        inherit(own, options);
        int result = open_engine_options(own, &models->configs[i].engine);
        if (result) {
            return result;
        }
        models->configs[i].preload = option_flag(own, OPTION_PRELOAD);
        any = any || models->configs[i].preload;
    }
    if (models->count == 0) {
        error_set(&error, LLCUDA_BAD_FORMAT, "'%s' names no model", path);
        return console_fail(options, &error);
    }
    models->configs[0].preload = models->configs[0].preload || !any;
    return EXIT_DONE;
}

int serve_models_read(struct serve_models *models, struct options *options)
{
    const char *path = option_text(options, OPTION_MODELS);
    const struct option_value *given = &options->values[OPTION_MODEL];
    if (path && given->text_count > 0) {
        return console_usage(options->command, "-m and --models do not go together");
    }
    if (path) {
        return read_file(models, options, path);
    }
    if (given->text_count == 0) {
        return add_model(models, options, NULL);
    }
    for (uint32_t i = 0; i < given->text_count; i++) {
        int result = add_model(models, options, given->texts[i]);
        if (result) {
            return result;
        }
    }
    return EXIT_DONE;
}

void serve_models_deinit(struct serve_models *models)
{
    for (uint32_t i = 0; i < models->count; i++) {
        options_deinit(models->owned[i]);
        free(models->owned[i]);
    }
    free(models->owned);
    free(models->configs);
}
