/* GGUF version 3, written: metadata first, then the tensor table, then the data of the tensors in
 * the order of the table. A file appears under its name only when it is whole. Trouble with memory
 * is remembered and reported by gguf_writer_begin_data. One owner, one thread at a time.
 *
 *     gguf_writer_create → gguf_writer_add_… → gguf_writer_begin_data → gguf_writer_data …
 *     → gguf_writer_finish */
#ifndef FORMAT_GGUF_WRITE_H
#define FORMAT_GGUF_WRITE_H

#include "base/buffer.h"
#include "format/gguf.h"

struct gguf_writer;

/* Writes to `path`. */
llcuda_status gguf_writer_create(const char *path, struct gguf_writer **writer,
                                 struct llcuda_error *error);
/* Appends to `out`, which must outlive the writer and be empty. */
llcuda_status gguf_writer_create_memory(struct buffer *out, struct gguf_writer **writer,
                                        struct llcuda_error *error);

/* Sets the alignment of tensor data, a power of two; without it, 32. Call it before the first
 * tensor. Adds the key general.alignment. */
void gguf_writer_set_alignment(struct gguf_writer *writer, uint32_t alignment);

/* Metadata. Keys must be unique: the reader refuses a file with the same key twice. */
void gguf_writer_add_u32(struct gguf_writer *writer, const char *key, uint32_t value);
void gguf_writer_add_f32(struct gguf_writer *writer, const char *key, float value);
void gguf_writer_add_bool(struct gguf_writer *writer, const char *key, bool value);
void gguf_writer_add_text(struct gguf_writer *writer, const char *key, struct text_view value);
/* A scalar of any fixed-size kind from the bytes of a value of that kind. */
void gguf_writer_add_scalar(struct gguf_writer *writer, const char *key, enum gguf_kind kind,
                            const void *value);
/* `count` elements of a fixed-size kind, packed. */
void gguf_writer_add_array(struct gguf_writer *writer, const char *key, enum gguf_kind kind,
                           const void *elements, uint64_t count);
void gguf_writer_add_texts(struct gguf_writer *writer, const char *key,
                           const struct text_view *texts, uint64_t count);
/* A value that was read from another file, under its own key. */
void gguf_writer_add_value(struct gguf_writer *writer, const struct gguf_value *value);

/* A row of the tensor table; `shape` is outermost first. INVALID_ARGUMENT for a rank, a dimension
 * or a row length that the type cannot have. */
llcuda_status gguf_writer_add_tensor(struct gguf_writer *writer, struct text_view name,
                                     enum dtype dtype, uint32_t rank, const uint64_t *shape,
                                     struct llcuda_error *error);

/* Writes the header. Nothing can be added afterwards. */
llcuda_status gguf_writer_begin_data(struct gguf_writer *writer, struct llcuda_error *error);

/* The next bytes of tensor data: whole tensors or pieces of one, in the order of the table; the
 * padding between tensors is written here. INVALID_ARGUMENT when a piece would go past the end of
 * its tensor or there is none left. */
llcuda_status gguf_writer_data(struct gguf_writer *writer, const void *data, uint64_t bytes,
                               struct llcuda_error *error);

/* Ends the file, makes it appear and destroys the writer, also after a failure.
 * INVALID_ARGUMENT when data is missing. */
llcuda_status gguf_writer_finish(struct gguf_writer *writer, struct llcuda_error *error);

/* Destroys the writer and leaves no file. NULL is fine. */
void gguf_writer_abort(struct gguf_writer *writer);

#endif
