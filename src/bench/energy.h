/* The energy of a machine's processors and their memory, from the counters that Linux shows below
 * /sys/class/powercap (RAPL: Intel's and AMD's processors). One thread at a time. */
#ifndef BENCH_ENERGY_H
#define BENCH_ENERGY_H

#include <stdbool.h>
#include <stdint.h>

#define ENERGY_ZONES_MAX 32u

struct energy_zone {
    int descriptor;     /* of energy_uj, kept open */
    double range_uj;    /* where the counter starts again; NaN: not told */
    double last_uj;     /* as last read */
    double consumed_uj; /* since energy_open */
};

struct energy {
    uint32_t zone_count;
    bool lost; /* a zone could not be read, or wrapped by an unknown range */
    struct energy_zone zones[ENERGY_ZONES_MAX];
};

#define ENERGY_FOLDER "/sys/class/powercap"

/* Finds the zones that together are the machine, none of them twice: every package, and the memory
 * beside it. Cores and uncore are parts of their package, psys is everything again, and
 * intel-rapl-mmio counts the same packages by another way. Nothing there, or nothing that may be
 * read (which needs root on most machines): energy_read says NaN. */
void energy_open(struct energy *energy, const char *folder);
void energy_close(struct energy *energy);

/* Joules since energy_open, or NaN. A counter of a busy server wraps after some twenty minutes:
 * read it oftener than that. */
double energy_read(struct energy *energy);

#endif
