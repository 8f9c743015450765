/* The program's entry: finds the subcommand, reads its options, and runs it. */
#include <stdio.h>
#include <stdlib.h>

#include "build_config.h"
#include "cli/open.h"

extern char **environ;

static const struct command_spec commands[COMMAND_COUNT] = {
#define COMMAND_ROW(id, name, arguments, summary, description, example) \
    [COMMAND_##id] = {#name, arguments, summary, description, example, command_##name},
    COMMAND_LIST(COMMAND_ROW)
#undef COMMAND_ROW
};

const struct command_spec *command_spec(enum command_id id)
{
    return &commands[id];
}

enum command_id command_find(const char *name)
{
    for (int id = 0; id < COMMAND_COUNT; id++) {
        if (strcmp(commands[id].name, name) == 0) {
            return (enum command_id)id;
        }
    }
    return COMMAND_COUNT;
}

static int print(void (*make)(struct buffer *))
{
    struct buffer out = {0};
    make(&out);
    bool written = console_write_buffer(&out);
    buffer_deinit(&out);
    return written ? EXIT_DONE : EXIT_FAILED;
}

static int print_command_help(enum command_id command)
{
    struct buffer out = {0};
    help_command(command, &out);
    bool written = console_write_buffer(&out);
    buffer_deinit(&out);
    return written ? EXIT_DONE : EXIT_FAILED;
}

static int run_command(enum command_id command, int argument_count, char **arguments)
{
    struct options options;
    struct llcuda_error error = {0};
    llcuda_status status =
        options_parse(&options, command, argument_count, arguments, environ, &error);
    int result;
    if (option_flag(&options, OPTION_HELP)) {
        result = print_command_help(command);
    } else if (status == LLCUDA_INVALID_ARGUMENT) {
        result = console_usage(command, "%s", error.message);
    } else if (status) {
        result = console_fail(&options, &error);
    } else {
        result = open_check_options(&options);
        result = result ? result : commands[command].run(&options);
    }
    options_deinit(&options);
    return result;
}

int main(int argument_count, char **arguments)
{
    console_install_signals();
    const char *first = argument_count > 1 ? arguments[1] : NULL;
    if (!first) {
        struct buffer out = {0};
        help_overview(&out);
        fputs(buffer_text(&out), stderr);
        buffer_deinit(&out);
        return EXIT_USAGE;
    }
    if (strcmp(first, "--version") == 0 || strcmp(first, "version") == 0) {
        return console_write("llcuda " LLCUDA_VERSION "\n", strlen("llcuda " LLCUDA_VERSION "\n"))
                   ? EXIT_DONE
                   : EXIT_FAILED;
    }
    if (strcmp(first, "--man-page") == 0) {
        return print(help_man_page);
    }
    if (strcmp(first, "--options-page") == 0) {
        return print(help_markdown);
    }
    bool help =
        strcmp(first, "help") == 0 || strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0;
    if (help && argument_count == 2) {
        return print(help_overview);
    }
    const char *name = help ? arguments[2] : first;
    enum command_id command = command_find(name);
    if (command == COMMAND_COUNT) {
        fprintf(stderr, "llcuda: there is no command '%s' (llcuda --help lists them)\n", name);
        return EXIT_USAGE;
    }
    return help ? print_command_help(command)
                : run_command(command, argument_count - 2, arguments + 2);
}
