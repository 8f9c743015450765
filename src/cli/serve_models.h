/* Which models `llcuda serve` has: from -m, from --models, or the built-in one. */
#ifndef CLI_SERVE_MODELS_H
#define CLI_SERVE_MODELS_H

#include "cli/open.h"
#include "server/server.h"

struct serve_models {
    struct model_config *configs; /* [count] */
    struct options **owned;       /* [count] each model's own options */
    uint32_t count;
};

/* Fills in the configurations. To be deinited either way, after the server. Returns EXIT_DONE, or
 * the exit status after having said what is wrong. */
int serve_models_read(struct serve_models *models, struct options *options);
void serve_models_deinit(struct serve_models *models);

#endif
