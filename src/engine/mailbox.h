/* The way from callers to the engine thread: a stack of requests that have news, without a lock. A
 * request is in it at most once, with flags that say what the news is, so that its size is bounded
 * by the number of requests and posting never fails.
 *
 * The mailbox is owned by the engine and every request together, and outlives the engine: a handle
 * may be cancelled and released after the engine has been closed. */
#ifndef ENGINE_MAILBOX_H
#define ENGINE_MAILBOX_H

#include "base/error.h"
#include "engine/wakeup.h"
#include "llcuda/llcuda.h"

enum mail_flag {
    MAIL_SUBMIT = 1,
    MAIL_CANCEL = 2,
    MAIL_DRAINED = 4, /* a paused request's reader has made room */
    MAIL_POSTED = 8   /* it is in the stack */
};

struct mailbox {
    _Atomic(llcuda_request *) newest;
    _Atomic uint32_t references;     /* the engine and each request */
    _Atomic uint32_t sequences_live; /* reserved by submitters, given back by the engine */
    _Atomic bool closing;            /* submissions are refused */
    _Atomic bool stopped;            /* nobody reads any more */
    struct wakeup wakeup;            /* of the engine thread */
};

/* One reference. NULL without memory. */
struct mailbox *mailbox_create(void);
void mailbox_retain(struct mailbox *mailbox);
void mailbox_release(struct mailbox *mailbox);

/* Tells the engine thread about a request (one of the flags above). Any thread. */
void mailbox_post(struct mailbox *mailbox, llcuda_request *request, uint32_t flag);

/* Everything posted, oldest first, linked by request->mail_next. The reader takes each request's
 * flags with mail_flags_take, in this order, and then drops one reference of it. */
llcuda_request *mailbox_take(struct mailbox *mailbox);

static inline bool mailbox_empty(struct mailbox *mailbox)
{
    return atomic_load(&mailbox->newest) == NULL;
}

#endif
