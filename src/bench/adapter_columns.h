/* Many tokens in one line of an adapter, a column for each member:
 *   {"event":"tokens","id":[7,7],"index":[0,1],"token":[123,45],"at_ns":[…,…]}
 * Read number by number, without a tree of values, which would cost several times as much as all
 * else that is done for a token. The line is outside bytes. One thread. */
#ifndef BENCH_ADAPTER_COLUMNS_H
#define BENCH_ADAPTER_COLUMNS_H

#include <stdint.h>

#include "base/view.h"

enum { COLUMN_ID, COLUMN_INDEX, COLUMN_TOKEN, COLUMN_AT_NS, COLUMN_COUNT };

struct columns {
    const char *at[COLUMN_COUNT]; /* private: where each goes on, borrowed from the line */
    bool begun, whole;            /* private, and whether all ended together */
};

/* Finds the columns of a line; false when it has another form. The line must be followed by a byte
 * that is no digit. */
bool columns_open(struct text_view line, struct columns *columns);

/* The next row. False behind the last one, when `whole` says whether the columns were as long as
 * each other and held numbers only: unsigned, of at most 64 bits. */
bool columns_next(struct columns *columns, uint64_t row[COLUMN_COUNT]);

#endif
