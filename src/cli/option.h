/* Options: parsed once from flags, environment and a configuration file, then only read.
 * Precedence: flag, LLCUDA_… variable, --config file, default. */
#ifndef CLI_OPTION_H
#define CLI_OPTION_H

#include "base/arena.h"
#include "base/error.h"
#include "cli/command_table.h"

enum command_id {
#define COMMAND_ENUM(id, name, ...) COMMAND_##id,
    COMMAND_LIST(COMMAND_ENUM)
#undef COMMAND_ENUM
        COMMAND_COUNT
};

#define COMMAND_BIT(id) (1u << COMMAND_##id)

#include "cli/option_table.h"

enum option_id {
#define OPTION_ENUM(id, ...) OPTION_##id,
    OPTION_LIST(OPTION_ENUM)
#undef OPTION_ENUM
        OPTION_COUNT
};

enum option_kind {
    OPTION_KIND_FLAG,    /* no argument; true, false in a variable or a file */
    OPTION_KIND_TEXT,    /* the last one counts */
    OPTION_KIND_TEXTS,   /* each one counts */
    OPTION_KIND_INTEGER, /* in [minimum, maximum] */
    OPTION_KIND_NUMBER
};

struct option_spec {
    const char *name;
    char letter;
    enum option_kind kind;
    const char *argument;
    double minimum, maximum;
    const char *fallback;
    const char *group;
    uint32_t commands; /* bits of the commands that take it */
    const char *help;
};

enum option_origin { ORIGIN_DEFAULT, ORIGIN_FILE, ORIGIN_ENVIRONMENT, ORIGIN_FLAG };

struct option_value {
    enum option_origin origin;
    const char *text; /* NULL when unset and without a default */
    int64_t integer;
    double number;
    const char **texts; /* OPTION_KIND_TEXTS */
    uint32_t text_count;
};

struct options {
    enum command_id command;
    struct option_value values[OPTION_COUNT];
    const char **arguments; /* positional, in order */
    uint32_t argument_count;
    struct arena arena; /* owns copies of what came from files */
};

/* The row of an option. */
const struct option_spec *option_spec(enum option_id id);

/* Reads everything after the subcommand's name. A message is a whole sentence; the caller adds
 * where help is to be found. `environment` is like environ. On failure options are still to be
 * deinited. */
llcuda_status options_parse(struct options *options, enum command_id command, int argument_count,
                            char **arguments, char **environment, struct llcuda_error *error);
void options_deinit(struct options *options);

/* Given by flag, variable or file, as opposed to defaulted. */
bool option_given(const struct options *options, enum option_id id);
bool option_flag(const struct options *options, enum option_id id);
/* The text, the default, or NULL. */
const char *option_text(const struct options *options, enum option_id id);
int64_t option_integer(const struct options *options, enum option_id id, int64_t otherwise);
double option_number(const struct options *options, enum option_id id, double otherwise);

/* Sets one option from text, as a flag, variable or file would. `origin` says which, for messages.
 */
llcuda_status option_set(struct options *options, enum option_id id, const char *text,
                         enum option_origin origin, struct llcuda_error *error);

/* The id of a long name for a command; OPTION_COUNT when there is none. */
enum option_id option_find(enum command_id command, const char *name, size_t length);

/* Reads a YAML file of `name: value` lines (lists for options that may be repeated) into options
 * that neither a flag nor a variable has set. UNSUPPORTED in a build without libyaml. */
llcuda_status options_read_file(struct options *options, const char *path,
                                struct llcuda_error *error);

/* Reads a YAML file of names, each with a mapping of options as above. `begin` is called for each
 * name and gives the options to fill in, or NULL after *error. */
llcuda_status options_read_groups(const char *path,
                                  struct options *(*begin)(void *user, struct text_view name,
                                                           struct llcuda_error *error),
                                  void *user, struct llcuda_error *error);

/* Appends the environment variable's name: "LLCUDA_TOP_K". */
void option_variable(enum option_id id, char *out, size_t bytes);

#endif
