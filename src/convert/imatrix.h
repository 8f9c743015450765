/* Importance matrices: for each weight the mean square of every column's input over some text, in
 * the GGUF form that llama.cpp's tools write and read (tensors NAME.in_sum2 and NAME.counts). */
#ifndef CONVERT_IMATRIX_H
#define CONVERT_IMATRIX_H

#include "base/error.h"
#include "base/view.h"

struct imatrix;

/* Empty. NULL is fine for destroying. */
llcuda_status imatrix_create(struct imatrix **imatrix, struct llcuda_error *error);
void imatrix_destroy(struct imatrix *imatrix);

/* Adds `count` inputs of a weight, each of `columns` floats, `stride` floats apart. False without
 * memory, or when the weight had other columns before. One thread at a time. */
bool imatrix_add(struct imatrix *imatrix, struct text_view name, const float *inputs,
                 uint64_t stride, uint32_t count, uint64_t columns);

/* The mean squares of a weight, [columns], owned by the matrix; NULL when it has none or others. */
const float *imatrix_find(struct imatrix *imatrix, struct text_view name, uint64_t columns);

/* How many weights it knows. */
uint32_t imatrix_count(const struct imatrix *imatrix);

/* Writes all of it, atomically. `dataset` names the text, `chunk_tokens` its windows. Errors: IO,
 * OUT_OF_MEMORY, INVALID_ARGUMENT when nothing was added. */
llcuda_status imatrix_save(struct imatrix *imatrix, const char *path, const char *dataset,
                           uint32_t chunk_count, uint32_t chunk_tokens, struct llcuda_error *error);
/* Errors: IO, BAD_FORMAT with the tensor's name. */
llcuda_status imatrix_load(const char *path, struct imatrix **imatrix, struct llcuda_error *error);

#endif
