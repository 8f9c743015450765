/* Reads one HTTP/1.1 answer as a client of a completion API sees it: the head, the body with its
 * framing taken off, and in a stream of server-sent events each `data:` line. A pure machine over
 * bytes; owns no socket. Answers are outside bytes: every length is bounded. One thread. */
#ifndef BENCH_HTTP_STREAM_H
#define BENCH_HTTP_STREAM_H

#include "base/buffer.h"

struct http_stream {
    int state;           /* private */
    struct buffer line;  /* private: the current line of head or event */
    struct buffer frame; /* private: the current line of a chunk's framing, which may come inside
                            an event's line */
    struct buffer body;  /* of an answer that is no stream, its first 64 KiB */
    uint64_t left;       /* private: bytes of the body or the chunk */
    int status;          /* 200; 0 before the head */
    bool chunked, events, close, has_length;
    bool done;   /* the answer is whole */
    bool broken; /* it is no HTTP; the connection must be closed */
};

/* In place; a zeroed struct is ready. */
void http_stream_reset(struct http_stream *stream);
void http_stream_deinit(struct http_stream *stream);

/* Takes bytes. `event` gets the data of each event, borrowed during the call. Returns how many
 * bytes were taken: fewer than given when the answer ends before. */
size_t http_stream_feed(struct http_stream *stream, const char *data, size_t bytes,
                        void (*event)(void *user, struct text_view data), void *user);

/* The connection was closed by the other side: an answer without a length is then whole. */
void http_stream_close(struct http_stream *stream);

#endif
