/* JSON as a YAML tree. */
#ifndef BENCH_YAML_JSON_H
#define BENCH_YAML_JSON_H

#include "bench/yaml_tree.h"

/* Reads `text` (NUL-terminated after its length) into tree->root; tree->path names it and
 * tree->arena is ready. Errors: BAD_FORMAT and LIMIT with "path:line:column: ", OUT_OF_MEMORY. */
llcuda_status yaml_json_read(struct yaml_tree *tree, struct text_view text,
                             struct llcuda_error *error);

#endif
