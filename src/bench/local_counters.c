/* Owns the place of a GPU's counters in a profile. One thread. */
#include "bench/local_counters.h"

#include <math.h>
#include <stdio.h>

llcuda_status local_counters_read(struct local_counters *counters, int device,
                                  llcuda_status (*work)(void *, struct llcuda_error *), void *user,
                                  struct llcuda_error *error)
{
    struct llcuda_error reason = {0};
    *counters = (struct local_counters){.asked = true};
    llcuda_status status = gpu_counters_measure(device, work, user, &counters->seen, &reason);
    if (status == LLCUDA_UNSUPPORTED) {
        snprintf(counters->reason, sizeof counters->reason, "%.239s", reason.message);
        return LLCUDA_OK;
    }
    return status ? error_set(error, status, "%s", reason.message) : LLCUDA_OK;
}

void local_counters_text(const struct local_counters *counters, struct buffer *out)
{
    if (counters->asked && counters->reason[0]) {
        buffer_printf(out, "  %s\n", counters->reason);
    } else if (counters->asked) {
        buffer_printf(out,
                      "  counters: occupancy %.1f %%, tensor cores %.1f %%, %.2f sectors a request "
                      "(%u passes)\n",
                      counters->seen.occupancy * 100, counters->seen.tensor_share * 100,
                      counters->seen.sectors_per_request, counters->seen.passes);
    }
}

void local_counters_json(const struct local_counters *counters, struct json_writer *writer)
{
    const struct {
        const char *key;
        double value;
    } rows[] = {{"occupancy", counters->seen.occupancy},
                {"tensor_share", counters->seen.tensor_share},
                {"sectors_per_request", counters->seen.sectors_per_request},
                {"passes", counters->seen.passes}};
    if (!counters->asked) {
        return;
    }
    json_key(writer, "counters");
    json_begin_object(writer);
    if (counters->reason[0]) {
        json_key(writer, "reason");
        json_write_string(writer, counters->reason);
    }
    for (size_t i = 0; !counters->reason[0] && i < sizeof rows / sizeof rows[0]; i++) {
        json_key(writer, rows[i].key);
        json_write_number(writer, rows[i].value); /* null for what this GPU does not know */
    }
    json_end_object(writer);
}
