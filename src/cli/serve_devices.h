/* The GPUs that `llcuda serve` computes on, as its monitor sees them. */
#ifndef CLI_SERVE_DEVICES_H
#define CLI_SERVE_DEVICES_H

#include "base/log.h"
#include "server/server.h"

struct serve_devices;

/* The GPUs that the models' options name ("auto": the first one, where there is one). A GPU without
 * a monitor, a GPU of AMD and a machine without memory leave gaps, which is no error. NULL when
 * there is none to look at. Warnings of memory that is nearly full go to `log`, which outlives
 * them. */
struct serve_devices *serve_devices_open(const struct model_config *models, uint32_t count,
                                         const struct log_sink *log);
/* NULL is fine. */
void serve_devices_close(struct serve_devices *devices);

/* For server_options.read_devices, with the devices as its user: any thread. A reading is half a
 * second old at most. */
uint32_t serve_devices_read(void *user, struct device_reading *readings, uint32_t count);

#endif
