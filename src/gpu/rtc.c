/* One compilation: makes a program, compiles it, takes the log and the binary, destroys the
 * program. Owns nothing afterwards. Any thread. Knows nothing of devices. */
#include "gpu/rtc.h"

#include <stdio.h>
#include <string.h>

#define OPTIONS_MAX 40u

static llcuda_status check(const struct rtc_api *api, int result, const char *what,
                           const char *name, struct llcuda_error *error)
{
    return result
               ? error_set(error, LLCUDA_DEVICE, "cannot %s %s: %s", what, name, api->text(result))
               : LLCUDA_OK;
}

static void read_log(const struct rtc_api *api, void *program, struct buffer *log)
{
    size_t bytes = 0;
    /* The size may count the NUL, or be that of nothing. */
    if (!api->log_size(program, &bytes) && bytes && buffer_reserve(log, bytes) &&
        !api->log(program, log->data + log->length)) {
        log->length += strnlen(log->data + log->length, bytes);
        log->data[log->length] = 0;
    }
}

static llcuda_status read_binary(const struct rtc_api *api, void *program, const char *name,
                                 struct buffer *binary, struct llcuda_error *error)
{
    size_t bytes = 0;
    llcuda_status status =
        check(api, api->binary_size(program, &bytes), "size the binary of", name, error);
    if (status) {
        return status;
    }
    if (!buffer_reserve(binary, bytes)) {
        return error_no_memory(error, "a compiled kernel", bytes);
    }
    status = check(api, api->binary(program, binary->data + binary->length), "take the binary of",
                   name, error);
    if (!status) {
        binary->length += bytes;
        binary->data[binary->length] = 0;
    }
    return status;
}

/* The first line of the log that speaks of an error, for the sentence. */
static struct text_view first_error(const struct buffer *log, size_t from)
{
    const char *text = buffer_text(log) + (from < log->length ? from : log->length);
    const char *found = strstr(text, "error");
    while (found && found > text && found[-1] != '\n') {
        found--;
    }
    found = found ? found : text;
    return text_view_make(found, strcspn(found, "\n"));
}

llcuda_status rtc_compile(const struct rtc_api *api, const struct gpu_compile_request *request,
                          const char *arch, const char *const *options, uint32_t option_count,
                          struct buffer *binary, struct buffer *log, struct llcuda_error *error)
{
    const char *all[OPTIONS_MAX];
    char arch_option[64];
    uint32_t count = 0;
    void *program = NULL;
    struct buffer source = {0};
    size_t log_start = log->length;
    if (request->option_count > OPTIONS_MAX - 1 - option_count) {
        return error_set(error, LLCUDA_LIMIT, "%u compiler options are too many",
                         request->option_count);
    }
    snprintf(arch_option, sizeof arch_option, "--gpu-architecture=%s", arch);
    all[count++] = arch_option;
    for (uint32_t i = 0; i < option_count; i++) {
        all[count++] = options[i];
    }
    for (uint32_t i = 0; i < request->option_count; i++) {
        all[count++] = request->options[i];
    }
    if (!buffer_append_view(&source, request->source)) {
        buffer_deinit(&source);
        return error_no_memory(error, "a kernel's text", request->source.length);
    }
    llcuda_status status =
        check(api, api->create(&program, buffer_text(&source), request->name, 0, NULL, NULL),
              "take the text of", request->name, error);
    if (!status) {
        int result = api->compile(program, (int)count, all);
        read_log(api, program, log);
        status = check(api, result, "compile", request->name, error);
        if (result == RTC_COMPILATION_FAILED) {
            struct text_view line = first_error(log, log_start);
            status = error_set(error, LLCUDA_BAD_FORMAT, "%s does not compile for %s: %.*s",
                               request->name, arch, TEXT_ARGUMENTS(line));
        }
    }
    if (!status) {
        status = read_binary(api, program, request->name, binary, error);
    }
    if (program) {
        api->destroy(&program);
    }
    buffer_deinit(&source);
    return status;
}
