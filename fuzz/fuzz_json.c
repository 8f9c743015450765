/* JSON: parse, then write what was parsed and parse that again; both trees must have one shape. */
#include "fuzz.h"

#include <stdlib.h>

#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct llcuda_error error;
    struct json_options options = {.unique_keys = size % 2 == 1};
    struct json_document *document;
    if (json_parse(text_view_make((const char *)data, size), &options, &document, &error)) {
        return 0;
    }
    struct buffer written = {0};
    struct json_writer writer;
    json_writer_init(&writer, &written, 0);
    json_write_value(&writer, json_root(document));
    if (!written.failed) {
        struct json_document *again;
        if (json_parse(buffer_view(&written), NULL, &again, &error) ||
            json_root(again)->span != json_root(document)->span) {
            abort();
        }
        json_destroy(again);
    }
    buffer_deinit(&written);
    json_destroy(document);
    return 0;
}
