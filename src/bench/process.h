/* A child process in a process group of its own, so that it and whatever it starts can be ended
 * together. Belongs to the thread that started it: the kernel ends the child when that thread
 * ends, whatever the reason. */
#ifndef BENCH_PROCESS_H
#define BENCH_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

struct process {
    pid_t pid;      /* 0: not running; also the number of its group */
    int input;      /* its standard input, non-blocking; -1 when there is none */
    int output;     /* its standard output, non-blocking; -1 when that goes to the log */
    int exit_state; /* as of waitpid, once it has ended */
    char *log_path;
};

/* Starts `command` (an argument list, looked up on the PATH) with `environment` (NULL-terminated
 * "NAME=value") and after it `extra`, which wins. Standard error is appended to `log_path`; with
 * `pipes`, input and output are pipes, otherwise output goes to the log too and input is empty.
 * Errors: NOT_FOUND when there is no such program, IO. */
llcuda_status process_start(struct process *process, const char *const *command,
                            char *const *environment, const char *const *extra,
                            const char *log_path, bool pipes, struct llcuda_error *error);

/* Whether it still runs; collects its exit state when not. */
bool process_running(struct process *process);

/* Ends the whole group: SIGTERM, after `grace_ms` SIGKILL. Closes the pipes. A process that was
 * never started is fine. */
void process_end(struct process *process, uint32_t grace_ms);

/* Waits until it ends by itself; false after `timeout_ms`. */
bool process_wait(struct process *process, uint32_t timeout_ms);

/* "exit status 3" or "signal 11 (Segmentation fault)" into `out`. */
void process_describe_end(const struct process *process, char *out, size_t bytes);

/* The last lines of the log, at most `bytes` - 1 of them, on one line; "" when there is none. */
void process_log_tail(const struct process *process, char *out, size_t bytes);

#endif
