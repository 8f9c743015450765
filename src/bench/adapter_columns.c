/* Owns the form of such a line: what it takes is JSON, but not all that JSON would allow. */
#include "bench/adapter_columns.h"

#include <string.h>

#define DIGITS_MAX 19 /* that fit 64 bits whatever they are */

static const char *skip_spaces(const char *at, const char *end)
{
    while (at < end && *at == ' ') {
        at++;
    }
    return at;
}

/* Goes past a character and spaces around it; NULL where another stands. */
static const char *pass(const char *at, const char *end, char expected)
{
    at = at ? skip_spaces(at, end) : end;
    return at < end && *at == expected ? skip_spaces(at + 1, end) : NULL;
}

/* Goes past a string without escapes, and says what it holds. */
static const char *pass_text(const char *at, const char *end, struct text_view *text)
{
    const char *begin = pass(at, end, '"');
    /* Spaces that follow the quote belong to it. */
    begin = begin ? (const char *)memchr(at, '"', (size_t)(end - at)) + 1 : NULL;
    const char *close = begin ? memchr(begin, '"', (size_t)(end - begin)) : NULL;
    if (!close) {
        return NULL;
    }
    *text = text_view_make(begin, (size_t)(close - begin));
    return skip_spaces(close + 1, end);
}

static int column_of(struct text_view name)
{
    static const char *const names[COLUMN_COUNT] = {"id", "index", "token", "at_ns"};
    for (int column = 0; column < COLUMN_COUNT; column++) {
        if (text_view_is(name, names[column])) {
            return column;
        }
    }
    return -1;
}

bool columns_open(struct text_view line, struct columns *columns)
{
    const char *end = line.data + line.length;
    const char *at = pass(line.data, end, '{');
    bool tokens = false;
    *columns = (struct columns){.begun = false};
    while (at) {
        struct text_view name;
        struct text_view value;
        const char *colon = pass(pass_text(at, end, &name), end, ':');
        if (!colon || colon == end) {
            return false;
        }
        if (*colon == '"') {
            at = pass_text(colon, end, &value);
            if (!at || tokens || !text_view_is(name, "event") || !text_view_is(value, "tokens")) {
                return false;
            }
            tokens = true;
        } else {
            const int column = column_of(name);
            const char *close = *colon == '[' ? memchr(colon, ']', (size_t)(end - colon)) : NULL;
            if (!close || column < 0 || columns->at[column]) {
                return false;
            }
            columns->at[column] = colon + 1;
            at = close + 1;
        }
        const char *comma = pass(at, end, ',');
        if (!comma) {
            at = pass(at, end, '}');
            break;
        }
        at = comma;
    }
    for (int column = 0; column < COLUMN_COUNT; column++) {
        tokens = tokens && columns->at[column];
    }
    return tokens && at == end;
}

/* A number and the comma before it, unless it is the first. False where something else stands. */
static bool read_number(const char **place, bool first, uint64_t *out)
{
    const char *at = *place;
    uint64_t value = 0;
    for (; *at == ' '; at++) {
    }
    if (!first && *at++ != ',') {
        return false;
    }
    for (; *at == ' '; at++) {
    }
    const char *begin = at;
    for (; *at >= '0' && *at <= '9' && at - begin <= DIGITS_MAX; at++) {
        value = value * 10 + (uint64_t)(*at - '0');
    }
    *out = value;
    *place = at;
    return at > begin && at - begin <= DIGITS_MAX && (*begin != '0' || at == begin + 1) &&
           (*at == ',' || *at == ']' || *at == ' ');
}

static bool at_end(const char *at)
{
    for (; *at == ' '; at++) {
    }
    return *at == ']';
}

bool columns_next(struct columns *columns, uint64_t row[COLUMN_COUNT])
{
    int ended = 0;
    int read = 0;
    for (int column = 0; column < COLUMN_COUNT; column++) {
        if (at_end(columns->at[column])) {
            ended++;
        } else {
            read += read_number(&columns->at[column], !columns->begun, &row[column]);
        }
    }
    columns->begun = true;
    columns->whole = ended == COLUMN_COUNT;
    return read == COLUMN_COUNT;
}
