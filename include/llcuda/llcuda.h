/* llcuda: the public C library. Opens a model on a device and turns many requests into text.
 *
 * Two ideas. An *engine* is one model with its own thread, which batches whatever is running into
 * full steps. A *request* is a small state machine that the engine feeds and the caller reads:
 * submit, then take events until the last one. The same request with the same seed gives the same
 * tokens bit for bit, whatever else the engine is doing.
 *
 *     llcuda_engine_options options;
 *     llcuda_engine_options_init(&options, sizeof options);
 *     options.model = "model.gguf";
 *     llcuda_engine *engine;
 *     llcuda_error error;
 *     if (llcuda_engine_open(&options, &engine, &error) != LLCUDA_OK) { … error.message … }
 *
 *     llcuda_request_options request_options;
 *     llcuda_engine_request_defaults(engine, &request_options, sizeof request_options);
 *     request_options.prompt = "Once upon a time";
 *     request_options.prompt_bytes = strlen(request_options.prompt);
 *     llcuda_request *request;
 *     if (llcuda_submit(engine, &request_options, &request, &error) != LLCUDA_OK) { … }
 *     const llcuda_event *event;
 *     do {
 *         if (llcuda_request_next(request, LLCUDA_FOREVER, &event, &error) != LLCUDA_OK) { … }
 *         fwrite(event->text, 1, event->text_bytes, stdout);
 *     } while (event->kind != LLCUDA_EVENT_DONE);
 *     llcuda_request_release(request);
 *     llcuda_engine_close(engine);
 *
 * Rules that hold everywhere
 * - Status: 0 (LLCUDA_OK) is success. A function that fails leaves its outputs NULL or untouched
 *   and, when `error` is not NULL, fills in one sentence. `error` may always be NULL.
 * - Structs that the caller fills begin with `size`, set by their init function: a program that was
 *   compiled with an older header keeps working, new fields are only ever added at the end.
 *   Structs that the library returns by const pointer may grow at the end likewise.
 * - Text is UTF-8 with a length in bytes; text that the library returns is also NUL-terminated.
 * - Threads: functions on an engine may be called from any thread at any time, unless said
 *   otherwise. llcuda_request_next and llcuda_request_release belong to one thread at a time for
 *   each request; llcuda_request_cancel to any thread.
 * - The library never prints, never exits, and reads neither the environment nor files that it was
 *   not pointed to. */
#ifndef LLCUDA_LLCUDA_H
#define LLCUDA_LLCUDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "llcuda/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Increases when functions or fields are added; what exists keeps its meaning. */
#define LLCUDA_API_VERSION 3

/* A timeout that never ends. */
#define LLCUDA_FOREVER (-1)

/* "No token": a model without a beginning-of-sequence token, for example. */
#define LLCUDA_NO_TOKEN UINT32_MAX

/* Alternatives that can be reported beside each token. */
#define LLCUDA_LOGPROBS_MAX 20

typedef struct llcuda_engine llcuda_engine;
typedef struct llcuda_request llcuda_request;

/* "0.1.0". Static storage. Any thread. */
LLCUDA_API const char *llcuda_version(void);

/* Frees what a function of this header says is freed with it. NULL is fine. Any thread. */
LLCUDA_API void llcuda_free(void *memory);

/* ------------------------------------------------------------------ opening an engine */

typedef enum llcuda_log_level {
    LLCUDA_LOG_ERROR,
    LLCUDA_LOG_WARN,
    LLCUDA_LOG_INFO,
    LLCUDA_LOG_DEBUG
} llcuda_log_level;

/* Element type of the key-value cache. */
typedef enum llcuda_kv_type {
    LLCUDA_KV_AUTO, /* F16 */
    LLCUDA_KV_F16,
    LLCUDA_KV_F32,
    LLCUDA_KV_BF16,
    LLCUDA_KV_Q8_0, /* integers with a scale a key or value of a head: half the memory of F16 */
    LLCUDA_KV_FP8   /* 8-bit floats (E4M3), on GPUs: half the memory of F16, less exact */
} llcuda_kv_type;

typedef struct llcuda_engine_options {
    size_t size;

    /* The model: a GGUF file or a Hugging Face folder. NULL: `builtin_model`. */
    const char *model;
    /* A GGUF file in memory, used when `model` is NULL. It must outlive the engine. */
    const void *builtin_model;
    uint64_t builtin_model_bytes;
    /* Loads the vocabulary and the chat template only: tokenising, detokenising, templates and
     * llcuda_engine_info work, submitting is UNSUPPORTED. */
    bool vocabulary_only;

    /* "auto": a GPU that can be used and has room for the model, otherwise the CPU, with a warning
     * in the log that says why; NULL: the same, without a warning where there is no GPU at all;
     * "cpu", "cpu:scalar", "cpu:avx2", "cpu:avx512" (a mask that lowers the instruction set),
     * "cuda:0", "hip:0", "emu" (GPU kernels on the CPU, for tests). */
    const char *device;
    uint32_t threads; /* 0: one a physical core that the process may use */

    /* Positions of one request, prompt and answer together. 0: what the model was made for, or
     * what fits the memory, whichever is less. A request never gets more than this. */
    uint32_t context_length;
    llcuda_kv_type kv_type;
    uint64_t kv_bytes;           /* memory of the key-value cache; 0: chosen from the limits */
    uint64_t memory_limit_bytes; /* cache and workspace together; 0: chosen from the machine */
    bool prefix_cache;           /* share equal beginnings of prompts; default true */

    uint32_t running_max; /* sequences in one step, 1 … 4096; 0: 64 */
    uint32_t queue_max;   /* sequences (one a choice) waiting or running; above it BUSY; 0: 1024 */
    uint32_t step_tokens; /* most rows of one step, 0: chosen from the device */
    /* The dial between latency (0) and throughput (1), default 0.5: how much of a step prompts
     * may fill while others are waiting for their next token. */
    double throughput_bias;

    /* Called from time to time while weights are loaded, from the thread that opens or wakes the
     * engine. May be NULL. Returning false cancels (CANCELLED). */
    bool (*progress)(void *user, uint64_t done_bytes, uint64_t total_bytes);
    void *progress_user;
    /* One line, no newline, from any thread. May be NULL. */
    void (*log)(void *user, llcuda_log_level level, const char *message);
    void *log_user;
    llcuda_log_level log_level; /* more detailed messages are not made; default INFO */

    /* A chat template (Jinja, NUL-terminated) to use instead of the model's own; NULL: the model's.
     * One that cannot be parsed fails the opening. */
    const char *chat_template;

    /* Opens everything but the weights, and takes next to no memory: llcuda_engine_get_info says
     * what waking would take, llcuda_engine_wake does it. */
    bool asleep;

    /* Of GPUs. Folders ("/a:/b") in which the vendor's libraries are looked for first; a folder
     * that keeps compiled kernels (made when missing); bytes of device memory that may be used.
     * NULL, NULL and 0 for none. */
    const char *gpu_library_path;
    const char *gpu_kernel_cache;
    uint64_t gpu_memory_limit_bytes;
    bool gpu_no_graphs;          /* kernels are launched one by one: the reference of step graphs */
    bool deterministic;          /* a row's result never depends on the rows beside it */
    const char *gpu_kernel_pack; /* a file of compiled kernels, looked into first; NULL for none */
    /* Called from the engine thread after calls of on_ready, once for all that came of one step,
     * or of some while steps are shorter than half a millisecond: a program with many readers wakes
     * each of its threads here, instead of for each event. The next step begins when it has
     * returned, and it must not call into the library. May be NULL. */
    void (*on_round)(void *user);
    void *on_round_user;

    /* How many of the model's last layers the GPU computes, together with the logits; the CPU
     * computes those before in the same step, for models larger than the GPU's memory. 0, or a
     * number beyond the model's layers: all of them. */
    int32_t gpu_layers;
    /* The share of the device's memory that may be used, 0 … 1; with gpu_memory_limit_bytes the
     * lesser counts. 0: no limit. */
    double gpu_memory_share;
} llcuda_engine_options;

#define LLCUDA_GPU_LAYERS_AUTO (-1) /* as many as fit */
#define LLCUDA_GPU_LAYERS_NONE (-2) /* the CPU computes alone */

/* Fills in the defaults. `size` is sizeof(llcuda_engine_options) as the caller sees it. */
LLCUDA_API void llcuda_engine_options_init(llcuda_engine_options *options, size_t size);

/* Opens the model, loads its weights, makes the cache and starts the engine thread. Blocks until
 * the engine can take requests. `options` and what it points to may be dropped afterwards, except
 * builtin_model and the callbacks' users. On success *engine belongs to the caller
 * (llcuda_engine_close).
 * Errors: INVALID_ARGUMENT, NOT_FOUND, IO, BAD_FORMAT (with a byte offset), UNSUPPORTED (an
 * architecture, weight type or device that this build lacks), OUT_OF_MEMORY, LIMIT, CANCELLED. */
LLCUDA_API llcuda_status llcuda_engine_open(const llcuda_engine_options *options,
                                            llcuda_engine **engine, llcuda_error *error);

/* Ends every request (their readers get a DONE event with CANCELLED), stops the thread, frees the
 * model. Request handles stay valid until they are released. NULL is fine. No other call on this
 * engine may be running or follow, except on its requests. */
LLCUDA_API void llcuda_engine_close(llcuda_engine *engine);

/* Drops weights and cache but keeps the engine: waits until running requests are done (new ones
 * wait for llcuda_engine_wake), then gives the memory back. OK when already asleep. */
LLCUDA_API llcuda_status llcuda_engine_sleep(llcuda_engine *engine, llcuda_error *error);

/* Loads again what sleep dropped; the same requests give the same tokens as before. OK when awake.
 * Errors: as llcuda_engine_open; the engine then stays asleep. */
LLCUDA_API llcuda_status llcuda_engine_wake(llcuda_engine *engine, llcuda_error *error);

/* ------------------------------------------------------------------ what was opened */

typedef struct llcuda_engine_info {
    const char *model_name;        /* general.name, or the last part of the path */
    const char *model_path;        /* as given; "(built in)" */
    const char *architecture;      /* "llama" */
    const char *weight_types;      /* "q4_k, q6_k, f32": most bytes first */
    const char *device;            /* "Intel(R) Xeon(R) …, 2 threads, avx512+vnni" */
    const char *device_kind;       /* "cpu" */
    uint64_t parameter_count;      /* 0 with vocabulary_only */
    uint64_t file_bytes;           /* of the weight files */
    uint64_t kv_bytes;             /* the cache */
    uint64_t kv_bytes_per_token;   /* of one position, all layers */
    uint64_t memory_bytes;         /* what the device holds: packed weights, cache, workspace */
    uint32_t context_length;       /* positions a request may have here */
    uint32_t model_context_length; /* positions the model was made for */
    uint32_t vocabulary_size;      /* token ids are below it */
    uint32_t embedding_length;     /* E */
    uint32_t layer_count;          /* */
    uint32_t bos_token, eos_token; /* or LLCUDA_NO_TOKEN */
    uint32_t kv_block_count;       /* blocks of 16 positions */
    uint32_t running_max;          /* as in the options, defaults filled in */
    uint32_t step_tokens;          /* likewise */
    uint32_t threads;              /* that compute */
    bool has_chat_template;
    double load_ms; /* what llcuda_engine_open took */
    /* The memory plan: what being awake takes. */
    uint64_t weight_bytes;    /* as the file has them; a packed copy takes about as much */
    uint64_t logits_bytes;    /* of one step */
    uint64_t host_bytes;      /* scheduler, prefix tree, sampler */
    uint32_t sequence_max;    /* queue_max of the options, defaults filled in */
    bool embeddings;          /* the device gives what embedding requests need */
    uint32_t gpu_layer_count; /* layers that a GPU computes; 0 on the CPU and while asleep */
} llcuda_engine_info;

/* Facts about the engine, owned by it, constant until it is closed (memory_bytes as of opening).
 * Never NULL. */
LLCUDA_API const llcuda_engine_info *llcuda_engine_get_info(const llcuda_engine *engine);

/* Counters since opening, and gauges of this moment. */
typedef struct llcuda_stats {
    size_t size;
    /* gauges */
    uint32_t requests;      /* live: waiting or running */
    uint32_t sequences;     /* live: one a choice */
    uint32_t waiting;       /* sequences without a place in the cache */
    uint32_t running;       /* sequences with one */
    uint32_t paused;        /* of the running: their reader is behind */
    uint32_t blocks_total;  /* cache blocks of 16 positions */
    uint32_t blocks_used;   /* held by running sequences */
    uint32_t blocks_cached; /* kept for reuse, given up when needed */
    bool asleep;
    /* counters */
    uint64_t requests_submitted;
    uint64_t requests_finished; /* all reasons together */
    uint64_t requests_cancelled;
    uint64_t requests_timed_out;
    uint64_t requests_failed;
    uint64_t requests_rejected; /* BUSY or invalid at submission */
    uint64_t steps;
    uint64_t prompt_tokens; /* rows computed for prompts, recomputation included */
    uint64_t generated_tokens;
    uint64_t prefix_lookup_tokens; /* prompt tokens looked for in the prefix tree … */
    uint64_t prefix_hit_tokens;    /* … and found there */
    uint64_t preemptions;          /* sequences sent back to wait, to be recomputed */
    uint64_t evictions;            /* cached blocks given up */
    uint64_t copied_blocks;        /* copy on write */
    uint64_t step_ns;              /* time in device steps */
    uint64_t host_ns;              /* time of the engine thread around them: the host's share */
    uint64_t step_rows_max;        /* the fullest step so far */
    uint64_t weight_bytes_read;    /* by the device, all steps together */
    uint64_t memory_bytes;         /* gauge: held by the device now; 0 while asleep */
    uint64_t tokens_drawn_device;  /* tokens that the device drew … */
    uint64_t tokens_drawn_host;    /* … and the host, from logits that were copied */
    uint64_t steps_failed;         /* their requests ended with an error */
    bool device_failed;            /* the last step failed because the device did */
    /* Gauges: memory_bytes by what it is for, and what --gpu-memory-limit allows; 0: no limit. */
    uint64_t memory_weight_bytes;
    uint64_t memory_kv_bytes;
    uint64_t memory_workspace_bytes;
    uint64_t memory_step_bytes; /* what goes into and comes out of a step */
    uint64_t memory_limit_bytes;
} llcuda_stats;

/* Fills in `stats`; set stats->size = sizeof *stats first. Gauges are consistent with each other
 * as of the end of one step or of one answer; an answer whose end was read is counted. Never blocks
 * on the engine thread for longer than copying takes. */
LLCUDA_API void llcuda_engine_get_stats(const llcuda_engine *engine, llcuda_stats *stats);

/* ------------------------------------------------------------------ text and tokens */

typedef enum llcuda_tristate {
    LLCUDA_MODEL_DEFAULT, /* as the model's files say */
    LLCUDA_YES,
    LLCUDA_NO
} llcuda_tristate;

/* Token ids of `text`. With `special`, special tokens spelled out in the text count as such;
 * otherwise they are plain text. *tokens: [*count], freed by the caller with llcuda_free; NULL
 * when *count is 0. Errors: OUT_OF_MEMORY, LIMIT (more than 64 MiB of text). */
LLCUDA_API llcuda_status llcuda_tokenize(const llcuda_engine *engine, const char *text,
                                         size_t text_bytes, llcuda_tristate add_bos, bool special,
                                         uint32_t **tokens, size_t *count, llcuda_error *error);

/* The text of [count] ids; bytes that form no UTF-8 become U+FFFD. With `special`, special tokens
 * are spelled out, otherwise they are left out. *text is freed with llcuda_free.
 * Errors: INVALID_ARGUMENT (an id out of range), OUT_OF_MEMORY. */
LLCUDA_API llcuda_status llcuda_detokenize(const llcuda_engine *engine, const uint32_t *tokens,
                                           size_t count, bool special, char **text,
                                           size_t *text_bytes, llcuda_error *error);

/* Renders the model's chat template. `json`: an array of messages, or an object {messages, tools?,
 * add_generation_prompt? (default true), now?, …} whose other members the template sees as
 * variables. *text is freed with llcuda_free.
 * Errors: BAD_FORMAT (the JSON, with a byte offset), REFUSED (by the template, with its words),
 * UNSUPPORTED (the model has no template), LIMIT, OUT_OF_MEMORY. */
LLCUDA_API llcuda_status llcuda_apply_template(const llcuda_engine *engine, const char *json,
                                               size_t json_bytes, char **text, size_t *text_bytes,
                                               llcuda_error *error);

/* ------------------------------------------------------------------ requests */

typedef struct llcuda_logit_bias {
    uint32_t token;
    float bias; /* added to the token's logit; -100 … 100, or -INFINITY to forbid it */
} llcuda_logit_bias;

typedef struct llcuda_text {
    const char *data;
    size_t bytes;
} llcuda_text;

/* How one vector is made from the final hidden states of a prompt's positions. */
typedef enum llcuda_pooling {
    LLCUDA_POOLING_NONE,  /* no embedding: the request is for an answer */
    LLCUDA_POOLING_MODEL, /* as the model's files say; the last position when they say nothing */
    LLCUDA_POOLING_MEAN,  /* the mean of all positions */
    LLCUDA_POOLING_LAST   /* the last position */
} llcuda_pooling;

/* Everything is copied by llcuda_submit. Ranges are enforced by the table that
 * llcuda_request_parameters returns; NaN is refused everywhere. */
typedef struct llcuda_request_options {
    size_t size;

    /* The prompt, exactly one of three. Text: with `prompt` "" and 0 bytes, generation starts from
     * the beginning-of-sequence token. Ids: [prompt_token_count], taken as they are. Messages:
     * JSON as for llcuda_apply_template, rendered by the model's chat template. */
    const char *prompt;
    size_t prompt_bytes;
    const uint32_t *prompt_tokens;
    size_t prompt_token_count;
    const char *messages;
    size_t messages_bytes;
    llcuda_tristate add_bos; /* text prompts only */
    bool special;            /* text prompts: special tokens spelled out count; default true */

    /* How long. */
    uint32_t max_tokens; /* 0: what the context allows; always cut to that */
    uint32_t min_tokens; /* no end before so many: end tokens cannot be drawn, stop strings wait */
    const llcuda_text *stop; /* [stop_count] strings of 1 … 1,024 bytes, at most 16. They end the */
    uint32_t stop_count;     /* answer wherever they lie across tokens, and are not part of it. */
    const uint32_t *stop_tokens; /* [stop_token_count] further end tokens, at most 16 */
    uint32_t stop_token_count;
    bool ignore_eos; /* the model's own end tokens do not end the answer */

    /* How to choose, in the order of application (docs/internals/sampling.md). Neutral values
     * leave a stage out. */
    const llcuda_logit_bias *logit_bias; /* [logit_bias_count], at most 1,024 */
    uint32_t logit_bias_count;
    double repetition_penalty;   /* 1: off. Divides positive and multiplies negative logits of
                                    tokens seen in prompt or answer */
    double presence_penalty;     /* subtracted once from each token seen in the answer */
    double frequency_penalty;    /* subtracted once for each time */
    uint32_t penalty_window;     /* penalties look back so many tokens; 0: all */
    double dry_multiplier;       /* 0: off. Penalises the token that would continue a repetition */
    double dry_base;             /* 1.75: growth with each token of its length … */
    uint32_t dry_allowed_length; /* … beyond this, 2 */
    uint32_t dry_window;         /* looks back so many tokens; 0: all */
    const llcuda_text *dry_breakers; /* [dry_breaker_count] a token whose text holds one ends a */
    uint32_t dry_breaker_count;      /* repetition; NULL: "\n", ":", "\"", "*"; at most 16 */
    double temperature; /* 0: greedy, the token with the largest logit (the lowest id of equals) */
    uint32_t top_k;     /* 0: off */
    double typical_p;   /* 1: off */
    double top_p;       /* 1: off */
    double min_p;       /* 0: off */
    bool seed_given;    /* otherwise one below 2^53 is drawn, see llcuda_request_seed */
    uint64_t seed;

    /* What is reported. */
    uint32_t choice_count; /* answers to the same prompt, 1 … 128; choice i > 0 has its own stream
                              of random numbers, derived from the seed */
    bool logprobs;         /* of each chosen token, under the model's own distribution … */
    uint32_t top_logprobs; /* … and of so many alternatives, 0 … 20 */
    bool echo;             /* begin each choice with the prompt */
    bool special_text;     /* spell out special tokens in the answer's text; default false */

    /* Who asks, and how urgent it is. */
    int32_t priority;       /* -10 … 10, higher first; a head start, never starvation */
    uint64_t timeout_ms;    /* the answer ends with TIMEOUT so long after submission; 0: never */
    const char *tenant;     /* NUL-terminated, at most 128 bytes, NULL: "": fairness is between
                               tenants */
    const char *cache_salt; /* likewise: cached prefixes are shared under equal salts only */

    /* Called from the engine thread when an event is there and llcuda_request_next has returned
     * TIMEOUT since the last call: once, to wake a reader that has other things to wait for. It
     * must return at once and must not call into the library. May be NULL. */
    void (*on_ready)(void *user);
    void *on_ready_user;

    /* Other than NONE: the prompt's embedding is wanted instead of an answer. It is a field of the
     * DONE event; no token is drawn, and the fields about length, choice and report do not count.
     * A text prompt gets what the model's tokeniser puts around a whole text, a closing token
     * included; the prompt may fill the context. */
    llcuda_pooling embedding;
    bool embedding_raw; /* as the model gives it; false: scaled to length 1 */
} llcuda_request_options;

/* Defaults: greedy, no penalties, one choice. */
LLCUDA_API void llcuda_request_options_init(llcuda_request_options *options, size_t size);

/* The same, then what the model's own files recommend (temperature, top_k, top_p, …). */
LLCUDA_API void llcuda_engine_request_defaults(const llcuda_engine *engine,
                                               llcuda_request_options *options, size_t size);

typedef enum llcuda_parameter_kind {
    LLCUDA_PARAMETER_DOUBLE,
    LLCUDA_PARAMETER_U32,
    LLCUDA_PARAMETER_I32,
    LLCUDA_PARAMETER_U64,
    LLCUDA_PARAMETER_BOOL
} llcuda_parameter_kind;

/* A scalar field of llcuda_request_options: the one table from which values are checked, and from
 * which command lines and servers may make their options. */
typedef struct llcuda_parameter {
    const char *name; /* "top_p" */
    llcuda_parameter_kind kind;
    size_t offset; /* in llcuda_request_options */
    double minimum, maximum, fallback;
    const char *help; /* a short phrase */
} llcuda_parameter;

/* [*count] rows, static storage. Any thread. */
LLCUDA_API const llcuda_parameter *llcuda_request_parameters(uint32_t *count);

/* Checks the request, renders and tokenises the prompt in the caller's thread, and puts it in the
 * engine's queue. Never waits for the engine. On success *request belongs to the caller
 * (llcuda_request_release).
 * Errors: INVALID_ARGUMENT (names the field), CONTEXT_FULL (the prompt leaves no room for an
 * answer), BUSY (queue_max), LIMIT, BAD_FORMAT, REFUSED, UNSUPPORTED (template, embeddings),
 * OUT_OF_MEMORY, CANCELLED (the engine is being closed). Other requests do not notice. */
LLCUDA_API llcuda_status llcuda_submit(llcuda_engine *engine, const llcuda_request_options *options,
                                       llcuda_request **request, llcuda_error *error);

/* The seed in use, given or drawn. */
LLCUDA_API uint64_t llcuda_request_seed(const llcuda_request *request);

/* The ids of the prompt: [*count], owned by the request, constant. */
LLCUDA_API const uint32_t *llcuda_request_prompt(const llcuda_request *request, size_t *count);

typedef enum llcuda_finish_reason {
    LLCUDA_FINISH_NONE,      /* "": goes on */
    LLCUDA_FINISH_STOP,      /* "stop": an end token or a stop string */
    LLCUDA_FINISH_LENGTH,    /* "length": max_tokens or the context */
    LLCUDA_FINISH_CANCELLED, /* "cancelled" */
    LLCUDA_FINISH_TIMEOUT,   /* "timeout" */
    LLCUDA_FINISH_ERROR      /* "error": see the status of the DONE event */
} llcuda_finish_reason;

/* The words above. Static storage. Any thread. */
LLCUDA_API const char *llcuda_finish_reason_name(llcuda_finish_reason reason);

typedef enum llcuda_event_kind {
    LLCUDA_EVENT_PROMPT,   /* with echo: the prompt's text and ids, the first event of a choice */
    LLCUDA_EVENT_TOKENS,   /* tokens and the text that became certain; either may be empty */
    LLCUDA_EVENT_FINISHED, /* a choice has ended; carries the rest of its text */
    LLCUDA_EVENT_DONE      /* the request has ended; the last event */
} llcuda_event_kind;

typedef struct llcuda_top_logprob {
    uint32_t token;
    float logprob; /* natural logarithm */
} llcuda_top_logprob;

typedef struct llcuda_token_logprob {
    uint32_t token;
    float logprob;
    uint32_t rank; /* 0: the most likely token of the model */
    uint32_t top_count;
    llcuda_top_logprob top[LLCUDA_LOGPROBS_MAX]; /* most likely first */
} llcuda_token_logprob;

typedef struct llcuda_usage {
    uint32_t prompt_tokens;
    uint32_t cached_tokens;     /* of the prompt, found in the cache at first */
    uint32_t completion_tokens; /* of all choices, end tokens included */
} llcuda_usage;

/* Milliseconds. */
typedef struct llcuda_timings {
    double queue_ms;                  /* submission to the first step */
    double prefill_ms;                /* first step to the first token */
    double ttft_ms;                   /* submission to the first token */
    double decode_ms;                 /* first token to the last one */
    double total_ms;                  /* submission to the end */
    double prefill_tokens_per_second; /* prompt tokens computed / prefill time; 0 when none */
    double decode_tokens_per_second;  /* (completion − choices) / decode time; 0 when none */
} llcuda_timings;

typedef struct llcuda_event {
    llcuda_event_kind kind;
    uint32_t choice;  /* 0 … choice_count − 1 */
    const char *text; /* whole UTF-8 characters, NUL-terminated, never NULL */
    size_t text_bytes;
    const uint32_t *tokens; /* [token_count] ids in the order they were drawn. Text may lag behind
                               them: characters in halves and possible stop strings are held back */
    uint32_t token_count;
    const llcuda_token_logprob *logprobs; /* [token_count] or NULL */
    llcuda_finish_reason finish_reason;   /* FINISHED, and DONE: of choice 0 */
    int32_t stop_index;                   /* FINISHED: which stop string, or -1 */
    llcuda_status status;                 /* DONE: OK, CANCELLED, TIMEOUT, NOT_FINITE, DEVICE … */
    const char *message;                  /* DONE: the sentence of a failure, otherwise "" */
    llcuda_usage usage;                   /* so far; final in DONE */
    llcuda_timings timings;               /* DONE */
    const float *embedding;               /* DONE of an embedding request that ended well: */
    uint32_t embedding_length; /* [embedding_length], valid until the request's release */
} llcuda_event;

/* The next event, waiting up to `timeout_ms` milliseconds (LLCUDA_FOREVER: until it comes). *event
 * is owned by the request and valid until the next call with this request. After DONE it gives DONE
 * again. A reader that falls behind pauses its own request, nobody else's, and loses nothing.
 * Errors: TIMEOUT (nothing yet). */
LLCUDA_API llcuda_status llcuda_request_next(llcuda_request *request, int64_t timeout_ms,
                                             const llcuda_event **event, llcuda_error *error);

/* Asks for the end of a request, at any moment, from any thread; its reader gets the events made
 * before, FINISHED and DONE with CANCELLED (or how it ended, if that came first). */
LLCUDA_API void llcuda_request_cancel(llcuda_request *request);

/* Gives the handle back, cancelling what still runs. NULL is fine. */
LLCUDA_API void llcuda_request_release(llcuda_request *request);

/* ------------------------------------------------------------------ several models */

/* Models under one memory limit. Each has a name and its own engine; when one is needed, those that
 * nobody holds and that were used longest ago are put to sleep until it fits. Any thread. */
typedef struct llcuda_models llcuda_models;

typedef struct llcuda_model_state {
    const char *name; /* valid until the model is removed */
    bool opened;      /* has an engine */
    bool asleep;      /* … without weights */
    uint32_t holders;
    uint64_t memory_bytes; /* counted against the limit now */
} llcuda_model_state;

/* An empty set. `memory_limit_bytes` 0: no limit. Errors: OUT_OF_MEMORY. */
LLCUDA_API llcuda_status llcuda_models_create(uint64_t memory_limit_bytes, llcuda_models **models,
                                              llcuda_error *error);

/* Closes every engine. Nothing may be held. NULL is fine. */
LLCUDA_API void llcuda_models_destroy(llcuda_models *models);

/* Gives a name (1 … 255 bytes) to a model that is opened when it is first needed. Texts of
 * `options` are copied; builtin_model and the callbacks' users must outlive the set. Errors:
 * INVALID_ARGUMENT (the name is taken, bad options), OUT_OF_MEMORY. */
LLCUDA_API llcuda_status llcuda_models_add(llcuda_models *models, const char *name,
                                           const llcuda_engine_options *options,
                                           llcuda_error *error);

/* The engine of a model, awake, for the caller to use until llcuda_models_release. Opens or wakes
 * it, which may take long; others who need a model wait meanwhile.
 * Errors: NOT_FOUND (no such name), BUSY (models that are held fill the limit), LIMIT (the model
 * alone exceeds it), and those of llcuda_engine_open. */
LLCUDA_API llcuda_status llcuda_models_acquire(llcuda_models *models, const char *name,
                                               llcuda_engine **engine, llcuda_error *error);

/* Ends a use. The engine stays as it is until memory is needed. */
LLCUDA_API void llcuda_models_release(llcuda_models *models, llcuda_engine *engine);

/* Puts a model that nobody holds to sleep now. Errors: NOT_FOUND, BUSY. */
LLCUDA_API llcuda_status llcuda_models_sleep(llcuda_models *models, const char *name,
                                             llcuda_error *error);

/* Closes a model that nobody holds and forgets its name. Errors: NOT_FOUND, BUSY. */
LLCUDA_API llcuda_status llcuda_models_remove(llcuda_models *models, const char *name,
                                              llcuda_error *error);

/* The models in the order of their adding: false when there is no `index`-th. */
LLCUDA_API bool llcuda_models_get_state(llcuda_models *models, size_t index,
                                        llcuda_model_state *state);

#ifdef __cplusplus
}
#endif
#endif
