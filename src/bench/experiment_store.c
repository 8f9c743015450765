/* Owns the database of experiments. Every statement is prepared and bound; no text is ever pasted
 * into SQL. One connection, one thread. */
#include "bench/experiment.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buffer.h"
#include "base/file.h"
#include "build_config.h"

#if LLCUDA_HAVE_SQLITE

#include <sqlite3.h>

struct experiment_store {
    sqlite3 *database;
};

static const char schema[] =
    "PRAGMA journal_mode = WAL;"
    "CREATE TABLE IF NOT EXISTS experiment (id TEXT PRIMARY KEY, name TEXT NOT NULL, folder TEXT "
    "NOT NULL, config TEXT NOT NULL, cells INTEGER NOT NULL, state TEXT NOT NULL, started INTEGER "
    "NOT NULL, ended INTEGER);"
    "CREATE TABLE IF NOT EXISTS figure (experiment TEXT NOT NULL REFERENCES experiment(id), cell "
    "TEXT NOT NULL, workload TEXT NOT NULL, point TEXT NOT NULL, metric TEXT NOT NULL, run INTEGER "
    "NOT NULL, value REAL, PRIMARY KEY (experiment, cell, workload, point, metric, run));"
    "CREATE TABLE IF NOT EXISTS quality (experiment TEXT NOT NULL REFERENCES experiment(id), cell "
    "TEXT NOT NULL, metric TEXT NOT NULL, value REAL, PRIMARY KEY (experiment, cell, metric));";

static llcuda_status fail(struct experiment_store *store, struct llcuda_error *error)
{
    return error_set(error, LLCUDA_IO, "the database of experiments: %s",
                     store->database ? sqlite3_errmsg(store->database) : "no memory");
}

llcuda_status experiment_store_open(const char *path, struct experiment_store **out,
                                    struct llcuda_error *error)
{
    struct experiment_store *store = calloc(1, sizeof *store);
    if (!store) {
        return error_no_memory(error, "a database", sizeof *store);
    }
    if (sqlite3_open(path, &store->database) != SQLITE_OK ||
        sqlite3_busy_timeout(store->database, 10000) != SQLITE_OK ||
        sqlite3_exec(store->database, schema, NULL, NULL, NULL) != SQLITE_OK) {
        llcuda_status status = fail(store, error);
        experiment_store_close(store);
        return error_prefix(error, status, "'%s'", path);
    }
    *out = store;
    return LLCUDA_OK;
}

void experiment_store_close(struct experiment_store *store)
{
    if (store) {
        sqlite3_close(store->database);
        free(store);
    }
}

/* Prepares and binds texts; NULL after a failure. */
static sqlite3_stmt *prepare(struct experiment_store *store, const char *sql,
                             const char *const *texts, int count)
{
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(store->database, sql, -1, &statement, NULL) != SQLITE_OK) {
        return NULL;
    }
    for (int i = 0; i < count; i++) {
        sqlite3_bind_text(statement, i + 1, texts[i], -1, SQLITE_TRANSIENT);
    }
    return statement;
}

static llcuda_status finish(struct experiment_store *store, sqlite3_stmt *statement,
                            struct llcuda_error *error)
{
    int result = statement ? sqlite3_step(statement) : SQLITE_ERROR;
    sqlite3_finalize(statement);
    return result == SQLITE_DONE || result == SQLITE_ROW ? LLCUDA_OK : fail(store, error);
}

llcuda_status experiment_store_folder(struct experiment_store *store, const char *id,
                                      struct buffer *out, struct llcuda_error *error)
{
    sqlite3_stmt *statement = prepare(store, "SELECT folder FROM experiment WHERE id = ?", &id, 1);
    int result = statement ? sqlite3_step(statement) : SQLITE_ERROR;
    if (result == SQLITE_ROW) {
        buffer_append_text(out, (const char *)sqlite3_column_text(statement, 0));
    }
    sqlite3_finalize(statement);
    if (result == SQLITE_ROW) {
        return LLCUDA_OK;
    }
    return result == SQLITE_DONE
               ? error_set(
                     error, LLCUDA_NOT_FOUND,
                     "there is no experiment '%s'; llcuda experiment list shows what there is", id)
               : fail(store, error);
}

static llcuda_status forget(struct experiment_store *store, const char *id,
                            struct llcuda_error *error)
{
    static const char *const statements[] = {"DELETE FROM figure WHERE experiment = ?",
                                             "DELETE FROM quality WHERE experiment = ?",
                                             "DELETE FROM experiment WHERE id = ?"};
    llcuda_status status = LLCUDA_OK;
    for (size_t i = 0; i < sizeof statements / sizeof statements[0] && !status; i++) {
        status = finish(store, prepare(store, statements[i], &id, 1), error);
    }
    return status;
}

llcuda_status experiment_store_begin(struct experiment_store *store,
                                     const struct experiment *experiment, const char *folder,
                                     struct llcuda_error *error)
{
    struct buffer before = {0};
    const char *const texts[] = {experiment->id, experiment->name, folder, experiment->config};
    bool known = !experiment_store_folder(store, experiment->id, &before, NULL);
    bool moved = known && strcmp(buffer_text(&before), folder) != 0;
    bool other = moved && file_exists(buffer_text(&before));
    if (other) {
        error_set(error, LLCUDA_INVALID_ARGUMENT, "the id '%s' belongs to the experiment in '%s'",
                  experiment->id, buffer_text(&before));
    }
    buffer_deinit(&before);
    if (other) {
        return LLCUDA_INVALID_ARGUMENT;
    }
    if (moved && forget(store, experiment->id, error)) {
        return LLCUDA_IO;
    }
    sqlite3_stmt *statement = prepare(
        store,
        "INSERT INTO experiment (id, name, folder, config, cells, state, started) VALUES (?, ?, ?, "
        "?, ?, 'unfinished', ?) ON CONFLICT (id) DO UPDATE SET state = 'unfinished'",
        texts, 4);
    if (statement) {
        sqlite3_bind_int64(statement, 5, experiment->cell_count);
        sqlite3_bind_int64(statement, 6, (sqlite3_int64)time(NULL));
    }
    return finish(store, statement, error);
}

static llcuda_status put_figure(struct experiment_store *store, const char *id,
                                const struct analysis *analysis, uint32_t e, uint32_t p,
                                enum metric metric, struct llcuda_error *error)
{
    const struct cell *cell = analysis_cell(analysis, e, p);
    const char *const texts[] = {id, analysis->config->engines[e].name,
                                 analysis->config->workloads[analysis->points[p].workload].name,
                                 analysis->points[p].key, metric_rows[metric].key};
    llcuda_status status = LLCUDA_OK;
    for (uint32_t r = 0; r < cell->run_count && !status; r++) {
        if (isnan(cell->figures[metric].runs[r])) {
            continue;
        }
        sqlite3_stmt *statement =
            prepare(store, "INSERT OR REPLACE INTO figure VALUES (?, ?, ?, ?, ?, ?, ?)", texts, 5);
        if (statement) {
            sqlite3_bind_int64(statement, 6, r + 1);
            sqlite3_bind_double(statement, 7, cell->figures[metric].runs[r]);
        }
        status = finish(store, statement, error);
    }
    return status;
}

llcuda_status experiment_store_figures(struct experiment_store *store, const char *id,
                                       const struct analysis *analysis, struct llcuda_error *error)
{
    llcuda_status status = LLCUDA_OK;
    sqlite3_exec(store->database, "BEGIN", NULL, NULL, NULL);
    for (uint32_t e = 0; e < analysis->config->engine_count && !status; e++) {
        for (uint32_t p = 0; p < analysis->point_count && !status; p++) {
            for (int m = 0; m < METRIC_COUNT && !status; m++) {
                status = put_figure(store, id, analysis, e, p, (enum metric)m, error);
            }
        }
        const struct engine_result *engine = &analysis->engines[e];
        if (!status && engine->tokens_checked) {
            status = experiment_store_put_quality(
                store, id, analysis->config->engines[e].name, "exact_match",
                (double)engine->tokens_agreeing / engine->tokens_checked, error);
        }
    }
    if (!status) {
        sqlite3_stmt *statement =
            prepare(store, "UPDATE experiment SET state = 'done', ended = unixepoch() WHERE id = ?",
                    &id, 1);
        status = finish(store, statement, error);
    }
    sqlite3_exec(store->database, status ? "ROLLBACK" : "COMMIT", NULL, NULL, NULL);
    return status;
}

llcuda_status experiment_store_put_quality(struct experiment_store *store, const char *id,
                                           const char *cell, const char *metric, double value,
                                           struct llcuda_error *error)
{
    const char *const texts[] = {id, cell, metric};
    sqlite3_stmt *statement =
        prepare(store, "INSERT OR REPLACE INTO quality VALUES (?, ?, ?, ?)", texts, 3);
    if (statement) {
        sqlite3_bind_double(statement, 4, value);
    }
    return finish(store, statement, error);
}

bool experiment_store_has_quality(struct experiment_store *store, const char *id, const char *cell,
                                  const char *metric)
{
    const char *const texts[] = {id, cell, metric};
    sqlite3_stmt *statement = prepare(
        store, "SELECT 1 FROM quality WHERE experiment = ? AND cell = ? AND metric = ?", texts, 3);
    bool found = statement && sqlite3_step(statement) == SQLITE_ROW;
    sqlite3_finalize(statement);
    return found;
}

#define COLUMNS_MAX 8

static const char *shown_value(sqlite3_stmt *statement, int column, char number[32])
{
    const char *text = (const char *)sqlite3_column_text(statement, column);
    if (sqlite3_column_type(statement, column) == SQLITE_FLOAT) {
        snprintf(number, 32, "%.5g", sqlite3_column_double(statement, column));
        return number;
    }
    return text ? text : "-";
}

/* Rows as lines under a heading, columns two spaces apart and as wide as their longest value: texts
 * begin together, numbers end together. The statement is walked twice, first for the widths. */
static llcuda_status print_rows(struct experiment_store *store, sqlite3_stmt *statement,
                                struct buffer *out, struct llcuda_error *error)
{
    char number[32];
    int width[COLUMNS_MAX] = {0};
    bool is_number[COLUMNS_MAX] = {false};
    int result = SQLITE_ERROR;
    int columns = statement ? sqlite3_column_count(statement) : 0;
    assert(columns <= COLUMNS_MAX);
    for (int c = 0; c < columns; c++) {
        width[c] = (int)strlen(sqlite3_column_name(statement, c));
    }
    while (statement && (result = sqlite3_step(statement)) == SQLITE_ROW) {
        for (int c = 0; c < columns; c++) {
            int length = (int)strlen(shown_value(statement, c, number));
            width[c] = length > width[c] ? length : width[c];
            is_number[c] |= sqlite3_column_type(statement, c) != SQLITE_TEXT;
        }
    }
    if (statement) {
        sqlite3_reset(statement);
    }
    for (int c = 0; c < columns; c++) {
        buffer_printf(out, "%s%*s", c ? "  " : "", is_number[c] ? width[c] : -width[c],
                      sqlite3_column_name(statement, c));
    }
    buffer_append_byte(out, '\n');
    while (statement && (result = sqlite3_step(statement)) == SQLITE_ROW) {
        for (int c = 0; c < columns; c++) {
            buffer_printf(out, "%s%*s", c ? "  " : "", is_number[c] ? width[c] : -width[c],
                          shown_value(statement, c, number));
        }
        buffer_append_byte(out, '\n');
    }
    sqlite3_finalize(statement);
    return result == SQLITE_DONE ? LLCUDA_OK : fail(store, error);
}

llcuda_status experiment_store_list(struct experiment_store *store, struct buffer *out,
                                    struct llcuda_error *error)
{
    return print_rows(store,
                      prepare(store,
                              "SELECT id, state, cells, datetime(started, 'unixepoch') AS started, "
                              "name, folder FROM experiment ORDER BY experiment.started",
                              NULL, 0),
                      out, error);
}

llcuda_status experiment_store_table(struct experiment_store *store, const char *id,
                                     struct buffer *out, struct llcuda_error *error)
{
    const char *const texts[] = {id};
    struct buffer folder = {0};
    llcuda_status status = experiment_store_folder(store, id, &folder, error);
    buffer_deinit(&folder);
    if (status) {
        return status;
    }
    return print_rows(
        store,
        prepare(store,
                "SELECT f.cell AS combination, f.point, AVG(CASE metric WHEN 'output_tokens_s' "
                "THEN value END) AS \"tokens/s\", AVG(CASE metric WHEN 'ttft_ms' THEN value END) "
                "AS \"ttft ms\", AVG(CASE metric WHEN 'memory_peak_mb' THEN value END) AS "
                "\"peak MB\", (SELECT value FROM quality q WHERE q.experiment = f.experiment AND "
                "q.cell = f.cell AND q.metric = 'perplexity') AS perplexity, (SELECT value FROM "
                "quality q WHERE q.experiment = f.experiment AND q.cell = f.cell AND q.metric = "
                "'exact_match') AS \"exact match\" FROM figure f WHERE f.experiment = ? GROUP BY "
                "f.cell, f.workload, f.point ORDER BY f.workload, f.point, f.cell",
                texts, 1),
        out, error);
}

#else

static llcuda_status no_sqlite(struct llcuda_error *error)
{
    return error_set(error, LLCUDA_UNSUPPORTED,
                     "this build keeps no experiments: it was made "
                     "without SQLite");
}

llcuda_status experiment_store_open(const char *path, struct experiment_store **store,
                                    struct llcuda_error *error)
{
    (void)path;
    (void)store;
    return no_sqlite(error);
}

void experiment_store_close(struct experiment_store *store)
{
    (void)store;
}

llcuda_status experiment_store_begin(struct experiment_store *store,
                                     const struct experiment *experiment, const char *folder,
                                     struct llcuda_error *error)
{
    (void)store;
    (void)experiment;
    (void)folder;
    return no_sqlite(error);
}

llcuda_status experiment_store_figures(struct experiment_store *store, const char *id,
                                       const struct analysis *analysis, struct llcuda_error *error)
{
    (void)store;
    (void)id;
    (void)analysis;
    return no_sqlite(error);
}

llcuda_status experiment_store_put_quality(struct experiment_store *store, const char *id,
                                           const char *cell, const char *metric, double value,
                                           struct llcuda_error *error)
{
    (void)store;
    (void)id;
    (void)cell;
    (void)metric;
    (void)value;
    return no_sqlite(error);
}

bool experiment_store_has_quality(struct experiment_store *store, const char *id, const char *cell,
                                  const char *metric)
{
    (void)store;
    (void)id;
    (void)cell;
    (void)metric;
    return false;
}

llcuda_status experiment_store_list(struct experiment_store *store, struct buffer *out,
                                    struct llcuda_error *error)
{
    (void)store;
    (void)out;
    return no_sqlite(error);
}

llcuda_status experiment_store_table(struct experiment_store *store, const char *id,
                                     struct buffer *out, struct llcuda_error *error)
{
    (void)store;
    (void)id;
    (void)out;
    return no_sqlite(error);
}

llcuda_status experiment_store_folder(struct experiment_store *store, const char *id,
                                      struct buffer *out, struct llcuda_error *error)
{
    (void)store;
    (void)id;
    (void)out;
    return no_sqlite(error);
}

#endif
