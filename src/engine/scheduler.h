/* The scheduler: decides which rows go into the next step. It is a function of its state, the
 * arrivals and the clock that it is told: no thread, no clock of its own, no device, no allocation
 * after init, so that a simulator can run millions of steps.
 *
 * Order. Every sequence gets a *tag* on arrival and keeps it for life; a smaller tag goes first,
 * both in admission and in the right to keep its blocks. Tags are start-time fair queueing between
 * tenants (Goyal, Vin, Cheng 1996): a tenant's next tag grows with the tokens it has asked for, and
 * no new tag lies before the virtual time, which grows with every admission. Priority is a head
 * start: it moves a tag by PRIORITY_TOKENS a level. Since virtual time passes every fixed tag,
 * nothing starves.
 *
 * Progress. When blocks run out, the last sequence in tag order (paused ones before all others) is
 * preempted: its blocks go back, full ones stay in the prefix tree while they can, and it waits to
 * be recomputed. The first running sequence is never preempted, and admission has checked that it
 * fits the cache alone. */
#ifndef ENGINE_SCHEDULER_H
#define ENGINE_SCHEDULER_H

#include "engine/prefix_tree.h"
#include "engine/sequence_heap.h"
#include "engine/tenants.h"

#define SCHEDULER_PRIORITY_MAX 10
/* Rows that prompts always get in a step, so that decoding cannot starve them either. */
#define SCHEDULER_PREFILL_ROWS_MIN 16u

enum sequence_state {
    SEQUENCE_NEW,     /* unknown to the scheduler */
    SEQUENCE_WAITING, /* in the queue, holds no blocks */
    SEQUENCE_PARKED,  /* preempted while paused: not even in the queue */
    SEQUENCE_RUNNING  /* holds a slot and blocks */
};

/* What a sequence is computed for. */
enum sequence_output {
    SEQUENCE_LOGITS, /* of its last known token, again and again */
    SEQUENCE_LAST,   /* the hidden state of its last token, once */
    SEQUENCE_ALL     /* hidden states of all tokens: nothing of it is taken from the prefix tree */
};

/* One answer in the making. The owner fills in the first part before scheduler_add and appends to
 * `tokens`; the scheduler owns the rest. */
struct sequence {
    const uint32_t *tokens; /* [known] prompt and answer so far; the array has room for more */
    uint32_t known; /* the newest token itself may still be on its way: it is read when its row is
                       launched, and when later positions have been computed */
    uint32_t prompt_count;
    uint32_t token_max; /* `known` never exceeds it */
    int32_t priority;   /* -SCHEDULER_PRIORITY_MAX … SCHEDULER_PRIORITY_MAX */
    struct text_view tenant;
    struct text_view salt;
    uint32_t adapter;
    uint64_t deadline_ns; /* 0: none */
    enum sequence_output output;

    enum sequence_state state;
    bool paused;
    bool frozen;        /* the owner's: no row before its newest token is known */
    bool started;       /* has been admitted once */
    bool want_logits;   /* in the plan of this step: its last known token gives logits */
    uint32_t plan_rows; /* rows in the plan of this step */
    uint32_t computed;  /* positions whose keys and values are in the cache */
    uint32_t slot;      /* row of the block tables, while running */
    uint32_t block_count;
    uint32_t inserted; /* full blocks that are in the prefix tree */
    uint32_t cached;   /* prompt positions found in the prefix tree at first admission */
    uint32_t preemptions;
    uint64_t id;
    int64_t tag;
    uint32_t cost; /* tokens charged to the tenant on arrival */
    uint32_t tenant_index;
    uint32_t domain;
    uint32_t wait_index;     /* in the heap of waiting ones */
    uint32_t deadline_index; /* in the heap of deadlines */
    uint32_t run_index;      /* in the running list */
};

struct scheduler_options {
    uint32_t block_count;
    uint32_t running_max;  /* slots */
    uint32_t rows_max;     /* of a step; ≥ running_max + SCHEDULER_PREFILL_ROWS_MIN */
    uint32_t sequence_max; /* waiting and running together */
    uint32_t context_max;  /* token_max never exceeds it */
    double throughput_bias; /* 0 … 1: share of the rows left over that prompts may fill while others
                               decode */
    bool prefix_cache;
};

/* One step, in the order of rows. All arrays belong to the scheduler. */
struct step_plan {
    struct sequence **sequences; /* [sequence_count] each with plan_rows and want_logits */
    uint32_t sequence_count;
    uint32_t row_count;
    uint32_t logits_count;
    uint32_t *copy_from, *copy_to; /* [copy_count] blocks to copy before the step, in this order */
    uint32_t copy_count;
};

struct scheduler {
    struct scheduler_options options;
    struct kv_pool pool;
    struct prefix_tree tree;
    uint32_t *tables; /* [running_max, table_stride] blocks of each slot */
    uint32_t table_stride;
    uint32_t *free_slots;
    uint32_t free_slot_count;
    struct sequence **running; /* in tag order */
    uint32_t running_count;
    uint32_t paused_count; /* among the running */
    uint32_t parked_count;
    struct heap waiting;
    struct heap deadlines;
    struct step_plan plan;
    struct tenant_table tenants;
    int64_t virtual_time; /* in 1/16 tokens */
    uint64_t next_id;
    uint64_t blocked_id;    /* the head of the queue did not fit … */
    uint32_t blocked_needs; /* … and is not tried again below so many available blocks */
    uint64_t preemptions;
    uint64_t lookup_tokens, hit_tokens; /* of the prefix tree */
    uint64_t copied_blocks;
};

/* Errors: INVALID_ARGUMENT, LIMIT, OUT_OF_MEMORY. */
llcuda_status scheduler_init(struct scheduler *scheduler, const struct scheduler_options *options,
                             struct llcuda_error *error);
/* No sequence may be left. */
void scheduler_deinit(struct scheduler *scheduler);

/* True when a sequence of so many tokens can ever run here. */
bool scheduler_fits(const struct scheduler *scheduler, uint32_t token_max);

/* Queues a new sequence. The caller keeps sequence_max and scheduler_fits. Its `tokens` may hold an
 * answer's beginning already (a choice that could not be forked). */
void scheduler_add(struct scheduler *scheduler, struct sequence *sequence);

/* Starts `sequence` as a running copy of `from`, sharing all its blocks; its tokens begin with the
 * computed ones of `from`, and it gets a token more before the next plan. False when there is no
 * slot: scheduler_add it then. */
bool scheduler_fork(struct scheduler *scheduler, const struct sequence *from,
                    struct sequence *sequence);

/* Takes a sequence out, in whatever state. Rows of a planned step that were not committed leave no
 * trace in the prefix tree. */
void scheduler_remove(struct scheduler *scheduler, struct sequence *sequence);

/* A paused sequence keeps its place but gets no rows, and is the first to lose its blocks. */
void scheduler_pause(struct scheduler *scheduler, struct sequence *sequence, bool paused);

/* Plans the next step: decode rows of every running sequence first, then prompts in tag order under
 * the budget, admitting from the queue while there is room. row_count is 0 when there is nothing to
 * do. The plan is valid until the next call of any function here. */
const struct step_plan *scheduler_plan(struct scheduler *scheduler);

/* The planned rows of a sequence are on their way: they count as computed, full blocks go into the
 * prefix tree. Whatever is planned afterwards runs after them. */
void scheduler_commit(struct scheduler *scheduler, struct sequence *sequence);

/* Nothing in the cache can be believed any more: whoever runs is preempted, the prefix tree forgets
 * everything, and a plan that was made is void. */
void scheduler_forget_cache(struct scheduler *scheduler);

/* The next sequence whose deadline is not after `now_ns`, or NULL. */
struct sequence *scheduler_expired(const struct scheduler *scheduler, uint64_t now_ns);

/* The nearest deadline, 0 when there is none. */
uint64_t scheduler_next_deadline_ns(const struct scheduler *scheduler);

static inline uint32_t scheduler_sequence_count(const struct scheduler *scheduler)
{
    return scheduler->waiting.count + scheduler->running_count + scheduler->parked_count;
}

/* True when all invariants hold; for tests. */
bool scheduler_valid(const struct scheduler *scheduler);

#endif
