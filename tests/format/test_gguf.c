/* GGUF files that must be read: every kind of value and tensor through the writer and back, typed
 * reads of right and wrong types, files, memory and header-only opening alike. */
#include "format/model_files.h"

#include "base/file.h"
#include "format/gguf_write.h"

static struct gguf *open_memory(const struct buffer *file)
{
    struct gguf *gguf;
    struct llcuda_error error;
    assert_ok(gguf_open_memory(file->data, file->length, &gguf, &error), error);
    return gguf;
}

static void reads_scalars_of_every_kind(void **state)
{
    (void)state;
    struct buffer file = {0};
    sample_gguf(&file);
    struct gguf *gguf = open_memory(&file);
    assert_int_equal(gguf_version(gguf), 3);
    assert_int_equal(gguf_alignment(gguf), 64);
    assert_int_equal(gguf_file_bytes(gguf), file.length);
    assert_int_equal(gguf_find(gguf, "u8")->unsigned_integer, 200);
    assert_int_equal(gguf_find(gguf, "i8")->signed_integer, -100);
    assert_int_equal(gguf_find(gguf, "u16")->unsigned_integer, 60000);
    assert_int_equal(gguf_find(gguf, "i16")->signed_integer, -30000);
    assert_int_equal(gguf_find(gguf, "llama.block_count")->unsigned_integer, 2);
    assert_int_equal(gguf_find(gguf, "i32")->signed_integer, -2000000000);
    assert_true(gguf_find(gguf, "u64")->unsigned_integer == UINT64_MAX - 1);
    assert_true(gguf_find(gguf, "i64")->signed_integer == INT64_MIN);
    assert_true(gguf_find(gguf, "llama.rope.freq_base")->number == 10000.0);
    assert_true(gguf_find(gguf, "f64")->number == 0.1);
    assert_int_equal(gguf_find(gguf, "yes")->unsigned_integer, 1);
    assert_true(text_view_is(gguf_find(gguf, "general.architecture")->text, "llama"));
    assert_null(gguf_find(gguf, "absent"));
    assert_null(gguf_find(gguf, ""));
    assert_null(gguf_value_at(gguf, gguf_value_count(gguf)));
    assert_ptr_equal(gguf_value_at(gguf, 0), gguf_find(gguf, "general.architecture"));
    gguf_close(gguf);
    buffer_deinit(&file);
}

static void reads_arrays_of_every_kind(void **state)
{
    (void)state;
    struct buffer file = {0};
    sample_gguf(&file);
    struct gguf *gguf = open_memory(&file);
    struct llcuda_error error;
    for (int kind = GGUF_U8; kind <= GGUF_F64; kind++) {
        if (kind == GGUF_STRING || kind == GGUF_ARRAY) {
            continue;
        }
        char key[32];
        snprintf(key, sizeof key, "array.%s", gguf_kind_name((enum gguf_kind)kind));
        const struct gguf_value *value;
        uint64_t count = 16 / gguf_kind_bytes((enum gguf_kind)kind);
        assert_ok(gguf_read_array(gguf, key, (enum gguf_kind)kind, count, &value, &error), error);
        assert_int_equal(value->count, count);
        assert_memory_equal(value->elements, "\1\0\1\1\0\1\0\0\1\1\0\1\1\1\0\0", 16);
    }
    const struct gguf_value *texts;
    assert_ok(gguf_read_array(gguf, "array.string", GGUF_STRING, 4, &texts, &error), error);
    assert_true(text_view_is(texts->texts[0], "one"));
    assert_true(text_view_is(texts->texts[1], ""));
    assert_true(text_view_equal(texts->texts[2], text_view_make("\xff\0x", 3)));
    assert_true(text_view_is(texts->texts[3], "four"));
    assert_ok(gguf_read_array(gguf, "array.empty", GGUF_STRING, 0, &texts, &error), error);
    assert_int_equal(texts->count, 0);
    gguf_close(gguf);
    buffer_deinit(&file);
}

static void reads_tensors(void **state)
{
    (void)state;
    struct buffer file = {0};
    sample_gguf(&file);
    struct gguf *gguf = open_memory(&file);
    assert_int_equal(gguf_tensor_count(gguf), 5);
    assert_null(gguf_tensor_at(gguf, 5));
    const struct tensor *tensor = gguf_find_tensor(gguf, text_view_of("blk.0.weight"));
    assert_int_equal(tensor->rank, 2);
    assert_int_equal(tensor->shape[0], 3);
    assert_int_equal(tensor->shape[1], 5);
    assert_int_equal(tensor->bytes, 60);
    assert_int_equal(((const uint8_t *)tensor->data)[59], 59);
    tensor = gguf_find_tensor(gguf, text_view_of("scalar"));
    assert_int_equal(tensor->rank, 0);
    assert_int_equal(tensor_elements(tensor), 1);
    assert_int_equal(tensor->bytes, 4);
    tensor = gguf_find_tensor(gguf, text_view_of("four"));
    assert_int_equal(tensor->dtype, DTYPE_Q4_K);
    assert_int_equal(tensor->shape[1], 2);
    assert_int_equal(tensor->shape[3], 256);
    assert_int_equal(tensor->bytes, 288);
    assert_int_equal(((const uint8_t *)tensor->data)[0], 64);
    /* The file begins at an address of unknown alignment; offsets inside it are aligned. */
    assert_int_equal(((const char *)tensor->data - file.data) % 64, 0);
    assert_null(gguf_find_tensor(gguf, text_view_of("blk.2.weight")));
    assert_null(gguf_find_tensor(gguf, text_view_make(NULL, 0)));
    gguf_close(gguf);
    buffer_deinit(&file);
}

static void file_and_memory_agree(void **state)
{
    (void)state;
    struct llcuda_error error;
    struct buffer file = {0};
    sample_gguf(&file);
    const char *folder = test_folder_make();
    char *path = test_file_write(folder, "model.gguf", file.data, file.length);
    struct gguf *mapped;
    struct gguf *header;
    struct gguf *memory = open_memory(&file);
    assert_ok(gguf_open(path, false, &mapped, &error), error);
    assert_ok(gguf_open(path, true, &header, &error), error);
    assert_true(touch_gguf(mapped) == touch_gguf(memory));
    assert_false(gguf_damaged(mapped));
    assert_false(gguf_damaged(memory));
    assert_int_equal(gguf_tensor_count(header), 5);
    for (uint64_t i = 0; i < 5; i++) {
        assert_null(gguf_tensor_at(header, i)->data);
        assert_memory_equal(gguf_tensor_at(mapped, i)->data, gguf_tensor_at(memory, i)->data,
                            gguf_tensor_at(memory, i)->bytes);
    }
    gguf_close(header);
    gguf_close(mapped);
    gguf_close(memory);
    gguf_close(NULL);
    free(path);
    test_folder_remove(folder);
    buffer_deinit(&file);
}

/* A header longer than the reading window, with one string longer than the window. */
static void reads_through_its_window(void **state)
{
    (void)state;
    enum { TEXTS = 30000, LONG_BYTES = 200000 };
    struct llcuda_error error;
    struct gguf_writer *writer;
    const char *folder = test_folder_make();
    char *path = file_path_join(folder, "big.gguf");
    assert_ok(gguf_writer_create(path, &writer, &error), error);
    char *long_text = malloc(LONG_BYTES);
    memset(long_text, 'x', LONG_BYTES);
    struct text_view *texts = calloc(TEXTS, sizeof *texts);
    for (size_t i = 0; i < TEXTS; i++) {
        texts[i] = text_view_make(long_text, i % 13);
    }
    texts[TEXTS / 2].length = LONG_BYTES;
    gguf_writer_add_texts(writer, "texts", texts, TEXTS);
    /* Booleans are checked one by one, in pieces of a window. */
    static uint8_t booleans[LONG_BYTES];
    booleans[LONG_BYTES - 1] = 1;
    gguf_writer_add_array(writer, "booleans", GGUF_BOOL, booleans, LONG_BYTES);
    gguf_writer_add_u32(writer, "after", 77);
    assert_ok(gguf_writer_begin_data(writer, &error), error);
    assert_ok(gguf_writer_finish(writer, &error), error);
    struct gguf *gguf;
    assert_ok(gguf_open(path, false, &gguf, &error), error);
    const struct gguf_value *read;
    assert_ok(gguf_read_array(gguf, "texts", GGUF_STRING, TEXTS, &read, &error), error);
    for (size_t i = 0; i < TEXTS; i++) {
        assert_true(text_view_equal(read->texts[i], texts[i]));
    }
    assert_int_equal(gguf_find(gguf, "after")->unsigned_integer, 77);
    assert_int_equal(gguf_tensor_count(gguf), 0);
    uint64_t last = gguf_find(gguf, "booleans")->offset + 12 + LONG_BYTES - 1;
    gguf_close(gguf);
    FILE *stream = fopen(path, "r+b");
    assert_non_null(stream);
    assert_int_equal(fseek(stream, (long)last, SEEK_SET), 0);
    assert_int_equal(fputc(2, stream), 2);
    assert_int_equal(fclose(stream), 0);
    assert_int_equal(gguf_open(path, false, &gguf, &error), LLCUDA_BAD_FORMAT);
    assert_int_equal(error.offset, last);
    free(texts);
    free(long_text);
    free(path);
    test_folder_remove(folder);
}

static void version_2_is_the_same(void **state)
{
    (void)state;
    struct buffer file = {0};
    sample_gguf(&file);
    file.data[4] = 2;
    struct gguf *gguf = open_memory(&file);
    assert_int_equal(gguf_version(gguf), 2);
    assert_int_equal(gguf_tensor_count(gguf), 5);
    gguf_close(gguf);
    buffer_deinit(&file);
}

/* Which typed read accepts which kind: all others must say BAD_FORMAT. */
static void typed_reads_are_strict(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        bool integer, number, boolean, text;
    } rows[] = {
        {"u8", true, true, false, false},
        {"u16", true, true, false, false},
        {"llama.block_count", true, true, false, false},
        {"u64", true, true, false, false},
        {"i8", false, true, false, false}, /* negative: out of range as an unsigned integer */
        {"i16", false, true, false, false},
        {"i32", false, true, false, false},
        {"i64", false, true, false, false},
        {"llama.rope.freq_base", false, true, false, false},
        {"f64", false, true, false, false},
        {"yes", false, false, true, false},
        {"general.architecture", false, false, false, true},
        {"array.u32", false, false, false, false},
        {"array.string", false, false, false, false},
    };
    struct buffer file = {0};
    sample_gguf(&file);
    struct gguf *gguf = open_memory(&file);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t integer;
        double number;
        bool boolean;
        struct text_view text;
        struct llcuda_error error;
        const char *key = rows[i].key;
        uint64_t offset = gguf_find(gguf, key)->offset;
        llcuda_status statuses[] = {
            gguf_read_u64(gguf, key, 0, UINT64_MAX, &integer, &error),
            gguf_read_number(gguf, key, -INFINITY, INFINITY, &number, &error),
            gguf_read_bool(gguf, key, &boolean, &error),
            gguf_read_text(gguf, key, &text, &error),
        };
        const bool accepted[] = {rows[i].integer, rows[i].number, rows[i].boolean, rows[i].text};
        for (size_t k = 0; k < 4; k++) {
            assert_int_equal(statuses[k], accepted[k] ? LLCUDA_OK : LLCUDA_BAD_FORMAT);
        }
        if (!rows[i].text) {
            assert_int_equal(error.offset, offset);
            assert_non_null(strstr(error.message, key));
        }
    }
    gguf_close(gguf);
    buffer_deinit(&file);
}

/* Wrong element kind times wrong length, and the right one of both. */
static void array_reads_are_strict(void **state)
{
    (void)state;
    struct buffer file = {0};
    sample_gguf(&file);
    struct gguf *gguf = open_memory(&file);
    for (int held = GGUF_U8; held <= GGUF_F64; held++) {
        if (held == GGUF_ARRAY) {
            continue;
        }
        char key[32];
        snprintf(key, sizeof key, "array.%s", gguf_kind_name((enum gguf_kind)held));
        uint64_t count = gguf_find(gguf, key)->count;
        for (int asked = GGUF_U8; asked <= GGUF_F64; asked++) {
            for (uint64_t length = 0; length <= count + 1; length++) {
                const struct gguf_value *value = NULL;
                struct llcuda_error error;
                bool right = asked == held && (length == 0 || length == count);
                llcuda_status status =
                    gguf_read_array(gguf, key, (enum gguf_kind)asked, length, &value, &error);
                assert_int_equal(status, right ? LLCUDA_OK : LLCUDA_BAD_FORMAT);
                assert_int_equal(value != NULL, right);
            }
        }
    }
    const struct gguf_value *value;
    assert_int_equal(gguf_read_array(gguf, "u8", GGUF_U8, 0, &value, NULL), LLCUDA_BAD_FORMAT);
    assert_int_equal(gguf_read_array(gguf, "no", GGUF_U8, 0, &value, NULL), LLCUDA_NOT_FOUND);
    gguf_close(gguf);
    buffer_deinit(&file);
}

static void ranges_hold_at_their_ends(void **state)
{
    (void)state;
    struct llcuda_error error;
    struct buffer file = {0};
    struct gguf_writer *writer;
    assert_ok(gguf_writer_create_memory(&file, &writer, &error), error);
    gguf_writer_add_u32(writer, "n", 10);
    gguf_writer_add_f32(writer, "x", 1.5f);
    gguf_writer_add_f32(writer, "nan", NAN);
    gguf_writer_add_f32(writer, "inf", INFINITY);
    static const int32_t seven = 7;
    gguf_writer_add_scalar(writer, "signed", GGUF_I32, &seven);
    assert_ok(gguf_writer_begin_data(writer, &error), error);
    assert_ok(gguf_writer_finish(writer, &error), error);
    struct gguf *gguf = open_memory(&file);
    uint64_t n;
    double x;
    assert_ok(gguf_read_u64(gguf, "n", 10, 10, &n, &error), error);
    assert_int_equal(n, 10);
    assert_int_equal(gguf_read_u64(gguf, "n", 11, 20, &n, &error), LLCUDA_BAD_FORMAT);
    assert_int_equal(gguf_read_u64(gguf, "n", 0, 9, &n, &error), LLCUDA_BAD_FORMAT);
    assert_int_equal(gguf_read_u64(gguf, "m", 0, 9, &n, &error), LLCUDA_NOT_FOUND);
    assert_ok(gguf_read_u64(gguf, "signed", 0, 7, &n, &error), error);
    assert_int_equal(n, 7);
    assert_ok(gguf_read_number(gguf, "x", 1.5, 1.5, &x, &error), error);
    assert_true(x == 1.5);
    assert_int_equal(gguf_read_number(gguf, "x", 1.6, 2, &x, &error), LLCUDA_BAD_FORMAT);
    assert_int_equal(gguf_read_number(gguf, "nan", -INFINITY, INFINITY, &x, &error),
                     LLCUDA_BAD_FORMAT);
    assert_int_equal(gguf_read_number(gguf, "inf", 0, 1e300, &x, &error), LLCUDA_BAD_FORMAT);
    gguf_close(gguf);
    buffer_deinit(&file);
}

/* Values copied from one file to another are the same bytes. */
static void copies_values(void **state)
{
    (void)state;
    struct llcuda_error error;
    struct buffer file = {0};
    sample_gguf(&file);
    struct gguf *gguf = open_memory(&file);
    struct buffer copy = {0};
    struct gguf_writer *writer;
    assert_ok(gguf_writer_create_memory(&copy, &writer, &error), error);
    for (uint64_t i = 0; i < gguf_value_count(gguf); i++) {
        gguf_writer_add_value(writer, gguf_value_at(gguf, i));
    }
    assert_ok(gguf_writer_begin_data(writer, &error), error);
    assert_ok(gguf_writer_finish(writer, &error), error);
    /* Both files have the same metadata behind the counts. */
    const struct gguf_value *last = gguf_value_at(gguf, gguf_value_count(gguf) - 1);
    assert_true(last->offset > 24 && copy.length > last->offset);
    assert_memory_equal(copy.data + 24, file.data + 24, last->offset - 24);
    struct gguf *read = open_memory(&copy);
    assert_int_equal(gguf_value_count(read), gguf_value_count(gguf));
    gguf_close(read);
    gguf_close(gguf);
    buffer_deinit(&copy);
    buffer_deinit(&file);
}

static void writer_takes_pieces_and_refuses_nonsense(void **state)
{
    (void)state;
    struct llcuda_error error;
    struct buffer file = {0};
    struct gguf_writer *writer;
    assert_ok(gguf_writer_create_memory(&file, &writer, &error), error);
    const uint64_t shape[] = {2, 3};
    const uint64_t zero[] = {0, 3};
    const uint64_t huge[] = {UINT64_MAX / 2, 32};
    assert_ok(gguf_writer_add_tensor(writer, text_view_of("a"), DTYPE_F32, 2, shape, &error),
              error);
    assert_ok(gguf_writer_add_tensor(writer, text_view_of("b"), DTYPE_F16, 2, shape, &error),
              error);
    struct text_view c = text_view_of("c");
    assert_int_equal(gguf_writer_add_tensor(writer, c, DTYPE_Q8_0, 2, shape, &error),
                     LLCUDA_INVALID_ARGUMENT);
    assert_int_equal(gguf_writer_add_tensor(writer, c, DTYPE_F32, 2, zero, &error),
                     LLCUDA_INVALID_ARGUMENT);
    assert_int_equal(gguf_writer_add_tensor(writer, c, DTYPE_F32, 2, huge, &error),
                     LLCUDA_INVALID_ARGUMENT);
    assert_int_equal(gguf_writer_add_tensor(writer, c, DTYPE_F32, 5, shape, &error),
                     LLCUDA_INVALID_ARGUMENT);
    assert_ok(gguf_writer_begin_data(writer, &error), error);
    assert_ok(gguf_writer_data(writer, "0123456789", 10, &error), error);
    assert_int_equal(gguf_writer_data(writer, "0123456789abcde", 15, &error),
                     LLCUDA_INVALID_ARGUMENT);
    assert_ok(gguf_writer_data(writer, "0123456789abcd", 14, &error), error);
    assert_ok(gguf_writer_data(writer, "AAAAAAAAAAAA", 12, &error), error);
    assert_int_equal(gguf_writer_data(writer, "x", 1, &error), LLCUDA_INVALID_ARGUMENT);
    assert_ok(gguf_writer_finish(writer, &error), error);
    struct gguf *gguf = open_memory(&file);
    assert_memory_equal(gguf_tensor_at(gguf, 0)->data, "01234567890123456789abcd", 24);
    assert_memory_equal(gguf_tensor_at(gguf, 1)->data, "AAAAAAAAAAAA", 12);
    gguf_close(gguf);
    buffer_deinit(&file);
}

static void writer_leaves_no_half_file(void **state)
{
    (void)state;
    struct llcuda_error error;
    const char *folder = test_folder_make();
    char *path = file_path_join(folder, "out.gguf");
    struct gguf_writer *writer;
    const uint64_t shape[] = {4};
    for (int finish = 0; finish < 2; finish++) {
        assert_ok(gguf_writer_create(path, &writer, &error), error);
        assert_ok(gguf_writer_add_tensor(writer, text_view_of("a"), DTYPE_F32, 1, shape, &error),
                  error);
        assert_ok(gguf_writer_begin_data(writer, &error), error);
        assert_ok(gguf_writer_data(writer, "01234567", 8, &error), error);
        if (finish) {
            assert_int_equal(gguf_writer_finish(writer, &error), LLCUDA_INVALID_ARGUMENT);
        } else {
            gguf_writer_abort(writer);
        }
        char *name;
        uint32_t count;
        assert_ok(file_folder_find(folder, "", &name, &count, &error), error);
        assert_int_equal(count, 2); /* "." and ".." */
        free(name);
    }
    gguf_writer_abort(NULL);
    free(path);
    test_folder_remove(folder);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(reads_scalars_of_every_kind),
    cmocka_unit_test(reads_arrays_of_every_kind),
    cmocka_unit_test(reads_tensors),
    cmocka_unit_test(file_and_memory_agree),
    cmocka_unit_test(reads_through_its_window),
    cmocka_unit_test(version_2_is_the_same),
    cmocka_unit_test(typed_reads_are_strict),
    cmocka_unit_test(array_reads_are_strict),
    cmocka_unit_test(ranges_hold_at_their_ends),
    cmocka_unit_test(copies_values),
    cmocka_unit_test(writer_takes_pieces_and_refuses_nonsense),
    cmocka_unit_test(writer_leaves_no_half_file),
};

TEST_MAIN(tests)
