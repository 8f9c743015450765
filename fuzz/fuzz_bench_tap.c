/* Heads of segments as they lie in the ring, and a reader that takes what they tell. */
#include "fuzz.h"

#include <stdlib.h>

#include "bench/http_tap.h"

#define HEAD_BYTES 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tap_stream stream = {0};
    uint64_t now = 1;
    uint64_t last = 0;
    for (size_t at = 0; at + 2 < size; now++) {
        const size_t left = size - at - 2;
        const size_t bytes = left < HEAD_BYTES ? left : HEAD_BYTES;
        struct tap_segment segment;
        if (tap_read_head(data + at + 2, bytes, data[at] & 1, &segment)) {
            tap_stream_add(&stream, &segment, now);
        }
        for (size_t read = (size_t)data[at + 1] * 4; read;) {
            uint64_t at_ns;
            const size_t piece = tap_stream_piece(&stream, read, &at_ns);
            /* Something is taken, not more than was asked for, and times never go back. */
            if (piece == 0 || piece > read || (at_ns && at_ns < last) || at_ns > now) {
                abort();
            }
            last = at_ns ? at_ns : last;
            read -= piece;
        }
        at += 2 + bytes;
    }
    http_tap_forget(NULL, &stream);
    return 0;
}
