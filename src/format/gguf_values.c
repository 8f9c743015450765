/* Owns typed reads of GGUF metadata. Every read states the kind it wants, for arrays also the
 * element kind and length, and a range: a value that is there but wrong is never taken for absent
 * or converted by force. Stateless. */
#include "format/gguf.h"

#include "base/limits.h"
#include "format/order.h"

static llcuda_status not_found(const char *key, struct llcuda_error *error)
{
    return error_set(error, LLCUDA_NOT_FOUND, "the metadata key '%s' is missing", key);
}

static llcuda_status wrong_kind(const struct gguf_value *value, const char *key, const char *wanted,
                                struct llcuda_error *error)
{
    bool array = value->kind == GGUF_ARRAY;
    return error_set_at(error, LLCUDA_BAD_FORMAT, value->offset,
                        "'%s' at byte %llu is %s%s instead of %s", key,
                        (unsigned long long)value->offset, array ? "an array of " : "of kind ",
                        gguf_kind_name(array ? value->element_kind : value->kind), wanted);
}

static llcuda_status out_of_range(const struct gguf_value *value, const char *key, double found,
                                  double minimum, double maximum, struct llcuda_error *error)
{
    return error_set_at(error, LLCUDA_BAD_FORMAT, value->offset,
                        "'%s' at byte %llu is %.15g, outside %.15g to %.15g", key,
                        (unsigned long long)value->offset, found, minimum, maximum);
}

llcuda_status gguf_read_u64(const struct gguf *gguf, const char *key, uint64_t minimum,
                            uint64_t maximum, uint64_t *out, struct llcuda_error *error)
{
    const struct gguf_value *value = gguf_find(gguf, key);
    if (!value) {
        return not_found(key, error);
    }
    uint64_t found;
    switch (value->kind) {
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_U64:
        found = value->unsigned_integer;
        break;
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64:
        if (value->signed_integer < 0) {
            return out_of_range(value, key, (double)value->signed_integer, (double)minimum,
                                (double)maximum, error);
        }
        found = (uint64_t)value->signed_integer;
        break;
    default:
        return wrong_kind(value, key, "an integer", error);
    }
    if (found < minimum || found > maximum) {
        return out_of_range(value, key, (double)found, (double)minimum, (double)maximum, error);
    }
    *out = found;
    return LLCUDA_OK;
}

llcuda_status gguf_read_number(const struct gguf *gguf, const char *key, double minimum,
                               double maximum, double *out, struct llcuda_error *error)
{
    const struct gguf_value *value = gguf_find(gguf, key);
    if (!value) {
        return not_found(key, error);
    }
    double found;
    switch (value->kind) {
    case GGUF_F32:
    case GGUF_F64:
        found = value->number;
        break;
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_U64:
        found = (double)value->unsigned_integer;
        break;
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64:
        found = (double)value->signed_integer;
        break;
    default:
        return wrong_kind(value, key, "a number", error);
    }
    /* Written so that a NaN is out of range. */
    if (!(found >= minimum && found <= maximum)) {
        return out_of_range(value, key, found, minimum, maximum, error);
    }
    *out = found;
    return LLCUDA_OK;
}

llcuda_status gguf_read_bool(const struct gguf *gguf, const char *key, bool *out,
                             struct llcuda_error *error)
{
    const struct gguf_value *value = gguf_find(gguf, key);
    if (!value) {
        return not_found(key, error);
    }
    if (value->kind != GGUF_BOOL) {
        return wrong_kind(value, key, "a boolean", error);
    }
    *out = value->unsigned_integer != 0;
    return LLCUDA_OK;
}

llcuda_status gguf_read_text(const struct gguf *gguf, const char *key, struct text_view *out,
                             struct llcuda_error *error)
{
    const struct gguf_value *value = gguf_find(gguf, key);
    if (!value) {
        return not_found(key, error);
    }
    if (value->kind != GGUF_STRING) {
        return wrong_kind(value, key, "a string", error);
    }
    *out = value->text;
    return LLCUDA_OK;
}

llcuda_status gguf_read_array(const struct gguf *gguf, const char *key, enum gguf_kind kind,
                              uint64_t count, const struct gguf_value **out,
                              struct llcuda_error *error)
{
    const struct gguf_value *value = gguf_find(gguf, key);
    if (!value) {
        return not_found(key, error);
    }
    if (value->kind != GGUF_ARRAY || value->element_kind != kind) {
        char wanted[32] = "an array of ";
        strncat(wanted, gguf_kind_name(kind), sizeof wanted - strlen(wanted) - 1);
        return wrong_kind(value, key, wanted, error);
    }
    if (count && value->count != count) {
        return error_set_at(error, LLCUDA_BAD_FORMAT, value->offset,
                            "'%s' at byte %llu has %llu elements instead of %llu", key,
                            (unsigned long long)value->offset, (unsigned long long)value->count,
                            (unsigned long long)count);
    }
    *out = value;
    return LLCUDA_OK;
}
