/* JSON, read and written. Reading gives a flat table of values in document order over the caller's
 * bytes: strings without escapes are borrowed, the others are decoded into an arena. It follows
 * RFC 8259 to the letter: UTF-8 only, no comments, no trailing commas, no NaN.
 *
 * Why our own: vocabularies hold some 400,000 values, the core builds without libraries, and every
 * value keeps its byte offset for error messages (docs/decisions has the record). */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "base/buffer.h"
#include "base/error.h"
#include "base/view.h"

enum json_kind {
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_INTEGER, /* fits int64_t and was written without '.', 'e' or 'E' */
    JSON_NUMBER,  /* any other number, as a double */
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT, /* children alternate: key (a string), value */
};

struct json_value {
    uint8_t kind;    /* enum json_kind */
    uint32_t span;   /* values in this subtree, itself included: value + span is the next sibling */
    uint32_t count;  /* array: elements; object: members; string: bytes */
    uint32_t offset; /* byte offset in the source */
    union {
        int64_t integer;
        double number;
        const char *string; /* not NUL-terminated; `count` bytes of valid UTF-8 */
    };
};

struct json_document;

/* Zero fields mean the limits of base/limits.h. */
struct json_options {
    uint32_t depth_max;
    uint32_t value_count_max;
    bool unique_keys; /* an object with the same key twice is BAD_FORMAT */
    size_t begin;     /* parse from here on; offsets still count from the start of `text` */
};

/* Parses `text`, which must outlive the document. `options` may be NULL. On success *document is
 * owned by the caller (json_destroy). Errors: BAD_FORMAT with the byte offset, LIMIT,
 * OUT_OF_MEMORY. Memory stays within a small multiple of the text's length. */
llcuda_status json_parse(struct text_view text, const struct json_options *options,
                         struct json_document **document, struct llcuda_error *error);
void json_destroy(struct json_document *document);
const struct json_value *json_root(const struct json_document *document);

/* The element or key/value after `value` in its container; the caller counts. */
static inline const struct json_value *json_next(const struct json_value *value)
{
    return value + value->span;
}

/* The first child (element or key) of a container with count > 0. */
static inline const struct json_value *json_first(const struct json_value *container)
{
    return container + 1;
}

/* for (each element of an array, 0 times when it is NULL or no array) */
#define JSON_EACH(element, array)                                                            \
    for (const struct json_value *                                                           \
             element = (array) ? (array) + 1 : NULL,                                         \
            *element##_end = json_is(array, JSON_ARRAY) ? (array) + (array)->span : element; \
         element < element##_end; element = json_next(element))

/* for (each key of an object, 0 times when it is NULL or no object); the value is json_next(key) */
#define JSON_EACH_KEY(key, object)                                                       \
    for (const struct json_value *                                                       \
             key = (object) ? (object) + 1 : NULL,                                       \
            *key##_end = json_is(object, JSON_OBJECT) ? (object) + (object)->span : key; \
         key < key##_end; key = json_next(json_next(key)))

static inline bool json_is(const struct json_value *value, enum json_kind kind)
{
    return value && value->kind == (uint8_t)kind;
}

/* The value of a member; NULL when `object` is NULL, is no object, or has no such key. With equal
 * keys the last one counts. Linear in the number of members. */
const struct json_value *json_member(const struct json_value *object, const char *key);

/* The text of a string; an empty view with NULL data for NULL or any other kind. */
struct text_view json_text(const struct json_value *value);

/* True and *out set when `value` is an integer (or a number with an integral value) in
 * [minimum, maximum]. */
bool json_integer(const struct json_value *value, int64_t minimum, int64_t maximum, int64_t *out);
/* True and *out set when `value` is any number. */
bool json_number(const struct json_value *value, double *out);
/* `fallback` when `value` is NULL or no boolean. */
bool json_bool(const struct json_value *value, bool fallback);

/* "string", "object" … for error messages. */
const char *json_kind_name(const struct json_value *value);

/* Writing. Values follow one another; the writer places commas and colons. Nesting must be closed
 * by the caller; depth is at most 64. Memory trouble is remembered in the buffer. */
struct json_writer {
    struct buffer *out;
    uint32_t depth;
    uint64_t has_item; /* bit d: something was written at depth d */
    bool after_key;
    int indent; /* spaces a level; 0: all on one line */
};

void json_writer_init(struct json_writer *writer, struct buffer *out, int indent);
void json_begin_object(struct json_writer *writer);
void json_end_object(struct json_writer *writer);
void json_begin_array(struct json_writer *writer);
void json_end_array(struct json_writer *writer);
void json_key(struct json_writer *writer, const char *key);
void json_key_view(struct json_writer *writer, struct text_view key);
void json_write_text(struct json_writer *writer, struct text_view text);
void json_write_string(struct json_writer *writer, const char *text);
void json_write_integer(struct json_writer *writer, int64_t value);
void json_write_unsigned(struct json_writer *writer, uint64_t value);
void json_write_unsigned_array(struct json_writer *writer, const uint32_t *values, size_t count);
/* The shortest decimal form that reads back as the same double; null when not finite. */
void json_write_number(struct json_writer *writer, double value);
void json_write_bool(struct json_writer *writer, bool value);
void json_write_null(struct json_writer *writer);
/* A parsed value with all its children. */
void json_write_value(struct json_writer *writer, const struct json_value *value);

/* Appends `text` as a quoted JSON string; bytes that are no UTF-8 become U+FFFD. Control
 * characters, quotes and backslashes are escaped, everything else stays as it is. */
void json_quote(struct buffer *out, struct text_view text);

/* Appends the shortest decimal form of a finite double, with a ".0" where it would look like an
 * integer and `keep_point` asks for it. */
void json_format_number(struct buffer *out, double value, bool keep_point);

#endif
