/* Owns looking up embedded kernel text by name. */
#include <string.h>

#include "gpu/kernel_sources.h"

const struct kernel_source *kernel_source_find(const char *name)
{
    for (unsigned i = 0; i < kernel_source_count; i++) {
        if (strcmp(kernel_sources[i].name, name) == 0) {
            return &kernel_sources[i];
        }
    }
    return NULL;
}
