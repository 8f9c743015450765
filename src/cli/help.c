/* Owns every form in which the option table is shown to people: --help, the man page, the options
 * page of the documentation, shell completion. Knows nothing of what the commands do. */
#include <stdio.h>
#include <stdlib.h>

#include "build_config.h"
#include "cli/console.h"

#define HELP_WIDTH  96u
#define HELP_INDENT 30u

static bool takes(enum command_id command, enum option_id id)
{
    return option_spec(id)->commands >> command & 1;
}

/* Appends words of `text`, broken so that lines that begin at `indent` stay within HELP_WIDTH. */
static void wrap(struct buffer *out, const char *text, size_t indent)
{
    size_t column = indent;
    while (*text) {
        size_t length = strcspn(text, " ");
        if (column > indent && column + 1 + length > HELP_WIDTH) {
            buffer_printf(out, "\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            buffer_append_byte(out, ' ');
            column++;
        }
        buffer_append(out, text, length);
        column += length;
        text += length;
        text += strspn(text, " ");
    }
}

static void append_option_name(struct buffer *out, const struct option_spec *spec)
{
    if (spec->letter) {
        buffer_printf(out, "-%c, ", spec->letter);
    }
    buffer_printf(out, "--%s", spec->name);
    if (spec->argument) {
        buffer_printf(out, " %s", spec->argument);
    }
}

static void append_option(struct buffer *out, const struct option_spec *spec)
{
    size_t begin = out->length;
    buffer_append_text(out, spec->letter ? "  " : "      ");
    append_option_name(out, spec);
    size_t used = out->length - begin;
    /* "…" and other characters outside ASCII take more bytes than columns; they are rare here. */
    if (used + 2 > HELP_INDENT) {
        buffer_printf(out, "\n%*s", (int)HELP_INDENT, "");
    } else {
        buffer_printf(out, "%*s", (int)(HELP_INDENT - used), "");
    }
    wrap(out, spec->help, HELP_INDENT);
    if (spec->fallback) {
        buffer_printf(out, " (default: %s)", spec->fallback);
    }
    buffer_append_byte(out, '\n');
}

/* Calls for each group that `command` has options of, in table order. */
static void each_group(enum command_id command, struct buffer *out,
                       void (*begin)(struct buffer *, const char *),
                       void (*row)(struct buffer *, const struct option_spec *))
{
    const char *done[OPTION_COUNT];
    size_t done_count = 0;
    for (int id = 0; id < OPTION_COUNT; id++) {
        const char *group = option_spec((enum option_id)id)->group;
        bool seen = !takes(command, (enum option_id)id);
        for (size_t i = 0; i < done_count; i++) {
            seen = seen || strcmp(done[i], group) == 0;
        }
        if (seen) {
            continue;
        }
        done[done_count++] = group;
        begin(out, group);
        for (int other = id; other < OPTION_COUNT; other++) {
            const struct option_spec *spec = option_spec((enum option_id)other);
            if (takes(command, (enum option_id)other) && strcmp(spec->group, group) == 0) {
                row(out, spec);
            }
        }
    }
}

static void begin_group_text(struct buffer *out, const char *group)
{
    buffer_printf(out, "\n%s:\n", group);
}

void help_overview(struct buffer *out)
{
    buffer_append_text(out,
                       "llcuda " LLCUDA_VERSION ": runs large language models on this machine\n"
                       "\nusage: llcuda COMMAND [OPTION…]\n\ncommands:\n");
    for (int id = 0; id < COMMAND_COUNT; id++) {
        const struct command_spec *spec = command_spec((enum command_id)id);
        buffer_printf(out, "  %-12s  %s\n", spec->name, spec->summary);
    }
    buffer_append_text(
        out, "\nA model is a GGUF file or a Hugging Face folder; without -m the built-in\n"
             "demonstration model answers, so this works at once:\n\n"
             "  llcuda infer -p \"What is 2+2?\"\n"
             "  llcuda chat\n\n"
             "`llcuda COMMAND --help` lists the options of a command. Every option is also\n"
             "an environment variable (--top-k: LLCUDA_TOP_K) and a key of a YAML file\n"
             "given with --config. Exit status: 0 done, 1 failed, 2 wrong usage.\n");
}

void help_command(enum command_id id, struct buffer *out)
{
    const struct command_spec *spec = command_spec(id);
    buffer_printf(out, "usage: llcuda %s [OPTION…] %s\n\n", spec->name, spec->arguments);
    wrap(out, spec->description, 0);
    buffer_append_text(out, "\n");
    each_group(id, out, begin_group_text, append_option);
    buffer_append_text(out, "\nexamples:\n");
    for (const char *line = spec->example; line && *line;) {
        size_t length = strcspn(line, "\n");
        buffer_printf(out, "  %.*s\n", (int)length, line);
        line += length + (line[length] == '\n');
    }
}

/* troff: a leading point or quote would be a request, a backslash an escape, a minus a hyphen. */
static void append_troff(struct buffer *out, const char *text)
{
    for (const char *c = text; *c; c++) {
        if (c == text && (*c == '.' || *c == '\'')) {
            buffer_append_text(out, "\\&");
        }
        if (*c == '\\' || *c == '-') {
            buffer_append_byte(out, '\\');
        }
        buffer_append_byte(out, *c);
    }
}

static void begin_group_man(struct buffer *out, const char *group)
{
    buffer_printf(out, ".PP\n%s:\n", group);
}

static void append_option_man(struct buffer *out, const struct option_spec *spec)
{
    struct buffer name = {0};
    append_option_name(&name, spec);
    buffer_append_text(out, ".TP\n.B ");
    append_troff(out, buffer_text(&name));
    buffer_append_byte(out, '\n');
    append_troff(out, spec->help);
    if (spec->fallback) {
        buffer_append_text(out, " (default: ");
        append_troff(out, spec->fallback);
        buffer_append_byte(out, ')');
    }
    buffer_append_byte(out, '\n');
    buffer_deinit(&name);
}

void help_man_page(struct buffer *out)
{
    buffer_append_text(out, ".TH LLCUDA 1 \"\" \"llcuda " LLCUDA_VERSION "\" \"User Commands\"\n"
                            ".SH NAME\nllcuda \\- runs large language models\n.SH SYNOPSIS\n"
                            ".B llcuda\n.I COMMAND\n[\\fIOPTION\\fR…]\n.SH DESCRIPTION\n"
                            "Loads GGUF files and Hugging Face folders as they are and generates "
                            "text with them. Standard output carries only the result; messages "
                            "go to standard error. Every option is also an environment variable "
                            "(\\-\\-top\\-k: LLCUDA_TOP_K) and a key of a YAML file given with "
                            "\\-\\-config.\n");
    for (int id = 0; id < COMMAND_COUNT; id++) {
        const struct command_spec *spec = command_spec((enum command_id)id);
        buffer_printf(out, ".SH \"%s\"\n", spec->name);
        buffer_printf(out, ".B llcuda %s\n[\\fIOPTION\\fR…] %s\n.PP\n", spec->name,
                      spec->arguments);
        append_troff(out, spec->description);
        buffer_append_text(out, "\n");
        each_group((enum command_id)id, out, begin_group_man, append_option_man);
    }
    buffer_append_text(out, ".SH EXIT STATUS\n0 done, 1 failed, 2 wrong usage.\n");
}

static void begin_group_markdown(struct buffer *out, const char *group)
{
    buffer_printf(out, "\n%s:\n\n| option | meaning |\n| --- | --- |\n", group);
}

static void append_option_markdown(struct buffer *out, const struct option_spec *spec)
{
    buffer_append_text(out, "| `");
    append_option_name(out, spec);
    buffer_append_text(out, "` | ");
    for (const char *c = spec->help; *c; c++) {
        buffer_append_text(out, *c == '|' ? "\\" : "");
        buffer_append_byte(out, *c);
    }
    if (spec->fallback) {
        buffer_printf(out, " (default: `%s`)", spec->fallback);
    }
    buffer_append_text(out, " |\n");
}

void help_markdown(struct buffer *out)
{
    buffer_append_text(
        out,
        "# Options\n\nWritten by `llcuda --options-page`; do not edit.\n\nEvery option is also "
        "an environment variable (`--top-k`: `LLCUDA_TOP_K`) and a key of a YAML\nfile given "
        "with `--config`. A flag wins over a variable, a variable over the file.\n");
    for (int id = 0; id < COMMAND_COUNT; id++) {
        const struct command_spec *spec = command_spec((enum command_id)id);
        buffer_printf(out, "\n## llcuda %s %s\n\n%s.\n\n", spec->name, spec->arguments,
                      spec->summary);
        wrap(out, spec->description, 0);
        buffer_append_byte(out, '\n');
        each_group((enum command_id)id, out, begin_group_markdown, append_option_markdown);
        buffer_printf(out, "\n```sh\n%s\n```\n", spec->example);
    }
}

static void append_option_words(struct buffer *out, enum command_id command)
{
    for (int id = 0; id < OPTION_COUNT; id++) {
        if (takes(command, (enum option_id)id)) {
            buffer_printf(out, "--%s ", option_spec((enum option_id)id)->name);
        }
    }
}

static void completion_bash(struct buffer *out)
{
    buffer_append_text(out, "_llcuda() {\n"
                            "  local word=${COMP_WORDS[COMP_CWORD]} words=\n"
                            "  case ${COMP_WORDS[1]} in\n");
    for (int id = 0; id < COMMAND_COUNT; id++) {
        buffer_printf(out, "  %s) words='", command_spec((enum command_id)id)->name);
        append_option_words(out, (enum command_id)id);
        buffer_append_text(out, "' ;;\n");
    }
    buffer_append_text(out, "  esac\n  if [ \"$COMP_CWORD\" -eq 1 ]; then\n    words='");
    for (int id = 0; id < COMMAND_COUNT; id++) {
        buffer_printf(out, "%s ", command_spec((enum command_id)id)->name);
    }
    buffer_append_text(out, "--help --version'\n  elif [ \"${word#-}\" = \"$word\" ]; then\n"
                            "    compopt -o default\n    COMPREPLY=()\n    return\n  fi\n"
                            "  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n}\n"
                            "complete -F _llcuda llcuda\n");
}

/* Single quotes end a shell word: written as '\'' inside one. */
static void append_shell_quoted(struct buffer *out, const char *text)
{
    for (const char *c = text; *c; c++) {
        buffer_append_text(out, *c == '\'' ? "'\\'" : "");
        buffer_append_byte(out, *c);
    }
}

static void completion_fish(struct buffer *out)
{
    for (int id = 0; id < COMMAND_COUNT; id++) {
        const struct command_spec *spec = command_spec((enum command_id)id);
        buffer_printf(out, "complete -c llcuda -n __fish_use_subcommand -f -a %s -d '", spec->name);
        append_shell_quoted(out, spec->summary);
        buffer_append_text(out, "'\n");
        for (int option = 0; option < OPTION_COUNT; option++) {
            const struct option_spec *row = option_spec((enum option_id)option);
            if (!takes((enum command_id)id, (enum option_id)option)) {
                continue;
            }
            buffer_printf(out, "complete -c llcuda -n '__fish_seen_subcommand_from %s' -l %s",
                          spec->name, row->name);
            if (row->letter) {
                buffer_printf(out, " -s %c", row->letter);
            }
            buffer_printf(out, "%s -d '", row->argument ? " -r" : "");
            append_shell_quoted(out, row->help);
            buffer_append_text(out, "'\n");
        }
    }
}

bool help_completion(const char *shell, struct buffer *out)
{
    if (strcmp(shell, "bash") == 0) {
        completion_bash(out);
        return true;
    }
    if (strcmp(shell, "zsh") == 0) {
        buffer_append_text(out, "autoload -U +X bashcompinit && bashcompinit\n");
        completion_bash(out);
        return true;
    }
    if (strcmp(shell, "fish") == 0) {
        completion_fish(out);
        return true;
    }
    return false;
}

int command_completion(struct options *options)
{
    struct buffer out = {0};
    if (options->argument_count != 1 || !help_completion(options->arguments[0], &out)) {
        fprintf(stderr, "llcuda completion: which shell? bash, zsh or fish\n");
        return EXIT_USAGE;
    }
    bool written = console_write_buffer(&out);
    buffer_deinit(&out);
    return written ? EXIT_DONE : EXIT_FAILED;
}
