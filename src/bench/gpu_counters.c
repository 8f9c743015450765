/* Owns a session of CUPTI's range profiler. Names, numbers and the order of members are those of
 * NVIDIA's published interface (since CUDA 12.6); a structure says how large its caller believes it
 * to be, so that older and newer libraries understand each other.
 * Nothing is kept between measurements. Threads: the caller's alone. */
#include "bench/gpu_counters.h"

#include <dlfcn.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define RANGE_PROFILER 0 /* kind of a host object */
#define USER_RANGE     2
#define USER_REPLAY    3
#define PASSES_MAX     64u

enum { OCCUPANCY, TENSOR, SECTORS, METRICS };
static const char *const metric_names[METRICS] = {
    [OCCUPANCY] = "sm__warps_active.avg.pct_of_peak_sustained_active",
    [TENSOR] = "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active",
    [SECTORS] = "l1tex__average_t_sectors_per_request_pipe_lsu_mem_global_op_ld.ratio",
};

/* Every parameter block begins with its size and a NULL. */
struct head {
    size_t bytes;
    void *reserved;
};

struct chip_name {
    struct head head;
    size_t device;
    const char *name;
};

struct host_begin {
    struct head head;
    int kind;
    const char *chip;
    const uint8_t *availability;
    void *host;
};

struct host_end {
    struct head head;
    void *host;
};

struct add_metrics {
    struct head head;
    void *host;
    const char **names;
    size_t count;
};

struct config_size {
    struct head head;
    void *host;
    size_t bytes;
};

struct config_image {
    struct head head;
    void *host;
    size_t bytes;
    uint8_t *image;
};

struct values {
    struct head head;
    void *host;
    const uint8_t *data;
    size_t bytes;
    size_t range;
    const char **names;
    size_t count;
    double *values;
};

struct range_enable {
    struct head head;
    void *context;
    void *profiler;
};

struct range_object { /* disable, start, pop */
    struct head head;
    void *profiler;
};

struct range_push {
    struct head head;
    void *profiler;
    const char *name;
};

struct range_stop {
    struct head head;
    void *profiler;
    size_t pass, level;
    uint8_t all_passes;
};

struct range_decode {
    struct head head;
    void *profiler;
    size_t dropped;
};

struct data_size {
    struct head head;
    void *profiler;
    const char **names;
    size_t count;
    size_t ranges;
    uint32_t nodes;
    size_t bytes;
};

struct data_begin {
    struct head head;
    void *profiler;
    size_t bytes;
    uint8_t *data;
};

struct range_config {
    struct head head;
    void *profiler;
    size_t config_bytes;
    const uint8_t *config;
    size_t data_bytes;
    uint8_t *data;
    int range, replay;
    size_t ranges_per_pass;
    uint16_t levels, level_least;
    size_t pass;
    uint16_t level_target;
};

/* The size up to a last member, which is what the interface means by a structure's size. */
#define SIZE_TO(type, last) (offsetof(struct type, last) + sizeof(((struct type *)0)->last))
#define HEAD(type, last)          \
    {                             \
        SIZE_TO(type, last), NULL \
    }

struct session {
    void *cupti, *driver;
    void *context, *host, *profiler;
    uint8_t *config, *data;
    size_t config_bytes, data_bytes;
    const char *names[METRICS];
    int places[METRICS]; /* which figure each of `names` is */
    size_t count;
    bool initialised;
};

static const char *explain(int code)
{
    switch (code) {
    case 11:
    case 14:
        return "CUPTI and the driver do not fit together";
    case 27:
        return "this GPU is not supported by CUPTI";
    case 33:
        return "virtual GPUs have no counters here";
    case 35:
    case 40:
        return "the driver gives counters to administrators only "
               "(NVreg_RestrictProfilingToAdminUsers)";
    case 41:
        return "counters are switched off by confidential computing";
    case 43:
        return "a part of a GPU (MIG) has no counters here";
    default:
        return "CUPTI refused";
    }
}

/* Calls a function of CUPTI by its name. */
static llcuda_status call(const struct session *session, const char *name, void *parameters,
                          struct llcuda_error *error)
{
    int (*function)(void *) = NULL;
    void *symbol = dlsym(session->cupti, name);
    memcpy(&function, &symbol, sizeof function);
    if (!function) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "counters need CUPTI of CUDA 12.6 or newer: this one has no %s", name);
    }
    int code = function(parameters);
    return code ? error_set(error, LLCUDA_UNSUPPORTED, "no counters: %s (%s, code %d)",
                            explain(code), name, code)
                : LLCUDA_OK;
}

static void *load_any(const char *const *names)
{
    void *library = NULL;
    for (size_t i = 0; names[i] && !library; i++) {
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    }
    return library;
}

/* The device's primary context, which the engine uses too. */
static llcuda_status find_context(struct session *session, int device, struct llcuda_error *error)
{
    int (*init)(unsigned) = NULL;
    int (*retain)(void **, int) = NULL;
    int (*set)(void *) = NULL;
    static const char *const libraries[] = {"libcuda.so.1", NULL};
    session->driver = load_any(libraries);
    const struct {
        void *slot;
        const char *name;
    } rows[] = {
        {&init, "cuInit"}, {&retain, "cuDevicePrimaryCtxRetain"}, {&set, "cuCtxSetCurrent"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        void *symbol = session->driver ? dlsym(session->driver, rows[i].name) : NULL;
        memcpy(rows[i].slot, &symbol, sizeof symbol);
        if (!symbol) {
            return error_set(error, LLCUDA_UNSUPPORTED, "no counters: there is no NVIDIA driver");
        }
    }
    if (init(0) || retain(&session->context, device) || set(session->context)) {
        session->context = NULL;
        return error_set(error, LLCUDA_UNSUPPORTED, "no counters: device %d cannot be used",
                         device);
    }
    return LLCUDA_OK;
}

static void release_context(struct session *session, int device)
{
    int (*release)(int) = NULL;
    void *symbol = session->context ? dlsym(session->driver, "cuDevicePrimaryCtxRelease_v2") : NULL;
    memcpy(&release, &symbol, sizeof release);
    if (release) {
        release(device);
    }
}

/* The host's side: which of the metrics this chip knows, and the image that configures them. */
static llcuda_status configure(struct session *session, int device, struct llcuda_error *error)
{
    struct chip_name chip = {HEAD(chip_name, name), (size_t)device, NULL};
    llcuda_status status = call(session, "cuptiDeviceGetChipName", &chip, error);
    if (status) {
        return status;
    }
    struct host_begin begin = {HEAD(host_begin, host), RANGE_PROFILER, chip.name, NULL, NULL};
    status = call(session, "cuptiProfilerHostInitialize", &begin, error);
    if (status) {
        return status;
    }
    session->host = begin.host;
    for (int i = 0; i < METRICS; i++) {
        const char *name = metric_names[i];
        struct add_metrics add = {HEAD(add_metrics, count), session->host, &name, 1};
        struct llcuda_error unknown = {0};
        if (!call(session, "cuptiProfilerHostConfigAddMetrics", &add, &unknown)) {
            session->names[session->count] = name;
            session->places[session->count++] = i;
        }
    }
    if (session->count == 0) {
        return error_set(error, LLCUDA_UNSUPPORTED, "no counters: CUPTI knows none of them for %s",
                         chip.name);
    }
    struct config_size size = {HEAD(config_size, bytes), session->host, 0};
    status = call(session, "cuptiProfilerHostGetConfigImageSize", &size, error);
    if (!status && !(session->config = calloc(1, size.bytes + 1))) {
        status = error_no_memory(error, "counters", size.bytes);
    }
    if (!status) {
        session->config_bytes = size.bytes;
        struct config_image image = {HEAD(config_image, image), session->host, size.bytes,
                                     session->config};
        status = call(session, "cuptiProfilerHostGetConfigImage", &image, error);
    }
    return status;
}

/* The device's side: one range, done again until all counters have been read. */
static llcuda_status prepare(struct session *session, struct llcuda_error *error)
{
    struct range_enable enable = {HEAD(range_enable, profiler), session->context, NULL};
    llcuda_status status = call(session, "cuptiRangeProfilerEnable", &enable, error);
    if (status) {
        return status;
    }
    session->profiler = enable.profiler;
    struct data_size size = {
        HEAD(data_size, bytes), session->profiler, session->names, session->count, 1, 1, 0};
    status = call(session, "cuptiRangeProfilerGetCounterDataSize", &size, error);
    if (!status && !(session->data = calloc(1, size.bytes + 1))) {
        status = error_no_memory(error, "counters", size.bytes);
    }
    if (!status) {
        session->data_bytes = size.bytes;
        struct data_begin begin = {HEAD(data_begin, data), session->profiler, size.bytes,
                                   session->data};
        status = call(session, "cuptiRangeProfilerCounterDataImageInitialize", &begin, error);
    }
    if (!status) {
        struct range_config config = {.head = HEAD(range_config, level_target),
                                      .profiler = session->profiler,
                                      .config_bytes = session->config_bytes,
                                      .config = session->config,
                                      .data_bytes = session->data_bytes,
                                      .data = session->data,
                                      .range = USER_RANGE,
                                      .replay = USER_REPLAY,
                                      .ranges_per_pass = 1,
                                      .levels = 1,
                                      .level_least = 1,
                                      .level_target = 1};
        status = call(session, "cuptiRangeProfilerSetConfig", &config, error);
    }
    return status;
}

static llcuda_status replay(struct session *session,
                            llcuda_status (*work)(void *, struct llcuda_error *), void *user,
                            uint32_t *passes, struct llcuda_error *error)
{
    struct range_object object = {HEAD(range_object, profiler), session->profiler};
    struct range_push push = {HEAD(range_push, name), session->profiler, "work"};
    struct range_stop stop = {.head = HEAD(range_stop, all_passes), .profiler = session->profiler};
    llcuda_status status = LLCUDA_OK;
    for (*passes = 0; !status && !stop.all_passes; (*passes)++) {
        if (*passes == PASSES_MAX) {
            return error_set(error, LLCUDA_UNSUPPORTED,
                             "no counters: CUPTI asked for more than %u passes", PASSES_MAX);
        }
        status = call(session, "cuptiRangeProfilerStart", &object, error);
        if (status) {
            break;
        }
        status = call(session, "cuptiRangeProfilerPushRange", &push, error);
        if (!status) {
            status = work(user, error);
            struct llcuda_error later = {0};
            llcuda_status popped =
                call(session, "cuptiRangeProfilerPopRange", &object, status ? &later : error);
            status = status ? status : popped;
        }
        struct llcuda_error later = {0};
        llcuda_status stopped =
            call(session, "cuptiRangeProfilerStop", &stop, status ? &later : error);
        status = status ? status : stopped;
    }
    return status;
}

static llcuda_status evaluate(struct session *session, struct gpu_counters *out,
                              struct llcuda_error *error)
{
    double seen[METRICS] = {0};
    double figures[METRICS] = {NAN, NAN, NAN};
    struct range_decode decode = {HEAD(range_decode, dropped), session->profiler, 0};
    struct values values = {.head = HEAD(values, values),
                            .host = session->host,
                            .data = session->data,
                            .bytes = session->data_bytes,
                            .names = session->names,
                            .count = session->count,
                            .values = seen};
    llcuda_status status = call(session, "cuptiRangeProfilerDecodeData", &decode, error);
    if (!status) {
        status = call(session, "cuptiProfilerHostEvaluateToGpuValues", &values, error);
    }
    for (size_t i = 0; !status && i < session->count; i++) {
        figures[session->places[i]] = seen[i];
    }
    out->occupancy = figures[OCCUPANCY] / 100;
    out->tensor_share = figures[TENSOR] / 100;
    out->sectors_per_request = figures[SECTORS];
    return status;
}

static void end(struct session *session, int device)
{
    struct llcuda_error unimportant = {0};
    if (session->profiler) {
        struct range_object object = {HEAD(range_object, profiler), session->profiler};
        call(session, "cuptiRangeProfilerDisable", &object, &unimportant);
    }
    if (session->host) {
        struct host_end host = {HEAD(host_end, host), session->host};
        call(session, "cuptiProfilerHostDeinitialize", &host, &unimportant);
    }
    if (session->initialised) {
        struct head head = {sizeof head, NULL};
        call(session, "cuptiProfilerDeInitialize", &head, &unimportant);
    }
    release_context(session, device);
    free(session->config);
    free(session->data);
    /* The libraries stay: both keep threads and handlers of their own once they have worked. */
}

llcuda_status gpu_counters_measure(int device, llcuda_status (*work)(void *, struct llcuda_error *),
                                   void *user, struct gpu_counters *out, struct llcuda_error *error)
{
    static const char *const libraries[] = {"libcupti.so.13",
                                            "libcupti.so.12",
                                            "libcupti.so",
                                            "/usr/local/cuda/extras/CUPTI/lib64/libcupti.so",
                                            "/usr/local/cuda/lib64/libcupti.so",
                                            NULL};
    struct session session = {.cupti = load_any(libraries)};
    struct head head = {sizeof head, NULL};
    *out = (struct gpu_counters){NAN, NAN, NAN, 0};
    if (!session.cupti) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "no counters: CUPTI (libcupti.so) is not installed");
    }
    llcuda_status status = find_context(&session, device, error);
    if (!status) {
        status = call(&session, "cuptiProfilerInitialize", &head, error);
        session.initialised = !status;
    }
    if (!status) {
        status = configure(&session, device, error);
    }
    if (!status) {
        status = prepare(&session, error);
    }
    if (!status) {
        status = replay(&session, work, user, &out->passes, error);
    }
    if (!status) {
        status = evaluate(&session, out, error);
    }
    end(&session, device);
    return status;
}
