/* Owns the monitor's thread and its samples. The list of the group's processes is made anew at
 * marks and every five seconds, and the machine's totals are read twice a second: walking /proc and
 * reading /proc/stat cost more than everything else here together.
 * Threads: one writer, readers under the lock. */
#include "bench/monitor.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/energy.h"
#include "bench/monitor_gpu.h"

#define SAMPLES_MAX       4096u
#define MEMBERS_MAX       256u
#define MEMBERS_PERIOD_NS 5000000000u
#define MACHINE_PERIOD_NS 500000000u

struct sums {
    double memory, processor, gpu, gpu_power, throttled, memory_peak, gpu_memory_peak, temperature;
    uint64_t count, gpu_count;
};

/* Of all processors, in the clock ticks of /proc/stat. */
struct processors {
    double busy, stolen, total;
};

struct monitor {
    struct monitor_options options;
    pthread_t thread;
    bool started;
    bool stop; /* under the lock */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct monitor_sample samples[SAMPLES_MAX];
    size_t sample_count;
    uint32_t keep_every, skipped;
    struct sums sums;
    uint64_t begin_ns, mark_ns;
    double mark_energy_j, mark_group_seconds, mark_own_seconds;
    char alarm[160];
    bool hot; /* why; written before `alarmed` */
    _Atomic bool alarmed;
    struct monitor_gpu *gpus[MONITOR_GPUS_MAX];
    uint32_t gpu_count;
    struct energy energy; /* under the lock */
    struct {
        pid_t pid;
        int statm; /* kept open: opening costs more than reading; -1 when it cannot be */
    } members[MEMBERS_MAX];
    uint32_t member_count;
    uint64_t members_at_ns;
    struct processors before, at_mark; /* as the monitor saw them last, and at the mark */
    double busy_share, hottest;        /* as last seen */
    uint64_t machine_at_ns;            /* when to look again */
};

/* The text of a small file, without the buffers and questions of stdio: these reads are the
 * monitor's whole cost. False when it cannot be read. */
static bool read_text(const char *path, char *text, size_t bytes)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = descriptor >= 0 ? read(descriptor, text, bytes - 1) : -1;
    if (descriptor >= 0) {
        close(descriptor);
    }
    text[got > 0 ? got : 0] = 0;
    return got > 0;
}

/* The first number of a small file, or NaN. */
static double read_number(const char *path)
{
    char text[64];
    char *end = text;
    double value = read_text(path, text, sizeof text) ? strtod(text, &end) : NAN;
    return end > text ? value : NAN;
}

/* Group and processor seconds of a process; false when it is gone. */
static bool read_stat(pid_t pid, pid_t *group, double *seconds)
{
    char path[64];
    char line[1024];
    long long parent;
    long long pgrp;
    unsigned long long user;
    unsigned long long system;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    bool got = read_text(path, line, sizeof line);
    /* The name in parentheses may hold anything, also parentheses. */
    const char *rest = got ? strrchr(line, ')') : NULL;
    if (!rest || sscanf(rest + 1, " %*c %lld %lld %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
                        &parent, &pgrp, &user, &system) != 4) {
        return false;
    }
    *group = (pid_t)pgrp;
    *seconds = (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    return true;
}

static bool is_watched(const struct monitor *monitor, pid_t group)
{
    bool found = group == monitor->options.group;
    for (uint32_t i = 0; i < monitor->options.more_group_count; i++) {
        found = found || group == monitor->options.more_groups[i];
    }
    return found;
}

static void add_member(struct monitor *monitor, pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    monitor->members[monitor->member_count].pid = pid;
    monitor->members[monitor->member_count++].statm = open(path, O_RDONLY | O_CLOEXEC);
}

static void forget_members(struct monitor *monitor)
{
    for (uint32_t i = 0; i < monitor->member_count; i++) {
        if (monitor->members[i].statm >= 0) {
            close(monitor->members[i].statm);
        }
    }
    monitor->member_count = 0;
}

static void find_members(struct monitor *monitor)
{
    DIR *folder = opendir("/proc");
    forget_members(monitor);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        pid_t group;
        double seconds;
        int pid = 0;
        if (!isdigit((unsigned char)entry->d_name[0]) || sscanf(entry->d_name, "%d", &pid) != 1) {
            continue;
        }
        if (read_stat(pid, &group, &seconds) && is_watched(monitor, group) &&
            monitor->member_count < MEMBERS_MAX) {
            add_member(monitor, pid);
        }
    }
    if (folder) {
        closedir(folder);
    }
}

static double group_memory(struct monitor *monitor)
{
    double pages = 0;
    for (uint32_t i = 0; i < monitor->member_count; i++) {
        char text[128];
        ssize_t got = pread(monitor->members[i].statm, text, sizeof text - 1, 0);
        if (got > 0) {
            text[got] = 0;
            pages += strtod(text + strcspn(text, " "), NULL); /* total, then resident */
        }
    }
    return monitor->options.group ? pages * (double)sysconf(_SC_PAGESIZE) : NAN;
}

static double group_seconds(const struct monitor *monitor)
{
    double sum = 0;
    for (uint32_t i = 0; i < monitor->member_count; i++) {
        pid_t group;
        double seconds;
        if (read_stat(monitor->members[i].pid, &group, &seconds)) {
            sum += seconds;
        }
    }
    return sum;
}

static double own_seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Zeros when they cannot be read. */
static struct processors read_processors(const struct monitor *monitor)
{
    double v[8] = {0}; /* user, nice, system, idle, waiting, interrupts of two kinds, stolen */
    struct processors seen = {0};
    const char *path = monitor->options.processors_file;
    FILE *file = fopen(path ? path : "/proc/stat", "re");
    int got = file ? fscanf(file, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &v[0], &v[1], &v[2], &v[3],
                            &v[4], &v[5], &v[6], &v[7])
                   : 0;
    if (file) {
        fclose(file);
    }
    for (int i = 0; got >= 5 && i < 8; i++) {
        seen.total += v[i];
        seen.busy += i == 3 || i == 4 ? 0 : v[i];
    }
    seen.stolen = v[7];
    return seen;
}

static double busy_share(struct monitor *monitor)
{
    const struct processors before = monitor->before;
    const struct processors now = monitor->before = read_processors(monitor);
    return before.total == 0 || now.total == 0 ? NAN
           : now.total > before.total ? (now.busy - before.busy) / (now.total - before.total)
                                      : 0;
}

static double stolen_share(const struct monitor *monitor)
{
    const struct processors before = monitor->at_mark;
    const struct processors now = read_processors(monitor);
    return before.total > 0 && now.total > before.total
               ? (now.stolen - before.stolen) / (now.total - before.total)
               : NAN;
}

static double hottest(void)
{
    double peak = NAN;
    for (int zone = 0; zone < 64; zone++) {
        char path[64];
        snprintf(path, sizeof path, "/sys/class/thermal/thermal_zone%d/temp", zone);
        double value = read_number(path);
        if (isnan(value)) {
            break;
        }
        peak = fmax(peak, value / 1000);
    }
    return peak;
}

static void raise_alarm(struct monitor *monitor, const struct monitor_sample *sample)
{
    const struct monitor_options *options = &monitor->options;
    double limit = options->memory_limit_bytes > 0 ? options->memory_limit_bytes : INFINITY;
    double heat = fmax(sample->temperature_c, sample->gpu_temperature_c);
    if (atomic_load(&monitor->alarmed)) {
        return;
    }
    if (options->thermal_limit_c > 0 && heat > options->thermal_limit_c) {
        monitor->hot = true;
        snprintf(monitor->alarm, sizeof monitor->alarm,
                 "stopped: %.0f °C, above the thermal limit of %.0f °C", heat,
                 options->thermal_limit_c);
    } else if (sample->memory_bytes > limit) {
        snprintf(monitor->alarm, sizeof monitor->alarm,
                 "stopped: %.2f GB of memory, above the limit of %.2f GB",
                 sample->memory_bytes / 1e9, limit / 1e9);
    } else if (options->gpu_memory_limited && sample->gpu_memory_bytes > limit) {
        snprintf(monitor->alarm, sizeof monitor->alarm,
                 "stopped: %.2f GB of GPU memory, above the limit of %.2f GB",
                 sample->gpu_memory_bytes / 1e9, limit / 1e9);
    } else {
        return;
    }
    atomic_store(&monitor->alarmed, true);
}

static void add_sums(struct sums *sums, const struct monitor_sample *sample)
{
    sums->memory += sample->memory_bytes;
    sums->processor += isnan(sample->processor_share) ? 0 : sample->processor_share;
    sums->memory_peak = fmax(sums->memory_peak, sample->memory_bytes);
    sums->temperature =
        fmax(sums->temperature, fmax(sample->temperature_c, sample->gpu_temperature_c));
    sums->count++;
    if (!isnan(sample->gpu_share)) {
        sums->gpu += sample->gpu_share;
        sums->gpu_power += sample->gpu_power_w;
        sums->throttled += isnan(sample->gpu_throttled) ? 0 : sample->gpu_throttled;
        sums->gpu_memory_peak = fmax(sums->gpu_memory_peak, sample->gpu_memory_bytes);
        sums->gpu_count++;
    }
}

/* Under the lock. */
static void keep(struct monitor *monitor, const struct monitor_sample *sample)
{
    add_sums(&monitor->sums, sample);
    if (monitor->skipped++ % monitor->keep_every) {
        return;
    }
    if (monitor->sample_count == SAMPLES_MAX) {
        for (size_t i = 0; i < SAMPLES_MAX / 2; i++) {
            monitor->samples[i] = monitor->samples[2 * i];
        }
        monitor->sample_count = SAMPLES_MAX / 2;
        monitor->keep_every *= 2;
    }
    monitor->samples[monitor->sample_count++] = *sample;
}

static void read_gpus(struct monitor *monitor, struct monitor_sample *sample)
{
    for (uint32_t i = 0; i < monitor->gpu_count; i++) {
        struct monitor_sample one;
        monitor_gpu_read(monitor->gpus[i], &one);
        if (i == 0) {
            sample->gpu_share = sample->gpu_memory_bytes = sample->gpu_power_w = 0;
            sample->gpu_clock_mhz = sample->gpu_throttled = 0;
        }
        sample->gpu_share += one.gpu_share / monitor->gpu_count;
        sample->gpu_memory_bytes += one.gpu_memory_bytes;
        sample->gpu_power_w += one.gpu_power_w;
        sample->gpu_clock_mhz += one.gpu_clock_mhz / monitor->gpu_count;
        sample->gpu_temperature_c = fmax(sample->gpu_temperature_c, one.gpu_temperature_c);
        sample->gpu_throttled =
            isnan(one.gpu_throttled) ? NAN : fmax(sample->gpu_throttled, one.gpu_throttled);
    }
}

static void look(struct monitor *monitor)
{
    uint64_t now = clock_now_ns();
    struct monitor_sample sample = {.gpu_share = NAN,
                                    .gpu_memory_bytes = NAN,
                                    .gpu_power_w = NAN,
                                    .gpu_temperature_c = NAN,
                                    .gpu_clock_mhz = NAN,
                                    .gpu_throttled = NAN};
    pthread_mutex_lock(&monitor->lock);
    if (monitor->options.group && now >= monitor->members_at_ns) {
        find_members(monitor);
        monitor->members_at_ns = now + MEMBERS_PERIOD_NS;
    }
    sample.memory_bytes = group_memory(monitor);
    if (now >= monitor->machine_at_ns) {
        energy_read(&monitor->energy); /* before its counters wrap */
    }
    pthread_mutex_unlock(&monitor->lock);
    sample.seconds = (double)(now - monitor->begin_ns) / 1e9;
    if (now >= monitor->machine_at_ns) {
        monitor->busy_share = busy_share(monitor);
        monitor->hottest = hottest();
        monitor->machine_at_ns = now + MACHINE_PERIOD_NS;
    }
    sample.processor_share = monitor->busy_share;
    sample.temperature_c = monitor->hottest;
    read_gpus(monitor, &sample);
    raise_alarm(monitor, &sample);
    pthread_mutex_lock(&monitor->lock);
    keep(monitor, &sample);
    pthread_mutex_unlock(&monitor->lock);
}

static void *watch(void *user)
{
    struct monitor *monitor = user;
    uint64_t period = (uint64_t)(1e9 / monitor->options.rate_hz);
    uint64_t next = clock_now_ns();
    bool stop = false;
    while (!stop) {
        look(monitor);
        next = next + period > clock_now_ns() ? next + period : clock_now_ns() + period;
        const struct timespec time = {(time_t)(next / 1000000000u), (long)(next % 1000000000u)};
        int waited = 0;
        pthread_mutex_lock(&monitor->lock);
        while (!monitor->stop && waited != ETIMEDOUT) {
            waited = pthread_cond_timedwait(&monitor->wake, &monitor->lock, &time);
        }
        stop = monitor->stop;
        pthread_mutex_unlock(&monitor->lock);
    }
    return NULL;
}

/* Waits for the monitor's times are on the clock of clock_now_ns. */
static void init_locks(struct monitor *monitor)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&monitor->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&monitor->lock, NULL);
}

llcuda_status monitor_start(const struct monitor_options *options, struct monitor **out,
                            struct llcuda_error *error)
{
    struct monitor *monitor = calloc(1, sizeof *monitor);
    if (!monitor) {
        return error_no_memory(error, "a monitor", sizeof *monitor);
    }
    monitor->options = *options;
    monitor->keep_every = 1;
    monitor->begin_ns = clock_now_ns();
    for (uint32_t i = 0; i < options->gpu_count; i++) {
        struct monitor_gpu *gpu = monitor_gpu_open((int)options->gpus[i]);
        if (gpu) {
            monitor->gpus[monitor->gpu_count++] = gpu;
        }
    }
    energy_open(&monitor->energy, options->energy_folder ? options->energy_folder : ENERGY_FOLDER);
    init_locks(monitor);
    monitor_mark(monitor);
    if (pthread_create(&monitor->thread, NULL, watch, monitor)) {
        monitor_stop(monitor);
        return error_set(error, LLCUDA_OUT_OF_MEMORY, "no thread could be started");
    }
    monitor->started = true;
    *out = monitor;
    return LLCUDA_OK;
}

void monitor_stop(struct monitor *monitor)
{
    if (!monitor) {
        return;
    }
    pthread_mutex_lock(&monitor->lock);
    monitor->stop = true;
    pthread_cond_signal(&monitor->wake);
    pthread_mutex_unlock(&monitor->lock);
    if (monitor->started) {
        pthread_join(monitor->thread, NULL);
    }
    forget_members(monitor);
    for (uint32_t i = 0; i < monitor->gpu_count; i++) {
        monitor_gpu_close(monitor->gpus[i]);
    }
    energy_close(&monitor->energy);
    pthread_cond_destroy(&monitor->wake);
    pthread_mutex_destroy(&monitor->lock);
    free(monitor);
}

const char *monitor_alarm(struct monitor *monitor)
{
    return atomic_load(&monitor->alarmed) ? monitor->alarm : NULL;
}

bool monitor_is_hot(struct monitor *monitor)
{
    return atomic_load(&monitor->alarmed) && monitor->hot;
}

void monitor_mark(struct monitor *monitor)
{
    pthread_mutex_lock(&monitor->lock);
    if (monitor->options.group) {
        find_members(monitor);
        monitor->members_at_ns = clock_now_ns() + MEMBERS_PERIOD_NS;
    }
    monitor->sums = (struct sums){.temperature = NAN};
    monitor->mark_ns = clock_now_ns();
    monitor->mark_energy_j = energy_read(&monitor->energy);
    monitor->mark_group_seconds = group_seconds(monitor);
    if (!monitor->started || !monitor->options.stolen_since_start) {
        monitor->at_mark = read_processors(monitor);
    }
    monitor->mark_own_seconds = own_seconds();
    pthread_mutex_unlock(&monitor->lock);
}

void monitor_get_totals(struct monitor *monitor, struct monitor_totals *totals)
{
    pthread_mutex_lock(&monitor->lock);
    const double own = own_seconds() - monitor->mark_own_seconds; /* before what follows */
    struct sums *sums = &monitor->sums;
    if (sums->count == 0) {
        /* Shorter than the monitor's period: what there is now is all that can be said. */
        sums->memory = sums->memory_peak = group_memory(monitor);
        sums->count = 1;
        sums->processor = NAN;
    }
    double count = sums->count ? (double)sums->count : NAN;
    double gpu_count = sums->gpu_count ? (double)sums->gpu_count : NAN;
    *totals = (struct monitor_totals){
        .memory_peak_bytes = sums->count ? sums->memory_peak : NAN,
        .memory_mean_bytes = sums->memory / count,
        .processor_mean = sums->processor / count,
        .gpu_mean = sums->gpu / gpu_count,
        .gpu_power_mean_w = sums->gpu_power / gpu_count,
        .gpu_memory_peak_bytes = sums->gpu_count ? sums->gpu_memory_peak : NAN,
        .gpu_throttled_share = sums->throttled / gpu_count,
        .temperature_peak_c = sums->temperature,
        .cpu_energy_j = energy_read(&monitor->energy) - monitor->mark_energy_j,
        .group_cpu_seconds = group_seconds(monitor) - monitor->mark_group_seconds,
        .own_cpu_seconds = own,
        .stolen_share = stolen_share(monitor),
        .seconds = (double)(clock_now_ns() - monitor->mark_ns) / 1e9,
    };
    pthread_mutex_unlock(&monitor->lock);
}

size_t monitor_copy(struct monitor *monitor, struct monitor_sample *out, size_t capacity)
{
    pthread_mutex_lock(&monitor->lock);
    size_t count = monitor->sample_count < capacity ? monitor->sample_count : capacity;
    memcpy(out, monitor->samples, count * sizeof *out);
    pthread_mutex_unlock(&monitor->lock);
    return count;
}
