/* Where CPUs lie: the answer of the topology library, or of the system's files. */
#ifndef CPU_TOPOLOGY_PLACES_H
#define CPU_TOPOLOGY_PLACES_H

#include "cpu/topology.h"

struct topology_place {
    uint32_t cpu;  /* as the system numbers it */
    uint32_t core; /* the same for CPUs that share a core */
    uint32_t node; /* of memory */
    uint32_t kind; /* of core: the higher, the faster */
};

/* Asks hwloc for all CPUs of this machine, or of the one that `synthetic` describes in hwloc's
 * words (NULL: this one). Writes at most LIMIT_THREADS places; 0 when there is no hwloc in this
 * build or no answer. topology_hwloc.c, topology_no_hwloc.c */
uint32_t topology_hwloc_read(const char *synthetic, struct topology_place *places);

/* Puts CPUs in the order in which threads should take them: one a core, the fastest cores first,
 * node by node; then their siblings in the same order. Fills in the counts. At least one place. */
void topology_order(struct topology *topology, const struct topology_place *places, uint32_t count);

#endif
