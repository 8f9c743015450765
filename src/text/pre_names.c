/* Owns the list of pre-tokeniser names and the expressions that the models behind them published.
 * Where a converter's own engine needed a rewritten form, the published one stands here. */
#include "text/pre_names.h"

#include "text/split.h"

#define FOLDED "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define REST   "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define WORD   "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define GPT2   "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define QWEN2  FOLDED "|" WORD "|\\p{N}" REST
#define UPPER  "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER  "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(contraction)                                                                   \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" contraction "|[^\\r\\n\\p{L}\\p{N}]?" UPPER \
    "+" LOWER "*" contraction
#define CASED_REST "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define GPT4O      CASED(FOLDED "?") "|\\p{N}{1,3}" CASED_REST
#define CJK_KANA   "[一-龥\u3040-ゟ゠-ヿ]+"
#define CJK_HANGUL "[一-龥ࠀ-一가-\uD7FF]+"
#define DEEPSEEK_WORDS                                                                   \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?" \
    "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+"
#define SPACES "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const char *const gpt2[] = {GPT2, NULL};
static const char *const llama3[] = {FOLDED "|" WORD "|\\p{N}{1,3}" REST, NULL};
static const char *const qwen2[] = {QWEN2, NULL};
static const char *const qwen35[] = {
    FOLDED
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" SPACES,
    NULL};
static const char *const jais2[] = {
    FOLDED
    "|" WORD "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s{512}(?!\\S)|"
    "\\s{256}(?!\\S)|\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|"
    "\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}",
    NULL};
static const char *const digits_gpt2[] = {"\\p{N}", GPT2, NULL};
static const char *const deepseek_llm[] = {
    "[\\r\\n]",
    "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-"
    "ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-"
    "ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-"
    "ὗὙὛὝὟ-\u1F7Dᾀ-ᾴᾶ-ᾼ\u1FBEῂ-ῄῆ-ῌῐ-\u1FD3ῖ-\u1FDBῠ-Ῥῲ-ῴῶ-"
    "ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212A-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-"
    "ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-"
    "𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-"
    "𞥃]+",
    "\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+",
    "\\s+$",
    CJK_HANGUL,
    "\\p{N}+",
    NULL};
static const char *const deepseek_coder[] = {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+",
                                             CJK_HANGUL, "\\p{N}",      NULL};
static const char *const deepseek3[] = {"\\p{N}{1,3}", CJK_KANA, DEEPSEEK_WORDS "[\\r\\n]*" SPACES,
                                        NULL};
static const char *const spark25[] = {"\\p{N}{1,3}", CJK_KANA,
                                      DEEPSEEK_WORDS "|[\\r\\n]|\\s+(?!\\S)|\\s+", "\\p{N}", NULL};
static const char *const youtu[] = {
    "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|" CJK_KANA,
    CASED(FOLDED "?") "|\\p{N}" CASED_REST, NULL};
static const char *const falcon[] = {"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]", NULL};
static const char *const plain[] = {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]",
                                    NULL};
static const char *const bloom[] = {" ?[^(\\s|.,!?…。，、।۔،)]+", NULL};
static const char *const viking[] = {" ?[^(\\s|.,!?…。，、।۔،)]+", "\\p{N}", NULL};
static const char *const tekken[] = {CASED("") "|\\p{N}" CASED_REST, NULL};
static const char *const chameleon[] = {"<sentinel:[0-9]+>",
                                        "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
                                        "([\\t\\n]|    |  )",
                                        "\\p{N}",
                                        "[\\p{P}!-/:-@\\[-`{-~]",
                                        GPT2,
                                        NULL};
static const char *const gpt4o[] = {GPT4O, NULL};
static const char *const tiny_aya[] = {"\\d{1,3}(?=(?:\\d{3})*\\b)", GPT4O, NULL};
static const char *const kimi_k2[] = {
    "[\\p{Han}]+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]*"
    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]+" FOLDED
    "?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]+"
    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]*" FOLDED "?|\\p{N}{1,3}" REST,
    NULL};
static const char *const superbpe[] = {"\\p{N}+", "(?=(\\d{3})+(?!\\d))", NULL};
static const char *const seed_coder[] = {
    FOLDED "|" WORD "|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", NULL};
static const char *const ufakzeka[] = {WORD "|\\p{N}" REST, NULL};
static const char *const laguna[] = {"[^\\n]+|[\\n]+", QWEN2, NULL};
static const char *const exaone_moe[] = {
    FOLDED "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}|"
           " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
    NULL};
static const char *const minicpm5[] = {"\\p{N}{1,3}", FOLDED "|" WORD "|\\p{N}+" REST, NULL};

static const struct pre_name names[] = {
    {"default", plain, false, false},
    {"llama3", llama3, true, true},
    {"llama-v3", llama3, true, true},
    {"llama-bpe", llama3, true, true},
    {"falcon3", llama3, true, true},
    {"falcon-h1", llama3, true, true},
    {"pixtral", llama3, true, true},
    {"midm-2.0", llama3, true, true},
    {"lfm2", llama3, true, true},
    {"jina-v5-nano", llama3, true, true},
    {"deepseek-llm", deepseek_llm, false, false},
    {"deepseek-coder", deepseek_coder, false, false},
    {"deepseek-v3", deepseek3, false, false},
    {"hunyuan-dense", deepseek3, false, false},
    {"joyai-llm", deepseek3, false, false},
    {"hy_v4", deepseek3, false, false},
    {"spark2_5", spark25, false, false},
    {"youtu", youtu, true, false},
    {"falcon", falcon, false, false},
    {"mpt", gpt2, false, false},
    {"starcoder", digits_gpt2, false, false},
    {"refact", digits_gpt2, false, false},
    {"command-r", digits_gpt2, false, false},
    {"smollm", digits_gpt2, false, false},
    {"codeshell", digits_gpt2, false, false},
    {"exaone", digits_gpt2, false, false},
    {"minerva-7b", digits_gpt2, false, false},
    {"mellum2", digits_gpt2, false, false},
    {"gpt-2", gpt2, false, false},
    {"phi-2", gpt2, false, false},
    {"jina-es", gpt2, false, false},
    {"jina-de", gpt2, false, false},
    {"gigachat", gpt2, false, false},
    {"jina-v2-es", gpt2, false, false},
    {"jina-v2-de", gpt2, false, false},
    {"jina-v1-en", gpt2, false, false},
    {"jina-v2-code", gpt2, false, false},
    {"roberta-bpe", gpt2, false, false},
    {"a.x-4.0", gpt2, false, false},
    {"mellum", gpt2, false, false},
    {"modern-bert", gpt2, false, false},
    {"olmo", gpt2, false, false},
    {"jais", gpt2, false, false},
    {"trillion", gpt2, false, false},
    {"granite-docling", gpt2, false, false},
    {"exaone4", gpt2, false, false},
    {"jais-2", jais2, false, false},
    {"qwen2", qwen2, false, false},
    {"deepseek-r1-qwen", qwen2, false, false},
    {"kormo", qwen2, false, false},
    {"f2llmv2", qwen2, false, false},
    {"megrez", qwen2, false, false},
    {"stablelm2", qwen2, false, false},
    {"hunyuan", qwen2, false, false},
    {"solar-open", qwen2, false, false},
    {"grok-2", qwen2, false, false},
    {"bailingmoe", qwen2, false, false},
    {"bailingmoe2", qwen2, false, false},
    {"llada-moe", qwen2, false, false},
    {"qwen35", qwen35, false, false},
    {"dbrx", llama3, false, false},
    {"smaug-bpe", llama3, false, false},
    {"chatglm-bpe", llama3, false, false},
    {"glm4", llama3, false, false},
    {"poro-chat", bloom, false, false},
    {"bloom", bloom, false, false},
    {"gpt3-finnish", bloom, false, false},
    {"viking", viking, false, false},
    {"tekken", tekken, true, true},
    {"chameleon", chameleon, false, true},
    {"gpt-4o", gpt4o, false, false},
    {"llama4", gpt4o, false, false},
    {"kanana2", gpt4o, false, false},
    {"talkie", gpt4o, false, false},
    {"minimax-m2", gpt4o, false, false},
    {"granite-embed-multi-97m", gpt4o, true, false},
    {"tiny_aya", tiny_aya, false, false},
    {"cohere2moe", tiny_aya, false, false},
    {"kimi-k2", kimi_k2, false, false},
    {"superbpe", superbpe, false, false},
    {"seed-coder", seed_coder, false, false},
    {"ufakzeka", ufakzeka, false, false},
    {"laguna", laguna, false, false},
    {"exaone-moe", exaone_moe, false, false},
    {"minicpm5", minicpm5, true, false},
};

const struct pre_name *pre_name_find(struct text_view name)
{
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (text_view_is(name, names[i].name)) {
            return &names[i];
        }
    }
    return NULL;
}

const struct pre_name *pre_name_at(size_t index)
{
    return index < sizeof names / sizeof names[0] ? &names[index] : NULL;
}

uint32_t pre_name_splitters(const struct pre_name *name, struct vocabulary_splitter *splitters)
{
    uint32_t count = 0;
    for (; name->expressions[count] && count < PRE_EXPRESSIONS_MAX; count++) {
        splitters[count] = (struct vocabulary_splitter){
            .kind = SPLITTER_SPLIT,
            .behavior = SPLIT_ISOLATED,
            .pattern = text_view_of(name->expressions[count]),
            .pattern_is_regex = true,
        };
    }
    splitters[count++] = (struct vocabulary_splitter){.kind = SPLITTER_BYTE_LEVEL};
    return count;
}

bool pre_name_is_native(const struct pre_name *name)
{
    struct vocabulary_splitter splitters[PRE_EXPRESSIONS_MAX + 1];
    uint32_t count = pre_name_splitters(name, splitters);
    struct split_plan plan;
    bool native = split_plan_compile(&plan, splitters, count, NULL) == LLCUDA_OK && !plan.regex;
    split_plan_deinit(&plan);
    return native;
}
