/* Owns standard streams and signals of the program. Only this file installs handlers. */
#include "cli/console.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/limits.h"

static volatile sig_atomic_t interrupted;
/* Set before and reset after the signals that read them are let through. */
static void (*volatile watch_stop)(void *user);
static void (*volatile watch_reload)(void *user);
static void *volatile watch_user;

int console_fail(const struct options *options, const struct llcuda_error *error)
{
    fprintf(stderr, "llcuda %s: %s\n", command_spec(options->command)->name, error->message);
    return EXIT_FAILED;
}

int console_usage(enum command_id command, const char *format, ...)
{
    const char *name = command_spec(command)->name;
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "llcuda %s: ", name);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, " (llcuda %s --help lists the options)\n", name);
    va_end(arguments);
    return EXIT_USAGE;
}

static void write_log(void *user, enum log_level level, const char *message)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    (void)user;
    fprintf(stderr, "llcuda: %s: %s\n", names[level], message);
}

bool console_log_sink(const struct options *options, struct log_sink *sink)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    const char *wanted = option_text(options, OPTION_LOG_LEVEL);
    for (int level = LOG_ERROR; level <= LOG_DEBUG; level++) {
        if (strcmp(wanted, names[level]) == 0) {
            *sink = (struct log_sink){.write = write_log, .level_max = (enum log_level)level};
            return true;
        }
    }
    console_usage(options->command, "--log-level is error, warn, info or debug, not '%s'", wanted);
    return false;
}

void console_progress_begin(struct console_progress *progress, const char *what)
{
    *progress = (struct console_progress){.what = what, .last_ns = clock_now_ns()};
}

bool console_progress_report(void *user, uint64_t done, uint64_t total)
{
    struct console_progress *progress = user;
    uint64_t now = clock_now_ns();
    /* Nothing for quick work, and no more than ten lines a second for slow work. */
    uint64_t pause = progress->shown ? 100000000u : 500000000u;
    if (isatty(STDERR_FILENO) && now - progress->last_ns >= pause && total > 0) {
        fprintf(stderr, "\r%s: %3.0f %%\033[K", progress->what,
                100.0 * (double)done / (double)total);
        fflush(stderr);
        progress->last_ns = now;
        progress->shown = true;
    }
    return !interrupted;
}

void console_progress_end(struct console_progress *progress)
{
    if (progress->shown) {
        fputs("\r\033[K", stderr);
    }
    progress->shown = false;
}

bool console_write(const void *data, size_t bytes)
{
    if (fwrite(data, 1, bytes, stdout) == bytes && fflush(stdout) == 0) {
        return true;
    }
    fprintf(stderr, "llcuda: cannot write to standard output: %s\n", strerror(errno));
    return false;
}

bool console_write_buffer(const struct buffer *buffer)
{
    if (buffer->failed) {
        fprintf(stderr, "llcuda: not enough memory for the result\n");
        return false;
    }
    return console_write(buffer_text(buffer), buffer->length);
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (!file_map_repair(info->si_addr)) {
        signal(number, SIG_DFL);
        raise(number);
    }
}

static void on_interrupt(int number)
{
    if (interrupted) {
        _exit(128 + number);
    }
    interrupted = number;
    if (watch_stop) {
        watch_stop(watch_user);
    }
}

static void on_hang_up(int number)
{
    (void)number;
    if (watch_reload) {
        watch_reload(watch_user);
    }
}

void console_watch_signals(void (*stop)(void *user), void (*reload)(void *user), void *user)
{
    struct sigaction hang_up = {.sa_handler = reload ? on_hang_up : SIG_DFL};
    sigset_t watched, before;
    sigemptyset(&watched);
    sigaddset(&watched, SIGINT);
    sigaddset(&watched, SIGTERM);
    sigaddset(&watched, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &watched, &before);
    watch_user = user;
    watch_stop = stop;
    watch_reload = reload;
    sigaction(SIGHUP, &hang_up, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (stop && interrupted) {
        stop(user); /* it came while the model was being loaded */
    }
}

void console_install_signals(void)
{
    struct sigaction bus = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &bus, NULL);
    /* No SA_RESTART: a read of standard input returns, so that chat can end. */
    struct sigaction stop = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    /* A closed pipe is an error of the write, reported like any other. */
    signal(SIGPIPE, SIG_IGN);
    /* So is a file that grows beyond the limit of its user. */
    signal(SIGXFSZ, SIG_IGN);
}

void console_end_on_interrupt(void)
{
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    if (interrupted) {
        raise(interrupted);
    }
}

bool console_interrupted(void)
{
    return interrupted != 0;
}

void console_clear_interrupt(void)
{
    interrupted = 0;
}

static llcuda_status read_standard_input(struct buffer *out, struct llcuda_error *error)
{
    char block[65536];
    for (;;) {
        ssize_t count = read(STDIN_FILENO, block, sizeof block);
        if (count < 0 && errno == EINTR && !interrupted) {
            continue;
        }
        if (count < 0) {
            return error_from_errno(error, errno, "read", "standard input");
        }
        if (count == 0) {
            return LLCUDA_OK;
        }
        if (out->length + (size_t)count > LIMIT_PROMPT_BYTES) {
            return error_set(error, LLCUDA_LIMIT,
                             "the text on standard input is larger than %llu MiB",
                             LIMIT_PROMPT_BYTES >> 20);
        }
        if (!buffer_append(out, block, (size_t)count)) {
            return error_no_memory(error, "the text", out->length);
        }
    }
}

llcuda_status console_read_text(const char *path, struct buffer *out, struct llcuda_error *error)
{
    if (!path || strcmp(path, "-") == 0) {
        return read_standard_input(out, error);
    }
    return file_read_all(path, LIMIT_PROMPT_BYTES, out, error);
}
