/* The tensors and metadata of a model as a GGUF file has them, whatever its container. */
#ifndef CONVERT_ITEMS_H
#define CONVERT_ITEMS_H

#include "convert/recipe.h"
#include "format/gguf_write.h"
#include "format/model_source.h"

#define CONVERT_NAME_BYTES 128u

struct convert_item {
    char name[CONVERT_NAME_BYTES]; /* in GGUF */
    const struct tensor *tensor;
    /* The rows come from so many tensors, one after another, each with as many; NULL: from `tensor`
     * itself, which otherwise has no data. */
    const struct tensor **parts;
    /* Rows of each of so many heads are reordered: row d of a head's first half becomes row 2d, of
     * its second half row 2d + 1 (rotary pairs side by side). 0: as they are. */
    uint32_t heads;
    float added; /* to every value: a norm that the folder keeps as its distance from 1 */
};

/* The matrices of a layer's experts, which are one tensor in GGUF. */
struct convert_merge {
    struct tensor tensor;        /* [experts, rows, columns], without data */
    const struct tensor **parts; /* [experts] */
    uint64_t part_count;         /* found so far */
};

struct convert_items {
    struct convert_item *items;
    uint64_t count;
    struct recipe_model model;
    struct tensor divisor_tensor; /* of rotary frequencies, when there are such */
    float *divisors;
    struct convert_merge *merges; /* [layer][gate, up, down], of a folder with experts */
    uint64_t merge_count;
};

/* What a source holds, in its own order. Errors: UNSUPPORTED for an architecture or a tensor that
 * has no published place in GGUF. */
llcuda_status convert_items_make(const struct model_source *source, struct convert_items *items,
                                 struct llcuda_error *error);
void convert_items_deinit(struct convert_items *items);

/* All metadata but the file type, which the caller adds. */
llcuda_status convert_metadata(const struct model_source *source, struct gguf_writer *writer,
                               struct llcuda_error *error);

/* --- folders: hf_items.c and hf_metadata.c ------------------------------------------------- */

struct hf_architecture {
    const char *hf, *gguf; /* names */
    bool pairs;            /* GGUF keeps rotary pairs side by side */
};

/* NULL for one that cannot be converted. */
const struct hf_architecture *hf_architecture_of(const struct model_source *source);
/* The sentence for that. */
llcuda_status hf_architecture_refuse(const struct model_source *source, struct llcuda_error *error);

double hf_rotary_base(const struct model_source *source);
/* Frequencies are scaled one by one (rope type llama3). */
bool hf_has_divisors(const struct model_source *source);

llcuda_status convert_items_hf(const struct model_source *source, struct convert_items *items,
                               struct llcuda_error *error);
llcuda_status convert_metadata_hf(const struct model_source *source, struct gguf_writer *writer,
                                  struct llcuda_error *error);

#endif
