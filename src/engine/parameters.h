/* The checks of a request's options: one table of scalar fields, and the rules between fields. */
#ifndef ENGINE_PARAMETERS_H
#define ENGINE_PARAMETERS_H

#include "base/error.h"
#include "base/view.h"
#include "llcuda/llcuda.h"

/* Copies the caller's struct, whatever size its header gave it, over the defaults. Errors:
 * INVALID_ARGUMENT (no size), UNSUPPORTED (fields that this library does not have are set). */
llcuda_status parameters_read_request(const llcuda_request_options *given,
                                      llcuda_request_options *options, struct llcuda_error *error);
llcuda_status parameters_read_engine(const llcuda_engine_options *given,
                                     llcuda_engine_options *options, struct llcuda_error *error);

/* Checks every field of a request against its range, and every id against the vocabulary. The
 * message names the field. */
llcuda_status parameters_check_request(const llcuda_request_options *options,
                                       uint32_t vocabulary_size, struct llcuda_error *error);
llcuda_status parameters_check_engine(const llcuda_engine_options *options,
                                      struct llcuda_error *error);

#endif
