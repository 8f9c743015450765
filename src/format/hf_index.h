/* model.safetensors.index.json: which shard holds which tensor. Internal to hf_folder. */
#ifndef FORMAT_HF_INDEX_H
#define FORMAT_HF_INDEX_H

#include "base/arena.h"
#include "base/error.h"
#include "base/view.h"

struct hf_index {
    struct text_view text;   /* of the file, borrowed */
    size_t map_begin;        /* where the weight_map object is */
    struct text_view *files; /* unique shard names, sorted; plain file names, NUL-terminated */
    uint32_t file_count;     /* 1 to LIMIT_SAFETENSORS_FILES */
    struct arena names;      /* holds the files' names */
};

/* Parses the text, which must outlive the index. Deinit also after a failure. */
llcuda_status hf_index_init(struct hf_index *index, struct text_view text,
                            struct llcuda_error *error);
void hf_index_deinit(struct hf_index *index);

/* The number of a shard name, or index->file_count. */
uint32_t hf_index_find_file(const struct hf_index *index, struct text_view name);

/* Calls `visit` for each tensor of the map with the number of its file, until one does not return
 * OK. `name` is valid during the call. `offset` is the member's place in the text. */
llcuda_status hf_index_each(const struct hf_index *index,
                            llcuda_status (*visit)(void *context, struct text_view name,
                                                   uint32_t file, uint64_t offset,
                                                   struct llcuda_error *error),
                            void *context, struct llcuda_error *error);

#endif
