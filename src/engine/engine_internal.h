/* What the files of the core share: engine_core.c (beginnings and ends), engine_emit.c (a token's
 * way out), engine_step.c (steps). */
#ifndef ENGINE_ENGINE_INTERNAL_H
#define ENGINE_ENGINE_INTERNAL_H

#include <stddef.h>

#include "base/clock.h"
#include "engine/engine_core.h"

static inline uint64_t core_now_ns(const struct engine_core *core)
{
    return core->options.clock_ns ? core->options.clock_ns(core->options.clock_user)
                                  : clock_now_ns();
}

static inline struct choice *choice_of(struct sequence *sequence)
{
    return (struct choice *)((char *)sequence - offsetof(struct choice, sequence));
}

/* Ends one choice with the text in core->text (which passed the stop strings already). */
void core_finish_choice(struct engine_core *core, struct choice *choice,
                        llcuda_finish_reason reason, int32_t stop_index);

/* Ends what is left of a request as failed; nothing when it has ended. */
void core_fail_request(struct engine_core *core, llcuda_request *request, llcuda_status status,
                       const char *message);

/* Ends requests whose time is over. */
void core_end_overdue(struct engine_core *core, uint64_t now);

/* Pauses or resumes a request by the room that its reader has left. */
void core_update_pause(struct engine_core *core, llcuda_request *request);

/* Lets go of requests that ended and that no step knows any more. */
void core_bury(struct engine_core *core);

/* Shows the counters to other threads. */
void core_publish_stats(struct engine_core *core);

/* Waits for a step that is still running and forgets it: nothing that it knows may be used then. */
void core_abandon_step(struct engine_core *core);

/* A token that tokens[at] holds: text, event, and perhaps the end. `logprob` may be NULL. */
void core_emit_token(struct engine_core *core, struct choice *choice, uint32_t at,
                     const llcuda_token_logprob *logprob, uint64_t now);

/* True when this token ends an answer of the request. */
bool core_is_end_token(const llcuda_request *request, uint32_t token);

#endif
