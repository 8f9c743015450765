/* The kernel's own record of when a server's segments arrived: a packet socket with a ring, into
 * which the kernel copies the heads of segments that come from one address and port, each with its
 * time (packet(7), PACKET_RX_RING). Nobody has to be awake for it, so that a reader may sleep until
 * an answer ends and still know when each of its tokens came; a second socket, which hears of ends
 * alone, wakes it then. It needs CAP_NET_RAW. One thread. */
#ifndef BENCH_HTTP_TAP_H
#define BENCH_HTTP_TAP_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_tap; /* private */

#define TAP_EARLY_MAX 16u

/* When the bytes of one connection arrived. A zeroed struct is ready to be watched. */
struct tap_stream {
    uint16_t port;  /* ours, network order; 0: not watched */
    bool known;     /* the first sequence number is: the connection's begin was seen */
    uint32_t read;  /* sequence number of the next byte that the reader takes */
    uint32_t next;  /* of the first byte that did not arrive yet */
    uint32_t first; /* of the marks: those before it have been read */
    uint32_t count;
    uint32_t capacity;
    struct tap_mark {
        uint32_t end; /* sequence number behind the last byte that had arrived then */
        uint64_t at_ns;
    } * marks;
    struct {
        uint32_t begin, end;
    } early[TAP_EARLY_MAX]; /* segments that came before what lies before them */
    uint32_t early_count;
};

/* Watches what comes from a server, before anything is connected to it. NULL where that is not
 * allowed, or not known (packet sockets are Linux'): times are then those that a socket tells. */
struct http_tap *http_tap_open(const struct sockaddr *server);
void http_tap_close(struct http_tap *tap);

/* Begins to note what arrives for a connected or connecting socket; the stream must stay where it
 * is until it is forgotten. */
void http_tap_watch(struct http_tap *tap, struct tap_stream *stream, int descriptor);
void http_tap_forget(struct http_tap *tap, struct tap_stream *stream);

/* Takes what the kernel noted since the last time. `offset_ns` is how far the system's clock is
 * ahead of clock_now_ns. */
void http_tap_drain(struct http_tap *tap, int64_t offset_ns);

/* Readable when answers have ended: segments came whose bytes end as the last chunk of a body does
 * (with "0\r\n\r\n"; some servers send its last two bytes alone), or that begin an answer with
 * another status than 2xx. It may tell of one before the connection's own socket has it. What ends
 * otherwise (with a connection, or after as many bytes as were announced) is not told. */
int http_tap_ends(const struct http_tap *tap);

/* Takes the next of these; NULL when there are no more. */
struct tap_stream *http_tap_next_end(struct http_tap *tap);

/* The parts of a segment's head that matter. */
struct tap_segment {
    uint16_t port; /* of the receiver, network order */
    bool first;    /* of its connection */
    uint32_t begin, end;
};

/* Reads the head of a segment from its IP header on, of which `bytes` are there; false when it is
 * none. */
bool tap_read_head(const uint8_t *head, size_t bytes, bool ipv6, struct tap_segment *segment);

/* Notes a segment. One that was lost and sent again brings those behind it along: a reader gets
 * them all at that moment. */
void tap_stream_add(struct tap_stream *stream, const struct tap_segment *segment, uint64_t at_ns);

/* Of `bytes` (more than none) that the reader has taken next, how many had arrived at the same
 * time, and when; the rest is for the next call. *at_ns is 0 where nothing is known. */
size_t tap_stream_piece(struct tap_stream *stream, size_t bytes, uint64_t *at_ns);

#endif
