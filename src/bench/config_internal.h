/* What the parts of the configuration's reader share. */
#ifndef BENCH_CONFIG_INTERNAL_H
#define BENCH_CONFIG_INTERNAL_H

#include "bench/config.h"
#include "bench/yaml_tree.h"

struct config_reader {
    const struct yaml_tree *tree;
    struct config *config;
    const struct config_places *places;
    struct llcuda_error *error;
};

/* A copy in the config's arena; NULL stays NULL. OUT_OF_MEMORY through `status`. */
const char *config_keep(struct config_reader *reader, const char *text, llcuda_status *status);
/* yaml_text and config_keep. */
llcuda_status config_text(struct config_reader *reader, const struct yaml_node *map,
                          const char *key, const char **out);
/* One of `count` words; the index to *out. */
llcuda_status config_word(struct config_reader *reader, const struct yaml_node *node,
                          const char *const *words, uint32_t count, uint32_t *out);

llcuda_status config_read_engines(struct config_reader *reader, const struct yaml_node *list);
llcuda_status config_read_workloads(struct config_reader *reader, const struct yaml_node *list);

#endif
