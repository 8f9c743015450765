/* Owns the rules of SafeTensors headers. The members of the header are taken one at a time, so that
 * memory is that of the tables, not of a JSON tree. Invariants of a header that passes: names are
 * unique; the tensors, sorted by offset, cover the data exactly, without holes and overlaps; each
 * one's bytes are the product of its shape and type. */
#include "format/safetensors_header.h"

#include <stdlib.h>

#include "base/checked.h"
#include "base/json_members.h"
#include "base/limits.h"
#include "base/utf8.h"

/* A description has 6 values, an array of 2 and a shape; more than this is no description. */
#define DESCRIPTION_VALUES_MAX 64u

/* The shortest member that describes a tensor: "":{"dtype":"F4","shape":[],"data_offsets":[0,0]}.
 * It bounds the table by the text; a few members more get a better sentence than their number. */
#define MEMBER_BYTES_MIN 48u

static const struct safetensors_type types[] = {
    {"F32", 32, true, DTYPE_F32},       {"F16", 16, true, DTYPE_F16},
    {"BF16", 16, true, DTYPE_BF16},     {.name = "BOOL", .bits = 8},
    {.name = "U8", .bits = 8},          {.name = "I8", .bits = 8},
    {.name = "F4", .bits = 4},          {.name = "F6_E2M3", .bits = 6},
    {.name = "F6_E3M2", .bits = 6},     {"F8_E4M3", 8, true, DTYPE_F8_E4M3},
    {.name = "F8_E5M2", .bits = 8},     {.name = "F8_E8M0", .bits = 8},
    {.name = "F8_E4M3FNUZ", .bits = 8}, {.name = "F8_E5M2FNUZ", .bits = 8},
    {.name = "I16", .bits = 16},        {.name = "U16", .bits = 16},
    {.name = "I32", .bits = 32},        {.name = "U32", .bits = 32},
    {.name = "I64", .bits = 64},        {.name = "U64", .bits = 64},
    {.name = "F64", .bits = 64},        {.name = "C64", .bits = 64},
};

struct parser {
    struct safetensors_header *header;
    struct text_view text;
    uint64_t data_bytes;
    bool metadata_seen;
    struct llcuda_error *error;
};

static struct text_view name_of(const void *items, uint32_t index)
{
    return ((const struct safetensors_tensor *)items)[index].tensor.name;
}

static struct text_view key_of(const void *items, uint32_t index)
{
    return ((const struct text_view *)items)[index];
}

static llcuda_status bad_tensor(const struct parser *parser, struct text_view name, size_t offset,
                                const char *what)
{
    return error_set_at(parser->error, LLCUDA_BAD_FORMAT, offset, "tensor '%.*s': %s at byte %zu",
                        TEXT_ARGUMENTS(name_clip(name)), what, offset);
}

static llcuda_status read_type(const struct parser *parser, const struct json_value *value,
                               struct safetensors_tensor *out)
{
    if (!json_is(value, JSON_STRING)) {
        return bad_tensor(parser, out->tensor.name, value->offset, "dtype is no string");
    }
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (text_view_is(json_text(value), types[i].name)) {
            out->type = &types[i];
            out->tensor.dtype = types[i].dtype;
            return LLCUDA_OK;
        }
    }
    return error_set_at(parser->error, LLCUDA_UNSUPPORTED, value->offset,
                        "tensor '%.*s' has the unknown type '%.*s' at byte %u",
                        TEXT_ARGUMENTS(name_clip(out->tensor.name)),
                        TEXT_ARGUMENTS(name_clip(json_text(value))), value->offset);
}

/* A size or offset: digits only, so that 1.0 and 1e3 are refused as the reference does. */
static bool read_size(const struct json_value *value, uint64_t *out)
{
    if (!json_is(value, JSON_INTEGER) || value->integer < 0) {
        return false;
    }
    *out = (uint64_t)value->integer;
    return true;
}

static llcuda_status read_shape(const struct parser *parser, const struct json_value *value,
                                struct tensor *tensor)
{
    if (!json_is(value, JSON_ARRAY)) {
        return bad_tensor(parser, tensor->name, value->offset, "shape is no array");
    }
    if (value->count > LIMIT_TENSOR_RANK) {
        return error_set_at(parser->error, LLCUDA_UNSUPPORTED, value->offset,
                            "tensor '%.*s' has %u dimensions at byte %u; at most %u are supported",
                            TEXT_ARGUMENTS(name_clip(tensor->name)), value->count, value->offset,
                            LIMIT_TENSOR_RANK);
    }
    JSON_EACH(element, value)
    {
        if (!read_size(element, &tensor->shape[tensor->rank++])) {
            return bad_tensor(parser, tensor->name, element->offset,
                              "shape has an element that is no size");
        }
    }
    return LLCUDA_OK;
}

/* The product of shape and type must be what lies between the offsets. */
static llcuda_status check_bytes(const struct parser *parser, const struct json_value *place,
                                 uint64_t begin, uint64_t end, struct safetensors_tensor *out)
{
    struct tensor *tensor = &out->tensor;
    uint64_t elements = 1;
    uint64_t bits;
    bool fits = true;
    for (uint32_t i = 0; fits && i < tensor->rank; i++) {
        fits = checked_mul_u64(elements, tensor->shape[i], &elements);
    }
    if (!fits || !checked_mul_u64(elements, out->type->bits, &bits)) {
        return bad_tensor(parser, tensor->name, place->offset,
                          "shape and type give a size that does not fit into 64 bits");
    }
    if (bits % 8 != 0) {
        return bad_tensor(parser, tensor->name, place->offset,
                          "shape and type give no whole number of bytes");
    }
    if (end < begin || end - begin != bits / 8) {
        return error_set_at(parser->error, LLCUDA_BAD_FORMAT, place->offset,
                            "tensor '%.*s' takes %llu bytes by its shape and type, but its "
                            "data_offsets at byte %u are %llu and %llu",
                            TEXT_ARGUMENTS(name_clip(tensor->name)), (unsigned long long)(bits / 8),
                            place->offset, (unsigned long long)begin, (unsigned long long)end);
    }
    tensor->bytes = bits / 8;
    return LLCUDA_OK;
}

static llcuda_status read_description(const struct parser *parser, const struct json_value *object,
                                      struct safetensors_tensor *out, uint64_t *begin)
{
    struct text_view name = out->tensor.name;
    const struct json_value *type = json_member(object, "dtype");
    const struct json_value *shape = json_member(object, "shape");
    const struct json_value *offsets = json_member(object, "data_offsets");
    if (!type || !shape || !offsets) {
        return bad_tensor(parser, name, object->offset,
                          "no object with dtype, shape and data_offsets");
    }
    llcuda_status status = read_type(parser, type, out);
    if (!status) {
        status = read_shape(parser, shape, &out->tensor);
    }
    if (status) {
        return status;
    }
    uint64_t end;
    if (!json_is(offsets, JSON_ARRAY) || offsets->count != 2 ||
        !read_size(json_first(offsets), begin) ||
        !read_size(json_next(json_first(offsets)), &end)) {
        return bad_tensor(parser, name, offsets->offset, "data_offsets are no two sizes");
    }
    return check_bytes(parser, offsets, *begin, end, out);
}

static llcuda_status read_tensor(struct parser *parser, const struct json_member *member,
                                 struct text_view name)
{
    struct safetensors_header *header = parser->header;
    if (name.length > LIMIT_TENSOR_NAME_BYTES) {
        return error_set_at(parser->error, LLCUDA_LIMIT, member->key_begin,
                            "the tensor name at byte %zu has %zu bytes, more than the limit of %u",
                            member->key_begin, name.length, LIMIT_TENSOR_NAME_BYTES);
    }
    struct json_document *document;
    llcuda_status status = json_value_at(parser->text, member->value_begin, member->value_end,
                                         DESCRIPTION_VALUES_MAX, &document, parser->error);
    if (status) {
        return status;
    }
    struct safetensors_tensor *tensor = &header->tensors[header->count];
    tensor->tensor.name = name;
    status = read_description(parser, json_root(document), tensor, &header->offsets[header->count]);
    header->count += status == LLCUDA_OK;
    json_destroy(document);
    return status;
}

/* Fills keys[0..count) of the metadata object and checks that the values are strings. */
static llcuda_status read_metadata(struct parser *parser, const struct json_member *member,
                                   struct arena *arena, struct text_view *keys)
{
    struct json_members members;
    struct json_member item;
    struct text_view value;
    struct arena scratch;
    bool more = true;
    arena_init(&scratch, 0);
    llcuda_status status =
        json_members_begin(&members, parser->text, member->value_begin, parser->error);
    while (!status) {
        status = json_members_next(&members, &item, &more);
        if (status || !more) {
            break;
        }
        status = json_string_at(parser->text, item.key_begin, item.key_end, arena,
                                &keys[members.count - 1], parser->error);
        if (!status) {
            status = json_string_at(parser->text, item.value_begin, item.value_end, &scratch,
                                    &value, parser->error);
            arena_reset(&scratch);
        }
        if (status) {
            error_prefix(parser->error, status, "__metadata__ must map strings to strings");
        }
    }
    arena_deinit(&scratch);
    return status;
}

/* Members of the object that begins at `begin`, and where it ends. */
static llcuda_status count_members(const struct parser *parser, size_t begin, uint32_t *count,
                                   size_t *end)
{
    struct json_members members;
    struct json_member member;
    bool more = true;
    llcuda_status status = json_members_begin(&members, parser->text, begin, parser->error);
    while (!status && more) {
        status = json_members_next(&members, &member, &more);
    }
    *count = members.count;
    *end = members.position;
    return status;
}

static llcuda_status check_metadata(struct parser *parser, const struct json_member *member)
{
    uint32_t count;
    size_t end;
    uint32_t duplicate = ORDER_NONE;
    struct name_index index = {0};
    struct arena arena;
    if (parser->metadata_seen) {
        return error_set_at(parser->error, LLCUDA_BAD_FORMAT, member->key_begin,
                            "the header has __metadata__ twice, again at byte %zu",
                            member->key_begin);
    }
    parser->metadata_seen = true;
    llcuda_status status = count_members(parser, member->value_begin, &count, &end);
    if (status) {
        return status;
    }
    if (count > LIMIT_SAFETENSORS_METADATA) {
        return error_set_at(parser->error, LLCUDA_LIMIT, member->value_begin,
                            "__metadata__ at byte %zu has %u members, more than the limit of %u",
                            member->value_begin, count, LIMIT_SAFETENSORS_METADATA);
    }
    struct text_view *keys = calloc((size_t)count + 1, sizeof *keys);
    if (!keys) {
        return error_no_memory(parser->error, "metadata keys", count * sizeof *keys);
    }
    arena_init(&arena, 0);
    status = read_metadata(parser, member, &arena, keys);
    if (!status) {
        status = name_index_init(&index, keys, count, key_of, &duplicate, parser->error);
    }
    if (!status && duplicate != ORDER_NONE) {
        status = error_set_at(parser->error, LLCUDA_BAD_FORMAT, member->value_begin,
                              "__metadata__ at byte %zu has the key '%.*s' twice",
                              member->value_begin, TEXT_ARGUMENTS(name_clip(keys[duplicate])));
    }
    name_index_deinit(&index);
    arena_deinit(&arena);
    free(keys);
    return status;
}

static llcuda_status read_members(struct parser *parser)
{
    struct json_members members;
    struct json_member member;
    bool more = true;
    llcuda_status status =
        json_members_begin(&members, parser->text, SAFETENSORS_PREFIX_BYTES, parser->error);
    while (!status) {
        struct text_view name;
        status = json_members_next(&members, &member, &more);
        if (status || !more) {
            break;
        }
        status = json_string_at(parser->text, member.key_begin, member.key_end,
                                &parser->header->decoded, &name, parser->error);
        if (!status) {
            status = text_view_is(name, "__metadata__") ? check_metadata(parser, &member)
                                                        : read_tensor(parser, &member, name);
        }
    }
    return status;
}

static bool offset_less(const void *context, uint32_t a, uint32_t b)
{
    const struct safetensors_header *header = context;
    if (header->offsets[a] != header->offsets[b]) {
        return header->offsets[a] < header->offsets[b];
    }
    /* Tensors without bytes come before the one that begins at the same place. */
    return header->tensors[a].tensor.bytes < header->tensors[b].tensor.bytes;
}

/* The place of data in the file for messages; what lies behind its end is told as its end. */
static uint64_t place_of(const struct parser *parser, uint64_t offset)
{
    return parser->text.length + (offset < parser->data_bytes ? offset : parser->data_bytes);
}

/* No hole, no overlap, nothing left over. */
static llcuda_status check_cover(const struct parser *parser)
{
    struct safetensors_header *header = parser->header;
    uint32_t *order = malloc(((size_t)header->count + 1) * sizeof *order);
    if (!order) {
        return error_no_memory(parser->error, "the order of tensors",
                               header->count * sizeof *order);
    }
    order_sort(order, header->count, offset_less, header);
    llcuda_status status = LLCUDA_OK;
    uint64_t end = 0;
    for (uint32_t i = 0; !status && i < header->count; i++) {
        const struct tensor *tensor = &header->tensors[order[i]].tensor;
        uint64_t begin = header->offsets[order[i]];
        if (begin != end) {
            status =
                error_set_at(parser->error, LLCUDA_BAD_FORMAT, place_of(parser, end),
                             "tensor '%.*s' begins at offset %llu of the data instead of "
                             "%llu: tensors %s",
                             TEXT_ARGUMENTS(name_clip(tensor->name)), (unsigned long long)begin,
                             (unsigned long long)end, begin < end ? "overlap" : "leave a hole");
        }
        end = begin + tensor->bytes;
    }
    free(order);
    if (!status && end != parser->data_bytes) {
        status = error_set_at(parser->error, LLCUDA_BAD_FORMAT, place_of(parser, end),
                              "the tensors take %llu bytes, but the file has %llu behind its "
                              "header",
                              (unsigned long long)end, (unsigned long long)parser->data_bytes);
    }
    return status;
}

/* What can be said before the tables are made: UTF-8, the first byte, the padding, the count. */
static llcuda_status check_text(const struct parser *parser, uint32_t *count)
{
    struct text_view text = parser->text;
    if (!utf8_valid(text_view_make(text.data + SAFETENSORS_PREFIX_BYTES,
                                   text.length - SAFETENSORS_PREFIX_BYTES))) {
        return error_set_at(parser->error, LLCUDA_BAD_FORMAT, SAFETENSORS_PREFIX_BYTES,
                            "the header is not valid UTF-8");
    }
    if (text.length == SAFETENSORS_PREFIX_BYTES || text.data[SAFETENSORS_PREFIX_BYTES] != '{') {
        return error_set_at(parser->error, LLCUDA_BAD_FORMAT, SAFETENSORS_PREFIX_BYTES,
                            "the header does not begin with '{' at byte 8");
    }
    size_t end;
    llcuda_status status = count_members(parser, SAFETENSORS_PREFIX_BYTES, count, &end);
    if (status) {
        return status;
    }
    for (size_t i = end; i < text.length; i++) {
        if (text.data[i] != ' ') {
            return error_set_at(parser->error, LLCUDA_BAD_FORMAT, i,
                                "the header ends at byte %zu and may be followed by spaces only; "
                                "byte %zu is another character",
                                end, i);
        }
    }
    if (*count > text.length / MEMBER_BYTES_MIN + 8) {
        return error_set_at(parser->error, LLCUDA_BAD_FORMAT, SAFETENSORS_PREFIX_BYTES,
                            "the header has %u members, too many to describe tensors in %zu bytes",
                            *count, text.length);
    }
    if (*count > LIMIT_TENSOR_COUNT) {
        return error_set(parser->error, LLCUDA_LIMIT, "%u tensors are more than the limit of %u",
                         *count, LIMIT_TENSOR_COUNT);
    }
    return LLCUDA_OK;
}

llcuda_status safetensors_header_init(struct safetensors_header *header, struct text_view text,
                                      uint64_t data_bytes, struct llcuda_error *error)
{
    *header = (struct safetensors_header){0};
    arena_init(&header->decoded, 0);
    struct parser parser = {
        .header = header, .text = text, .data_bytes = data_bytes, .error = error};
    uint32_t count = 0;
    llcuda_status status = check_text(&parser, &count);
    if (status) {
        return status;
    }
    header->tensors = calloc((size_t)count + 1, sizeof *header->tensors);
    header->offsets = calloc((size_t)count + 1, sizeof *header->offsets);
    if (!header->tensors || !header->offsets) {
        return error_no_memory(error, "a tensor table", count * sizeof *header->tensors);
    }
    status = read_members(&parser);
    if (status) {
        return status;
    }
    uint32_t duplicate;
    status =
        name_index_init(&header->names, header->tensors, header->count, name_of, &duplicate, error);
    if (!status && duplicate != ORDER_NONE) {
        struct text_view name = header->tensors[duplicate].tensor.name;
        status = error_set(error, LLCUDA_BAD_FORMAT, "the tensor '%.*s' comes twice",
                           TEXT_ARGUMENTS(name_clip(name)));
    }
    return status ? status : check_cover(&parser);
}

void safetensors_header_deinit(struct safetensors_header *header)
{
    name_index_deinit(&header->names);
    free(header->offsets);
    free(header->tensors);
    arena_deinit(&header->decoded);
    *header = (struct safetensors_header){0};
}
