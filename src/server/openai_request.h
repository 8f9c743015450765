/* Bodies of /v1/chat/completions, /v1/completions, /v1/responses and /v1/embeddings, read and
 * checked: outside bytes in, request options out. Pure: no engine, no connection. Nothing is
 * allocated out of proportion to the body.
 *
 * Every field is one of four: read, ignored (reported in a header), refused (an error that says
 * so), or unknown (reported in a header). The table in openai_request.c is what
 * docs/openai-compatibility.md says in words. */
#ifndef SERVER_OPENAI_REQUEST_H
#define SERVER_OPENAI_REQUEST_H

#include "base/arena.h"
#include "base/buffer.h"
#include "llcuda/llcuda.h"
#include "server/api_error.h"

/* Answers to one HTTP request, all prompts and choices together. */
#define OPENAI_CHOICES_MAX 128u

enum openai_api { OPENAI_CHAT, OPENAI_COMPLETION, OPENAI_RESPONSES, OPENAI_EMBEDDINGS };

struct openai_prompt {
    struct text_view text; /* when tokens is NULL */
    const uint32_t *tokens;
    size_t token_count;
};

struct openai_request {
    enum openai_api api;
    struct arena arena; /* owns, with the document, what views and options point to */
    struct json_document *document;
    llcuda_request_options options; /* complete but for the prompt */
    struct text_view model;         /* "": not given */
    struct openai_prompt *prompts;  /* completions: [prompt_count] */
    uint32_t prompt_count;          /* chat and responses: 1 */
    struct buffer messages;         /* likewise: the JSON for llcuda_apply_template */
    bool stream;
    bool include_usage;
    bool max_tokens_given;
    bool has_tools;        /* the messages show tools, and answers may call them */
    bool keep_reasoning;   /* reasoning stays in the content, as the model wrote it */
    bool base64;           /* embeddings: floats as base64 instead of numbers */
    uint32_t dimensions;   /* embeddings: 0 or what the model has to have */
    struct buffer ignored; /* names with commas: fields that change nothing */
    struct buffer unknown; /* and those that mean nothing here */
};

/* Parses a body, which must outlive the request, and finds `model`. The request is to be deinited
 * either way. */
bool openai_request_open(struct openai_request *request, enum openai_api api, struct text_view body,
                         struct api_error *error);

/* Reads what openai_request_open has parsed. `defaults` are the options to start from; ids must be
 * below `vocabulary_size`. False with *error. */
bool openai_request_read(struct openai_request *request, const llcuda_request_options *defaults,
                         uint32_t vocabulary_size, struct api_error *error);
void openai_request_deinit(struct openai_request *request);

/* Points the options at prompt `index` of a completion or an embedding. */
void openai_request_select(struct openai_request *request, uint32_t index);

#endif
