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

/* openai_messages.c: members of a chat request, and what it shares with /v1/responses. */
bool read_messages(struct reading *reading, const struct json_value *value);
/* Closes the list of messages and adds what else the template sees: tools and its arguments. */
bool write_context(struct reading *reading, struct json_writer *writer);
/* The content of a message: text, or parts of a type that ends with "text", joined. */
bool write_content(struct reading *reading, const struct json_value *content, bool may_be_absent,
                   struct json_writer *writer);

/* openai_tools.c: tools and calls of them. */
bool read_tools(struct reading *reading, const struct json_value *value);
bool read_tool_choice(struct reading *reading, const struct json_value *value);
/* The tools in chat's shape, which templates know. */
void write_tools(struct reading *reading, struct json_writer *writer);
/* A call in an assistant's message: arguments that are JSON as text become an object, which is what
 * templates expect. `id` may be a view without data. */
void write_call(struct json_writer *writer, struct text_view id, struct text_view name,
                const struct json_value *arguments);
bool write_calls(struct reading *reading, const struct json_value *calls,
                 struct json_writer *writer);

/* openai_responses.c: instructions and input of /v1/responses become messages. */
bool read_input(struct reading *reading, const struct json_value *value);

#endif
