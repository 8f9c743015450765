/* Lines with columns of an adapter: what is taken of them is what the JSON says. */
#include "fuzz.h"

#include <stdlib.h>

#include "base/json.h"
#include "bench/adapter_columns.h"

static const char *const names[COLUMN_COUNT] = {"id", "index", "token", "at_ns"};

static void check_row(const struct json_value *values[COLUMN_COUNT],
                      const uint64_t row[COLUMN_COUNT])
{
    for (int column = 0; column < COLUMN_COUNT; column++) {
        int64_t number;
        const bool fits = json_integer(values[column], 0, INT64_MAX, &number);
        /* A number that long is none of its integers. */
        if (fits ? (uint64_t)number != row[column]
                 : row[column] < 1ull << 53 || !json_is(values[column], JSON_NUMBER)) {
            abort();
        }
        values[column] = json_next(values[column]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct columns columns;
    struct json_document *document = NULL;
    const struct json_value *values[COLUMN_COUNT];
    uint64_t row[COLUMN_COUNT];
    uint32_t count = 0;
    /* A line is followed by its end. */
    char *line = malloc(size + 1);
    if (!line) {
        return 0;
    }
    memcpy(line, data, size);
    line[size] = '\n';
    const bool json = !json_parse(text_view_make(line, size), NULL, &document, NULL);
    if (columns_open(text_view_make(line, size), &columns)) {
        const struct json_value *root = json ? json_root(document) : NULL;
        for (int column = 0; json && column < COLUMN_COUNT; column++) {
            values[column] = json_member(root, names[column]) + 1;
        }
        for (; columns_next(&columns, row); count++) {
            if (json) {
                check_row(values, row);
            }
        }
        for (int column = 0; columns.whole && column < COLUMN_COUNT; column++) {
            if (!json || json_member(root, names[column])->count != count) {
                abort();
            }
        }
    }
    json_destroy(document);
    free(line);
    return 0;
}
