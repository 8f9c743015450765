/* The adapter's answer to `profile`. */
#ifndef CLI_BENCH_PROFILE_H
#define CLI_BENCH_PROFILE_H

#include "base/buffer.h"
#include "base/json.h"
#include "cli/option.h"

/* Opens the model that the request `load` named, runs the tests of `request` on its device, and
 * appends the array of the answer to `tests`. Changes the options. */
llcuda_status bench_profile(struct options *options, struct text_view load,
                            const struct json_value *request, struct buffer *tests,
                            struct llcuda_error *error);

#endif
