/* Errors in OpenAI's shape: {"error": {"message", "type", "param", "code"}}, where `code` is a
 * string. One way from a status of the library to what a client sees. */
#ifndef SERVER_API_ERROR_H
#define SERVER_API_ERROR_H

#include "base/error.h"
#include "base/json.h"

struct api_error {
    int status;       /* HTTP */
    const char *type; /* static: "invalid_request_error" … */
    const char *code; /* static, or NULL */
    char param[64];   /* the field; "": none */
    char message[LLCUDA_ERROR_MESSAGE_BYTES];
};

/* Fills in the error and returns false, so that a check can end with it. `type` follows from the
 * status. `param` may be NULL. */
bool api_error_set(struct api_error *error, int status, const char *code, const char *param,
                   const char *format, ...) BASE_PRINTF(5, 6);

/* The same from what a library call has said. */
bool api_error_from(struct api_error *error, llcuda_status status, const char *message);

/* The whole JSON document. */
void api_error_write(const struct api_error *error, struct json_writer *writer);

#endif
