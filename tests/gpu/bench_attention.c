/* What attention costs a layer: decode beside the bytes of its keys and values, prefill beside its
 * operations; with --exact as a deterministic device does it, with --prompts only prompts.
 * LLCUDA_TEST_DEVICE=cuda runs it on a real GPU; the emulated device only shows that it runs.
 * Layers take turns on caches that together are larger than the second-level cache, in a replayed
 * graph. */
#include "gpu_support.h"

#include "gpu/attention.h"
#include "gpu/jit.h"

#define LAUNCHES   32u /* layers of a graph */
#define REPLAYS    9u
#define TURN_BYTES (256ull << 20)

struct subject {
    const char *name;
    uint32_t head_count, kv_head_count, head_size;
    enum dtype kv;
};

/* `rows` of decode with `context` positions each, or one prompt of `rows`. */
struct load {
    bool is_prompt;
    uint32_t rows, context;
};

struct bench {
    struct gpu_bench base;
    struct gpu_attention_config config;
    struct gpu_attention_kernels kernels;
    struct gpu_device_info info;
};

static uint64_t fill_random(struct bench *bench, uint64_t bytes, bool is_float)
{
    static uint16_t values[1u << 20];
    struct gpu_driver *driver = bench->base.driver;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        values[i] = float_to_bf16(test_random_normal());
        if (is_float && i % 2 == 0) {
            values[i] = 0; /* the low half of a float */
        }
    }
    uint64_t address = gpu_bench_upload(&bench->base, NULL, bytes);
    for (uint64_t at = 0; at < bytes; at += sizeof values) {
        uint64_t rest = bytes - at;
        assert_ok(driver->copy_in(driver, bench->base.stream, address + at, values,
                                  rest < sizeof values ? rest : sizeof values, &bench->base.error),
                  bench->base.error);
    }
    assert_ok(driver->stream_wait(driver, bench->base.stream, 0, &bench->base.error),
              bench->base.error);
    return address;
}

static void open_subject(struct bench *bench, const struct subject *subject, bool exact)
{
    struct gpu_driver *driver = bench->base.driver;
    struct llcuda_error *error = &bench->base.error;
    const struct gpu_attention_shape shape = {.head_count = subject->head_count,
                                              .kv_head_count = subject->kv_head_count,
                                              .head_size = subject->head_size,
                                              .kv = subject->kv,
                                              .act = DTYPE_BF16,
                                              .exact = exact};
    const struct gpu_jit_options options = {0};
    struct gpu_jit *jit = NULL;
    struct buffer prelude = {0};
    struct gpu_jit_module module = {.name = "attention", .files = gpu_attention_files};
    driver->describe(driver, &bench->info);
    assert_ok(gpu_attention_configure(&shape, &bench->info, &bench->config, error), *error);
    assert_true(gpu_attention_prelude(&bench->config, &prelude));
    module.prelude = buffer_view(&prelude);
    while (gpu_attention_files[module.file_count]) {
        module.file_count++;
    }
    assert_ok(gpu_jit_create(driver, &options, &jit, error), *error);
    assert_ok(gpu_jit_load(jit, &module, &bench->base.module, error), *error);
    gpu_jit_destroy(jit);
    buffer_deinit(&prelude);
    assert_ok(
        gpu_attention_load(driver, bench->base.module, &bench->config, &bench->kernels, error),
        *error);
}

/* Device memory of a load. */
struct memory {
    uint64_t state, positions, sequences, tables, raw, query, frequencies, attended, tiles,
        decode_rows, workspace, caches;
    uint64_t cache_bytes; /* of one layer */
    uint32_t layers;
};

/* The step of a load: fills in lists, and what a call needs. */
static void prepare(struct bench *bench, const struct load *load, struct memory *memory,
                    struct gpu_attention_call *call)
{
    const struct gpu_attention_shape *shape = &bench->config.shape;
    struct gpu_bench *base = &bench->base;
    const uint32_t rows = load->rows;
    const uint32_t sequences = load->is_prompt ? 1 : rows;
    const uint32_t positions = load->is_prompt ? rows : load->context;
    const uint32_t stride = positions / KV_BLOCK_TOKENS + 1;
    const uint32_t width = shape->head_count * shape->head_size;
    const uint32_t raw = (shape->head_count + 2 * shape->kv_head_count) * shape->head_size;
    uint32_t *numbers = calloc(3ull * rows, sizeof *numbers);
    uint32_t *tables = malloc(sizeof *tables * sequences * stride);
    struct attention_tile *tiles = malloc(sizeof *tiles * rows);
    for (uint32_t i = 0; i < rows; i++) {
        numbers[i] = load->is_prompt ? i : load->context - 1;
        numbers[rows + i] = load->is_prompt ? 0 : i;
    }
    for (uint32_t i = 0; i < sequences * stride; i++) {
        uint32_t j = (uint32_t)test_random_below(i + 1);
        tables[i] = tables[j];
        tables[j] = i;
    }
    const struct step_batch batch = {.row_count = rows,
                                     .positions = numbers,
                                     .sequences = numbers + rows,
                                     .sequence_count = sequences};
    struct gpu_attention_cut cut;
    gpu_attention_cut(&bench->config, &batch, tiles, numbers + 2 * rows, &cut);
    const struct step_state state = {rows,           0,     sequences, stride, cut.decode_count,
                                     cut.tile_count, {0, 0}};
    const uint32_t groups = gpu_attention_groups(&bench->config, positions - 1, rows);
    memory->state = gpu_bench_upload(base, &state, sizeof state);
    memory->positions = gpu_bench_upload(base, numbers, 4ull * rows);
    memory->sequences = gpu_bench_upload(base, numbers + rows, 4ull * rows);
    memory->decode_rows = gpu_bench_upload(base, numbers + 2 * rows, 4ull * rows);
    memory->tables = gpu_bench_upload(base, tables, 4ull * sequences * stride);
    memory->tiles = gpu_bench_upload(base, tiles, sizeof *tiles * rows);
    memory->raw = fill_random(bench, 4ull * rows * raw, true);
    memory->frequencies = fill_random(bench, 4ull * shape->head_size, true);
    memory->query = gpu_bench_upload(base, NULL, 2ull * rows * width);
    memory->attended = gpu_bench_upload(base, NULL, 2ull * rows * width);
    memory->cache_bytes = (uint64_t)sequences * stride * gpu_attention_block_bytes(&bench->config);
    const uint64_t turns = TURN_BYTES / memory->cache_bytes + 1;
    memory->layers = turns < LAUNCHES ? (uint32_t)turns : LAUNCHES;
    memory->caches = fill_random(bench, memory->cache_bytes * memory->layers, false);
    const uint64_t workspace = gpu_attention_workspace_bytes(&bench->config, rows, groups);
    memory->workspace = gpu_bench_upload(base, NULL, workspace);
    assert_ok(base->driver->fill(base->driver, base->stream, memory->workspace, 0, workspace,
                                 &base->error),
              base->error);
    assert_ok(base->driver->stream_wait(base->driver, base->stream, 0, &base->error), base->error);
    free(numbers);
    free(tables);
    free(tiles);
    *call = (struct gpu_attention_call){
        .step = {memory->state, memory->positions, memory->sequences, memory->tables},
        .projection = {.raw = memory->raw,
                       .frequencies = memory->frequencies,
                       .magnitude = 1,
                       .rotary_kind = ROTARY_HALF,
                       .rotary_size = shape->head_size},
        .query = memory->query,
        .attended = memory->attended,
        .scale = 0.1f,
        .workspace = memory->workspace,
        .decode = cut.decode,
        .rows = rows,
        .decode_rows_max = cut.decode_count,
        .tiles_max = cut.tile_count,
        .groups = groups,
        .tiles = memory->tiles,
        .decode_rows = memory->decode_rows,
    };
}

static void release(struct bench *bench, const struct memory *memory)
{
    const uint64_t all[] = {memory->state,  memory->positions, memory->sequences,
                            memory->tables, memory->raw,       memory->query,
                            memory->tiles,  memory->attended,  memory->frequencies,
                            memory->caches, memory->workspace, memory->decode_rows};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        bench->base.driver->memory_free(bench->base.driver, all[i]);
    }
}

/* Milliseconds a layer: the median of some replays of a graph. */
static double time_call(struct bench *bench, const struct memory *memory,
                        struct gpu_attention_call *call)
{
    struct gpu_driver *driver = bench->base.driver;
    struct gpu_stream *stream = bench->base.stream;
    struct llcuda_error *error = &bench->base.error;
    struct gpu_graph *graph = NULL;
    struct gpu_event *events[2];
    double times[REPLAYS];
    const uint32_t replays = gpu_bench_is_emulated() ? 1 : REPLAYS;
    for (uint32_t i = 0; i < 2; i++) {
        assert_ok(driver->event_create(driver, true, &events[i], error), *error);
    }
    assert_ok(driver->capture_begin(driver, stream, error), *error);
    for (uint32_t i = 0; i < LAUNCHES; i++) {
        call->cache = memory->caches + i % memory->layers * memory->cache_bytes;
        assert_ok(
            gpu_attention_launch(driver, stream, &bench->config, &bench->kernels, call, error),
            *error);
    }
    assert_ok(driver->capture_end(driver, stream, &graph, error), *error);
    for (uint32_t i = 0; i < replays; i++) {
        assert_ok(driver->graph_launch(driver, stream, graph, error), *error); /* warm */
        assert_ok(driver->event_record(driver, events[0], stream, error), *error);
        assert_ok(driver->graph_launch(driver, stream, graph, error), *error);
        assert_ok(driver->event_record(driver, events[1], stream, error), *error);
        assert_ok(driver->event_wait(driver, events[1], 0, error), *error);
        assert_ok(driver->event_elapsed(driver, events[0], events[1], &times[i], error), *error);
        for (uint32_t j = i; j > 0 && times[j] < times[j - 1]; j--) {
            double larger = times[j - 1];
            times[j - 1] = times[j];
            times[j] = larger;
        }
    }
    for (uint32_t i = 0; i < 2; i++) {
        driver->event_destroy(driver, events[i]);
    }
    driver->graph_destroy(driver, graph);
    return times[replays / 2] / LAUNCHES;
}

static void run(struct bench *bench, const struct subject *subject, const struct load *load)
{
    const struct gpu_attention_shape *shape = &bench->config.shape;
    struct memory memory;
    struct gpu_attention_call call;
    prepare(bench, load, &memory, &call);
    double plain = time_call(bench, &memory, &call);
    call.overlap = true;
    double overlapped = time_call(bench, &memory, &call);
    release(bench, &memory);
    double best = overlapped < plain ? overlapped : plain;
    printf("%-4s %-7s %s rows %5u context %6u  %9.2f µs a layer, overlapped %9.2f  ", subject->name,
           dtype_info(subject->kv)->name, load->is_prompt ? "prompt" : "decode", load->rows,
           load->is_prompt ? load->rows : load->context, plain * 1e3, overlapped * 1e3);
    if (load->is_prompt) {
        double pairs = (double)load->rows * (load->rows + 1) / 2;
        double flop = 4 * pairs * shape->head_count * shape->head_size;
        printf("%8.1f TFLOP/s\n", flop / best * 1e-9);
    } else {
        double bytes = (double)gpu_attention_block_bytes(&bench->config) / KV_BLOCK_TOKENS *
                       load->rows * load->context;
        printf("%8.1f GB/s\n", bytes / best * 1e-6);
    }
    fflush(stdout);
}

/* bench_attention [--exact] [--prompts] [the cache's type] */
int main(int argument_count, char **arguments)
{
    bool exact = false, prompts = false;
    const char *type = NULL;
    for (int i = 1; i < argument_count; i++) {
        exact = exact || strcmp(arguments[i], "--exact") == 0;
        prompts = prompts || strcmp(arguments[i], "--prompts") == 0;
        type = arguments[i][0] == '-' ? type : arguments[i];
    }
    static const struct subject subjects[] = {
        {"1B", 32, 8, 64, DTYPE_BF16},    {"8B", 32, 8, 128, DTYPE_BF16},
        {"1B", 32, 8, 64, DTYPE_F8_E4M3}, {"8B", 32, 8, 128, DTYPE_F8_E4M3},
        {"1B", 32, 8, 64, DTYPE_Q8_0},    {"8B", 32, 8, 128, DTYPE_Q8_0},
    };
    static const struct load loads[] = {
        {false, 1, 100},   {false, 1, 160},   {false, 1, 1024},   {false, 1, 8192},
        {false, 1, 65536}, {false, 8, 512},   {false, 32, 512},   {false, 32, 2048},
        {false, 32, 8192}, {false, 256, 512}, {false, 256, 2048}, {true, 512, 0},
        {true, 2048, 0},   {true, 8192, 0},
    };
    static const struct load emulated[] = {{false, 2, 100}, {true, 64, 0}};
    const bool is_real = !gpu_bench_is_emulated();
    const struct load *list = is_real ? loads : emulated;
    const size_t count = is_real ? sizeof loads / sizeof loads[0] : 2;
    for (size_t s = 0; s < sizeof subjects / sizeof subjects[0]; s++) {
        struct bench bench;
        if (type && strcmp(type, dtype_info(subjects[s].kv)->name) != 0) {
            continue;
        }
        gpu_bench_open(&bench.base, GPU_EMU_FORWARD, 0);
        open_subject(&bench, &subjects[s], exact);
        for (size_t i = 0; i < count; i++) {
            if (prompts && !list[i].is_prompt) {
                continue;
            }
            run(&bench, &subjects[s], &list[i]);
        }
        gpu_bench_close(&bench.base);
    }
    return 0;
}
