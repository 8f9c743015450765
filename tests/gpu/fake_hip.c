/* A machine with an AMD GPU as far as opening it, launching on it and compiling for it can tell:
 * libamdhip64 of version 5, which has hipRTC in it. Names are written out as AMD documents them. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STUB(name)  \
    int name(void); \
    int name(void)  \
    {               \
        return 0;   \
    }

STUB(hipDeviceTotalMem)
STUB(hipDevicePrimaryCtxRelease)
STUB(hipCtxSetCurrent)
STUB(hipFree)
STUB(hipHostMalloc)
STUB(hipHostFree)
STUB(hipMemcpyHtoDAsync)
STUB(hipMemcpyDtoHAsync)
STUB(hipMemcpyDtoDAsync)
STUB(hipMemsetD8Async)
STUB(hipStreamCreateWithFlags)
STUB(hipStreamDestroy)
STUB(hipStreamQuery)
STUB(hipStreamWaitEvent)
STUB(hipEventCreateWithFlags)
STUB(hipEventDestroy)
STUB(hipEventRecord)
STUB(hipEventQuery)
STUB(hipEventElapsedTime)
STUB(hipModuleLoadDataEx)
STUB(hipModuleUnload)
STUB(hipModuleGetFunction)
STUB(hipFuncGetAttribute)
STUB(hipModuleOccupancyMaxActiveBlocksPerMultiprocessor)
STUB(hipStreamBeginCapture)
STUB(hipStreamEndCapture)
STUB(hipGraphInstantiateWithFlags)
STUB(hipGraphLaunch)
STUB(hipGraphDestroy)
STUB(hipGraphExecDestroy)

static int device_count = 1;
static unsigned long launched;

void fake_hip_devices(int count);
unsigned long fake_hip_launched(void);

void fake_hip_devices(int count)
{
    device_count = count;
}

/* Blocks of the last launch. */
unsigned long fake_hip_launched(void)
{
    return launched;
}

const char *hipGetErrorName(int error)
{
    return error == 2 ? "hipErrorOutOfMemory" : "hipErrorFake";
}

const char *hipGetErrorString(int error)
{
    return error == 2 ? "out of memory" : "fake trouble";
}

/* As the real one does where there is no device. */
int hipInit(unsigned int flags)
{
    (void)flags;
    return device_count ? 0 : 101;
}

int hipDriverGetVersion(int *version)
{
    *version = 60342134;
    return 0;
}

int hipDeviceGet(int *device, int ordinal)
{
    *device = ordinal;
    return 0;
}

int hipGetDeviceCount(int *count)
{
    *count = device_count;
    return 0;
}

int hipDeviceGetName(char *name, int length, int device)
{
    (void)device;
    snprintf(name, (size_t)length, "Fake Instinct");
    return 0;
}

int hipDeviceGetAttribute(int *value, int attribute, int device)
{
    (void)device;
    *value = attribute == 74 ? 65536 : attribute;
    return 0;
}

int hipDeviceGetPCIBusId(char *text, int length, int device)
{
    (void)device;
    snprintf(text, (size_t)length, "0000:83:00.0");
    return 0;
}

/* The name of the architecture somewhere in a long struct. */
int hipGetDeviceProperties(void *properties, int device)
{
    (void)device;
    snprintf(properties, 256, "Fake gfx");
    memcpy((char *)properties + 396, "gfx90a:sramecc+:xnack-", 23);
    return 0;
}

int hipDevicePrimaryCtxRetain(void **context, int device)
{
    (void)device;
    *context = context;
    return 0;
}

int hipMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    *free_bytes = 10;
    *total_bytes = 30;
    return 0;
}

int hipMalloc(void **memory, size_t bytes)
{
    *memory = (void *)0x4000;
    return bytes > 1000 ? 2 : 0;
}

int hipModuleLaunchKernel(void *function, unsigned int x, unsigned int y, unsigned int z)
{
    (void)function;
    launched = (unsigned long)x * y * z;
    return 0;
}

/* hipRTC. The text says what happens: "abort", "hang", "error". */
static const char *program_text;

const char *hiprtcGetErrorString(int result)
{
    return result == 6 ? "HIPRTC_ERROR_COMPILATION" : "HIPRTC_ERROR_FAKE";
}

int hiprtcVersion(int *major, int *minor)
{
    *major = 9;
    *minor = 1;
    return 0;
}

int hiprtcCreateProgram(void **program, const char *source, const char *name, int count,
                        const char *const *headers, const char *const *names)
{
    (void)name;
    (void)count;
    (void)headers;
    (void)names;
    program_text = source;
    *program = program;
    return 0;
}

int hiprtcDestroyProgram(void **program)
{
    *program = NULL;
    return 0;
}

int hiprtcCompileProgram(void *program, int count, const char *const *options)
{
    (void)program;
    if (strcmp(program_text, "abort") == 0) {
        abort();
    }
    if (strcmp(program_text, "hang") == 0) {
        sleep(1000);
    }
    if (strcmp(program_text, "leave") == 0) {
        _exit(0);
    }
    printf("words that nobody wants\n");
    return strcmp(program_text, "error") == 0 || count < 2 ||
                   strcmp(options[0], "--gpu-architecture=gfx90a") != 0
               ? 6
               : 0;
}

int hiprtcGetCodeSize(void *program, size_t *bytes)
{
    (void)program;
    *bytes = 100000;
    return 0;
}

int hiprtcGetCode(void *program, char *code)
{
    (void)program;
    memset(code, 'c', 100000);
    return 0;
}

int hiprtcGetProgramLogSize(void *program, size_t *bytes)
{
    (void)program;
    *bytes = 21;
    return 0;
}

int hiprtcGetProgramLog(void *program, char *log)
{
    (void)program;
    memcpy(log, "1:1: error: no words", 21);
    return 0;
}
