/* `llcuda serve` in a build without libevent. */
#include "cli/console.h"

int command_serve(struct options *options)
{
    struct llcuda_error error = {0};
    error_set(&error, LLCUDA_UNSUPPORTED,
              "this is a minimal build, which has no server; build with libevent and OpenSSL "
              "(scripts/install-packages, cmake --preset release) for one");
    return console_fail(options, &error);
}
