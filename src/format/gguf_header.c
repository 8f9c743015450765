/* Owns the decoding of GGUF header items and every check that needs no more than one item. Nothing
 * here allocates, so that no length in a file can make it. Invariant: position only grows, by at
 * least the encoded size of an item, so that time is bounded by the bytes of the file. Knows
 * nothing of what keys mean. One thread a reader. */
#include "format/gguf_header.h"

#include <stdio.h>

#include "base/checked.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "format/order.h"

/* The smallest encodings, which bound counts by the bytes that are left. */
#define ENTRY_BYTES_MIN  (8u + 1u + 4u + 1u)
#define TENSOR_BYTES_MIN (8u + 1u + 4u + 4u + 8u)

/* Bytes of a value of each kind in enum order; 0: of variable length. */
static const uint8_t kind_bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

const char *gguf_kind_name(enum gguf_kind kind)
{
    static const char *const names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                        "bool", "string", "array", "u64", "i64", "f64"};
    return (unsigned)kind < sizeof names / sizeof names[0] ? names[kind] : "unknown";
}

uint32_t gguf_kind_bytes(enum gguf_kind kind)
{
    return (unsigned)kind < sizeof kind_bytes ? kind_bytes[kind] : 0;
}

/* True bounds of the next `bytes` bytes: inside the file and inside the limit of headers. */
static llcuda_status need(const struct gguf_reader *reader, uint64_t bytes)
{
    if (bytes > reader->size - reader->position) {
        return error_set_at(reader->error, LLCUDA_BAD_FORMAT, reader->position,
                            "%s at byte %llu needs %llu bytes, but the file ends at byte %llu",
                            reader->item, (unsigned long long)reader->position,
                            (unsigned long long)bytes, (unsigned long long)reader->size);
    }
    if (bytes > LIMIT_GGUF_HEADER_BYTES - reader->position) {
        return error_set_at(reader->error, LLCUDA_LIMIT, reader->position,
                            "%s at byte %llu makes the header longer than the limit of %llu bytes",
                            reader->item, (unsigned long long)reader->position,
                            LIMIT_GGUF_HEADER_BYTES);
    }
    return LLCUDA_OK;
}

/* Borrows the next `bytes` (at most a window) until the next call. */
static llcuda_status take(struct gguf_reader *reader, uint32_t bytes, const uint8_t **data)
{
    llcuda_status status = need(reader, bytes);
    if (status) {
        return status;
    }
    if (reader->memory) {
        *data = reader->memory + reader->position;
    } else {
        if (reader->position < reader->window_begin ||
            reader->position + bytes > reader->window_begin + reader->window_bytes) {
            uint64_t left = reader->size - reader->position;
            size_t fill = left < GGUF_WINDOW_BYTES ? (size_t)left : GGUF_WINDOW_BYTES;
            reader->window_bytes = 0;
            status =
                file_read_at(reader->file, reader->position, reader->window, fill, reader->error);
            if (status) {
                return status;
            }
            reader->window_begin = reader->position;
            reader->window_bytes = fill;
        }
        *data = reader->window + (reader->position - reader->window_begin);
    }
    reader->position += bytes;
    return LLCUDA_OK;
}

static llcuda_status take_u32(struct gguf_reader *reader, uint32_t *out)
{
    const uint8_t *data;
    llcuda_status status = take(reader, sizeof *out, &data);
    if (!status) {
        memcpy(out, data, sizeof *out);
    }
    return status;
}

static llcuda_status take_u64(struct gguf_reader *reader, uint64_t *out)
{
    const uint8_t *data;
    llcuda_status status = take(reader, sizeof *out, &data);
    if (!status) {
        memcpy(out, data, sizeof *out);
    }
    return status;
}

/* Passes over bytes of any number; *data is NULL unless they are in memory. */
static llcuda_status pass(struct gguf_reader *reader, uint64_t bytes, const uint8_t **data)
{
    llcuda_status status = need(reader, bytes);
    if (!status) {
        *data = reader->memory ? reader->memory + reader->position : NULL;
        reader->position += bytes;
    }
    return status;
}

static llcuda_status read_text(struct gguf_reader *reader, struct text_view *text)
{
    uint64_t length;
    const uint8_t *data;
    llcuda_status status = take_u64(reader, &length);
    if (!status) {
        status = pass(reader, length, &data);
    }
    if (!status) {
        *text = text_view_make((const char *)data, (size_t)length);
    }
    return status;
}

/* A key or tensor name: 1 to `limit` bytes of UTF-8, borrowed until the next call. */
static llcuda_status read_name(struct gguf_reader *reader, uint32_t limit, struct text_view *name)
{
    uint64_t begin = reader->position;
    uint64_t length;
    const uint8_t *data;
    llcuda_status status = take_u64(reader, &length);
    if (status) {
        return status;
    }
    if (length == 0 || length > limit) {
        return error_set_at(reader->error, LLCUDA_BAD_FORMAT, begin,
                            "%s at byte %llu has %llu bytes; 1 to %u are allowed", reader->item,
                            (unsigned long long)begin, (unsigned long long)length, limit);
    }
    status = take(reader, (uint32_t)length, &data);
    if (status) {
        return status;
    }
    *name = text_view_make((const char *)data, (size_t)length);
    if (!utf8_valid(*name)) {
        return error_set_at(reader->error, LLCUDA_BAD_FORMAT, begin + 8,
                            "%s at byte %llu is not valid UTF-8", reader->item,
                            (unsigned long long)(begin + 8));
    }
    return LLCUDA_OK;
}

static llcuda_status check_magic(struct gguf_reader *reader, const uint8_t *magic)
{
    static const char *const older[] = {"lmgg", "fmgg", "tjgg", "algg"};
    if (memcmp(magic, "GGUF", 4) == 0) {
        return LLCUDA_OK;
    }
    for (size_t i = 0; i < sizeof older / sizeof older[0]; i++) {
        if (memcmp(magic, older[i], 4) == 0) {
            return error_set_at(reader->error, LLCUDA_UNSUPPORTED, 0,
                                "a GGML file from before GGUF; convert the model to GGUF");
        }
    }
    return error_set_at(reader->error, LLCUDA_BAD_FORMAT, 0,
                        "no GGUF file: it begins with the bytes %02x %02x %02x %02x instead of "
                        "47 47 55 46 (\"GGUF\")",
                        magic[0], magic[1], magic[2], magic[3]);
}

static llcuda_status check_version(struct gguf_reader *reader, uint32_t version)
{
    if (version == 2 || version == 3) {
        return LLCUDA_OK;
    }
    if ((version & 0xffffu) == 0 && version != 0) {
        return error_set_at(reader->error, LLCUDA_UNSUPPORTED, 4,
                            "a big-endian GGUF file (version %u with its bytes swapped); only "
                            "little-endian files are supported",
                            __builtin_bswap32(version));
    }
    return error_set_at(reader->error, version == 0 ? LLCUDA_BAD_FORMAT : LLCUDA_UNSUPPORTED, 4,
                        "GGUF version %u at byte 4; versions 2 and 3 are supported", version);
}

/* A count of items whose smallest encoding is `bytes_min`. */
static llcuda_status check_count(struct gguf_reader *reader, const char *what, uint64_t count,
                                 uint64_t offset, uint64_t bytes_min, uint64_t limit)
{
    uint64_t left = reader->size - reader->position;
    if (count > left / bytes_min) {
        return error_set_at(reader->error, LLCUDA_BAD_FORMAT, offset,
                            "%llu %s are declared at byte %llu, more than the %llu bytes that "
                            "follow can hold",
                            (unsigned long long)count, what, (unsigned long long)offset,
                            (unsigned long long)left);
    }
    if (count > limit) {
        return error_set_at(reader->error, LLCUDA_LIMIT, offset,
                            "%llu %s are declared at byte %llu, more than the limit of %llu",
                            (unsigned long long)count, what, (unsigned long long)offset,
                            (unsigned long long)limit);
    }
    return LLCUDA_OK;
}

llcuda_status gguf_read_prelude(struct gguf_reader *reader, struct gguf_layout *layout)
{
    *layout = (struct gguf_layout){0};
    snprintf(reader->item, sizeof reader->item, "the GGUF header");
    const uint8_t *magic;
    uint64_t tensors = 0;
    uint64_t values = 0;
    llcuda_status status = take(reader, 4, &magic);
    if (!status) {
        status = check_magic(reader, magic);
    }
    if (!status) {
        status = take_u32(reader, &layout->version);
    }
    if (!status) {
        status = check_version(reader, layout->version);
    }
    if (!status) {
        status = take_u64(reader, &tensors);
    }
    if (!status) {
        status = take_u64(reader, &values);
    }
    if (!status) {
        status = check_count(reader, "tensors", tensors, 8, TENSOR_BYTES_MIN, LIMIT_TENSOR_COUNT);
    }
    if (!status) {
        status = check_count(reader, "metadata entries", values, 16, ENTRY_BYTES_MIN,
                             LIMIT_GGUF_METADATA_COUNT);
    }
    layout->tensor_count = (uint32_t)tensors;
    layout->value_count = (uint32_t)values;
    return status;
}

static llcuda_status read_texts(struct gguf_reader *reader, struct gguf_value *value)
{
    struct text_view *texts = reader->texts;
    if (texts) {
        if (value->count > reader->texts_left) {
            return error_set_at(reader->error, LLCUDA_IO, value->offset,
                                "the file changed while it was read");
        }
        reader->texts += value->count;
        reader->texts_left -= value->count;
    }
    value->texts = texts;
    for (uint64_t i = 0; i < value->count; i++) {
        struct text_view text;
        llcuda_status status = read_text(reader, &text);
        if (status) {
            return status;
        }
        if (texts) {
            texts[i] = text;
        }
    }
    return LLCUDA_OK;
}

static llcuda_status bad_bool(struct gguf_reader *reader, uint64_t offset, uint8_t byte)
{
    return error_set_at(reader->error, LLCUDA_BAD_FORMAT, offset,
                        "%s has the byte %u at byte %llu, which is no boolean", reader->item, byte,
                        (unsigned long long)offset);
}

/* Booleans are looked at one by one, a window at a time. */
static llcuda_status read_bools(struct gguf_reader *reader, struct gguf_value *value)
{
    value->elements = reader->memory ? reader->memory + reader->position : NULL;
    for (uint64_t left = value->count; left > 0;) {
        uint32_t piece = left < GGUF_WINDOW_BYTES ? (uint32_t)left : GGUF_WINDOW_BYTES;
        uint64_t begin = reader->position;
        const uint8_t *bytes;
        llcuda_status status = take(reader, piece, &bytes);
        if (status) {
            return status;
        }
        for (uint32_t i = 0; i < piece; i++) {
            if (bytes[i] > 1) {
                return bad_bool(reader, begin + i, bytes[i]);
            }
        }
        left -= piece;
    }
    return LLCUDA_OK;
}

static llcuda_status read_array(struct gguf_reader *reader, struct gguf_value *value)
{
    uint32_t kind;
    llcuda_status status = take_u32(reader, &kind);
    if (!status) {
        status = take_u64(reader, &value->count);
    }
    if (status) {
        return status;
    }
    if (kind > GGUF_F64 || kind == GGUF_ARRAY) {
        return error_set_at(reader->error,
                            kind == GGUF_ARRAY ? LLCUDA_UNSUPPORTED : LLCUDA_BAD_FORMAT,
                            value->offset, "%s is an array of %s (kind %u at byte %llu)",
                            reader->item, kind == GGUF_ARRAY ? "arrays" : "an unknown kind", kind,
                            (unsigned long long)value->offset);
    }
    value->element_kind = (enum gguf_kind)kind;
    uint64_t element_bytes = kind == GGUF_STRING ? 8 : kind_bytes[kind];
    uint64_t left = reader->size - reader->position;
    if (value->count > left / element_bytes) {
        return error_set_at(reader->error, LLCUDA_BAD_FORMAT, value->offset + 4,
                            "%s declares %llu elements of kind %s at byte %llu, more than the %llu "
                            "bytes that follow can hold",
                            reader->item, (unsigned long long)value->count,
                            gguf_kind_name(value->element_kind),
                            (unsigned long long)(value->offset + 4), (unsigned long long)left);
    }
    if (kind == GGUF_STRING) {
        return read_texts(reader, value);
    }
    return kind == GGUF_BOOL ? read_bools(reader, value)
                             : pass(reader, value->count * element_bytes, &value->elements);
}

/* Widens a scalar, whose bytes are `data`. */
static void decode_scalar(struct gguf_value *value, const uint8_t *data)
{
    uint64_t raw = 0;
    memcpy(&raw, data, kind_bytes[value->kind]);
    float single;
    switch (value->kind) {
    case GGUF_I8:
        value->signed_integer = (int8_t)raw;
        break;
    case GGUF_I16:
        value->signed_integer = (int16_t)raw;
        break;
    case GGUF_I32:
        value->signed_integer = (int32_t)raw;
        break;
    case GGUF_I64:
        value->signed_integer = (int64_t)raw;
        break;
    case GGUF_F32:
        memcpy(&single, data, sizeof single);
        value->number = (double)single;
        break;
    case GGUF_F64:
        memcpy(&value->number, data, sizeof value->number);
        break;
    default:
        value->unsigned_integer = raw;
    }
}

static llcuda_status read_value(struct gguf_reader *reader, struct gguf_value *value)
{
    if (value->kind == GGUF_STRING) {
        return read_text(reader, &value->text);
    }
    if (value->kind == GGUF_ARRAY) {
        return read_array(reader, value);
    }
    const uint8_t *data;
    llcuda_status status = take(reader, kind_bytes[value->kind], &data);
    if (status) {
        return status;
    }
    decode_scalar(value, data);
    if (value->kind == GGUF_BOOL && value->unsigned_integer > 1) {
        return bad_bool(reader, value->offset, (uint8_t)value->unsigned_integer);
    }
    return LLCUDA_OK;
}

llcuda_status gguf_read_entry(struct gguf_reader *reader, uint32_t index, struct gguf_value *value)
{
    *value = (struct gguf_value){0};
    snprintf(reader->item, sizeof reader->item, "the key of metadata entry %u", index);
    llcuda_status status = read_name(reader, LIMIT_GGUF_KEY_BYTES, &value->key);
    if (status) {
        return status;
    }
    snprintf(reader->item, sizeof reader->item, "the value of '%.*s'",
             TEXT_ARGUMENTS(name_clip(value->key)));
    uint32_t kind;
    status = take_u32(reader, &kind);
    if (status) {
        return status;
    }
    value->offset = reader->position;
    if (kind > GGUF_F64) {
        return error_set_at(reader->error, LLCUDA_BAD_FORMAT, value->offset - 4,
                            "%s has the unknown kind %u at byte %llu", reader->item, kind,
                            (unsigned long long)(value->offset - 4));
    }
    value->kind = (enum gguf_kind)kind;
    return read_value(reader, value);
}

static llcuda_status read_shape(struct gguf_reader *reader, struct tensor *tensor)
{
    uint64_t begin = reader->position;
    llcuda_status status = take_u32(reader, &tensor->rank);
    if (!status && tensor->rank > LIMIT_TENSOR_RANK) {
        status =
            error_set_at(reader->error, LLCUDA_BAD_FORMAT, begin,
                         "%s has %u dimensions at byte %llu; at most %u are allowed", reader->item,
                         tensor->rank, (unsigned long long)begin, LIMIT_TENSOR_RANK);
    }
    /* The file has the innermost axis first. */
    for (uint32_t i = 0; !status && i < tensor->rank; i++) {
        uint64_t *length = &tensor->shape[tensor->rank - 1 - i];
        uint64_t offset = reader->position;
        status = take_u64(reader, length);
        if (!status && *length == 0) {
            status = error_set_at(reader->error, LLCUDA_BAD_FORMAT, offset,
                                  "%s has a dimension of 0 at byte %llu", reader->item,
                                  (unsigned long long)offset);
        }
    }
    return status;
}

static llcuda_status set_type(struct gguf_reader *reader, struct tensor *tensor, uint32_t type)
{
    if (dtype_from_gguf(type, &tensor->dtype)) {
        return LLCUDA_OK;
    }
    uint64_t offset = reader->position - 4;
    const char *name = dtype_gguf_name(type);
    if (!name) {
        return error_set_at(reader->error, LLCUDA_UNSUPPORTED, offset,
                            "%s has the unknown type %u at byte %llu", reader->item, type,
                            (unsigned long long)offset);
    }
    return error_set_at(reader->error, LLCUDA_UNSUPPORTED, offset,
                        "%s has the type %s (%u at byte %llu), which is not supported",
                        reader->item, name, type, (unsigned long long)offset);
}

/* Whole blocks in every row, and products that fit. */
static llcuda_status set_bytes(struct gguf_reader *reader, struct tensor *tensor, uint64_t offset)
{
    const struct dtype_info *info = dtype_info(tensor->dtype);
    uint64_t columns = tensor->rank ? tensor->shape[tensor->rank - 1] : 1;
    if (columns % info->block_elements != 0) {
        return error_set_at(reader->error, LLCUDA_BAD_FORMAT, offset,
                            "%s has rows of %llu elements, no multiple of the %u of a %s block",
                            reader->item, (unsigned long long)columns, info->block_elements,
                            info->name);
    }
    uint64_t elements = columns;
    bool fits = dtype_row_bytes(tensor->dtype, columns, &tensor->bytes);
    for (uint32_t i = 0; fits && i + 1 < tensor->rank; i++) {
        fits = checked_mul_u64(elements, tensor->shape[i], &elements) &&
               checked_mul_u64(tensor->bytes, tensor->shape[i], &tensor->bytes);
    }
    if (!fits || elements > INT64_MAX) {
        return error_set_at(reader->error, LLCUDA_BAD_FORMAT, offset,
                            "%s has more elements than fit into 63 bits (shape at byte %llu)",
                            reader->item, (unsigned long long)offset);
    }
    return LLCUDA_OK;
}

llcuda_status gguf_read_tensor(struct gguf_reader *reader, uint32_t index, struct tensor *tensor,
                               uint64_t *offset)
{
    *tensor = (struct tensor){0};
    snprintf(reader->item, sizeof reader->item, "the name of tensor %u", index);
    llcuda_status status = read_name(reader, LIMIT_TENSOR_NAME_BYTES, &tensor->name);
    if (status) {
        return status;
    }
    snprintf(reader->item, sizeof reader->item, "tensor '%.*s'",
             TEXT_ARGUMENTS(name_clip(tensor->name)));
    uint64_t begin = reader->position;
    uint32_t type;
    status = read_shape(reader, tensor);
    if (!status) {
        status = take_u32(reader, &type);
    }
    if (!status) {
        status = set_type(reader, tensor, type);
    }
    if (!status) {
        status = take_u64(reader, offset);
    }
    return status ? status : set_bytes(reader, tensor, begin);
}

llcuda_status gguf_measure(struct gguf_reader *reader, struct gguf_layout *layout)
{
    llcuda_status status = gguf_read_prelude(reader, layout);
    for (uint32_t i = 0; !status && i < layout->value_count; i++) {
        struct gguf_value value;
        status = gguf_read_entry(reader, i, &value);
        if (value.kind == GGUF_ARRAY && value.element_kind == GGUF_STRING) {
            layout->text_count += value.count;
        }
    }
    for (uint32_t i = 0; !status && i < layout->tensor_count; i++) {
        struct tensor tensor;
        uint64_t offset;
        status = gguf_read_tensor(reader, i, &tensor, &offset);
    }
    layout->header_bytes = reader->position;
    return status;
}
