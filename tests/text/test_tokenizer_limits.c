/* What must hold on any input: linear time, constant stack, no crash on bytes that are no text, the
 * same ids from every thread, and a status for every failed allocation. */
#include <pthread.h>
#include <time.h>

#include "tokenizer_support.h"

#include "base/utf8.h"

#ifndef RUN_BYTES
#define RUN_BYTES 120000u
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_BYTES (1024u * 1024u)
#define SANITIZED   1
#else
#define STACK_BYTES (256u * 1024u)
#define SANITIZED   0
#endif

static const char *const files[] = {
    "bert_cased.json",
    "bert_uncased.json",
    "bpe_clip.json",
    "bpe_deepseek3.json",
    "bpe_falcon.json",
    "bpe_gemma.json",
    "bpe_gpt2.json",
    "bpe_gpt4o.json",
    "bpe_llama.json",
    "bpe_llama3.json",
    "bpe_metaspace_first.json",
    "bpe_prefix_suffix.json",
    "bpe_qwen2.json",
    "bpe_regex.json",
    "bpe_roberta.json",
    "bpe_starcoder.json",
    "bpe_unknown.json",
    "bpe_unknown_apart.json",
    "odd_contiguous.json",
    "odd_next.json",
    "odd_previous.json",
    "odd_removed.json",
    "spm_bpe.model",
    "spm_bpe_unknown.model",
    "spm_suffix.model",
    "spm_unigram.model",
    "spm_unigram_bytes.model",
    "unigram_t5.json",
    "unigram_whole.json",
    "unigram_xlmr.json",
    "word_level.json",
};
#define FILE_COUNT (sizeof files / sizeof files[0])

static struct tokenizer *open_file(size_t index)
{
    char name[128];
    snprintf(name, sizeof name, "tests/text/data/%s", files[index]);
    char *path = test_source_path(name);
    struct tokenizer *tokenizer = open_tokenizer(path);
    free(path);
    return tokenizer;
}

static const char *const units[] = {"a",
                                    "A",
                                    " ",
                                    "\n",
                                    "\t",
                                    "1",
                                    ".",
                                    "'",
                                    "<",
                                    "_",
                                    "\r\n",
                                    "\xC3\xA9",
                                    "\xCC\x81",
                                    "\xE5\xA4\xA9",
                                    "\xF0\x9F\xA6\x99",
                                    "\xC2\xA0",
                                    "\xE2\x96\x81",
                                    "ab ",
                                    "a\n",
                                    "\xFF",
                                    "<s",
                                    "\xCC\x81\xCC\xA3",
                                    "\xE1\x84\x92\xE1\x85\xA1",
                                    "1a"};
#define UNIT_COUNT (sizeof units / sizeof units[0])

static struct text_view repeat(struct buffer *buffer, const char *unit, size_t bytes)
{
    buffer_clear(buffer);
    while (buffer->length < bytes) {
        buffer_append_text(buffer, unit);
    }
    assert_false(buffer->failed);
    return buffer_view(buffer);
}

struct job {
    const struct tokenizer *tokenizer;
    struct text_view text;
    struct token_ids ids;
    llcuda_status status;
    struct llcuda_error error;
};

static void *run_job(void *argument)
{
    struct job *job = argument;
    job->status = tokenizer_encode(job->tokenizer, job->text, NULL, NULL, &job->ids, &job->error);
    return NULL;
}

static void run_on_small_stack(struct job *job)
{
    pthread_attr_t attributes;
    pthread_t thread;
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstacksize(&attributes, STACK_BYTES), 0);
    assert_int_equal(pthread_create(&thread, &attributes, run_job, job), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
}

/* One character over and over is the worst case of most shortcuts. */
static void stack_is_constant(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    for (size_t i = 0; i < FILE_COUNT; i++) {
        struct tokenizer *tokenizer = open_file(i);
        for (size_t unit = 0; unit < UNIT_COUNT; unit++) {
            size_t bytes = SANITIZED ? RUN_BYTES / 10 : RUN_BYTES;
            struct job job = {.tokenizer = tokenizer, .text = repeat(&buffer, units[unit], bytes)};
            run_on_small_stack(&job);
            if (job.status) {
                fail_msg("%s, unit %zu: %s", files[i], unit, job.error.message);
            }
            token_ids_deinit(&job.ids);
        }
        tokenizer_destroy(tokenizer);
    }
    buffer_deinit(&buffer);
}

#ifdef LONG_TEST

static double processor_seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double encode_seconds(const struct tokenizer *tokenizer, struct text_view text, int runs)
{
    double best = 1e9;
    struct tokenizer_scratch *scratch;
    struct llcuda_error error;
    struct token_ids ids = {0};
    assert_ok(tokenizer_scratch_create(tokenizer, &scratch, &error), error);
    for (int i = 0; i < runs; i++) {
        ids.count = 0;
        double start = processor_seconds();
        assert_ok(tokenizer_encode(tokenizer, text, NULL, scratch, &ids, &error), error);
        double seconds = processor_seconds() - start;
        best = seconds < best ? seconds : best;
    }
    token_ids_deinit(&ids);
    tokenizer_scratch_destroy(scratch);
    return best;
}

/* Neighbours on the machine take caches and memory bandwidth away, which only ever adds time, and
 * more to the text that does not fit a cache. The least of many runs comes down to the true time,
 * so a ratio that is too large is measured again, a few times, with what was least before kept. An
 * algorithm that is not linear stays above. */
static void check_linear(const struct tokenizer *tokenizer, const char *name)
{
    enum { ROUNDS = 12 };
    struct buffer buffer = {0};
    for (size_t unit = 0; unit < UNIT_COUNT; unit++) {
        double small = 1e9;
        double large = 1e9;
        int rounds = 0;
        do {
            double seconds = encode_seconds(tokenizer, repeat(&buffer, units[unit], 1000000), 3);
            small = seconds < small ? seconds : small;
            seconds = encode_seconds(tokenizer, repeat(&buffer, units[unit], 10000000), 2);
            large = seconds < large ? seconds : large;
        } while (large >= 0.1 && large / small > 12 && ++rounds < ROUNDS);
        printf("%-28s unit %2zu: 1 MB %6.1f ms, 10 MB %7.1f ms, ratio %4.1f\n", name, unit,
               small * 1e3, large * 1e3, large / small);
        fflush(stdout);
        /* Below a tenth of a second the clock and the page faults decide. */
        assert_true(large < 0.1 || large / small <= 12);
    }
    buffer_deinit(&buffer);
}

static void time_is_linear(void **state)
{
    (void)state;
    static const char *const published[] = {"llama-3-vocab.gguf", "llama-spm-vocab.gguf",
                                            "gpt-2-vocab.gguf"};
    for (size_t i = 0; i < FILE_COUNT; i++) {
        struct tokenizer *tokenizer = open_file(i);
        check_linear(tokenizer, files[i]);
        tokenizer_destroy(tokenizer);
    }
    for (size_t i = 0; i < 3; i++) {
        char name[128];
        snprintf(name, sizeof name, "tokenizer/%s", published[i]);
        char *path = test_oracle_path(name);
        if (path) {
            struct tokenizer *tokenizer = open_tokenizer(path);
            check_linear(tokenizer, published[i]);
            tokenizer_destroy(tokenizer);
            free(path);
        }
    }
}

#endif

static void random_bytes_are_encoded(void **state)
{
    (void)state;
    for (size_t i = 0; i < FILE_COUNT; i++) {
        struct tokenizer *tokenizer = open_file(i);
        struct tokenizer_scratch *scratch;
        struct llcuda_error error;
        assert_ok(tokenizer_scratch_create(tokenizer, &scratch, &error), error);
        for (int round = 0; round < 60; round++) {
            size_t length = (size_t)test_random_below(300);
            char *text = malloc(length + 1);
            for (size_t k = 0; k < length; k++) {
                text[k] =
                    (char)(test_random_below(3) ? test_random_below(128) : test_random_below(256));
            }
            char *exact = malloc(length ? length : 1);
            memcpy(exact, text, length);
            struct token_ids first = {0};
            struct token_ids second = {0};
            struct text_view view = text_view_make(exact, length);
            assert_ok(tokenizer_encode(tokenizer, view, NULL, scratch, &first, &error), error);
            assert_ok(tokenizer_encode(tokenizer, view, NULL, NULL, &second, &error), error);
            assert_int_equal(first.count, second.count);
            if (first.count) {
                assert_memory_equal(first.data, second.data, first.count * sizeof(uint32_t));
            }
            for (size_t k = 0; k < first.count; k++) {
                assert_true(first.data[k] < tokenizer_token_count(tokenizer));
            }
            token_ids_deinit(&first);
            token_ids_deinit(&second);
            free(exact);
            free(text);
        }
        tokenizer_scratch_destroy(scratch);
        tokenizer_destroy(tokenizer);
    }
}

/* Any ids, in any order: the stream is valid UTF-8 and never ends inside a character. */
static void random_ids_are_decoded(void **state)
{
    (void)state;
    for (size_t i = 0; i < FILE_COUNT; i++) {
        struct tokenizer *tokenizer = open_file(i);
        struct detokenizer *detokenizer;
        struct llcuda_error error;
        assert_ok(detokenizer_create(tokenizer, test_random_below(2), &detokenizer, &error), error);
        for (int round = 0; round < 40; round++) {
            struct buffer out = {0};
            size_t count = (size_t)test_random_below(60);
            detokenizer_reset(detokenizer);
            for (size_t k = 0; k < count; k++) {
                uint32_t id = (uint32_t)test_random_below(tokenizer_token_count(tokenizer));
                assert_ok(detokenizer_push(detokenizer, id, &out, &error), error);
                assert_true(utf8_valid(buffer_view(&out)));
            }
            assert_ok(detokenizer_finish(detokenizer, &out, &error), error);
            assert_true(utf8_valid(buffer_view(&out)));
            buffer_deinit(&out);
        }
        struct buffer out = {0};
        assert_int_equal(
            detokenizer_push(detokenizer, tokenizer_token_count(tokenizer), &out, &error),
            LLCUDA_INVALID_ARGUMENT);
        assert_int_equal(tokenizer_decode_token(tokenizer, TOKEN_NONE, &out, &error),
                         LLCUDA_INVALID_ARGUMENT);
        buffer_deinit(&out);
        detokenizer_destroy(detokenizer);
        tokenizer_destroy(tokenizer);
    }
}

#define THREADS 4

static void threads_share_a_tokenizer(void **state)
{
    (void)state;
    struct buffer text = {0};
    while (text.length < 20000) {
        buffer_printf(&text, "word%u \xE5\xA4\xA9 %c's <s> don't\n",
                      (unsigned)test_random_below(500), (char)('a' + test_random_below(26)));
    }
    static const size_t shared[] = {6, 13, 22, 25, 0};
    for (size_t i = 0; i < sizeof shared / sizeof shared[0]; i++) {
        struct tokenizer *tokenizer = open_file(shared[i]);
        struct job jobs[THREADS];
        pthread_t threads[THREADS];
        for (size_t t = 0; t < THREADS; t++) {
            jobs[t] = (struct job){.tokenizer = tokenizer, .text = buffer_view(&text)};
            assert_int_equal(pthread_create(&threads[t], NULL, run_job, &jobs[t]), 0);
        }
        for (size_t t = 0; t < THREADS; t++) {
            pthread_join(threads[t], NULL);
            assert_ok(jobs[t].status, jobs[t].error);
            assert_int_equal(jobs[t].ids.count, jobs[0].ids.count);
            assert_memory_equal(jobs[t].ids.data, jobs[0].ids.data,
                                jobs[0].ids.count * sizeof(uint32_t));
        }
        for (size_t t = 0; t < THREADS; t++) {
            token_ids_deinit(&jobs[t].ids);
        }
        tokenizer_destroy(tokenizer);
    }
    buffer_deinit(&text);
}

static const struct CMUnitTest tests[] = {
#ifdef LONG_TEST
    cmocka_unit_test(time_is_linear),
#endif
    cmocka_unit_test(stack_is_constant),      cmocka_unit_test(random_bytes_are_encoded),
    cmocka_unit_test(random_ids_are_decoded), cmocka_unit_test(threads_share_a_tokenizer),
};

TEST_MAIN(tests)
