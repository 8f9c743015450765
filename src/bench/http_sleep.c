/* Owns the sleeping while tokens come: for how long, and whether it went well. Being woken is most
 * of what the harness costs, and the kernel knows when each token came without it. */
#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"
#include "bench/http_connection.h"

#define GAP_NS_MIN  1000u
#define RUN_TOKENS  4u
#define SPARE_MAX   3u
#define ANSWERS_MAX 64u        /* that may come at once; with more they are read together anyway */
#define AWAKE_NS    500000000u /* after a sleep that went wrong */
#define DOUBT_BAD   8u         /* what one sleep that went wrong weighs against good ones */
#define DOUBT_MAX   32u

/* Without a tap the kernel keeps only so much apart: */
#define KEPT_MIN      3u
#define KEPT_TOKENS   8u      /* that may wait, … */
#define WINDOW_TOKENS 10u     /* … below a sender's first window, with what comes meanwhile … */
#define KEPT_LATE_NS  500000u /* … when the system wakes us late by so much */
#define KEPT_NS_MAX   12000000u

#define TAP_MIN          2u
#define TAP_NS_MAX       100000000u
#define TAP_SEGMENTS_MAX 4096u     /* that may come in a sleep: half of what a tap keeps */
#define TAP_BUFFER_BYTES (1 << 18) /* for what nobody reads meanwhile */

#define DOUBT_FEW 2u       /* of one that brought less than it should */
#define FEW_NS    5000000u /* nobody sleeps after it */

/* Parts of one: how much faster than awaited tokens came of late. */
#define ONE         256u
#define HURRY_FIRST 64u
#define HURRY_LEAST 8u
#define HURRY_MAX   1024u

/* A mean of late that one long pause moves little: an engine that was held up goes on at its own
 * speed, and not at that of its pause. It falls faster than it rises: to sleep for a token too few
 * costs little, for a few too many their times. */
void http_note_gap(struct http_driver *driver, uint64_t gap_ns)
{
    const uint64_t mean_ns = driver->gap_ns ? driver->gap_ns : gap_ns;
    if (gap_ns > mean_ns) {
        gap_ns = gap_ns < 2 * mean_ns ? gap_ns : 2 * mean_ns;
        driver->gap_ns = mean_ns + (gap_ns - mean_ns) / 8;
    } else {
        gap_ns = gap_ns > mean_ns / 2 ? gap_ns : mean_ns / 2;
        driver->gap_ns = mean_ns - (mean_ns - gap_ns) / 4;
    }
    driver->gap_ns = driver->gap_ns > GAP_NS_MIN ? driver->gap_ns : GAP_NS_MIN;
}

uint32_t http_tokens_due(const struct http_driver *driver, uint32_t asked)
{
    return (uint32_t)((uint64_t)asked * (ONE - driver->silent) / ONE);
}

void http_note_answer(const struct http_connection *connection)
{
    struct http_driver *driver = connection->driver;
    const uint32_t asked = connection->tokens_asked;
    const uint32_t seen = connection->tokens_seen < asked ? connection->tokens_seen : asked;
    const uint32_t silent = asked ? ONE - (uint32_t)((uint64_t)seen * ONE / asked) : 0;
    if (silent > driver->silent) {
        driver->silent += (silent - driver->silent + 1) / 2;
    } else {
        driver->silent -= (driver->silent - silent) / 4;
    }
}

/* What lay between tokens while many came; it falls at once and rises slowly. */
static void note_run(struct http_driver *driver, uint64_t gap_ns)
{
    const uint64_t mean_ns = driver->run_gap_ns ? driver->run_gap_ns : gap_ns;
    driver->run_gap_ns =
        gap_ns < mean_ns ? (mean_ns + gap_ns) / 2 : mean_ns + (gap_ns - mean_ns) / 8;
}

/* What will lie between tokens: while others' prompts are read it is more, and then no longer. */
static uint64_t gap_to_come(const struct http_driver *driver)
{
    const uint64_t run_ns = driver->run_gap_ns > GAP_NS_MIN ? driver->run_gap_ns : GAP_NS_MIN;
    return driver->run_gap_ns && run_ns < driver->gap_ns ? run_ns : driver->gap_ns;
}

/* For how many tokens an answer does not end, in parts of one, even if they hurry twice as much as
 * of late: who sleeps through an end keeps the next request waiting. A tap lets who sleeps wake up
 * between two of them. */
static uint64_t before_end(const struct http_driver *driver,
                           const struct http_connection *connection)
{
    const uint32_t seen = connection->tokens_seen + connection->held.count;
    const uint64_t left = connection->tokens_due > seen ? connection->tokens_due - seen : 0;
    const uint64_t calm = left * ONE * ONE / (ONE + 2 * driver->hurry);
    const uint64_t last = driver->tap ? ONE / 2 : ONE * (1 + driver->spare);
    return calm > last ? calm - last : 0;
}

/* How many tokens of each answer may wait, at most. */
static uint64_t tokens_that_fit(const struct http_driver *driver, uint64_t at_most_ns)
{
    const uint64_t longest_ns = driver->tap ? TAP_NS_MAX : KEPT_NS_MAX;
    const uint64_t gap_ns = gap_to_come(driver);
    const uint64_t fit = (at_most_ns < longest_ns ? at_most_ns : longest_ns) / gap_ns;
    const uint64_t late = KEPT_LATE_NS / gap_ns;
    const uint64_t window = late < WINDOW_TOKENS ? WINDOW_TOKENS - late : 0;
    const uint64_t kept = window < KEPT_TOKENS ? window : KEPT_TOKENS;
    const uint64_t room = driver->tap ? TAP_SEGMENTS_MAX / (driver->busy + 1) : kept;
    return fit < room ? fit : room;
}

/* For how many tokens, in parts of one, nobody needs to look: requests are sent, answers are
 * coming, none ends before, and the server has been seen to send on whether it is listened to or
 * not. */
static uint64_t tokens_to_sleep(const struct http_driver *driver, uint64_t at_most_ns)
{
    if (driver->doubt >= DOUBT_MAX || driver->speaking == 0 || driver->busy > ANSWERS_MAX ||
        driver->connection_count > 2 * ANSWERS_MAX || driver->gap_ns == 0) {
        return 0;
    }
    uint64_t tokens = tokens_that_fit(driver, at_most_ns) * ONE;
    for (uint32_t i = 0; i < driver->connection_count; i++) {
        const struct http_connection *connection = driver->connections[i];
        if (connection->busy && connection->out_sent < connection->out.length) {
            return 0;
        }
        if (connection->busy) {
            const uint64_t calm = before_end(driver, connection);
            tokens = calm < tokens ? calm : tokens;
        }
    }
    return tokens < (driver->tap ? TAP_MIN : KEPT_MIN) * ONE ? 0 : tokens;
}

/* A reader that says it waits for many bytes gets the room for them, and the kernel acknowledges
 * what comes without it: a sender that does not hear of its first ten segments sends no more. */
static void read_from(const struct http_connection *connection, int bytes)
{
    setsockopt(connection->socket, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes);
}

static void let_wait(const struct http_driver *driver)
{
    for (uint32_t i = 0; i < driver->connection_count; i++) {
        struct http_connection *connection = driver->connections[i];
        if (connection->busy && driver->tap) {
            read_from(connection, TAP_BUFFER_BYTES);
        } else if (connection->busy) {
            arrival_keep(connection->socket, !connection->kept);
            connection->kept = true;
        }
    }
}

/* Reads what waited in sight of arrival_keep; false when the answer is over. */
static bool read_kept(struct http_connection *connection)
{
    struct http_driver *driver = connection->driver;
    const struct arrival_clock clock = {driver->clock_offset_ns, connection->at_ns};
    arrival_take_kept(connection->socket, clock, &connection->held);
    if (connection->held.count) {
        connection->at_ns = connection->held.pieces[connection->held.count - 1].at_ns;
        connection->answered = true;
        connection->next_held = driver->held;
        driver->held = connection;
    }
    return http_feed_held(connection);
}

/* What a sleep brought. */
struct harvest {
    uint32_t tokens, most; /* of all answers, of one */
    uint32_t joined;       /* those that came at the same moment as the one before */
    bool unknown;          /* some of whose times nobody knows */
    bool overslept;        /* an answer ended */
};

/* Understands bytes that were read by now, each piece as of the time that the tap tells; false when
 * the answer is over. */
static bool feed_tapped(struct http_connection *connection, const char *data, size_t bytes,
                        uint64_t now, struct harvest *harvest)
{
    bool goes_on = true;
    for (size_t taken = 0; goes_on && taken < bytes;) {
        uint64_t at_ns;
        const size_t piece = tap_stream_piece(&connection->tap, bytes - taken, &at_ns);
        harvest->unknown |= at_ns == 0;
        at_ns = at_ns && at_ns < now ? at_ns : now;
        connection->at_ns = at_ns > connection->at_ns ? at_ns : connection->at_ns;
        goes_on = http_feed(connection, data + taken, piece, connection->at_ns);
        taken += piece;
    }
    return goes_on;
}

/* Reads all that waited; false when the answer is over. */
static bool read_tapped(struct http_connection *connection, struct harvest *harvest)
{
    char data[HTTP_READ_BYTES];
    const struct http_driver *driver = connection->driver;
    bool goes_on = true;
    ssize_t got = sizeof data;
    while (goes_on && got == sizeof data) {
        got = recv(connection->socket, data, sizeof data, 0);
        const uint64_t now = clock_now_ns();
        if (got > 0) {
            /* After it, so that the tap tells of all that was read. */
            http_tap_drain(driver->tap, driver->clock_offset_ns);
            connection->answered = true;
            goes_on = feed_tapped(connection, data, (size_t)got, now, harvest);
        }
    }
    return goes_on;
}

static void read_connection(struct http_connection *connection, struct harvest *harvest)
{
    struct http_driver *driver = connection->driver;
    const uint64_t before_ns = connection->token_ns;
    const uint32_t seen = connection->tokens_seen;
    connection->joined = 0;
    const bool goes_on = driver->tap ? read_tapped(connection, harvest) : read_kept(connection);
    const uint32_t tokens = connection->tokens_seen - seen;
    harvest->tokens += tokens;
    harvest->most = tokens > harvest->most ? tokens : harvest->most;
    harvest->joined += goes_on ? connection->joined : 0;
    if (seen && tokens) {
        http_note_gap(driver, (connection->token_ns - before_ns) / tokens);
    }
    if (seen && tokens >= RUN_TOKENS) {
        note_run(driver, (connection->token_ns - before_ns) / tokens);
    }
    if (!goes_on) {
        harvest->overslept = true;
        http_conclude(connection);
    }
}

static void note_hurry(struct http_driver *driver, uint32_t awaited, const struct harvest *harvest)
{
    /* One may be more by chance: a sleep ends somewhere between two tokens. */
    const uint32_t more = harvest->most > awaited + 1 ? harvest->most - awaited - 1 : 0;
    uint64_t hurry = (uint64_t)more * ONE / awaited;
    /* It ended, but would have gone on at that speed. */
    hurry = harvest->overslept ? 2 * hurry + HURRY_LEAST : hurry;
    const uint32_t lately = driver->hurry - driver->hurry / 8;
    hurry = hurry > lately ? hurry : lately;
    hurry = hurry > HURRY_LEAST ? hurry : HURRY_LEAST;
    driver->hurry = hurry < HURRY_MAX ? (uint32_t)hurry : HURRY_MAX;
}

/* Whether it went well. Tokens that came together may have been joined by the kernel; with a tap
 * only by the server: a few by one that is busy, most of them by one that waits for an
 * acknowledgement (without TCP_NODELAY). Few may mean the same, or that it was busy with others'
 * prompts. An answer that ended early was waited for too long. Then nobody sleeps for a while (a
 * sender that sounds out its path, as BBR does, has little in flight meanwhile), and after a few of
 * these no more. */
static void judge(struct http_driver *driver, uint32_t awaited, uint32_t answers,
                  const struct harvest *harvest)
{
    const uint64_t now = clock_now_ns();
    const uint32_t fine = driver->tap ? harvest->tokens - harvest->tokens / 4 : 0;
    const bool few = (awaited >= KEPT_MIN && harvest->tokens <= answers) || driver->ended_early;
    if (harvest->unknown || harvest->joined > fine || (few && !driver->tap)) {
        driver->doubt += DOUBT_BAD;
        driver->awake_until_ns = now + AWAKE_NS;
    } else if (few) {
        driver->doubt += DOUBT_FEW;
        driver->awake_until_ns = now + FEW_NS;
    } else if (driver->doubt) {
        driver->doubt--;
    }
}

bool http_sleep_through(struct http_driver *driver, uint64_t until_ns)
{
    const uint64_t now = clock_now_ns();
    driver->hurry = driver->hurry ? driver->hurry : HURRY_FIRST;
    const uint64_t parts = now < until_ns ? tokens_to_sleep(driver, until_ns - now) : 0;
    const uint32_t tokens = (uint32_t)(parts / ONE);
    const struct timespec time = {0, (long)(parts * gap_to_come(driver) / ONE)};
    const uint32_t answers = driver->speaking;
    struct harvest harvest = {0};
    if (tokens == 0 || now < driver->awake_until_ns) {
        return false;
    }
    let_wait(driver);
    nanosleep(&time, NULL);
    driver->ended_early = false;
    /* From the end: a connection that is closed is replaced by the last. */
    for (uint32_t i = driver->connection_count; i-- > 0;) {
        struct http_connection *connection = driver->connections[i];
        if (!connection->busy) {
            continue;
        }
        if (driver->tap) {
            read_from(connection, 1);
        }
        if (http_feed_held(connection)) {
            read_connection(connection, &harvest);
        } else {
            http_conclude(connection);
        }
    }
    note_hurry(driver, tokens, &harvest);
    driver->spare += harvest.overslept && driver->spare < SPARE_MAX;
    judge(driver, tokens, answers, &harvest);
    return true;
}
