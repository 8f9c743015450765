/* A request: what was asked for, its choices, and the two ends of its event ring. The engine thread
 * writes choices and events; the reader reads events; each side keeps to its own fields. */
#ifndef ENGINE_REQUEST_H
#define ENGINE_REQUEST_H

#include "base/buffer.h"
#include "engine/event_ring.h"
#include "engine/mailbox.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "engine/stop_set.h"

/* How ids become text: the tokeniser's detokenizer, or a test's own. */
struct text_codec {
    void *user;
    /* A stream for one choice. With `context`, text goes on after those ids; otherwise it begins.
     */
    llcuda_status (*stream_create)(void *user, bool skip_special, const uint32_t *context,
                                   size_t context_count, void **stream, struct llcuda_error *error);
    void (*stream_destroy)(void *stream);
    /* Appends the text that an id makes certain; finish, what was held back. */
    llcuda_status (*stream_push)(void *stream, uint32_t id, struct buffer *out,
                                 struct llcuda_error *error);
    llcuda_status (*stream_finish)(void *stream, struct buffer *out, struct llcuda_error *error);
    uint32_t piece_bytes_max; /* most bytes that one push or finish appends */
};

/* What a request must know about its engine. Outlives the running of the request. */
struct request_setup {
    uint32_t vocabulary_size;
    uint32_t context_length;
    const uint32_t *end_tokens; /* [end_token_count] of the model */
    uint32_t end_token_count;
    const struct text_codec *codec;
    struct mailbox *mailbox;
    uint32_t embedding_length; /* E; 0: the device gives no hidden states */
    llcuda_pooling pooling;    /* the model's own; NONE: one that is not known here */
};

struct choice {
    struct sequence sequence; /* the scheduler's view */
    llcuda_request *request;
    uint32_t index;
    uint32_t *tokens; /* [sequence.token_max] prompt and answer */
    uint32_t generated;
    bool ending; /* its last token is drawn, but not yet emitted */
    bool finished;
    llcuda_finish_reason reason;
    struct sampler sampler;
    void *stream; /* of the codec; NULL once finished */
    struct stop_state stop;
    char *held; /* [held_bytes] text that may be the beginning of a stop string */
    uint32_t held_bytes;
};

struct llcuda_request {
    struct arena arena; /* everything below that is not inline */
    struct mailbox *mailbox;
    _Atomic uint32_t references; /* the caller's, the engine's, one a stay in the mailbox */
    _Atomic uint32_t mail_flags;
    llcuda_request *mail_next;
    const struct text_codec *codec;

    /* What was asked for: constant. */
    struct sampler_params sampler_params;
    struct stop_set stops;
    uint32_t *prompt; /* [prompt_count] */
    uint32_t prompt_count;
    struct text_view prompt_text; /* with echo */
    uint32_t choice_count;
    uint32_t max_tokens; /* of each choice, cut to the context */
    uint64_t seed;
    bool echo;
    bool context_text; /* the answer's text goes on after the prompt's */
    void (*on_ready)(void *user);
    void *on_ready_user;
    uint32_t event_room;       /* bytes that one step of one choice may need in the ring */
    uint32_t embedding_length; /* of an embedding request, otherwise 0 */
    llcuda_pooling pooling;    /* MEAN or LAST; of an embedding request */
    bool embedding_raw;

    /* The engine's. */
    llcuda_request *live_next, *live_previous;
    struct choice *choices;
    uint32_t *tokens; /* of all choices; by malloc, so that what is never used is never touched */
    uint32_t choices_left; /* not finished */
    bool choices_started;  /* the others have followed the first */
    bool live;             /* in the engine's list */
    bool held;             /* submitted during a hold: unknown to the scheduler */
    uint64_t submit_ns, begin_ns, first_ns, last_ns, end_ns;
    llcuda_status status; /* how it ended */
    char message[LLCUDA_ERROR_MESSAGE_BYTES];
    double *pooled;       /* [embedding_length] sums of hidden states */
    float *embedding;     /* [embedding_length] the result, the reader's after DONE */
    uint32_t generated;   /* tokens of all choices */
    uint32_t prompt_rows; /* prompt tokens computed for the first choice at first */

    /* Between both. */
    struct event_ring ring;
    _Atomic bool paused;       /* the engine waits for room in the ring */
    _Atomic bool finished;     /* DONE has been published */
    _Atomic bool ready_wanted; /* the reader has seen an empty ring */
    struct wakeup wakeup;      /* of the reader */

    /* The reader's. */
    llcuda_event event;
    llcuda_token_logprob event_logprob;
    uint32_t event_token;
    char *event_text;
    bool *echoed; /* [choice_count] */
    uint32_t tokens_read;
    bool done_read;
};

/* Makes a request from checked options and a prompt in ids (copied). `prompt_text` is what echo
 * shows; `breakers` (a bitmap of V / 8 + 1 bytes, for DRY) may be NULL. What `setup` points to must
 * stay while the request runs. One reference, the caller's. Errors: CONTEXT_FULL, UNSUPPORTED (an
 * embedding), OUT_OF_MEMORY, and the codec's. */
llcuda_status request_create(const struct request_setup *setup,
                             const llcuda_request_options *options, const uint32_t *prompt,
                             size_t prompt_count, struct text_view prompt_text,
                             const uint8_t *breakers, uint64_t now_ns, llcuda_request **request,
                             struct llcuda_error *error);

static inline void request_retain(llcuda_request *request)
{
    atomic_fetch_add(&request->references, 1);
}
void request_unref(llcuda_request *request);

/* Engine thread: shows the reader what was written, and wakes it. True when on_ready was called. */
bool request_publish(llcuda_request *request);

/* Steps whose events may be under way when the ring is looked at: one that flies, and the next. */
#define REQUEST_STEPS_AHEAD 2u

/* Engine thread: true when the ring can take what is under way and what the next step adds for
 * every running choice, and after it the end of each: cancellation must always find room. */
static inline bool request_has_room(const llcuda_request *request)
{
    uint64_t choices = request->choices_left;
    return event_ring_room(&request->ring) >= REQUEST_STEPS_AHEAD * request->event_room * choices +
                                                  sizeof(struct event_record) * (choices + 1);
}

#endif
