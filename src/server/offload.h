/* A thread for work that would hold up a network thread: reading, rendering and tokenising long
 * prompts. Jobs run one after the other in the order of their coming. */
#ifndef SERVER_OFFLOAD_H
#define SERVER_OFFLOAD_H

#include <stdbool.h>

#include "base/error.h"

/* Embedded in what the work is about. */
struct offload_job {
    void (*run)(struct offload_job *job);  /* on the thread */
    void (*done)(struct offload_job *job); /* on the thread, afterwards: wakes who waits */
    void (*drop)(struct offload_job *job); /* on the thread, when it was given up while it ran */
    struct offload_job *next;              /* the rest is private */
    int state;
};

struct offload;

/* Starts the thread. Errors: OUT_OF_MEMORY, IO. */
llcuda_status offload_create(struct offload **offload, struct llcuda_error *error);
/* Waits for the job that runs; those that wait are dropped. NULL is fine. */
void offload_destroy(struct offload *offload);

/* False when too many jobs wait already. */
bool offload_submit(struct offload *offload, struct offload_job *job);
/* Whether the job has run. */
bool offload_is_done(struct offload *offload, const struct offload_job *job);
/* Gives a job up. True: it is the caller's again. False: it runs, and drop will be called. */
bool offload_withdraw(struct offload *offload, struct offload_job *job);

#endif
