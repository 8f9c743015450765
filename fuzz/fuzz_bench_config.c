/* Benchmark and experiment configurations: YAML from anywhere, read whole or refused. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "bench/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct config_places places = {"llcuda", "engines", "python3"};
    struct config *config = NULL;
    struct llcuda_error error = {0};
    char *text = malloc(size + 1);
    if (!text) {
        return 0;
    }
    memcpy(text, data, size);
    text[size] = 0;
    if (config_read("fuzz.yaml", text, &places, &config, &error) == LLCUDA_OK) {
        struct config_point points[CONFIG_LIST_MAX * CONFIG_LIST_MAX];
        for (uint32_t w = 0; w < config->workload_count; w++) {
            if (config_points(config, w, points) == 0) {
                abort(); /* a workload that was accepted has something to do */
            }
        }
        config_destroy(config);
    } else if (error.message[0] == 0) {
        abort(); /* a refusal says why */
    }
    free(text);
    return 0;
}
