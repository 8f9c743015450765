/* Filling in a caller-owned error. Every function accepts a NULL error and returns the status that
 * it was given, so that `return error_set(error, LLCUDA_IO, "…")` is the whole error path. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include "llcuda/status.h"

#define BASE_PRINTF(format_index, first_index) \
    __attribute__((format(printf, format_index, first_index)))

/* Sets status and message, no offset. */
llcuda_status error_set(struct llcuda_error *error, llcuda_status status, const char *format, ...)
    BASE_PRINTF(3, 4);

/* The same with a byte offset into the input. */
llcuda_status error_set_at(struct llcuda_error *error, llcuda_status status, uint64_t offset,
                           const char *format, ...) BASE_PRINTF(4, 5);

/* Puts "prefix: " before the message already there, for a caller that knows the file's name.
 * Returns error->status, or `status` when error is NULL. */
llcuda_status error_prefix(struct llcuda_error *error, llcuda_status status, const char *format,
                           ...) BASE_PRINTF(3, 4);

/* The usual message of a failed allocation of `bytes` for `what`. */
llcuda_status error_no_memory(struct llcuda_error *error, const char *what, uint64_t bytes);

/* A message from errno: "cannot WHAT 'PATH': No such file or directory". ENOENT gives NOT_FOUND,
 * ENOMEM gives OUT_OF_MEMORY, anything else IO. */
llcuda_status error_from_errno(struct llcuda_error *error, int error_number, const char *what,
                               const char *path);

#endif
