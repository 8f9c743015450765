/* Owns the text whose tokenising is timed: prose with numbers and marks, with other sentences each
 * time, since a tokeniser remembers words and a text that it has seen is no work. */
#include "cli/bench_tokenize.h"

#include <stdlib.h>

#include "base/clock.h"
#include "format/tokenizer_source.h"
#include "text/tokenizer.h"

#define TEXT_BYTES (64u << 10)

struct bench_tokenizer {
    struct tokenizer *tokenizer;
    struct tokenizer_scratch *scratch;
    struct buffer text;
    uint32_t sentences; /* written so far */
    struct token_ids ids;
};

static void write_prose(struct bench_tokenizer *own)
{
    static const char *const who[] = {"The office in Lisbon", "A customer", "Nobody", "Their bank"};
    static const char *const did[] = {"ordered", "sent back", "paid for", "asked about"};
    static const char *const what[] = {"spare parts", "the second contract", "umbrellas", "seats"};
    struct buffer *out = &own->text;
    buffer_clear(out);
    while (out->length < TEXT_BYTES && !out->failed) {
        uint32_t i = own->sentences++;
        buffer_printf(out, "%s %s %u %s (no. %u-%03u), which wasn't late: %u.%02u EUR.%s",
                      who[i % 4], did[i / 4 % 4], i * 37 % 911, what[i / 16 % 4], i, i * 7 % 1000,
                      i * 13 % 5000, i % 100, i % 5 ? " " : "\n\n");
    }
}

struct bench_tokenizer *bench_tokenizer_open(const struct evaluator *evaluator)
{
    struct vocabulary *vocabulary = NULL;
    struct bench_tokenizer *own = calloc(1, sizeof *own);
    if (!own || vocabulary_open(evaluator->source, &vocabulary, NULL)) {
        free(own);
        return NULL;
    }
    if (tokenizer_create(vocabulary, &own->tokenizer, NULL)) {
        vocabulary_destroy(vocabulary);
        free(own);
        return NULL;
    }
    if (tokenizer_scratch_create(own->tokenizer, &own->scratch, NULL)) {
        bench_tokenizer_close(own);
        return NULL;
    }
    return own;
}

void bench_tokenizer_close(struct bench_tokenizer *own)
{
    if (own) {
        tokenizer_scratch_destroy(own->scratch);
        tokenizer_destroy(own->tokenizer);
        token_ids_deinit(&own->ids);
        buffer_deinit(&own->text);
        free(own);
    }
}

llcuda_status bench_tokenize(void *user, struct local_text *text, struct llcuda_error *error)
{
    struct bench_tokenizer *own = user;
    write_prose(own);
    if (own->text.failed) {
        return error_no_memory(error, "a text", TEXT_BYTES);
    }
    own->ids.count = 0;
    uint64_t began = clock_now_ns();
    llcuda_status status = tokenizer_encode(own->tokenizer, buffer_view(&own->text), NULL,
                                            own->scratch, &own->ids, error);
    *text = (struct local_text){own->text.length, own->ids.count, clock_now_ns() - began};
    return status;
}
