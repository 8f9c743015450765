/* Owns an open GGUF file: the header in memory, the tables made from it, and the map. Invariants:
 * keys and tensor names are unique; every tensor lies inside the file and overlaps no other; views
 * point into the header copy, never into the map, so that a file which shrinks cannot change them.
 * Immutable after opening, so any thread may read. Knows nothing of what keys mean, except
 * general.alignment. */
#include "format/gguf.h"

#include <stdlib.h>

#include "base/checked.h"
#include "base/limits.h"
#include "format/gguf_header.h"
#include "format/order.h"

struct gguf {
    struct gguf_layout layout;
    uint32_t alignment;
    uint64_t file_bytes;
    uint64_t data_begin; /* where the first tensor may lie */
    struct gguf_value *values;
    struct text_view *texts; /* elements of all string arrays */
    struct tensor *tensors;
    struct name_index keys;
    struct name_index names;
    uint8_t *header; /* owned copy; NULL when the file is in memory */
    struct file_map map;
};

static struct text_view key_of(const void *items, uint32_t index)
{
    return ((const struct gguf_value *)items)[index].key;
}

static struct text_view name_of(const void *items, uint32_t index)
{
    return ((const struct tensor *)items)[index].name;
}

/* Room for the tables. Every count was bounded by the bytes that encode it, which keeps all of this
 * within four times the file and a constant. */
static llcuda_status allocate_tables(struct gguf *gguf, struct llcuda_error *error)
{
    const struct gguf_layout *layout = &gguf->layout;
    gguf->values = calloc(layout->value_count + 1, sizeof *gguf->values);
    gguf->texts = calloc((size_t)layout->text_count + 1, sizeof *gguf->texts);
    gguf->tensors = calloc(layout->tensor_count + 1, sizeof *gguf->tensors);
    if (!gguf->values || !gguf->texts || !gguf->tensors) {
        return error_no_memory(error, "the tables of a GGUF file",
                               layout->value_count * sizeof *gguf->values +
                                   layout->text_count * sizeof *gguf->texts +
                                   layout->tensor_count * sizeof *gguf->tensors);
    }
    return LLCUDA_OK;
}

static llcuda_status read_values(struct gguf *gguf, struct gguf_reader *reader)
{
    for (uint32_t i = 0; i < gguf->layout.value_count; i++) {
        llcuda_status status = gguf_read_entry(reader, i, &gguf->values[i]);
        if (status) {
            return status;
        }
    }
    uint32_t duplicate;
    llcuda_status status = name_index_init(&gguf->keys, gguf->values, gguf->layout.value_count,
                                           key_of, &duplicate, reader->error);
    if (!status && duplicate != ORDER_NONE) {
        const struct gguf_value *value = &gguf->values[duplicate];
        status =
            error_set_at(reader->error, LLCUDA_BAD_FORMAT, value->offset,
                         "the metadata key '%.*s' comes twice, again at byte %llu",
                         TEXT_ARGUMENTS(name_clip(value->key)), (unsigned long long)value->offset);
    }
    return status;
}

static llcuda_status read_alignment(struct gguf *gguf, struct llcuda_error *error)
{
    gguf->alignment = GGUF_DEFAULT_ALIGN;
    const struct gguf_value *value = gguf_find(gguf, "general.alignment");
    if (!value) {
        return LLCUDA_OK;
    }
    if (value->kind != GGUF_U32) {
        return error_set_at(error, LLCUDA_BAD_FORMAT, value->offset,
                            "general.alignment at byte %llu is of kind %s instead of u32",
                            (unsigned long long)value->offset, gguf_kind_name(value->kind));
    }
    uint64_t alignment = value->unsigned_integer;
    if (alignment == 0 || alignment > LIMIT_GGUF_ALIGNMENT || (alignment & (alignment - 1)) != 0) {
        return error_set_at(error, LLCUDA_BAD_FORMAT, value->offset,
                            "general.alignment at byte %llu is %llu instead of a power of two up "
                            "to %u",
                            (unsigned long long)value->offset, (unsigned long long)alignment,
                            LIMIT_GGUF_ALIGNMENT);
    }
    gguf->alignment = (uint32_t)alignment;
    return LLCUDA_OK;
}

static llcuda_status check_range(const struct gguf *gguf, const struct tensor *tensor,
                                 uint64_t offset, struct llcuda_error *error)
{
    uint64_t begin;
    if (!checked_add_u64(gguf->data_begin, offset, &begin) || begin > gguf->file_bytes ||
        tensor->bytes > gguf->file_bytes - begin) {
        return error_set_at(error, LLCUDA_BAD_FORMAT, gguf->file_bytes,
                            "tensor '%.*s' needs %llu bytes from offset %llu of the data (which "
                            "begins at byte %llu), but the file ends at byte %llu",
                            TEXT_ARGUMENTS(name_clip(tensor->name)),
                            (unsigned long long)tensor->bytes, (unsigned long long)offset,
                            (unsigned long long)gguf->data_begin,
                            (unsigned long long)gguf->file_bytes);
    }
    if (offset % gguf->alignment != 0) {
        return error_set_at(error, LLCUDA_BAD_FORMAT, begin,
                            "the data of tensor '%.*s' is at offset %llu, no multiple of the "
                            "alignment %u",
                            TEXT_ARGUMENTS(name_clip(tensor->name)), (unsigned long long)offset,
                            gguf->alignment);
    }
    return LLCUDA_OK;
}

static bool offset_less(const void *context, uint32_t a, uint32_t b)
{
    const uint64_t *offsets = context;
    return offsets[a] < offsets[b];
}

/* No two tensors may share bytes; `offsets` are checked ranges. */
static llcuda_status check_overlap(const struct gguf *gguf, const uint64_t *offsets,
                                   struct llcuda_error *error)
{
    uint32_t count = gguf->layout.tensor_count;
    uint32_t *order = malloc((count + 1) * sizeof *order);
    if (!order) {
        return error_no_memory(error, "the order of tensors", count * sizeof *order);
    }
    order_sort(order, count, offset_less, offsets);
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 1; !status && i < count; i++) {
        const struct tensor *first = &gguf->tensors[order[i - 1]];
        const struct tensor *second = &gguf->tensors[order[i]];
        if (offsets[order[i]] - offsets[order[i - 1]] < first->bytes) {
            uint64_t place = gguf->data_begin + offsets[order[i]];
            status = error_set_at(
                error, LLCUDA_BAD_FORMAT, place, "tensors '%.*s' and '%.*s' overlap at byte %llu",
                TEXT_ARGUMENTS(name_clip(first->name)), TEXT_ARGUMENTS(name_clip(second->name)),
                (unsigned long long)place);
        }
    }
    free(order);
    return status;
}

static llcuda_status check_tensors(struct gguf *gguf, const uint64_t *offsets,
                                   struct llcuda_error *error)
{
    uint32_t duplicate;
    uint32_t count = gguf->layout.tensor_count;
    llcuda_status status =
        name_index_init(&gguf->names, gguf->tensors, count, name_of, &duplicate, error);
    if (!status && duplicate != ORDER_NONE) {
        status = error_set(error, LLCUDA_BAD_FORMAT, "the tensor '%.*s' comes twice (as number %u)",
                           TEXT_ARGUMENTS(name_clip(gguf->tensors[duplicate].name)), duplicate);
    }
    for (uint32_t i = 0; !status && i < count; i++) {
        status = check_range(gguf, &gguf->tensors[i], offsets[i], error);
    }
    return status ? status : check_overlap(gguf, offsets, error);
}

/* Reads the tensor table; `offsets` receives where each one's data lies. */
static llcuda_status read_tensors(struct gguf *gguf, struct gguf_reader *reader, uint64_t *offsets)
{
    for (uint32_t i = 0; i < gguf->layout.tensor_count; i++) {
        llcuda_status status = gguf_read_tensor(reader, i, &gguf->tensors[i], &offsets[i]);
        if (status) {
            return status;
        }
    }
    if (!checked_align_up_u64(reader->position, gguf->alignment, &gguf->data_begin)) {
        return error_set(reader->error, LLCUDA_BAD_FORMAT, "the header's end cannot be aligned");
    }
    return check_tensors(gguf, offsets, reader->error);
}

/* The second pass, over a header in memory. `data` is the start of the file in memory or NULL. */
static llcuda_status build(struct gguf *gguf, struct gguf_reader *reader, uint64_t *offsets)
{
    struct gguf_layout again;
    llcuda_status status = gguf_read_prelude(reader, &again);
    if (!status && (again.value_count != gguf->layout.value_count ||
                    again.tensor_count != gguf->layout.tensor_count)) {
        status = error_set(reader->error, LLCUDA_IO, "the file changed while it was read");
    }
    if (!status) {
        status = read_values(gguf, reader);
    }
    if (!status) {
        status = read_alignment(gguf, reader->error);
    }
    return status ? status : read_tensors(gguf, reader, offsets);
}

static void place_data(struct gguf *gguf, const uint8_t *file, const uint64_t *offsets)
{
    for (uint32_t i = 0; i < gguf->layout.tensor_count; i++) {
        gguf->tensors[i].data = file + gguf->data_begin + offsets[i];
    }
}

/* Both ways of opening meet here: `file` or `memory`. */
static llcuda_status open_parsed(struct gguf *gguf, const struct file *file, const uint8_t *memory,
                                 bool header_only, struct llcuda_error *error)
{
    uint64_t *offsets = NULL;
    struct gguf_reader reader = {
        .memory = memory, .file = file, .size = gguf->file_bytes, .error = error};
    if (!memory) {
        reader.window = malloc(GGUF_WINDOW_BYTES);
        if (!reader.window) {
            return error_no_memory(error, "a window into a file", GGUF_WINDOW_BYTES);
        }
    }
    llcuda_status status = gguf_measure(&reader, &gguf->layout);
    free(reader.window);
    if (status) {
        return status;
    }
    size_t header_bytes = (size_t)gguf->layout.header_bytes;
    if (!memory) {
        gguf->header = malloc(header_bytes);
        if (!gguf->header) {
            return error_no_memory(error, "the header of a GGUF file", header_bytes);
        }
        status = file_read_at(file, 0, gguf->header, header_bytes, error);
    }
    if (!status) {
        status = allocate_tables(gguf, error);
    }
    if (!status) {
        offsets = calloc(gguf->layout.tensor_count + 1, sizeof *offsets);
        if (!offsets) {
            status = error_no_memory(error, "tensor offsets",
                                     gguf->layout.tensor_count * sizeof *offsets);
        }
    }
    if (!status) {
        reader = (struct gguf_reader){.memory = memory ? memory : gguf->header,
                                      .size = header_bytes,
                                      .texts = gguf->texts,
                                      .texts_left = gguf->layout.text_count,
                                      .error = error};
        status = build(gguf, &reader, offsets);
    }
    if (!status && !memory && !header_only && gguf->layout.tensor_count > 0) {
        status = file_map_open(&gguf->map, file, error);
        memory = gguf->map.data;
    }
    if (!status && memory && !header_only) {
        place_data(gguf, memory, offsets);
    }
    free(offsets);
    return status;
}

static struct gguf *make(uint64_t bytes, struct llcuda_error *error)
{
    struct gguf *made = calloc(1, sizeof *made);
    if (made) {
        made->file_bytes = bytes;
        made->map.slot = -1;
    } else {
        error_no_memory(error, "a GGUF file", sizeof *made);
    }
    return made;
}

llcuda_status gguf_open(const char *path, bool header_only, struct gguf **gguf,
                        struct llcuda_error *error)
{
    *gguf = NULL;
    struct file file;
    llcuda_status status = file_open(&file, path, error);
    if (status) {
        return status;
    }
    struct gguf *made = make(file.size, error);
    if (!made) {
        file_close(&file);
        return LLCUDA_OUT_OF_MEMORY;
    }
    status = open_parsed(made, &file, NULL, header_only, error);
    file_close(&file);
    if (status) {
        gguf_close(made);
        return error_prefix(error, status, "'%s'", path);
    }
    *gguf = made;
    return LLCUDA_OK;
}

llcuda_status gguf_open_memory(const void *data, uint64_t bytes, struct gguf **gguf,
                               struct llcuda_error *error)
{
    *gguf = NULL;
    struct gguf *made = make(bytes, error);
    if (!made) {
        return LLCUDA_OUT_OF_MEMORY;
    }
    /* A NULL pointer would mean a file; no bytes are never read. */
    llcuda_status status = open_parsed(made, NULL, data ? data : (const void *)"", false, error);
    if (status) {
        gguf_close(made);
        return status;
    }
    *gguf = made;
    return LLCUDA_OK;
}

void gguf_close(struct gguf *gguf)
{
    if (!gguf) {
        return;
    }
    file_map_close(&gguf->map);
    name_index_deinit(&gguf->names);
    name_index_deinit(&gguf->keys);
    free(gguf->tensors);
    free(gguf->texts);
    free(gguf->values);
    free(gguf->header);
    free(gguf);
}

uint32_t gguf_version(const struct gguf *gguf)
{
    return gguf->layout.version;
}

uint32_t gguf_alignment(const struct gguf *gguf)
{
    return gguf->alignment;
}

uint64_t gguf_file_bytes(const struct gguf *gguf)
{
    return gguf->file_bytes;
}

bool gguf_damaged(const struct gguf *gguf)
{
    return file_map_damaged(&gguf->map);
}

uint64_t gguf_value_count(const struct gguf *gguf)
{
    return gguf->layout.value_count;
}

const struct gguf_value *gguf_value_at(const struct gguf *gguf, uint64_t index)
{
    return index < gguf->layout.value_count ? &gguf->values[index] : NULL;
}

const struct gguf_value *gguf_find(const struct gguf *gguf, const char *key)
{
    uint32_t index = name_index_find(&gguf->keys, text_view_of(key));
    return index == ORDER_NONE ? NULL : &gguf->values[index];
}

uint64_t gguf_tensor_count(const struct gguf *gguf)
{
    return gguf->layout.tensor_count;
}

const struct tensor *gguf_tensor_at(const struct gguf *gguf, uint64_t index)
{
    return index < gguf->layout.tensor_count ? &gguf->tensors[index] : NULL;
}

const struct tensor *gguf_find_tensor(const struct gguf *gguf, struct text_view name)
{
    uint32_t index = name_index_find(&gguf->names, name);
    return index == ORDER_NONE ? NULL : &gguf->tensors[index];
}
