/* From one model on disk to a GGUF file with other types of weights. */
#ifndef CONVERT_QUANTIZE_H
#define CONVERT_QUANTIZE_H

#include "convert/imatrix.h"
#include "convert/recipe.h"
#include "format/model_source.h"

struct quantize_options {
    const struct recipe *recipe;
    struct imatrix *imatrix;  /* NULL: all columns count alike */
    const char *imatrix_path; /* for the file's metadata */
    uint32_t thread_count;    /* 0: one a physical core */
    /* Called from time to time with bytes of the source; false cancels. May be NULL. */
    bool (*report)(void *user, uint64_t done, uint64_t total);
    void *user;
};

struct quantize_result {
    uint64_t tensor_count;
    uint64_t source_bytes, bytes; /* of tensor data */
    uint64_t with_importance;     /* tensors that the matrix knew */
    uint64_t converted;           /* tensors whose type changed */
};

/* Writes `path` whole or not at all. The same input gives the same bytes whatever the threads.
 * Errors: INVALID_ARGUMENT (rows that no block divides, an importance matrix of another model),
 * NOT_FINITE (a weight that is NaN or infinite, with its tensor's name), UNSUPPORTED, IO,
 * OUT_OF_MEMORY, CANCELLED. */
llcuda_status quantize_model(const struct model_source *source, const char *path,
                             const struct quantize_options *options, struct quantize_result *result,
                             struct llcuda_error *error);

#endif
