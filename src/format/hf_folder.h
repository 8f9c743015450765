/* A Hugging Face folder: configuration and SafeTensors weights, single or sharded, as one list of
 * tensors. Internal to model_source. */
#ifndef FORMAT_HF_FOLDER_H
#define FORMAT_HF_FOLDER_H

#include "format/hf_config.h"
#include "format/order.h"
#include "format/safetensors.h"

struct hf_folder {
    char *folder;
    struct hf_config config;
    struct hf_config generation; /* document NULL when the file is absent */
    struct safetensors **shards;
    uint32_t shard_count;
    /* Tensors of all shards: first those that this build can use, then the others. */
    const struct safetensors_tensor **tensors;
    uint32_t usable_count;
    uint32_t tensor_count;
    struct name_index names;
    uint64_t file_bytes; /* of all shards */
};

/* Opens config.json, generation_config.json if it is there, and the weights: model.safetensors, or
 * the shards of model.safetensors.index.json; with `weights` not NULL that file of the folder, or
 * all shards when it is one of an index. NOT_FOUND lists what was looked for. */
llcuda_status hf_folder_open(struct hf_folder *model, const char *folder, const char *weights,
                             bool header_only, struct llcuda_error *error);
/* A folder with a tokeniser alone: no configuration, no tensors. */
llcuda_status hf_folder_open_bare(struct hf_folder *model, const char *folder,
                                  struct llcuda_error *error);
/* A zeroed or closed one is fine. */
void hf_folder_close(struct hf_folder *model);

bool hf_folder_damaged(const struct hf_folder *model);

/* Which of the files that make a model are there. Fails only without memory. */
struct hf_folder_files {
    bool config;     /* config.json */
    bool generation; /* generation_config.json */
    bool single;     /* model.safetensors */
    bool index;      /* model.safetensors.index.json */
    bool tokenizer;  /* tokenizer.json or tokenizer.model */
};
llcuda_status hf_folder_look(const char *folder, struct hf_folder_files *files,
                             struct llcuda_error *error);

#endif
