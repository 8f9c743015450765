/* Compiles in a forked child, which sends a header, the log and the binary through a pipe. The
 * child runs nothing of ours but the compilation, and leaves without exit handlers. The C library
 * makes its allocator and loader usable in a child of a program with threads; hipRTC makes its own
 * threads there. Any thread. */
#include "gpu/hip_compile.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* A reply is at most this long; kernels take kilobytes. */
#define REPLY_BYTES_MAX (256u << 20)

struct reply {
    struct llcuda_error error; /* status 0: compiled */
    uint64_t log_bytes;
    uint64_t binary_bytes;
};

static bool write_all(int descriptor, const void *data, size_t bytes)
{
    const char *at = data;
    while (bytes) {
        ssize_t written = write(descriptor, at, bytes);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return false;
        }
        at += written;
        bytes -= (size_t)written;
    }
    return true;
}

/* In the child. */
static void compile_and_reply(const struct rtc_api *api, const struct gpu_compile_request *request,
                              const char *arch, int descriptor)
{
    static const char *const options[] = {"-std=c++17", "-ffp-contract=fast"};
    const struct rlimit no_core = {0, 0};
    struct buffer binary = {0}, log = {0};
    struct reply reply = {0};
    int nowhere = open("/dev/null", O_RDWR);
    if (nowhere >= 0) {
        dup2(nowhere, STDOUT_FILENO);
        dup2(nowhere, STDERR_FILENO);
    }
    setrlimit(RLIMIT_CORE, &no_core);
    reply.error.status = rtc_compile(api, request, arch, options, sizeof options / sizeof *options,
                                     &binary, &log, &reply.error);
    reply.log_bytes = log.length;
    reply.binary_bytes = binary.length;
    if (write_all(descriptor, &reply, sizeof reply) &&
        write_all(descriptor, log.data, log.length)) {
        write_all(descriptor, binary.data, binary.length);
    }
    _exit(0);
}

/* Reads until the child closes its end; false when the time is over. */
static bool read_reply(int descriptor, uint32_t timeout_ms, struct buffer *reply)
{
    uint64_t end = clock_now_ns() + (uint64_t)timeout_ms * 1000000u;
    for (;;) {
        uint64_t now = clock_now_ns();
        struct pollfd ready = {.fd = descriptor, .events = POLLIN};
        int left_ms = now < end ? (int)((end - now) / 1000000u) + 1 : 0;
        int count = left_ms ? poll(&ready, 1, left_ms) : 0;
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            return false;
        }
        if (!buffer_reserve(reply, 65536)) {
            return true;
        }
        ssize_t bytes = read(descriptor, reply->data + reply->length, 65536);
        if (bytes < 0 && errno == EINTR) {
            continue;
        }
        if (bytes <= 0) {
            return true;
        }
        reply->length += (size_t)bytes;
    }
}

/* Takes a whole reply apart; false when it is not one. */
static bool take_reply(const struct buffer *bytes, struct reply *reply, struct buffer *binary,
                       struct buffer *log)
{
    if (bytes->length < sizeof *reply) {
        return false;
    }
    memcpy(reply, bytes->data, sizeof *reply);
    reply->error.message[sizeof reply->error.message - 1] = 0;
    uint64_t rest = bytes->length - sizeof *reply;
    if (reply->log_bytes > rest || reply->binary_bytes != rest - reply->log_bytes) {
        return false;
    }
    const char *at = bytes->data + sizeof *reply;
    return buffer_append(log, at, (size_t)reply->log_bytes) &&
           buffer_append(binary, at + reply->log_bytes, (size_t)reply->binary_bytes);
}

llcuda_status hip_compile_in_child(const struct rtc_api *api,
                                   const struct gpu_compile_request *request, const char *arch,
                                   uint32_t timeout_ms, struct buffer *binary, struct buffer *log,
                                   struct llcuda_error *error)
{
    int ends[2];
    int state = 0;
    struct buffer bytes;
    struct reply reply;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return error_from_errno(error, errno, "make a pipe for", request->name);
    }
    pid_t child = fork();
    if (child < 0) {
        int number = errno;
        close(ends[0]);
        close(ends[1]);
        return error_from_errno(error, number, "start a compiler for", request->name);
    }
    if (child == 0) {
        close(ends[0]);
        compile_and_reply(api, request, arch, ends[1]);
    }
    close(ends[1]);
    buffer_init(&bytes, REPLY_BYTES_MAX);
    bool in_time = read_reply(ends[0], timeout_ms, &bytes);
    close(ends[0]);
    if (!in_time || bytes.failed) {
        kill(child, SIGKILL);
    }
    while (waitpid(child, &state, 0) < 0 && errno == EINTR) {
    }
    llcuda_status status;
    if (!in_time) {
        status = error_set(error, LLCUDA_TIMEOUT, "hipRTC did not compile %s within %u s",
                           request->name, timeout_ms / 1000);
    } else if (take_reply(&bytes, &reply, binary, log)) {
        status = reply.error.status
                     ? error_set(error, reply.error.status, "%s", reply.error.message)
                     : LLCUDA_OK;
    } else if (WIFSIGNALED(state)) {
        status = error_set(error, LLCUDA_DEVICE,
                           "hipRTC was ended by signal %d while it compiled %s for %s",
                           WTERMSIG(state), request->name, arch);
    } else {
        status = error_set(error, LLCUDA_DEVICE, "hipRTC gave no answer for %s", request->name);
    }
    buffer_deinit(&bytes);
    return status;
}
