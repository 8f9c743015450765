/* Chat templates: any bytes are parsed, and what parses is rendered without variables. */
#include "fuzz.h"

#include <stdlib.h>

#include "text/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct llcuda_error error;
    struct template *template;
    struct buffer out = {0};
    struct text_view source = text_view_make((const char *)data, size);
    llcuda_status status = template_parse(source, &template, &error);
    if (status) {
        if (error.status != status || (error.offset != LLCUDA_NO_OFFSET && error.offset > size)) {
            abort();
        }
        return 0;
    }
    template_render(template, NULL, NULL, &out, &error);
    buffer_deinit(&out);
    template_destroy(template);
    return 0;
}
