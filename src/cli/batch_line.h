/* One line of `llcuda batch`: from JSON to a request, and from its end to a line of output. */
#ifndef CLI_BATCH_LINE_H
#define CLI_BATCH_LINE_H

#include "cli/open.h"

/* What came in and what has come out so far. One owner; init, then deinit. */
struct batch_line {
    uint64_t number;         /* of the line in the input, from 1 */
    struct buffer id;        /* the "id" or "custom_id" as JSON; "null" when there is none */
    bool openai;             /* custom_id, method, url, body */
    bool chat;               /* messages, as opposed to a prompt */
    llcuda_request *request; /* NULL: failed before it began */
    struct buffer text;      /* the answer so far */
    llcuda_finish_reason finish_reason;
    llcuda_usage usage;
    struct llcuda_error error; /* status OK: none */
    bool done;
};

void batch_line_init(struct batch_line *line, uint64_t number);
void batch_line_deinit(struct batch_line *line);

/* Parses `text` over the defaults in `base` and submits. Errors that belong to the line are kept in
 * line->error (and line->done is set); BUSY is returned instead, nothing is kept then. */
llcuda_status batch_line_submit(struct batch_line *line, struct text_view text,
                                llcuda_engine *engine, const llcuda_request_options *base);

/* Takes the events that are there, waiting up to `timeout_ms` for the first. */
void batch_line_poll(struct batch_line *line, int64_t timeout_ms);

/* Appends the line of output, with its newline. `model` and `created` (Unix seconds) are for the
 * OpenAI form. */
void batch_line_write(const struct batch_line *line, const char *model, int64_t created,
                      struct buffer *out);

/* The "id" (or "custom_id") of a line of input or output as JSON, "null" when there is none. */
void batch_line_id(struct text_view text, struct buffer *id);

#endif
