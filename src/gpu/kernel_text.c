/* Looks up a text among those that the build put into the program. Read only. */
#include "gpu/kernel_text.h"

struct text_view kernel_text(const char *name)
{
    for (size_t i = 0; i < kernel_text_count; i++) {
        const struct kernel_text_row *row = &kernel_text_rows[i];
        if (strcmp(row->name, name) == 0) {
            return text_view_make(row->begin, (size_t)(row->end - row->begin));
        }
    }
    return text_view_make(NULL, 0);
}
