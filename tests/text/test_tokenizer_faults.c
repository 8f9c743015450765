/* Every allocation of loading, encoding and decoding fails once: always a status, never a crash,
 * and nothing leaks (the sanitizer build looks). The linker sends malloc and its kin here first. */
#include "tokenizer_support.h"

static size_t until_failure; /* allocations that still succeed; 0: none is to fail */
static bool failed;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);

static bool fails_now(void)
{
    if (until_failure == 0 || --until_failure > 0) {
        return false;
    }
    failed = true;
    return true;
}

void *__wrap_malloc(size_t bytes)
{
    return fails_now() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    return fails_now() ? NULL : __real_calloc(count, bytes);
}

void *__wrap_realloc(void *memory, size_t bytes)
{
    return fails_now() ? NULL : __real_realloc(memory, bytes);
}

static const char sample[] =
    "Hello  world's 123 <s> \xE5\xA4\xA9\xE5\x9C\xB0 \xEF\xAC\x81 e\xCC\x81 "
    "\xF0\x9F\xA6\x99 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa <lstrip> word \xFF end";

static llcuda_status use(const char *path, struct llcuda_error *error)
{
    struct tokenizer *tokenizer;
    struct token_ids ids = {0};
    struct buffer text = {0};
    llcuda_status status = try_tokenizer(path, &tokenizer, error);
    if (!status) {
        status = tokenizer_encode(tokenizer, text_view_of(sample), NULL, NULL, &ids, error);
        assert_true(status == LLCUDA_OK || ids.count == 0);
    }
    if (!status) {
        status = tokenizer_decode(tokenizer, ids.data, ids.count, false, &text, error);
    }
    token_ids_deinit(&ids);
    buffer_deinit(&text);
    tokenizer_destroy(tokenizer);
    return status;
}

static void fail_each(const char *file)
{
    char *path = test_source_path(file);
    struct llcuda_error error;
    assert_ok(use(path, &error), error);
    size_t failures = 0;
    for (size_t n = 1;; n++) {
        until_failure = n;
        failed = false;
        llcuda_status status = use(path, &error);
        until_failure = 0;
        if (!failed) {
            assert_int_equal(status, LLCUDA_OK);
            break;
        }
        failures++;
        /* OK: PCRE2 goes on without compiled code. */
        if (status != LLCUDA_OUT_OF_MEMORY && status != LLCUDA_OK) {
            fail_msg("%s, allocation %zu: %s: %s", file, n, llcuda_status_name(status),
                     error.message);
        }
    }
    printf("%s: %zu allocations\n", file, failures);
    assert_true(failures > 20);
    free(path);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    static const char *const files[] = {
        "bpe_llama3.json", "bpe_llama.json",    "bpe_qwen2.json",  "bpe_clip.json",
        "bpe_regex.json",  "bert_uncased.json", "unigram_t5.json", "odd_removed.json",
        "spm_bpe.model",   "spm_unigram.model", "word_level.json"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char name[128];
        snprintf(name, sizeof name, "tests/text/data/%s", files[i]);
        fail_each(name);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_allocation_may_fail),
};

TEST_MAIN(tests)
