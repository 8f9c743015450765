/* What this machine's instruction sets are. */
#ifndef CPU_FEATURES_H
#define CPU_FEATURES_H

#include "cpu/cpu.h"
#include "cpu/linear.h"

/* Asks the CPU, and whether the system saves the registers. */
void cpu_features_detect(struct cpu_features *features);

/* Asks the system for the matrix registers, once a process and before threads use them; false when
 * it refuses or the CPU has none. */
bool cpu_features_request_amx(void);

/* Clears everything above `level` (CPU_LEVEL_COUNT: no mask), what is used only when asked for by
 * name (cpu/cpu.h says what and why), and with no_extensions everything beside the levels. */
void cpu_features_mask(struct cpu_features *features, enum cpu_level level, bool no_extensions);

/* The level that the features allow. */
enum cpu_level cpu_features_level(const struct cpu_features *features);

/* The CPU's name for people, or "CPU". */
void cpu_model_name(char *name, uint32_t bytes);

#endif
