/* One body of generation requests on its way: from the body to engine requests, from their events
 * to an answer or a stream. Lives on one worker's thread. */
#ifndef SERVER_GENERATION_H
#define SERVER_GENERATION_H

#include "server/openai_request.h"
#include "server/server_internal.h"

struct choice_output {
    struct buffer text;   /* not streamed yet */
    struct buffer tokens; /* JSON fragments of logprobs not sent yet, items with commas: chat: the
                             items of `content`; completions: the four lists */
    struct buffer values;
    struct buffer tops;
    struct buffer offsets;
    uint64_t text_characters; /* of the choice so far */
    llcuda_finish_reason finish_reason;
};

struct generation {
    struct call *call;
    struct openai_request request;
    llcuda_request **requests; /* [request_count] */
    uint32_t request_count;
    uint32_t done_count;
    bool *done; /* [request_count] */
    uint32_t choices_each;
    struct choice_output *choices; /* [prompts × choices_each] */
    char id[40];
    int64_t created;
    struct buffer prefix; /* of each chunk: up to and including "choices": */
    struct buffer piece;  /* being written */
    bool streaming;       /* the head has been sent */
    bool blocked;         /* the client has to read before more is taken */
    bool ended;           /* the exchange is over; set before the last call into net */
    llcuda_usage usage;
    uint64_t last_write_ns;
    uint64_t first_token_ns;
    uint64_t last_token_ns;
};

/* openai_reply.c: pure writing into generation->piece. */
void reply_begin(struct generation *generation);
/* Remembers the log-probabilities of an event. */
void reply_note_logprobs(struct generation *generation, struct choice_output *choice,
                         const llcuda_event *event);
/* Appends one SSE event with a choice's text; finish_reason NONE while it goes on. */
void reply_chunk(struct generation *generation, uint32_t index, struct text_view text, bool role,
                 llcuda_finish_reason finish_reason);
void reply_usage_chunk(struct generation *generation);
/* Appends the whole answer of a request that is not streamed. */
void reply_whole(struct generation *generation);

#endif
