/* The contract between the load generator and an engine: requests go in, tokens come out, and the
 * clock is the driver's, so that a test can put a simulated engine with a clock of its own here.
 * One thread. */
#ifndef BENCH_DRIVER_H
#define BENCH_DRIVER_H

#include "base/error.h"
#include "base/view.h"

struct load_request {
    uint32_t index; /* the caller's number, returned with every event */
    const uint32_t *ids;
    uint32_t id_count;
    struct text_view text; /* the same prompt as text; only for drivers that want it */
    uint32_t max_tokens;
};

struct load_event {
    uint32_t index;
    uint64_t now_ns;     /* when it arrived here, on the driver's clock */
    bool done;           /* the last event of this request */
    uint32_t tokens;     /* that this event brought */
    const uint32_t *ids; /* [id_count], when the engine says them */
    uint32_t id_count;
    struct text_view text; /* when the engine says it */
    /* with done */
    bool failed;
    const char *reason;                    /* of a failure */
    uint32_t prompt_tokens, output_tokens; /* as the engine counts; 0: it does not say */
};

struct load_sink {
    void (*event)(void *user, const struct load_event *event);
    void *user;
};

struct driver {
    const struct driver_ops *ops;
};

struct driver_ops {
    uint64_t (*now_ns)(struct driver *driver);
    /* Hands `count` requests over together; copies what it needs. */
    llcuda_status (*submit)(struct driver *driver, const struct load_request *requests,
                            uint32_t count, struct llcuda_error *error);
    /* Waits until `until_ns` at most, and returns when a request is over, or after any events. A
     * failure ends the session: the engine has died or talks rubbish. */
    llcuda_status (*wait)(struct driver *driver, uint64_t until_ns, const struct load_sink *sink,
                          struct llcuda_error *error);
};

#endif
