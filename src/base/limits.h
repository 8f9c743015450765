/* Every limit on outside input, in one place. Full means an error that names the limit. */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

#define LIMIT_JSON_DEPTH            128u
#define LIMIT_JSON_BYTES            (1ull << 30)
#define LIMIT_GGUF_HEADER_BYTES     (1ull << 30) /* metadata and tensor table together */
#define LIMIT_GGUF_METADATA_COUNT   (1ull << 16)
#define LIMIT_GGUF_KEY_BYTES        65535u
#define LIMIT_GGUF_ALIGNMENT        (1u << 20)
#define LIMIT_SAFETENSORS_HEADER    100000000ull /* the reference parser's own limit */
#define LIMIT_GGUF_PARTS            256u         /* each is a map; base/file.c has 512 places */
#define LIMIT_SAFETENSORS_FILES     4096u
#define LIMIT_SAFETENSORS_METADATA  (1u << 16) /* members of __metadata__ */
#define LIMIT_CONFIG_BYTES          (16ull << 20)
#define LIMIT_TENSOR_COUNT          (1u << 20)
#define LIMIT_TENSOR_NAME_BYTES     1024u
#define LIMIT_TENSOR_RANK           4u
#define LIMIT_VOCABULARY_TOKENS     (1u << 22)
#define LIMIT_TOKEN_BYTES           (1u << 16)
#define LIMIT_MERGE_COUNT           (1u << 24)
#define LIMIT_REGEX_BYTES           65536u
#define LIMIT_PROMPT_BYTES          (64ull << 20)
#define LIMIT_TEMPLATE_BYTES        (1u << 20)
#define LIMIT_TEMPLATE_DEPTH        64u /* nested tags, and nested expressions */
#define LIMIT_TEMPLATE_STEPS        10000000ull
#define LIMIT_TEMPLATE_OUTPUT_BYTES (64ull << 20)
#define LIMIT_TEMPLATE_MEMORY_BYTES (256ull << 20)
#define LIMIT_TEMPLATE_CALL_DEPTH   1000u /* nested evaluations, macros included */
#define LIMIT_TEMPLATE_RANGE        100000u
#define LIMIT_LAYER_COUNT           1024u
#define LIMIT_EMBEDDING_LENGTH      (1u << 17)
#define LIMIT_HEAD_COUNT            4096u
#define LIMIT_HEAD_SIZE             1024u
#define LIMIT_FEED_FORWARD_LENGTH   (1u << 20)
#define LIMIT_EXPERT_COUNT          1024u
#define LIMIT_EXPERTS_USED          64u
#define LIMIT_CONTEXT_LENGTH        (1u << 24)
#define LIMIT_STOP_STRINGS          16u
#define LIMIT_STOP_STRING_BYTES     1024u
#define LIMIT_LOGIT_BIAS            1024u
#define LIMIT_THREADS               1024u

#endif
