/* The engine behind the public handle: a model, the core, and the thread that drives it. */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <pthread.h>

#include "engine/engine_core.h"
#include "engine/loaded_model.h"
#include "engine/sizing.h"

/* What the engine thread is asked to be, and what it is. */
enum engine_state { ENGINE_AWAKE, ENGINE_ASLEEP, ENGINE_STOPPED };

struct llcuda_engine {
    struct arena arena;            /* copies of the options' texts, info's texts */
    llcuda_engine_options options; /* complete */
    struct loaded_model model;
    struct sizing sizing;
    struct mailbox *mailbox;
    struct engine_core core; /* the engine thread's */
    bool core_made;
    struct request_setup setup;
    llcuda_engine_info info;

    pthread_t thread;
    bool thread_started;
    uint64_t round_ns;       /* of the last call of on_round; the thread's */
    pthread_mutex_t control; /* one of sleep, wake, close at a time */
    _Atomic uint32_t wanted; /* enum engine_state */
    _Atomic uint32_t actual;
    struct wakeup reached; /* of whoever waits for actual == wanted */

    _Atomic uint64_t rejected;
    _Atomic uint64_t memory_bytes; /* of the device model; 0 while asleep */
    _Atomic uint64_t memory_kind_bytes[DEVICE_MEMORY_KIND_COUNT]; /* of these */
    _Atomic uint64_t memory_limit_bytes;                          /* 0: none */
};

/* Starts the thread, awake or asleep as the options say. */
llcuda_status engine_thread_start(struct llcuda_engine *engine, struct llcuda_error *error);
/* Asks for a state and waits until the thread is there. */
void engine_thread_become(struct llcuda_engine *engine, enum engine_state state);
/* Ends every request and joins. */
void engine_thread_stop(struct llcuda_engine *engine);

/* Weights and cache: load, or give back. The engine thread must be asleep or not there. */
llcuda_status engine_load_weights(struct llcuda_engine *engine, struct llcuda_error *error);
void engine_drop_weights(struct llcuda_engine *engine);

/* Fills in engine->info. */
llcuda_status engine_make_info(struct llcuda_engine *engine, double load_ms,
                               struct llcuda_error *error);

#endif
