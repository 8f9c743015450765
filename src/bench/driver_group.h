/* Several engines of one kind that share a load, one a device, as one driver. One thread. */
#ifndef BENCH_DRIVER_GROUP_H
#define BENCH_DRIVER_GROUP_H

#include "bench/driver_adapter.h"

#define GROUP_MEMBERS_MAX 16u

struct driver_group {
    struct driver driver; /* first: a driver is cast back */
    struct adapter *members[GROUP_MEMBERS_MAX];
    uint32_t in_flight[GROUP_MEMBERS_MAX];
    uint32_t count;
    uint32_t turn; /* who has been served last, events in turns */
};

/* Over `count` adapters of the caller's (1 … GROUP_MEMBERS_MAX) that have been started. */
void driver_group_init(struct driver_group *group, struct adapter *members, uint32_t count);

#endif
