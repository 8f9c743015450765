/* GGUF v2 and v3, read. The header is read with pread and checked whole before the file is mapped:
 * every count against the bytes left, every range against the real file, every size with checked
 * arithmetic. Tensor data is borrowed from the map. */
#ifndef FORMAT_GGUF_H
#define FORMAT_GGUF_H

#include "base/error.h"
#include "base/file.h"
#include "tensor/tensor.h"

struct gguf;

enum gguf_kind {
    GGUF_U8 = 0,
    GGUF_I8 = 1,
    GGUF_U16 = 2,
    GGUF_I16 = 3,
    GGUF_U32 = 4,
    GGUF_I32 = 5,
    GGUF_F32 = 6,
    GGUF_BOOL = 7,
    GGUF_STRING = 8,
    GGUF_ARRAY = 9,
    GGUF_U64 = 10,
    GGUF_I64 = 11,
    GGUF_F64 = 12
};

/* One metadata entry. Views point into the header kept by the file object. */
struct gguf_value {
    struct text_view key;
    enum gguf_kind kind;
    enum gguf_kind element_kind; /* of an array; arrays of arrays are refused */
    uint64_t count;              /* array: elements */
    uint64_t offset;             /* byte offset of the value in the file, for messages */
    union {
        uint64_t unsigned_integer;     /* U8 U16 U32 U64 BOOL */
        int64_t signed_integer;        /* I8 I16 I32 I64 */
        double number;                 /* F32 F64 */
        struct text_view text;         /* STRING: valid UTF-8 is not promised */
        const uint8_t *elements;       /* ARRAY of fixed-size kinds: unaligned, little-endian */
        const struct text_view *texts; /* ARRAY of STRING: `count` views */
    };
};

/* "u32"; "unknown" outside the list. */
const char *gguf_kind_name(enum gguf_kind kind);
/* Bytes of a value of that kind in the file; 0 for strings and arrays. */
uint32_t gguf_kind_bytes(enum gguf_kind kind);

/* Opens, checks and maps. With `header_only` nothing is mapped and tensors have no data. */
llcuda_status gguf_open(const char *path, bool header_only, struct gguf **gguf,
                        struct llcuda_error *error);
/* The same for a file in memory, which must outlive the object: the built-in model, tests, fuzzing.
 */
llcuda_status gguf_open_memory(const void *data, uint64_t bytes, struct gguf **gguf,
                               struct llcuda_error *error);
void gguf_close(struct gguf *gguf);

uint32_t gguf_version(const struct gguf *gguf);
uint32_t gguf_alignment(const struct gguf *gguf);
uint64_t gguf_file_bytes(const struct gguf *gguf);
/* True when the mapped file shrank and its contents are void. */
bool gguf_damaged(const struct gguf *gguf);

uint64_t gguf_value_count(const struct gguf *gguf);
const struct gguf_value *gguf_value_at(const struct gguf *gguf, uint64_t index);
/* NULL when there is no such key. Keys are unique (a duplicate is refused at opening). */
const struct gguf_value *gguf_find(const struct gguf *gguf, const char *key);

uint64_t gguf_tensor_count(const struct gguf *gguf);
const struct tensor *gguf_tensor_at(const struct gguf *gguf, uint64_t index);
const struct tensor *gguf_find_tensor(const struct gguf *gguf, struct text_view name);

/* Typed reads. Each returns NOT_FOUND when the key is absent, and BAD_FORMAT with the value's
 * offset and a sentence when its kind, element kind, length or range is not the one demanded. */
llcuda_status gguf_read_u64(const struct gguf *gguf, const char *key, uint64_t minimum,
                            uint64_t maximum, uint64_t *out, struct llcuda_error *error);
llcuda_status gguf_read_number(const struct gguf *gguf, const char *key, double minimum,
                               double maximum, double *out, struct llcuda_error *error);
llcuda_status gguf_read_bool(const struct gguf *gguf, const char *key, bool *out,
                             struct llcuda_error *error);
llcuda_status gguf_read_text(const struct gguf *gguf, const char *key, struct text_view *out,
                             struct llcuda_error *error);
/* An array of `kind`; `count` 0 accepts any length, otherwise the length must be equal. */
llcuda_status gguf_read_array(const struct gguf *gguf, const char *key, enum gguf_kind kind,
                              uint64_t count, const struct gguf_value **out,
                              struct llcuda_error *error);

#endif
