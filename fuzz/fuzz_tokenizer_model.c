/* SentencePiece's tokenizer.model: read, made a tokenizer, used. */
#include <stdlib.h>

#include "base/utf8.h"
#include "format/tokenizer_source.h"
#include "fuzz.h"
#include "text/tokenizer.h"

static const char sample[] =
    " Hello  world 12 <s> \xE5\xA4\xA9\xE2\x96\x81x \xEF\xAC\x81 e\xCC\x81\n\t"
    "\xF0\x9F\xA6\x99 \xFF";

static void use(struct tokenizer *tokenizer)
{
    struct llcuda_error error;
    struct token_ids ids = {0};
    struct buffer text = {0};
    if (tokenizer_encode(tokenizer, text_view_of(sample), NULL, NULL, &ids, &error) == LLCUDA_OK &&
        tokenizer_decode(tokenizer, ids.data, ids.count, false, &text, &error) == LLCUDA_OK &&
        !utf8_valid(buffer_view(&text))) {
        abort();
    }
    token_ids_deinit(&ids);
    buffer_deinit(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct llcuda_error error;
    struct vocabulary *vocabulary;
    if (vocabulary_from_sentencepiece(data, size, text_view_make(NULL, 0), &vocabulary, &error)) {
        return 0;
    }
    struct tokenizer *tokenizer;
    if (tokenizer_create(vocabulary, &tokenizer, &error)) {
        vocabulary_destroy(vocabulary);
        return 0;
    }
    use(tokenizer);
    tokenizer_destroy(tokenizer);
    return 0;
}
