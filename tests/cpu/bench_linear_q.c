/* Times the quantised matrix kernels of this machine on one thread and prints them as shares of
 * two ceilings measured in the same process: reading memory, and 8-bit dot products from registers.
 * The clock is the thread's processor time, the result the best of many short passes, so that a
 * busy machine disturbs it less. Before a kernel is timed its bits are compared with the portable
 * kernel's, so that this alone shows on a new machine whether a kernel works there; the exit status
 * is 1 when one does not.
 *
 *     bench_linear_q [TYPE [LEVEL]]      such as: bench_linear_q q4_k avx512vnni
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "cpu/features.h"
#include "cpu/measure.h"
#include "tensor/quant.h"

static const struct {
    uint64_t rows, columns;
} shapes[] = {{2048, 2048}, {8192, 2048}, {2048, 8192}};
#define SHAPE_COUNT (sizeof shapes / sizeof shapes[0])

static const uint32_t token_counts[] = {1, 2, 4, 8, 64, 512};
#define TOKEN_COUNTS (sizeof token_counts / sizeof token_counts[0])
#define TOKENS_MAX   512

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

#if defined(__x86_64__)
/* GOP/s of vpdpbusd on sixteen independent registers, two operations a byte. */
__attribute__((target("avx512f,avx512vnni"))) static double dot_peak(void)
{
    double best = 0;
    for (int pass = 0; pass < 50; pass++) {
        __m512i sums[16];
        __m512i factor = _mm512_set1_epi8((char)(pass + 1));
        for (int j = 0; j < 16; j++) {
            sums[j] = _mm512_set1_epi32(pass * 16 + j); /* or the compiler computes one of them */
        }
        uint64_t begin = now_ns();
        for (int i = 0; i < 50000; i++) {
            for (int j = 0; j < 16; j++) {
                sums[j] = _mm512_dpbusd_epi32(sums[j], factor, factor);
            }
        }
        double rate = 50000.0 * 16 * 128 / (double)(now_ns() - begin);
        for (int j = 1; j < 16; j++) {
            sums[0] = _mm512_add_epi32(sums[0], sums[j]);
        }
        volatile int sink = _mm_cvtsi128_si32(_mm512_castsi512_si128(sums[0]));
        (void)sink;
        best = rate > best ? rate : best;
    }
    return best;
}
#endif

static void *allocate(uint64_t bytes)
{
    const uint64_t page = 2u << 20;
    void *memory = aligned_alloc(page, (bytes + page - 1) / page * page);
    if (!memory) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    /* Huge pages, as the device asks for them. */
    madvise(memory, (bytes + page - 1) / page * page, MADV_HUGEPAGE);
    memset(memory, 0, bytes);
    return memory;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static uint64_t read_all(const void *memory, uint64_t bytes)
{
    const __m256i *vectors = memory;
    __m256i sums[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                       _mm256_setzero_si256()};
    for (uint64_t i = 0; i < bytes / 32; i += 4) {
        _mm_prefetch((const char *)(vectors + i) + 2048, _MM_HINT_T0);
        _mm_prefetch((const char *)(vectors + i) + 2112, _MM_HINT_T0);
        for (uint64_t j = 0; j < 4; j++) {
            sums[j] = _mm256_add_epi64(sums[j], _mm256_loadu_si256(vectors + i + j));
        }
    }
    sums[0] =
        _mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]), _mm256_add_epi64(sums[2], sums[3]));
    return (uint64_t)_mm256_extract_epi64(sums[0], 0);
}
#else
static uint64_t read_all(const void *memory, uint64_t bytes)
{
    const uint64_t *words = memory;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < bytes / 8; i++) {
        sum += words[i];
    }
    return sum;
}
#endif

/* GB/s of reading memory, the best of passes of 40 MB over 800 MB. */
static double read_bandwidth(const unsigned char *memory, uint64_t bytes)
{
    const uint64_t part = bytes / 20 / 128 * 128;
    double best = 0;
    for (uint64_t pass = 0; pass < 100; pass++) {
        uint64_t begin = now_ns();
        volatile uint64_t sink = read_all(memory + pass % 20 * part, part);
        (void)sink;
        double rate = (double)part / (double)(now_ns() - begin);
        best = rate > best ? rate : best;
    }
    return best;
}

/* Calls a kernel on all copies of a weight in turn for about half a second; ns a call, the best of
 * the passes of at least 5 ms. */
static double time_call(const struct linear_kernel *kernel, const unsigned char *weights,
                        uint64_t copies, uint64_t bytes, const struct linear_call *shape)
{
    double best = 0;
    uint64_t calls = 0;
    uint64_t start = now_ns();
    do {
        uint64_t begin = now_ns();
        uint64_t pass_calls = 0;
        uint64_t ns = 0;
        do {
            struct linear_call call = *shape;
            call.weight = weights + calls % copies * bytes;
            kernel->multiply(&call);
            calls++;
            pass_calls++;
            ns = now_ns() - begin;
        } while (ns < 5000000);
        double mean = (double)ns / (double)pass_calls;
        best = best == 0 || mean < best ? mean : best;
    } while (now_ns() - start < 400000000u);
    return best;
}

#define CHECKED_ROWS   40u
#define CHECKED_TOKENS 45u /* tiles of every size */

/* Whether the first rows and tokens come out as from the portable kernel. */
static bool is_right(const struct linear_kernel *kernel, const unsigned char *source,
                     const unsigned char *weights, const struct linear_call *shape)
{
    static const struct cpu_features none;
    const struct linear_kernel *portable =
        linear_kernel_choose(kernel->dtype, shape->columns, &none);
    uint64_t group = kernel->row_group;
    uint64_t rows = (CHECKED_ROWS + group - 1) / group * group;
    uint64_t floats = (uint64_t)CHECKED_TOKENS * shape->out_stride;
    float *out = allocate(2 * floats * sizeof(float));
    struct linear_call call = *shape;
    call.token_count = CHECKED_TOKENS;
    call.row_end = rows;
    call.weight = weights;
    call.out = out;
    kernel->multiply(&call);
    call.weight = kernel->packed_bytes(shape->row_count, shape->columns) ? source : weights;
    call.out = out + floats;
    portable->multiply(&call);
    bool right = memcmp(out, out + floats, floats * sizeof(float)) == 0;
    free(out);
    return right;
}

static bool bench_shape(const struct linear_kernel *kernel, uint64_t rows, uint64_t columns,
                        double ceiling, double peak)
{
    const struct dtype_info *info = dtype_info(kernel->dtype);
    uint64_t row_bytes = columns / info->block_elements * info->block_bytes;
    uint64_t packed = kernel->packed_bytes(rows, columns);
    uint64_t bytes = packed ? packed : rows * row_bytes;
    /* So many copies that no cache holds them. */
    uint64_t copies = 600000000u / bytes + 1;
    unsigned char *source = allocate(rows * row_bytes);
    unsigned char *weights = allocate(copies * bytes);
    float *row = allocate(columns * sizeof(float));
    uint64_t stride = activation_row_bytes(ACTIVATION_Q8, columns);
    unsigned char *activations = allocate(stride * TOKENS_MAX);
    float *out = allocate(TOKENS_MAX * rows * sizeof(float));
    struct cpu_features features;
    cpu_features_detect(&features);
    for (uint64_t r = 0; r < rows; r++) {
        for (uint64_t k = 0; k < columns; k++) {
            row[k] = (float)(rand() % 2001 - 1000) * 1e-3f;
        }
        if (r < TOKENS_MAX) {
            activation_prepare(ACTIVATION_Q8, row, columns, activations + r * stride, &features);
        }
        if (r < 16) {
            quantize_row(kernel->dtype, row, NULL, source + r * row_bytes, columns);
        } else {
            memcpy(source + r * row_bytes, source + r % 16 * row_bytes, row_bytes);
        }
    }
    uint64_t begin = now_ns();
    for (uint64_t i = 0; i < copies; i++) {
        if (packed) {
            kernel->pack(source, rows, columns, 0, rows, weights + i * bytes);
        } else {
            memcpy(weights + i * bytes, source, bytes);
        }
    }
    double pack_rate = (double)(copies * bytes) / (double)(now_ns() - begin);
    struct linear_call call = {.columns = columns,
                               .row_end = rows,
                               .row_count = rows,
                               .activations = activations,
                               .activation_stride = stride,
                               .out = out,
                               .out_stride = rows};
    bool right = is_right(kernel, source, weights, &call);
    printf("%-30s %s %5llux%-5llu pack %4.1f GB/s", kernel->name, right ? "right" : "WRONG",
           (unsigned long long)rows, (unsigned long long)columns, pack_rate);
    for (size_t i = 0; i < TOKEN_COUNTS; i++) {
        call.token_count = token_counts[i];
        double ns = time_call(kernel, weights, token_counts[i] > 8 ? 1 : copies, bytes, &call);
        double file_bytes = (double)(rows * row_bytes);
        if (token_counts[i] <= 8) {
            printf(" | %u: %5.2f GB/s %3.0f%%", token_counts[i], file_bytes / ns,
                   100 * file_bytes / ns / ceiling);
        } else {
            double operations = 2.0 * (double)rows * (double)columns * token_counts[i];
            printf(" | %u: %4.0f GOP/s %2.0f%%", token_counts[i], operations / ns,
                   100 * operations / ns / peak);
        }
        fflush(stdout);
    }
    printf("\n");
    free(out);
    free(activations);
    free(row);
    free(weights);
    free(source);
    return right;
}

int main(int count, char **arguments)
{
    const uint64_t bytes = 800000000;
    void *memory = allocate(bytes);
    memset(memory, 1, bytes);
    double ceiling = read_bandwidth(memory, bytes);
    free(memory);
    struct cpu_features features;
    cpu_features_detect(&features);
    if (!cpu_features_request_amx()) {
        features.amx_int8 = features.amx_bf16 = false;
    }
    bool all_right = true;
    double peak = 1;
#if defined(__x86_64__)
    peak = features.avx512_vnni ? dot_peak() : 1;
#endif
#if defined(__x86_64__)
    if (features.amx_int8) {
        int32_t sink = 3;
        uint64_t begin = now_ns();
        uint64_t operations = measure_integer_amxint8(2000000, &sink);
        printf("AMX int8 %.0f GOP/s (not what shares refer to)\n",
               (double)operations / (double)(now_ns() - begin));
    }
#endif
    printf("memory read %.2f GB/s, vpdpbusd %.0f GOP/s; GB/s below count the bytes of the file\n",
           ceiling, peak);
    uint32_t kernel_count;
    const struct linear_kernel *const *kernels = linear_kernels(&kernel_count);
    for (uint32_t i = 0; i < kernel_count; i++) {
        const struct linear_kernel *kernel = kernels[i];
        bool wanted = kernel->activation == ACTIVATION_Q8 && kernel->available(&features);
        wanted =
            wanted && (count < 2 || strcmp(dtype_info(kernel->dtype)->name, arguments[1]) == 0);
        wanted = wanted && (count < 3 ? strstr(kernel->name, "scalar") == NULL
                                      : strstr(kernel->name, arguments[2]) != NULL);
        for (size_t s = 0; wanted && s < SHAPE_COUNT; s++) {
            all_right =
                bench_shape(kernel, shapes[s].rows, shapes[s].columns, ceiling, peak) && all_right;
        }
    }
    return all_right ? 0 : 1;
}
