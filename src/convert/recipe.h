/* Which type each tensor of a model gets. A recipe is a name such as "q4_k_m": a type for most
 * matrices and rules for the few that suffer more. The mixes are the usual ones of GGUF files, as
 * llama.cpp makes them for dense models. Stateless: any thread. */
#ifndef CONVERT_RECIPE_H
#define CONVERT_RECIPE_H

#include "base/buffer.h"
#include "base/error.h"
#include "tensor/tensor.h"

struct recipe {
    const char *name;   /* "q4_k_m" */
    uint32_t file_type; /* general.file_type */
    enum dtype dtype;   /* of most matrices */
};

/* What the rules look at besides a tensor's name. */
struct recipe_model {
    uint32_t layer_count;
    uint32_t group_size; /* query heads that share a key-value head */
    bool tied;           /* the embedding is the output matrix too */
    bool has_importance;
};

/* By name in either case; NULL when there is none. */
const struct recipe *recipe_find(const char *name);

/* Appends "f32, f16, …". */
void recipe_names(struct buffer *out);

/* The type for a tensor under its GGUF name. Vectors become f32 (or stay what they are when that is
 * plain). Where rows are no whole super-blocks a type with blocks of 32 stands in.
 * INVALID_ARGUMENT, with the tensor's name, for rows that no block of 32 divides. */
llcuda_status recipe_dtype(const struct recipe *recipe, const struct recipe_model *model,
                           struct text_view name, const struct tensor *tensor, enum dtype *dtype,
                           struct llcuda_error *error);

#endif
