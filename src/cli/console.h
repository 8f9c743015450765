/* The program's side of the terminal: messages on standard error, results on standard output,
 * progress where somebody watches, and signals. */
#ifndef CLI_CONSOLE_H
#define CLI_CONSOLE_H

#include "base/log.h"
#include "cli/command.h"

/* Prints "llcuda COMMAND: sentence" and returns EXIT_FAILED. */
int console_fail(const struct options *options, const struct llcuda_error *error);
/* The same for wrong usage, with a pointer to --help; returns EXIT_USAGE. */
int console_usage(enum command_id command, const char *format, ...) BASE_PRINTF(2, 3);

/* The sink that --log-level asks for; false (after a message) when it names no level. */
bool console_log_sink(const struct options *options, struct log_sink *sink);

/* A line on standard error that is rewritten in place, when that is a terminal. */
struct console_progress {
    const char *what;
    uint64_t last_ns;
    bool shown;
};
void console_progress_begin(struct console_progress *progress, const char *what);
/* Fits device_progress and the public progress callback; false once the user has interrupted. */
bool console_progress_report(void *progress, uint64_t done, uint64_t total);
void console_progress_end(struct console_progress *progress);

/* Writes all of it; false, after a message, when standard output is closed or full. */
bool console_write(const void *data, size_t bytes);
bool console_write_buffer(const struct buffer *buffer);

/* Installs the handlers: SIGBUS for model files that shrink, SIGINT and SIGTERM to stop in order.
 * The second interrupt ends the program at once. */
void console_install_signals(void);
bool console_interrupted(void);

/* From here on the first interrupt ends the program: for commands that leave nothing half done. */
void console_end_on_interrupt(void);

/* For a command that sleeps: calls `stop` from the handler of the first SIGINT or SIGTERM, and
 * `reload` for each SIGHUP. Both must be async-signal-safe. NULL, NULL takes them back. */
void console_watch_signals(void (*stop)(void *user), void (*reload)(void *user), void *user);

/* Forgets an interrupt: `chat` goes on with the next question. */
void console_clear_interrupt(void);

/* Reads the text of --file ("-": standard input) as it is, or all of standard input when `path` is
 * NULL. Appends to `out`. */
llcuda_status console_read_text(const char *path, struct buffer *out, struct llcuda_error *error);

#endif
