/* Owns what surrounds a switch of stacks: the first frame of a new fibre, and what the sanitizers
 * must hear. Invariant: exactly one fibre of a set runs. A fibre that is restarted leaves frames
 * behind that never return, so their red zones are wiped. It must not know what fibres are for. */
#include <stdint.h>
#include <string.h>

#include "gpu/fibre.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBRE_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define FIBRE_TSAN 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define FIBRE_ASAN 1
#endif
#ifdef __SANITIZE_THREAD__
#define FIBRE_TSAN 1
#endif

#ifdef FIBRE_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef FIBRE_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#ifdef FIBRE_ASAN
/* The address sanitizer takes all stacks of a set for one large one, and hears only that the thread
 * goes there and comes back: what it keeps of a stack's bounds is for functions that never return,
 * of which fibres call none. Telling it of every switch was a sixth of the time of tests. Whatever
 * false stack it keeps for the set is at the set's home. */
static void leave(struct fibre *from, struct fibre *to)
{
    to->switched_from = from;
    if (!from->stack) {
        __sanitizer_start_switch_fiber(&from->fake_stack, to->region.start, to->region.bytes);
    } else if (!to->stack) {
        __sanitizer_start_switch_fiber(&to->fake_stack_of_set, to->region.start, to->region.bytes);
    }
}

static void arrive(struct fibre *self)
{
    struct fibre *from = self->switched_from;
    if (!self->stack) {
        __sanitizer_finish_switch_fiber(self->fake_stack, NULL, NULL);
    } else if (!from->stack) {
        const void *bottom;
        __sanitizer_finish_switch_fiber(from->fake_stack_of_set, &bottom, &from->region.bytes);
        from->region.start = bottom;
    }
}
#else
static void leave(struct fibre *from, struct fibre *to)
{
    (void)from;
    (void)to;
}

static void arrive(struct fibre *self)
{
    (void)self;
}
#endif

/* Entered by the switch, with its arguments. */
static void first_frame(void **save, void *load, struct fibre *self, struct fibre *from)
{
    (void)save;
    (void)load;
    (void)from;
    arrive(self);
    self->run(self->user);
    __builtin_trap(); /* run() never returns */
}

void fibre_init_home(struct fibre *home)
{
    *home = (struct fibre){0};
#ifdef FIBRE_TSAN
    home->tsan = __tsan_get_current_fiber();
#endif
}

void fibre_deinit_home(struct fibre *home)
{
    *home = (struct fibre){0};
}

void fibre_restart(struct fibre *fibre)
{
#ifdef FIBRE_ASAN
    __asan_unpoison_memory_region(fibre->stack, fibre->stack_bytes);
#endif
    /* The layout that fibre_switch_stacks restores: see fibre_switch.c. All registers zero, the
     * return address last, and a stack aligned as after a call. */
    uintptr_t *top = (uintptr_t *)(void *)(fibre->stack + fibre->stack_bytes);
    memset(top - FIBRE_FRAME_WORDS, 0, FIBRE_FRAME_WORDS * sizeof *top);
    top[-FIBRE_FRAME_WORDS + FIBRE_FRAME_RETURN] = (uintptr_t)first_frame;
    fibre->stack_pointer = top - FIBRE_FRAME_WORDS;
}

void fibre_init(struct fibre *fibre, const struct fibre_region *region, char *stack,
                size_t stack_bytes, void (*run)(void *user), void *user)
{
    *fibre = (struct fibre){
        .stack = stack, .stack_bytes = stack_bytes, .region = *region, .run = run, .user = user};
#ifdef FIBRE_TSAN
    fibre->tsan = __tsan_create_fiber(0);
#endif
    fibre_restart(fibre);
}

void fibre_deinit(struct fibre *fibre)
{
#ifdef FIBRE_TSAN
    if (fibre->tsan) {
        __tsan_destroy_fiber(fibre->tsan);
    }
#endif
#ifdef FIBRE_ASAN
    if (fibre->stack) {
        __asan_unpoison_memory_region(fibre->stack, fibre->stack_bytes);
    }
#endif
    *fibre = (struct fibre){0};
}

void fibre_switch(struct fibre *from, struct fibre *to)
{
    leave(from, to);
#ifdef FIBRE_TSAN
    __tsan_switch_to_fiber(to->tsan, 0);
#endif
    fibre_switch_stacks(&from->stack_pointer, to->stack_pointer, to, from);
    arrive(from);
}
