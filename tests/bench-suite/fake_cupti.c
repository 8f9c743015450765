/* A library with the part of CUPTI's and the driver's interfaces that counters need, and one GPU
 * that says what a test tells it. Every object that is begun is counted until it is ended. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT int fake_cupti_refuse_enable;        /* the code with which profiling is refused, or 0 */
EXPORT int fake_cupti_passes = 2;           /* that the counters need */
EXPORT int fake_cupti_open;                 /* objects that were begun and not ended */
EXPORT int fake_cupti_ranges;               /* ranges that were done */
EXPORT const char *fake_cupti_unknown = ""; /* a part of a metric's name that this chip lacks */

#define FUNCTION(name)                 \
    EXPORT int name(void *parameters); \
    int name(void *parameters)

static int passes_done;
static int pushed;
static int the_object;

/* Where members lie: the published order, in words of eight bytes. */
static uint64_t *words(void *parameters)
{
    return parameters;
}

EXPORT int cuInit(unsigned flags);
EXPORT int cuDevicePrimaryCtxRetain(void **context, int device);
EXPORT int cuDevicePrimaryCtxRelease_v2(int device);
EXPORT int cuCtxSetCurrent(void *context);

int cuInit(unsigned flags)
{
    return (int)flags;
}

int cuDevicePrimaryCtxRetain(void **context, int device)
{
    *context = &the_object;
    return device == 0 ? 0 : 101;
}

int cuDevicePrimaryCtxRelease_v2(int device)
{
    return device;
}

int cuCtxSetCurrent(void *context)
{
    return context == &the_object ? 0 : 201;
}

FUNCTION(cuptiProfilerInitialize)
{
    fake_cupti_open += words(parameters)[0] == 16 ? 1 : 100;
    return 0;
}

FUNCTION(cuptiProfilerDeInitialize)
{
    (void)parameters;
    fake_cupti_open--;
    return 0;
}

FUNCTION(cuptiDeviceGetChipName)
{
    static const char name[] = "fake";
    const char *where = name;
    memcpy(&words(parameters)[3], &where, sizeof where);
    return 0;
}

FUNCTION(cuptiProfilerHostInitialize)
{
    void *object = &the_object;
    memcpy(&words(parameters)[5], &object, sizeof object);
    fake_cupti_open++;
    return 0;
}

FUNCTION(cuptiProfilerHostDeinitialize)
{
    (void)parameters;
    fake_cupti_open--;
    return 0;
}

FUNCTION(cuptiProfilerHostConfigAddMetrics)
{
    const char **names;
    memcpy(&names, &words(parameters)[3], sizeof names);
    int unknown = fake_cupti_unknown[0] && strstr(names[0], fake_cupti_unknown);
    return unknown ? 17 : 0;
}

FUNCTION(cuptiProfilerHostGetConfigImageSize)
{
    words(parameters)[3] = 64;
    return 0;
}

FUNCTION(cuptiProfilerHostGetConfigImage)
{
    uint8_t *image;
    memcpy(&image, &words(parameters)[4], sizeof image);
    memset(image, 7, words(parameters)[3]);
    return 0;
}

FUNCTION(cuptiRangeProfilerEnable)
{
    void *object = &the_object;
    if (fake_cupti_refuse_enable) {
        return fake_cupti_refuse_enable;
    }
    memcpy(&words(parameters)[3], &object, sizeof object);
    passes_done = 0;
    fake_cupti_open++;
    return 0;
}

FUNCTION(cuptiRangeProfilerDisable)
{
    (void)parameters;
    fake_cupti_open--;
    return 0;
}

FUNCTION(cuptiRangeProfilerGetCounterDataSize)
{
    words(parameters)[7] = 128;
    return 0;
}

FUNCTION(cuptiRangeProfilerCounterDataImageInitialize)
{
    return words(parameters)[3] == 128 ? 0 : 1;
}

FUNCTION(cuptiRangeProfilerSetConfig)
{
    const uint8_t *config;
    memcpy(&config, &words(parameters)[4], sizeof config);
    return words(parameters)[3] == 64 && config[63] == 7 ? 0 : 1;
}

FUNCTION(cuptiRangeProfilerStart)
{
    (void)parameters;
    fake_cupti_open++;
    return 0;
}

FUNCTION(cuptiRangeProfilerPushRange)
{
    (void)parameters;
    pushed++;
    return 0;
}

FUNCTION(cuptiRangeProfilerPopRange)
{
    (void)parameters;
    pushed--;
    fake_cupti_ranges++;
    return 0;
}

FUNCTION(cuptiRangeProfilerStop)
{
    uint8_t all = ++passes_done >= fake_cupti_passes;
    memcpy((char *)parameters + 40, &all, 1);
    fake_cupti_open--;
    return pushed ? 7 : 0;
}

FUNCTION(cuptiRangeProfilerDecodeData)
{
    (void)parameters;
    return 0;
}

/* 75 for the occupancy, 62.5 for the tensor cores, 4 sectors a request. */
FUNCTION(cuptiProfilerHostEvaluateToGpuValues)
{
    const char **names;
    double *values;
    memcpy(&names, &words(parameters)[6], sizeof names);
    memcpy(&values, &words(parameters)[8], sizeof values);
    for (uint64_t i = 0; i < words(parameters)[7]; i++) {
        values[i] = strstr(names[i], "warps") ? 75 : strstr(names[i], "tensor") ? 62.5 : 4;
    }
    return 0;
}
