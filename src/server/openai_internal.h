/* What the files that read OpenAI bodies share. Private to the room. */
#ifndef SERVER_OPENAI_INTERNAL_H
#define SERVER_OPENAI_INTERNAL_H

#include "server/openai_request.h"

/* The reading of one body. */
struct reading {
    struct openai_request *request;
    const struct json_value *root;
    const char *field; /* being read */
    uint32_t vocabulary_size;
    struct api_error *error;
};

/* 400 with the current field as `param`; always false. */
bool reading_fail(struct reading *reading, const char *format, ...) BASE_PRINTF(2, 3);
/* The same with code "unsupported_parameter". */
bool reading_unsupported(struct reading *reading, const char *format, ...) BASE_PRINTF(2, 3);
bool reading_no_memory(struct reading *reading);

/* Appends `prefix` and a field's name to a header value: bytes that a header cannot hold are
 * replaced, and so many names are enough. */
void reading_note(struct buffer *list, const char *prefix, struct text_view name);

/* openai_messages.c: members of a chat request. */
bool read_messages(struct reading *reading, const struct json_value *value);

#endif
