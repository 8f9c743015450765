/* Status and error of llcuda: one list yields code, name, sentence and HTTP status.
 *
 * 0 is success everywhere. A function that can fail returns a status and, when the caller passes an
 * error, fills in one sentence for a person and, for outside bytes, the offset of the trouble.
 * There is no global and no thread-local error. */
#ifndef LLCUDA_STATUS_H
#define LLCUDA_STATUS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, code, HTTP status, sentence). Codes are stable: new ones go to the end. */
#define LLCUDA_STATUS_LIST(X)                                                   \
    X(OK, 0, 200, "success")                                                    \
    X(INVALID_ARGUMENT, 1, 400, "an argument is out of its range")              \
    X(OUT_OF_MEMORY, 2, 503, "not enough memory")                               \
    X(IO, 3, 500, "a file or device could not be read or written")              \
    X(NOT_FOUND, 4, 404, "no such file, model or item")                         \
    X(BAD_FORMAT, 5, 422, "the data does not follow its format")                \
    X(UNSUPPORTED, 6, 501, "valid, but not supported by this build")            \
    X(LIMIT, 7, 413, "a limit was exceeded")                                    \
    X(CONTEXT_FULL, 8, 400, "the prompt and its answer do not fit the context") \
    X(CANCELLED, 9, 499, "cancelled")                                           \
    X(TIMEOUT, 10, 504, "took longer than allowed")                             \
    X(BUSY, 11, 429, "the queue is full, try again later")                      \
    X(DEVICE, 12, 500, "a device failed")                                       \
    X(REFUSED, 13, 400, "refused by the chat template or a policy")             \
    X(NOT_FINITE, 14, 500, "the model produced values that are not finite")     \
    X(INTERNAL, 15, 500, "an internal error")

typedef enum llcuda_status {
#define LLCUDA_STATUS_ENUM(name, code, http, text) LLCUDA_##name = code,
    LLCUDA_STATUS_LIST(LLCUDA_STATUS_ENUM)
#undef LLCUDA_STATUS_ENUM
} llcuda_status;

/* `offset` when the trouble has no place in a file or text. */
#define LLCUDA_NO_OFFSET UINT64_MAX

#define LLCUDA_ERROR_MESSAGE_BYTES 512

/* Owned by the caller, valid after a call that returned a status other than LLCUDA_OK. */
typedef struct llcuda_error {
    llcuda_status status;
    uint64_t offset;                          /* byte offset in the input, or LLCUDA_NO_OFFSET */
    char message[LLCUDA_ERROR_MESSAGE_BYTES]; /* one sentence, NUL-terminated UTF-8, no newline */
} llcuda_error;

#if defined(_WIN32)
#define LLCUDA_API
#else
#define LLCUDA_API __attribute__((visibility("default")))
#endif

/* Name of a status, such as "BAD_FORMAT"; "UNKNOWN" for a value outside the list. Any thread. */
LLCUDA_API const char *llcuda_status_name(llcuda_status status);

/* The sentence of a status. Any thread. */
LLCUDA_API const char *llcuda_status_text(llcuda_status status);

/* The HTTP status that a server answers with. Any thread. */
LLCUDA_API int llcuda_status_http(llcuda_status status);

#ifdef __cplusplus
}
#endif
#endif
