/* The record of where something was measured: machine, system, clocks, model files. */
#ifndef BENCH_HOST_H
#define BENCH_HOST_H

#include "base/json.h"
#include "bench/config.h"

/* Appends the members of an object: "cpu", "cores", "memory_bytes", "kernel", "governor", "gpu" …
 */
void host_write(struct json_writer *writer, const struct config *config, char *const *environment);

/* The SHA-256 of a file, or of a folder's weight files in the order of their names, as hex into
 * `out` [65]. `progress` is called every 64 MiB with the share that is done; when it answers false,
 * the status is CANCELLED. */
llcuda_status host_model_digest(const char *path, bool (*progress)(void *user, double share),
                                void *user, char out[65], struct llcuda_error *error);

#endif
