/* GGUF files that lie. Each rule is broken alone and must be refused with its sentence; then a
 * valid file is damaged everywhere: every header byte, every truncation, every count at every power
 * of two. The sanitizer watches for reads outside the exact allocation. */
#include "format/model_files.h"

#include <time.h>

#include "base/clock.h"
#include "base/limits.h"

static llcuda_status try_open(const void *data, size_t bytes, struct llcuda_error *error)
{
    struct gguf *gguf = NULL;
    uint8_t *exact = exact_copy(data, bytes);
    *error = (struct llcuda_error){0};
    llcuda_status status = gguf_open_memory(exact, bytes, &gguf, error);
    assert_int_equal(status == LLCUDA_OK, gguf != NULL);
    if (status) {
        assert_int_equal(error->status, status);
        assert_true(strlen(error->message) > 10);
    } else {
        touch_gguf(gguf);
    }
    gguf_close(gguf);
    free(exact);
    return status;
}

/* Refuses with this status and a message that contains `words`; frees the buffer. */
static void refuses(struct buffer *file, llcuda_status status, const char *words)
{
    struct llcuda_error error;
    llcuda_status found = try_open(file->data, file->length, &error);
    if (found != status || !strstr(error.message, words)) {
        fail_msg("expected %s '%s', got %s '%s'", llcuda_status_name(status), words,
                 llcuda_status_name(found), found ? error.message : "");
    }
    buffer_deinit(file);
}

static void accepts(struct buffer *file)
{
    struct llcuda_error error;
    assert_ok(try_open(file->data, file->length, &error), error);
    buffer_deinit(file);
}

static void refuses_other_files(void **state)
{
    (void)state;
    struct buffer file = {0};
    struct llcuda_error error;
    assert_int_equal(try_open("", 0, &error), LLCUDA_BAD_FORMAT);
    assert_non_null(strstr(error.message, "ends at byte 0"));
    buffer_append_text(&file, "GGML....................");
    refuses(&file, LLCUDA_BAD_FORMAT, "47 47 4d 4c");
    buffer_append_text(&file, "tjgg....................");
    refuses(&file, LLCUDA_UNSUPPORTED, "before GGUF");
    put_gguf_prelude(&file, 0, 0);
    accepts(&file);
    static const struct {
        uint32_t version;
        llcuda_status status;
        const char *words;
    } versions[] = {
        {0, LLCUDA_BAD_FORMAT, "version 0"},
        {1, LLCUDA_UNSUPPORTED, "version 1"},
        {4, LLCUDA_UNSUPPORTED, "version 4"},
        {0x03000000, LLCUDA_UNSUPPORTED, "version 3"},
        {0x02000000, LLCUDA_UNSUPPORTED, "big-endian"},
        {UINT32_MAX, LLCUDA_UNSUPPORTED, "version"},
    };
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        put_gguf_prelude(&file, 0, 0);
        memcpy(file.data + 4, &versions[i].version, 4);
        refuses(&file, versions[i].status, versions[i].words);
    }
}

static void put_key(struct buffer *file, const char *key, uint32_t kind)
{
    put_text(file, key);
    put_u32(file, kind);
}

static void refuses_bad_metadata(void **state)
{
    (void)state;
    struct buffer file = {0};
    put_gguf_prelude(&file, 0, 1);
    put_key(&file, "k", 13);
    put_u64(&file, 0);
    refuses(&file, LLCUDA_BAD_FORMAT, "the value of 'k' has the unknown kind 13 at byte 33");

    put_gguf_prelude(&file, 0, 1);
    put_key(&file, "", GGUF_U32);
    put_u64(&file, 0);
    refuses(&file, LLCUDA_BAD_FORMAT, "1 to 65535 are allowed");

    put_gguf_prelude(&file, 0, 1);
    put_key(&file, "\xc3\x28", GGUF_U32);
    put_u32(&file, 0);
    refuses(&file, LLCUDA_BAD_FORMAT, "not valid UTF-8");

    put_gguf_prelude(&file, 0, 1);
    put_key(&file, "k", GGUF_BOOL);
    put_u8(&file, 2);
    refuses(&file, LLCUDA_BAD_FORMAT, "no boolean");

    put_gguf_prelude(&file, 0, 1);
    put_key(&file, "k", GGUF_ARRAY);
    put_u32(&file, GGUF_BOOL);
    put_u64(&file, 3);
    put_u32(&file, 0x00020101);
    refuses(&file, LLCUDA_BAD_FORMAT, "the byte 2 at byte 51");

    put_gguf_prelude(&file, 0, 1);
    put_key(&file, "k", GGUF_ARRAY);
    put_u32(&file, GGUF_ARRAY);
    put_u64(&file, 0);
    refuses(&file, LLCUDA_UNSUPPORTED, "array of arrays");

    put_gguf_prelude(&file, 0, 1);
    put_key(&file, "k", GGUF_ARRAY);
    put_u32(&file, 99);
    put_u64(&file, 0);
    refuses(&file, LLCUDA_BAD_FORMAT, "unknown kind");

    put_gguf_prelude(&file, 0, 2);
    put_key(&file, "twice", GGUF_U8);
    put_u8(&file, 1);
    put_key(&file, "twice", GGUF_U8);
    put_u8(&file, 1);
    refuses(&file, LLCUDA_BAD_FORMAT, "'twice' comes twice");
}

/* The 43-byte class of files: a count that the file cannot hold must be refused at once. */
static void refuses_counts_beyond_the_file(void **state)
{
    (void)state;
    static const uint64_t counts[] = {2,          1u << 16,   1u << 31,  1ull << 32,
                                      1ull << 61, 1ull << 63, UINT64_MAX};
    const clock_t begin = clock(); /* processor time: the machine may be busy */
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct buffer file = {0};
        put_gguf_prelude(&file, counts[i], 0);
        refuses(&file, LLCUDA_BAD_FORMAT, "can hold");
        put_gguf_prelude(&file, 0, counts[i]);
        refuses(&file, LLCUDA_BAD_FORMAT, "can hold");
        for (uint32_t kind = GGUF_U8; kind <= GGUF_F64; kind++) {
            if (kind == GGUF_ARRAY) {
                continue;
            }
            put_gguf_prelude(&file, 0, 1);
            put_key(&file, "k", GGUF_ARRAY);
            put_u32(&file, kind);
            put_u64(&file, counts[i]);
            put_u8(&file, 0);
            refuses(&file, LLCUDA_BAD_FORMAT, "can hold");
        }
        put_gguf_prelude(&file, 0, 1);
        put_key(&file, "k", GGUF_STRING);
        put_u64(&file, counts[i]);
        refuses(&file, LLCUDA_BAD_FORMAT, "but the file ends at byte");
        put_gguf_prelude(&file, 0, 1);
        put_u64(&file, counts[i]);
        put_u64(&file, UINT64_MAX);
        put_u64(&file, UINT64_MAX);
        refuses(&file, LLCUDA_BAD_FORMAT, "the key of metadata entry 0");
    }
    assert_true(clock() - begin < CLOCKS_PER_SEC);
}

/* Counts that the file could hold, but which are over a limit. */
static void refuses_counts_beyond_the_limits(void **state)
{
    (void)state;
    struct buffer file = {0};
    size_t bytes = (size_t)(LIMIT_GGUF_METADATA_COUNT + 1) * 14 + 24;
    uint8_t *zeros = calloc(bytes, 1);
    put_gguf_prelude(&file, 0, LIMIT_GGUF_METADATA_COUNT + 1);
    buffer_append(&file, zeros, bytes);
    refuses(&file, LLCUDA_LIMIT, "limit of 65536");
    free(zeros);
    bytes = ((size_t)LIMIT_TENSOR_COUNT + 1) * 25 + 24;
    zeros = calloc(bytes, 1);
    put_gguf_prelude(&file, LIMIT_TENSOR_COUNT + 1, 0);
    buffer_append(&file, zeros, bytes);
    refuses(&file, LLCUDA_LIMIT, "limit of 1048576");
    free(zeros);
}

static void alignment_is_typed_and_bounded(void **state)
{
    (void)state;
    static const struct {
        uint32_t kind;
        uint64_t value;
        uint32_t bytes;
        const char *words; /* NULL: fine */
    } cases[] = {
        {GGUF_U32, 1, 4, NULL},
        {GGUF_U32, 64, 4, NULL},
        {GGUF_U32, LIMIT_GGUF_ALIGNMENT, 4, NULL},
        {GGUF_U32, 0, 4, "is 0 instead"},
        {GGUF_U32, 33, 4, "is 33 instead"},
        {GGUF_U32, 2 * LIMIT_GGUF_ALIGNMENT, 4, "power of two"},
        {GGUF_U32, UINT32_MAX, 4, "power of two"},
        {GGUF_U64, 32, 8, "kind u64 instead of u32"},
        {GGUF_I32, 32, 4, "kind i32 instead of u32"},
        {GGUF_U8, 32, 1, "kind u8 instead of u32"},
        {GGUF_F32, 0x42000000, 4, "kind f32 instead of u32"},
        {GGUF_STRING, 0, 8, "kind string instead of u32"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buffer file = {0};
        put_gguf_prelude(&file, 1, 1);
        put_key(&file, "general.alignment", cases[i].kind);
        buffer_append(&file, &cases[i].value, cases[i].bytes);
        static const uint64_t shape[] = {4};
        put_gguf_tensor(&file, "t", 1, shape, 0, 0);
        put_gguf_data(&file, cases[i].words ? 32 : (uint32_t)cases[i].value, 16);
        if (cases[i].words) {
            refuses(&file, LLCUDA_BAD_FORMAT, cases[i].words);
        } else {
            accepts(&file);
        }
    }
}

/* One tensor of a given shape and type at an offset, with this much data. */
static struct buffer one_tensor(uint32_t rank, const uint64_t *shape, uint32_t type,
                                uint64_t offset, uint64_t data_bytes)
{
    struct buffer file = {0};
    put_gguf_prelude(&file, 1, 0);
    put_gguf_tensor(&file, "w", rank, shape, type, offset);
    put_gguf_data(&file, 32, data_bytes);
    return file;
}

static void refuses_bad_tensors(void **state)
{
    (void)state;
    static const uint64_t four[] = {4, 4, 4, 4, 4};
    struct buffer file = one_tensor(2, four, 0, 0, 64);
    accepts(&file);
    file = one_tensor(2, four, 0, 0, 63);
    refuses(&file, LLCUDA_BAD_FORMAT, "tensor 'w' needs 64 bytes");
    file = one_tensor(2, four, 0, 32, 95);
    refuses(&file, LLCUDA_BAD_FORMAT, "but the file ends at byte");
    file = one_tensor(2, four, 0, 32, 96);
    accepts(&file);
    file = one_tensor(2, four, 0, 16, 96);
    refuses(&file, LLCUDA_BAD_FORMAT, "no multiple of the alignment 32");
    file = one_tensor(2, four, 0, UINT64_MAX - 31, 64);
    refuses(&file, LLCUDA_BAD_FORMAT, "tensor 'w' needs 64 bytes");
    file = one_tensor(5, four, 0, 0, 4096);
    refuses(&file, LLCUDA_BAD_FORMAT, "5 dimensions");
    file = one_tensor(2, four, 40, 0, 64);
    refuses(&file, LLCUDA_UNSUPPORTED, "tensor 'w' has the type nvfp4 (40 ");
    file = one_tensor(2, four, 4, 0, 64);
    refuses(&file, LLCUDA_UNSUPPORTED, "q4_2");
    file = one_tensor(2, four, 0xffffffff, 0, 64);
    refuses(&file, LLCUDA_UNSUPPORTED, "tensor 'w' has the unknown type 4294967295");
    file = one_tensor(2, four, 8, 0, 64);
    refuses(&file, LLCUDA_BAD_FORMAT, "no multiple of the 32 of a q8_0 block");
    static const uint64_t zero[] = {4, 0};
    file = one_tensor(2, zero, 0, 0, 64);
    refuses(&file, LLCUDA_BAD_FORMAT, "dimension of 0");
    static const uint64_t wraps[][4] = {
        {1ull << 62, 1, 1, 1},
        {1ull << 32, 1ull << 32, 1, 1},
        {1ull << 16, 1ull << 16, 1ull << 16, 1ull << 16},
        {UINT64_MAX, 1, 1, 1},
        {3, 0x5555555555555556, 1, 1},
        {1ull << 31, 1ull << 31, 2, 1},
    };
    for (size_t i = 0; i < sizeof wraps / sizeof wraps[0]; i++) {
        file = one_tensor(4, wraps[i], 0, 0, 64);
        refuses(&file, LLCUDA_BAD_FORMAT, "");
    }
    put_gguf_prelude(&file, 1, 0);
    put_gguf_tensor(&file, "", 1, four, 0, 0);
    put_gguf_data(&file, 32, 16);
    refuses(&file, LLCUDA_BAD_FORMAT, "1 to 1024 are allowed");
}

static void refuses_shared_names_and_bytes(void **state)
{
    (void)state;
    static const uint64_t eight[] = {8};
    static const uint64_t nine[] = {9};
    struct buffer file = {0};
    put_gguf_prelude(&file, 2, 0);
    put_gguf_tensor(&file, "a", 1, eight, 0, 0);
    put_gguf_tensor(&file, "a", 1, eight, 0, 32);
    put_gguf_data(&file, 32, 64);
    refuses(&file, LLCUDA_BAD_FORMAT, "the tensor 'a' comes twice");

    for (int swap = 0; swap < 2; swap++) {
        put_gguf_prelude(&file, 2, 0);
        put_gguf_tensor(&file, "a", 1, nine, 0, swap ? 32 : 0);
        put_gguf_tensor(&file, "b", 1, swap ? nine : eight, 0, swap ? 0 : 32);
        put_gguf_data(&file, 32, 96);
        refuses(&file, LLCUDA_BAD_FORMAT, "overlap at byte");
    }
    put_gguf_prelude(&file, 2, 0);
    put_gguf_tensor(&file, "a", 1, eight, 0, 0);
    put_gguf_tensor(&file, "b", 1, eight, 0, 0);
    put_gguf_data(&file, 32, 64);
    refuses(&file, LLCUDA_BAD_FORMAT, "overlap at byte");

    put_gguf_prelude(&file, 2, 0);
    put_gguf_tensor(&file, "a", 1, eight, 0, 32);
    put_gguf_tensor(&file, "b", 1, eight, 0, 0);
    put_gguf_data(&file, 32, 64);
    accepts(&file);

    /* By one byte, and not at all. */
    for (uint64_t begin = 31; begin < 33; begin++) {
        put_gguf_prelude(&file, 2, 1);
        put_key(&file, "general.alignment", GGUF_U32);
        put_u32(&file, 1);
        put_gguf_tensor(&file, "a", 1, eight, 0, 0);
        put_gguf_tensor(&file, "b", 1, eight, 0, begin);
        put_gguf_data(&file, 1, 64);
        if (begin == 31) {
            refuses(&file, LLCUDA_BAD_FORMAT, "overlap at byte");
        } else {
            accepts(&file);
        }
    }
}

/* Every tensor in turn, moved one alignment step past where the file's end allows it. */
static void refuses_each_tensor_past_the_end(void **state)
{
    (void)state;
    enum { COUNT = 6 };
    static const uint64_t shape[] = {8};
    for (uint32_t moved = 0; moved <= COUNT; moved++) {
        for (uint64_t missing = 0; missing < 2; missing++) {
            struct buffer file = {0};
            put_gguf_prelude(&file, COUNT, 0);
            for (uint32_t i = 0; i < COUNT; i++) {
                char name[] = {(char)('a' + i), 0};
                uint64_t offset = 32ull * (i == moved ? COUNT : i);
                put_gguf_tensor(&file, name, 1, shape, 0, offset);
            }
            uint64_t used = moved < COUNT ? COUNT + 1 : COUNT;
            put_gguf_data(&file, 32, 32 * used - missing);
            if (missing) {
                refuses(&file, LLCUDA_BAD_FORMAT, "but the file ends");
            } else {
                accepts(&file);
            }
        }
    }
}

static void survives_every_byte(void **state)
{
    (void)state;
    struct buffer file = {0};
    sample_gguf(&file);
    struct gguf *gguf;
    struct llcuda_error error;
    assert_ok(gguf_open_memory(file.data, file.length, &gguf, &error), error);
    size_t header = (size_t)((const char *)gguf_tensor_at(gguf, 0)->data - file.data);
    gguf_close(gguf);
    size_t refused = 0;
    for (size_t i = 0; i < header; i++) {
        uint8_t original = (uint8_t)file.data[i];
        const uint8_t values[] = {0,
                                  0xff,
                                  original ^ 1,
                                  original ^ 0x80,
                                  0x7f,
                                  (uint8_t)test_random(),
                                  (uint8_t)test_random()};
        for (size_t k = 0; k < sizeof values; k++) {
            file.data[i] = (char)values[k];
            refused += try_open(file.data, file.length, &error) != LLCUDA_OK;
        }
        file.data[i] = (char)original;
    }
    assert_true(refused > header);
    buffer_deinit(&file);
}

/* Many bytes at once, in places that matter. */
static void survives_random_damage(void **state)
{
    (void)state;
    struct buffer file = {0};
    sample_gguf(&file);
    uint8_t *damaged = exact_copy(file.data, file.length);
    for (int round = 0; round < 5000; round++) {
        memcpy(damaged, file.data, file.length);
        uint64_t changes = 1 + test_random_below(8);
        for (uint64_t i = 0; i < changes; i++) {
            uint64_t value = test_random() >> test_random_below(64);
            size_t width = (size_t)1 << test_random_below(4);
            memcpy(damaged + test_random_below(file.length - 8), &value, width);
        }
        struct llcuda_error error;
        try_open(damaged, file.length, &error);
    }
    free(damaged);
    buffer_deinit(&file);
}

static void refuses_every_truncation(void **state)
{
    (void)state;
    struct buffer file = {0};
    sample_gguf(&file);
    struct llcuda_error error;
    assert_ok(try_open(file.data, file.length, &error), error);
    /* Only the padding behind the last tensor (288 bytes at alignment 64) may be cut off. */
    size_t needed = file.length - 32;
    for (size_t length = 0; length < file.length; length++) {
        llcuda_status status = try_open(file.data, length, &error);
        assert_int_equal(status, length < needed ? LLCUDA_BAD_FORMAT : LLCUDA_OK);
        if (status) {
            char words[64];
            snprintf(words, sizeof words, "the file ends at byte %zu", length);
            bool counted = strstr(error.message, "can hold") != NULL;
            assert_true(counted || strstr(error.message, words));
        }
    }
    buffer_deinit(&file);
}

struct field {
    size_t offset;
    size_t bytes;
};

/* Where the sample has counts, lengths, kinds, dimensions and offsets: a walk without any checks
 * over a file that is known to be good. */
static size_t find_fields(const struct buffer *file, struct field *fields)
{
    size_t count = 0;
    size_t at = 8;
    uint64_t tensors;
    uint64_t values;
    memcpy(&tensors, file->data + 8, 8);
    memcpy(&values, file->data + 16, 8);
    fields[count++] = (struct field){4, 4};
    fields[count++] = (struct field){8, 8};
    fields[count++] = (struct field){16, 8};
    at = 24;
    for (uint64_t i = 0; i < values; i++) {
        uint64_t length;
        uint32_t kind;
        memcpy(&length, file->data + at, 8);
        fields[count++] = (struct field){at, 8};
        at += 8 + (size_t)length;
        memcpy(&kind, file->data + at, 4);
        fields[count++] = (struct field){at, 4};
        at += 4;
        uint64_t elements = 1;
        if (kind == GGUF_ARRAY) {
            memcpy(&kind, file->data + at, 4);
            memcpy(&elements, file->data + at + 4, 8);
            fields[count++] = (struct field){at, 4};
            fields[count++] = (struct field){at + 4, 8};
            at += 12;
        }
        for (uint64_t k = 0; k < elements && kind == GGUF_STRING; k++) {
            memcpy(&length, file->data + at, 8);
            fields[count++] = (struct field){at, 8};
            at += 8 + (size_t)length;
        }
        at += kind == GGUF_STRING ? 0 : (size_t)elements * gguf_kind_bytes((enum gguf_kind)kind);
    }
    for (uint64_t i = 0; i < tensors; i++) {
        uint64_t length;
        uint32_t rank;
        memcpy(&length, file->data + at, 8);
        fields[count++] = (struct field){at, 8};
        at += 8 + (size_t)length;
        memcpy(&rank, file->data + at, 4);
        fields[count++] = (struct field){at, 4};
        at += 4;
        for (uint32_t k = 0; k < rank; k++, at += 8) {
            fields[count++] = (struct field){at, 8};
        }
        fields[count++] = (struct field){at, 4};
        fields[count++] = (struct field){at + 4, 8};
        at += 12;
    }
    return count;
}

static void survives_boundary_values(void **state)
{
    (void)state;
    struct buffer file = {0};
    sample_gguf(&file);
    struct field fields[256];
    size_t count = find_fields(&file, fields);
    assert_true(count > 100 && count < 256);
    uint64_t begin = clock_now_ns();
    for (size_t i = 0; i < count; i++) {
        uint64_t original = 0;
        memcpy(&original, file.data + fields[i].offset, fields[i].bytes);
        for (unsigned power = 0; power < 64; power++) {
            for (uint64_t delta = 0; delta < 3; delta++) {
                uint64_t value = (1ull << power) - 1 + delta;
                struct llcuda_error error;
                memcpy(file.data + fields[i].offset, &value, fields[i].bytes);
                try_open(file.data, file.length, &error);
            }
        }
        memcpy(file.data + fields[i].offset, &original, fields[i].bytes);
    }
    /* None of them may take time out of proportion: 25,000 tries of a 2 KB file. */
    assert_true(clock_now_ns() - begin < 60000000000u);
    buffer_deinit(&file);
}

/* Sixty thousand names in falling order, with long common beginnings: sorting must not be
 * quadratic. */
static void many_names_take_no_long_time(void **state)
{
    (void)state;
    enum { COUNT = 60000 };
    struct buffer file = {0};
    put_gguf_prelude(&file, 0, COUNT);
    for (unsigned i = COUNT; i > 0; i--) {
        char key[64];
        snprintf(key, sizeof key, "a.long.and.common.beginning.of.%08x", i << 8);
        put_key(&file, key, GGUF_U8);
        put_u8(&file, 1);
    }
    uint64_t begin = clock_now_ns();
    struct gguf *gguf;
    struct llcuda_error error;
    assert_ok(gguf_open_memory(file.data, file.length, &gguf, &error), error);
    assert_non_null(gguf_find(gguf, "a.long.and.common.beginning.of.00000100"));
    assert_null(gguf_find(gguf, "a.long.and.common.beginning.of.00000101"));
    assert_true(clock_now_ns() - begin < 5000000000u);
    gguf_close(gguf);
    buffer_deinit(&file);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(refuses_other_files),
    cmocka_unit_test(refuses_bad_metadata),
    cmocka_unit_test(refuses_counts_beyond_the_file),
    cmocka_unit_test(refuses_counts_beyond_the_limits),
    cmocka_unit_test(alignment_is_typed_and_bounded),
    cmocka_unit_test(refuses_bad_tensors),
    cmocka_unit_test(refuses_shared_names_and_bytes),
    cmocka_unit_test(refuses_each_tensor_past_the_end),
    cmocka_unit_test(survives_every_byte),
    cmocka_unit_test(survives_random_damage),
    cmocka_unit_test(refuses_every_truncation),
    cmocka_unit_test(survives_boundary_values),
    cmocka_unit_test(many_names_take_no_long_time),
};

TEST_MAIN(tests)
