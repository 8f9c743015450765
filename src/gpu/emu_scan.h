/* Finds the kernels in preprocessed text. */
#ifndef GPU_EMU_SCAN_H
#define GPU_EMU_SCAN_H

#include "base/buffer.h"

/* Blanks out `__global__` and `KERNEL_BOUNDS(…)` in `text`, and appends the module's table of
 * kernels to `tail`. BAD_FORMAT when a kernel cannot be understood. */
llcuda_status emu_scan(char *text, size_t length, struct buffer *tail, struct llcuda_error *error);

#endif
