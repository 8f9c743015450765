/* A driver that does not answer must not keep a command that only asks: a thread ends the process
 * when a call takes longer than it may. Main thread. */
#ifndef CLI_PATIENCE_H
#define CLI_PATIENCE_H

#include "cli/console.h"

/* What questions to a driver may take, what its first call may take that starts all GPUs of the
 * machine, and what a measurement may take. */
#define PATIENCE_ASK_MS     5000u
#define PATIENCE_START_MS   20000u
#define PATIENCE_MEASURE_MS 120000u

/* Begins to watch; without a thread to spare nothing is watched. */
void patience_begin(const struct options *options);
void patience_end(void);

/* `call` of `device` ("cuda:0", or a kind of device alone) is made next and may take so long. Past
 * that the process says on standard error which call it was, and ends with EXIT_FAILED: the call
 * itself cannot be ended, and may keep the library's own exit too. Both texts outlive the call.
 * NULL: nothing is waited for. */
void patience_expect(const char *device, const char *call, uint32_t timeout_ms);

#endif
