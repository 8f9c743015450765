/* Owns the files of one GGUF model, mostly a single one. Invariant: all tensors of all files are in
 * `tensors`, and no two have the same name. Knows the keys split.*, and no other. */
#include "format/gguf_parts.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"

#define SUFFIX_FORMAT "-%05u-of-%05u.gguf"
#define SUFFIX_BYTES  20u /* of the above, numbers of five digits */

static bool read_digits(const char *text, uint32_t *number)
{
    *number = 0;
    for (size_t i = 0; i < 5; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        *number = *number * 10 + (uint32_t)(text[i] - '0');
    }
    return true;
}

bool gguf_part_name(const char *path, uint32_t *number, uint32_t *count, size_t *stem)
{
    size_t length = strlen(path);
    if (length < SUFFIX_BYTES) {
        return false;
    }
    const char *suffix = path + length - SUFFIX_BYTES;
    *stem = length - SUFFIX_BYTES;
    if (suffix[0] != '-' || !read_digits(suffix + 1, number) ||
        memcmp(suffix + 6, "-of-", 4) != 0 || !read_digits(suffix + 10, count) ||
        strcmp(suffix + 15, ".gguf") != 0 || *number == 0 || *number > *count) {
        return false;
    }
    --*number;
    return true;
}

/* split.no and split.count of an open file; 0 of 1 when it has none. */
static llcuda_status read_split(const struct gguf *gguf, uint32_t *number, uint32_t *count,
                                struct llcuda_error *error)
{
    uint64_t found_number = 0;
    uint64_t found_count = 1;
    llcuda_status status =
        gguf_read_u64(gguf, "split.count", 0, LIMIT_GGUF_PARTS, &found_count, error);
    if (status == LLCUDA_OK && found_count > 1) {
        status = gguf_read_u64(gguf, "split.no", 0, found_count - 1, &found_number, error);
        if (status == LLCUDA_NOT_FOUND) {
            status = error_set(error, LLCUDA_BAD_FORMAT,
                               "the file is one of %llu parts, but has no split.no",
                               (unsigned long long)found_count);
        }
    } else if (status == LLCUDA_NOT_FOUND) {
        status = LLCUDA_OK;
    }
    *number = (uint32_t)found_number;
    *count = found_count > 1 ? (uint32_t)found_count : 1;
    return status;
}

static llcuda_status open_part(const char *path, bool header_only, size_t stem, uint32_t number,
                               uint32_t count, struct gguf **gguf, struct llcuda_error *error)
{
    char *name = malloc(stem + SUFFIX_BYTES + 1);
    if (!name) {
        return error_no_memory(error, "a file name", stem);
    }
    memcpy(name, path, stem);
    snprintf(name + stem, SUFFIX_BYTES + 1, SUFFIX_FORMAT, number + 1, count);
    llcuda_status status = gguf_open(name, header_only, gguf, error);
    uint32_t its_number = number;
    uint32_t its_count = count;
    if (status == LLCUDA_OK) {
        status = read_split(*gguf, &its_number, &its_count, error);
    }
    if (status == LLCUDA_OK && (its_number != number || its_count != count)) {
        status = error_set(error, LLCUDA_BAD_FORMAT,
                           "'%s' says that it is part %u of %u, its name says part %u of %u", name,
                           its_number + 1, its_count, number + 1, count);
    }
    free(name);
    return status;
}

/* All parts of the model that `first`, just opened under `path`, belongs to. It is taken over. */
static llcuda_status open_others(const char *path, bool header_only, struct gguf *first,
                                 struct gguf_parts *parts, struct llcuda_error *error)
{
    uint32_t number;
    uint32_t count;
    uint32_t named_number = 0;
    uint32_t named_count = 1;
    size_t stem = 0;
    llcuda_status status = read_split(first, &number, &count, error);
    if (status == LLCUDA_OK && count > 1 &&
        (!gguf_part_name(path, &named_number, &named_count, &stem) || named_number != number ||
         named_count != count)) {
        status = error_set(error, LLCUDA_BAD_FORMAT,
                           "the file is part %u of %u of a split model; its name must then end in "
                           "'" SUFFIX_FORMAT "', and the other parts must lie beside it",
                           number + 1, count, number + 1, count);
    }
    if (status == LLCUDA_OK) {
        parts->files = calloc(count, sizeof *parts->files);
        status = parts->files ? LLCUDA_OK : error_no_memory(error, "a model's files", 8ull * count);
    }
    if (status != LLCUDA_OK) {
        gguf_close(first);
        return status;
    }
    parts->count = count;
    parts->files[number] = first;
    for (uint32_t i = 0; i < count && status == LLCUDA_OK; i++) {
        if (i != number) {
            status = open_part(path, header_only, stem, i, count, &parts->files[i], error);
        }
    }
    return status;
}

static struct text_view name_of(const void *items, uint32_t index)
{
    return ((const struct tensor *const *)items)[index]->name;
}

static llcuda_status collect_tensors(struct gguf_parts *parts, struct llcuda_error *error)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < parts->count; i++) {
        total += gguf_tensor_count(parts->files[i]);
        parts->file_bytes += gguf_file_bytes(parts->files[i]);
    }
    if (total > LIMIT_TENSOR_COUNT) {
        return error_set(error, LLCUDA_LIMIT, "the parts have %llu tensors, at most %u are allowed",
                         (unsigned long long)total, LIMIT_TENSOR_COUNT);
    }
    uint64_t wanted = total;
    llcuda_status status = parts->count == 1 ? LLCUDA_OK
                                             : gguf_read_u64(parts->files[0], "split.tensors.count",
                                                             0, LIMIT_TENSOR_COUNT, &wanted, error);
    if (status != LLCUDA_OK && status != LLCUDA_NOT_FOUND) {
        return status;
    }
    if (wanted != total) {
        return error_set(error, LLCUDA_BAD_FORMAT,
                         "split.tensors.count is %llu, but the %u parts have %llu tensors",
                         (unsigned long long)wanted, parts->count, (unsigned long long)total);
    }
    parts->tensors = calloc((size_t)total + 1, sizeof *parts->tensors);
    if (!parts->tensors) {
        return error_no_memory(error, "a model's tensors", total * sizeof *parts->tensors);
    }
    for (uint32_t i = 0; i < parts->count; i++) {
        for (uint64_t k = 0; k < gguf_tensor_count(parts->files[i]); k++) {
            parts->tensors[parts->tensor_count++] = gguf_tensor_at(parts->files[i], k);
        }
    }
    uint32_t duplicate;
    status = name_index_init(&parts->names, parts->tensors, parts->tensor_count, name_of,
                             &duplicate, error);
    if (status == LLCUDA_OK && duplicate != ORDER_NONE) {
        status = error_set(error, LLCUDA_BAD_FORMAT, "the tensor '%.*s' is in two parts",
                           TEXT_ARGUMENTS(name_clip(parts->tensors[duplicate]->name)));
    }
    return status;
}

static llcuda_status finish(struct gguf_parts *parts, llcuda_status status,
                            struct llcuda_error *error)
{
    if (status == LLCUDA_OK) {
        status = collect_tensors(parts, error);
    }
    if (status != LLCUDA_OK) {
        gguf_parts_close(parts);
    }
    return status;
}

llcuda_status gguf_parts_open(const char *path, bool header_only, struct gguf_parts *parts,
                              struct llcuda_error *error)
{
    struct gguf *first;
    *parts = (struct gguf_parts){0};
    llcuda_status status = gguf_open(path, header_only, &first, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    return finish(parts, open_others(path, header_only, first, parts, error), error);
}

llcuda_status gguf_parts_adopt(struct gguf *gguf, struct gguf_parts *parts,
                               struct llcuda_error *error)
{
    uint32_t number;
    uint32_t count;
    *parts = (struct gguf_parts){0};
    llcuda_status status = read_split(gguf, &number, &count, error);
    if (status == LLCUDA_OK && count > 1) {
        status =
            error_set(error, LLCUDA_UNSUPPORTED,
                      "the model in memory is part %u of %u of a split model", number + 1, count);
    }
    if (status == LLCUDA_OK) {
        parts->files = calloc(1, sizeof *parts->files);
        status = parts->files ? LLCUDA_OK : error_no_memory(error, "a model's files", 8);
    }
    if (status != LLCUDA_OK) {
        gguf_close(gguf);
        return status;
    }
    parts->count = 1;
    parts->files[0] = gguf;
    return finish(parts, LLCUDA_OK, error);
}

void gguf_parts_close(struct gguf_parts *parts)
{
    name_index_deinit(&parts->names);
    free(parts->tensors);
    for (uint32_t i = 0; i < parts->count; i++) {
        gguf_close(parts->files[i]);
    }
    free(parts->files);
    *parts = (struct gguf_parts){0};
}

bool gguf_parts_damaged(const struct gguf_parts *parts)
{
    for (uint32_t i = 0; i < parts->count; i++) {
        if (gguf_damaged(parts->files[i])) {
            return true;
        }
    }
    return false;
}

const struct tensor *gguf_parts_find(const struct gguf_parts *parts, struct text_view name)
{
    uint32_t index = name_index_find(&parts->names, name);
    return index == ORDER_NONE ? NULL : parts->tensors[index];
}
