/* Runs another program without a shell and with a small environment of its own. */
#ifndef GPU_CHILD_H
#define GPU_CHILD_H

#include "base/error.h"

struct child_run {
    const char *const *arguments; /* the program's path first, NULL last */
    const char *output;           /* file for its standard output and error; made anew */
    uint32_t timeout_ms;          /* the child and what it started are killed then */
};

/* *exit_code tells how it ended: 0 … 255, or 128 + a signal. TIMEOUT when it ran too long, IO when
 * it could not be started. Any thread. */
llcuda_status child_run(const struct child_run *run, int *exit_code, struct llcuda_error *error);

#endif
