/* Owns the configured models and the thread that moves them between their states.
 *
 * Invariants. An entry's engine is written by the thread only, with the lock held and nobody on the
 * model. A model that is READY or LEAVING is held in the engine's set of models, so that this set
 * alone decides what goes to sleep: the thread gives its hold back only when no request is on the
 * model. Long work (loading, sleeping, closing) happens without the lock. A wish stays until it has
 * been granted or has failed; the thread goes round all wishes, so that one that has to wait does
 * not keep the others. It must not know HTTP beyond the errors that it gives. */
#include "server/model_set.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"

#define LOOK_AGAIN_MS 50
/* A model that was used longest ago is closed for new requests when another one has waited so long
 * for room. */
#define PATIENCE_NS 2000000000u
#define RETRY_NS    10000000000u
/* A model that has just been loaded is left alone until it has served somebody, or for so long:
 * otherwise models that do not fit together could take turns in memory and serve nobody. */
#define FRESH_NS 1000000000u

struct entry {
    struct served_model model; /* first: a taken model is its entry */
    struct model_set *set;
    llcuda_engine_options options;
    enum model_state state;
    enum model_wish wish;
    uint64_t wish_ns;
    uint64_t used_ns;
    uint64_t fresh_until_ns; /* 0: it has served somebody */
    uint64_t failed_ns;
    uint32_t users;
    bool preload;
    bool was_loaded;
    _Atomic uint64_t done_bytes, total_bytes;
    struct llcuda_error error;
};

struct model_set {
    llcuda_models *models;
    struct entry *entries;
    uint32_t count;
    uint64_t idle_ns;
    pthread_mutex_t mutex;
    pthread_cond_t wakeup;
    pthread_t thread;
    bool started;
    bool failed; /* a model to be preloaded */
    atomic_bool stopping;
    void (*changed)(void *user);
    void *changed_user;
};

static const char *const state_names[] = {"unloaded", "loading", "ready",
                                          "leaving",  "asleep",  "failed"};

const char *model_state_name(enum model_state state)
{
    return state_names[state];
}

/* ------------------------------------------------------------------ the thread's work */

/* The engine's progress while a model is loaded; also how loading ends early. */
static bool report_progress(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
    struct entry *entry = user;
    atomic_store(&entry->done_bytes, done_bytes);
    atomic_store(&entry->total_bytes, total_bytes);
    return !atomic_load(&entry->set->stopping);
}

static void set_state(struct entry *entry, enum model_state state)
{
    entry->state = state;
    if (entry->set->changed) {
        entry->set->changed(entry->set->changed_user);
    }
}

static uint64_t memory_of(const struct entry *entry)
{
    llcuda_stats stats = {.size = sizeof stats};
    if (!entry->model.engine) {
        return 0;
    }
    llcuda_engine_get_stats(entry->model.engine, &stats);
    return stats.memory_bytes;
}

/* A wish that came while the lock was not held stays. Lock held. */
static void grant_wish(struct entry *entry, enum model_wish wish)
{
    if (entry->wish == wish) {
        entry->wish = MODEL_WISH_NONE;
    }
}

/* Lets go of a model that nobody uses and drops its weights. Lock held at entry and exit. */
static void put_to_sleep(struct entry *entry)
{
    struct model_set *set = entry->set;
    set_state(entry, MODEL_LEAVING);
    pthread_mutex_unlock(&set->mutex);
    llcuda_models_release(set->models, entry->model.engine);
    llcuda_models_sleep(set->models, entry->model.name, NULL);
    pthread_mutex_lock(&set->mutex);
    set_state(entry, MODEL_ASLEEP);
}

/* Makes room for a model that has none: the one used longest ago sleeps as soon as nobody uses it.
 * False when there is nothing to wait for. Lock held. */
static bool evict_one(struct model_set *set, const struct entry *wanted)
{
    struct entry *oldest = NULL;
    uint64_t now_ns = clock_now_ns();
    bool patient = now_ns - wanted->wish_ns < PATIENCE_NS;
    bool fresh = false;
    for (uint32_t i = 0; i < set->count; i++) {
        struct entry *entry = &set->entries[i];
        bool held = entry->state == MODEL_READY || entry->state == MODEL_LEAVING;
        if (entry != wanted && held && now_ns < entry->fresh_until_ns) {
            fresh = true;
        } else if (entry != wanted && held && !(patient && entry->users > 0) &&
                   (!oldest || entry->used_ns < oldest->used_ns)) {
            oldest = entry;
        }
    }
    if (oldest && oldest->users == 0) {
        put_to_sleep(oldest);
    } else if (oldest) {
        set_state(oldest, MODEL_LEAVING);
        if (oldest->wish != MODEL_WISH_UNLOAD) {
            oldest->wish = MODEL_WISH_SLEEP;
        }
    }
    return oldest != NULL || patient || fresh;
}

static void fail(struct entry *entry, const struct llcuda_error *error)
{
    entry->error = *error;
    grant_wish(entry, MODEL_WISH_LOAD);
    entry->failed_ns = clock_now_ns();
    entry->set->failed = entry->set->failed || (entry->preload && !entry->was_loaded);
    set_state(entry, entry->model.engine ? MODEL_ASLEEP : MODEL_FAILED);
}

/* One attempt to load; a model that finds no room keeps its wish. Lock held at entry and exit. */
static void load(struct entry *entry)
{
    struct model_set *set = entry->set;
    struct llcuda_error error = {0};
    llcuda_engine *engine = NULL;
    if (entry->state == MODEL_READY) {
        entry->wish = MODEL_WISH_NONE;
        return;
    }
    if (entry->state == MODEL_LEAVING) { /* wanted again before it has left */
        entry->wish = MODEL_WISH_NONE;
        set_state(entry, MODEL_READY);
        return;
    }
    if (entry->state != MODEL_LOADING) {
        set_state(entry, MODEL_LOADING);
    }
    pthread_mutex_unlock(&set->mutex);
    llcuda_status status = llcuda_models_acquire(set->models, entry->model.name, &engine, &error);
    if (status == LLCUDA_OK && !entry->model.engine) {
        template_facts_find(engine, &entry->model.facts);
    }
    pthread_mutex_lock(&set->mutex);
    if (status == LLCUDA_BUSY && evict_one(set, entry)) {
        return;
    }
    if (status != LLCUDA_OK) {
        fail(entry, &error);
        return;
    }
    entry->model.engine = engine;
    grant_wish(entry, MODEL_WISH_LOAD);
    entry->was_loaded = true;
    entry->failed_ns = 0;
    entry->error.message[0] = 0;
    entry->used_ns = clock_now_ns();
    entry->fresh_until_ns = entry->used_ns + FRESH_NS;
    set_state(entry, MODEL_READY);
}

/* Closes the engine and keeps the name. Nobody is on the model. Lock held at entry and exit. */
static void unload(struct entry *entry)
{
    struct model_set *set = entry->set;
    struct llcuda_error error = {0};
    if (entry->state == MODEL_READY || entry->state == MODEL_LEAVING) {
        put_to_sleep(entry);
    }
    set_state(entry, MODEL_LEAVING);
    entry->model.engine = NULL;
    pthread_mutex_unlock(&set->mutex);
    llcuda_models_remove(set->models, entry->model.name, NULL);
    llcuda_status status =
        llcuda_models_add(set->models, entry->model.name, &entry->options, &error);
    pthread_mutex_lock(&set->mutex);
    grant_wish(entry, MODEL_WISH_UNLOAD);
    set_state(entry, MODEL_UNLOADED);
    if (status != LLCUDA_OK) {
        fail(entry, &error);
    }
}

/* Grants what can be granted now. Lock held at entry and exit. */
static void grant(struct entry *entry)
{
    bool up = entry->state == MODEL_READY || entry->state == MODEL_LEAVING;
    switch (entry->wish) {
    case MODEL_WISH_NONE:
        break;
    case MODEL_WISH_LOAD:
        load(entry);
        break;
    case MODEL_WISH_SLEEP:
        if (entry->state == MODEL_LOADING) { /* it has waited for room */
            set_state(entry, entry->model.engine ? MODEL_ASLEEP : MODEL_UNLOADED);
        }
        if (!up) {
            entry->wish = MODEL_WISH_NONE;
        } else if (entry->users == 0) {
            put_to_sleep(entry);
            grant_wish(entry, MODEL_WISH_SLEEP);
        } else if (entry->state == MODEL_READY) {
            set_state(entry, MODEL_LEAVING);
        }
        break;
    case MODEL_WISH_UNLOAD:
        if (!entry->model.engine) {
            entry->wish = MODEL_WISH_NONE;
            set_state(entry, MODEL_UNLOADED);
        } else if (entry->users == 0) {
            unload(entry);
        } else if (entry->state == MODEL_READY) {
            set_state(entry, MODEL_LEAVING);
        }
        break;
    }
}

/* What has been idle for long is wished to sleep. Lock held. */
static void look_for_idle(struct model_set *set)
{
    uint64_t now_ns = clock_now_ns();
    for (uint32_t i = 0; set->idle_ns > 0 && i < set->count; i++) {
        struct entry *entry = &set->entries[i];
        if (entry->state == MODEL_READY && entry->users == 0 && entry->wish == MODEL_WISH_NONE &&
            now_ns - entry->used_ns > set->idle_ns) {
            entry->wish = MODEL_WISH_SLEEP;
        }
    }
}

static bool anything_wished(const struct model_set *set)
{
    for (uint32_t i = 0; i < set->count; i++) {
        if (set->entries[i].wish != MODEL_WISH_NONE) {
            return true;
        }
    }
    return false;
}

/* Waits for a wish; where some are left, or models may become idle, only for a moment. */
static void wait_for_work(struct model_set *set)
{
    struct timespec until;
    uint64_t pause_ms = anything_wished(set) ? LOOK_AGAIN_MS : 1000;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t nanoseconds = (uint64_t)until.tv_nsec + pause_ms * 1000000u;
    until.tv_sec += (time_t)(nanoseconds / 1000000000u);
    until.tv_nsec = (long)(nanoseconds % 1000000000u);
    pthread_cond_timedwait(&set->wakeup, &set->mutex, &until);
}

static void *run(void *user)
{
    struct model_set *set = user;
    pthread_setname_np(pthread_self(), "llcuda-models");
    pthread_mutex_lock(&set->mutex);
    while (!atomic_load(&set->stopping)) {
        look_for_idle(set);
        for (uint32_t i = 0; i < set->count && !atomic_load(&set->stopping); i++) {
            grant(&set->entries[i]);
        }
        if (!atomic_load(&set->stopping)) {
            wait_for_work(set);
        }
    }
    pthread_mutex_unlock(&set->mutex);
    return NULL;
}

/* ------------------------------------------------------------------ use */

static struct entry *find(struct model_set *set, struct text_view name, struct api_error *error)
{
    for (uint32_t i = 0; i < set->count; i++) {
        if (name.length == 0 || text_view_is(name, set->entries[i].model.name)) {
            return &set->entries[i];
        }
    }
    api_error_set(error, 404, "model_not_found", "model",
                  "there is no model '%.*s' here; GET /v1/models lists what is served",
                  name.length > 100 ? 100 : (int)name.length, name.data);
    return NULL;
}

static void wish_for(struct entry *entry, enum model_wish wish)
{
    entry->wish = wish;
    entry->wish_ns = clock_now_ns();
    pthread_cond_signal(&entry->set->wakeup);
}

/* Why a model cannot be used now; loading begins unless it is under way. Lock held. */
static bool refuse(struct entry *entry, struct api_error *error)
{
    uint64_t done = atomic_load(&entry->done_bytes);
    uint64_t total = atomic_load(&entry->total_bytes);
    if (entry->failed_ns && clock_now_ns() - entry->failed_ns < RETRY_NS) {
        return api_error_set(error, 503, "model_failed", "model",
                             "the model could not be loaded: %.300s", entry->error.message);
    }
    if (entry->wish == MODEL_WISH_NONE && entry->state != MODEL_LEAVING) {
        wish_for(entry, MODEL_WISH_LOAD);
    }
    return api_error_set(error, 503, "model_loading", "model",
                         "the model is being loaded (%u %%); try again in a moment",
                         total ? (unsigned)(100 * done / total) : 0);
}

/* Who only looks at a model does not keep it awake. Lock held. */
static void note_use(struct entry *entry, bool awake)
{
    if (awake) {
        entry->used_ns = clock_now_ns();
        entry->fresh_until_ns = 0;
    }
}

bool model_set_take(struct model_set *set, struct text_view name, bool awake,
                    struct served_model **model, struct api_error *error)
{
    pthread_mutex_lock(&set->mutex);
    struct entry *entry = find(set, name, error);
    bool good = entry != NULL;
    if (good) {
        bool there = entry->state == MODEL_READY ||
                     (!awake && entry->state == MODEL_ASLEEP && entry->model.engine);
        good = there || refuse(entry, error);
    }
    if (good) {
        entry->users++;
        note_use(entry, awake);
        *model = &entry->model;
    }
    pthread_mutex_unlock(&set->mutex);
    return good;
}

void model_set_give(struct model_set *set, struct served_model *model, bool awake)
{
    struct entry *entry = (struct entry *)model;
    pthread_mutex_lock(&set->mutex);
    entry->users--;
    note_use(entry, awake);
    if (entry->users == 0 && anything_wished(set)) {
        pthread_cond_signal(&set->wakeup);
    }
    pthread_mutex_unlock(&set->mutex);
}

bool model_set_ask(struct model_set *set, struct text_view name, enum model_wish wish,
                   struct api_error *error)
{
    pthread_mutex_lock(&set->mutex);
    struct entry *entry = find(set, name, error);
    if (entry) {
        wish_for(entry, wish);
    }
    pthread_mutex_unlock(&set->mutex);
    return entry != NULL;
}

bool model_set_describe(struct model_set *set, uint32_t index, struct model_facts *facts)
{
    if (index >= set->count) {
        return false;
    }
    struct entry *entry = &set->entries[index];
    pthread_mutex_lock(&set->mutex);
    *facts = (struct model_facts){.name = entry->model.name,
                                  .state = entry->state,
                                  .users = entry->users,
                                  .done_bytes = atomic_load(&entry->done_bytes),
                                  .total_bytes = atomic_load(&entry->total_bytes),
                                  .memory_bytes = memory_of(entry)};
    snprintf(facts->message, sizeof facts->message, "%.199s", entry->error.message);
    pthread_mutex_unlock(&set->mutex);
    return true;
}

const char *model_set_first(const struct model_set *set)
{
    return set->entries[0].model.name;
}

bool model_set_ready(struct model_set *set, bool *failed, struct llcuda_error *error)
{
    bool ready = true;
    pthread_mutex_lock(&set->mutex);
    for (uint32_t i = 0; i < set->count; i++) {
        struct entry *entry = &set->entries[i];
        bool missing = entry->preload && !entry->was_loaded;
        ready = ready && !missing;
        if (missing && entry->failed_ns && error) {
            *error = entry->error;
        }
    }
    *failed = set->failed;
    pthread_mutex_unlock(&set->mutex);
    return ready;
}

void model_set_each(struct model_set *set,
                    void (*visit)(void *user, const char *name, const llcuda_engine *engine),
                    void *user)
{
    pthread_mutex_lock(&set->mutex);
    for (uint32_t i = 0; i < set->count; i++) {
        if (set->entries[i].model.engine) {
            visit(user, set->entries[i].model.name, set->entries[i].model.engine);
        }
    }
    pthread_mutex_unlock(&set->mutex);
}

/* ------------------------------------------------------------------ life */

static llcuda_status add(struct model_set *set, const struct model_set_options *options,
                         const struct model_config *config, struct llcuda_error *error)
{
    struct entry *entry = &set->entries[set->count];
    entry->model.index = set->count++;
    entry->set = set;
    entry->preload = config->preload;
    entry->options = config->engine;
    entry->options.progress = report_progress;
    entry->options.progress_user = entry;
    entry->options.on_round = options->on_round;
    entry->options.on_round_user = options->on_round_user;
    entry->model.name = strdup(config->name);
    if (!entry->model.name) {
        return error_no_memory(error, "a model's name", strlen(config->name));
    }
    if (config->preload) {
        entry->wish = MODEL_WISH_LOAD;
        entry->state = MODEL_LOADING;
    }
    return llcuda_models_add(set->models, config->name, &entry->options, error);
}

llcuda_status model_set_create(const struct model_set_options *options, struct model_set **made,
                               struct llcuda_error *error)
{
    struct model_set *set = calloc(1, sizeof *set);
    pthread_condattr_t monotonic;
    if (!set || options->count == 0) {
        free(set);
        return error_no_memory(error, "the models", sizeof *set);
    }
    pthread_mutex_init(&set->mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&set->wakeup, &monotonic);
    pthread_condattr_destroy(&monotonic);
    set->idle_ns = options->idle_ms * 1000000u;
    set->entries = calloc(options->count, sizeof *set->entries);
    llcuda_status status = set->entries
                               ? llcuda_models_create(options->limit_bytes, &set->models, error)
                               : error_no_memory(error, "the models", sizeof *set->entries);
    for (uint32_t i = 0; i < options->count && status == LLCUDA_OK; i++) {
        status = add(set, options, &options->configs[i], error);
    }
    if (status != LLCUDA_OK) {
        model_set_destroy(set);
        return status;
    }
    *made = set;
    return LLCUDA_OK;
}

llcuda_status model_set_start(struct model_set *set, void (*changed)(void *user), void *user,
                              struct llcuda_error *error)
{
    set->changed = changed;
    set->changed_user = user;
    int failure = pthread_create(&set->thread, NULL, run, set);
    if (failure != 0) {
        return error_from_errno(error, failure, "start", "the models' thread");
    }
    set->started = true;
    return LLCUDA_OK;
}

void model_set_stop(struct model_set *set)
{
    atomic_store(&set->stopping, true);
    if (set->started) {
        pthread_mutex_lock(&set->mutex);
        pthread_cond_signal(&set->wakeup);
        pthread_mutex_unlock(&set->mutex);
        pthread_join(set->thread, NULL);
        set->started = false;
    }
}

void model_set_destroy(struct model_set *set)
{
    if (!set) {
        return;
    }
    model_set_stop(set);
    llcuda_models_destroy(set->models);
    for (uint32_t i = 0; i < set->count; i++) {
        free(set->entries[i].model.name);
    }
    free(set->entries);
    pthread_mutex_destroy(&set->mutex);
    pthread_cond_destroy(&set->wakeup);
    free(set);
}
