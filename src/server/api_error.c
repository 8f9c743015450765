/* Owns the shape of errors and the table from library statuses to codes. */
#include "server/api_error.h"

#include <stdarg.h>
#include <stdio.h>

static const char *type_of(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 429:
        return "rate_limit_error";
    default:
        return status >= 500 ? "server_error" : "invalid_request_error";
    }
}

/* Outside text in a message must stay valid UTF-8: a cut in the middle of a character is undone. */
static void end_at_character(char *text, size_t length)
{
    size_t begin = length;
    while (begin > 0 && ((unsigned char)text[begin - 1] & 0xc0) == 0x80) {
        begin--;
    }
    if (begin > 0 && (unsigned char)text[begin - 1] >= 0xc0) {
        text[begin - 1] = 0;
    }
}

bool api_error_set(struct api_error *error, int status, const char *code, const char *param,
                   const char *format, ...)
{
    va_list arguments;
    error->status = status;
    error->type = type_of(status);
    error->code = code;
    snprintf(error->param, sizeof error->param, "%s", param ? param : "");
    va_start(arguments, format);
    int length = vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    if (length >= (int)sizeof error->message) {
        end_at_character(error->message, sizeof error->message - 1);
    }
    return false;
}

static const char *code_of(llcuda_status status)
{
    switch (status) {
    case LLCUDA_CONTEXT_FULL:
        return "context_length_exceeded";
    case LLCUDA_BUSY:
        return "queue_full";
    case LLCUDA_REFUSED:
        return "template_refused";
    case LLCUDA_UNSUPPORTED:
        return "unsupported";
    case LLCUDA_LIMIT:
        return "limit_exceeded";
    case LLCUDA_TIMEOUT:
        return "timeout";
    case LLCUDA_CANCELLED:
        return "cancelled";
    case LLCUDA_OUT_OF_MEMORY:
        return "server_overloaded";
    case LLCUDA_INVALID_ARGUMENT:
    case LLCUDA_BAD_FORMAT:
        return "invalid_value";
    case LLCUDA_NOT_FINITE:
        return "model_not_finite";
    case LLCUDA_OK:
    case LLCUDA_IO:
    case LLCUDA_NOT_FOUND:
    case LLCUDA_DEVICE:
    case LLCUDA_INTERNAL:
        break;
    }
    return "internal_error";
}

bool api_error_from(struct api_error *error, llcuda_status status, const char *message)
{
    int http = llcuda_status_http(status);
    if (status == LLCUDA_BAD_FORMAT) {
        http = 400; /* the request itself was well-formed JSON; its meaning is what is wrong */
    } else if (status == LLCUDA_CANCELLED) {
        http = 503; /* only the server's own end cancels somebody who still listens */
    }
    return api_error_set(error, http, code_of(status), NULL, "%s",
                         message && *message ? message : llcuda_status_text(status));
}

void api_error_write(const struct api_error *error, struct json_writer *writer)
{
    json_begin_object(writer);
    json_key(writer, "error");
    json_begin_object(writer);
    json_key(writer, "message");
    json_write_string(writer, error->message);
    json_key(writer, "type");
    json_write_string(writer, error->type);
    json_key(writer, "param");
    if (error->param[0]) {
        json_write_string(writer, error->param);
    } else {
        json_write_null(writer);
    }
    json_key(writer, "code");
    if (error->code) {
        json_write_string(writer, error->code);
    } else {
        json_write_null(writer);
    }
    json_end_object(writer);
    json_end_object(writer);
}
