/* Chat templates with variables: the template, a NUL, and a JSON object. What is rendered must be
 * UTF-8, and the same when it is rendered again. */
#include "fuzz.h"

#include <stdlib.h>

#include "base/utf8.h"
#include "text/template.h"

static void render_twice(const struct template *template, const struct json_value *context)
{
    struct template_options options = {.now_unix = 1735787045};
    struct llcuda_error error;
    struct buffer first = {0};
    struct buffer second = {0};
    llcuda_status status = template_render(template, context, &options, &first, &error);
    if (template_render(template, context, &options, &second, &error) != status ||
        !utf8_valid(buffer_view(&first)) ||
        !text_view_equal(buffer_view(&first), buffer_view(&second))) {
        abort();
    }
    buffer_deinit(&first);
    buffer_deinit(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct llcuda_error error;
    struct template *template;
    struct json_document *document;
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    size_t length = end ? (size_t)(end - data) : size;
    struct text_view json =
        end ? text_view_make((const char *)end + 1, size - length - 1) : text_view_of("{}");
    if (template_parse(text_view_make((const char *)data, length), &template, &error)) {
        return 0;
    }
    if (json_parse(json, NULL, &document, &error) == LLCUDA_OK) {
        if (json_is(json_root(document), JSON_OBJECT)) {
            render_twice(template, json_root(document));
        }
        json_destroy(document);
    }
    template_destroy(template);
    return 0;
}
