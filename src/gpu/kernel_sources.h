/* The text of the kernels, embedded in the program: src/kernels/ and the headers that C and kernels
 * share. The table is made by cmake/embed.cmake. */
#ifndef GPU_KERNEL_SOURCES_H
#define GPU_KERNEL_SOURCES_H

#include <stddef.h>

struct kernel_source {
    const char *name; /* "linear_decode.cu", "device.cuh", "kernel_arguments.h" */
    const char *text; /* NUL-terminated */
    size_t length;
};

extern const struct kernel_source kernel_sources[];
extern const unsigned kernel_source_count;

/* The text of this name, or NULL. */
const struct kernel_source *kernel_source_find(const char *name);

#endif
