/* What the emulated GPU costs: nanoseconds a thread and round of each kind of word. */
#include "gpu_support.h"

#include "base/clock.h"

struct speed_arguments {
    uint64_t out;
    uint64_t rounds;
    uint64_t unused;
};

int main(void)
{
    enum { BLOCKS = 4, THREADS = 256 };
    static const struct {
        const char *kernel;
        const char *words;
        uint64_t rounds;
    } cases[] = {
        {"plain", "nothing: a thread that only starts and ends", 0},
        {"plain", "a dependent multiply-add", 1000},
        {"shuffle", "warp_shuffle_xor", 100},
        {"reduce", "vendor_warp_sum", 100},
        {"barrier", "__syncthreads", 100},
        {"matrix", "mma_bf16", 100},
    };
    struct gpu_bench bench;
    char *text = gpu_bench_text("speed.cu", NULL, 0);
    gpu_bench_open(&bench, GPU_EMU_FORWARD, 0);
    gpu_bench_load(&bench, text);
    struct speed_arguments arguments = {
        .out = gpu_bench_upload(&bench, NULL, (uint64_t)BLOCKS * THREADS * sizeof(float))};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t best = UINT64_MAX;
        for (uint32_t run = 0; run < 100; run++) {
            arguments.rounds = cases[i].rounds;
            const uint64_t start = clock_now_ns();
            if (gpu_bench_launch(&bench, cases[i].kernel, BLOCKS, THREADS, 0, &arguments,
                                 sizeof arguments)) {
                return 1;
            }
            const uint64_t time = clock_now_ns() - start;
            best = time < best ? time : best;
        }
        const uint64_t times = cases[i].rounds ? cases[i].rounds : 1;
        printf("%8.2f ns a thread  %s\n", (double)best / (double)(BLOCKS * THREADS * times),
               cases[i].words);
    }
    bench.driver->memory_free(bench.driver, arguments.out);
    gpu_bench_close(&bench);
    free(text);
    return 0;
}
