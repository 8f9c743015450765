/* Answers of servers: fed whole and byte by byte, they must be read in the same way. */
#include "fuzz.h"

#include <stdlib.h>

#include "bench/http_stream.h"

static void take(void *user, struct text_view data)
{
    uint64_t *hash = user;
    for (size_t i = 0; i < data.length; i++) {
        *hash = (*hash ^ (unsigned char)data.data[i]) * 1099511628211u;
    }
}

static uint64_t read_all(const uint8_t *data, size_t size, size_t step)
{
    struct http_stream stream = {0};
    uint64_t hash = 14695981039346656037u;
    for (size_t at = 0; at < size; at += step) {
        size_t bytes = size - at < step ? size - at : step;
        http_stream_feed(&stream, (const char *)data + at, bytes, take, &hash);
    }
    hash = (hash ^ (uint64_t)(stream.done * 2 + stream.broken)) * 1099511628211u;
    hash = (hash ^ (uint64_t)stream.status) * 1099511628211u;
    http_stream_deinit(&stream);
    return hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (read_all(data, size, size ? size : 1) != read_all(data, size, 1)) {
        abort();
    }
    return 0;
}
