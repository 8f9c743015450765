/* Writing raw files: one JSON object a line. The file appears whole or not at all. */
#ifndef BENCH_RAW_WRITE_H
#define BENCH_RAW_WRITE_H

#include "base/file.h"
#include "base/json.h"
#include "bench/load.h"
#include "bench/monitor.h"

struct raw_file {
    struct file_output output;
    struct buffer line;
    struct json_writer writer;
    llcuda_status status; /* of the first failed write; later ones do nothing */
};

llcuda_status raw_open(struct raw_file *raw, const char *path, struct llcuda_error *error);
/* Begins {"kind": …; the caller adds members to raw->writer. */
void raw_begin(struct raw_file *raw, const char *kind);
void raw_end(struct raw_file *raw);
void raw_text(struct raw_file *raw, const char *key, const char *value);
void raw_number(struct raw_file *raw, const char *key, double value);
/* A member whose value is JSON text already, or null when that is empty or no JSON. */
void raw_json(struct raw_file *raw, const char *key, const struct buffer *text);
/* Lines for a measured point: its totals, its samples and its gaps. */
void raw_point(struct raw_file *raw, const char *workload, const char *point,
               const struct load_result *result, const struct monitor_totals *totals);
llcuda_status raw_commit(struct raw_file *raw, struct llcuda_error *error);
void raw_abort(struct raw_file *raw);

#endif
