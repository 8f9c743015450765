/* Owns the reading of answers whose times the kernel keeps a record of (http_tap.h): nobody looks
 * at tokens while they come; the end of an answer is what wakes the harness, and then all of it is
 * read with the times that were noted. */
#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "bench/http_connection.h"

#define UNREAD_BYTES (1 << 18)  /* of an answer, before it is read in any case */
#define SWEEP_NS     100000000u /* how often answers are read that nobody told of */
#define JOINED_MIN   8u         /* tokens of an answer of which most came together */
#define DOUBT_BAD    4u         /* what an answer that went wrong weighs against good ones */
#define DOUBT_MAX    12u

/* From how many bytes on the socket wakes us. A reader that says it waits for many gets the room
 * for them, and the kernel acknowledges what comes without it: a sender that does not hear of its
 * first ten segments sends no more. */
static void wake_from(struct http_connection *connection, int bytes)
{
    if (connection->wake_bytes != bytes) {
        connection->wake_bytes = bytes;
        setsockopt(connection->socket, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes);
    }
}

void http_record_begin(struct http_connection *connection)
{
    connection->told = connection->unknown = false;
    connection->joined = 0;
    wake_from(connection, connection->driver->listens ? 1 : UNREAD_BYTES);
}

/* Understands bytes that were read, each piece as of the time that the record tells; none is later
 * than what the socket tells of the last of them, which also serves where the record has a hole.
 * False when the answer is over. */
static bool feed(struct http_connection *connection, const char *data, size_t bytes,
                 uint64_t last_ns)
{
    bool goes_on = true;
    for (size_t taken = 0; goes_on && taken < bytes;) {
        uint64_t at_ns;
        const size_t piece = tap_stream_piece(&connection->tap, bytes - taken, &at_ns);
        connection->unknown |= at_ns == 0;
        at_ns = at_ns && at_ns < last_ns ? at_ns : last_ns;
        connection->at_ns = at_ns > connection->at_ns ? at_ns : connection->at_ns;
        goes_on = http_feed(connection, data + taken, piece, connection->at_ns);
        taken += piece;
    }
    return goes_on;
}

/* Whether sleeping until an answer ends is what this server allows. It is not where ends are not
 * told; where tokens come together, because the server waits for acknowledgements (it lacks
 * TCP_NODELAY) that a reader gives at once and a sleeper late; or where the record has holes. */
static void judge(const struct http_connection *connection, bool told)
{
    struct http_driver *driver = connection->driver;
    const uint32_t seen = connection->tokens_seen;
    const bool together = seen >= JOINED_MIN && connection->joined > seen - seen / 4;
    if (!told || together || connection->unknown) {
        driver->doubt += DOUBT_BAD;
        driver->listens = driver->listens || driver->doubt >= DOUBT_MAX;
    } else if (driver->doubt) {
        driver->doubt--;
    }
}

/* The end is on its way to the socket when the tap has told of it, or nothing will tell of it; but
 * when more came since, and that was not the end, the tap was wrong. */
static void go_on(struct http_connection *connection, bool told, bool more)
{
    const struct http_driver *driver = connection->driver;
    const bool ends_untold = connection->stream.status && !connection->stream.chunked;
    connection->told = told || (connection->told && !more);
    wake_from(connection, connection->told || ends_untold || driver->listens ? 1 : UNREAD_BYTES);
}

void http_record_read(struct http_connection *connection, bool told)
{
    char data[HTTP_READ_BYTES];
    struct http_driver *driver = connection->driver;
    const uint64_t before_ns = connection->at_ns;
    bool more = false;
    ssize_t got;
    do {
        const struct arrival_clock clock = {driver->clock_offset_ns, before_ns};
        uint64_t last_ns;
        got = arrival_receive(connection->socket, data, sizeof data, &clock, &last_ns);
        if (got > 0) {
            /* After it, so that the record tells of all that was read. */
            http_tap_drain(driver->tap, driver->clock_offset_ns);
            connection->answered = more = true;
            if (!feed(connection, data, (size_t)got, last_ns)) {
                judge(connection, told || connection->told);
                http_conclude(connection);
                return;
            }
        }
    } while (got == (ssize_t)sizeof data);
    if (driver->listens && connection->speaks) {
        http_note_gap(driver, connection->at_ns - before_ns);
    }
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
        connection->now_ns = connection->at_ns;
        http_stream_close(&connection->stream);
        http_conclude(connection);
    } else {
        go_on(connection, told, more);
    }
}

void http_record_take_ends(struct http_driver *driver)
{
    struct tap_stream *stream;
    while ((stream = http_tap_next_end(driver->tap)) != NULL) {
        struct http_connection *connection =
            (void *)((char *)stream - offsetof(struct http_connection, tap));
        if (connection->busy) {
            http_record_read(connection, true);
        }
    }
}

void http_record_sweep(struct http_driver *driver)
{
    const uint64_t now = clock_now_ns();
    if (now - driver->swept_ns < SWEEP_NS) {
        return;
    }
    driver->swept_ns = now;
    /* From the end: a connection that is closed is replaced by the last. */
    for (uint32_t i = driver->connection_count; i-- > 0;) {
        if (driver->connections[i]->busy && !driver->connections[i]->connecting) {
            http_record_read(driver->connections[i], false);
        }
    }
}
