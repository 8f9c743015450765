/* The texts of src/kernels, which are part of the program. Any thread. */
#ifndef GPU_KERNEL_TEXT_H
#define GPU_KERNEL_TEXT_H

#include "base/view.h"

struct kernel_text_row {
    const char *name; /* "device.cuh" */
    const char *begin;
    const char *end;
};

/* Every text, by name; made by the build. */
extern const struct kernel_text_row kernel_text_rows[];
extern const size_t kernel_text_count;

/* The text of this name; data is NULL when there is none. */
struct text_view kernel_text(const char *name);

#endif
