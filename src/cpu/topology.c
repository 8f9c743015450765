/* Owns the questions to Linux about CPUs: affinity mask, cores and their siblings, control group.
 * Everything may be missing (another system, a container without /sys): the answer is then one
 * thread a CPU. Stateless. */
#include "cpu/topology.h"

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

void topology_read(struct topology *topology)
{
    *topology = (struct topology){0};
    read_mask(topology);
    uint32_t siblings[LIMIT_THREADS];
    uint32_t cores[LIMIT_THREADS]; /* first sibling of each core found so far */
    uint32_t sibling_count = 0;
    for (uint32_t i = 0; i < topology->cpu_count; i++) {
        uint32_t core = first_sibling(topology->cpus[i]);
        bool known = false;
        for (uint32_t j = 0; j < topology->core_count && !known; j++) {
            known = cores[j] == core;
        }
        if (known) {
            siblings[sibling_count++] = topology->cpus[i];
        } else {
            cores[topology->core_count] = core;
            topology->cpus[topology->core_count++] = topology->cpus[i];
        }
    }
    memcpy(topology->cpus + topology->core_count, siblings, sibling_count * sizeof *siblings);
    topology->quota = read_quota();
}

uint32_t topology_thread_count(const struct topology *topology)
{
    uint32_t count = topology->core_count;
    return topology->quota && topology->quota < count ? topology->quota : count;
}
