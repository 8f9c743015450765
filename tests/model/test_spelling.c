/* config.json has been spelled in several ways over the years, and a model with a vision tower
 * keeps its text model one level down. Each way of writing a sample must give the very same plan.
 */
#include "model/model_run.h"

#include "base/buffer.h"
#include "base/file.h"

struct folder_files {
    struct buffer config;
    struct buffer weights;
};

static void read_files(const char *model, struct folder_files *files)
{
    struct llcuda_error error;
    char path[96];
    *files = (struct folder_files){0};
    snprintf(path, sizeof path, "tests/oracle/data/%s/config.json", model);
    char *whole = test_source_path(path);
    assert_ok(file_read_all(whole, 1u << 24, &files->config, &error), error);
    free(whole);
    snprintf(path, sizeof path, "tests/oracle/data/%s/model.safetensors", model);
    whole = test_source_path(path);
    assert_ok(file_read_all(whole, 1u << 24, &files->weights, &error), error);
    free(whole);
}

static void free_files(struct folder_files *files)
{
    buffer_deinit(&files->config);
    buffer_deinit(&files->weights);
}

/* Replaces the first text from `begin` up to and including `end`. */
static void replace(struct buffer *text, const char *begin, const char *end, const char *with)
{
    struct buffer changed = {0};
    const char *from = strstr(text->data, begin);
    assert_non_null(from);
    const char *to = strstr(from, end);
    assert_non_null(to);
    to += strlen(end);
    buffer_append(&changed, text->data, (size_t)(from - text->data));
    buffer_append_text(&changed, with);
    buffer_append_text(&changed, to);
    assert_false(changed.failed);
    buffer_deinit(text);
    *text = changed;
}

/* The listing of the plan and the rotary tables, which it abbreviates; owned by the caller. */
static struct buffer listing(const struct folder_files *files)
{
    struct llcuda_error error;
    struct model_run run = {0};
    struct buffer text = {0};
    const char *folder = test_folder_make();
    free(test_file_write(folder, "config.json", files->config.data, files->config.length));
    free(test_file_write(folder, "model.safetensors", files->weights.data, files->weights.length));
    assert_ok(model_source_open(folder, false, &run.source, &error), error);
    assert_ok(model_plan_build(run.source, &run.plan, &run.info, &error), error);
    buffer_printf(&text, "%s\n", run.info.rotary);
    plan_dump(run.plan, &text);
    for (uint32_t t = 0; t < run.plan->rotary_table_count; t++) {
        const struct plan_rotary_table *table = &run.plan->rotary_tables[t];
        for (uint32_t i = 0; i < table->size / 2; i++) {
            buffer_printf(&text, "%a ", (double)table->frequencies[i]);
        }
        buffer_printf(&text, "× %a\n", (double)table->magnitude);
    }
    model_run_close(&run);
    test_folder_remove(folder);
    assert_false(text.failed);
    return text;
}

static void expect_same(const char *model, const struct folder_files *changed)
{
    struct folder_files files;
    read_files(model, &files);
    struct buffer wanted = listing(&files);
    struct buffer found = listing(changed);
    assert_string_equal(buffer_text(&found), buffer_text(&wanted));
    buffer_deinit(&wanted);
    buffer_deinit(&found);
    free_files(&files);
}

#define ROPE_PARAMETERS "\"rope_parameters\": {", "\n  }"

static void llama_yarn_is_spelled_in_three_ways(void **state)
{
    (void)state;
    static const char *const spellings[] = {
        "\"rope_theta\": 10000.0, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, "
        "\"original_max_position_embeddings\": 64}",
        "\"rope_theta\": 10000, \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4.0, "
        "\"original_max_position_embeddings\": 64, \"beta_fast\": 32.0, \"beta_slow\": 1.0, "
        "\"attention_factor\": null, \"truncate\": true}",
        "\"rope_parameters\": {\"type\": \"yarn\", \"rope_theta\": 10000, \"factor\": 4.0, "
        "\"original_max_position_embeddings\": 64}",
        /* without a factor, it follows from the two lengths */
        "\"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 10000, "
        "\"original_max_position_embeddings\": 64}",
    };
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
        struct folder_files files;
        read_files("llama-yarn", &files);
        replace(&files.config, ROPE_PARAMETERS, spellings[i]);
        expect_same("llama-yarn", &files);
        free_files(&files);
    }
}

static void gemma3_is_spelled_in_the_old_way(void **state)
{
    (void)state;
    struct folder_files files;
    read_files("gemma3", &files);
    replace(&files.config, ROPE_PARAMETERS,
            "\"rope_theta\": 1000000.0, \"rope_local_base_freq\": 10000.0, "
            "\"rope_scaling\": {\"factor\": 8.0, \"rope_type\": \"linear\"}");
    replace(&files.config, "\"layer_types\": [", "],", "\"sliding_window_pattern\": 2,");
    expect_same("gemma3", &files);
    free_files(&files);
}

/* All tensor names of a SafeTensors file begin with "model."; they get another beginning. */
static void rename_tensors(struct buffer *weights, const char *prefix)
{
    uint64_t length;
    memcpy(&length, weights->data, sizeof length);
    struct buffer header = {0};
    static const char old[] = "\"model.";
    const char *at = weights->data + sizeof length;
    const char *end = at + length;
    while (at < end) {
        const char *name = memmem(at, (size_t)(end - at), old, sizeof old - 1);
        const char *stop = name ? name : end;
        buffer_append(&header, at, (size_t)(stop - at));
        if (name) {
            buffer_printf(&header, "\"%s", prefix);
            stop += sizeof old - 1;
        }
        at = stop;
    }
    while (header.length % 8) {
        buffer_append_byte(&header, ' ');
    }
    struct buffer changed = {0};
    uint64_t header_length = header.length;
    buffer_append(&changed, &header_length, sizeof header_length);
    buffer_append(&changed, header.data, header.length);
    buffer_append(&changed, end, weights->length - sizeof length - length);
    assert_false(changed.failed || header.failed);
    buffer_deinit(&header);
    buffer_deinit(weights);
    *weights = changed;
}

static void gemma3_is_found_below_a_vision_tower(void **state)
{
    (void)state;
    static const char *const prefixes[] = {"language_model.model.", "model.language_model."};
    struct folder_files files;
    read_files("gemma3", &files);
    struct buffer wanted = listing(&files);
    free_files(&files);
    for (size_t i = 0; i < 2; i++) {
        read_files("gemma3", &files);
        struct buffer nested = {0};
        buffer_append_text(&nested, "{\"model_type\": \"gemma3\", \"vision_config\": {}, "
                                    "\"text_config\": ");
        buffer_append_view(&nested, buffer_view(&files.config));
        buffer_append_text(&nested, "}\n");
        buffer_deinit(&files.config);
        files.config = nested;
        rename_tensors(&files.weights, prefixes[i]);
        struct buffer found = listing(&files);
        for (char *name; (name = strstr(found.data, prefixes[i])) != NULL;) {
            replace(&found, prefixes[i], prefixes[i], "model.");
        }
        assert_string_equal(buffer_text(&found), buffer_text(&wanted));
        buffer_deinit(&found);
        free_files(&files);
    }
    buffer_deinit(&wanted);
}

static void qwen2_window_follows_from_its_layers(void **state)
{
    (void)state;
    struct folder_files files;
    read_files("qwen2-window", &files);
    replace(&files.config, "\"layer_types\": [", "],", "");
    expect_same("qwen2-window", &files);
    free_files(&files);
}

static void defaults_are_those_of_the_family(void **state)
{
    (void)state;
    struct folder_files files;
    read_files("llama", &files);
    replace(&files.config, ROPE_PARAMETERS, "\"rope_scaling\": null");
    replace(&files.config, "\"head_dim\": 8,", ",", "\"head_dim\": null,");
    replace(&files.config, "\"tie_word_embeddings\": false,", ",", "");
    replace(&files.config, "\"attention_bias\": false,", ",", "");
    expect_same("llama", &files);
    free_files(&files);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(llama_yarn_is_spelled_in_three_ways),
    cmocka_unit_test(gemma3_is_spelled_in_the_old_way),
    cmocka_unit_test(gemma3_is_found_below_a_vision_tower),
    cmocka_unit_test(qwen2_window_follows_from_its_layers),
    cmocka_unit_test(defaults_are_those_of_the_family),
};

TEST_MAIN(tests)
