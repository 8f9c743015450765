/* Subcommands: one file each, dispatched by main.c over the table in command_table.h. */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include "base/buffer.h"
#include "cli/option.h"

/* Exit statuses of the contract: done, failed, wrong usage. */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct command_spec {
    const char *name;
    const char *arguments; /* positional, for the usage line */
    const char *summary;
    const char *description;
    const char *example; /* lines of shell */
    int (*run)(struct options *options);
};

const struct command_spec *command_spec(enum command_id id);
/* COMMAND_COUNT when there is none of this name. */
enum command_id command_find(const char *name);

/* Each returns an exit status, having said on standard error what went wrong. */
#define COMMAND_DECLARE(id, name, ...) int command_##name(struct options *options);
COMMAND_LIST(COMMAND_DECLARE)
#undef COMMAND_DECLARE

/* Help in its forms, appended to `out`. */
void help_overview(struct buffer *out);
void help_command(enum command_id id, struct buffer *out);
void help_man_page(struct buffer *out);
void help_markdown(struct buffer *out);
/* false when the shell is none of bash, zsh and fish */
bool help_completion(const char *shell, struct buffer *out);

#endif
