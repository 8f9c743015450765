/* The bytes of a GGUF header, one item at a time. The same code runs twice over a file: first
 * through a window of fixed size, to check every length and find where the header ends without
 * allocating anything; then over the header in memory, to keep what it says. Internal to gguf. */
#ifndef FORMAT_GGUF_HEADER_H
#define FORMAT_GGUF_HEADER_H

#include "format/gguf.h"

#define GGUF_WINDOW_BYTES  65536u
#define GGUF_DEFAULT_ALIGN 32u

struct gguf_reader {
    const uint8_t *memory;   /* all `size` bytes, or NULL: read through the window */
    const struct file *file; /* of the window */
    uint8_t *window;         /* GGUF_WINDOW_BYTES */
    uint64_t window_begin;
    uint64_t window_bytes;
    uint64_t size;     /* of the file or memory */
    uint64_t position; /* never exceeds size or LIMIT_GGUF_HEADER_BYTES */
    char item[128];    /* what is being read, for messages */
    struct text_view *texts;
    uint64_t texts_left; /* room for elements of string arrays at `texts`, when it is not NULL */
    struct llcuda_error *error;
};

/* What the first pass finds out. */
struct gguf_layout {
    uint32_t version;
    uint32_t value_count;
    uint32_t tensor_count;
    uint64_t text_count;   /* elements of all string arrays together */
    uint64_t header_bytes; /* from the start of the file to the end of the tensor table */
};

/* The first pass, from position 0. */
llcuda_status gguf_measure(struct gguf_reader *reader, struct gguf_layout *layout);

/* Magic, version and the two counts; leaves the reader behind them. */
llcuda_status gguf_read_prelude(struct gguf_reader *reader, struct gguf_layout *layout);

/* The next metadata entry. Views have data only when the reader is in memory; texts of string
 * arrays go to reader->texts. */
llcuda_status gguf_read_entry(struct gguf_reader *reader, uint32_t index, struct gguf_value *value);

/* The next row of the tensor table, all but the position of its data, which is checked when the
 * header's end and the alignment are known; *offset is relative to the start of the data. */
llcuda_status gguf_read_tensor(struct gguf_reader *reader, uint32_t index, struct tensor *tensor,
                               uint64_t *offset);

#endif
