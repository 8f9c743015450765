/* tokenizer.json, and after a byte 0xFF tokenizer_config.json: read, made a tokenizer, used. */
#include <stdlib.h>

#include "base/utf8.h"
#include "format/tokenizer_source.h"
#include "fuzz.h"
#include "text/tokenizer.h"

static const char sample[] =
    "Hello  World's 12345 <s> \xE5\xA4\xA9\xE2\x96\x81x \xEF\xAC\x81 e\xCC\x81 "
    "\n\n\tab-cd.ef \xF0\x9F\xA6\x99 \xFF";

static void use(struct tokenizer *tokenizer)
{
    struct llcuda_error error;
    struct token_ids ids = {0};
    struct buffer text = {0};
    if (tokenizer_encode(tokenizer, text_view_of(sample), NULL, NULL, &ids, &error) == LLCUDA_OK) {
        for (size_t i = 0; i < ids.count; i++) {
            if (ids.data[i] >= tokenizer_token_count(tokenizer)) {
                abort();
            }
        }
        if (tokenizer_decode(tokenizer, ids.data, ids.count, false, &text, &error) == LLCUDA_OK &&
            !utf8_valid(buffer_view(&text))) {
            abort();
        }
    }
    token_ids_deinit(&ids);
    buffer_deinit(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *mark = size ? memchr(data, 0xFF, size) : NULL;
    size_t length = mark ? (size_t)(mark - data) : size;
    struct text_view json = text_view_make((const char *)data, length);
    struct text_view config =
        mark ? text_view_make((const char *)mark + 1, size - length - 1) : text_view_make(NULL, 0);
    struct llcuda_error error;
    struct vocabulary *vocabulary;
    if (vocabulary_from_json(json, config, &vocabulary, &error)) {
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
