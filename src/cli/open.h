/* From options to an open engine and a ready request: what infer, chat, batch and the others share.
 */
#ifndef CLI_OPEN_H
#define CLI_OPEN_H

#include "base/json.h"
#include "cli/console.h"
#include "llcuda/llcuda.h"
#include "tensor/dtype.h"

/* The model that is linked into the program, a GGUF file. */
const void *builtin_model_data(void);
uint64_t builtin_model_bytes(void);

/* Fills in what the options say about an engine; texts live in the options' arena. Returns
 * EXIT_DONE, or the exit status after having said what is wrong. */
int open_engine_options(struct options *options, llcuda_engine_options *engine_options);

/* The device that the options name: "--device cpu --cpu-level avx2" is the API's "cpu:avx2". It
 * lives in the options' arena. INVALID_ARGUMENT when the two contradict. */
llcuda_status open_device_name(struct options *options, const char **name,
                               struct llcuda_error *error);

/* The cache that --cache-type names; false for a name that is none. Either output may be NULL. */
bool cache_type_find(const char *name, llcuda_kv_type *type, enum dtype *dtype);

/* What the options say about GPUs, and where compiled kernels are kept, as the engine takes it;
 * texts live in the options' arena. EXIT_USAGE after a message. */
int open_gpu_options(struct options *options, llcuda_engine_options *engine_options);

/* Checks every option that has words or a form of its own, before a command does anything, so that
 * a wrong one is wrong usage whichever command it was given to. EXIT_USAGE after a message. */
int open_check_options(struct options *options);

/* Opens the engine that the options describe, with progress on a terminal. Returns EXIT_DONE, or
 * the exit status after having said what is wrong. */
int open_engine(struct options *options, bool vocabulary_only, llcuda_engine **engine);

/* Model defaults, then every sampling option that was given. `stop` and `bias` storage lives in the
 * options' arena. Returns EXIT_DONE or EXIT_USAGE after a message. */
int open_request_options(struct options *options, const llcuda_engine *engine,
                         llcuda_request_options *request);

/* Runs a submitted request to its end. `on_text` gets each piece and may be NULL; an interrupt
 * cancels. On return *done is the DONE event, owned by the request; `ids` (may be NULL) collects
 * the tokens as uint32_t. */
struct request_sink {
    bool (*on_text)(void *user, const char *text, size_t bytes); /* false cancels */
    void *user;
    struct buffer *text; /* collects choice 0, may be NULL */
    struct buffer *ids;  /* collects uint32_t of choice 0, may be NULL */
    llcuda_finish_reason finish_reason;
    bool stopped;                /* on_text has refused, and is not called again */
    const llcuda_engine *engine; /* of a request alone: a terminal sees how far its prompt is read;
                                    may be NULL */
};
llcuda_status run_request(llcuda_request *request, struct request_sink *sink,
                          const llcuda_event **done, struct llcuda_error *error);

/* Token ids (uint32_t) from texts such as "1 2 3"; EXIT_USAGE after a message when there are none.
 */
int read_token_ids(struct options *options, const char *const *texts, uint32_t count,
                   struct buffer *ids);

/* Appends one {"role": …, "content": …} to a JSON array that is being written. */
void write_message(struct json_writer *writer, const char *role, struct text_view content);

#endif
