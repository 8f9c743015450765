/* Owns the measuring of quality: perplexity, by the program's own command in a process of its own.
 */
#include "bench/experiment.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "base/json.h"
#include "bench/process.h"

#define ANSWER_BYTES_MAX (1u << 20)
#define PATIENCE_MS      3600000

/* All that it prints, until it ends. */
static bool read_all(struct process *process, struct buffer *out)
{
    for (;;) {
        char block[4096];
        struct pollfd wait = {process->output, POLLIN, 0};
        if (poll(&wait, 1, PATIENCE_MS) <= 0) {
            return false;
        }
        ssize_t got = read(process->output, block, sizeof block);
        if (got == 0) {
            return true;
        }
        if (got > 0 && !buffer_append(out, block, (size_t)got)) {
            return false;
        }
        if (got < 0 && errno != EAGAIN && errno != EINTR) {
            return false;
        }
    }
}

llcuda_status experiment_perplexity(const char *program, const char *model, const char *text,
                                    char *const *environment, const char *log_path, double *out,
                                    struct llcuda_error *error)
{
    bool builtin = strcmp(model, "builtin") == 0;
    const char *const command[] = {
        program, "perplexity", "-f", text, "--json", builtin ? NULL : "-m", builtin ? NULL : model,
        NULL};
    struct process process;
    struct buffer answer = {.limit_bytes = ANSWER_BYTES_MAX};
    struct json_document *document = NULL;
    llcuda_status status =
        process_start(&process, command, environment, NULL, log_path, true, error);
    if (status) {
        return status;
    }
    bool whole = read_all(&process, &answer);
    process_wait(&process, 10000);
    if (!whole || json_parse(buffer_view(&answer), NULL, &document, NULL) ||
        !json_number(json_member(json_root(document), "perplexity"), out)) {
        char tail[200];
        process_log_tail(&process, tail, sizeof tail);
        status =
            error_set(error, LLCUDA_IO, "no perplexity of '%s' on '%s': %s", model, text, tail);
    }
    json_destroy(document);
    process_end(&process, 1000);
    buffer_deinit(&answer);
    return status;
}
