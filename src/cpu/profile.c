/* Owns the table of what steps took. One thread: the one that steps. */
#include "cpu/profile.h"

#include <string.h>

#include "cpu/model.h"

static const char *const names[CPU_WORK_COUNT] = {
#define CPU_WORK_NAME(id, name) [CPU_WORK_##id] = name,
    CPU_WORK_LIST(CPU_WORK_NAME)
#undef CPU_WORK_NAME
};

void cpu_profile_add(struct cpu_profile *profile, enum cpu_work work, enum dtype dtype,
                     uint64_t began, struct cpu_work_cost cost)
{
    if (profile->on) {
        struct device_profile_row *row = &profile->rows[work][dtype];
        row->ns += clock_now_ns() - began;
        row->count++;
        row->bytes += cost.bytes;
        row->operations += cost.operations;
    }
}

struct device_profile_row *cpu_profile_row(struct cpu_profile *profile, enum cpu_work work,
                                           enum dtype dtype)
{
    return &profile->rows[work][dtype];
}

uint32_t cpu_model_profile(struct device_model *base, struct device_profile_row *rows,
                           uint32_t capacity)
{
    struct cpu_profile *profile = &((struct cpu_model *)base)->profile;
    uint32_t count = 0;
    for (int work = 0; work < CPU_WORK_COUNT; work++) {
        for (int dtype = 0; dtype < DTYPE_COUNT; dtype++) {
            struct device_profile_row *row = &profile->rows[work][dtype];
            if (row->count && count < capacity) {
                rows[count] = *row;
                rows[count].operation = names[work];
                rows[count].has_dtype = true;
                rows[count].dtype = (enum dtype)dtype;
                count++;
            }
        }
    }
    memset(profile->rows, 0, sizeof profile->rows);
    profile->on = true;
    return count;
}
