/* Engines that are known by name: how to start them, what they read, how to get them. */
#ifndef BENCH_CATALOG_H
#define BENCH_CATALOG_H

#include "bench/config.h"

enum catalog_format { CATALOG_ANY, CATALOG_GGUF, CATALOG_HF };

struct catalog_row {
    const char *name;
    enum engine_kind kind;
    enum catalog_format format;
    const char *device;
    uint32_t parallel;
    /* Separated by spaces. {self} {engines} {python} {model} {host} {port} {threads} {context}
     * {parallel} {gpu} are filled in; a word with an unset {threads} is left out with its flag. */
    const char *command;
    const char *options; /* JSON */
    const char *install;
    const char *maturity; /* a phrase for the report */
};

/* NULL when there is none of this name. */
const struct catalog_row *catalog_find(const char *name);
/* Whether its figures are those that a measuring tool told, and are replayed: they say how fast
 * requests are, and nothing of memory, processors or energy. */
bool catalog_is_replayed(const char *name);
/* All names, separated by ", ". Static storage. */
const char *catalog_names(void);

#endif
