/* Models as the rest of the program sees them: the same questions to a GGUF file and to Hugging
 * Face folders, single and sharded, and what is said when files are missing, wrong or contradict.
 */
#include "format/model_files.h"

#include <signal.h>
#include <unistd.h>

#include "base/file.h"
#include "base/limits.h"
#include "format/gguf_write.h"
#include "format/model_source.h"

static const char config_text[] =
    "{\"model_type\": \"llama\", \"num_hidden_layers\": 2, \"rope_theta\": 10000.0,"
    " \"tie_word_embeddings\": true, \"hidden_act\": \"silu\", \"nothing\": null,"
    " \"rope_scaling\": {\"factor\": 8, \"rope_type\": \"llama3\", \"deep\": {\"er\": 1}},"
    " \"negative\": -1, \"half\": 0.5, \"whole\": 4.0, \"huge\": 1e300, \"list\": [1]}";

static struct model_source *open_model(const char *path, bool header_only)
{
    struct model_source *source;
    struct llcuda_error error;
    assert_ok(model_source_open(path, header_only, &source, &error), error);
    return source;
}

static void refuses(const char *path, llcuda_status status, const char *words)
{
    struct model_source *source;
    struct llcuda_error error;
    llcuda_status found = model_source_open(path, false, &source, &error);
    if (found != status || !strstr(error.message, words)) {
        fail_msg("expected %s '%s', got %s '%s'", llcuda_status_name(status), words,
                 llcuda_status_name(found), found ? error.message : "");
    }
    assert_null(source);
}

static void write_text(const char *folder, const char *name, const char *text)
{
    free(test_file_write(folder, name, text, strlen(text)));
}

/* A weight file with one F32 tensor of two elements for each name, and one I64 "ids.NAME0". */
static void write_weights(const char *folder, const char *file, const char *const *names,
                          uint32_t count)
{
    struct buffer header = {0};
    struct buffer bytes = {0};
    for (uint32_t i = 0; i < count; i++) {
        buffer_printf(&header,
                      "%c\"%s\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[%u,%u]}",
                      i ? ',' : '{', names[i], i * 8, i * 8 + 8);
    }
    buffer_printf(&header,
                  ",\"ids.%s\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[%u,%u]}}",
                  names[0], count * 8, count * 8 + 8);
    put_safetensors(&bytes, buffer_text(&header), count * 8 + 8);
    free(test_file_write(folder, file, bytes.data, bytes.length));
    buffer_deinit(&bytes);
    buffer_deinit(&header);
}

static void write_gguf(const char *folder, const char *name)
{
    struct buffer file = {0};
    sample_gguf(&file);
    free(test_file_write(folder, name, file.data, file.length));
    buffer_deinit(&file);
}

static void write_sharded(const char *folder)
{
    static const char *const first[] = {"embed", "norm"};
    static const char *const second[] = {"head"};
    write_text(folder, "config.json", config_text);
    write_weights(folder, "model-00001-of-00002.safetensors", first, 2);
    write_weights(folder, "model-00002-of-00002.safetensors", second, 1);
    write_text(folder, "model.safetensors.index.json",
               "{\"metadata\": {\"total_size\": 40}, \"weight_map\": {"
               "\"head\": \"model-00002-of-00002.safetensors\","
               "\"embed\": \"model-00001-of-00002.safetensors\","
               "\"n\\u006frm\": \"model-00001-of-00002.safetensors\"}}\n");
}

static void answers_alike(void **state)
{
    (void)state;
    static const char *const names[] = {"embed"};
    struct llcuda_error error;
    const char *folder = test_folder_make();
    write_gguf(folder, "model.gguf");
    char *path = file_path_join(folder, "model.gguf");
    struct model_source *gguf = open_model(path, false);
    write_text(folder, "config.json", config_text);
    write_weights(folder, "model.safetensors", names, 1);
    struct model_source *hf = open_model(folder, false);
    assert_int_equal(model_source_container(gguf), MODEL_GGUF);
    assert_int_equal(model_source_container(hf), MODEL_HUGGING_FACE);
    assert_string_equal(model_source_path(gguf), path);
    assert_string_equal(model_source_path(hf), folder);
    assert_string_equal(model_source_folder(hf), folder);
    assert_null(model_source_folder(gguf));
    assert_non_null(model_source_gguf(gguf));
    assert_null(model_source_gguf(hf));
    assert_null(model_source_config(gguf));
    assert_null(model_source_generation(gguf));
    assert_null(model_source_generation(hf));
    assert_int_equal(model_source_config(hf)->count, 12);
    struct model_source *both[] = {gguf, hf};
    for (size_t i = 0; i < 2; i++) {
        uint32_t layers;
        double theta;
        assert_true(text_view_is(model_source_architecture(both[i]), "llama"));
        assert_ok(
            model_source_u32(both[i], "block_count", "num_hidden_layers", 1, 2, &layers, &error),
            error);
        assert_int_equal(layers, 2);
        assert_ok(
            model_source_number(both[i], "rope.freq_base", "rope_theta", 1, 1e9, &theta, &error),
            error);
        assert_true(theta == 10000.0);
        assert_int_equal(
            model_source_u32(both[i], "block_count", "num_hidden_layers", 3, 9, &layers, &error),
            LLCUDA_BAD_FORMAT);
        assert_int_equal(model_source_u32(both[i], "absent", "absent", 3, 9, &layers, &error),
                         LLCUDA_NOT_FOUND);
        assert_int_equal(model_source_u32(both[i], i ? "block_count" : NULL,
                                          i ? NULL : "num_hidden_layers", 0, 9, &layers, &error),
                         LLCUDA_NOT_FOUND);
        assert_true(model_source_file_bytes(both[i]) > 50);
        assert_false(model_source_damaged(both[i]));
    }
    model_source_close(hf);
    model_source_close(gguf);
    model_source_close(NULL);
    free(path);
    test_folder_remove(folder);
}

static void reads_configuration_strictly(void **state)
{
    (void)state;
    static const char *const names[] = {"embed"};
    struct llcuda_error error;
    const char *folder = test_folder_make();
    write_text(folder, "config.json", config_text);
    write_text(folder, "generation_config.json", "{\"temperature\": 0.6}");
    write_weights(folder, "model.safetensors", names, 1);
    struct model_source *hf = open_model(folder, true);
    assert_int_equal(model_source_generation(hf)->count, 1);
    static const struct {
        const char *key;
        llcuda_status u32, number, boolean, text;
    } rows[] = {
        {"num_hidden_layers", 0, 0, 5, 5},
        {"rope_theta", 0, 0, 5, 5},
        {"tie_word_embeddings", 5, 5, 0, 5},
        {"hidden_act", 5, 5, 5, 0},
        {"nothing", 4, 4, 4, 4},
        {"rope_scaling", 5, 5, 5, 5},
        {"rope_scaling.factor", 0, 0, 5, 5},
        {"rope_scaling.rope_type", 5, 5, 5, 0},
        {"rope_scaling.deep.er", 0, 0, 5, 5},
        {"rope_scaling.absent", 4, 4, 4, 4},
        {"absent.factor", 4, 4, 4, 4},
        {"nothing.factor", 4, 4, 4, 4},
        {"hidden_act.factor", 5, 5, 5, 5},
        {"rope_scaling.factor.x", 5, 5, 5, 5},
        {"negative", 5, 0, 5, 5},
        {"half", 5, 0, 5, 5},
        {"whole", 0, 0, 5, 5},
        {"huge", 5, 0, 5, 5},
        {"list", 5, 5, 5, 5},
        {"", 4, 4, 4, 4},
        {".", 4, 4, 4, 4},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t integer;
        double number;
        bool boolean;
        struct text_view text;
        const char *key = rows[i].key;
        assert_int_equal(model_source_u32(hf, "x", key, 0, UINT32_MAX, &integer, &error),
                         rows[i].u32);
        assert_int_equal(model_source_number(hf, "x", key, -INFINITY, INFINITY, &number, &error),
                         rows[i].number);
        assert_int_equal(model_source_bool(hf, "x", key, &boolean, &error), rows[i].boolean);
        assert_int_equal(model_source_text(hf, "x", key, &text, &error), rows[i].text);
    }
    model_source_close(hf);
    test_folder_remove(folder);
}

static void joins_shards(void **state)
{
    (void)state;
    struct llcuda_error error;
    const char *folder = test_folder_make();
    write_sharded(folder);
    char *shard = file_path_join(folder, "model-00002-of-00002.safetensors");
    for (int way = 0; way < 3; way++) {
        struct model_source *source = open_model(way == 1 ? shard : folder, way == 2);
        assert_int_equal(model_source_tensor_count(source), 3);
        assert_null(model_source_tensor_at(source, 3));
        const struct tensor *head = model_source_find(source, text_view_of("head"));
        assert_non_null(head);
        assert_int_equal(head->bytes, 8);
        assert_int_equal(head->rank, 2);
        assert_int_equal(head->data == NULL, way == 2);
        assert_null(model_source_find(source, text_view_of("ids.head")));
        assert_int_equal(model_source_unusable_count(source), 2);
        struct model_source_unusable unusable;
        assert_true(model_source_unusable_at(source, 1, &unusable));
        assert_true(text_view_is(unusable.name, "ids.head"));
        assert_string_equal(unusable.type, "I64");
        assert_int_equal(unusable.bytes, 8);
        assert_false(model_source_unusable_at(source, 2, &unusable));
        const struct tensor *tensor;
        assert_ok(model_source_require(source, text_view_of("norm"), &tensor, &error), error);
        assert_int_equal(model_source_require(source, text_view_of("no"), &tensor, &error),
                         LLCUDA_NOT_FOUND);
        assert_int_equal(model_source_require(source, text_view_of("ids.head"), &tensor, &error),
                         LLCUDA_UNSUPPORTED);
        assert_non_null(strstr(error.message, "'ids.head' has the type I64"));
        model_source_close(source);
    }
    free(shard);
    test_folder_remove(folder);
}

static void opens_what_lies_there(void **state)
{
    (void)state;
    static const char *const names[] = {"embed"};
    const char *folder = test_folder_make();
    refuses(folder, LLCUDA_NOT_FOUND, "neither config.json with model.safetensors");
    write_gguf(folder, "only.gguf");
    struct model_source *source = open_model(folder, false);
    assert_int_equal(model_source_container(source), MODEL_GGUF);
    assert_non_null(strstr(model_source_path(source), "/only.gguf"));
    model_source_close(source);
    write_text(folder, "config.json", config_text);
    source = open_model(folder, false);
    assert_int_equal(model_source_container(source), MODEL_GGUF);
    model_source_close(source);
    write_gguf(folder, "second.gguf");
    refuses(folder, LLCUDA_NOT_FOUND, "holds 2 .gguf files");
    write_weights(folder, "model.safetensors", names, 1);
    source = open_model(folder, false);
    assert_int_equal(model_source_container(source), MODEL_HUGGING_FACE);
    model_source_close(source);
    write_weights(folder, "other.safetensors", names, 1);
    char *path = file_path_join(folder, "other.safetensors");
    source = open_model(path, false);
    assert_int_equal(model_source_container(source), MODEL_HUGGING_FACE);
    assert_int_equal(model_source_tensor_count(source), 1);
    model_source_close(source);
    free(path);
    test_folder_remove(folder);
}

static void weight_file_beside_the_program(void **state)
{
    (void)state;
    static const char *const names[] = {"embed"};
    const char *folder = test_folder_make();
    write_text(folder, "config.json", config_text);
    write_weights(folder, "model.safetensors", names, 1);
    char before[4096];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(folder), 0);
    struct model_source *source = open_model("model.safetensors", false);
    assert_string_equal(model_source_folder(source), ".");
    model_source_close(source);
    assert_int_equal(chdir(before), 0);
    test_folder_remove(folder);
}

static void says_what_is_missing(void **state)
{
    (void)state;
    static const char *const names[] = {"embed"};
    const char *folder = test_folder_make();
    char *path = file_path_join(folder, "absent.gguf");
    refuses(path, LLCUDA_NOT_FOUND, "absent.gguf");
    free(path);
    write_text(folder, "notes.txt", "this is text");
    path = file_path_join(folder, "notes.txt");
    refuses(path, LLCUDA_BAD_FORMAT, "no GGUF file: it begins with the bytes 74 68 69 73");
    free(path);
    write_text(folder, "config.json", config_text);
    refuses(folder, LLCUDA_NOT_FOUND, "neither model.safetensors nor model.safetensors.index.json");
    write_weights(folder, "model.safetensors", names, 1);
    path = file_path_join(folder, "config.json");
    assert_int_equal(unlink(path), 0);
    free(path);
    refuses(folder, LLCUDA_NOT_FOUND, "has no config.json");
    path = file_path_join(folder, "model.safetensors");
    refuses(path, LLCUDA_NOT_FOUND, "has no config.json");
    free(path);
    write_text(folder, "config.json", "{\"num_hidden_layers\": 2}");
    refuses(folder, LLCUDA_BAD_FORMAT, "no model_type");
    write_text(folder, "config.json", "{\"model_type\": 3}");
    refuses(folder, LLCUDA_BAD_FORMAT, "'model_type' at byte 15");
    write_text(folder, "config.json", "{\"model_type\": \"a b\"}");
    refuses(folder, LLCUDA_BAD_FORMAT, "printable");
    write_text(folder, "config.json", "[]");
    refuses(folder, LLCUDA_BAD_FORMAT, "an array instead of an object");
    write_text(folder, "config.json", "");
    refuses(folder, LLCUDA_BAD_FORMAT, "config.json");
    write_text(folder, "config.json", config_text);
    write_text(folder, "generation_config.json", "{");
    refuses(folder, LLCUDA_BAD_FORMAT, "generation_config.json");
    test_folder_remove(folder);
}

static void refuses_contradictory_indexes(void **state)
{
    (void)state;
    static const char *const names[] = {"embed", "norm"};
    const char *folder = test_folder_make();
    write_sharded(folder);
    static const struct {
        const char *text;
        llcuda_status status;
        const char *words;
    } cases[] = {
        {"{\"weight_map\":{\"a\":\"../model.safetensors\"}}", LLCUDA_BAD_FORMAT, "no plain name"},
        {"{\"weight_map\":{\"a\":\"/model.safetensors\"}}", LLCUDA_BAD_FORMAT, "no plain name"},
        {"{\"weight_map\":{\"a\":\"x/y.safetensors\"}}", LLCUDA_BAD_FORMAT, "no plain name"},
        {"{\"weight_map\":{\"a\":\"x\\u002fy.safetensors\"}}", LLCUDA_BAD_FORMAT, "no plain name"},
        {"{\"weight_map\":{\"a\":\"x\\u0000.safetensors\"}}", LLCUDA_BAD_FORMAT, "no plain name"},
        {"{\"weight_map\":{\"a\":\"a..safetensors\"}}", LLCUDA_BAD_FORMAT, "no plain name"},
        {"{\"weight_map\":{\"a\":\".safetensors\"}}", LLCUDA_BAD_FORMAT, "no plain name"},
        {"{\"weight_map\":{\"a\":\"\"}}", LLCUDA_BAD_FORMAT, "no plain name"},
        {"{\"weight_map\":{\"a\":\"config.json\"}}", LLCUDA_BAD_FORMAT, "no plain name"},
        {"{\"weight_map\":{\"a\":3}}", LLCUDA_BAD_FORMAT, "no string"},
        {"{\"weight_map\":[]}", LLCUDA_BAD_FORMAT, "'{'"},
        {"{\"weight_map\":{}}", LLCUDA_BAD_FORMAT, "is empty"},
        {"{}", LLCUDA_BAD_FORMAT, "no weight_map"},
        {"", LLCUDA_BAD_FORMAT, "JSON ends"},
        {"{\"weight_map\":{},\"weight_map\":{}}", LLCUDA_BAD_FORMAT, "weight_map twice"},
        {"{\"weight_map\":{\"embed\":\"model-00001-of-00002.safetensors\"}} x", LLCUDA_BAD_FORMAT,
         "goes on after its end"},
        {"{\"weight_map\":{\"a\":\"gone.safetensors\"}}", LLCUDA_NOT_FOUND,
         "the weight file 'gone.safetensors', which model.safetensors.index.json names, is "
         "missing"},
        {"{\"weight_map\":{\"head\":\"model-00001-of-00002.safetensors\"}}", LLCUDA_BAD_FORMAT,
         "that the tensor 'head' is in 'model-00001-of-00002.safetensors', but it is not"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_text(folder, "model.safetensors.index.json", cases[i].text);
        refuses(folder, cases[i].status, cases[i].words);
    }
    write_sharded(folder);
    write_weights(folder, "model-00002-of-00002.safetensors", names, 2);
    refuses(folder, LLCUDA_BAD_FORMAT, "that the tensor 'head' is in");
    write_text(folder, "model.safetensors.index.json",
               "{\"weight_map\":{\"embed\":\"model-00001-of-00002.safetensors\","
               "\"norm\":\"model-00002-of-00002.safetensors\"}}");
    refuses(folder, LLCUDA_BAD_FORMAT, "is in two weight files");
    struct buffer many = {0};
    buffer_append_text(&many, "{\"weight_map\":{");
    for (unsigned i = 0; i <= LIMIT_SAFETENSORS_FILES; i++) {
        buffer_printf(&many, "%s\"t%u\":\"%u.safetensors\"", i ? "," : "", i, i);
    }
    buffer_append_text(&many, "}}");
    write_text(folder, "model.safetensors.index.json", buffer_text(&many));
    refuses(folder, LLCUDA_LIMIT, "more than 4096 files");
    buffer_deinit(&many);
    test_folder_remove(folder);
}

static void refuses_odd_gguf_models(void **state)
{
    (void)state;
    static const struct {
        const char *architecture;
        uint32_t split;
        llcuda_status status;
        const char *words;
    } cases[] = {
        {"llama", 1, LLCUDA_OK, ""},
        {"llama", 3, LLCUDA_UNSUPPORTED, "part 2 of 3"},
        {NULL, 0, LLCUDA_BAD_FORMAT, "no general.architecture"},
        {"", 0, LLCUDA_BAD_FORMAT, "printable"},
        {"a\x01", 0, LLCUDA_BAD_FORMAT, "printable"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct llcuda_error error;
        struct buffer file = {0};
        struct gguf_writer *writer;
        assert_ok(gguf_writer_create_memory(&file, &writer, &error), error);
        if (cases[i].architecture) {
            gguf_writer_add_text(writer, "general.architecture",
                                 text_view_of(cases[i].architecture));
        }
        if (cases[i].split) {
            gguf_writer_add_u32(writer, "split.count", cases[i].split);
            gguf_writer_add_u32(writer, "split.no", cases[i].split / 2);
        }
        assert_ok(gguf_writer_begin_data(writer, &error), error);
        assert_ok(gguf_writer_finish(writer, &error), error);
        struct model_source *source;
        assert_int_equal(model_source_open_memory(file.data, file.length, &source, &error),
                         cases[i].status);
        if (cases[i].status) {
            assert_non_null(strstr(error.message, cases[i].words));
        } else {
            assert_string_equal(model_source_path(source), "(built in)");
            assert_false(model_source_damaged(source));
        }
        model_source_close(source);
        buffer_deinit(&file);
    }
}

/* A part with the tensors t0 … of two elements, whose values are their numbers. */
struct part {
    uint32_t number, count;
    uint32_t first_tensor, tensor_count;
    int64_t total; /* split.tensors.count; -1: none */
};

static void write_part(const char *folder, const char *name, const struct part *part)
{
    struct llcuda_error error;
    struct gguf_writer *writer;
    char *path = file_path_join(folder, name);
    assert_ok(gguf_writer_create(path, &writer, &error), error);
    if (part->number == 0) {
        gguf_writer_add_text(writer, "general.architecture", text_view_of("llama"));
    }
    const uint16_t number = (uint16_t)part->number;
    const uint16_t count = (uint16_t)part->count;
    const int32_t total = (int32_t)part->total;
    gguf_writer_add_scalar(writer, "split.no", GGUF_U16, &number);
    gguf_writer_add_scalar(writer, "split.count", GGUF_U16, &count);
    if (part->total >= 0) {
        gguf_writer_add_scalar(writer, "split.tensors.count", GGUF_I32, &total);
    }
    const uint64_t shape[] = {2};
    for (uint32_t i = 0; i < part->tensor_count; i++) {
        char tensor[16];
        snprintf(tensor, sizeof tensor, "t%u", part->first_tensor + i);
        assert_ok(gguf_writer_add_tensor(writer, text_view_of(tensor), DTYPE_F32, 1, shape, &error),
                  error);
    }
    assert_ok(gguf_writer_begin_data(writer, &error), error);
    for (uint32_t i = 0; i < part->tensor_count; i++) {
        const float values[] = {(float)(part->first_tensor + i), -1};
        assert_ok(gguf_writer_data(writer, values, sizeof values, &error), error);
    }
    assert_ok(gguf_writer_finish(writer, &error), error);
    free(path);
}

static void opens_all_parts(void **state)
{
    (void)state;
    const char *folder = test_folder_make();
    static const char *const names[] = {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf",
                                        "m-00003-of-00003.gguf"};
    write_part(folder, names[0], &(struct part){0, 3, 0, 0, 5}); /* metadata only */
    write_part(folder, names[1], &(struct part){1, 3, 0, 3, 5});
    write_part(folder, names[2], &(struct part){2, 3, 3, 2, 5});
    for (uint32_t i = 0; i < 4; i++) { /* by any part, and by the folder */
        char *path = file_path_join(folder, i < 3 ? names[i] : ".");
        struct model_source *source = open_model(path, i == 1);
        assert_true(text_view_is(model_source_architecture(source), "llama"));
        assert_int_equal(model_source_tensor_count(source), 5);
        assert_null(model_source_tensor_at(source, 5));
        uint64_t file_bytes = 0;
        for (uint32_t k = 0; k < 3; k++) {
            struct file file;
            struct llcuda_error error;
            char *part = file_path_join(folder, names[k]);
            assert_ok(file_open(&file, part, &error), error);
            file_bytes += file.size;
            file_close(&file);
            free(part);
        }
        assert_int_equal(model_source_file_bytes(source), file_bytes);
        for (uint32_t k = 0; k < 5; k++) {
            char name[16];
            snprintf(name, sizeof name, "t%u", k);
            const struct tensor *tensor = model_source_find(source, text_view_of(name));
            assert_non_null(tensor);
            assert_ptr_equal(tensor, model_source_tensor_at(source, k));
            if (i == 1) {
                assert_null(tensor->data);
            } else {
                float value;
                memcpy(&value, tensor->data, sizeof value);
                assert_true(value == (float)k);
            }
        }
        assert_false(model_source_damaged(source));
        model_source_close(source);
        free(path);
    }
    test_folder_remove(folder);
}

static void refuses_parts_that_do_not_fit(void **state)
{
    (void)state;
    static const struct {
        const char *second_name;
        struct part first, second;
        llcuda_status status;
        const char *words;
    } cases[] = {
        {"m-00002-of-00002.gguf", {0, 2, 0, 1, 2}, {1, 2, 1, 1, -1}, LLCUDA_OK, ""},
        {"m-00002-of-00002.gguf", {0, 2, 0, 1, -1}, {1, 2, 1, 1, -1}, LLCUDA_OK, ""},
        {"x.gguf", {0, 2, 0, 1, 2}, {1, 2, 1, 1, 2}, LLCUDA_NOT_FOUND, "m-00002-of-00002.gguf"},
        {"m-00002-of-00002.gguf",
         {0, 2, 0, 1, 3},
         {1, 2, 1, 1, 3},
         LLCUDA_BAD_FORMAT,
         "split.tensors.count is 3"},
        {"m-00002-of-00002.gguf", {0, 2, 0, 2, 3}, {1, 2, 1, 1, 3}, LLCUDA_BAD_FORMAT, "two parts"},
        {"m-00002-of-00002.gguf",
         {0, 2, 0, 1, 2},
         {0, 2, 1, 1, 2},
         LLCUDA_BAD_FORMAT,
         "part 1 of 2, its name says part 2 of 2"},
        {"m-00002-of-00002.gguf",
         {0, 2, 0, 1, 2},
         {1, 3, 1, 1, 2},
         LLCUDA_BAD_FORMAT,
         "part 2 of 3, its name says part 2 of 2"},
        {"m-00002-of-00002.gguf",
         {0, 3, 0, 1, 2},
         {1, 2, 1, 1, 2},
         LLCUDA_BAD_FORMAT,
         "-00001-of-00003.gguf"},
        {"m-00002-of-00002.gguf", {0, 900, 0, 1, 2}, {1, 2, 1, 1, 2}, LLCUDA_BAD_FORMAT, "900"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *folder = test_folder_make();
        write_part(folder, "m-00001-of-00002.gguf", &cases[i].first);
        write_part(folder, cases[i].second_name, &cases[i].second);
        char *path = file_path_join(folder, "m-00001-of-00002.gguf");
        if (cases[i].status) {
            refuses(path, cases[i].status, cases[i].words);
        } else {
            struct model_source *source = open_model(path, false);
            assert_int_equal(model_source_tensor_count(source), 2);
            model_source_close(source);
        }
        free(path);
        test_folder_remove(folder);
    }
}

static void on_fault(int signal_number, siginfo_t *info, void *context)
{
    (void)signal_number;
    (void)context;
    if (!file_map_repair(info->si_addr)) {
        abort();
    }
}

/* The file shrinks while it is mapped: the read goes on over zeros and the damage is told. */
static void tells_when_a_file_shrinks(void **state)
{
    (void)state;
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    struct sigaction before;
    assert_int_equal(sigaction(SIGBUS, &action, &before), 0);
    const char *folder = test_folder_make();
    struct llcuda_error error;
    const uint64_t shape[] = {65536};
    char *path = file_path_join(folder, "big.gguf");
    struct gguf_writer *writer;
    assert_ok(gguf_writer_create(path, &writer, &error), error);
    gguf_writer_add_text(writer, "general.architecture", text_view_of("llama"));
    assert_ok(gguf_writer_add_tensor(writer, text_view_of("w"), DTYPE_F32, 1, shape, &error),
              error);
    assert_ok(gguf_writer_begin_data(writer, &error), error);
    uint8_t *ones = malloc(65536 * 4);
    memset(ones, 1, 65536 * 4);
    assert_ok(gguf_writer_data(writer, ones, 65536 * 4, &error), error);
    assert_ok(gguf_writer_finish(writer, &error), error);
    write_text(folder, "config.json", config_text);
    struct buffer weights = {0};
    put_safetensors(&weights,
                    "{\"w\":{\"dtype\":\"F32\",\"shape\":[65536],\"data_offsets\":[0,262144]}}",
                    262144);
    char *shard = test_file_write(folder, "model.safetensors", weights.data, weights.length);
    const char *paths[] = {path, folder};
    const char *files[] = {path, shard};
    for (size_t i = 0; i < 2; i++) {
        struct model_source *source = open_model(paths[i], false);
        const struct tensor *w = model_source_find(source, text_view_of("w"));
        volatile const uint8_t *bytes = w->data;
        assert_int_equal(bytes[65535 * 4], i ? (65535 * 4) & 255 : 1);
        assert_false(model_source_damaged(source));
        assert_int_equal(truncate(files[i], 4096), 0);
        assert_int_equal(bytes[65535 * 4], 0);
        assert_true(model_source_damaged(source));
        assert_true(text_view_is(w->name, "w"));
        assert_true(text_view_is(model_source_architecture(source), "llama"));
        model_source_close(source);
    }
    refuses(path, LLCUDA_BAD_FORMAT, "the file ends at byte 4096");
    buffer_deinit(&weights);
    free(shard);
    free(ones);
    free(path);
    test_folder_remove(folder);
    sigaction(SIGBUS, &before, NULL);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(answers_alike),
    cmocka_unit_test(reads_configuration_strictly),
    cmocka_unit_test(joins_shards),
    cmocka_unit_test(opens_what_lies_there),
    cmocka_unit_test(weight_file_beside_the_program),
    cmocka_unit_test(says_what_is_missing),
    cmocka_unit_test(refuses_contradictory_indexes),
    cmocka_unit_test(refuses_odd_gguf_models),
    cmocka_unit_test(opens_all_parts),
    cmocka_unit_test(refuses_parts_that_do_not_fit),
    cmocka_unit_test(tells_when_a_file_shrinks),
};

TEST_MAIN(tests)
