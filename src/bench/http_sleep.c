/* Owns the sleeping while tokens come where there is no tap: for how long, and whether it went
 * well. Being woken is most of what the harness costs, and the kernel knows when each token came
 * without it, as long as only a few of them wait. */
#include <time.h>

#include "base/clock.h"
#include "bench/http_connection.h"

#define GAP_NS_MIN    1000u
#define SPARE_MAX     3u
#define ANSWERS_MAX   64u /* that may come at once; with more they are read together anyway */
#define AWAKE_NS      500000000u /* after a sleep that went wrong */
#define DOUBT_BAD     8u         /* what one sleep that went wrong weighs against good ones */
#define DOUBT_MAX     32u
#define TOKENS_MIN    3u
#define TOKENS_MAX    8u      /* that may wait, … */
#define WINDOW_TOKENS 10u     /* … below a sender's first window, with what comes meanwhile … */
#define LATE_NS       500000u /* … when the system wakes us late by so much */
#define SLEEP_NS_MAX  12000000u
#define ONE           256u /* parts of an answer */

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

/* How many tokens of each answer may wait, at most. */
static uint64_t tokens_that_fit(const struct http_driver *driver, uint64_t at_most_ns)
{
    const uint64_t fit = (at_most_ns < SLEEP_NS_MAX ? at_most_ns : SLEEP_NS_MAX) / driver->gap_ns;
    const uint64_t late = LATE_NS / driver->gap_ns;
    const uint64_t window = late < WINDOW_TOKENS ? WINDOW_TOKENS - late : 0;
    const uint64_t room = window < TOKENS_MAX ? window : TOKENS_MAX;
    return fit < room ? fit : room;
}

/* For how many tokens nobody needs to look: requests are sent, answers are coming, none ends
 * before, and the server has been seen to send on whether it is listened to or not. */
static uint32_t tokens_to_sleep(const struct http_driver *driver, uint64_t at_most_ns)
{
    if (driver->doubt >= DOUBT_MAX || driver->speaking == 0 || driver->busy > ANSWERS_MAX ||
        driver->connection_count > 2 * ANSWERS_MAX || driver->gap_ns == 0) {
        return 0;
    }
    uint64_t tokens = tokens_that_fit(driver, at_most_ns);
    for (uint32_t i = 0; i < driver->connection_count; i++) {
        const struct http_connection *connection = driver->connections[i];
        /* The speed may vary. */
        const uint32_t seen = connection->tokens_seen + connection->held.count + 1 + driver->spare;
        if (connection->busy && connection->out_sent < connection->out.length) {
            return 0;
        }
        if (connection->busy) {
            const uint32_t left = connection->tokens_due > seen ? connection->tokens_due - seen : 0;
            tokens = left < tokens ? left : tokens;
        }
    }
    return tokens < TOKENS_MIN ? 0 : (uint32_t)tokens;
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
    uint32_t tokens; /* of all answers */
    uint32_t joined; /* those that came at the same moment as the one before */
    bool overslept;  /* an answer ended */
};

static void read_connection(struct http_connection *connection, struct harvest *harvest)
{
    const uint64_t before_ns = connection->token_ns;
    const uint32_t seen = connection->tokens_seen;
    connection->joined = 0;
    const bool goes_on = read_kept(connection);
    const uint32_t tokens = connection->tokens_seen - seen;
    harvest->tokens += tokens;
    harvest->joined += goes_on ? connection->joined : 0;
    if (seen && tokens) {
        http_note_gap(connection->driver, (connection->token_ns - before_ns) / tokens);
    }
    if (!goes_on) {
        harvest->overslept = true;
        http_conclude(connection);
    }
}

/* Whether it went well is looked at: tokens that came together may have been joined by the kernel,
 * few of them may mean a server that waits for an acknowledgement (without TCP_NODELAY), and an
 * answer that ended early was waited for too long (one that had all its tokens, too: the next one's
 * last sleep is shorter). Then nobody sleeps for a while (a sender that sounds out its path, as BBR
 * does, has little in flight meanwhile), and after a few of these no more. */
bool http_sleep_through(struct http_driver *driver, uint64_t until_ns)
{
    const uint64_t now = clock_now_ns();
    const uint32_t tokens = now < until_ns ? tokens_to_sleep(driver, until_ns - now) : 0;
    const struct timespec time = {0, (long)(tokens * driver->gap_ns)};
    const uint32_t answers = driver->speaking;
    struct harvest harvest = {0};
    if (tokens == 0 || now < driver->awake_until_ns) {
        return false;
    }
    for (uint32_t i = 0; i < driver->connection_count; i++) {
        struct http_connection *connection = driver->connections[i];
        if (connection->busy) {
            arrival_keep(connection->socket, !connection->kept);
            connection->kept = true;
        }
    }
    nanosleep(&time, NULL);
    driver->ended_early = false;
    /* From the end: a connection that is closed is replaced by the last. */
    for (uint32_t i = driver->connection_count; i-- > 0;) {
        struct http_connection *connection = driver->connections[i];
        if (!connection->busy) {
            continue;
        }
        if (http_feed_held(connection)) {
            read_connection(connection, &harvest);
        } else {
            http_conclude(connection);
        }
    }
    driver->spare += harvest.overslept && driver->spare < SPARE_MAX;
    if (harvest.joined || harvest.tokens <= answers || driver->ended_early) {
        driver->doubt += DOUBT_BAD;
        driver->awake_until_ns = clock_now_ns() + AWAKE_NS;
    } else if (driver->doubt) {
        driver->doubt--;
    }
    return true;
}
