/* Large memory of a model: mapped pages, zeroed, on 2 MB pages where the system can, so that a
 * stream through gigabytes of weights does not wait for the page walker. */
#ifndef CPU_MEMORY_H
#define CPU_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

struct region {
    void *data;     /* 64-byte aligned, zeroed; NULL when bytes is 0 */
    uint64_t bytes; /* as asked for */
    void *map;      /* what the system gave */
    uint64_t map_bytes;
};

/* Maps a region; false without memory. The pages cost memory when they are first written. */
bool region_map(struct region *region, uint64_t bytes);
/* A zeroed region is fine. */
void region_unmap(struct region *region);

/* Physical memory and how much of it could be had now; 0 when unknown. */
uint64_t memory_total_bytes(void);
uint64_t memory_free_bytes(void);

#endif
