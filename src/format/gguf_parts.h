/* A GGUF model that was split over files "NAME-00001-of-00003.gguf" …: the first has all metadata,
 * every one has tensors, and split.no, split.count and split.tensors.count tell how they belong
 * together. Immutable after opening: any thread. */
#ifndef FORMAT_GGUF_PARTS_H
#define FORMAT_GGUF_PARTS_H

#include "format/gguf.h"
#include "format/order.h"

struct gguf_parts {
    struct gguf **files; /* [count] by number */
    uint32_t count;      /* 1: a model that is not split */
    const struct tensor **tensors;
    uint32_t tensor_count;
    struct name_index names; /* over `tensors` */
    uint64_t file_bytes;     /* of all files */
};

/* Opens the file and, when it is one of several, all of them: any may be given. Errors: those of
 * gguf_open, NOT_FOUND with the name of a part that is missing, BAD_FORMAT when parts contradict
 * each other or their names. On failure `parts` is empty. */
llcuda_status gguf_parts_open(const char *path, bool header_only, struct gguf_parts *parts,
                              struct llcuda_error *error);
/* Takes over an open file that is not split. UNSUPPORTED when it is: in memory there is no name to
 * look for the others by. */
llcuda_status gguf_parts_adopt(struct gguf *gguf, struct gguf_parts *parts,
                               struct llcuda_error *error);
/* An empty (zeroed) one is fine. */
void gguf_parts_close(struct gguf_parts *parts);

/* True when some mapped file shrank and its contents are void. */
bool gguf_parts_damaged(const struct gguf_parts *parts);

/* NULL when there is no such tensor. */
const struct tensor *gguf_parts_find(const struct gguf_parts *parts, struct text_view name);

/* "NAME-00001-of-00003.gguf" is number 0 of 3; false for another name. The length of "NAME". */
bool gguf_part_name(const char *path, uint32_t *number, uint32_t *count, size_t *stem);

#endif
