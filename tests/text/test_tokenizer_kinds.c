/* Every kind of tokeniser against the libraries that define it: small vocabularies made by
 * make_tokenizers.py, with the ids and texts that those libraries gave. */
#include "tokenizer_support.h"

struct kinds {
    struct buffer contents;
    struct json_document *json;
    const struct json_value *texts;
};

static struct kinds open_kinds(void)
{
    struct kinds kinds = {0};
    char *path = test_source_path("tests/text/data/expected.json");
    kinds.json = read_json(path, &kinds.contents);
    kinds.texts = json_member(json_root(kinds.json), "texts");
    free(path);
    return kinds;
}

static void close_kinds(struct kinds *kinds)
{
    json_destroy(kinds->json);
    buffer_deinit(&kinds->contents);
}

static struct tokenizer *open_entry(const struct json_value *entry)
{
    char name[256];
    snprintf(name, sizeof name, "tests/text/data/%.*s",
             TEXT_ARGUMENTS(json_text(json_member(entry, "file"))));
    char *path = test_source_path(name);
    struct tokenizer *tokenizer = open_tokenizer(path);
    free(path);
    return tokenizer;
}

static const struct json_value *texts_of(const struct kinds *kinds, const struct json_value *entry)
{
    const struct json_value *own = json_member(entry, "texts");
    return own ? own : kinds->texts;
}

static const struct json_value *element(const struct json_value *array, size_t index)
{
    const struct json_value *item = json_first(array);
    for (size_t i = 0; i < index; i++) {
        item = json_next(item);
    }
    return item;
}

static void ids_are_those_of_the_libraries(void **state)
{
    (void)state;
    struct kinds kinds = open_kinds();
    JSON_EACH(entry, json_member(json_root(kinds.json), "tokenizers"))
    {
        struct tokenizer *tokenizer = open_entry(entry);
        const struct json_value *text = json_first(texts_of(&kinds, entry));
        printf("%.*s\n", TEXT_ARGUMENTS(json_text(json_member(entry, "file"))));
        JSON_EACH(ids, json_member(entry, "ids"))
        {
            assert_encodes(tokenizer, json_text(text), ids, false);
            text = json_next(text);
        }
        text = element(texts_of(&kinds, entry), 10);
        JSON_EACH(ids, json_member(entry, "special"))
        {
            assert_encodes(tokenizer, json_text(text), ids, true);
            text = json_next(text);
        }
        tokenizer_destroy(tokenizer);
    }
    close_kinds(&kinds);
}

static void texts_are_those_of_the_libraries(void **state)
{
    (void)state;
    struct kinds kinds = open_kinds();
    JSON_EACH(entry, json_member(json_root(kinds.json), "tokenizers"))
    {
        struct tokenizer *tokenizer = open_entry(entry);
        const struct json_value *ids = json_first(json_member(entry, "ids"));
        printf("%.*s\n", TEXT_ARGUMENTS(json_text(json_member(entry, "file"))));
        JSON_EACH(decoded, json_member(entry, "decoded"))
        {
            assert_decodes(tokenizer, ids, false, json_text(decoded));
            ids = json_next(ids);
        }
        const struct json_value *skipped = json_member(entry, "skipped");
        ids = element(json_member(entry, "ids"), 40);
        JSON_EACH(decoded, skipped)
        {
            assert_decodes(tokenizer, ids, true, json_text(decoded));
            ids = json_next(ids);
        }
        tokenizer_destroy(tokenizer);
    }
    close_kinds(&kinds);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(ids_are_those_of_the_libraries),
    cmocka_unit_test(texts_are_those_of_the_libraries),
};

TEST_MAIN(tests)
