/* Owns the calls to the system's memory manager. Stateless. Regions of 2 MB and more are aligned to
 * 2 MB and ask for huge pages; smaller ones would only waste them. */
#include "cpu/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/checked.h"

#define HUGE_PAGE (2ull << 20)

bool region_map(struct region *region, uint64_t bytes)
{
    *region = (struct region){.bytes = bytes};
    if (bytes == 0) {
        return true;
    }
    uint64_t slack = bytes >= HUGE_PAGE ? HUGE_PAGE : 0;
    uint64_t map_bytes;
    if (!checked_add_u64(bytes, slack, &map_bytes) || map_bytes > SIZE_MAX / 2) {
        return false;
    }
    void *map = mmap(NULL, map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) {
        return false;
    }
    uint64_t address = (uint64_t)(uintptr_t)map;
    uint64_t skip = slack ? (HUGE_PAGE - address % HUGE_PAGE) % HUGE_PAGE : 0;
    region->map = map;
    region->map_bytes = map_bytes;
    region->data = (unsigned char *)map + skip;
#if defined(MADV_HUGEPAGE)
    if (slack) {
        /* Only whole huge pages: the tail stays on small ones and costs what it holds. A refusal
         * costs speed only. */
        (void)madvise(region->data, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
    }
#endif
    return true;
}

void region_unmap(struct region *region)
{
    if (region->map) {
        munmap(region->map, region->map_bytes);
    }
    *region = (struct region){0};
}

uint64_t memory_total_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES);
    long page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
}

uint64_t memory_free_bytes(void)
{
    FILE *stream = fopen("/proc/meminfo", "re");
    if (!stream) {
        return 0;
    }
    uint64_t kilobytes = 0;
    char line[128];
    while (fgets(line, sizeof line, stream)) {
        if (sscanf(line, "MemAvailable: %" SCNu64, &kilobytes) == 1) {
            break;
        }
    }
    fclose(stream);
    return kilobytes * 1024;
}
