/* Owns the engine thread: mail, step, mail, step; sleep when there is nothing to do.
 *
 * Between the thread and those who want it asleep or awake: they set `wanted` and wait; the thread
 * goes to sleep when nothing runs or waits any more, gives the device back by forgetting it, and
 * says so in `actual`. Only then may the caller touch the device. */
#include <string.h>

#include "base/clock.h"
#include "engine/engine.h"

static void reach(struct llcuda_engine *engine, enum engine_state state)
{
    atomic_store(&engine->actual, state);
    wakeup_signal(&engine->reached);
}

/* Follows the wish where that is possible now; true when the state has changed, and with it perhaps
 * what there is to do. */
static bool follow(struct llcuda_engine *engine, uint32_t wanted)
{
    uint32_t actual = atomic_load(&engine->actual);
    struct engine_core *core = &engine->core;
    if (wanted == ENGINE_ASLEEP && actual == ENGINE_AWAKE) {
        core_hold(core, true);
        if (core_sequence_count(core) == 0 && !core->flying) {
            core_set_device(core, NULL);
            reach(engine, ENGINE_ASLEEP);
            return true;
        }
    } else if (wanted == ENGINE_AWAKE && actual == ENGINE_ASLEEP) {
        core_set_device(core, engine->model.device_model);
        core_hold(core, false);
        reach(engine, ENGINE_AWAKE);
        return true;
    }
    return false;
}

/* Sleeps until mail, another wish than the one that was followed, or a deadline comes. */
static void wait_for_news(struct llcuda_engine *engine, uint32_t wanted)
{
    struct mailbox *mailbox = engine->mailbox;
    wakeup_prepare(&mailbox->wakeup);
    if (!mailbox_empty(mailbox) || atomic_load(&engine->wanted) != wanted) {
        wakeup_cancel(&mailbox->wakeup);
        return;
    }
    uint64_t deadline = core_next_deadline_ns(&engine->core);
    wakeup_sleep(&mailbox->wakeup, deadline ? deadline : WAKEUP_FOREVER);
}

/* Steps shorter than this share a round: waking a thread costs some 20 us of processor, here and
 * there, which a token of a small model does not take to compute. */
#define ROUND_NS 500000u

/* Lets the program wake its readers, `at_once` before a sleep or before a step that may be long. */
static void end_round(struct llcuda_engine *engine, bool at_once)
{
    if (!engine->core.readers_called || !engine->options.on_round) {
        return;
    }
    uint64_t now_ns = clock_now_ns();
    if (at_once || now_ns - engine->round_ns >= ROUND_NS) {
        engine->core.readers_called = false;
        engine->round_ns = now_ns;
        engine->options.on_round(engine->options.on_round_user);
    }
}

static void *run(void *argument)
{
    struct llcuda_engine *engine = argument;
    struct engine_core *core = &engine->core;
    uint32_t wanted;
    while ((wanted = atomic_load(&engine->wanted)) != ENGINE_STOPPED) {
        core_take_mail(core);
        end_round(engine, core->scheduler.waiting.count > 0);
        bool changed = follow(engine, wanted);
        bool worked = core_step(core);
        end_round(engine, !worked);
        if (!worked && !changed) {
            wait_for_news(engine, wanted);
        }
    }
    core_take_mail(core);
    core_end_all(core, LLCUDA_CANCELLED, "the engine was closed");
    end_round(engine, true);
    reach(engine, ENGINE_STOPPED);
    return NULL;
}

llcuda_status engine_thread_start(struct llcuda_engine *engine, struct llcuda_error *error)
{
    bool asleep = engine->options.asleep;
    atomic_store(&engine->wanted, asleep ? ENGINE_ASLEEP : ENGINE_AWAKE);
    atomic_store(&engine->actual, asleep ? ENGINE_ASLEEP : ENGINE_AWAKE);
    core_hold(&engine->core, asleep);
    int failure = pthread_create(&engine->thread, NULL, run, engine);
    if (failure != 0) {
        return error_from_errno(error, failure, "start", "the engine thread");
    }
    engine->thread_started = true;
    return LLCUDA_OK;
}

void engine_thread_become(struct llcuda_engine *engine, enum engine_state state)
{
    atomic_store(&engine->wanted, state);
    wakeup_signal(&engine->mailbox->wakeup);
    while (atomic_load(&engine->actual) != (uint32_t)state) {
        wakeup_prepare(&engine->reached);
        if (atomic_load(&engine->actual) == (uint32_t)state) {
            wakeup_cancel(&engine->reached);
            break;
        }
        wakeup_sleep(&engine->reached, WAKEUP_FOREVER);
    }
}

void engine_thread_stop(struct llcuda_engine *engine)
{
    if (!engine->thread_started) {
        return;
    }
    engine_thread_become(engine, ENGINE_STOPPED);
    pthread_join(engine->thread, NULL);
    engine->thread_started = false;
}
