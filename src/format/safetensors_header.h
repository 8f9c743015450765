/* The header of a SafeTensors file, as text in memory, and the tables made from it. Internal to
 * safetensors. */
#ifndef FORMAT_SAFETENSORS_HEADER_H
#define FORMAT_SAFETENSORS_HEADER_H

#include "base/arena.h"
#include "format/order.h"
#include "format/safetensors.h"

#define SAFETENSORS_PREFIX_BYTES 8u

struct safetensors_header {
    struct safetensors_tensor *tensors; /* `count`, in the order of the header */
    uint64_t *offsets;                  /* of their data, relative to the end of the header */
    uint32_t count;
    struct name_index names;
    struct arena decoded; /* names that were written with escapes */
};

/* Parses text[0..length): the 8 bytes of the prefix (not looked at, so that offsets are those of
 * the file) and the header. `data_bytes` is what the file has behind it. Names borrow from the
 * text. Deinit also after a failure. */
llcuda_status safetensors_header_init(struct safetensors_header *header, struct text_view text,
                                      uint64_t data_bytes, struct llcuda_error *error);
void safetensors_header_deinit(struct safetensors_header *header);

#endif
