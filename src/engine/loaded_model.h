/* A model as the engine holds it: files, vocabulary, chat template, plan, device, in this order of
 * opening. The text half is immutable and shared by all callers; the device half belongs to the
 * engine thread while it runs. */
#ifndef ENGINE_LOADED_MODEL_H
#define ENGINE_LOADED_MODEL_H

#include "device/device.h"
#include "engine/request.h"
#include "format/model_source.h"
#include "model/model.h"
#include "text/template.h"
#include "text/tokenizer.h"

struct loaded_model {
    struct log_sink log;
    struct model_source *source;
    struct tokenizer *tokenizer;
    struct template *template;          /* NULL: none, or one that this build cannot read … */
    struct llcuda_error template_error; /* … and why */
    struct plan *plan;                  /* NULL with vocabulary_only */
    struct model_info info;
    struct device *device;
    struct device_model *device_model; /* NULL while asleep */
    struct device_model_options device_options;
    enum dtype kv_dtype;
    struct text_codec codec;
    uint32_t *end_tokens; /* below vocabulary_size */
    uint32_t end_token_count;
    uint32_t vocabulary_size;        /* V of the plan, or the tokeniser's */
    llcuda_pooling pooling;          /* as the files say: MEAN, LAST, or NONE for another one */
    _Atomic(uint8_t *) dry_breakers; /* the default ones, made when first asked for */
};

/* Opens files, vocabulary, template; then, unless options->vocabulary_only, the plan and the
 * device, but no weights. `options` are complete and checked, and outlive the model. */
llcuda_status loaded_model_open(struct loaded_model *model, const llcuda_engine_options *options,
                                struct llcuda_error *error);
/* Loads the weights and makes the cache, or gives both back. */
llcuda_status loaded_model_wake(struct loaded_model *model, const llcuda_engine_options *options,
                                struct llcuda_error *error);
/* After sizing or loading failed on a GPU that the program chose by itself: true when the CPU has
 * taken its place, and the same may be tried again. */
bool loaded_model_fall_back(struct loaded_model *model, const llcuda_engine_options *options,
                            const struct llcuda_error *reason);
void loaded_model_sleep(struct loaded_model *model);
/* A zeroed model is fine. */
void loaded_model_close(struct loaded_model *model);

/* The bitmap of tokens whose text holds one of the strings: V / 8 + 1 bytes, owned by the caller
 * (free). NULL without memory. */
uint8_t *loaded_model_breakers(const struct loaded_model *model, const llcuda_text *texts,
                               uint32_t count);

/* The same for newline, colon, quote and star; owned by the model. Any thread. */
const uint8_t *loaded_model_default_breakers(struct loaded_model *model);

/* What the model's files recommend, laid over `options`. */
void loaded_model_defaults(const struct loaded_model *model, llcuda_request_options *options);

/* The ids of a prompt: `text` after what the model wants in front. INVALID_ARGUMENT when nothing is
 * left, or an id lies beyond the plan's vocabulary. */
llcuda_status loaded_model_encode_prompt(const struct loaded_model *model, struct text_view text,
                                         llcuda_tristate add_bos, bool special,
                                         struct token_ids *ids, struct llcuda_error *error);

/* The ids of a text with everything that the model wants around a whole one, for an embedding. The
 * same errors. */
llcuda_status loaded_model_encode_whole(const struct loaded_model *model, struct text_view text,
                                        bool add_special, bool special, struct token_ids *ids,
                                        struct llcuda_error *error);

/* Renders the chat template for messages in JSON (llcuda_apply_template). */
llcuda_status loaded_model_render(const struct loaded_model *model, struct text_view json,
                                  struct buffer *out, struct llcuda_error *error);

#endif
