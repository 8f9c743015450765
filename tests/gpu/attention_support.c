/* Owns random layers, pasts and steps, and the comparison of the kernels of attention with the
 * scalar reference. */
#include "attention_support.h"

#include "base/limits.h"
#include "gpu/kernel_sources.h"
#include "tensor/reference.h"

#define POISON 0xff /* NaN in every type */

/* What values are rounded to before they are multiplied. */
static enum dtype product_type(enum dtype kv)
{
    return kv == DTYPE_F8_E4M3 || kv == DTYPE_Q8_0 ? DTYPE_F16 : kv;
}

static uint32_t type_bytes(enum dtype type)
{
    return dtype_info(type)->block_bytes;
}

float value_read(enum dtype type, const void *from, uint64_t index)
{
    if (type == DTYPE_F32) {
        return ((const float *)from)[index];
    }
    uint16_t bits = ((const uint16_t *)from)[index];
    return type == DTYPE_F16 ? float_from_f16(bits) : float_from_bf16(bits);
}

static void value_write(enum dtype type, void *to, uint64_t index, float value)
{
    if (type == DTYPE_F32) {
        ((float *)to)[index] = value;
    } else {
        ((uint16_t *)to)[index] = type == DTYPE_F16 ? float_to_f16(value) : float_to_bf16(value);
    }
}

uint64_t attended_row_bytes(const struct rig *rig)
{
    return (uint64_t)rig->setup.head_count * rig->setup.head_size * type_bytes(rig->setup.act);
}

static uint32_t raw_width(const struct rig *rig)
{
    return (rig->setup.head_count + 2 * rig->setup.kv_head_count) * rig->setup.head_size;
}

static float *random_floats(bool wanted, uint64_t count, float middle, float deviation)
{
    float *values = wanted ? malloc(count * sizeof *values) : NULL;
    for (uint64_t i = 0; wanted && i < count; i++) {
        values[i] = middle + deviation * test_random_normal();
    }
    return values;
}

static void layer_make(struct layer *layer, const struct setup *setup)
{
    uint32_t size = setup->head_size;
    bool bias = setup->has_bias;
    layer->query_bias = random_floats(bias, (uint64_t)setup->head_count * size, 0, 0.3f);
    layer->key_bias = random_floats(bias, (uint64_t)setup->kv_head_count * size, 0, 0.3f);
    layer->value_bias = random_floats(bias, (uint64_t)setup->kv_head_count * size, 0, 0.3f);
    layer->query_norm = random_floats(setup->has_norm, size, 0.2f, 0.3f);
    layer->key_norm = random_floats(setup->has_norm, size, 0.2f, 0.3f);
    layer->sinks = random_floats(setup->has_sinks, setup->head_count, 0, 2);
    layer->frequencies = random_floats(true, size, 0, 1);
    for (uint32_t i = 0; i < setup->rotary_size / 2; i++) {
        layer->frequencies[i] = powf(10000.0f, -2.0f * (float)i / (float)setup->rotary_size);
    }
    layer->scale = 1.5f / sqrtf((float)size);
}

static void layer_destroy(struct layer *layer)
{
    float *all[] = {layer->query_bias, layer->key_bias, layer->value_bias, layer->query_norm,
                    layer->key_norm,   layer->sinks,    layer->frequencies};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        free(all[i]);
    }
}

/* The prelude and all texts as the JIT joins them. */
static char *kernel_text(const struct rig *rig, const char *without, uint32_t occurrence)
{
    struct buffer text = {0};
    assert_true(gpu_attention_prelude(&rig->config, &text));
    gpu_bench_append_words(&text);
    const size_t start = text.length;
    for (const char *const *name = gpu_attention_files; *name; name++) {
        const struct kernel_source *source = kernel_source_find(*name);
        assert_non_null(source);
        buffer_printf(&text, "# 1 \"%s\"\n", *name);
        gpu_bench_append(&text, source->text);
    }
    if (without) {
        char *at = strstr(text.data + start, without);
        for (uint32_t i = 0; at && i < occurrence; i++) {
            at = strstr(at + 1, without);
        }
        assert_non_null(at);
        memset(at, ' ', strlen(without));
    }
    assert_false(text.failed);
    return text.data;
}

static void put(struct rig *rig, uint64_t to, const void *from, uint64_t bytes)
{
    struct gpu_driver *driver = rig->bench.driver;
    assert_ok(driver->copy_in(driver, rig->bench.stream, to, from, bytes, &rig->bench.error),
              rig->bench.error);
}

static void poison(struct rig *rig, uint64_t to, uint8_t value, uint64_t bytes)
{
    struct gpu_driver *driver = rig->bench.driver;
    assert_ok(driver->fill(driver, rig->bench.stream, to, value, bytes, &rig->bench.error),
              rig->bench.error);
}

static void wait_done(struct rig *rig)
{
    struct gpu_driver *driver = rig->bench.driver;
    assert_ok(driver->stream_wait(driver, rig->bench.stream, 0, &rig->bench.error),
              rig->bench.error);
}

static uint64_t device_bytes(struct rig *rig, uint64_t bytes)
{
    return gpu_bench_upload(&rig->bench, NULL, bytes);
}

static void allocate(struct rig *rig)
{
    const struct setup *setup = &rig->setup;
    const struct layer *layer = &rig->layer;
    const uint32_t size = setup->head_size;
    const struct {
        const float *values;
        uint32_t count;
    } parameters[7] = {{layer->query_bias, setup->head_count * size},
                       {layer->key_bias, setup->kv_head_count * size},
                       {layer->value_bias, setup->kv_head_count * size},
                       {layer->query_norm, size},
                       {layer->key_norm, size},
                       {layer->sinks, setup->head_count},
                       {layer->frequencies, size}};
    for (uint32_t i = 0; i < 7; i++) {
        if (parameters[i].values) {
            rig->parameters[i] =
                gpu_bench_upload(&rig->bench, parameters[i].values, 4ull * parameters[i].count);
        }
    }
    rig->cache_bytes = 320 * gpu_attention_block_bytes(&rig->config);
    rig->block_table_bytes = 4ull * SEQUENCES_MAX * 256;
    rig->attended_bytes = ROWS_MAX * attended_row_bytes(rig) + 2 * GUARD_BYTES;
    rig->groups = gpu_attention_groups(&rig->config, 16 * 128, 1);
    rig->state = device_bytes(rig, sizeof(struct step_state));
    rig->positions = device_bytes(rig, 4ull * ROWS_MAX);
    rig->sequences = device_bytes(rig, 4ull * ROWS_MAX);
    rig->decode_rows = device_bytes(rig, 4ull * ROWS_MAX);
    rig->tiles = device_bytes(rig, sizeof(struct attention_tile) * ROWS_MAX);
    rig->block_tables = device_bytes(rig, rig->block_table_bytes);
    rig->raw = device_bytes(rig, 4ull * ROWS_MAX * raw_width(rig));
    rig->query = device_bytes(rig, 4ull * ROWS_MAX * setup->head_count * size);
    rig->cache = device_bytes(rig, rig->cache_bytes);
    rig->attended = device_bytes(rig, rig->attended_bytes);
    /* Once: steps of all sizes then share the counters. */
    const uint64_t counter_bytes = gpu_attention_counter_bytes(&rig->config);
    const uint64_t bytes = gpu_attention_workspace_bytes(&rig->config, ROWS_MAX, rig->groups);
    rig->workspace = device_bytes(rig, bytes);
    poison(rig, rig->workspace, 0, counter_bytes);
    poison(rig, rig->workspace + counter_bytes, POISON, bytes - counter_bytes);
}

void rig_open(struct rig *rig, const struct setup *setup, enum gpu_emu_order order,
              const char *without, uint32_t occurrence)
{
    *rig = (struct rig){.setup = *setup};
    gpu_bench_open(&rig->bench, order, test_random());
    struct gpu_device_info info;
    rig->bench.driver->describe(rig->bench.driver, &info);
    const struct gpu_attention_shape shape = {
        .head_count = setup->head_count,
        .kv_head_count = setup->kv_head_count,
        .head_size = setup->head_size,
        .kv = setup->kv,
        .act = setup->act,
        .exact = setup->exact,
    };
    assert_ok(gpu_attention_configure(&shape, &info, &rig->config, &rig->bench.error),
              rig->bench.error);
    if (setup->groups_max) {
        rig->config.groups_max = setup->groups_max;
    }
    if (setup->partials_max) {
        rig->config.partials_max = setup->partials_max;
    }
    char *text = kernel_text(rig, without, occurrence);
    gpu_bench_load(&rig->bench, text);
    free(text);
    assert_ok(gpu_attention_load(rig->bench.driver, rig->bench.module, &rig->config, &rig->kernels,
                                 &rig->bench.error),
              rig->bench.error);
    layer_make(&rig->layer, setup);
    allocate(rig);
}

void rig_close(struct rig *rig)
{
    struct gpu_driver *driver = rig->bench.driver;
    const uint64_t all[] = {rig->state,        rig->positions, rig->sequences, rig->decode_rows,
                            rig->tiles,        rig->raw,       rig->query,     rig->cache,
                            rig->block_tables, rig->attended,  rig->workspace};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        driver->memory_free(driver, all[i]);
    }
    for (size_t i = 0; i < 7; i++) {
        driver->memory_free(driver, rig->parameters[i]);
    }
    layer_destroy(&rig->layer);
    gpu_bench_close(&rig->bench);
}

void results_make(struct results *results, const struct rig *rig)
{
    results->attended = malloc(ROWS_MAX * attended_row_bytes(rig));
    results->cache = malloc(rig->cache_bytes);
    results->expected_cache = malloc(rig->cache_bytes);
    results->expected =
        malloc(sizeof(float) * ROWS_MAX * rig->setup.head_count * rig->setup.head_size);
}

void results_destroy(struct results *results)
{
    free(results->attended);
    free(results->cache);
    free(results->expected_cache);
    free(results->expected);
}

/* Where a key or value lies in the cache, and what multiplies it. */
struct place {
    uint64_t vector; /* bytes from the beginning */
    uint64_t scale;  /* likewise; of Q8_0 */
};

static struct place cache_place(const struct rig *rig, const struct world *world, uint32_t sequence,
                                uint32_t kv_head, uint64_t position, bool is_value)
{
    const struct setup *setup = &rig->setup;
    const uint64_t unit_bytes = gpu_attention_block_bytes(&rig->config) / setup->kv_head_count;
    const uint64_t block =
        world->block_tables[sequence * world->stride + position / KV_BLOCK_TOKENS];
    const uint64_t slot = position % KV_BLOCK_TOKENS + (is_value ? KV_BLOCK_TOKENS : 0);
    const uint64_t unit = (block * setup->kv_head_count + kv_head) * unit_bytes;
    const uint64_t element = setup->kv == DTYPE_Q8_0 ? 1 : type_bytes(setup->kv);
    return (struct place){
        .vector = unit + slot * setup->head_size * element,
        .scale = unit + 2ull * KV_BLOCK_TOKENS * setup->head_size + slot * sizeof(float),
    };
}

static float q8_0_scale(const uint8_t *cache, struct place place)
{
    float scale;
    memcpy(&scale, cache + place.scale, sizeof scale);
    return scale;
}

static void vector_read(const struct rig *rig, const uint8_t *cache, struct place place,
                        float *values)
{
    const uint8_t *from = cache + place.vector;
    for (uint32_t d = 0; d < rig->setup.head_size; d++) {
        if (rig->setup.kv == DTYPE_Q8_0) {
            values[d] = (float)(int8_t)from[d] * q8_0_scale(cache, place);
        } else if (rig->setup.kv == DTYPE_F8_E4M3) {
            values[d] = float_from_e4m3(from[d]);
        } else {
            values[d] = value_read(rig->setup.kv, from, d);
        }
    }
}

static void vector_write(const struct rig *rig, uint8_t *cache, struct place place,
                         const float *values)
{
    uint8_t *to = cache + place.vector;
    float largest = 0;
    for (uint32_t d = 0; d < rig->setup.head_size; d++) {
        largest = fmaxf(largest, fabsf(values[d]));
    }
    /* The half that is not below. */
    uint16_t bits = float_to_f16(largest / 127);
    const float scale = float_from_f16(float_from_f16(bits) * 127 < largest ? bits + 1 : bits);
    if (rig->setup.kv == DTYPE_Q8_0) {
        memcpy(cache + place.scale, &scale, sizeof scale);
    }
    for (uint32_t d = 0; d < rig->setup.head_size; d++) {
        if (rig->setup.kv == DTYPE_Q8_0) {
            to[d] = (uint8_t)(int8_t)lrintf(scale > 0 ? values[d] / scale : 0);
        } else if (rig->setup.kv == DTYPE_F8_E4M3) {
            to[d] = float_to_e4m3(values[d]);
        } else {
            value_write(rig->setup.kv, to, d, values[d]);
        }
    }
}

static float size_of(const struct setup *setup)
{
    return setup->size > 0 ? setup->size : 1;
}

void world_make(struct world *world, const struct rig *rig, uint32_t sequence_count,
                uint32_t past_max)
{
    *world = (struct world){.sequence_count = sequence_count};
    world->block_count = (uint32_t)(rig->cache_bytes / gpu_attention_block_bytes(&rig->config));
    world->stride = (past_max + ROWS_MAX) / KV_BLOCK_TOKENS + 2 + (uint32_t)test_random_below(3);
    assert_true(sequence_count * world->stride <= world->block_count);
    assert_true(sequence_count * world->stride * 4 <= rig->block_table_bytes);
    uint32_t *blocks = malloc(world->block_count * sizeof *blocks);
    for (uint32_t i = 0; i < world->block_count; i++) {
        uint32_t j = (uint32_t)test_random_below(i + 1);
        blocks[i] = blocks[j];
        blocks[j] = i;
    }
    world->block_tables = blocks;
    world->cache_bytes = rig->cache_bytes;
    world->cache = malloc(world->cache_bytes);
    memset(world->cache, POISON, world->cache_bytes);
    const struct setup *setup = &rig->setup;
    for (uint32_t s = 0; s < sequence_count; s++) {
        world->past[s] = s == 0 ? past_max : (uint32_t)test_random_below(past_max + 1);
        for (uint32_t i = 0; i < 2 * world->past[s] * setup->kv_head_count; i++) {
            float values[LIMIT_HEAD_SIZE];
            const float size = i % 2 == 0 && setup->has_norm ? 1 : size_of(setup);
            for (uint32_t d = 0; d < setup->head_size; d++) {
                values[d] = size * test_random_normal();
            }
            vector_write(rig, world->cache,
                         cache_place(rig, world, s, i / 2 % setup->kv_head_count,
                                     i / 2 / setup->kv_head_count, i % 2),
                         values);
        }
    }
}

void world_destroy(struct world *world)
{
    free(world->block_tables);
    free(world->cache);
}

void rows_make(struct rows *rows, const struct rig *rig, const struct world *world,
               const uint32_t *counts)
{
    *rows = (struct rows){0};
    for (uint32_t s = 0; s < world->sequence_count; s++) {
        for (uint32_t i = 0; i < counts[s]; i++) {
            assert_true(rows->count < ROWS_MAX);
            rows->positions[rows->count] = world->past[s] + i;
            rows->sequences[rows->count++] = s;
        }
    }
    rows->raw =
        random_floats(true, (uint64_t)rows->count * raw_width(rig), 0, size_of(&rig->setup));
}

struct rows rows_some(const struct rig *rig, const struct rows *rows, uint32_t index,
                      uint32_t count)
{
    struct rows some = {.count = count, .raw = rows->raw + (uint64_t)index * raw_width(rig)};
    assert_true(index + count <= rows->count);
    memcpy(some.positions, rows->positions + index, count * sizeof *some.positions);
    memcpy(some.sequences, rows->sequences + index, count * sizeof *some.sequences);
    return some;
}

struct rows rows_one(const struct rig *rig, const struct rows *rows, uint32_t index)
{
    return rows_some(rig, rows, index, 1);
}

static struct attention_projection projection_of(const struct rig *rig)
{
    return (struct attention_projection){
        .raw = rig->raw,
        .query_bias = rig->parameters[0],
        .key_bias = rig->parameters[1],
        .value_bias = rig->parameters[2],
        .query_norm = rig->parameters[3],
        .key_norm = rig->parameters[4],
        .frequencies = rig->parameters[6],
        .norm_epsilon = 1e-5f,
        .norm_weight_offset = 1,
        .magnitude = 1.25f,
        .rotary_kind = rig->setup.rotary_kind,
        .rotary_size = rig->setup.rotary_size,
    };
}

void rig_upload(struct rig *rig, const struct world *world, const struct rows *rows,
                struct gpu_attention_call *call)
{
    const struct step_batch batch = {
        .row_count = rows->count,
        .positions = rows->positions,
        .sequences = rows->sequences,
        .sequence_count = world->sequence_count,
    };
    struct attention_tile tiles[ROWS_MAX];
    uint32_t decode_rows[ROWS_MAX];
    struct gpu_attention_cut cut;
    gpu_attention_cut(&rig->config, &batch, tiles, decode_rows, &cut);
    const struct step_state state = {
        .row_count = rows->count,
        .sequence_count = world->sequence_count,
        .block_table_stride = world->stride,
        .decode_count = cut.decode_count,
        .tile_count = cut.tile_count,
    };
    uint32_t position_max = 0;
    for (uint32_t i = 0; i < rows->count; i++) {
        position_max = rows->positions[i] > position_max ? rows->positions[i] : position_max;
    }
    put(rig, rig->state, &state, sizeof state);
    put(rig, rig->positions, rows->positions, 4ull * rows->count);
    put(rig, rig->sequences, rows->sequences, 4ull * rows->count);
    put(rig, rig->block_tables, world->block_tables, 4ull * world->sequence_count * world->stride);
    put(rig, rig->tiles, tiles, sizeof tiles[0] * cut.tile_count);
    put(rig, rig->decode_rows, decode_rows, 4ull * cut.decode_count);
    put(rig, rig->raw, rows->raw, 4ull * rows->count * raw_width(rig));
    put(rig, rig->cache, world->cache, world->cache_bytes);
    poison(rig, rig->attended, POISON, rig->attended_bytes);
    poison(rig, rig->query, POISON, 4ull * ROWS_MAX * rig->setup.head_count * rig->setup.head_size);
    *call = (struct gpu_attention_call){
        .step = {rig->state, rig->positions, rig->sequences, rig->block_tables},
        .projection = projection_of(rig),
        .query = rig->query,
        .cache = rig->cache,
        .attended = rig->attended + GUARD_BYTES,
        .sinks = rig->parameters[5],
        .scale = rig->layer.scale,
        .soft_cap = rig->setup.soft_cap,
        .window = rig->setup.window,
        .workspace = rig->workspace,
        .decode = cut.decode,
        /* Buckets beyond what the step needs: surplus blocks must do nothing. */
        .rows = rows->count + 3,
        .decode_rows_max = cut.decode_count + 2,
        .tiles_max = cut.tile_count + 1,
        .groups = gpu_attention_groups(&rig->config, position_max,
                                       cut.decode ? rows->count + 3 : cut.decode_count + 2),
        .tiles = rig->tiles,
        .decode_rows = rig->decode_rows,
    };
    wait_done(rig);
}

void rig_layer_set(struct rig *rig, const struct layer *layer)
{
    const float *const values[] = {layer->query_bias, layer->key_bias, layer->value_bias,
                                   layer->query_norm, layer->key_norm, layer->sinks,
                                   layer->frequencies};
    const uint32_t size = rig->setup.head_size;
    const uint32_t counts[] = {rig->setup.head_count * size,
                               rig->setup.kv_head_count * size,
                               rig->setup.kv_head_count * size,
                               size,
                               size,
                               rig->setup.head_count,
                               size};
    for (uint32_t i = 0; i < 7; i++) {
        if (values[i]) {
            put(rig, rig->parameters[i], values[i], 4ull * counts[i]);
        }
    }
    wait_done(rig);
}

void rig_download(struct rig *rig, const struct world *world, const struct rows *rows,
                  uint8_t *attended, uint8_t *cache)
{
    uint8_t *all = malloc(rig->attended_bytes);
    gpu_bench_download(&rig->bench, all, rig->attended, rig->attended_bytes);
    uint64_t used = rows->count * attended_row_bytes(rig);
    memcpy(attended, all + GUARD_BYTES, used);
    for (uint64_t i = 0; !rig->tolerant && i < rig->attended_bytes; i++) {
        if (i < GUARD_BYTES || i >= GUARD_BYTES + used) {
            assert_int_equal(all[i], POISON);
        }
    }
    free(all);
    gpu_bench_download(&rig->bench, cache, rig->cache, world->cache_bytes);
    const uint64_t counter_bytes = gpu_attention_counter_bytes(&rig->config);
    uint8_t *counters = malloc(counter_bytes);
    gpu_bench_download(&rig->bench, counters, rig->workspace, counter_bytes);
    for (uint64_t i = 0; !rig->tolerant && i < counter_bytes; i++) {
        assert_int_equal(counters[i], 0);
    }
    free(counters);
}

void rig_run(struct rig *rig, const struct world *world, const struct rows *rows, uint8_t *attended,
             uint8_t *cache)
{
    struct gpu_attention_call call;
    rig_upload(rig, world, rows, &call);
    llcuda_status status = gpu_attention_launch(rig->bench.driver, rig->bench.stream, &rig->config,
                                                &rig->kernels, &call, &rig->bench.error);
    rig->failed = status != LLCUDA_OK;
    if (rig->failed && rig->tolerant) {
        return;
    }
    assert_ok(status, rig->bench.error);
    rig_download(rig, world, rows, attended, cache);
}

/* A head of a row after bias, norm and rotary, rounded to the cache's type. */
static void reference_head(const struct rig *rig, const struct rows *rows, uint32_t row,
                           uint32_t vector, float *head)
{
    const struct setup *setup = &rig->setup;
    const struct layer *layer = &rig->layer;
    const uint32_t size = setup->head_size;
    const uint32_t heads = setup->head_count;
    const uint32_t kv_heads = setup->kv_head_count;
    bool is_value = vector >= heads + kv_heads;
    bool is_query = vector < heads;
    uint32_t within = is_query ? vector : is_value ? vector - heads - kv_heads : vector - heads;
    const float *bias = is_query   ? layer->query_bias
                        : is_value ? layer->value_bias
                                   : layer->key_bias;
    const float *norm = is_query ? layer->query_norm : layer->key_norm;
    for (uint32_t d = 0; d < size; d++) {
        head[d] = rows->raw[(uint64_t)row * raw_width(rig) + vector * size + d] +
                  (bias ? bias[within * size + d] : 0);
    }
    if (!is_value) {
        float cosines[LIMIT_HEAD_SIZE];
        float sines[LIMIT_HEAD_SIZE];
        if (norm) {
            reference_norm_rms(head, norm, 1, 1e-5f, size, head);
        }
        uint32_t turning = setup->rotary_kind == ROTARY_NONE ? 0 : setup->rotary_size;
        reference_rotary_angles(rows->positions[row], layer->frequencies, turning, 1.25f, cosines,
                                sines);
        reference_rotary(head, turning, setup->rotary_kind == ROTARY_INTERLEAVED, cosines, sines);
    }
    uint16_t rounded[2];
    for (uint32_t d = 0; d < size; d++) {
        float value = head[d];
        if (setup->kv != DTYPE_F32 && (is_query || product_type(setup->kv) == setup->kv)) {
            value_write(product_type(setup->kv), rounded, 0, value);
            value = value_read(product_type(setup->kv), rounded, 0);
        }
        head[d] = value;
    }
}

struct reader {
    const struct rig *rig;
    const struct world *world;
    const uint8_t *cache;
    uint32_t sequence, kv_head;
};

static void read_position(void *user, uint64_t position, float *key, float *value)
{
    const struct reader *reader = user;
    for (uint32_t i = 0; i < 2; i++) {
        float *to = i == 0 ? key : value;
        if (to) {
            vector_read(reader->rig, reader->cache,
                        cache_place(reader->rig, reader->world, reader->sequence, reader->kv_head,
                                    position, i == 1),
                        to);
        }
    }
}

static void reference_write(const struct rig *rig, const struct world *world,
                            const struct rows *rows, uint8_t *cache)
{
    const struct setup *setup = &rig->setup;
    float head[LIMIT_HEAD_SIZE];
    memcpy(cache, world->cache, world->cache_bytes);
    for (uint32_t row = 0; row < rows->count; row++) {
        for (uint32_t i = 0; i < 2 * setup->kv_head_count; i++) {
            bool is_value = i >= setup->kv_head_count;
            reference_head(rig, rows, row, setup->head_count + i, head);
            vector_write(rig, cache,
                         cache_place(rig, world, rows->sequences[row], i % setup->kv_head_count,
                                     rows->positions[row], is_value),
                         head);
        }
    }
}

void reference_run(const struct rig *rig, const struct world *world, const struct rows *rows,
                   const uint8_t *made, float *attended, uint8_t *cache)
{
    const struct setup *setup = &rig->setup;
    float query[LIMIT_HEAD_SIZE];
    float *scores = malloc(sizeof *scores * 4096);
    reference_write(rig, world, rows, cache);
    for (uint32_t row = 0; row < rows->count; row++) {
        for (uint32_t h = 0; h < setup->head_count; h++) {
            const bool exact = product_type(setup->kv) == setup->kv;
            struct reader reader = {rig, world, exact ? cache : made, rows->sequences[row],
                                    h / (setup->head_count / setup->kv_head_count)};
            uint32_t end = rows->positions[row] + 1;
            reference_head(rig, rows, row, h, query);
            const struct reference_attention call = {
                .query = query,
                .head_size = setup->head_size,
                .begin = setup->window && setup->window < end ? end - setup->window : 0,
                .end = end,
                .scale = rig->layer.scale,
                .soft_cap = setup->soft_cap,
                .sink = rig->layer.sinks ? rig->layer.sinks + h : NULL,
                .cache = {read_position, &reader},
                .scores = scores,
            };
            reference_attention(&call, attended + ((uint64_t)row * setup->head_count + h) *
                                                      setup->head_size);
        }
    }
    free(scores);
}

/* What rounding to a type may do to a value of this size, twice. */
static float bound_of(enum dtype type, float value)
{
    float unit = type == DTYPE_F32 ? 0x1p-20f : type == DTYPE_F16 ? 0x1p-10f : 0x1p-7f;
    /* A sum of terms of size 1 may end near zero: there the bound is absolute. */
    return unit * (fabsf(value) + (type == DTYPE_F32 ? 1 : 0.05f));
}

/* Of caches of bytes: what rows have written is within one step of the type, all else untouched.
 * Returns the largest difference of an element that fell to the other side of a boundary, 0 when
 * none did. */
static float compare_bytes(const struct rig *rig, const struct world *world,
                           const struct rows *rows, const uint8_t *cache,
                           const uint8_t *expected_cache)
{
    const struct setup *setup = &rig->setup;
    uint8_t *all = malloc(world->cache_bytes);
    float largest = 0;
    memcpy(all, cache, world->cache_bytes);
    for (uint32_t i = 0; i < rows->count * 2 * setup->kv_head_count; i++) {
        float got[LIMIT_HEAD_SIZE];
        float want[LIMIT_HEAD_SIZE];
        const uint32_t row = i / 2 / setup->kv_head_count;
        const struct place place =
            cache_place(rig, world, rows->sequences[row], i / 2 % setup->kv_head_count,
                        rows->positions[row], i % 2);
        vector_read(rig, cache, place, got);
        vector_read(rig, expected_cache, place, want);
        uint32_t other = 0;
        for (uint32_t d = 0; d < setup->head_size; d++) {
            const bool q8_0 = setup->kv == DTYPE_Q8_0;
            const float step =
                q8_0 ? q8_0_scale(expected_cache, place) : fmaxf(fabsf(want[d]) / 8, 0x1p-9f);
            if (fabsf(got[d] - want[d]) > step * 0.01f) {
                other++;
                largest = fmaxf(largest, fabsf(got[d] - want[d]));
            }
            if (!(fabsf(got[d] - want[d]) <= step * 1.01f)) {
                fail_msg("%s: row %u, element %u of %s is %g, expected %g", setup->name, row, d,
                         i % 2 ? "a value" : "a key", (double)got[d], (double)want[d]);
            }
        }
        /* Only what lies beside a boundary may fall to the other side of it. */
        assert_true(other <= 1 + setup->head_size / 16);
        memcpy(all + place.vector, expected_cache + place.vector, setup->head_size);
        if (setup->kv == DTYPE_Q8_0) {
            memcpy(all + place.scale, expected_cache + place.scale, sizeof(float));
        }
    }
    assert_memory_equal(all, expected_cache, world->cache_bytes);
    free(all);
    return largest;
}

void results_compare(const struct rig *rig, const struct world *world, const struct rows *rows,
                     const uint8_t *attended, const float *expected, const uint8_t *cache,
                     const uint8_t *expected_cache)
{
    const struct setup *setup = &rig->setup;
    /* Weights are rounded to the cache's type before they meet values of size 1, and the result to
     * the activation's: errors of single weights average out, so this is generous. Integers times
     * their scale become halves: one rounding more. */
    const enum dtype product = product_type(setup->kv);
    const bool is_bytes = product != setup->kv;
    /* A key or value that is a step off moves what attends to it by as much. */
    const float step = is_bytes ? 2 * compare_bytes(rig, world, rows, cache, expected_cache) : 0;
    const float unit =
        step + (product == DTYPE_F32   ? 8e-6f
                : product == DTYPE_F16 ? (setup->kv == DTYPE_Q8_0 ? 2.5e-3f : 1.5e-3f)
                                       : 1.2e-2f) *
                   size_of(setup);
    uint64_t width = (uint64_t)setup->head_count * setup->head_size;
    for (uint64_t i = 0; i < rows->count * width; i++) {
        float got = value_read(setup->act, attended, i);
        float bound = unit + (setup->act == DTYPE_F32 ? 0 : bound_of(setup->act, expected[i]));
        if (!(fabsf(got - expected[i]) <= bound)) {
            fail_msg("%s: row %llu head %llu element %llu is %g, expected %g", setup->name,
                     (unsigned long long)(i / width),
                     (unsigned long long)(i % width / setup->head_size),
                     (unsigned long long)(i % setup->head_size), (double)got, (double)expected[i]);
        }
    }
    if (is_bytes) {
        return;
    }
    for (uint64_t i = 0; i < world->cache_bytes / type_bytes(setup->kv); i++) {
        float got = value_read(setup->kv, cache, i);
        float want = value_read(setup->kv, expected_cache, i);
        bool same = isnan(want) ? isnan(got) : fabsf(got - want) <= bound_of(setup->kv, want);
        if (!same) {
            fail_msg("%s: cache element %llu is %g, expected %g", setup->name,
                     (unsigned long long)i, (double)got, (double)want);
        }
    }
}
