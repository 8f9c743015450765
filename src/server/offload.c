/* Owns the thread and its queue. A job belongs to its owner except while it runs: one that is given
 * up then is dropped by the thread, so that nobody frees what is being worked on. */
#include "server/offload.h"

#include <pthread.h>
#include <stdlib.h>

#define JOBS_MAX 1024u

enum { WAITING = 1, RUNNING, GIVEN_UP, DONE };

struct offload {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wakeup;
    struct offload_job *first, **last;
    uint32_t count;
    bool stopping;
};

static struct offload_job *take_first(struct offload *offload)
{
    struct offload_job *job = offload->first;
    offload->first = job->next;
    offload->count--;
    if (!offload->first) {
        offload->last = &offload->first;
    }
    return job;
}

static void *work(void *user)
{
    struct offload *offload = user;
    pthread_setname_np(pthread_self(), "llcuda-prepare");
    pthread_mutex_lock(&offload->mutex);
    for (;;) {
        while (!offload->first && !offload->stopping) {
            pthread_cond_wait(&offload->wakeup, &offload->mutex);
        }
        if (offload->stopping) {
            break;
        }
        struct offload_job *job = take_first(offload);
        job->state = RUNNING;
        pthread_mutex_unlock(&offload->mutex);
        job->run(job);
        pthread_mutex_lock(&offload->mutex);
        if (job->state == GIVEN_UP) {
            pthread_mutex_unlock(&offload->mutex);
            job->drop(job);
            pthread_mutex_lock(&offload->mutex);
        } else {
            job->state = DONE;
            job->done(job); /* under the lock: afterwards the owner may free the job */
        }
    }
    while (offload->first) {
        take_first(offload)->state = DONE;
    }
    pthread_mutex_unlock(&offload->mutex);
    return NULL;
}

llcuda_status offload_create(struct offload **made, struct llcuda_error *error)
{
    struct offload *offload = calloc(1, sizeof *offload);
    if (!offload) {
        return error_no_memory(error, "a thread for prompts", sizeof *offload);
    }
    offload->last = &offload->first;
    pthread_mutex_init(&offload->mutex, NULL);
    pthread_cond_init(&offload->wakeup, NULL);
    int failure = pthread_create(&offload->thread, NULL, work, offload);
    if (failure != 0) {
        free(offload);
        return error_from_errno(error, failure, "start", "a thread for prompts");
    }
    *made = offload;
    return LLCUDA_OK;
}

void offload_destroy(struct offload *offload)
{
    if (!offload) {
        return;
    }
    pthread_mutex_lock(&offload->mutex);
    offload->stopping = true;
    pthread_cond_signal(&offload->wakeup);
    pthread_mutex_unlock(&offload->mutex);
    pthread_join(offload->thread, NULL);
    pthread_mutex_destroy(&offload->mutex);
    pthread_cond_destroy(&offload->wakeup);
    free(offload);
}

bool offload_submit(struct offload *offload, struct offload_job *job)
{
    pthread_mutex_lock(&offload->mutex);
    bool room = offload->count < JOBS_MAX;
    if (room) {
        job->state = WAITING;
        job->next = NULL;
        *offload->last = job;
        offload->last = &job->next;
        offload->count++;
        pthread_cond_signal(&offload->wakeup);
    }
    pthread_mutex_unlock(&offload->mutex);
    return room;
}

bool offload_is_done(struct offload *offload, const struct offload_job *job)
{
    pthread_mutex_lock(&offload->mutex);
    bool done = job->state == DONE;
    pthread_mutex_unlock(&offload->mutex);
    return done;
}

bool offload_withdraw(struct offload *offload, struct offload_job *job)
{
    pthread_mutex_lock(&offload->mutex);
    bool mine = job->state != RUNNING;
    if (job->state == WAITING) {
        struct offload_job **link = &offload->first;
        while (*link != job) {
            link = &(*link)->next;
        }
        *link = job->next;
        offload->count--;
        if (offload->last == &job->next) {
            offload->last = link;
        }
    } else if (job->state == RUNNING) {
        job->state = GIVEN_UP;
    }
    pthread_mutex_unlock(&offload->mutex);
    return mine;
}
