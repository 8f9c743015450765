/* HTTP requests: whatever comes in, fed whole and byte by byte, must be read in the same way. */
#include "fuzz.h"

#include <stdlib.h>

#include "net/http_reader.h"

static const struct http_limits limits = {256, 8, 1024, 4096};

/* Reads all requests; returns a hash of what was seen. */
static uint64_t read_all(const uint8_t *data, size_t size, size_t step)
{
    struct http_reader reader;
    uint64_t hash = 1469598103934665603u;
    size_t position = 0;
    http_reader_init(&reader, &limits);
    while (position < size) {
        size_t bytes = size - position < step ? size - position : step;
        size_t taken;
        enum http_progress progress =
            http_reader_feed(&reader, (const char *)data + position, bytes, &taken);
        position += taken;
        if (progress == HTTP_REFUSED) {
            hash = (hash ^ (uint64_t)reader.refusal) * 1099511628211u;
            break;
        }
        if (progress == HTTP_REQUEST) {
            hash = (hash ^ reader.request.header_count) * 1099511628211u;
            hash = (hash ^ reader.request.body.length) * 1099511628211u;
            hash = (hash ^ reader.request.target.length) * 1099511628211u;
            http_reader_next(&reader);
        }
    }
    http_reader_deinit(&reader);
    return hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (read_all(data, size, SIZE_MAX) != read_all(data, size, 1)) {
        abort();
    }
    return 0;
}
