/* Quantising files: odd rows, values that are not finite, what is copied, importance matrices. */
#include "support/test_support.h"

#include <unistd.h>

#include "base/file.h"
#include "convert/quantize.h"
#include "format/gguf_write.h"
#include "tensor/quant.h"

static const char *folder;

static char *temporary_path(const char *name)
{
    char *path = file_path_join(folder, name);
    assert_non_null(path);
    return path;
}

static int make_folder(void **state)
{
    (void)state;
    folder = test_folder_make();
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    test_folder_remove(folder);
    return 0;
}

/* A file of one matrix and one vector; `columns` floats a row, the value at [1, 3] is `strange`. */
static char *make_source(uint64_t columns, float strange)
{
    struct llcuda_error error = {0};
    struct gguf_writer *writer = NULL;
    char *path = temporary_path("source.gguf");
    const uint64_t shape[2] = {8, columns};
    assert_ok(gguf_writer_create(path, &writer, &error), error);
    gguf_writer_add_text(writer, "general.architecture", text_view_of("llama"));
    gguf_writer_add_u32(writer, "llama.block_count", 1);
    gguf_writer_add_u32(writer, "general.file_type", 1);
    assert_ok(gguf_writer_add_tensor(writer, text_view_of("blk.0.ffn_up.weight"), DTYPE_F32, 2,
                                     shape, &error),
              error);
    assert_ok(gguf_writer_add_tensor(writer, text_view_of("output_norm.weight"), DTYPE_F16, 1,
                                     &columns, &error),
              error);
    assert_ok(gguf_writer_begin_data(writer, &error), error);
    for (uint64_t i = 0; i < 8 * columns; i++) {
        float value = i == columns + 3 ? strange : test_random_normal();
        assert_ok(gguf_writer_data(writer, &value, sizeof value, &error), error);
    }
    for (uint64_t i = 0; i < columns; i++) {
        uint16_t half = float_to_f16(1 + (float)i / 256);
        assert_ok(gguf_writer_data(writer, &half, sizeof half, &error), error);
    }
    assert_ok(gguf_writer_finish(writer, &error), error);
    return path;
}

static llcuda_status convert(const char *from, const char *to, const char *type,
                             struct imatrix *imatrix, struct llcuda_error *error)
{
    struct model_source *source = NULL;
    struct quantize_result result;
    struct quantize_options options = {
        .recipe = recipe_find(type), .imatrix = imatrix, .thread_count = 2};
    assert_ok(model_source_open(from, false, &source, error), *error);
    llcuda_status status = quantize_model(source, to, &options, &result, error);
    model_source_close(source);
    return status;
}

static void test_values(void **state)
{
    (void)state;
    struct llcuda_error error = {0};
    char *from = make_source(256, 0.5f);
    char *to = temporary_path("out.gguf");
    assert_ok(convert(from, to, "q8_0", NULL, &error), error);
    struct gguf *a = NULL;
    struct gguf *b = NULL;
    assert_ok(gguf_open(from, false, &a, &error), error);
    assert_ok(gguf_open(to, false, &b, &error), error);
    const struct tensor *plain = gguf_find_tensor(a, text_view_of("blk.0.ffn_up.weight"));
    const struct tensor *small = gguf_find_tensor(b, text_view_of("blk.0.ffn_up.weight"));
    const struct tensor *vector = gguf_find_tensor(b, text_view_of("output_norm.weight"));
    assert_int_equal(small->dtype, DTYPE_Q8_0);
    float row[256];
    unsigned char expected[8 * 34];
    for (uint64_t r = 0; r < 8; r++) {
        memcpy(row, (const unsigned char *)plain->data + r * sizeof row, sizeof row);
        assert_true(quantize_row(DTYPE_Q8_0, row, NULL, expected, 256));
        assert_memory_equal((const unsigned char *)small->data + r * sizeof expected, expected,
                            sizeof expected);
    }
    assert_int_equal(vector->dtype, DTYPE_F32);
    memcpy(row, vector->data, sizeof row);
    assert_true(row[0] == 1.0f && row[128] == 1.5f);
    uint64_t file_type;
    assert_ok(gguf_read_u64(b, "general.file_type", 0, 100, &file_type, &error), error);
    assert_int_equal(file_type, 7);
    gguf_close(a);
    gguf_close(b);
    free(from);
    free(to);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        uint64_t columns;
        float strange;
        const char *type;
        llcuda_status status;
        const char *words;
    } cases[] = {
        {250, 1, "q4_0", LLCUDA_INVALID_ARGUMENT, "250"},
        {250, 1, "f16", LLCUDA_OK, ""},
        {256, NAN, "q4_k_m", LLCUDA_NOT_FINITE, "blk.0.ffn_up.weight"},
        {256, INFINITY, "f16", LLCUDA_NOT_FINITE, "blk.0.ffn_up.weight"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct llcuda_error error = {0};
        char *from = make_source(cases[i].columns, cases[i].strange);
        char *to = temporary_path("refused.gguf");
        unlink(to);
        assert_int_equal(convert(from, to, cases[i].type, NULL, &error), cases[i].status);
        assert_non_null(strstr(error.message, cases[i].words));
        assert_int_equal(file_exists(to), cases[i].status == LLCUDA_OK);
        free(from);
        free(to);
    }
}

static void test_imatrix(void **state)
{
    (void)state;
    struct llcuda_error error = {0};
    struct imatrix *matrix = NULL;
    struct imatrix *loaded = NULL;
    char *path = temporary_path("imatrix.gguf");
    float inputs[2][256];
    for (int i = 0; i < 256; i++) {
        inputs[0][i] = (float)i;
        inputs[1][i] = 2;
    }
    assert_ok(imatrix_create(&matrix, &error), error);
    assert_int_equal(imatrix_save(matrix, path, "none", 0, 0, &error), LLCUDA_INVALID_ARGUMENT);
    struct text_view name = text_view_of("blk.0.ffn_up.weight");
    assert_true(imatrix_add(matrix, name, inputs[0], 256, 2, 256));
    assert_false(imatrix_add(matrix, name, inputs[0], 256, 1, 128));
    assert_ok(imatrix_save(matrix, path, "text", 1, 2, &error), error);
    assert_ok(imatrix_load(path, &loaded, &error), error);
    assert_int_equal(imatrix_count(loaded), 1);
    const float *means = imatrix_find(loaded, name, 256);
    assert_non_null(means);
    assert_true(means[0] == 2 && means[10] == 52);
    assert_null(imatrix_find(loaded, name, 255));
    assert_null(imatrix_find(loaded, text_view_of("blk.1.ffn_up.weight"), 256));
    char *from = make_source(256, 0.5f);
    char *to = temporary_path("hinted.gguf");
    assert_ok(convert(from, to, "q4_0", loaded, &error), error);
    struct imatrix *other = NULL;
    assert_int_equal(imatrix_load(from, &other, &error), LLCUDA_BAD_FORMAT);
    assert_null(other);
    imatrix_destroy(matrix);
    imatrix_destroy(loaded);
    free(path);
    free(from);
    free(to);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(test_values, make_folder, remove_folder),
    cmocka_unit_test_setup_teardown(test_refused, make_folder, remove_folder),
    cmocka_unit_test_setup_teardown(test_imatrix, make_folder, remove_folder),
};

TEST_MAIN(tests)
