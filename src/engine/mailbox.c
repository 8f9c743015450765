/* Owns the stack of posted requests. Invariant: a request with MAIL_POSTED is in the stack (or in
 * the list just taken from it) exactly once and is held by a reference of its own; only whoever
 * sets that flag pushes. */
#include "engine/mailbox.h"

#include <stdlib.h>

#include "engine/request.h"

struct mailbox *mailbox_create(void)
{
    struct mailbox *mailbox = calloc(1, sizeof *mailbox);
    if (mailbox && !wakeup_init(&mailbox->wakeup)) {
        free(mailbox);
        return NULL;
    }
    if (mailbox) {
        atomic_init(&mailbox->references, 1);
    }
    return mailbox;
}

void mailbox_retain(struct mailbox *mailbox)
{
    atomic_fetch_add(&mailbox->references, 1);
}

void mailbox_release(struct mailbox *mailbox)
{
    if (atomic_fetch_sub(&mailbox->references, 1) == 1) {
        wakeup_deinit(&mailbox->wakeup);
        free(mailbox);
    }
}

void mailbox_post(struct mailbox *mailbox, llcuda_request *request, uint32_t flag)
{
    uint32_t before = atomic_fetch_or(&request->mail_flags, flag | MAIL_POSTED);
    if ((before & MAIL_POSTED) != 0) {
        return;
    }
    request_retain(request);
    llcuda_request *newest = atomic_load(&mailbox->newest);
    do {
        request->mail_next = newest;
    } while (!atomic_compare_exchange_weak(&mailbox->newest, &newest, request));
    wakeup_signal(&mailbox->wakeup);
}

llcuda_request *mailbox_take(struct mailbox *mailbox)
{
    if (mailbox_empty(mailbox)) {
        return NULL;
    }
    llcuda_request *request = atomic_exchange(&mailbox->newest, NULL);
    llcuda_request *oldest = NULL;
    while (request) {
        llcuda_request *next = request->mail_next;
        request->mail_next = oldest;
        oldest = request;
        request = next;
    }
    return oldest;
}
