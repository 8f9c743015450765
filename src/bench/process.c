/* Owns child processes: starting, ending by group, and the end of their logs. Between fork and exec
 * only async-signal-safe calls are made. */
#include "bench/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"

/* The path of a program, as execvp would find it; NULL when there is none. PATH is taken from the
 * environment that the caller gives. */
static char *find_program(const char *name, char *const *environment)
{
    const char *path = "/usr/local/bin:/usr/bin:/bin";
    if (strchr(name, '/')) {
        return access(name, X_OK) == 0 ? strdup(name) : NULL;
    }
    for (size_t i = 0; environment && environment[i]; i++) {
        if (strncmp(environment[i], "PATH=", 5) == 0) {
            path = environment[i] + 5;
        }
    }
    while (*path) {
        size_t length = strcspn(path, ":");
        char *candidate = malloc(length + strlen(name) + 2);
        if (!candidate) {
            return NULL;
        }
        memcpy(candidate, path, length);
        candidate[length] = '/';
        memcpy(candidate + length + 1, name, strlen(name) + 1);
        if (length && access(candidate, X_OK) == 0 && !file_is_folder(candidate)) {
            return candidate;
        }
        free(candidate);
        path += length + (path[length] == ':');
    }
    return NULL;
}

/* Variables of `base` that `extra` does not set, and those of `extra`. The array is the caller's.
 */
static char **merge_environment(char *const *base, const char *const *extra)
{
    size_t count = 0;
    size_t extra_count = 0;
    while (base && base[count]) {
        count++;
    }
    while (extra && extra[extra_count]) {
        extra_count++;
    }
    char **merged = calloc(count + extra_count + 1, sizeof *merged);
    size_t kept = 0;
    for (size_t i = 0; merged && i < count; i++) {
        bool replaced = false;
        for (size_t j = 0; j < extra_count; j++) {
            size_t name = strcspn(extra[j], "=") + 1;
            replaced = replaced || strncmp(base[i], extra[j], name) == 0;
        }
        if (!replaced) {
            merged[kept++] = base[i];
        }
    }
    for (size_t j = 0; merged && j < extra_count; j++) {
        memcpy(&merged[kept++], &extra[j], sizeof *merged); /* exec takes no const */
    }
    return merged;
}

struct child {
    const char *program;
    char *const *command;
    char *const *environment;
    int input, output, log, report; /* report: where errno of a failed exec goes */
    pid_t parent;
};

/* In the child, after fork. Never returns. */
static _Noreturn void become(const struct child *child)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    bool orphan = getppid() != child->parent;
    if (!orphan && dup2(child->input, 0) >= 0 && dup2(child->output, 1) >= 0 &&
        dup2(child->log, 2) >= 0) {
        execve(child->program, child->command, child->environment);
    }
    int number = errno;
    ssize_t written = write(child->report, &number, sizeof number);
    _exit(written < 0 ? 126 : 127);
}

static void close_all(const int *descriptors, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (descriptors[i] >= 0) {
            close(descriptors[i]);
        }
    }
}

enum { IN_READ, IN_WRITE, OUT_READ, OUT_WRITE, REPORT_READ, REPORT_WRITE, LOG, PIPE_COUNT };

static bool open_descriptors(int *d, const char *log_path, bool pipes)
{
    for (int i = 0; i < PIPE_COUNT; i++) {
        d[i] = -1;
    }
    d[LOG] = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (d[LOG] < 0 || pipe2(&d[REPORT_READ], O_CLOEXEC)) {
        return false;
    }
    if (pipes) {
        return !pipe2(&d[IN_READ], O_CLOEXEC) && !pipe2(&d[OUT_READ], O_CLOEXEC) &&
               !fcntl(d[IN_WRITE], F_SETFL, O_NONBLOCK) && !fcntl(d[OUT_READ], F_SETFL, O_NONBLOCK);
    }
    d[IN_READ] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return d[IN_READ] >= 0;
}

/* Forks and waits until the exec has happened; errno of what failed, or 0. */
static int launch(struct process *process, struct child *child, int *d)
{
    int number = 0;
    *child = (struct child){child->program,
                            child->command,
                            child->environment,
                            d[IN_READ],
                            d[OUT_WRITE] >= 0 ? d[OUT_WRITE] : d[LOG],
                            d[LOG],
                            d[REPORT_WRITE],
                            getpid()};
    pid_t pid = fork();
    if (pid == 0) {
        become(child);
    }
    if (pid < 0) {
        return errno;
    }
    setpgid(pid, pid); /* also here: whoever comes first */
    close(d[REPORT_WRITE]);
    d[REPORT_WRITE] = -1;
    ssize_t got;
    do {
        got = read(d[REPORT_READ], &number, sizeof number);
    } while (got < 0 && errno == EINTR);
    if (got == (ssize_t)sizeof number) {
        waitpid(pid, NULL, 0);
        return number ? number : EIO;
    }
    process->pid = pid;
    process->input = d[IN_WRITE];
    process->output = d[OUT_READ];
    d[IN_WRITE] = d[OUT_READ] = -1;
    return 0;
}

llcuda_status process_start(struct process *process, const char *const *command,
                            char *const *environment, const char *const *extra,
                            const char *log_path, bool pipes, struct llcuda_error *error)
{
    int d[PIPE_COUNT];
    char **merged = NULL;
    char **arguments = NULL;
    size_t count = 0;
    *process = (struct process){.input = -1, .output = -1};
    char *program = find_program(command[0], environment);
    if (!program) {
        return error_set(error, LLCUDA_NOT_FOUND, "there is no program '%s'", command[0]);
    }
    while (command[count]) {
        count++;
    }
    llcuda_status status = error_no_memory(error, "a process", count);
    merged = merge_environment(environment, extra);
    arguments = calloc(count + 1, sizeof *arguments);
    process->log_path = strdup(log_path);
    if (merged && arguments && process->log_path) {
        memcpy(arguments, command, count * sizeof *arguments); /* exec takes no const */
        struct child child = {.program = program, .command = arguments, .environment = merged};
        int number = open_descriptors(d, log_path, pipes) ? launch(process, &child, d) : errno;
        status = number ? error_from_errno(error, number, "start", program) : LLCUDA_OK;
        close_all(d, PIPE_COUNT);
    }
    free(merged);
    free(arguments);
    free(program);
    if (status) {
        process_end(process, 0);
    }
    return status;
}

bool process_running(struct process *process)
{
    if (process->pid <= 0) {
        return false;
    }
    pid_t ended = waitpid(process->pid, &process->exit_state, WNOHANG);
    if (ended == 0 || (ended < 0 && errno == EINTR)) {
        return true;
    }
    /* Whatever it started goes with it. */
    kill(-process->pid, SIGKILL);
    process->pid = 0;
    return false;
}

bool process_wait(struct process *process, uint32_t timeout_ms)
{
    uint64_t end = clock_now_ns() + timeout_ms * 1000000ull;
    while (process_running(process)) {
        if (clock_now_ns() >= end) {
            return false;
        }
        const struct timespec pause = {0, 2000000};
        nanosleep(&pause, NULL);
    }
    return true;
}

void process_end(struct process *process, uint32_t grace_ms)
{
    if (process->input >= 0) {
        close(process->input);
    }
    if (process->pid > 0) {
        kill(-process->pid, SIGTERM);
        if (!process_wait(process, grace_ms)) {
            kill(-process->pid, SIGKILL);
            process_wait(process, 10000);
        }
    }
    if (process->output >= 0) {
        close(process->output);
    }
    free(process->log_path);
    process->log_path = NULL;
    process->input = process->output = -1;
}

void process_describe_end(const struct process *process, char *out, size_t bytes)
{
    int state = process->exit_state;
    if (WIFSIGNALED(state)) {
        snprintf(out, bytes, "signal %d (%s)", WTERMSIG(state), strsignal(WTERMSIG(state)));
    } else {
        snprintf(out, bytes, "exit status %d", WEXITSTATUS(state));
    }
}

void process_log_tail(const struct process *process, char *out, size_t bytes)
{
    struct file file;
    out[0] = 0;
    if (!process->log_path || file_open(&file, process->log_path, NULL)) {
        return;
    }
    uint64_t length = file.size < bytes - 1 ? file.size : bytes - 1;
    if (length && !file_read_at(&file, file.size - length, out, (size_t)length, NULL)) {
        out[length] = 0;
        while (length && (out[length - 1] == '\n' || out[length - 1] == ' ')) {
            out[--length] = 0;
        }
        for (size_t i = 0; out[i]; i++) {
            unsigned char byte = (unsigned char)out[i];
            out[i] = byte < 0x20 ? ' ' : out[i];
        }
    } else {
        out[0] = 0;
    }
    file_close(&file);
}
