/* Owns the questions to Linux about CPUs (affinity mask, control group, and without hwloc cores and
 * their siblings), and the order in which threads take them. Everything may be missing (another
 * system, a container without /sys): the answer is then one thread a CPU. Stateless. */
#include "cpu/topology_places.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool read_line(const char *path, char *line, int bytes)
{
    FILE *stream = fopen(path, "re");
    if (!stream) {
        return false;
    }
    bool read = fgets(line, bytes, stream) != NULL;
    fclose(stream);
    return read;
}

uint32_t topology_quota_parse(const char *text)
{
    uint64_t quota;
    uint64_t period;
    if (sscanf(text, "%" SCNu64 " %" SCNu64, &quota, &period) != 2 || period == 0 || quota == 0 ||
        quota > UINT64_MAX - period) {
        return 0;
    }
    uint64_t cpus = (quota + period - 1) / period;
    return cpus > LIMIT_THREADS ? LIMIT_THREADS : (uint32_t)cpus;
}

/* The tightest limit on the way from the process's own group to the root. */
static uint32_t read_quota(void)
{
    char line[512];
    char path[640];
    char group[512] = "/";
    FILE *stream = fopen("/proc/self/cgroup", "re");
    while (stream && fgets(line, sizeof line, stream)) {
        if (strncmp(line, "0::/", 4) == 0) {
            line[strcspn(line, "\n")] = '\0';
            memcpy(group, line + 3, strlen(line + 3) + 1);
        }
    }
    if (stream) {
        fclose(stream);
    }
    uint32_t tightest = 0;
    for (;;) {
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", group[1] ? group : "");
        uint32_t quota = read_line(path, line, sizeof line) ? topology_quota_parse(line) : 0;
        if (quota && (tightest == 0 || quota < tightest)) {
            tightest = quota;
        }
        char *slash = strrchr(group, '/');
        if (!slash || group[1] == '\0') {
            return tightest;
        }
        slash[slash == group ? 1 : 0] = '\0';
    }
}

/* The first CPU of the core that `cpu` belongs to; `cpu` itself when unknown. */
static uint32_t first_sibling(uint32_t cpu)
{
    char path[128];
    char line[256];
    uint32_t first;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list", cpu);
    return read_line(path, line, sizeof line) && sscanf(line, "%" SCNu32, &first) == 1 ? first
                                                                                       : cpu;
}

static void read_mask(struct topology *topology)
{
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        for (uint32_t cpu = 0; cpu < CPU_SETSIZE && topology->cpu_count < LIMIT_THREADS; cpu++) {
            if (CPU_ISSET(cpu, &set)) {
                topology->cpus[topology->cpu_count++] = cpu;
            }
        }
    }
#endif
    if (topology->cpu_count == 0) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        uint32_t count = online < 1 ? 1 : online > LIMIT_THREADS ? LIMIT_THREADS : (uint32_t)online;
        for (uint32_t cpu = 0; cpu < count; cpu++) {
            topology->cpus[topology->cpu_count++] = cpu;
        }
    }
}

/* Whether `a` should be taken before `b`. */
static bool comes_before(const struct topology_place *a, const struct topology_place *b)
{
    if (a->kind != b->kind) {
        return a->kind > b->kind;
    }
    return a->node != b->node ? a->node < b->node : a->cpu < b->cpu;
}

/* Places in order, by insertion: there are few, once. */
static void sort_places(struct topology_place *places, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        struct topology_place place = places[i];
        uint32_t at = i;
        for (; at > 0 && comes_before(&place, &places[at - 1]); at--) {
            places[at] = places[at - 1];
        }
        places[at] = place;
    }
}

static bool is_among(const uint32_t *values, uint32_t count, uint32_t value)
{
    for (uint32_t i = 0; i < count; i++) {
        if (values[i] == value) {
            return true;
        }
    }
    return false;
}

void topology_order(struct topology *topology, const struct topology_place *places, uint32_t count)
{
    struct topology_place sorted[LIMIT_THREADS];
    uint32_t siblings[LIMIT_THREADS];
    uint32_t cores[LIMIT_THREADS]; /* found so far; likewise nodes */
    uint32_t nodes[LIMIT_THREADS];
    uint32_t sibling_count = 0;
    memcpy(sorted, places, count * sizeof *places);
    sort_places(sorted, count);
    topology->cpu_count = count;
    topology->core_count = topology->fast_core_count = topology->node_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!is_among(nodes, topology->node_count, sorted[i].node)) {
            nodes[topology->node_count++] = sorted[i].node;
        }
        if (is_among(cores, topology->core_count, sorted[i].core)) {
            siblings[sibling_count++] = sorted[i].cpu;
            continue;
        }
        cores[topology->core_count] = sorted[i].core;
        topology->cpus[topology->core_count++] = sorted[i].cpu;
        topology->fast_core_count += sorted[i].kind == sorted[0].kind;
    }
    memcpy(topology->cpus + topology->core_count, siblings, sibling_count * sizeof *siblings);
}

void topology_read(struct topology *topology)
{
    struct topology_place known[LIMIT_THREADS];
    struct topology_place places[LIMIT_THREADS];
    *topology = (struct topology){0};
    read_mask(topology);
    /* One CPU has no order, and asking takes milliseconds. */
    uint32_t known_count = topology->cpu_count > 1 ? topology_hwloc_read(NULL, known) : 0;
    for (uint32_t i = 0; i < topology->cpu_count; i++) {
        uint32_t cpu = topology->cpus[i];
        uint32_t at = 0;
        while (at < known_count && known[at].cpu != cpu) {
            at++;
        }
        if (at < known_count) {
            places[i] = known[at];
        } else {
            /* Cores of hwloc have numbers below this. */
            places[i] =
                (struct topology_place){.cpu = cpu, .core = LIMIT_THREADS + first_sibling(cpu)};
        }
    }
    topology_order(topology, places, topology->cpu_count);
    topology->quota = read_quota();
}

uint32_t topology_thread_count(const struct topology *topology)
{
    uint32_t count = topology->fast_core_count;
    return topology->quota && topology->quota < count ? topology->quota : count;
}
