/* Owns the judgement whether the service works: engines that have work take steps, network threads
 * go round their loops, devices have not failed, models are loaded, nobody has asked for the end.
 *
 * A device counts as failed when its monitor says so, or when the last step of an engine failed for
 * its sake; what then helps is another process, so that the service manager is not told of life.
 *
 * Threads: health_look runs on server_run's thread and is the only writer; answers are atomics. */
#include <stdlib.h>

#include "base/clock.h"
#include "server/server_internal.h"

#define MODELS_WATCHED  64u
#define DEVICES_WATCHED 16u
/* A network thread goes round four times a second; after so long it has hung. */
#define LAG_NS_MAX 10000000000u

struct watched {
    const llcuda_engine *engine; /* only compared */
    uint64_t steps;
    uint64_t since_ns; /* of the last step, or of the last time without work */
};

struct health {
    struct server *server;
    struct watched watched[MODELS_WATCHED];
    uint32_t index; /* while looking */
    uint64_t now_ns;
    uint64_t stall_ns; /* the longest of this look */
    bool step_failed;  /* likewise: some engine's device does not compute any more */
    _Atomic uint64_t engine_stall_ns;
    _Atomic uint64_t network_lag_ns;
    atomic_bool device_failed;
};

llcuda_status health_create(struct server *server, struct health **made, struct llcuda_error *error)
{
    struct health *health = calloc(1, sizeof *health);
    if (!health) {
        return error_no_memory(error, "the health of the server", sizeof *health);
    }
    health->server = server;
    *made = health;
    return LLCUDA_OK;
}

void health_destroy(struct health *health)
{
    free(health);
}

/* An engine whose readers are all behind has nothing to do, however much waits. */
static bool has_work(const llcuda_stats *stats)
{
    return !stats->asleep &&
           (stats->running > stats->paused || (stats->running == 0 && stats->waiting > 0));
}

static void look_at_engine(void *user, const char *name, const llcuda_engine *engine)
{
    struct health *health = user;
    llcuda_stats stats = {.size = sizeof stats};
    (void)name;
    if (health->index == MODELS_WATCHED) {
        return;
    }
    struct watched *watched = &health->watched[health->index++];
    llcuda_engine_get_stats(engine, &stats);
    health->step_failed = health->step_failed || (!stats.asleep && stats.device_failed);
    if (watched->engine != engine || watched->steps != stats.steps || !has_work(&stats)) {
        *watched = (struct watched){engine, stats.steps, health->now_ns};
    }
    uint64_t stall_ns = health->now_ns - watched->since_ns;
    health->stall_ns = stall_ns > health->stall_ns ? stall_ns : health->stall_ns;
}

void health_look(struct health *health)
{
    struct server *server = health->server;
    const struct server_options *options = &server->options;
    health->index = 0;
    health->stall_ns = 0;
    health->step_failed = false;
    health->now_ns = clock_now_ns();
    model_set_each(server->models, look_at_engine, health);
    atomic_store(&health->engine_stall_ns, health->stall_ns);
    atomic_store(&health->network_lag_ns, http_server_lag_ns(server->http));
    bool failed = health->step_failed;
    if (options->read_devices) {
        struct device_reading readings[DEVICES_WATCHED];
        uint32_t count =
            options->read_devices(options->read_devices_user, readings, DEVICES_WATCHED);
        for (uint32_t i = 0; i < count && i < DEVICES_WATCHED; i++) {
            failed = failed || readings[i].failed;
        }
    }
    atomic_store(&health->device_failed, failed);
}

static bool engine_is_good(const struct health *health)
{
    return atomic_load(&health->engine_stall_ns) <
           (uint64_t)health->server->options.heartbeat_ms * 1000000u;
}

double health_engine_stall_s(const struct health *health)
{
    return (double)atomic_load(&health->engine_stall_ns) / 1e9;
}

bool health_is_good(const struct health *health)
{
    return engine_is_good(health) && atomic_load(&health->network_lag_ns) < LAG_NS_MAX &&
           !atomic_load(&health->device_failed);
}

static void write_models(struct server *server, struct json_writer *writer)
{
    struct model_facts facts;
    json_key(writer, "models");
    json_begin_array(writer);
    for (uint32_t i = 0; model_set_describe(server->models, i, &facts); i++) {
        json_begin_object(writer);
        json_key(writer, "name");
        json_write_string(writer, facts.name);
        json_key(writer, "state");
        json_write_string(writer, model_state_name(facts.state));
        if (facts.state == MODEL_LOADING) {
            json_key(writer, "progress");
            json_write_number(writer, facts.total_bytes
                                          ? (double)facts.done_bytes / (double)facts.total_bytes
                                          : 0);
        }
        json_end_object(writer);
    }
    json_end_array(writer);
}

bool health_write(struct health *health, struct json_writer *writer)
{
    struct server *server = health->server;
    bool failed;
    bool draining = atomic_load(&server->draining);
    bool loaded = model_set_ready(server->models, &failed, NULL);
    const char *status = draining                              ? "draining"
                         : !loaded                             ? "loading"
                         : !engine_is_good(health)             ? "engine_stalled"
                         : atomic_load(&health->device_failed) ? "device_failed"
                         : !health_is_good(health)             ? "network_stalled"
                                                               : "ready";
    json_begin_object(writer);
    json_key(writer, "status");
    json_write_string(writer, status);
    json_key(writer, "engine_stall_ms");
    json_write_unsigned(writer, atomic_load(&health->engine_stall_ns) / 1000000);
    json_key(writer, "network_lag_ms");
    json_write_unsigned(writer, atomic_load(&health->network_lag_ns) / 1000000);
    json_key(writer, "device");
    json_write_string(writer, atomic_load(&health->device_failed) ? "failed" : "ok");
    write_models(server, writer);
    json_end_object(writer);
    return strcmp(status, "ready") == 0;
}
