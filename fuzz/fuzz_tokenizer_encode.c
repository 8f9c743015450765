/* Text through a few small tokenisers. The first byte chooses one, the second the options; the ids
 * must be the same with and without a scratch, in range, and decode to valid UTF-8, whole and as a
 * stream alike. */
#include <stdlib.h>

#include "base/utf8.h"
#include "format/tokenizer_source.h"
#include "fuzz.h"
#include "text/tokenizer.h"

#define BYTE_LEVEL_VOCABULARY                                                                      \
    "\"vocab\":{\"a\":0,\"b\":1,\"\xC4\xA0\":2,\"ab\":3,\"\xC4\xA0"                                \
    "a\":4,\"aa\":5,\"aaaa\":6,\"e\":7,"                                                           \
    "\"\xC3\x83\":8,\"\xC2\xA9\":9,\"1\":10,\".\":11,\"\xC4\x8A\":12,\"'\":13,\"s\":14,\"'s\":15}" \
    ","                                                                                            \
    "\"merges\":[\"\xC4\xA0 a\",\"a b\",\"a a\",\"aa aa\",\"' s\"]"
#define CHARACTER_VOCABULARY                                                                       \
    "\"vocab\":{\"<unk>\":0,\"a\":1,\"b\":2,\"\xE2\x96\x81\":3,\"ab\":4,\"\xE2\x96\x81"            \
    "a\":5,\"aa\":6,"                                                                              \
    "\"\xE5\xA4\xA9\":7,\"<0x0A>\":8,\"1\":9},\"merges\":[[\"\xE2\x96\x81\",\"a\"],[\"a\",\"b\"]," \
    "[\"a\",\"a\"]]"
#define ADDED                                                                                     \
    "\"added_tokens\":[{\"id\":20,\"content\":\"<s>\",\"special\":true,\"lstrip\":true},{\"id\":" \
    "21,"                                                                                         \
    "\"content\":\"ba\",\"single_word\":true,\"rstrip\":true},{\"id\":22,\"content\":\"B\"}]"

static const char *const sources[] = {
    "{" ADDED ",\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"
    "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"ignore_merges\":"
    "true," BYTE_LEVEL_VOCABULARY "}}",
    "{" ADDED ",\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"Sequence\","
    "\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\w+|[^\\\\w\\\\s]|\\\\s{1,"
    "2}\"},"
    "\"behavior\":\"MergedWithNext\",\"invert\":false},{\"type\":\"ByteLevel\",\"use_regex\":false}"
    "]},"
    "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\"," BYTE_LEVEL_VOCABULARY "}}",
    "{" ADDED ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\","
    "\"prepend\":\"\xE2\x96\x81\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" "
    "\"},\"content\":"
    "\"\xE2\x96\x81\"}]},\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\","
    "\"pattern\":"
    "{\"String\":\"\xE2\x96\x81\"},\"content\":\" "
    "\"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":"
    "\"Strip\",\"content\":\" "
    "\",\"start\":1,\"stop\":0}]},\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\","
    "\"byte_fallback\":true,\"fuse_unk\":true," CHARACTER_VOCABULARY "}}",
    "{" ADDED
    ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKD\"},{\"type\":"
    "\"StripAccents\"},{\"type\":\"Nmt\"},{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":"
    "true}]},"
    "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"prepend_scheme\":\"first\"},\"decoder\":{\"type\":"
    "\"Metaspace\"},\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"a\",-"
    "1],[\"b\","
    "-2],[\"\xE2\x96\x81\",-1.5],[\"ab\",-2.5],[\"\xE2\x96\x81"
    "a\",-2],[\"aaa\",-3.5]]}}",
    "{" ADDED ",\"normalizer\":{\"type\":\"BertNormalizer\"},\"pre_tokenizer\":{\"type\":"
    "\"BertPreTokenizer\"},\"decoder\":{\"type\":\"WordPiece\"},\"model\":{\"type\":\"WordPiece\","
    "\"unk_token\":\"[UNK]\",\"vocab\":{\"[UNK]\":0,\"a\":1,\"##a\":2,\"##b\":3,\"ab\":4,\".\":5,"
    "\"e\":6}}}",
};
#define SOURCE_COUNT (sizeof sources / sizeof sources[0])

static const struct tokenizer *open_source(size_t index)
{
    static struct tokenizer *opened[SOURCE_COUNT];
    if (!opened[index]) {
        struct llcuda_error error;
        struct vocabulary *vocabulary;
        if (vocabulary_from_json(text_view_of(sources[index]), text_view_make(NULL, 0), &vocabulary,
                                 &error) ||
            tokenizer_create(vocabulary, &opened[index], &error)) {
            abort();
        }
    }
    return opened[index];
}

static void check_decoding(const struct tokenizer *tokenizer, const struct token_ids *ids)
{
    struct llcuda_error error;
    struct buffer whole = {0};
    struct buffer stream = {0};
    struct detokenizer *detokenizer;
    if (tokenizer_decode(tokenizer, ids->data, ids->count, false, &whole, &error) ||
        detokenizer_create(tokenizer, false, &detokenizer, &error)) {
        abort();
    }
    for (size_t i = 0; i < ids->count; i++) {
        if (detokenizer_push(detokenizer, ids->data[i], &stream, &error) ||
            !utf8_valid(buffer_view(&stream))) {
            abort();
        }
    }
    if (detokenizer_finish(detokenizer, &stream, &error) ||
        !text_view_equal(buffer_view(&whole), buffer_view(&stream))) {
        abort();
    }
    detokenizer_destroy(detokenizer);
    buffer_deinit(&whole);
    buffer_deinit(&stream);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    const struct tokenizer *tokenizer = open_source(data[0] % SOURCE_COUNT);
    struct tokenizer_encode_options options = {data[1] & 1, data[1] & 2};
    struct text_view text = text_view_make((const char *)data + 2, size - 2);
    struct llcuda_error error;
    struct tokenizer_scratch *scratch;
    struct token_ids ids[2] = {{0}};
    if (tokenizer_scratch_create(tokenizer, &scratch, &error)) {
        abort();
    }
    for (size_t i = 0; i < 3; i++) { /* the second time with a warm cache, the third without */
        struct token_ids *found = &ids[i > 0];
        found->count = 0;
        if (tokenizer_encode(tokenizer, text, &options, i < 2 ? scratch : NULL, found, &error)) {
            abort();
        }
        bool same = i == 0 || (ids[0].count == ids[1].count &&
                               (ids[0].count == 0 || memcmp(ids[0].data, ids[1].data,
                                                            ids[0].count * sizeof(uint32_t)) == 0));
        if (!same) {
            abort();
        }
    }
    for (size_t i = 0; i < ids[0].count; i++) {
        if (ids[0].data[i] >= tokenizer_token_count(tokenizer)) {
            abort();
        }
    }
    check_decoding(tokenizer, &ids[0]);
    token_ids_deinit(&ids[0]);
    token_ids_deinit(&ids[1]);
    tokenizer_scratch_destroy(scratch);
    return 0;
}
