/* Owns the questions to hwloc: cores, nodes of memory, kinds of cores. Stateless. */
#include <hwloc.h>

#include "cpu/topology_places.h"

/* Rank of the kind of core that a CPU has, 0 … ; 0 when all are of one kind. */
static uint32_t kind_of(hwloc_topology_t topology, uint32_t cpu)
{
    uint32_t kind = 0;
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    if (set && hwloc_bitmap_set(set, cpu) == 0) {
        /* Kinds are sorted by efficiency, the fastest last; −1: the machine does not say. */
        int index = hwloc_cpukinds_get_by_cpuset(topology, set, 0);
        int efficiency = -1;
        if (index >= 0 && hwloc_cpukinds_get_info(topology, (unsigned)index, NULL, &efficiency,
                                                  NULL, NULL, 0) == 0) {
            kind = efficiency > 0 ? (uint32_t)efficiency : 0;
        }
    }
    hwloc_bitmap_free(set);
    return kind;
}

static uint32_t read_places(hwloc_topology_t topology, struct topology_place *places)
{
    uint32_t count = 0;
    hwloc_obj_t unit = NULL;
    while (count < LIMIT_THREADS &&
           (unit = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_PU, unit)) != NULL) {
        hwloc_obj_t core = hwloc_get_ancestor_obj_by_type(topology, HWLOC_OBJ_CORE, unit);
        int node = unit->nodeset ? hwloc_bitmap_first(unit->nodeset) : 0;
        places[count++] = (struct topology_place){
            .cpu = unit->os_index,
            .core = core ? core->logical_index : unit->logical_index,
            .node = node < 0 ? 0 : (uint32_t)node,
            .kind = kind_of(topology, unit->os_index),
        };
    }
    return count;
}

uint32_t topology_hwloc_read(const char *synthetic, struct topology_place *places)
{
    hwloc_topology_t topology;
    uint32_t count = 0;
    if (hwloc_topology_init(&topology) != 0) {
        return 0;
    }
    /* Of no interest, and takes time to find. Packages and groups stay: nodes hang on them. */
    hwloc_topology_set_cache_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE);
    hwloc_topology_set_icache_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE);
    if ((!synthetic || hwloc_topology_set_synthetic(topology, synthetic) == 0) &&
        hwloc_topology_load(topology) == 0) {
        count = read_places(topology, places);
    }
    hwloc_topology_destroy(topology);
    return count;
}
