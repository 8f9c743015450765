/* Owns the descriptors of the counters. A sum in which a part is missing would be a wrong figure
 * that looks like a right one, so that one zone that cannot be read makes the whole unknown. */
#include "bench/energy.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A small file below a zone's folder; "" when it is not there. */
static void read_small(const char *folder, const char *zone, const char *name, char *out,
                       size_t bytes)
{
    char path[512];
    snprintf(path, sizeof path, "%.255s/%.128s/%.64s", folder, zone, name);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = descriptor >= 0 ? read(descriptor, out, bytes - 1) : -1;
    if (descriptor >= 0) {
        close(descriptor);
    }
    out[got > 0 ? got : 0] = 0;
    out[strcspn(out, "\n")] = 0;
}

/* NaN when there is no number. */
static double number_in(const char *text)
{
    char *end;
    double value = strtod(text, &end);
    return end > text && value >= 0 ? value : NAN;
}

static double counter_of(const struct energy_zone *zone)
{
    char text[64];
    ssize_t got = zone->descriptor >= 0 ? pread(zone->descriptor, text, sizeof text - 1, 0) : -1;
    text[got > 0 ? got : 0] = 0;
    return number_in(text);
}

/* "intel-rapl:0" is a package (or psys), "intel-rapl:0:2" a part of it or its memory. */
static bool is_counted(const char *folder, const char *zone)
{
    static const char prefix[] = "intel-rapl:";
    char name[64];
    if (strncmp(zone, prefix, strlen(prefix)) != 0) {
        return false;
    }
    bool part = strchr(zone + strlen(prefix), ':') != NULL;
    read_small(folder, zone, "name", name, sizeof name);
    return part ? strcmp(name, "dram") == 0 : strncmp(name, "package", strlen("package")) == 0;
}

static void add_zone(struct energy *energy, const char *folder, const char *name)
{
    char text[512];
    if (energy->zone_count == ENERGY_ZONES_MAX) {
        energy->lost = true;
        return;
    }
    struct energy_zone *zone = &energy->zones[energy->zone_count++];
    read_small(folder, name, "max_energy_range_uj", text, sizeof text);
    *zone = (struct energy_zone){.range_uj = number_in(text)};
    snprintf(text, sizeof text, "%.255s/%.128s/energy_uj", folder, name);
    zone->descriptor = open(text, O_RDONLY | O_CLOEXEC);
    zone->last_uj = counter_of(zone);
    energy->lost = energy->lost || isnan(zone->last_uj);
}

void energy_open(struct energy *energy, const char *folder)
{
    *energy = (struct energy){0};
    DIR *zones = opendir(folder);
    for (struct dirent *entry; zones && (entry = readdir(zones));) {
        if (is_counted(folder, entry->d_name)) {
            add_zone(energy, folder, entry->d_name);
        }
    }
    if (zones) {
        closedir(zones);
    }
}

void energy_close(struct energy *energy)
{
    for (uint32_t i = 0; i < energy->zone_count; i++) {
        if (energy->zones[i].descriptor >= 0) {
            close(energy->zones[i].descriptor);
        }
    }
    energy->zone_count = 0;
}

double energy_read(struct energy *energy)
{
    double sum = 0;
    for (uint32_t i = 0; i < energy->zone_count && !energy->lost; i++) {
        struct energy_zone *zone = &energy->zones[i];
        double now = counter_of(zone);
        double step = now - zone->last_uj;
        if (step < 0) {
            step += zone->range_uj;
        }
        /* Also when a counter is further back than its range allows: it was reset. */
        energy->lost = !(step >= 0);
        zone->last_uj = now;
        zone->consumed_uj += step;
        sum += zone->consumed_uj;
    }
    return energy->zone_count && !energy->lost ? sum / 1e6 : NAN;
}
