/* Experiments: one engine under every combination of factors, each combination measured like an
 * engine of its own, with quality beside speed. Results go to an SQLite database. */
#ifndef BENCH_EXPERIMENT_H
#define BENCH_EXPERIMENT_H

#include "base/buffer.h"
#include "bench/analysis.h"

#define EXPERIMENT_FACTOR_MAX 8u

struct experiment {
    struct arena arena;
    const char *id; /* of letters, digits, '-', '_' and '.' */
    const char *name;
    const char *quality_text; /* a file for perplexity, or NULL */
    const char *config;       /* the benchmark that it stands for, as text */
    uint32_t cell_count;      /* combinations: engines of the benchmark */
};

/* Reads the file and spells the benchmark out. Errors: those of yaml_tree_read, BAD_FORMAT with the
 * line, LIMIT for more combinations than a benchmark has engines. */
llcuda_status experiment_read(const char *path, struct experiment *experiment,
                              struct llcuda_error *error);
void experiment_deinit(struct experiment *experiment);

struct experiment_store;

/* Opens or makes a database. UNSUPPORTED without SQLite. */
llcuda_status experiment_store_open(const char *path, struct experiment_store **store,
                                    struct llcuda_error *error);
void experiment_store_close(struct experiment_store *store);

/* Puts an experiment's row; `state` is "running" or "done". A row of the same id is replaced when
 * its folder is the same, otherwise INVALID_ARGUMENT. */
llcuda_status experiment_store_begin(struct experiment_store *store,
                                     const struct experiment *experiment, const char *folder,
                                     struct llcuda_error *error);
/* Every figure of an analysis, and state "done". */
llcuda_status experiment_store_figures(struct experiment_store *store, const char *id,
                                       const struct analysis *analysis, struct llcuda_error *error);
/* A quality figure of a cell; false in *known when it is not there yet. */
llcuda_status experiment_store_put_quality(struct experiment_store *store, const char *id,
                                           const char *cell, const char *metric, double value,
                                           struct llcuda_error *error);
bool experiment_store_has_quality(struct experiment_store *store, const char *id, const char *cell,
                                  const char *metric);

/* The table of experiments, or of one experiment's cells, appended as text. NOT_FOUND for an
 * unknown id. */
llcuda_status experiment_store_list(struct experiment_store *store, struct buffer *out,
                                    struct llcuda_error *error);
llcuda_status experiment_store_table(struct experiment_store *store, const char *id,
                                     struct buffer *out, struct llcuda_error *error);
/* The folder of an experiment into `out`. NOT_FOUND for an unknown id. */
llcuda_status experiment_store_folder(struct experiment_store *store, const char *id,
                                      struct buffer *out, struct llcuda_error *error);

/* Runs `program perplexity -m MODEL -f TEXT --json` and reads its figure. */
llcuda_status experiment_perplexity(const char *program, const char *model, const char *text,
                                    char *const *environment, const char *log_path, double *out,
                                    struct llcuda_error *error);

#endif
