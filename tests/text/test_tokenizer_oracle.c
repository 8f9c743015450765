/* Published vocabularies against the ids that their own implementations give. */
#include "tokenizer_support.h"

static void round_trip(const struct tokenizer *tokenizer, struct text_view text)
{
    struct llcuda_error error;
    struct token_ids ids = {0};
    struct buffer decoded = {0};
    assert_ok(tokenizer_encode(tokenizer, text, NULL, NULL, &ids, &error), error);
    assert_ok(tokenizer_decode(tokenizer, ids.data, ids.count, true, &decoded, &error), error);
    if (!text_view_equal(buffer_view(&decoded), text)) {
        fail_msg("\"%.*s\" comes back as \"%s\"", TEXT_ARGUMENTS(text), buffer_text(&decoded));
    }
    token_ids_deinit(&ids);
    buffer_deinit(&decoded);
}

static void run_file(const struct json_value *entry, const char *folder, struct text_view file)
{
    char *name = calloc(1, strlen(folder) + file.length + 2);
    snprintf(name, strlen(folder) + file.length + 2, "%s/%.*s", folder, TEXT_ARGUMENTS(file));
    struct tokenizer *tokenizer = open_tokenizer(name);
    size_t cases = 0;
    JSON_EACH(item, json_member(entry, "cases"))
    {
        struct text_view text = json_text(json_member(item, "text"));
        assert_encodes(tokenizer, text, json_member(item, "ids"), false);
        round_trip(tokenizer, text);
        cases++;
    }
    printf("%s: %zu texts\n", name, cases);
    assert_true(cases >= 40);
    tokenizer_destroy(tokenizer);
    free(name);
}

static void published_vocabularies_give_the_expected_ids(void **state)
{
    (void)state;
    char *path = test_oracle_path("tokenizer/expected.json");
    if (!path) {
        skip();
    }
    struct buffer contents = {0};
    struct json_document *json = read_json(path, &contents);
    *strrchr(path, '/') = 0;
    size_t files = 0;
    JSON_EACH(entry, json_root(json))
    {
        JSON_EACH(file, json_member(entry, "files"))
        {
            run_file(entry, path, json_text(file));
            files++;
        }
    }
    assert_true(files >= 4);
    json_destroy(json);
    buffer_deinit(&contents);
    free(path);
}

static void both_containers_give_the_same_ids(void **state)
{
    (void)state;
    char *gguf = test_oracle_path("models/stories260K-f32.gguf");
    char *json = test_oracle_path("models/stories260K-hf/tokenizer.json");
    if (!gguf || !json) {
        skip();
    }
    *strrchr(json, '/') = 0;
    struct tokenizer *a = open_tokenizer(gguf);
    struct tokenizer *b = open_tokenizer(json);
    static const char *const texts[] = {"Once upon a time, there was a little girl named Lily.", "",
                                        " two  spaces",
                                        "Zoë saw 3 \xF0\x9F\xA6\x99s!\n\n<s>The end.</s>"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct llcuda_error error;
        struct token_ids ids[2] = {0};
        assert_ok(tokenizer_encode(a, text_view_of(texts[i]), NULL, NULL, &ids[0], &error), error);
        assert_ok(tokenizer_encode(b, text_view_of(texts[i]), NULL, NULL, &ids[1], &error), error);
        assert_int_equal(ids[0].count, ids[1].count);
        assert_memory_equal(ids[0].data, ids[1].data, ids[0].count * sizeof(uint32_t));
        assert_int_equal(ids[0].data[0], tokenizer_vocabulary(a)->bos_id);
        token_ids_deinit(&ids[0]);
        token_ids_deinit(&ids[1]);
    }
    tokenizer_destroy(a);
    tokenizer_destroy(b);
    free(gguf);
    free(json);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(published_vocabularies_give_the_expected_ids),
    cmocka_unit_test(both_containers_give_the_same_ids),
};

TEST_MAIN(tests)
