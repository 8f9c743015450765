/* The engine without its thread: takes requests from the mailbox, plans a step, runs it on the
 * device, samples, writes events. The engine thread calls core_step in a loop; the simulator calls
 * it with a device and a clock of its own. One thread at a time; a step allocates nothing. */
#ifndef ENGINE_ENGINE_CORE_H
#define ENGINE_ENGINE_CORE_H

#include "device/device.h"
#include "engine/request.h"

struct core_options {
    struct scheduler_options scheduler;
    uint32_t vocabulary_size;
    uint32_t piece_bytes_max; /* of the codec */
    uint32_t sampler_workers; /* threads that may draw at once, 0: 1 */
    uint32_t parallel_min;    /* fewer logits than these are not worth waking other threads for */
    struct mailbox *mailbox;  /* borrowed */
    /* Called after each step; true: what the device computed is void. May be NULL. */
    bool (*step_void)(void *user);
    void *step_void_user;
    uint64_t (*clock_ns)(void *user); /* NULL: the monotonic clock */
    void *clock_user;
};

/* Statistics as the core counts them; read by other threads through core_read_stats. */
enum core_counter {
    CORE_REQUESTS,
    CORE_SEQUENCES,
    CORE_WAITING,
    CORE_RUNNING,
    CORE_PAUSED,
    CORE_BLOCKS_USED,
    CORE_BLOCKS_CACHED,
    CORE_FINISHED,
    CORE_CANCELLED,
    CORE_TIMED_OUT,
    CORE_FAILED,
    CORE_SUBMITTED,
    CORE_STEPS,
    CORE_PROMPT_TOKENS,
    CORE_GENERATED_TOKENS,
    CORE_LOOKUP_TOKENS,
    CORE_HIT_TOKENS,
    CORE_PREEMPTIONS,
    CORE_EVICTIONS,
    CORE_COPIED_BLOCKS,
    CORE_STEP_NS,
    CORE_HOST_NS,
    CORE_STEP_ROWS_MAX,
    CORE_WEIGHT_BYTES_READ,
    CORE_DEVICE_DRAWS,
    CORE_HOST_DRAWS,
    CORE_STEPS_FAILED,
    CORE_DEVICE_FAILED, /* 1: the last step failed with LLCUDA_DEVICE */
    CORE_COUNTER_COUNT
};

/* A sequence's rows in a step. */
struct flight_entry {
    struct choice *choice;
    uint32_t begin, rows; /* positions */
    uint32_t at;          /* where the drawn token goes */
    bool logits;          /* the last row gives some */
    bool on_host; /* … and its token is drawn by the host, though the device draws others */
    /* From landing to emission. */
    llcuda_status status;
    uint32_t token;
    const float *row; /* its logits, valid while tokens are drawn */
};

/* A step from launch to emission. */
struct flight {
    struct flight_entry *entries;   /* [running_max] */
    llcuda_token_logprob *logprobs; /* [running_max] of entries whose request wants them */
    bool samples;                   /* the device draws all but those on_host */
    uint32_t count, logits_count, hidden_count;
    uint64_t landed_ns;
};

struct engine_core {
    struct core_options options;
    struct scheduler scheduler;
    struct device_model *device;          /* borrowed; NULL while asleep */
    struct sampler_workspace *workspaces; /* [workspace_count] one a thread that draws */
    uint32_t workspace_count;
    struct buffer text; /* scratch for one choice's new text, never grows after init */
    /* One step's batch. */
    uint32_t *tokens, *positions, *sequences, *hidden_rows; /* [rows_max] */
    uint32_t *logits_rows;                                  /* [running_max] */
    struct step_sampling *samplings;                        /* [running_max] */
    struct step_edit *edits;                                /* [STEP_EDITS_MAX] of the samplings */
    llcuda_request *live;                                   /* every request that is not done */
    bool held;
    llcuda_request *dead;   /* done, to be let go of … */
    llcuda_request *buried; /* … when the step that flew at their end has gone too */
    struct flight flights[2];
    uint32_t flight_index; /* the one that flies, or will fly next */
    bool flying;
    bool readers_called; /* on_ready was, since the engine thread last looked */
    const float *logits; /* of the step that has landed */
    uint64_t device_ns;  /* inside the device's functions, in this call of core_step */
    uint64_t counters[CORE_COUNTER_COUNT];
    _Atomic uint64_t published[CORE_COUNTER_COUNT];
    _Atomic uint32_t published_version; /* odd while they change */
};

/* Errors: INVALID_ARGUMENT, LIMIT, OUT_OF_MEMORY. */
llcuda_status core_init(struct engine_core *core, const struct core_options *options,
                        struct llcuda_error *error);
/* No request may be live. */
void core_deinit(struct engine_core *core);
/* Bytes that core_init takes, beside the cache: for the memory plan. */
uint64_t core_bytes(const struct core_options *options);

/* The device model whose cache the scheduler's blocks mean; NULL: none, nothing runs. What the
 * prefix tree knows is forgotten. No sequence may be running. */
void core_set_device(struct engine_core *core, struct device_model *device);

/* Held: new submissions are kept apart, waiting for the end of the hold. */
void core_hold(struct engine_core *core, bool held);

/* Takes news from the mailbox: submissions, cancellations, readers that caught up. */
void core_take_mail(struct engine_core *core);

/* Ends overdue requests and takes the work one step further. False when there is nothing to run
 * now; no step is running then. */
bool core_step(struct engine_core *core);

/* The nearest deadline, 0 when there is none. */
uint64_t core_next_deadline_ns(const struct engine_core *core);

/* Ends every live request. */
void core_end_all(struct engine_core *core, llcuda_status status, const char *message);

/* Sequences that run or wait; held ones are not counted. */
uint32_t core_sequence_count(const struct engine_core *core);

/* A consistent copy of the counters as of the end of some step. Any thread. */
void core_read_stats(const struct engine_core *core, uint64_t counters[CORE_COUNTER_COUNT]);

#endif
