/* Owns sums of squared inputs by weight. Entries are few hundred and found by a walk; sums are
 * double, since they run over thousands of tokens. One thread at a time. */
#include "convert/imatrix.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/gguf_write.h"

#define NAME_BYTES 256u

struct entry {
    char name[NAME_BYTES];
    uint64_t columns;
    double count;
    double *sums; /* [columns] */
    float *means; /* [columns], computed when asked for */
};

struct imatrix {
    struct entry *entries;
    uint32_t count, capacity;
    uint32_t last; /* found last: most questions come several times */
};

llcuda_status imatrix_create(struct imatrix **imatrix, struct llcuda_error *error)
{
    *imatrix = calloc(1, sizeof **imatrix);
    return *imatrix ? LLCUDA_OK : error_no_memory(error, "an importance matrix", sizeof **imatrix);
}

void imatrix_destroy(struct imatrix *imatrix)
{
    for (uint32_t i = 0; imatrix && i < imatrix->count; i++) {
        free(imatrix->entries[i].sums);
        free(imatrix->entries[i].means);
    }
    if (imatrix) {
        free(imatrix->entries);
    }
    free(imatrix);
}

uint32_t imatrix_count(const struct imatrix *imatrix)
{
    return imatrix->count;
}

static struct entry *find(struct imatrix *imatrix, struct text_view name)
{
    for (uint32_t i = 0; i < imatrix->count; i++) {
        uint32_t at = (imatrix->last + i) % imatrix->count;
        if (text_view_is(name, imatrix->entries[at].name)) {
            imatrix->last = at;
            return &imatrix->entries[at];
        }
    }
    return NULL;
}

static struct entry *add(struct imatrix *imatrix, struct text_view name, uint64_t columns)
{
    if (name.length >= NAME_BYTES || columns == 0) {
        return NULL;
    }
    if (imatrix->count == imatrix->capacity) {
        uint32_t capacity = imatrix->capacity ? 2 * imatrix->capacity : 64;
        struct entry *grown = realloc(imatrix->entries, capacity * sizeof *grown);
        if (!grown) {
            return NULL;
        }
        imatrix->entries = grown;
        imatrix->capacity = capacity;
    }
    struct entry *entry = &imatrix->entries[imatrix->count];
    *entry = (struct entry){.columns = columns, .sums = calloc(columns, sizeof *entry->sums)};
    if (!entry->sums) {
        return NULL;
    }
    memcpy(entry->name, name.data, name.length);
    imatrix->count++;
    return entry;
}

bool imatrix_add(struct imatrix *imatrix, struct text_view name, const float *inputs,
                 uint64_t stride, uint32_t count, uint64_t columns)
{
    struct entry *entry = find(imatrix, name);
    entry = entry ? entry : add(imatrix, name, columns);
    if (!entry || entry->columns != columns) {
        return false;
    }
    for (uint32_t row = 0; row < count; row++) {
        const float *input = inputs + row * stride;
        for (uint64_t i = 0; i < columns; i++) {
            entry->sums[i] += (double)input[i] * (double)input[i];
        }
    }
    entry->count += count;
    return true;
}

const float *imatrix_find(struct imatrix *imatrix, struct text_view name, uint64_t columns)
{
    struct entry *entry = find(imatrix, name);
    if (!entry || entry->columns != columns || !(entry->count > 0)) {
        return NULL;
    }
    if (!entry->means) {
        entry->means = malloc(columns * sizeof *entry->means);
        for (uint64_t i = 0; entry->means && i < columns; i++) {
            entry->means[i] = (float)(entry->sums[i] / entry->count);
        }
    }
    return entry->means;
}

static llcuda_status write_tables(const struct imatrix *imatrix, struct gguf_writer *writer,
                                  struct llcuda_error *error)
{
    static const uint64_t one = 1;
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; !status && i < imatrix->count; i++) {
        const struct entry *entry = &imatrix->entries[i];
        char name[NAME_BYTES + 16];
        snprintf(name, sizeof name, "%s.in_sum2", entry->name);
        status = gguf_writer_add_tensor(writer, text_view_of(name), DTYPE_F32, 1, &entry->columns,
                                        error);
        snprintf(name, sizeof name, "%s.counts", entry->name);
        if (!status) {
            status = gguf_writer_add_tensor(writer, text_view_of(name), DTYPE_F32, 1, &one, error);
        }
    }
    return status ? status : gguf_writer_begin_data(writer, error);
}

static llcuda_status write_sums(const struct imatrix *imatrix, struct gguf_writer *writer,
                                struct llcuda_error *error)
{
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; !status && i < imatrix->count; i++) {
        const struct entry *entry = &imatrix->entries[i];
        for (uint64_t k = 0; !status && k < entry->columns; k++) {
            float sum = (float)entry->sums[k];
            status = gguf_writer_data(writer, &sum, sizeof sum, error);
        }
        float count = (float)entry->count;
        if (!status) {
            status = gguf_writer_data(writer, &count, sizeof count, error);
        }
    }
    return status;
}

llcuda_status imatrix_save(struct imatrix *imatrix, const char *path, const char *dataset,
                           uint32_t chunk_count, uint32_t chunk_tokens, struct llcuda_error *error)
{
    struct gguf_writer *writer = NULL;
    struct text_view name = text_view_of(dataset);
    if (imatrix->count == 0) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "the importance matrix is empty");
    }
    llcuda_status status = gguf_writer_create(path, &writer, error);
    if (status) {
        return status;
    }
    gguf_writer_add_text(writer, "general.type", text_view_of("imatrix"));
    gguf_writer_add_texts(writer, "imatrix.datasets", &name, 1);
    gguf_writer_add_u32(writer, "imatrix.chunk_count", chunk_count);
    gguf_writer_add_u32(writer, "imatrix.chunk_size", chunk_tokens);
    status = write_tables(imatrix, writer, error);
    if (!status) {
        status = write_sums(imatrix, writer, error);
    }
    if (status) {
        gguf_writer_abort(writer);
        return status;
    }
    return gguf_writer_finish(writer, error);
}

static float load_float(const struct tensor *tensor, uint64_t index)
{
    float value;
    memcpy(&value, (const unsigned char *)tensor->data + index * sizeof value, sizeof value);
    return value;
}

/* One NAME.in_sum2 with its NAME.counts. */
static llcuda_status load_entry(const struct gguf *gguf, const struct tensor *sums,
                                struct imatrix *imatrix, struct llcuda_error *error)
{
    struct text_view name = text_view_make(sums->name.data, sums->name.length - strlen(".in_sum2"));
    char counts_name[NAME_BYTES + 16];
    snprintf(counts_name, sizeof counts_name, "%.*s.counts", TEXT_ARGUMENTS(name));
    const struct tensor *counts = gguf_find_tensor(gguf, text_view_of(counts_name));
    if (name.length >= NAME_BYTES || !counts || counts->dtype != DTYPE_F32 ||
        sums->dtype != DTYPE_F32 || tensor_elements(counts) != 1 || tensor_elements(sums) == 0) {
        return error_set(
            error, LLCUDA_BAD_FORMAT,
            "'%.*s' is no importance of a dense weight: wanted are sums in f32 and one "
            "count",
            TEXT_ARGUMENTS(sums->name));
    }
    struct entry *entry = add(imatrix, name, tensor_elements(sums));
    if (!entry) {
        return error_no_memory(error, "an importance matrix", sums->bytes * 2);
    }
    entry->count = (double)load_float(counts, 0);
    bool usable = isfinite(entry->count) && entry->count >= 0;
    for (uint64_t i = 0; i < entry->columns; i++) {
        entry->sums[i] = (double)load_float(sums, i);
        usable = usable && isfinite(entry->sums[i]) && entry->sums[i] >= 0;
    }
    return usable ? LLCUDA_OK
                  : error_set(error, LLCUDA_BAD_FORMAT, "'%.*s' holds values that are no squares",
                              TEXT_ARGUMENTS(sums->name));
}

llcuda_status imatrix_load(const char *path, struct imatrix **out, struct llcuda_error *error)
{
    struct gguf *gguf = NULL;
    struct imatrix *imatrix = NULL;
    llcuda_status status = gguf_open(path, false, &gguf, error);
    if (!status) {
        status = imatrix_create(&imatrix, error);
    }
    for (uint64_t i = 0; !status && i < gguf_tensor_count(gguf); i++) {
        const struct tensor *tensor = gguf_tensor_at(gguf, i);
        size_t length = strlen(".in_sum2");
        if (tensor->name.length > length &&
            memcmp(tensor->name.data + tensor->name.length - length, ".in_sum2", length) == 0) {
            status = load_entry(gguf, tensor, imatrix, error);
        }
    }
    if (!status && imatrix->count == 0) {
        status = error_set(error, LLCUDA_BAD_FORMAT,
                           "'%s' is no importance matrix: it has no tensors NAME.in_sum2", path);
    }
    gguf_close(gguf);
    if (status) {
        imatrix_destroy(imatrix);
        return status;
    }
    *out = imatrix;
    return LLCUDA_OK;
}
