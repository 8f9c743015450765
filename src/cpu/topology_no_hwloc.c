/* Builds without hwloc: memory is taken for one node and cores for equal. */
#include "cpu/topology_places.h"

uint32_t topology_hwloc_read(const char *synthetic, struct topology_place *places)
{
    (void)synthetic;
    (void)places;
    return 0;
}
