/* SafeTensors: the cases of the reference parser's own tests, the abuse list of the format's
 * authors, every rule broken alone, and damage everywhere. */
#include "format/model_files.h"

#include "base/clock.h"
#include "base/limits.h"
#include "format/safetensors.h"

static uint64_t touch(const struct safetensors *file)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < safetensors_count(file); i++) {
        const struct safetensors_tensor *tensor = safetensors_at(file, i);
        assert_ptr_equal(safetensors_find(file, tensor->tensor.name), tensor);
        const uint8_t *bytes = tensor->tensor.data;
        for (uint64_t k = 0; k < tensor->tensor.bytes; k++) {
            sum += bytes[k];
        }
    }
    return sum;
}

static llcuda_status try_open(const void *data, size_t bytes, struct llcuda_error *error)
{
    struct safetensors *file = NULL;
    uint8_t *exact = exact_copy(data, bytes);
    *error = (struct llcuda_error){0};
    llcuda_status status = safetensors_open_memory(exact, bytes, &file, error);
    assert_int_equal(status == LLCUDA_OK, file != NULL);
    if (status) {
        assert_int_equal(error->status, status);
        assert_true(strlen(error->message) > 10);
    } else {
        touch(file);
    }
    safetensors_close(file);
    free(exact);
    return status;
}

static void refuses_bytes(const void *data, size_t bytes, llcuda_status status, const char *words)
{
    struct llcuda_error error;
    llcuda_status found = try_open(data, bytes, &error);
    if (found != status || !strstr(error.message, words)) {
        fail_msg("expected %s '%s', got %s '%s'", llcuda_status_name(status), words,
                 llcuda_status_name(found), found ? error.message : "");
    }
}

static void refuses(const char *header, uint64_t data_bytes, llcuda_status status,
                    const char *words)
{
    struct buffer file = {0};
    put_safetensors(&file, header, data_bytes);
    refuses_bytes(file.data, file.length, status, words);
    buffer_deinit(&file);
}

static void accepts(const char *header, uint64_t data_bytes)
{
    struct buffer file = {0};
    struct llcuda_error error;
    put_safetensors(&file, header, data_bytes);
    assert_ok(try_open(file.data, file.length, &error), error);
    buffer_deinit(&file);
}

#define TEST_I32 "{\"test\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}"

static void accepts_the_reference_cases(void **state)
{
    (void)state;
    accepts("{}      ", 0);                                       /* test_empty */
    accepts("{\"__metadata__\":{\"framework\":\"pt\"}}     ", 0); /* test_empty */
    accepts("{\"attn.0\":{\"dtype\":\"F32\",\"shape\":[1,2,3],\"data_offsets\":[0,24]}}",
            24); /* test_serialization */
    accepts("{\"attn0\":{\"dtype\":\"F32\",\"shape\":[1,1,2,3],\"data_offsets\":[0,24]}}       ",
            24); /* test_serialization_forced_alignement */
    accepts("{\"test\":{\"dtype\":\"I32\",\"shape\":[],\"data_offsets\":[0,4]}}",
            4);            /* test_empty_shapes_allowed */
    accepts(TEST_I32, 16); /* test_deserialization, test_lifetimes */
    accepts("{\"test\":{\"dtype\":\"I32\",\"shape\":[2,0],\"data_offsets\":[0, 0]}}",
            0); /* test_zero_sized_tensor */
    accepts("{\"a\":{\"dtype\":\"F4\",\"shape\":[2,2],\"data_offsets\":[0,2]}}", 2); /* fp4 */
    /* a tensor without bytes before and behind the one that begins at its place */
    accepts("{\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
            "\"z\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
            4);
    accepts("{\"z\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
            "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
            4);
    accepts("{}  ", 0); /* test_whitespace_padded_header, with the format's 0x20 */
}

static void refuses_the_reference_cases(void **state)
{
    (void)state;
    /* test_json_attack: ten tensors over the same bytes. */
    struct buffer header = {0};
    for (int i = 0; i < 10; i++) {
        buffer_printf(&header,
                      "%s\"weight_%d\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}",
                      i ? "," : "{", i);
    }
    buffer_append_text(&header, "}");
    refuses(buffer_text(&header), 16, LLCUDA_BAD_FORMAT, "tensors overlap");
    buffer_deinit(&header);
    /* test_metadata_incomplete_buffer, both ways */
    refuses(TEST_I32, 16 + 34, LLCUDA_BAD_FORMAT, "the file has 50 behind its header");
    refuses(TEST_I32, 14, LLCUDA_BAD_FORMAT, "the file has 14 behind its header");
    /* test_header_too_large */
    refuses_bytes("<\0\0\0\0\xff\xff\xff{\"test\":{}}", 20, LLCUDA_BAD_FORMAT, "declare a header");
    /* test_header_too_small */
    refuses_bytes("", 0, LLCUDA_BAD_FORMAT, "ends at byte 0");
    refuses_bytes("\0\0\0\0\0\0\0", 7, LLCUDA_BAD_FORMAT, "ends at byte 7");
    /* test_invalid_header_length */
    refuses_bytes("<\0\0\0\0\0\0\0", 8, LLCUDA_BAD_FORMAT, "header of 60 bytes");
    /* test_invalid_header_non_utf8 */
    refuses_bytes("\1\0\0\0\0\0\0\0\xff", 9, LLCUDA_BAD_FORMAT, "UTF-8");
    /* test_invalid_header_not_json */
    refuses_bytes("\1\0\0\0\0\0\0\0{", 9, LLCUDA_BAD_FORMAT, "JSON ends");
    /* test_whitespace_start_padded_header_is_not_allowed */
    refuses(" {}", 0, LLCUDA_BAD_FORMAT, "begin with '{'");
    refuses("\t\n{}\r ", 0, LLCUDA_BAD_FORMAT, "begin with '{'");
    refuses("", 0, LLCUDA_BAD_FORMAT, "begin with '{'");
    /* test_invalid_info */
    refuses("{\"test\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0, 4]}}", 0,
            LLCUDA_BAD_FORMAT, "takes 16 bytes by its shape");
    /* test_validation_overflow, both */
    refuses("{\"test\":{\"dtype\":\"I32\",\"shape\":[2,18446744073709551614],"
            "\"data_offsets\":[0,16]}}",
            16, LLCUDA_BAD_FORMAT, "no size");
    refuses("{\"test\":{\"dtype\":\"I32\",\"shape\":[2,9223372036854775807],"
            "\"data_offsets\":[0,16]}}",
            16, LLCUDA_BAD_FORMAT, "no size");
    refuses("{\"test\":{\"dtype\":\"I32\",\"shape\":[900000000000000000,900000000000000000],"
            "\"data_offsets\":[0,16]}}",
            16, LLCUDA_BAD_FORMAT, "does not fit into 64 bits");
    refuses("{\"test\":{\"dtype\":\"F64\",\"shape\":[900000000000000000],"
            "\"data_offsets\":[0,16]}}",
            16, LLCUDA_BAD_FORMAT, "does not fit into 64 bits");
    /* an F4 tensor that ends inside a byte */
    refuses("{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2, LLCUDA_BAD_FORMAT,
            "whole number of bytes");
}

static void refuses_broken_rules(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        uint64_t data_bytes;
        llcuda_status status;
        const char *words;
    } cases[] = {
        {"{}\t", 0, LLCUDA_BAD_FORMAT, "followed by spaces only"},
        {"{} {}", 0, LLCUDA_BAD_FORMAT, "followed by spaces only"},
        {"{\"__metadata__\":{\"a\":1}}", 0, LLCUDA_BAD_FORMAT, "map strings to strings"},
        {"{\"__metadata__\":{\"a\":{}}}", 0, LLCUDA_BAD_FORMAT, "map strings to strings"},
        {"{\"__metadata__\":{\"a\":\"\n\"}}", 0, LLCUDA_BAD_FORMAT, "map strings to strings"},
        {"{\"__metadata__\":[]}", 0, LLCUDA_BAD_FORMAT, "'{'"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, LLCUDA_BAD_FORMAT, "twice"},
        {"{\"__metadata__\":{\"a\":\"\",\"a\":\"\"}}", 0, LLCUDA_BAD_FORMAT, "'a' twice"},
        {"{\"__metadata__\":{\"a\":\"\",\"\\u0061\":\"\"}}", 0, LLCUDA_BAD_FORMAT, "'a' twice"},
        {"{\"x\":1}", 0, LLCUDA_BAD_FORMAT, "no object with dtype"},
        {"{\"x\":{}}", 0, LLCUDA_BAD_FORMAT, "no object with dtype"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, LLCUDA_BAD_FORMAT, "no object with dtype"},
        {"{\"x\":{\"dtype\":5,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, LLCUDA_BAD_FORMAT,
         "dtype is no string"},
        {"{\"x\":{\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, LLCUDA_UNSUPPORTED,
         "tensor 'x' has the unknown type 'f32'"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}", 4, LLCUDA_BAD_FORMAT,
         "shape is no array"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, LLCUDA_BAD_FORMAT,
         "no size"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4, LLCUDA_BAD_FORMAT,
         "no size"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[\"1\"],\"data_offsets\":[0,4]}}", 4,
         LLCUDA_BAD_FORMAT, "no size"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1],\"data_offsets\":[0,4]}}", 4,
         LLCUDA_UNSUPPORTED, "tensor 'x' has 5 dimensions"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, LLCUDA_BAD_FORMAT,
         "no two sizes"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, LLCUDA_BAD_FORMAT,
         "no two sizes"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, LLCUDA_BAD_FORMAT,
         "no two sizes"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, LLCUDA_BAD_FORMAT,
         "takes 4 bytes by its shape"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, LLCUDA_BAD_FORMAT,
         "leave a hole"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"shape\":[1]}}", 4,
         LLCUDA_BAD_FORMAT, "the key \"shape\" twice"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
         8, LLCUDA_BAD_FORMAT, "the tensor 'x' comes twice"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"\\u0078\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
         8, LLCUDA_BAD_FORMAT, "the tensor 'x' comes twice"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"y\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[2,6]}}",
         6, LLCUDA_BAD_FORMAT, "tensors overlap"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"y\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[6,10]}}",
         10, LLCUDA_BAD_FORMAT, "leave a hole"},
        {"{\"a\":0,\"b\":0,\"c\":0,\"d\":0,\"e\":0,\"f\":0,\"g\":0,\"h\":0,\"i\":0,\"j\":0,\"k\":0,"
         "\"l\":0,\"m\":0}",
         0, LLCUDA_BAD_FORMAT, "too many to describe"},
        {"{\"x\":[[[[]]]]}", 0, LLCUDA_BAD_FORMAT, "no object with dtype"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        refuses(cases[i].header, cases[i].data_bytes, cases[i].status, cases[i].words);
    }
}

static void reads_types_in_any_order(void **state)
{
    (void)state;
    struct buffer bytes = {0};
    put_safetensors(&bytes,
                    "{\"late\": {\"data_offsets\": [10, 18], \"dtype\": \"F32\", \"shape\": [2]},"
                    " \"__metadata__\": {\"format\": \"pt\", \"e\\n\": \"\\u00e9\"},"
                    " \"ids\": {\"dtype\": \"I64\", \"shape\": [1], \"data_offsets\": [2, 10]},"
                    " \"none\": {\"dtype\": \"BF16\", \"shape\": [0, 7], \"data_offsets\": [2, 2]},"
                    " \"h\\u0061lf\": {\"dtype\": \"F16\", \"shape\": [], \"extra\": [{}],"
                    " \"data_offsets\": [0, 2]}}   ",
                    18);
    struct safetensors *file;
    struct llcuda_error error;
    assert_ok(safetensors_open_memory(bytes.data, bytes.length, &file, &error), error);
    assert_int_equal(safetensors_count(file), 4);
    assert_null(safetensors_at(file, 4));
    const struct safetensors_tensor *late = safetensors_at(file, 0);
    assert_true(text_view_is(late->tensor.name, "late"));
    assert_true(late->type->usable);
    assert_int_equal(late->tensor.dtype, DTYPE_F32);
    assert_int_equal(late->tensor.rank, 1);
    assert_int_equal(late->tensor.shape[0], 2);
    assert_int_equal(*(const uint8_t *)late->tensor.data, 10);
    const struct safetensors_tensor *ids = safetensors_find(file, text_view_of("ids"));
    assert_false(ids->type->usable);
    assert_string_equal(ids->type->name, "I64");
    const struct safetensors_tensor *half = safetensors_find(file, text_view_of("half"));
    assert_int_equal(half->tensor.dtype, DTYPE_F16);
    assert_int_equal(half->tensor.rank, 0);
    assert_int_equal(half->tensor.bytes, 2);
    const struct safetensors_tensor *none = safetensors_find(file, text_view_of("none"));
    assert_int_equal(none->tensor.dtype, DTYPE_BF16);
    assert_int_equal(none->tensor.bytes, 0);
    assert_int_equal(tensor_elements(&none->tensor), 0);
    assert_null(safetensors_find(file, text_view_of("__metadata__")));
    safetensors_close(file);
    buffer_deinit(&bytes);
}

/* Random tensors, written and read back: the reference's test_roundtrip and test_gpt2. */
static void round_trips(void **state)
{
    (void)state;
    static const char *const names[] = {"BOOL", "U8",  "I8",  "I16",  "U16", "I32", "U32",
                                        "I64",  "U64", "F16", "BF16", "F32", "F64"};
    static const uint64_t sizes[] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 2, 2, 4, 8};
    for (int round = 0; round < 200; round++) {
        struct buffer header = {0};
        uint64_t end = 0;
        uint64_t count = 1 + test_random_below(300);
        for (uint64_t i = 0; i < count; i++) {
            uint64_t type = test_random_below(13);
            uint64_t rank = test_random_below(5);
            uint64_t bytes = sizes[type];
            buffer_printf(&header, "%c\"t.%d\":{\"dtype\":\"%s\",\"shape\":[", i ? ',' : '{',
                          (int)i, names[type]);
            for (uint64_t k = 0; k < rank; k++) {
                uint64_t length = 1 + test_random_below(8);
                buffer_printf(&header, "%s%d", k ? "," : "", (int)length);
                bytes *= length;
            }
            buffer_printf(&header, "],\"data_offsets\":[%d,%d]}", (int)end, (int)(end + bytes));
            end += bytes;
        }
        buffer_append_text(&header, "}");
        accepts(buffer_text(&header), end);
        refuses(buffer_text(&header), end + 1, LLCUDA_BAD_FORMAT, "behind its header");
        refuses(buffer_text(&header), end - 1, LLCUDA_BAD_FORMAT, "behind its header");
        buffer_deinit(&header);
    }
}

static void files_open_and_lie(void **state)
{
    (void)state;
    struct llcuda_error error;
    const char *folder = test_folder_make();
    struct buffer bytes = {0};
    put_safetensors(&bytes, TEST_I32, 16);
    char *path = test_file_write(folder, "model.safetensors", bytes.data, bytes.length);
    struct safetensors *file;
    assert_ok(safetensors_open(path, false, &file, &error), error);
    assert_int_equal(safetensors_file_bytes(file), bytes.length);
    assert_memory_equal(safetensors_at(file, 0)->tensor.data, bytes.data + bytes.length - 16, 16);
    assert_false(safetensors_damaged(file));
    safetensors_close(file);
    assert_ok(safetensors_open(path, true, &file, &error), error);
    assert_null(safetensors_at(file, 0)->tensor.data);
    safetensors_close(file);
    free(path);
    path = test_file_write(folder, "short", bytes.data, bytes.length - 1);
    assert_int_equal(safetensors_open(path, false, &file, &error), LLCUDA_BAD_FORMAT);
    assert_non_null(strstr(error.message, path));
    free(path);
    path = test_file_write(folder, "tiny", bytes.data, 5);
    assert_int_equal(safetensors_open(path, false, &file, &error), LLCUDA_BAD_FORMAT);
    free(path);
    path = file_path_join(folder, "absent");
    assert_int_equal(safetensors_open(path, false, &file, &error), LLCUDA_NOT_FOUND);
    free(path);
    test_folder_remove(folder);
    buffer_deinit(&bytes);
}

/* The length field at every boundary, on a file of its real size. */
static void survives_boundary_lengths(void **state)
{
    (void)state;
    struct buffer file = {0};
    put_safetensors(&file, TEST_I32, 16);
    struct llcuda_error error;
    uint64_t real;
    memcpy(&real, file.data, 8);
    for (unsigned power = 0; power < 64; power++) {
        for (uint64_t delta = 0; delta < 3; delta++) {
            uint64_t value = (1ull << power) - 1 + delta;
            memcpy(file.data, &value, 8);
            llcuda_status status = try_open(file.data, file.length, &error);
            assert_int_equal(status, value == real ? LLCUDA_OK : LLCUDA_BAD_FORMAT);
        }
    }
    buffer_deinit(&file);
    /* The limit itself: a header of spaces is refused for its first byte, one byte more for its
     * length. */
    char *spaces = malloc(LIMIT_SAFETENSORS_HEADER + 9);
    memset(spaces, ' ', LIMIT_SAFETENSORS_HEADER + 9);
    uint64_t length = LIMIT_SAFETENSORS_HEADER;
    memcpy(spaces, &length, 8);
    refuses_bytes(spaces, LIMIT_SAFETENSORS_HEADER + 8, LLCUDA_BAD_FORMAT, "'{'");
    length++;
    memcpy(spaces, &length, 8);
    refuses_bytes(spaces, LIMIT_SAFETENSORS_HEADER + 9, LLCUDA_LIMIT, "limit of 100000000");
    free(spaces);
}

static void survives_every_byte_and_truncation(void **state)
{
    (void)state;
    struct buffer file = {0};
    put_safetensors(&file,
                    "{\"__metadata__\":{\"format\":\"pt\"},"
                    "\"model.embed\":{\"dtype\":\"F32\",\"shape\":[4,2],\"data_offsets\":[0,32]},"
                    "\"n\\u00e9\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[32,38]}}  ",
                    38);
    struct llcuda_error error;
    assert_ok(try_open(file.data, file.length, &error), error);
    size_t header = file.length - 38;
    for (size_t i = 0; i < header; i++) {
        uint8_t original = (uint8_t)file.data[i];
        for (unsigned value = 0; value < 256; value++) {
            file.data[i] = (char)value;
            try_open(file.data, file.length, &error);
        }
        file.data[i] = (char)original;
    }
    for (size_t length = 0; length < file.length; length++) {
        assert_int_equal(try_open(file.data, length, &error), LLCUDA_BAD_FORMAT);
    }
    buffer_deinit(&file);
}

/* Deep nesting and many members end quickly. */
static void takes_no_long_time(void **state)
{
    (void)state;
    uint64_t begin = clock_now_ns();
    struct buffer header = {0};
    buffer_append_text(&header, "{\"x\":");
    for (int i = 0; i < 1000000; i++) {
        buffer_append_byte(&header, '[');
    }
    refuses(buffer_text(&header), 0, LLCUDA_BAD_FORMAT, "JSON ends");
    for (int i = 0; i < 1000000; i++) {
        buffer_append_byte(&header, ']');
    }
    buffer_append_byte(&header, '}');
    refuses(buffer_text(&header), 0, LLCUDA_LIMIT, "");
    buffer_clear(&header);
    for (unsigned i = 0; i < 50000; i++) {
        buffer_printf(&header,
                      "%c\"%08x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%u,%u]}",
                      i ? ',' : '{', ~i, 49999 - i, 50000 - i);
    }
    buffer_append_byte(&header, '}');
    accepts(buffer_text(&header), 50000);
    buffer_deinit(&header);
    assert_true(clock_now_ns() - begin < 20000000000u);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(accepts_the_reference_cases),
    cmocka_unit_test(refuses_the_reference_cases),
    cmocka_unit_test(refuses_broken_rules),
    cmocka_unit_test(reads_types_in_any_order),
    cmocka_unit_test(round_trips),
    cmocka_unit_test(files_open_and_lie),
    cmocka_unit_test(survives_boundary_lengths),
    cmocka_unit_test(survives_every_byte_and_truncation),
    cmocka_unit_test(takes_no_long_time),
};

TEST_MAIN(tests)
