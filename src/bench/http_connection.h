/* Private to the driver of HTTP servers: a connection, what reads it where the kernel keeps a
 * record of arrivals (http_record.c) and where it does not (driver_http.c), and what then sleeps
 * while a few tokens come (http_sleep.c). One thread. */
#ifndef BENCH_HTTP_CONNECTION_H
#define BENCH_HTTP_CONNECTION_H

#include "bench/driver_http.h"
#include "bench/http_arrival.h"
#include "bench/http_event.h"
#include "bench/http_stream.h"
#include "bench/http_tap.h"

#define HTTP_READ_BYTES 65536u

struct http_connection {
    int socket;
    bool busy, connecting, reused, answered;
    bool watches_room; /* to send more */
    bool rested;       /* longer than IDLE_SHORT_NS, before it was used again */
    uint32_t index;    /* of the request */
    uint32_t output_tokens, prompt_tokens;
    uint32_t tokens_asked; /* of the answer, if it has them all */
    uint32_t tokens_due;   /* those that will be seen: a token without a text is none */
    uint32_t tokens_seen;
    uint64_t token_ns; /* of the last one */
    bool saw_done;
    bool kept;       /* what comes waits in the kernel at times */
    uint32_t joined; /* tokens that came at the same moment as the one before */
    struct buffer out;
    size_t out_sent;
    struct http_stream stream;
    struct http_event_reader events;
    struct http_driver *driver;
    struct http_connection *next_idle;
    uint32_t place;            /* in the driver's list */
    uint64_t now_ns;           /* of the bytes that are being read */
    uint64_t at_ns;            /* of the last bytes that came; before them, of the request */
    bool speaks;               /* a token of this answer came */
    struct arrivals_held held; /* what came, as long as nobody looked at it */
    struct tap_stream tap;     /* when it came, where the driver has a tap, and then: */
    int wake_bytes;            /* from how many bytes on the socket wakes us; 0: the first */
    bool told;                 /* that the answer has ended */
    bool unknown;              /* when some of its bytes came */
    struct http_connection *next_held;
};

/* Reads bytes that came at `at_ns`; false when the answer is over, and must be concluded. */
bool http_feed(struct http_connection *connection, const char *data, size_t bytes, uint64_t at_ns);

/* Reads what is held, likewise. */
bool http_feed_held(struct http_connection *connection);

/* What became of a request whose answer is whole or whose connection has ended; perhaps it takes
 * the connection with it. */
void http_conclude(struct http_connection *connection);

/* With a tap. The first is called before a request is sent, the second reads what there is of its
 * answer, and concludes when it is over; `told`: because the tap says so. */
void http_record_begin(struct http_connection *connection);
void http_record_read(struct http_connection *connection, bool told);

/* Reads the answers whose ends the tap has told of, and now and then all others. */
void http_record_take_ends(struct http_driver *driver);
void http_record_sweep(struct http_driver *driver);

/* Time left until `until_ns`, or less. */
struct timespec http_time_until(uint64_t until_ns, uint64_t at_most_ns);

/* What lay between two tokens of an answer. */
void http_note_gap(struct http_driver *driver, uint64_t gap_ns);

/* How many of the tokens that are asked for will be seen, going by the answers before; and what an
 * answer that is whole says of it. */
uint32_t http_tokens_due(const struct http_driver *driver, uint32_t asked);
void http_note_answer(const struct http_connection *connection);

/* Without a tap: sleeps while a few tokens come, and then reads them with the times that their
 * sockets noted, so that the harness is woken once for them. False when there is no time for that,
 * or not the circumstances: then nothing was done. */
bool http_sleep_through(struct http_driver *driver, uint64_t until_ns);

#endif
