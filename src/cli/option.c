/* Owns the reading of options. Everything is checked against the table before a command runs, so
 * that a command reads ready values. One thread, before any other exists. */
#include "cli/option.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const struct option_spec specs[OPTION_COUNT] = {
#define OPTION_ROW(id, name, letter, kind, argument, minimum, maximum, fallback, group, commands, \
                   help)                                                                          \
    [OPTION_##id] = {name,     letter, OPTION_KIND_##kind, argument, minimum, maximum,            \
                     fallback, group,  commands,           help},
    OPTION_LIST(OPTION_ROW)
#undef OPTION_ROW
};

const struct option_spec *option_spec(enum option_id id)
{
    return &specs[id];
}

static bool takes(enum command_id command, enum option_id id)
{
    return specs[id].commands >> command & 1;
}

enum option_id option_find(enum command_id command, const char *name, size_t length)
{
    for (int id = 0; id < OPTION_COUNT; id++) {
        if (takes(command, (enum option_id)id) && strlen(specs[id].name) == length &&
            memcmp(specs[id].name, name, length) == 0) {
            return (enum option_id)id;
        }
    }
    return OPTION_COUNT;
}

static enum option_id find_letter(enum command_id command, char letter)
{
    for (int id = 0; id < OPTION_COUNT; id++) {
        if (takes(command, (enum option_id)id) && specs[id].letter == letter) {
            return (enum option_id)id;
        }
    }
    return OPTION_COUNT;
}

/* Edit distance, for "did you mean": names are short, two rows are enough. */
static size_t distance(const char *a, size_t a_length, const char *b)
{
    size_t row[64];
    size_t b_length = strlen(b);
    if (b_length >= 63) {
        return SIZE_MAX;
    }
    for (size_t j = 0; j <= b_length; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a_length; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            size_t shorter = row[j] < row[j - 1] ? row[j] : row[j - 1];
            row[j] = replaced < shorter + 1 ? replaced : shorter + 1;
        }
    }
    return row[b_length];
}

static llcuda_status unknown_option(enum command_id command, const char *name, size_t length,
                                    struct llcuda_error *error)
{
    const char *nearest = NULL;
    size_t best = 4;
    for (int id = 0; id < OPTION_COUNT; id++) {
        size_t edits = length < 60 ? distance(name, length, specs[id].name) : SIZE_MAX;
        if (takes(command, (enum option_id)id) && edits < best) {
            best = edits;
            nearest = specs[id].name;
        }
    }
    if (nearest) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "unknown option '--%.*s'; did you mean '--%s'?",
                         length > 100 ? 100 : (int)length, name, nearest);
    }
    return error_set(error, LLCUDA_INVALID_ARGUMENT, "unknown option '--%.*s'",
                     length > 100 ? 100 : (int)length, name);
}

static llcuda_status set_flag(struct option_value *value, const struct option_spec *spec,
                              const char *text, struct llcuda_error *error)
{
    static const char *const yes[] = {"true", "1", "yes", "on"};
    static const char *const no[] = {"false", "0", "no", "off"};
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
        if (!text || strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            value->integer = !text || strcmp(text, yes[i]) == 0;
            return LLCUDA_OK;
        }
    }
    return error_set(error, LLCUDA_INVALID_ARGUMENT, "'%s' takes true or false, not '%.100s'",
                     spec->name, text);
}

static llcuda_status set_number(struct option_value *value, const struct option_spec *spec,
                                const char *text, struct llcuda_error *error)
{
    bool integer = spec->kind == OPTION_KIND_INTEGER;
    char *end;
    errno = 0;
    double number = strtod(text, &end);
    bool number_read = end != text && *end == 0 && !isspace((unsigned char)*text);
    if (!number_read || !isfinite(number) || (integer && number != floor(number))) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "--%s takes %s, not '%.100s'", spec->name,
                         integer ? "a whole number" : "a number", text);
    }
    if (number < spec->minimum || number > spec->maximum) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "--%s is %.17g, outside %.17g to %.17g",
                         spec->name, number, spec->minimum, spec->maximum);
    }
    value->number = number;
    value->integer = (int64_t)number;
    return LLCUDA_OK;
}

static llcuda_status add_text(struct options *options, struct option_value *value, const char *text,
                              struct llcuda_error *error)
{
    const char **texts =
        arena_alloc(&options->arena, (size_t)value->text_count + 1, sizeof *value->texts);
    if (!texts) {
        return error_no_memory(error, "options", sizeof *texts);
    }
    for (uint32_t i = 0; i < value->text_count; i++) {
        texts[i] = value->texts[i];
    }
    texts[value->text_count++] = text;
    value->texts = texts;
    return LLCUDA_OK;
}

llcuda_status option_set(struct options *options, enum option_id id, const char *text,
                         enum option_origin origin, struct llcuda_error *error)
{
    const struct option_spec *spec = &specs[id];
    struct option_value *value = &options->values[id];
    if (value->origin > origin) {
        return LLCUDA_OK;
    }
    if (value->origin < origin) {
        *value = (struct option_value){.origin = origin};
    }
    value->text = text;
    switch (spec->kind) {
    case OPTION_KIND_FLAG:
        return set_flag(value, spec, text, error);
    case OPTION_KIND_INTEGER:
    case OPTION_KIND_NUMBER:
        return set_number(value, spec, text, error);
    case OPTION_KIND_TEXTS:
        return add_text(options, value, text, error);
    case OPTION_KIND_TEXT:
        break;
    }
    return LLCUDA_OK;
}

/* arguments[*index] begins with "--". */
static llcuda_status parse_long(struct options *options, int count, char **arguments, int *index,
                                struct llcuda_error *error)
{
    const char *name = arguments[*index] + 2;
    const char *equals = strchr(name, '=');
    size_t length = equals ? (size_t)(equals - name) : strlen(name);
    enum option_id id = option_find(options->command, name, length);
    if (id == OPTION_COUNT) {
        return unknown_option(options->command, name, length, error);
    }
    if (specs[id].kind == OPTION_KIND_FLAG) {
        return option_set(options, id, equals ? equals + 1 : NULL, ORIGIN_FLAG, error);
    }
    if (equals) {
        return option_set(options, id, equals + 1, ORIGIN_FLAG, error);
    }
    if (*index + 1 >= count) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "--%s needs %s", specs[id].name,
                         specs[id].argument);
    }
    *index += 1;
    return option_set(options, id, arguments[*index], ORIGIN_FLAG, error);
}

/* arguments[*index] is "-x", "-xVALUE" or several flags "-xy". */
static llcuda_status parse_letters(struct options *options, int count, char **arguments, int *index,
                                   struct llcuda_error *error)
{
    const char *letters = arguments[*index] + 1;
    while (*letters) {
        enum option_id id = find_letter(options->command, *letters);
        if (id == OPTION_COUNT) {
            return error_set(error, LLCUDA_INVALID_ARGUMENT, "unknown option '-%c'", *letters);
        }
        letters++;
        if (specs[id].kind == OPTION_KIND_FLAG) {
            llcuda_status status = option_set(options, id, NULL, ORIGIN_FLAG, error);
            if (status) {
                return status;
            }
            continue;
        }
        if (*letters) {
            return option_set(options, id, letters, ORIGIN_FLAG, error);
        }
        if (*index + 1 >= count) {
            return error_set(error, LLCUDA_INVALID_ARGUMENT, "-%c needs %s", specs[id].letter,
                             specs[id].argument);
        }
        *index += 1;
        return option_set(options, id, arguments[*index], ORIGIN_FLAG, error);
    }
    return LLCUDA_OK;
}

static llcuda_status parse_flags(struct options *options, int count, char **arguments,
                                 struct llcuda_error *error)
{
    bool only_arguments = false;
    for (int i = 0; i < count; i++) {
        llcuda_status status = LLCUDA_OK;
        if (only_arguments || arguments[i][0] != '-' || arguments[i][1] == 0) {
            options->arguments[options->argument_count++] = arguments[i];
        } else if (strcmp(arguments[i], "--") == 0) {
            only_arguments = true;
        } else if (arguments[i][1] == '-') {
            status = parse_long(options, count, arguments, &i, error);
        } else {
            status = parse_letters(options, count, arguments, &i, error);
        }
        if (status) {
            return status;
        }
    }
    return LLCUDA_OK;
}

void option_variable(enum option_id id, char *out, size_t bytes)
{
    snprintf(out, bytes, "LLCUDA_%s", specs[id].name);
    for (char *c = out; *c; c++) {
        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    }
}

static llcuda_status read_environment(struct options *options, char **environment,
                                      struct llcuda_error *error)
{
    for (int id = 0; id < OPTION_COUNT; id++) {
        char variable[64];
        option_variable((enum option_id)id, variable, sizeof variable);
        size_t length = strlen(variable);
        for (char **entry = environment; takes(options->command, (enum option_id)id) && *entry;
             entry++) {
            if (strncmp(*entry, variable, length) != 0 || (*entry)[length] != '=') {
                continue;
            }
            llcuda_status status = option_set(options, (enum option_id)id, *entry + length + 1,
                                              ORIGIN_ENVIRONMENT, error);
            if (status) {
                return error_prefix(error, status, "environment variable %s", variable);
            }
        }
    }
    return LLCUDA_OK;
}

llcuda_status options_parse(struct options *options, enum command_id command, int argument_count,
                            char **arguments, char **environment, struct llcuda_error *error)
{
    *options = (struct options){.command = command};
    arena_init(&options->arena, 0);
    options->arguments =
        arena_alloc(&options->arena, (size_t)argument_count + 1, sizeof *options->arguments);
    if (!options->arguments) {
        return error_no_memory(error, "options", (uint64_t)argument_count);
    }
    llcuda_status status = parse_flags(options, argument_count, arguments, error);
    if (!status) {
        status = read_environment(options, environment, error);
    }
    const char *file = option_text(options, OPTION_CONFIG);
    /* A benchmark's file says what to measure; it holds no options. */
    if (!status && file && command != COMMAND_BENCH) {
        status = options_read_file(options, file, error);
    }
    return status;
}

void options_deinit(struct options *options)
{
    arena_deinit(&options->arena);
}

bool option_given(const struct options *options, enum option_id id)
{
    return options->values[id].origin != ORIGIN_DEFAULT;
}

bool option_flag(const struct options *options, enum option_id id)
{
    return option_given(options, id) && options->values[id].integer != 0;
}

const char *option_text(const struct options *options, enum option_id id)
{
    return option_given(options, id) ? options->values[id].text : specs[id].fallback;
}

int64_t option_integer(const struct options *options, enum option_id id, int64_t otherwise)
{
    return option_given(options, id) ? options->values[id].integer : otherwise;
}

double option_number(const struct options *options, enum option_id id, double otherwise)
{
    return option_given(options, id) ? options->values[id].number : otherwise;
}
