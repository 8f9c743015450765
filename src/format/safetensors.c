/* Owns an open SafeTensors file: the header text, the tables made from it, and the map. Names point
 * into the header copy, never into the map. Immutable after opening, so any thread may read. */
#include "format/safetensors.h"

#include <stdlib.h>

#include "base/limits.h"
#include "format/safetensors_header.h"

struct safetensors {
    struct safetensors_header header;
    char *text; /* owned copy of prefix and header; NULL when the file is in memory */
    uint64_t file_bytes;
    struct file_map map;
};

/* The length of the header from the file's first 8 bytes, against the file and the limit. */
static llcuda_status check_prefix(uint64_t header_bytes, uint64_t file_bytes,
                                  struct llcuda_error *error)
{
    if (header_bytes > file_bytes - SAFETENSORS_PREFIX_BYTES) {
        return error_set_at(error, LLCUDA_BAD_FORMAT, 0,
                            "no SafeTensors file, or a truncated one: its first 8 bytes declare a "
                            "header of %llu bytes, but the file ends at byte %llu",
                            (unsigned long long)header_bytes, (unsigned long long)file_bytes);
    }
    if (header_bytes > LIMIT_SAFETENSORS_HEADER) {
        return error_set_at(error, LLCUDA_LIMIT, 0,
                            "a header of %llu bytes is more than the format's limit of %llu",
                            (unsigned long long)header_bytes, LIMIT_SAFETENSORS_HEADER);
    }
    return LLCUDA_OK;
}

static llcuda_status too_short(uint64_t bytes, struct llcuda_error *error)
{
    return error_set_at(error, LLCUDA_BAD_FORMAT, bytes,
                        "no SafeTensors file: it ends at byte %llu, before its header length",
                        (unsigned long long)bytes);
}

static void place_data(struct safetensors *file, const uint8_t *data)
{
    for (uint32_t i = 0; i < file->header.count; i++) {
        file->header.tensors[i].tensor.data = data + file->header.offsets[i];
    }
}

static llcuda_status open_file(struct safetensors *made, const struct file *file, bool header_only,
                               struct llcuda_error *error)
{
    uint64_t header_bytes;
    made->file_bytes = file->size;
    if (file->size < SAFETENSORS_PREFIX_BYTES) {
        return too_short(file->size, error);
    }
    llcuda_status status = file_read_at(file, 0, &header_bytes, sizeof header_bytes, error);
    if (!status) {
        status = check_prefix(header_bytes, file->size, error);
    }
    if (status) {
        return status;
    }
    size_t bytes = SAFETENSORS_PREFIX_BYTES + (size_t)header_bytes;
    made->text = malloc(bytes);
    if (!made->text) {
        return error_no_memory(error, "a SafeTensors header", bytes);
    }
    status = file_read_at(file, 0, made->text, bytes, error);
    if (!status) {
        status = safetensors_header_init(&made->header, text_view_make(made->text, bytes),
                                         file->size - bytes, error);
    }
    if (!status && !header_only) {
        status = file_map_open(&made->map, file, error);
        if (!status) {
            place_data(made, made->map.data + bytes);
        }
    }
    return status;
}

llcuda_status safetensors_open(const char *path, bool header_only, struct safetensors **file,
                               struct llcuda_error *error)
{
    *file = NULL;
    struct file opened;
    llcuda_status status = file_open(&opened, path, error);
    if (status) {
        return status;
    }
    struct safetensors *made = calloc(1, sizeof *made);
    if (!made) {
        file_close(&opened);
        return error_no_memory(error, "a SafeTensors file", sizeof *made);
    }
    made->map.slot = -1;
    status = open_file(made, &opened, header_only, error);
    file_close(&opened);
    if (status) {
        safetensors_close(made);
        return error_prefix(error, status, "'%s'", path);
    }
    *file = made;
    return LLCUDA_OK;
}

llcuda_status safetensors_open_memory(const void *data, uint64_t bytes, struct safetensors **file,
                                      struct llcuda_error *error)
{
    *file = NULL;
    if (bytes < SAFETENSORS_PREFIX_BYTES) {
        return too_short(bytes, error);
    }
    uint64_t header_bytes;
    memcpy(&header_bytes, data, sizeof header_bytes);
    llcuda_status status = check_prefix(header_bytes, bytes, error);
    if (status) {
        return status;
    }
    struct safetensors *made = calloc(1, sizeof *made);
    if (!made) {
        return error_no_memory(error, "a SafeTensors file", sizeof *made);
    }
    made->map.slot = -1;
    made->file_bytes = bytes;
    size_t text_bytes = SAFETENSORS_PREFIX_BYTES + (size_t)header_bytes;
    status = safetensors_header_init(&made->header, text_view_make(data, text_bytes),
                                     bytes - text_bytes, error);
    if (status) {
        safetensors_close(made);
        return status;
    }
    place_data(made, (const uint8_t *)data + text_bytes);
    *file = made;
    return LLCUDA_OK;
}

void safetensors_close(struct safetensors *file)
{
    if (file) {
        file_map_close(&file->map);
        safetensors_header_deinit(&file->header);
        free(file->text);
        free(file);
    }
}

uint64_t safetensors_file_bytes(const struct safetensors *file)
{
    return file->file_bytes;
}

bool safetensors_damaged(const struct safetensors *file)
{
    return file_map_damaged(&file->map);
}

uint32_t safetensors_count(const struct safetensors *file)
{
    return file->header.count;
}

const struct safetensors_tensor *safetensors_at(const struct safetensors *file, uint32_t index)
{
    return index < file->header.count ? &file->header.tensors[index] : NULL;
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *file,
                                                  struct text_view name)
{
    uint32_t index = name_index_find(&file->header.names, name);
    return index == ORDER_NONE ? NULL : &file->header.tensors[index];
}
