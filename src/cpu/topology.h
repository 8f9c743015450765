/* Which CPUs this process may use. */
#ifndef CPU_TOPOLOGY_H
#define CPU_TOPOLOGY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"

struct topology {
    uint32_t cpu_count;           /* CPUs in the affinity mask, at least 1 */
    uint32_t core_count;          /* physical cores among them, at least 1 */
    uint32_t fast_core_count;     /* of the fastest kind among these */
    uint32_t node_count;          /* of memory that they belong to */
    uint32_t quota;               /* CPUs that the control group pays for; 0: no limit */
    uint32_t cpus[LIMIT_THREADS]; /* one a physical core first, the fastest before the others,
                                     node by node; then their siblings */
};

void topology_read(struct topology *topology);

/* Threads worth starting: one a core of the fastest kind, for slow ones would be waited for, and no
 * more than the quota. */
uint32_t topology_thread_count(const struct topology *topology);

/* The text of cgroup v2's cpu.max, "200000 100000" or "max 100000", as whole CPUs, rounded up;
 * 0 for no limit or for text that is not of this form. */
uint32_t topology_quota_parse(const char *text);

#endif
