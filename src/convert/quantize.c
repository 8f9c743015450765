/* Owns quantising a model: a few megabytes of a tensor at a time become floats and then blocks, by
 * all threads, and go to the file in order. Invariants: rows are independent, so that threads
 * change nothing; the output appears under its name only when it is whole (gguf_write.h). */
#include "convert/quantize.h"

#include <math.h>
#include <stdlib.h>

#include "convert/items.h"
#include "cpu/pool.h"
#include "cpu/topology.h"
#include "tensor/quant.h"

/* Output bytes that are written together. */
#define PIECE_BYTES (8u << 20)

struct job {
    const struct quantize_options *options;
    const struct convert_items *items;
    enum dtype *dtypes; /* [items] */
    struct quantize_result *result;
    struct gguf_writer *writer;
    struct pool *pool;
    struct llcuda_error *error;
    uint64_t done, total; /* bytes of the source */
};

/* Rows [begin, begin + count) of one tensor. */
struct piece {
    const struct convert_item *item;
    enum dtype to;
    const float *importance;
    uint64_t begin, rows, columns;
    uint64_t source_row_bytes, row_bytes;
    float *floats; /* [thread][columns] */
    unsigned char *out;
    _Atomic bool not_finite;
};

/* Where row `row` of the output lies in the source. */
static uint64_t source_row(const struct convert_item *item, uint64_t row)
{
    if (item->heads == 0) {
        return row;
    }
    uint64_t rows = item->tensor->rank == 2 ? item->tensor->shape[0] : 1;
    uint64_t size = rows / item->heads;
    uint64_t within = row % size;
    return row - within + within / 2 + (within % 2) * (size / 2);
}

static void quantize_one_row(void *context, uint32_t worker, uint64_t index)
{
    struct piece *piece = context;
    const struct tensor *tensor = piece->item->tensor;
    uint64_t from = source_row(piece->item, piece->begin + index);
    const unsigned char *data = tensor->data;
    if (piece->item->parts) {
        data = piece->item->parts[from / tensor->shape[1]]->data;
        from %= tensor->shape[1];
    }
    const unsigned char *source = data + from * piece->source_row_bytes;
    unsigned char *out = piece->out + index * piece->row_bytes;
    if (tensor->dtype == piece->to && piece->item->added == 0) {
        memcpy(out, source, piece->row_bytes);
        return;
    }
    float *row = piece->floats + worker * piece->columns;
    dequantize_row(tensor->dtype, source, row, piece->columns);
    for (uint64_t i = 0; i < piece->columns; i++) {
        row[i] += piece->item->added;
        if (!isfinite(row[i])) {
            piece->not_finite = true;
        }
    }
    quantize_row(piece->to, row, piece->importance, out, piece->columns);
}

static llcuda_status report(struct job *job, uint64_t bytes)
{
    job->done += bytes;
    if (job->options->report && !job->options->report(job->options->user, job->done, job->total)) {
        return error_set(job->error, LLCUDA_CANCELLED, "interrupted; nothing was written");
    }
    return LLCUDA_OK;
}

static llcuda_status run_pieces(struct job *job, struct piece *piece, uint64_t rows)
{
    uint64_t at_once = PIECE_BYTES / piece->row_bytes + 1;
    at_once = at_once < rows ? at_once : rows;
    piece->floats = calloc(pool_thread_count(job->pool), piece->columns * sizeof *piece->floats);
    piece->out = malloc(at_once * piece->row_bytes);
    llcuda_status status = LLCUDA_OK;
    if (!piece->floats || !piece->out) {
        status = error_no_memory(job->error, "a piece of a tensor", at_once * piece->row_bytes);
    }
    for (piece->begin = 0; !status && piece->begin < rows; piece->begin += at_once) {
        piece->rows = rows - piece->begin < at_once ? rows - piece->begin : at_once;
        pool_run(job->pool, piece->rows, quantize_one_row, piece);
        if (piece->not_finite) {
            status = error_set(job->error, LLCUDA_NOT_FINITE,
                               "tensor '%s' holds values that are not finite", piece->item->name);
        }
        if (!status) {
            status = gguf_writer_data(job->writer, piece->out, piece->rows * piece->row_bytes,
                                      job->error);
        }
        if (!status) {
            status = report(job, piece->rows * piece->source_row_bytes);
        }
    }
    free(piece->out);
    free(piece->floats);
    return status;
}

static uint64_t columns_of(const struct tensor *tensor)
{
    return tensor->rank ? tensor->shape[tensor->rank - 1] : 1;
}

static llcuda_status write_item(struct job *job, uint64_t index)
{
    const struct convert_item *item = &job->items->items[index];
    struct piece piece = {
        .item = item, .to = job->dtypes[index], .columns = columns_of(item->tensor)};
    uint64_t rows = tensor_elements(item->tensor) / piece.columns;
    if (!dtype_row_bytes(item->tensor->dtype, piece.columns, &piece.source_row_bytes) ||
        !dtype_row_bytes(piece.to, piece.columns, &piece.row_bytes)) {
        return error_set(job->error, LLCUDA_INVALID_ARGUMENT, "tensor '%s' has no whole blocks",
                         item->name);
    }
    if (job->options->imatrix && item->tensor->rank == 2) {
        piece.importance =
            imatrix_find(job->options->imatrix, text_view_of(item->name), piece.columns);
        job->result->with_importance += piece.importance != NULL;
    }
    job->result->tensor_count++;
    job->result->converted += item->tensor->dtype != piece.to;
    job->result->source_bytes += rows * piece.source_row_bytes;
    job->result->bytes += rows * piece.row_bytes;
    return run_pieces(job, &piece, rows);
}

/* Chooses types and writes the table. */
static llcuda_status write_header(struct job *job, const struct model_source *source)
{
    const struct quantize_options *options = job->options;
    llcuda_status status = convert_metadata(source, job->writer, job->error);
    gguf_writer_add_u32(job->writer, "general.quantization_version", 2);
    gguf_writer_add_u32(job->writer, "general.file_type", options->recipe->file_type);
    if (options->imatrix_path) {
        gguf_writer_add_text(job->writer, "quantize.imatrix.file",
                             text_view_of(options->imatrix_path));
        gguf_writer_add_u32(job->writer, "quantize.imatrix.entries_count",
                            imatrix_count(options->imatrix));
    }
    for (uint64_t i = 0; !status && i < job->items->count; i++) {
        const struct convert_item *item = &job->items->items[i];
        status = recipe_dtype(options->recipe, &job->items->model, text_view_of(item->name),
                              item->tensor, &job->dtypes[i], job->error);
        if (!status) {
            /* A matrix of one row is a vector. */
            bool is_row = item->tensor->rank == 2 && item->tensor->shape[0] == 1;
            status = gguf_writer_add_tensor(job->writer, text_view_of(item->name), job->dtypes[i],
                                            item->tensor->rank - is_row,
                                            item->tensor->shape + is_row, job->error);
        }
        job->total += item->tensor->bytes;
    }
    return status ? status : gguf_writer_begin_data(job->writer, job->error);
}

static llcuda_status run_job(struct job *job, const struct model_source *source)
{
    llcuda_status status = write_header(job, source);
    for (uint64_t i = 0; !status && i < job->items->count; i++) {
        status = write_item(job, i);
    }
    if (!status && model_source_damaged(source)) {
        status = error_set(job->error, LLCUDA_IO, "the model file shrank while it was in use");
    }
    if (!status && job->options->imatrix && job->result->with_importance == 0) {
        status = error_set(job->error, LLCUDA_INVALID_ARGUMENT,
                           "the importance matrix knows no tensor of this model");
    }
    return status;
}

static llcuda_status make_pool(uint32_t threads, struct pool **pool, struct llcuda_error *error)
{
    struct topology topology;
    topology_read(&topology);
    return pool_create(threads ? threads : topology_thread_count(&topology), topology.cpus,
                       topology.cpu_count, pool, error);
}

llcuda_status quantize_model(const struct model_source *source, const char *path,
                             const struct quantize_options *options, struct quantize_result *result,
                             struct llcuda_error *error)
{
    struct convert_items items = {0};
    struct job job = {.options = options, .items = &items, .result = result, .error = error};
    *result = (struct quantize_result){0};
    llcuda_status status = convert_items_make(source, &items, error);
    items.model.has_importance = options->imatrix != NULL;
    if (!status) {
        job.dtypes = calloc(items.count, sizeof *job.dtypes);
        status = job.dtypes ? make_pool(options->thread_count, &job.pool, error)
                            : error_no_memory(error, "a table of types", items.count);
    }
    if (!status) {
        status = gguf_writer_create(path, &job.writer, error);
    }
    if (!status) {
        status = run_job(&job, source);
        if (status) {
            gguf_writer_abort(job.writer);
        } else {
            status = gguf_writer_finish(job.writer, error);
        }
    }
    pool_destroy(job.pool);
    free(job.dtypes);
    convert_items_deinit(&items);
    return status;
}
