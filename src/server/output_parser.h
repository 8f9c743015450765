/* A model's answer taken apart: reasoning, content and tool calls, while it is being made. Pure:
 * text in, calls to a sink out; the result does not depend on how the text is cut into pieces,
 * except for where content and reasoning are cut. One thread at a time. */
#ifndef SERVER_OUTPUT_PARSER_H
#define SERVER_OUTPUT_PARSER_H

#include "base/buffer.h"
#include "server/tool_format.h"

/* A call that is longer is given out as content. */
#define OUTPUT_CALL_BYTES_MAX (1u << 20)
#define OUTPUT_CALLS_MAX      64u

struct output_sink {
    void (*content)(void *user, struct text_view text);
    void (*reasoning)(void *user, struct text_view text);
    /* `arguments` is JSON, an object, as text. */
    void (*tool_call)(void *user, struct text_view name, struct text_view arguments);
    void *user;
};

struct output_parser {
    enum tool_format tools; /* NONE or UNKNOWN: none are looked for */
    bool split_reasoning;
    int state;          /* private */
    bool skip_space;    /* private: white space that comes next is nobody's */
    uint32_t calls;     /* so far */
    bool failed;        /* no memory: what came out is not everything */
    struct buffer held; /* private: not given out yet */
};

/* `begun`: the prompt has opened a <think> that the answer is to close. */
void output_parser_init(struct output_parser *parser, enum tool_format tools, bool split_reasoning,
                        bool begun);
void output_parser_deinit(struct output_parser *parser);

void output_parser_feed(struct output_parser *parser, struct text_view text,
                        const struct output_sink *sink);
/* The answer has ended: what was held back comes out. */
void output_parser_finish(struct output_parser *parser, const struct output_sink *sink);

/* Whether what comes next is reasoning, as far as is known. */
bool output_parser_is_reasoning(const struct output_parser *parser);

/* Whether a prompt ends with an open <think>. */
bool output_prompt_opens_reasoning(struct text_view prompt);

#endif
