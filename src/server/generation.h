/* One body of generation requests on its way: from the body to engine requests, from their events
 * to an answer or a stream. Lives on one worker's thread; only preparing a long body happens
 * elsewhere. */
#ifndef SERVER_GENERATION_H
#define SERVER_GENERATION_H

#include "server/model_set.h"
#include "server/offload.h"
#include "server/openai_request.h"
#include "server/output_parser.h"
#include "server/server_internal.h"

struct choice_output {
    struct output_parser parser; /* chat and responses: takes the answer apart */
    struct buffer text;          /* content that was not streamed; with responses all of it */
    struct buffer reasoning;     /* likewise */
    struct buffer calls;         /* JSON of the tool calls, items with commas, likewise */
    uint32_t call_count;
    struct buffer tokens; /* JSON fragments of logprobs not sent yet, items with commas: chat: the
                             items of `content`; completions: the four lists */
    struct buffer values;
    struct buffer tops;
    struct buffer offsets;
    uint64_t text_characters; /* of the choice so far */
    llcuda_finish_reason finish_reason;
};

struct generation;

/* How the answer of a route looks. Each function writes into generation->piece, or, while nothing
 * is streamed, keeps what it gets in the choice. */
struct reply_format {
    const char *id_prefix;
    bool ends_with_done;                                 /* "data: [DONE]" */
    void (*begin)(struct generation *generation);        /* the prefix of what follows */
    void (*begin_stream)(struct generation *generation); /* the first events */
    void (*content)(struct generation *generation, uint32_t index, struct text_view text);
    void (*reasoning)(struct generation *generation, uint32_t index, struct text_view text);
    void (*tool_call)(struct generation *generation, uint32_t index, struct text_view name,
                      struct text_view arguments);
    void (*finish)(struct generation *generation, uint32_t index); /* a choice, in a stream */
    void (*end_stream)(struct generation *generation);
    void (*whole)(struct generation *generation);
    void (*fail)(struct generation *generation, const struct api_error *error); /* in a stream */
};

extern const struct reply_format reply_openai; /* chat and completions */
extern const struct reply_format reply_responses;
extern const struct reply_format reply_embeddings;

/* Of /v1/responses: the items of the output, told one after the other. */
struct response_output {
    struct buffer items; /* JSON of the finished ones, with commas */
    struct buffer text;  /* of the open one */
    int open;            /* responses_reply.c: which kind, 0: none */
    uint32_t item_count; /* finished */
    uint32_t sequence;   /* number of the next event */
};

struct generation {
    struct offload_job job; /* first: the job is the generation */
    struct server *server;
    struct call *call; /* not to be used while the job runs */
    struct http_waker *waker;
    struct served_model *model; /* taken; NULL: not yet */
    struct buffer body;
    struct openai_request request;
    const struct reply_format *format;
    char tenant[KEY_NAME_BYTES];
    bool preparing; /* on the other thread */
    bool prepared;  /* the engine has the requests; otherwise `error` says why not */
    struct api_error error;
    llcuda_request **requests; /* [request_count] */
    uint32_t request_count;
    uint32_t done_count;
    bool *done;            /* [request_count] */
    const float **vectors; /* [request_count] embeddings, the engine's, while it has the request */
    uint32_t vector_length;
    uint32_t choices_each;
    struct choice_output *choices; /* [prompts × choices_each] */
    uint64_t admitted_tokens;      /* of the server's, to be given back */
    struct response_output response;
    char id[40];
    int64_t created;
    struct buffer prefix; /* of each chunk: up to and including "choices": */
    struct buffer piece;  /* being written */
    bool streaming;       /* the head has been sent */
    bool blocked;         /* the client has to read before more is taken */
    bool ended;           /* the exchange is over; set before the last call into net */
    llcuda_usage usage;
    llcuda_timings timings; /* of the last request that was done */
    uint32_t reasoning_tokens;
    uint64_t last_write_ns;
    uint64_t first_token_ns;
    uint64_t last_token_ns;
};

/* prepare.c: from the body to engine requests; any thread, but one at a time. False with
 * generation->error. */
bool generation_prepare(struct generation *generation);
/* Gives the admitted tokens back and releases the engine's requests, what they have made included.
 */
void generation_release(struct generation *generation);
/* That, and gives the model back. */
void generation_unprepare(struct generation *generation);

/* openai_reply.c */
/* Remembers the log-probabilities of an event. */
void reply_note_logprobs(struct generation *generation, struct choice_output *choice,
                         const llcuda_event *event);
/* A name for a tool call: Mistral's templates take ids of nine letters and digits only. */
void reply_make_call_id(struct generation *generation, char id[32]);

#endif
