/* Owns typed reads of configuration files. A value that is there but wrong is never taken for
 * absent. Memory is bounded by a limit on the number of values, as JSON can be dense. */
#include "format/hf_config.h"

#include "base/limits.h"

#define CONFIG_VALUES_MAX (1u << 17)

llcuda_status hf_config_parse(struct text_view text, struct json_document **document,
                              struct llcuda_error *error)
{
    struct json_options options = {.value_count_max = CONFIG_VALUES_MAX};
    llcuda_status status = json_parse(text, &options, document, error);
    if (!status && !json_is(json_root(*document), JSON_OBJECT)) {
        status = error_set_at(error, LLCUDA_BAD_FORMAT, json_root(*document)->offset,
                              "the configuration is %s instead of an object",
                              json_kind_name(json_root(*document)));
        json_destroy(*document);
        *document = NULL;
    }
    return status;
}

llcuda_status hf_config_open(struct hf_config *config, const char *path, struct llcuda_error *error)
{
    *config = (struct hf_config){0};
    llcuda_status status = file_read_all(path, LIMIT_CONFIG_BYTES, &config->text, error);
    if (!status) {
        status = hf_config_parse(buffer_view(&config->text), &config->document, error);
        if (status) {
            error_prefix(error, status, "'%s'", path);
        }
    }
    if (status) {
        hf_config_close(config);
    }
    return status;
}

void hf_config_close(struct hf_config *config)
{
    json_destroy(config->document);
    buffer_deinit(&config->text);
    *config = (struct hf_config){0};
}

/* A member by a key that ends at a dot or at its NUL. Equal keys: the last one counts. */
static const struct json_value *member(const struct json_value *object, struct text_view name)
{
    const struct json_value *found = NULL;
    JSON_EACH_KEY(key, object)
    {
        if (text_view_equal(json_text(key), name)) {
            found = json_next(key);
        }
    }
    return found;
}

llcuda_status hf_config_find(const struct json_value *root, const char *key,
                             const struct json_value **value, struct llcuda_error *error)
{
    const struct json_value *at = root;
    const char *part = key;
    for (;;) {
        const char *dot = strchr(part, '.');
        size_t length = dot ? (size_t)(dot - part) : strlen(part);
        if (at->kind != JSON_OBJECT) {
            return error_set_at(error, LLCUDA_BAD_FORMAT, at->offset,
                                "'%.*s' at byte %u of the configuration is %s instead of an object",
                                part == key ? 0 : (int)(part - key - 1), key, at->offset,
                                json_kind_name(at));
        }
        at = member(at, text_view_make(part, length));
        if (!at || json_is(at, JSON_NULL)) {
            return error_set(error, LLCUDA_NOT_FOUND, "'%s' is missing in the configuration", key);
        }
        if (!dot) {
            *value = at;
            return LLCUDA_OK;
        }
        part = dot + 1;
    }
}

static llcuda_status wrong(const struct json_value *value, const char *key, const char *wanted,
                           struct llcuda_error *error)
{
    return error_set_at(error, LLCUDA_BAD_FORMAT, value->offset,
                        "'%s' at byte %u of the configuration is %s instead of %s", key,
                        value->offset, json_kind_name(value), wanted);
}

static llcuda_status out_of_range(const struct json_value *value, const char *key, double minimum,
                                  double maximum, struct llcuda_error *error)
{
    double found = 0;
    json_number(value, &found);
    return error_set_at(error, LLCUDA_BAD_FORMAT, value->offset,
                        "'%s' at byte %u of the configuration is %.15g, outside %.15g to %.15g",
                        key, value->offset, found, minimum, maximum);
}

llcuda_status hf_config_u32(const struct json_value *root, const char *key, uint32_t minimum,
                            uint32_t maximum, uint32_t *out, struct llcuda_error *error)
{
    const struct json_value *value;
    llcuda_status status = hf_config_find(root, key, &value, error);
    if (status) {
        return status;
    }
    int64_t integer;
    if (!json_integer(value, INT64_MIN, INT64_MAX, &integer)) {
        double number;
        return json_number(value, &number) && (number < -0x1p53 || number > 0x1p53)
                   ? out_of_range(value, key, minimum, maximum, error)
                   : wrong(value, key, "an integer", error);
    }
    if (integer < (int64_t)minimum || integer > (int64_t)maximum) {
        return out_of_range(value, key, minimum, maximum, error);
    }
    *out = (uint32_t)integer;
    return LLCUDA_OK;
}

llcuda_status hf_config_number(const struct json_value *root, const char *key, double minimum,
                               double maximum, double *out, struct llcuda_error *error)
{
    const struct json_value *value;
    llcuda_status status = hf_config_find(root, key, &value, error);
    if (status) {
        return status;
    }
    double number;
    if (!json_number(value, &number)) {
        return wrong(value, key, "a number", error);
    }
    /* Written so that a NaN is out of range. */
    if (!(number >= minimum && number <= maximum)) {
        return out_of_range(value, key, minimum, maximum, error);
    }
    *out = number;
    return LLCUDA_OK;
}

llcuda_status hf_config_bool(const struct json_value *root, const char *key, bool *out,
                             struct llcuda_error *error)
{
    const struct json_value *value;
    llcuda_status status = hf_config_find(root, key, &value, error);
    if (status) {
        return status;
    }
    if (!json_is(value, JSON_TRUE) && !json_is(value, JSON_FALSE)) {
        return wrong(value, key, "a boolean", error);
    }
    *out = json_is(value, JSON_TRUE);
    return LLCUDA_OK;
}

llcuda_status hf_config_text(const struct json_value *root, const char *key, struct text_view *out,
                             struct llcuda_error *error)
{
    const struct json_value *value;
    llcuda_status status = hf_config_find(root, key, &value, error);
    if (status) {
        return status;
    }
    if (!json_is(value, JSON_STRING)) {
        return wrong(value, key, "a string", error);
    }
    *out = json_text(value);
    return LLCUDA_OK;
}
