/* Owns the helpers of the tokeniser tests. */
#include "tokenizer_support.h"

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text);
    size_t end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static llcuda_status open_vocabulary(const char *path, struct vocabulary **vocabulary,
                                     struct llcuda_error *error)
{
    if (ends_with(path, ".gguf")) {
        struct gguf *gguf;
        llcuda_status status = gguf_open(path, true, &gguf, error);
        if (!status) {
            status = vocabulary_from_gguf(gguf, vocabulary, error);
            gguf_close(gguf);
        }
        return status;
    }
    if (file_is_folder(path)) {
        return vocabulary_from_folder(path, vocabulary, error);
    }
    struct buffer contents = {0};
    llcuda_status status = file_read_all(path, 1u << 30, &contents, error);
    if (!status && ends_with(path, ".json")) {
        status = vocabulary_from_json(buffer_view(&contents), text_view_make(NULL, 0), vocabulary,
                                      error);
    } else if (!status) {
        status = vocabulary_from_sentencepiece(contents.data, contents.length,
                                               text_view_make(NULL, 0), vocabulary, error);
    }
    buffer_deinit(&contents);
    return status;
}

llcuda_status try_tokenizer(const char *path, struct tokenizer **tokenizer,
                            struct llcuda_error *error)
{
    struct vocabulary *vocabulary = NULL;
    *tokenizer = NULL;
    llcuda_status status = open_vocabulary(path, &vocabulary, error);
    if (!status) {
        status = tokenizer_create(vocabulary, tokenizer, error);
        if (status) {
            vocabulary_destroy(vocabulary);
        }
    }
    return status;
}

struct tokenizer *open_tokenizer(const char *path)
{
    struct llcuda_error error;
    struct tokenizer *tokenizer;
    if (try_tokenizer(path, &tokenizer, &error)) {
        fail_msg("%s: %s", path, error.message);
    }
    return tokenizer;
}

static void print_ids(const char *name, const struct token_ids *ids)
{
    printf("%s:", name);
    for (size_t i = 0; i < ids->count; i++) {
        printf(" %u", ids->data[i]);
    }
    printf("\n");
}

static struct token_ids ids_of(const struct json_value *array)
{
    struct token_ids ids = {0};
    JSON_EACH(item, array)
    {
        assert_true(token_ids_append(&ids, (uint32_t)item->integer));
    }
    return ids;
}

void assert_encodes(const struct tokenizer *tokenizer, struct text_view text,
                    const struct json_value *ids, bool add_special)
{
    struct llcuda_error error;
    struct tokenizer_encode_options options = {.add_special = add_special, .parse_special = true};
    /* A copy of the exact size, so that a read past the end is seen. */
    char *exact = malloc(text.length ? text.length : 1);
    if (text.length) {
        memcpy(exact, text.data, text.length);
    }
    struct token_ids found = {0};
    assert_ok(tokenizer_encode(tokenizer, text_view_make(exact, text.length), &options, NULL,
                               &found, &error),
              error);
    struct token_ids expected = ids_of(ids);
    if (found.count != expected.count ||
        (found.count && memcmp(found.data, expected.data, found.count * sizeof *found.data))) {
        printf("text: \"%.*s\"\n", TEXT_ARGUMENTS(text));
        print_ids("expected", &expected);
        print_ids("found   ", &found);
        fail_msg("ids differ");
    }
    token_ids_deinit(&found);
    token_ids_deinit(&expected);
    free(exact);
}

void assert_decodes(const struct tokenizer *tokenizer, const struct json_value *ids,
                    bool skip_special, struct text_view text)
{
    struct llcuda_error error;
    struct token_ids list = ids_of(ids);
    struct buffer whole = {0};
    assert_ok(tokenizer_decode(tokenizer, list.data, list.count, skip_special, &whole, &error),
              error);
    struct buffer stream = {0};
    struct detokenizer *detokenizer;
    assert_ok(detokenizer_create(tokenizer, skip_special, &detokenizer, &error), error);
    for (size_t i = 0; i < list.count; i++) {
        assert_ok(detokenizer_push(detokenizer, list.data[i], &stream, &error), error);
    }
    assert_ok(detokenizer_finish(detokenizer, &stream, &error), error);
    if (!text_view_equal(buffer_view(&whole), text)) {
        printf("expected \"%.*s\"\nfound    \"%s\"\n", TEXT_ARGUMENTS(text), buffer_text(&whole));
        print_ids("ids", &list);
        fail_msg("decoded texts differ");
    }
    assert_true(text_view_equal(buffer_view(&whole), buffer_view(&stream)));
    detokenizer_destroy(detokenizer);
    buffer_deinit(&whole);
    buffer_deinit(&stream);
    token_ids_deinit(&list);
}

struct json_document *read_json(const char *path, struct buffer *contents)
{
    struct llcuda_error error;
    struct json_document *json;
    assert_ok(file_read_all(path, 1u << 30, contents, &error), error);
    assert_ok(json_parse(buffer_view(contents), NULL, &json, &error), error);
    return json;
}
