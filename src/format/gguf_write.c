/* Owns a GGUF file that is being written. Metadata and the tensor table grow in two buffers until
 * the counts before them are known; tensor data goes straight out. Invariant: `data_written` is
 * where the next byte goes, relative to the start of the data. */
#include "format/gguf_write.h"

#include <assert.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/file.h"
#include "format/gguf_header.h"

#define WRITER_VERSION 3u

struct extent {
    uint64_t begin; /* relative to the start of the data */
    uint64_t bytes;
};

struct gguf_writer {
    struct buffer *memory; /* or the file: */
    struct file_output output;
    struct buffer values;
    struct buffer table;
    struct buffer extents; /* of struct extent */
    uint64_t value_count;
    uint64_t tensor_count;
    uint64_t tensor_next; /* the one that data goes to */
    uint64_t data_written;
    uint32_t alignment;
    bool header_written;
};

static struct gguf_writer *make(struct llcuda_error *error)
{
    struct gguf_writer *writer = calloc(1, sizeof *writer);
    if (!writer) {
        error_no_memory(error, "a GGUF writer", sizeof *writer);
        return NULL;
    }
    writer->output.descriptor = -1;
    writer->alignment = GGUF_DEFAULT_ALIGN;
    return writer;
}

llcuda_status gguf_writer_create(const char *path, struct gguf_writer **writer,
                                 struct llcuda_error *error)
{
    *writer = NULL;
    struct gguf_writer *made = make(error);
    if (!made) {
        return LLCUDA_OUT_OF_MEMORY;
    }
    llcuda_status status = file_output_open(&made->output, path, error);
    if (status) {
        gguf_writer_abort(made);
        return status;
    }
    *writer = made;
    return LLCUDA_OK;
}

llcuda_status gguf_writer_create_memory(struct buffer *out, struct gguf_writer **writer,
                                        struct llcuda_error *error)
{
    *writer = make(error);
    if (!*writer) {
        return LLCUDA_OUT_OF_MEMORY;
    }
    (*writer)->memory = out;
    return LLCUDA_OK;
}

static void put_u32(struct buffer *out, uint32_t value)
{
    buffer_append(out, &value, sizeof value);
}

static void put_u64(struct buffer *out, uint64_t value)
{
    buffer_append(out, &value, sizeof value);
}

static void put_text(struct buffer *out, struct text_view text)
{
    put_u64(out, text.length);
    buffer_append_view(out, text);
}

static void put_key(struct gguf_writer *writer, struct text_view key, enum gguf_kind kind)
{
    put_text(&writer->values, key);
    put_u32(&writer->values, kind);
    writer->value_count++;
}

void gguf_writer_set_alignment(struct gguf_writer *writer, uint32_t alignment)
{
    assert(writer->tensor_count == 0 && alignment && (alignment & (alignment - 1)) == 0);
    writer->alignment = alignment;
    gguf_writer_add_u32(writer, "general.alignment", alignment);
}

void gguf_writer_add_scalar(struct gguf_writer *writer, const char *key, enum gguf_kind kind,
                            const void *value)
{
    assert(gguf_kind_bytes(kind) > 0);
    put_key(writer, text_view_of(key), kind);
    buffer_append(&writer->values, value, gguf_kind_bytes(kind));
}

void gguf_writer_add_u32(struct gguf_writer *writer, const char *key, uint32_t value)
{
    gguf_writer_add_scalar(writer, key, GGUF_U32, &value);
}

void gguf_writer_add_f32(struct gguf_writer *writer, const char *key, float value)
{
    gguf_writer_add_scalar(writer, key, GGUF_F32, &value);
}

void gguf_writer_add_bool(struct gguf_writer *writer, const char *key, bool value)
{
    uint8_t byte = value;
    gguf_writer_add_scalar(writer, key, GGUF_BOOL, &byte);
}

void gguf_writer_add_text(struct gguf_writer *writer, const char *key, struct text_view value)
{
    put_key(writer, text_view_of(key), GGUF_STRING);
    put_text(&writer->values, value);
}

static void put_array(struct gguf_writer *writer, struct text_view key, enum gguf_kind kind,
                      const void *elements, uint64_t count)
{
    assert(gguf_kind_bytes(kind) > 0);
    put_key(writer, key, GGUF_ARRAY);
    put_u32(&writer->values, kind);
    put_u64(&writer->values, count);
    buffer_append(&writer->values, elements, (size_t)count * gguf_kind_bytes(kind));
}

static void put_texts(struct gguf_writer *writer, struct text_view key,
                      const struct text_view *texts, uint64_t count)
{
    put_key(writer, key, GGUF_ARRAY);
    put_u32(&writer->values, GGUF_STRING);
    put_u64(&writer->values, count);
    for (uint64_t i = 0; i < count; i++) {
        put_text(&writer->values, texts[i]);
    }
}

void gguf_writer_add_array(struct gguf_writer *writer, const char *key, enum gguf_kind kind,
                           const void *elements, uint64_t count)
{
    put_array(writer, text_view_of(key), kind, elements, count);
}

void gguf_writer_add_texts(struct gguf_writer *writer, const char *key,
                           const struct text_view *texts, uint64_t count)
{
    put_texts(writer, text_view_of(key), texts, count);
}

void gguf_writer_add_value(struct gguf_writer *writer, const struct gguf_value *value)
{
    if (value->kind == GGUF_ARRAY && value->element_kind == GGUF_STRING) {
        put_texts(writer, value->key, value->texts, value->count);
        return;
    }
    if (value->kind == GGUF_ARRAY) {
        put_array(writer, value->key, value->element_kind, value->elements, value->count);
        return;
    }
    put_key(writer, value->key, value->kind);
    if (value->kind == GGUF_STRING) {
        put_text(&writer->values, value->text);
    } else if (value->kind == GGUF_F32) {
        float single = (float)value->number;
        buffer_append(&writer->values, &single, sizeof single);
    } else {
        /* Little-endian: the low bytes of the widened value come first. */
        buffer_append(&writer->values, &value->unsigned_integer, gguf_kind_bytes(value->kind));
    }
}

static bool tensor_bytes(enum dtype dtype, uint32_t rank, const uint64_t *shape, uint64_t *bytes)
{
    bool fits = rank <= TENSOR_RANK_MAX &&
                dtype_row_bytes(dtype, rank ? shape[rank - 1] : 1, bytes) && *bytes > 0;
    for (uint32_t i = 0; fits && i + 1 < rank; i++) {
        fits = shape[i] > 0 && checked_mul_u64(*bytes, shape[i], bytes);
    }
    return fits;
}

llcuda_status gguf_writer_add_tensor(struct gguf_writer *writer, struct text_view name,
                                     enum dtype dtype, uint32_t rank, const uint64_t *shape,
                                     struct llcuda_error *error)
{
    assert(!writer->header_written);
    struct extent extent = {.begin = 0};
    struct extent last = {.begin = 0};
    if (writer->tensor_count && !writer->extents.failed) {
        memcpy(&last, writer->extents.data + writer->extents.length - sizeof last, sizeof last);
    }
    uint64_t end;
    if (dtype_info(dtype)->gguf_id == DTYPE_NO_GGUF ||
        !tensor_bytes(dtype, rank, shape, &extent.bytes) ||
        !checked_add_u64(last.begin, last.bytes, &end) ||
        !checked_align_up_u64(end, writer->alignment, &extent.begin)) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "tensor '%.*s' has no valid shape for %s",
                         TEXT_ARGUMENTS(name), dtype_info(dtype)->name);
    }
    put_text(&writer->table, name);
    put_u32(&writer->table, rank);
    for (uint32_t i = rank; i > 0; i--) {
        put_u64(&writer->table, shape[i - 1]);
    }
    put_u32(&writer->table, dtype_info(dtype)->gguf_id);
    put_u64(&writer->table, extent.begin);
    buffer_append(&writer->extents, &extent, sizeof extent);
    writer->tensor_count++;
    return LLCUDA_OK;
}

static llcuda_status put(struct gguf_writer *writer, const void *data, size_t bytes,
                         struct llcuda_error *error)
{
    if (!writer->memory) {
        return file_output_write(&writer->output, data, bytes, error);
    }
    return buffer_append(writer->memory, data, bytes)
               ? LLCUDA_OK
               : error_no_memory(error, "a GGUF file in memory", bytes);
}

static llcuda_status put_zeros(struct gguf_writer *writer, uint64_t bytes,
                               struct llcuda_error *error)
{
    static const uint8_t zeros[4096];
    while (bytes) {
        size_t piece = bytes < sizeof zeros ? (size_t)bytes : sizeof zeros;
        llcuda_status status = put(writer, zeros, piece, error);
        if (status) {
            return status;
        }
        bytes -= piece;
    }
    return LLCUDA_OK;
}

llcuda_status gguf_writer_begin_data(struct gguf_writer *writer, struct llcuda_error *error)
{
    assert(!writer->header_written);
    writer->header_written = true;
    struct buffer head = {0};
    buffer_append(&head, "GGUF", 4);
    put_u32(&head, WRITER_VERSION);
    put_u64(&head, writer->tensor_count);
    put_u64(&head, writer->value_count);
    llcuda_status status = LLCUDA_OK;
    if (head.failed || writer->values.failed || writer->table.failed || writer->extents.failed) {
        status =
            error_no_memory(error, "a GGUF header", writer->values.length + writer->table.length);
    }
    if (!status) {
        status = put(writer, head.data, head.length, error);
    }
    if (!status) {
        status = put(writer, writer->values.data, writer->values.length, error);
    }
    if (!status) {
        status = put(writer, writer->table.data, writer->table.length, error);
    }
    if (!status) {
        uint64_t bytes = head.length + writer->values.length + writer->table.length;
        status = put_zeros(writer, (0 - bytes) & (writer->alignment - 1), error);
    }
    buffer_deinit(&head);
    return status;
}

llcuda_status gguf_writer_data(struct gguf_writer *writer, const void *data, uint64_t bytes,
                               struct llcuda_error *error)
{
    assert(writer->header_written);
    struct extent extent = {.begin = writer->data_written};
    if (writer->tensor_next < writer->tensor_count) {
        memcpy(&extent, writer->extents.data + writer->tensor_next * sizeof extent, sizeof extent);
    }
    uint64_t left = extent.begin + extent.bytes - writer->data_written;
    if (bytes > left) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "%llu bytes for tensor %llu, which takes %llu more",
                         (unsigned long long)bytes, (unsigned long long)writer->tensor_next,
                         (unsigned long long)left);
    }
    llcuda_status status = put(writer, data, (size_t)bytes, error);
    if (status) {
        return status;
    }
    writer->data_written += bytes;
    if (bytes == left && writer->tensor_next < writer->tensor_count) {
        writer->tensor_next++;
        uint64_t padding = (0 - writer->data_written) & (writer->alignment - 1);
        status = put_zeros(writer, padding, error);
        writer->data_written += padding;
    }
    return status;
}

static void destroy(struct gguf_writer *writer)
{
    buffer_deinit(&writer->extents);
    buffer_deinit(&writer->table);
    buffer_deinit(&writer->values);
    free(writer);
}

llcuda_status gguf_writer_finish(struct gguf_writer *writer, struct llcuda_error *error)
{
    if (!writer->header_written || writer->tensor_next < writer->tensor_count) {
        uint64_t next = writer->tensor_next;
        gguf_writer_abort(writer);
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "the data of tensor %llu is not complete",
                         (unsigned long long)next);
    }
    llcuda_status status = LLCUDA_OK;
    if (!writer->memory) {
        status = file_output_commit(&writer->output, error);
    }
    destroy(writer);
    return status;
}

void gguf_writer_abort(struct gguf_writer *writer)
{
    if (writer) {
        file_output_abort(&writer->output);
        destroy(writer);
    }
}
