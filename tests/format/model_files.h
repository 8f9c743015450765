/* Small model files that the tests of this room share, and bytes put together by hand. */
#ifndef TEST_MODEL_FILES_H
#define TEST_MODEL_FILES_H

#include "support/test_support.h"

#include "base/buffer.h"
#include "format/gguf.h"

void put_u8(struct buffer *out, uint8_t value);
void put_u32(struct buffer *out, uint32_t value);
void put_u64(struct buffer *out, uint64_t value);
/* A GGUF string: length and bytes. */
void put_text(struct buffer *out, const char *text);
/* Magic, version 3 and the counts. */
void put_gguf_prelude(struct buffer *out, uint64_t tensors, uint64_t values);
/* A row of the tensor table; `shape` is in the order of the file, innermost first. */
void put_gguf_tensor(struct buffer *out, const char *name, uint32_t rank, const uint64_t *shape,
                     uint32_t type, uint64_t offset);
/* Zeros up to a multiple of `alignment` and `bytes` more. */
void put_gguf_data(struct buffer *out, uint32_t alignment, uint64_t bytes);

/* A valid GGUF file of about 2 KB: every kind of value, arrays of every kind, tensors of four types
 * and every rank. The caller frees the buffer. */
void sample_gguf(struct buffer *out);

/* A copy in an allocation of exactly that size, so that the sanitizer sees a read past the end.
 * The caller frees. */
uint8_t *exact_copy(const void *data, size_t bytes);

/* Reads every byte that the object promises to be readable; returns a sum, so that it is not
 * optimised away. */
uint64_t touch_gguf(const struct gguf *gguf);

/* A SafeTensors file: length, header text, `data_bytes` zeros. */
void put_safetensors(struct buffer *out, const char *header, uint64_t data_bytes);

#endif
