/* Where the time of steps goes, by kind of work and type of weight: behind device_profile. Times
 * are taken by the thread that runs the step, around its parallel loops; while profiling is off a
 * stage pays one comparison. */
#ifndef CPU_PROFILE_H
#define CPU_PROFILE_H

#include "base/clock.h"
#include "device/device.h"

/* X(id, name) */
#define CPU_WORK_LIST(X)       \
    X(ANGLES, "angles")        \
    X(EMBED, "embed")          \
    X(NORM, "norm")            \
    X(PREPARE, "activations")  \
    X(QKV, "qkv")              \
    X(ROTARY, "rotary, cache") \
    X(ATTENTION, "attention")  \
    X(PROJECT, "project")      \
    X(GATE_UP, "gate, up")     \
    X(DOWN, "down")            \
    X(ROUTER, "router")        \
    X(EXPERTS, "experts")      \
    X(LOGITS, "logits")

enum cpu_work {
#define CPU_WORK_ENUM(id, name) CPU_WORK_##id,
    CPU_WORK_LIST(CPU_WORK_ENUM)
#undef CPU_WORK_ENUM
        CPU_WORK_COUNT
};

struct cpu_profile {
    bool on;
    struct device_profile_row rows[CPU_WORK_COUNT][DTYPE_COUNT]; /* [kind][type] */
};

/* The time now, or 0 while profiling is off. */
static inline uint64_t cpu_profile_now(const struct cpu_profile *profile)
{
    return profile->on ? clock_now_ns() : 0;
}

/* Memory that a piece of work reads and writes, and its floating-point operations: a function of a
 * number counts as one, a multiply-add as two. */
struct cpu_work_cost {
    uint64_t bytes, operations;
};

/* Adds what has passed since `began` (from cpu_profile_now) to work on a type. */
void cpu_profile_add(struct cpu_profile *profile, enum cpu_work work, enum dtype dtype,
                     uint64_t began, struct cpu_work_cost cost);

/* The row of work with weights of a type, for the caller to add to. */
struct device_profile_row *cpu_profile_row(struct cpu_profile *profile, enum cpu_work work,
                                           enum dtype dtype);

/* device_profile. */
uint32_t cpu_model_profile(struct device_model *model, struct device_profile_row *rows,
                           uint32_t capacity);

#endif
