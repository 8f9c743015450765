/* Owns the reading of a --config file: a flat YAML mapping from long option names to values, lists
 * for options that may be repeated. No aliases, tags or nesting: a configuration is no program. */
#include "build_config.h"
#include "cli/option.h"

#if LLCUDA_HAVE_YAML

#include <stdio.h>
#include <yaml.h>

#include "base/file.h"
#include "base/limits.h"

struct reader {
    yaml_parser_t parser;
    yaml_event_t event; /* the current one; deleted before the next is read */
    const char *path;
    struct options *options;
    struct llcuda_error *error;
};

static llcuda_status fail_at(struct reader *reader, const yaml_mark_t *mark, const char *what)
{
    return error_set_at(reader->error, LLCUDA_BAD_FORMAT, mark->index, "%s:%zu:%zu: %s",
                        reader->path, mark->line + 1, mark->column + 1, what);
}

static llcuda_status next(struct reader *reader)
{
    yaml_event_delete(&reader->event);
    if (!yaml_parser_parse(&reader->parser, &reader->event)) {
        const char *problem = reader->parser.problem;
        return fail_at(reader, &reader->parser.problem_mark, problem ? problem : "no valid YAML");
    }
    if (reader->event.type == YAML_ALIAS_EVENT) {
        return fail_at(reader, &reader->event.start_mark, "aliases are not allowed here");
    }
    return LLCUDA_OK;
}

static llcuda_status expect(struct reader *reader, yaml_event_type_t type, const char *what)
{
    llcuda_status status = next(reader);
    if (!status && reader->event.type != type) {
        status = fail_at(reader, &reader->event.start_mark, what);
    }
    return status;
}

/* Sets the option from the current scalar event. */
static llcuda_status set_from_scalar(struct reader *reader, enum option_id id)
{
    const char *data = (const char *)reader->event.data.scalar.value;
    struct text_view copy = arena_copy_text(&reader->options->arena,
                                            text_view_make(data, reader->event.data.scalar.length));
    if (!copy.data) {
        return error_no_memory(reader->error, reader->path, reader->event.data.scalar.length);
    }
    llcuda_status status = option_set(reader->options, id, copy.data, ORIGIN_FILE, reader->error);
    if (status) {
        return error_prefix(reader->error, status, "%s:%zu", reader->path,
                            reader->event.start_mark.line + 1);
    }
    return LLCUDA_OK;
}

static llcuda_status read_value(struct reader *reader, enum option_id id)
{
    llcuda_status status = next(reader);
    if (status) {
        return status;
    }
    if (reader->event.type == YAML_SCALAR_EVENT) {
        return set_from_scalar(reader, id);
    }
    if (reader->event.type != YAML_SEQUENCE_START_EVENT ||
        option_spec(id)->kind != OPTION_KIND_TEXTS) {
        return fail_at(reader, &reader->event.start_mark, "a single value was expected here");
    }
    for (;;) {
        status = next(reader);
        if (status || reader->event.type == YAML_SEQUENCE_END_EVENT) {
            return status;
        }
        if (reader->event.type != YAML_SCALAR_EVENT) {
            return fail_at(reader, &reader->event.start_mark, "a list of plain values is expected");
        }
        status = set_from_scalar(reader, id);
        if (status) {
            return status;
        }
    }
}

/* An option that exists but not for this command is fine: one file may serve all commands. */
static bool known_anywhere(const char *name, size_t length)
{
    for (int command = 0; command < COMMAND_COUNT; command++) {
        if (option_find((enum command_id)command, name, length) != OPTION_COUNT) {
            return true;
        }
    }
    return false;
}

static llcuda_status skip_value(struct reader *reader)
{
    int depth = 0;
    do {
        llcuda_status status = next(reader);
        if (status) {
            return status;
        }
        depth += reader->event.type == YAML_SEQUENCE_START_EVENT;
        depth -= reader->event.type == YAML_SEQUENCE_END_EVENT;
    } while (depth > 0);
    return LLCUDA_OK;
}

static llcuda_status read_mapping(struct reader *reader)
{
    uint8_t seen[OPTION_COUNT] = {0};
    for (;;) {
        llcuda_status status = next(reader);
        if (status || reader->event.type == YAML_MAPPING_END_EVENT) {
            return status;
        }
        if (reader->event.type != YAML_SCALAR_EVENT) {
            return fail_at(reader, &reader->event.start_mark, "the name of an option is expected");
        }
        const char *name = (const char *)reader->event.data.scalar.value;
        size_t length = reader->event.data.scalar.length;
        enum option_id id = option_find(reader->options->command, name, length);
        if (id == OPTION_COUNT) {
            if (!known_anywhere(name, length)) {
                char what[96];
                snprintf(what, sizeof what, "there is no option '%.60s'", name);
                return fail_at(reader, &reader->event.start_mark, what);
            }
            status = skip_value(reader);
        } else if (seen[id]++) {
            status = fail_at(reader, &reader->event.start_mark, "this option is set twice");
        } else {
            status = read_value(reader, id);
        }
        if (status) {
            return status;
        }
    }
}

/* Opens the file and reads up to its mapping; *empty when there is none. To be ended either way. */
static llcuda_status begin_file(struct reader *reader, struct buffer *contents, bool *empty)
{
    *empty = true;
    llcuda_status status = file_read_all(reader->path, LIMIT_CONFIG_BYTES, contents, reader->error);
    if (status) {
        return status;
    }
    yaml_parser_set_input_string(&reader->parser, (const unsigned char *)buffer_text(contents),
                                 contents->length);
    status = expect(reader, YAML_STREAM_START_EVENT, "a YAML stream was expected");
    if (!status) {
        status = next(reader);
    }
    if (!status && reader->event.type == YAML_DOCUMENT_START_EVENT) {
        *empty = false;
        status = expect(reader, YAML_MAPPING_START_EVENT,
                        "lines of the form 'name: value' were expected");
    }
    return status;
}

static void end_file(struct reader *reader, struct buffer *contents)
{
    yaml_event_delete(&reader->event);
    yaml_parser_delete(&reader->parser);
    buffer_deinit(contents);
}

llcuda_status options_read_file(struct options *options, const char *path,
                                struct llcuda_error *error)
{
    struct buffer contents = {0};
    struct reader reader = {.path = path, .options = options, .error = error};
    bool empty;
    if (!yaml_parser_initialize(&reader.parser)) {
        return error_no_memory(error, "a YAML reader", sizeof reader.parser);
    }
    llcuda_status status = begin_file(&reader, &contents, &empty);
    if (!status && !empty) {
        status = read_mapping(&reader);
    }
    end_file(&reader, &contents);
    return status;
}

/* One name with its options; *more is false at the end of the list. */
static llcuda_status read_group(struct reader *reader,
                                struct options *(*begin)(void *user, struct text_view name,
                                                         struct llcuda_error *error),
                                void *user, bool *more)
{
    llcuda_status status = next(reader);
    if (status || reader->event.type == YAML_MAPPING_END_EVENT) {
        *more = false;
        return status;
    }
    if (reader->event.type != YAML_SCALAR_EVENT) {
        return fail_at(reader, &reader->event.start_mark, "a name is expected");
    }
    struct text_view name = text_view_make((const char *)reader->event.data.scalar.value,
                                           reader->event.data.scalar.length);
    reader->options = begin(user, name, reader->error);
    if (!reader->options) {
        return reader->error->status;
    }
    status = expect(reader, YAML_MAPPING_START_EVENT,
                    "a model is a mapping of options: 'model: FILE' and others");
    return status ? status : read_mapping(reader);
}

llcuda_status options_read_groups(const char *path,
                                  struct options *(*begin)(void *user, struct text_view name,
                                                           struct llcuda_error *error),
                                  void *user, struct llcuda_error *error)
{
    struct buffer contents = {0};
    struct reader reader = {.path = path, .error = error};
    bool empty;
    if (!yaml_parser_initialize(&reader.parser)) {
        return error_no_memory(error, "a YAML reader", sizeof reader.parser);
    }
    llcuda_status status = begin_file(&reader, &contents, &empty);
    for (bool more = !empty; more && !status;) {
        status = read_group(&reader, begin, user, &more);
    }
    end_file(&reader, &contents);
    return status;
}

#else

llcuda_status options_read_groups(const char *path,
                                  struct options *(*begin)(void *user, struct text_view name,
                                                           struct llcuda_error *error),
                                  void *user, struct llcuda_error *error)
{
    (void)begin;
    (void)user;
    return error_set(error, LLCUDA_UNSUPPORTED,
                     "this build reads no YAML files ('%s'): it was made without libyaml", path);
}

llcuda_status options_read_file(struct options *options, const char *path,
                                struct llcuda_error *error)
{
    (void)options;
    return error_set(error, LLCUDA_UNSUPPORTED,
                     "this build reads no --config files ('%s'): it was made without libyaml",
                     path);
}

#endif
