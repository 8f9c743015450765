/* A JSON file of a Hugging Face folder (config.json, generation_config.json), read whole, and typed
 * reads of its members. */
#ifndef FORMAT_HF_CONFIG_H
#define FORMAT_HF_CONFIG_H

#include "base/file.h"
#include "base/json.h"

struct hf_config {
    struct buffer text; /* the values point into it */
    struct json_document *document;
};

/* Reads and parses `path`; the root must be an object. Nothing to close after a failure. */
llcuda_status hf_config_open(struct hf_config *config, const char *path,
                             struct llcuda_error *error);
/* A zeroed or closed one is fine. */
void hf_config_close(struct hf_config *config);

/* Parses text of a configuration file, which must outlive the document. */
llcuda_status hf_config_parse(struct text_view text, struct json_document **document,
                              struct llcuda_error *error);

/* The value under `key` of `root`, where dots descend into objects. NOT_FOUND when it, or an object
 * on the way, is absent or null; BAD_FORMAT when something on the way is no object. */
llcuda_status hf_config_find(const struct json_value *root, const char *key,
                             const struct json_value **value, struct llcuda_error *error);

/* Typed reads: as hf_config_find, and BAD_FORMAT when the type or range is wrong. */
llcuda_status hf_config_u32(const struct json_value *root, const char *key, uint32_t minimum,
                            uint32_t maximum, uint32_t *out, struct llcuda_error *error);
llcuda_status hf_config_number(const struct json_value *root, const char *key, double minimum,
                               double maximum, double *out, struct llcuda_error *error);
llcuda_status hf_config_bool(const struct json_value *root, const char *key, bool *out,
                             struct llcuda_error *error);
llcuda_status hf_config_text(const struct json_value *root, const char *key, struct text_view *out,
                             struct llcuda_error *error);

#endif
