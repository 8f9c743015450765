/* The models that are served, by configured name. One thread of its own loads them, puts them to
 * sleep and unloads them; network threads only take a model that is ready and give it back.
 *
 *     model_set_create → model_set_start → take … give → model_set_stop → model_set_destroy
 *
 * A name in a request chooses among what is configured and never names a file. */
#ifndef SERVER_MODEL_SET_H
#define SERVER_MODEL_SET_H

#include "llcuda/llcuda.h"
#include "server/api_error.h"
#include "server/tool_format.h"

struct model_config {
    const char *name; /* 1 to 255 bytes, unique; copied */
    llcuda_engine_options engine;
    bool preload; /* loaded at start: the server is ready once all of these are */
};

enum model_state {
    MODEL_UNLOADED,
    MODEL_LOADING,
    MODEL_READY,
    MODEL_LEAVING, /* ready, but about to sleep or to be unloaded: takes no more requests */
    MODEL_ASLEEP,
    MODEL_FAILED /* the last attempt to load it failed */
};

struct served_model {
    char *name;
    uint32_t index;              /* among the configured ones */
    llcuda_engine *engine;       /* for who has taken the model; NULL while unloaded */
    struct template_facts facts; /* likewise, constant while the engine is open */
};

/* A model as the admin routes and the metrics show it. */
struct model_facts {
    const char *name; /* owned by the set */
    enum model_state state;
    uint32_t users;                   /* requests on it */
    uint64_t done_bytes, total_bytes; /* of loading */
    uint64_t memory_bytes;            /* held by the device now */
    char message[200];                /* why it failed; "" */
};

struct model_set;

struct model_set_options {
    const struct model_config *configs; /* [count], copied; their texts are borrowed */
    uint32_t count;
    uint64_t limit_bytes; /* of all models together; 0: none */
    uint64_t idle_ms;     /* a model that nobody used for so long goes to sleep; 0: they stay */
    void (*on_round)(void *user); /* of llcuda_engine_options, for every model */
    void *on_round_user;
};

/* Errors: INVALID_ARGUMENT (a name), OUT_OF_MEMORY. */
llcuda_status model_set_create(const struct model_set_options *options, struct model_set **set,
                               struct llcuda_error *error);

/* Starts the thread, which loads what is to be preloaded. `changed` is called from it after each
 * change of a state, and may be NULL. Errors: IO. */
llcuda_status model_set_start(struct model_set *set, void (*changed)(void *user), void *user,
                              struct llcuda_error *error);

/* Ends loading and the thread. Models that are taken stay valid. */
void model_set_stop(struct model_set *set);
/* Closes the engines. Nothing may be taken. NULL is fine. */
void model_set_destroy(struct model_set *set);

/* The model of a name ("": the first one) for one use. With `awake` it must be able to generate; if
 * it is not, loading begins and *error says 503 "model_loading". Otherwise it must have its
 * vocabulary, and this does not count as a use. False with *error. Any thread; never waits for
 * loading. */
bool model_set_take(struct model_set *set, struct text_view name, bool awake,
                    struct served_model **model, struct api_error *error);
/* `awake` as it was taken. */
void model_set_give(struct model_set *set, struct served_model *model, bool awake);

enum model_wish { MODEL_WISH_NONE, MODEL_WISH_LOAD, MODEL_WISH_SLEEP, MODEL_WISH_UNLOAD };

/* Asks for a change, which happens in the background: sleeping and unloading wait for the requests
 * on the model, and new ones are refused meanwhile. False with *error when there is no such name.
 */
bool model_set_ask(struct model_set *set, struct text_view name, enum model_wish wish,
                   struct api_error *error);

/* False when there is no index-th model. */
bool model_set_describe(struct model_set *set, uint32_t index, struct model_facts *facts);
const char *model_state_name(enum model_state state);

/* The first model's name. */
const char *model_set_first(const struct model_set *set);

/* All models to be preloaded have been. *failed: one of them could not be, with the sentence in
 * *error (may be NULL). */
bool model_set_ready(struct model_set *set, bool *failed, struct llcuda_error *error);

/* Calls `visit` for each model whose engine is open, with the set locked: it must be quick. */
void model_set_each(struct model_set *set,
                    void (*visit)(void *user, const char *name, const llcuda_engine *engine),
                    void *user);

#endif
