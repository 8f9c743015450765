/* What an event of a completion stream says: a piece of text, or how many tokens there were. From
 * token to token nothing changes but the text, so an event is compared with the last one that was
 * parsed, and only one that differs elsewhere is parsed itself. One thread. */
#ifndef BENCH_HTTP_EVENT_H
#define BENCH_HTTP_EVENT_H

#include "base/buffer.h"

struct json_document;

struct http_event {
    struct text_view text; /* of the first choice; valid until the next read */
    bool has_prompt_tokens, has_output_tokens;
    uint32_t prompt_tokens, output_tokens;
};

/* A zeroed struct is ready. */
struct http_event_reader {
    struct json_document *document; /* private: holds a decoded text */
    struct buffer last;          /* private: the last event that was parsed and had a plain text */
    size_t text_begin, text_end; /* private: where in it that text is */
    uint64_t parsed;             /* events that were parsed in full */
};

/* Reads the data of an event; what is no JSON, or says nothing of all this, gives an empty event.
 * The text may point into `data`. */
void http_event_read(struct http_event_reader *reader, struct text_view data,
                     struct http_event *event);
void http_event_reader_deinit(struct http_event_reader *reader);

#endif
