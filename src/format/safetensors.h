/* One SafeTensors file, read. The header is read with pread and checked whole, by the published
 * rules and the order of the reference parser, before the file is mapped. Tensor data is borrowed
 * from the map. */
#ifndef FORMAT_SAFETENSORS_H
#define FORMAT_SAFETENSORS_H

#include "base/error.h"
#include "base/file.h"
#include "tensor/tensor.h"

struct safetensors;

/* A type that the format publishes. */
struct safetensors_type {
    const char *name; /* "BF16" */
    uint32_t bits;    /* of an element */
    bool usable;      /* whether this build computes with it */
    enum dtype dtype; /* of a usable one */
};

struct safetensors_tensor {
    struct tensor tensor; /* its dtype has a meaning only when the type is usable */
    const struct safetensors_type *type;
};

/* Opens, checks and maps. With `header_only` nothing is mapped and tensors have no data. Tensors of
 * published types that this build cannot use are listed all the same; types that nobody published
 * and ranks above TENSOR_RANK_MAX are UNSUPPORTED, as the size or shape cannot be told. */
llcuda_status safetensors_open(const char *path, bool header_only, struct safetensors **file,
                               struct llcuda_error *error);
/* The same for a file in memory, which must outlive the object. */
llcuda_status safetensors_open_memory(const void *data, uint64_t bytes, struct safetensors **file,
                                      struct llcuda_error *error);
void safetensors_close(struct safetensors *file);

uint64_t safetensors_file_bytes(const struct safetensors *file);
/* True when the mapped file shrank and its contents are void. */
bool safetensors_damaged(const struct safetensors *file);

uint32_t safetensors_count(const struct safetensors *file);
/* In the order of the header; NULL past the end. */
const struct safetensors_tensor *safetensors_at(const struct safetensors *file, uint32_t index);
/* NULL when there is none. Names are unique (a duplicate is refused at opening). */
const struct safetensors_tensor *safetensors_find(const struct safetensors *file,
                                                  struct text_view name);

#endif
