/* A scripted engine behind the engine protocol, for measuring what the harness costs: every request
 * of a run gets a token each `step` microseconds.
 *   bench_paced_engine STEP_US [stamps|columns]
 * With `stamps` a token says when it was known, and lines wait for company as long as the run
 * allows; with `columns` they wait as one line; without, every step is written at once. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "paced.h"

static unsigned long long number_after(const char *line, const char *key)
{
    const char *place = strstr(line, key);
    return place ? strtoull(place + strlen(key), NULL, 10) : 0;
}

enum form { PLAIN, STAMPS, COLUMNS };

#define ROWS_MAX 65536u
static struct {
    unsigned index;
    unsigned long long token, at_ns;
} rows[ROWS_MAX]; /* of tokens that are not written yet */
static unsigned row_count;

static void write_rows(unsigned long long id)
{
    static const char *const heads[] = {"{\"event\":\"tokens\",\"id\":[", "],\"index\":[",
                                        "],\"token\":[", "],\"at_ns\":["};
    for (int column = 0; row_count && column < 4; column++) {
        fputs(heads[column], stdout);
        for (unsigned i = 0; i < row_count; i++) {
            const unsigned long long row[] = {id, rows[i].index, rows[i].token, rows[i].at_ns};
            printf("%s%llu", i ? "," : "", row[column]);
        }
    }
    fputs(row_count ? "]}\n" : "", stdout);
    row_count = 0;
}

static void tell(unsigned long long id, unsigned index, unsigned long long token, uint64_t now,
                 enum form form)
{
    char stamp[48] = "";
    if (form == COLUMNS) {
        rows[row_count].index = index;
        rows[row_count].token = token;
        rows[row_count++].at_ns = now;
        return;
    }
    if (form == STAMPS) {
        snprintf(stamp, sizeof stamp, ",\"at_ns\":%llu", (unsigned long long)now);
    }
    printf("{\"event\":\"token\",\"id\":%llu,\"index\":%u,\"token\":%llu%s}\n", id, index, token,
           stamp);
}

static void run(const char *line, uint64_t step_ns, enum form form)
{
    unsigned long long id = number_after(line, "\"id\":");
    unsigned long long tokens = number_after(line, "\"max_tokens\":");
    uint64_t hold_ns = number_after(line, "\"hold_us\":") * 1000;
    uint64_t flushed = paced_now_ns();
    uint64_t now = flushed;
    unsigned count = 0;
    for (const char *place = line; (place = strstr(place, "\"max_tokens\":")) != NULL; place++) {
        count++;
    }
    for (unsigned long long token = 0; token < tokens; token++) {
        paced_sleep_until(now + step_ns); /* late or not, a whole step lies between two tokens */
        now = paced_now_ns();
        for (unsigned index = 0; index < count; index++) {
            tell(id, index, token, now, form);
        }
        if (form == PLAIN || now - flushed >= hold_ns || row_count + count > ROWS_MAX) {
            write_rows(id);
            fflush(stdout);
            flushed = now;
        }
    }
    write_rows(id);
    for (unsigned index = 0; index < count; index++) {
        printf("{\"event\":\"done\",\"id\":%llu,\"index\":%u,\"finish\":\"length\","
               "\"completion_tokens\":%llu}\n",
               id, index, tokens);
    }
    printf("{\"ok\":true,\"op\":\"run\",\"id\":%llu}\n", id);
    fflush(stdout);
}

int main(int argument_count, char **arguments)
{
    static char line[1 << 20];
    static char waiting[1 << 16]; /* given none, the C library takes a page whatever it is told */
    uint64_t step_ns = argument_count > 1 ? strtoull(arguments[1], NULL, 10) * 1000 : 1000000;
    const char *asked = argument_count > 2 ? arguments[2] : "";
    enum form form = strcmp(asked, "stamps") == 0    ? STAMPS
                     : strcmp(asked, "columns") == 0 ? COLUMNS
                                                     : PLAIN;
    setvbuf(stdout, waiting, _IOFBF, sizeof waiting);
    while (fgets(line, sizeof line, stdin)) {
        if (strstr(line, "\"op\":\"run\"")) {
            run(line, step_ns, form);
        } else {
            const char *op = strstr(line, "\"hello\"") ? "hello" : "stop";
            printf("{\"ok\":true,\"op\":\"%s\",\"version\":1}\n", op);
            fflush(stdout);
        }
        if (strstr(line, "\"op\":\"stop\"")) {
            break;
        }
    }
    return 0;
}
