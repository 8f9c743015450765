/* Owns the wording of errors and the tables behind the public status functions. Knows nothing of
 * files or models. Stateless, so any thread may call anything here. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct status_row {
    llcuda_status status;
    int http;
    const char *name;
    const char *text;
};

static const struct status_row status_rows[] = {
#define STATUS_ROW(name, code, http, text) {LLCUDA_##name, http, #name, text},
    LLCUDA_STATUS_LIST(STATUS_ROW)
#undef STATUS_ROW
};

static const struct status_row *find_row(llcuda_status status)
{
    for (size_t i = 0; i < sizeof status_rows / sizeof status_rows[0]; i++) {
        if (status_rows[i].status == status) {
            return &status_rows[i];
        }
    }
    return NULL;
}

const char *llcuda_status_name(llcuda_status status)
{
    const struct status_row *row = find_row(status);
    return row ? row->name : "UNKNOWN";
}

const char *llcuda_status_text(llcuda_status status)
{
    const struct status_row *row = find_row(status);
    return row ? row->text : "an unknown status";
}

int llcuda_status_http(llcuda_status status)
{
    const struct status_row *row = find_row(status);
    return row ? row->http : 500;
}

/* A message may quote outside bytes: control characters would break a terminal or a log line. */
static void make_printable(char *message)
{
    for (char *c = message; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            *c = '?';
        }
    }
}

BASE_PRINTF(4, 0) /* clang: the format is checked at our callers */
static void fill(struct llcuda_error *error, llcuda_status status, uint64_t offset,
                 const char *format, va_list arguments)
{
    if (!error) {
        return;
    }
    error->status = status;
    error->offset = offset;
    vsnprintf(error->message, sizeof error->message, format, arguments);
    make_printable(error->message);
}

llcuda_status error_set(struct llcuda_error *error, llcuda_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fill(error, status, LLCUDA_NO_OFFSET, format, arguments);
    va_end(arguments);
    return status;
}

llcuda_status error_set_at(struct llcuda_error *error, llcuda_status status, uint64_t offset,
                           const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fill(error, status, offset, format, arguments);
    va_end(arguments);
    return status;
}

llcuda_status error_prefix(struct llcuda_error *error, llcuda_status status, const char *format,
                           ...)
{
    if (!error) {
        return status;
    }
    char tail[LLCUDA_ERROR_MESSAGE_BYTES];
    memcpy(tail, error->message, sizeof tail);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    size_t used = strlen(error->message);
    snprintf(error->message + used, sizeof error->message - used, ": %s", tail);
    make_printable(error->message);
    return error->status;
}

llcuda_status error_no_memory(struct llcuda_error *error, const char *what, uint64_t bytes)
{
    return error_set(error, LLCUDA_OUT_OF_MEMORY, "not enough memory for %s (%llu bytes)", what,
                     (unsigned long long)bytes);
}

llcuda_status error_from_errno(struct llcuda_error *error, int error_number, const char *what,
                               const char *path)
{
    llcuda_status status = LLCUDA_IO;
    if (error_number == ENOENT || error_number == ENOTDIR) {
        status = LLCUDA_NOT_FOUND;
    } else if (error_number == ENOMEM) {
        status = LLCUDA_OUT_OF_MEMORY;
    }
    char reason[128];
#ifdef __GLIBC__
    const char *text = strerror_r(error_number, reason, sizeof reason);
#else
    const char *text = strerror_r(error_number, reason, sizeof reason) == 0 ? reason : "unknown";
#endif
    return error_set(error, status, "cannot %s '%s': %s", what, path, text);
}
