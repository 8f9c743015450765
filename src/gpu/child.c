/* Owns the life of a child process: its own process group, so that a compiler driver and what it
 * starts end together; no standard input; a fixed environment, because the library reads none. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "gpu/child.h"

static llcuda_status start(const struct child_run *run, pid_t *pid, struct llcuda_error *error)
{
    char path[] = "PATH=/usr/local/bin:/usr/bin:/bin";
    char locale[] = "LC_ALL=C";
    char *environment[] = {path, locale, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int code = posix_spawn_file_actions_init(&actions);
    if (code) {
        return error_from_errno(error, code, "start", run->arguments[0]);
    }
    code = posix_spawnattr_init(&attributes);
    if (code) {
        posix_spawn_file_actions_destroy(&actions);
        return error_from_errno(error, code, "start", run->arguments[0]);
    }
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, run->output,
                                     O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
    /* posix_spawn takes the arguments as writable, for historical reasons, and leaves them be. */
    char **arguments;
    memcpy(&arguments, &run->arguments, sizeof arguments);
    code = posix_spawn(pid, run->arguments[0], &actions, &attributes, arguments, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return code ? error_from_errno(error, code, "start", run->arguments[0]) : LLCUDA_OK;
}

llcuda_status child_run(const struct child_run *run, int *exit_code, struct llcuda_error *error)
{
    pid_t pid;
    llcuda_status status = start(run, &pid, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    const uint64_t deadline = clock_now_ns() + (uint64_t)run->timeout_ms * 1000000u;
    int state;
    pid_t ended;
    while ((ended = waitpid(pid, &state, WNOHANG)) == 0 || (ended < 0 && errno == EINTR)) {
        if (clock_now_ns() > deadline) {
            kill(-pid, SIGKILL);
            waitpid(pid, &state, 0);
            return error_set(error, LLCUDA_TIMEOUT, "'%s' did not end within %u seconds",
                             run->arguments[0], run->timeout_ms / 1000);
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    if (ended < 0) {
        return error_from_errno(error, errno, "wait for", run->arguments[0]);
    }
    *exit_code = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
    return LLCUDA_OK;
}
