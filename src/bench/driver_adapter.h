/* An engine behind the JSON-lines protocol (docs/internals/bench-protocol.md), as a driver. One
 * thread. */
#ifndef BENCH_DRIVER_ADAPTER_H
#define BENCH_DRIVER_ADAPTER_H

#include "base/json.h"
#include "bench/driver.h"
#include "bench/process.h"

#define ADAPTER_PROTOCOL_VERSION 1

struct adapter_run; /* private */

struct adapter {
    struct driver driver; /* first: a driver is cast back */
    struct process process;
    bool ignore_eos;
    bool wants_text;       /* it said so: prompts are sent as text too */
    bool tells_operations; /* it said so: it answers `profile` */
    struct buffer out;     /* to be written */
    size_t out_sent;
    struct buffer in; /* read, not yet looked at */
    size_t in_used;
    struct adapter_run **runs; /* in flight */
    uint32_t run_count, run_capacity;
    uint64_t next_run;
    uint64_t in_bytes; /* read so far */
    double byte_ns;    /* time between two of them during the last run; 0: none is over yet */
};

/* Starts the program and shakes hands within `timeout_ms`. `hello` gets the answer. On failure the
 * adapter is ended. Errors: NOT_FOUND (no such program), TIMEOUT, IO with the end of its log,
 * BAD_FORMAT when it talks rubbish, UNSUPPORTED when its version of the protocol differs. */
llcuda_status adapter_start(struct adapter *adapter, const char *const *command,
                            char *const *environment, const char *const *extra,
                            const char *log_path, uint32_t timeout_ms, struct buffer *hello,
                            struct llcuda_error *error);

/* Sends one line and waits for its answer, appended to `reply`. An answer with "ok": false is
 * REFUSED with its "error". */
llcuda_status adapter_call(struct adapter *adapter, const char *line, const char *op,
                           uint32_t timeout_ms, struct buffer *reply, struct llcuda_error *error);

/* Asks it to stop, then ends its group. A zeroed adapter with process.pid 0 is fine. */
void adapter_end(struct adapter *adapter, uint32_t grace_ms);

#endif
