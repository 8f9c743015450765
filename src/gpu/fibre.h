/* Light fibres: a stack and a saved stack pointer, switched by a few instructions of assembly
 * (fibre_switch.c). One thread owns a set of fibres: a home, which is the thread itself, and others
 * whose stacks lie in one region. The thread sanitizer is told about every switch. */
#ifndef GPU_FIBRE_H
#define GPU_FIBRE_H

#include <stdbool.h>
#include <stddef.h>

/* The memory of all stacks of a set of fibres. */
struct fibre_region {
    const char *start;
    size_t bytes;
};

struct fibre {
    void *stack_pointer; /* of a fibre that does not run */
    char *stack;         /* lowest usable byte; NULL of a home */
    size_t stack_bytes;
    struct fibre_region region; /* a home's is the stack of its thread */
    void *fake_stack; /* of the address sanitizer: a home's, and that of the others of its set */
    void *fake_stack_of_set;
    struct fibre *switched_from;
    void *tsan; /* of the thread sanitizer */
    void (*run)(void *user);
    void *user;
};

/* What fibre_switch_stacks keeps on a stack: words of one frame, and where the return address lies.
 * x86-64: rbp rbx r12 r13 r14 r15, return, and one word of alignment; aarch64: x19 … x30, d8 … d15.
 */
#if defined(__x86_64__)
#define FIBRE_FRAME_WORDS  8
#define FIBRE_FRAME_RETURN 6
#elif defined(__aarch64__)
#define FIBRE_FRAME_WORDS  20
#define FIBRE_FRAME_RETURN 11
#else
#error "fibres are written for x86-64 and aarch64"
#endif

/* Saves the callee-saved registers and the stack pointer in *save, and goes on with those that
 * `load` points at. Returns when somebody switches back. A fibre's first frame gets the arguments
 * of the switch that starts it. */
void fibre_switch_stacks(void **save, void *load, struct fibre *to, struct fibre *from);

/* A fibre made of the calling thread itself: what a set of fibres returns to. */
void fibre_init_home(struct fibre *home);
void fibre_deinit_home(struct fibre *home);

/* A fibre on `stack`, which lies in `region` like those of all fibres that it switches to and that
 * are no home; the first switch to it calls run(user), which must never return. */
void fibre_init(struct fibre *fibre, const struct fibre_region *region, char *stack,
                size_t stack_bytes, void (*run)(void *user), void *user);
void fibre_deinit(struct fibre *fibre);
/* Forgets what the fibre was doing: its next switch starts run(user) anew. */
void fibre_restart(struct fibre *fibre);

/* From `from`, which runs, to `to`. */
void fibre_switch(struct fibre *from, struct fibre *to);

#endif
