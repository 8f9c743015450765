/* Memory of the readers: every allocation fails once, and from some point on for ever, without a
 * leak, a crash or another answer than OUT_OF_MEMORY; and no file, honest or lying, makes them take
 * more than four times its bytes and a constant. The linker sends the allocation functions of the
 * library to the counting ones here. */
#include "format/model_files.h"

#include <malloc.h>

#include "base/file.h"
#include "format/gguf_write.h"
#include "format/hf_config.h"
#include "format/model_source.h"
#include "format/safetensors.h"

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
void __real_free(void *memory);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
void __wrap_free(void *memory);

static int64_t live_bytes;
static int64_t peak_bytes;
static uint64_t calls;
static uint64_t fail_at = UINT64_MAX; /* the call that fails */
static bool fail_ever_after;

static bool fails(void)
{
    uint64_t call = calls++;
    return fail_ever_after ? call >= fail_at : call == fail_at;
}

static void *count(void *memory)
{
    live_bytes += memory ? (int64_t)malloc_usable_size(memory) : 0;
    peak_bytes = live_bytes > peak_bytes ? live_bytes : peak_bytes;
    return memory;
}

void *__wrap_malloc(size_t bytes)
{
    return fails() ? NULL : count(__real_malloc(bytes));
}

void *__wrap_calloc(size_t items, size_t bytes)
{
    return fails() ? NULL : count(__real_calloc(items, bytes));
}

/* Counts as if the memory always moved: the worst that realloc can do. */
void *__wrap_realloc(void *old, size_t bytes)
{
    if (fails()) {
        return NULL;
    }
    int64_t old_bytes = old ? (int64_t)malloc_usable_size(old) : 0;
    void *memory = count(__real_realloc(old, bytes));
    live_bytes -= memory ? old_bytes : 0;
    return memory;
}

void __wrap_free(void *memory)
{
    live_bytes -= memory ? (int64_t)malloc_usable_size(memory) : 0;
    __real_free(memory);
}

/* What is opened again and again. */
struct subject {
    const char *path;
    struct buffer bytes;
};

static llcuda_status open_gguf(const struct subject *subject, struct llcuda_error *error)
{
    struct gguf *gguf;
    llcuda_status status = gguf_open(subject->path, false, &gguf, error);
    gguf_close(gguf);
    return status;
}

static llcuda_status open_gguf_memory(const struct subject *subject, struct llcuda_error *error)
{
    struct gguf *gguf;
    llcuda_status status =
        gguf_open_memory(subject->bytes.data, subject->bytes.length, &gguf, error);
    gguf_close(gguf);
    return status;
}

static llcuda_status open_safetensors_memory(const struct subject *subject,
                                             struct llcuda_error *error)
{
    struct safetensors *file;
    llcuda_status status =
        safetensors_open_memory(subject->bytes.data, subject->bytes.length, &file, error);
    safetensors_close(file);
    return status;
}

static llcuda_status open_source(const struct subject *subject, struct llcuda_error *error)
{
    struct model_source *source;
    llcuda_status status = model_source_open(subject->path, false, &source, error);
    model_source_close(source);
    return status;
}

static llcuda_status open_config(const struct subject *subject, struct llcuda_error *error)
{
    struct json_document *document;
    llcuda_status status = hf_config_parse(buffer_view(&subject->bytes), &document, error);
    json_destroy(document);
    return status;
}

static llcuda_status write_gguf(const struct subject *subject, struct llcuda_error *error)
{
    struct gguf_writer *writer;
    llcuda_status status = gguf_writer_create(subject->path, &writer, error);
    if (status) {
        return status;
    }
    char text[300];
    memset(text, 'x', sizeof text);
    gguf_writer_add_text(writer, "long", text_view_make(text, sizeof text));
    const uint64_t shape[] = {2};
    status = gguf_writer_add_tensor(writer, text_view_of("w"), DTYPE_F32, 1, shape, error);
    if (!status) {
        status = gguf_writer_begin_data(writer, error);
    }
    if (!status) {
        status = gguf_writer_data(writer, "12345678", 8, error);
    }
    if (status) {
        gguf_writer_abort(writer);
        return status;
    }
    return gguf_writer_finish(writer, error);
}

/* Fails each allocation in turn until the subject gets by without the failure. */
static void fail_each(llcuda_status (*open)(const struct subject *, struct llcuda_error *),
                      const struct subject *subject, uint64_t calls_min)
{
    for (int for_ever = 0; for_ever < 2; for_ever++) {
        uint64_t n = 0;
        llcuda_status status;
        do {
            struct llcuda_error error = {0};
            int64_t before = live_bytes;
            fail_at = calls + n;
            fail_ever_after = for_ever;
            status = open(subject, &error);
            bool failed = calls > fail_at;
            fail_at = UINT64_MAX;
            assert_int_equal(live_bytes, before);
            if (status != (failed ? LLCUDA_OUT_OF_MEMORY : LLCUDA_OK)) {
                fail_msg("allocation %d: %s: %s", (int)n, llcuda_status_name(status),
                         error.message);
            }
            n++;
        } while (status);
        assert_true(n > calls_min && n < 10000);
    }
}

static void write_shards(const char *folder)
{
    static const char config[] = "{\"model_type\": \"ll\\u0061ma\", \"x\": 123456789012345678901}";
    static const char map[] = "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}}";
    static const char *const headers[] = {
        "{\"__metadata__\":{\"\\u0061\":\"\\n\"},"
        "\"\\u0061\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
        "{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}"};
    for (int i = 0; i < 2; i++) {
        struct buffer bytes = {0};
        put_safetensors(&bytes, headers[i], 4);
        free(test_file_write(folder, i ? "2.safetensors" : "1.safetensors", bytes.data,
                             bytes.length));
        buffer_deinit(&bytes);
    }
    free(test_file_write(folder, "config.json", config, sizeof config - 1));
    free(test_file_write(folder, "generation_config.json", config, sizeof config - 1));
    free(test_file_write(folder, "model.safetensors.index.json", map, sizeof map - 1));
}

static void failing_allocations_leak_nothing(void **state)
{
    (void)state;
    const char *folder = test_folder_make();
    struct subject subject = {0};
    sample_gguf(&subject.bytes);
    char *path = test_file_write(folder, "model.gguf", subject.bytes.data, subject.bytes.length);
    subject.path = path;
    fail_each(open_gguf, &subject, 8);
    fail_each(open_gguf_memory, &subject, 6);
    fail_each(open_source, &subject, 10);
    subject.path = folder; /* the only .gguf file of the folder */
    fail_each(open_source, &subject, 14);
    write_shards(folder);
    fail_each(open_source, &subject, 40);
    free(path);
    path = file_path_join(folder, "2.safetensors");
    subject.path = path;
    fail_each(open_source, &subject, 40);
    free(path);
    path = file_path_join(folder, "written.gguf");
    subject.path = path;
    fail_each(write_gguf, &subject, 8);
    free(path);
    buffer_deinit(&subject.bytes);
    test_folder_remove(folder);
}

/* Opens, whatever the result, within 4 x bytes + constant; frees the bytes. */
static void stays_small(llcuda_status (*open)(const struct subject *, struct llcuda_error *),
                        struct subject *subject, llcuda_status expected, int64_t constant)
{
    struct llcuda_error error = {0};
    int64_t before = live_bytes;
    peak_bytes = live_bytes;
    assert_int_equal(open(subject, &error), expected);
    int64_t taken = peak_bytes - before;
    int64_t allowed = 4 * (int64_t)subject->bytes.length + constant;
    if (taken > allowed) {
        fail_msg("%lld bytes for a file of %lld", (long long)taken,
                 (long long)subject->bytes.length);
    }
    buffer_deinit(&subject->bytes);
}

#define CONSTANT (2 << 20)

static void lying_counts_take_no_memory(void **state)
{
    (void)state;
    for (unsigned power = 1; power < 64; power++) {
        for (int field = 0; field < 5; field++) {
            uint64_t lie = 1ull << power;
            struct subject subject = {0};
            struct buffer *file = &subject.bytes;
            put_gguf_prelude(file, field == 0 ? lie : 0, field == 1 ? lie : 1);
            put_u64(file, field == 2 ? lie << 5 : 1);
            put_u8(file, 'k');
            put_u32(file, GGUF_ARRAY);
            put_u32(file, field == 3 ? GGUF_STRING : GGUF_U8);
            put_u64(file, field > 2 ? lie : 0);
            stays_small(open_gguf_memory, &subject, LLCUDA_BAD_FORMAT, 4096);
        }
        struct subject subject = {0};
        put_u64(&subject.bytes, 1ull << power);
        put_u64(&subject.bytes, 0x7b);
        stays_small(open_safetensors_memory, &subject, LLCUDA_BAD_FORMAT, 4096);
    }
}

static void dense_gguf_files_stay_in_proportion(void **state)
{
    (void)state;
    struct subject subject = {0};
    struct buffer *file = &subject.bytes;
    /* Empty strings: 16 bytes of table for 8 of file. */
    put_gguf_prelude(file, 0, 1);
    put_text(file, "k");
    put_u32(file, GGUF_ARRAY);
    put_u32(file, GGUF_STRING);
    put_u64(file, 200000);
    for (int i = 0; i < 200000; i++) {
        put_u64(file, 0);
    }
    stays_small(open_gguf_memory, &subject, LLCUDA_OK, CONSTANT);
    /* The shortest entries, as many as there may be. */
    put_gguf_prelude(file, 0, 65536);
    for (uint32_t i = 0; i < 65536; i++) {
        char key[8];
        snprintf(key, sizeof key, "%x", i);
        put_text(file, key);
        put_u32(file, GGUF_U8);
        put_u8(file, 0);
    }
    stays_small(open_gguf_memory, &subject, LLCUDA_OK, CONSTANT);
    /* The shortest tensors, in falling order of their data, so that sorting needs its table. */
    enum { TENSORS = 100000 };
    put_gguf_prelude(file, TENSORS, 1);
    put_text(file, "general.alignment");
    put_u32(file, GGUF_U32);
    put_u32(file, 1);
    for (uint32_t i = 0; i < TENSORS; i++) {
        char key[8];
        snprintf(key, sizeof key, "%x", i);
        put_gguf_tensor(file, key, 0, NULL, 1, 2 * (TENSORS - 1 - i));
    }
    put_gguf_data(file, 1, 2 * TENSORS);
    stays_small(open_gguf_memory, &subject, LLCUDA_OK, CONSTANT);
}

static void dense_safetensors_stay_in_proportion(void **state)
{
    (void)state;
    struct subject subject = {0};
    struct buffer header = {0};
    for (unsigned i = 0; i < 50000; i++) {
        buffer_printf(&header, "%c\"%x\":{\"dtype\":\"F4\",\"shape\":[],\"data_offsets\":[%u,%u]}",
                      i ? ',' : '{', i, 0u, 0u);
    }
    buffer_append_text(&header, "}");
    put_safetensors(&subject.bytes, buffer_text(&header), 0);
    /* A scalar F4 is half a byte: refused, but only after the tables are there. */
    stays_small(open_safetensors_memory, &subject, LLCUDA_BAD_FORMAT, CONSTANT);
    buffer_clear(&header);
    for (unsigned i = 0; i < 50000; i++) {
        buffer_printf(&header, "%c\"%x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                      i ? ',' : '{', i);
    }
    buffer_append_text(&header, "}");
    put_safetensors(&subject.bytes, buffer_text(&header), 0);
    stays_small(open_safetensors_memory, &subject, LLCUDA_OK, CONSTANT);
    /* A description that is no description: a dense tree of JSON. */
    buffer_clear(&header);
    buffer_append_text(&header, "{\"x\":[");
    for (int i = 0; i < 1000000; i++) {
        buffer_append_text(&header, "[],");
    }
    buffer_append_text(&header, "0]}");
    put_safetensors(&subject.bytes, buffer_text(&header), 0);
    stays_small(open_safetensors_memory, &subject, LLCUDA_LIMIT, CONSTANT);
    /* The shortest metadata, with escapes. */
    buffer_clear(&header);
    for (unsigned i = 0; i < 65536; i++) {
        buffer_printf(&header, "%s\"\\n%x\":\"\"", i ? "," : "{\"__metadata__\":{", i);
    }
    buffer_append_text(&header, "}}");
    put_safetensors(&subject.bytes, buffer_text(&header), 0);
    stays_small(open_safetensors_memory, &subject, LLCUDA_OK, 2 * CONSTANT);
    buffer_deinit(&header);
}

static void dense_configurations_stay_bounded(void **state)
{
    (void)state;
    struct subject subject = {0};
    buffer_append_text(&subject.bytes, "{\"x\":[");
    for (int i = 0; i < 1000000; i++) {
        buffer_append_text(&subject.bytes, "[],");
    }
    buffer_append_text(&subject.bytes, "0]}");
    stays_small(open_config, &subject, LLCUDA_LIMIT, 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(failing_allocations_leak_nothing),
    cmocka_unit_test(lying_counts_take_no_memory),
    cmocka_unit_test(dense_gguf_files_stay_in_proportion),
    cmocka_unit_test(dense_safetensors_stay_in_proportion),
    cmocka_unit_test(dense_configurations_stay_bounded),
};

TEST_MAIN(tests)
