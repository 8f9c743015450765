/* Owns several engines under one memory limit.
 *
 * One lock for everything, held while a model is opened, woken or put to sleep: who needs a model
 * then waits, which is what a limit on memory means. Requests on engines that are awake never come
 * here. Invariants: a held model is awake; the sum of what is counted never exceeds the limit, by
 * the estimate before a model is loaded (weights, cache, logits) and by what it took afterwards. */
#include <pthread.h>
#include <stdlib.h>

#include "engine/engine.h"
#include "engine/parameters.h"

#define NAME_BYTES_MAX 255u

struct entry {
    struct entry *next; /* in the order of adding */
    char name[NAME_BYTES_MAX + 1];
    struct arena arena;            /* copies of the options' texts */
    llcuda_engine_options options; /* complete, asleep */
    llcuda_engine *engine;         /* NULL: not opened yet */
    uint32_t holders;
    uint64_t used;         /* tick of the last acquire */
    uint64_t memory_bytes; /* counted against the limit */
};

struct llcuda_models {
    pthread_mutex_t mutex;
    struct entry *entries;
    uint64_t limit_bytes; /* UINT64_MAX: none */
    uint64_t tick;
};

llcuda_status llcuda_models_create(uint64_t memory_limit_bytes, llcuda_models **models,
                                   llcuda_error *error)
{
    *models = NULL;
    llcuda_models *made = calloc(1, sizeof *made);
    if (!made || pthread_mutex_init(&made->mutex, NULL) != 0) {
        free(made);
        return error_no_memory(error, "a set of models", sizeof *made);
    }
    made->limit_bytes = memory_limit_bytes > 0 ? memory_limit_bytes : UINT64_MAX;
    *models = made;
    return LLCUDA_OK;
}

static void entry_free(struct entry *entry)
{
    llcuda_engine_close(entry->engine);
    arena_deinit(&entry->arena);
    free(entry);
}

void llcuda_models_destroy(llcuda_models *models)
{
    if (!models) {
        return;
    }
    while (models->entries) {
        struct entry *entry = models->entries;
        models->entries = entry->next;
        entry_free(entry);
    }
    pthread_mutex_destroy(&models->mutex);
    free(models);
}

/* The link to the entry of a name; it points to NULL when there is none. */
static struct entry **find(llcuda_models *models, const char *name)
{
    struct entry **link = &models->entries;
    while (*link && strcmp((*link)->name, name) != 0) {
        link = &(*link)->next;
    }
    return link;
}

static llcuda_status copy_options(struct entry *entry, const llcuda_engine_options *options,
                                  struct llcuda_error *error)
{
    llcuda_status status = parameters_read_engine(options, &entry->options, error);
    if (status == LLCUDA_OK) {
        status = parameters_check_engine(&entry->options, error);
    }
    const char **texts[] = {&entry->options.model,
                            &entry->options.device,
                            &entry->options.chat_template,
                            &entry->options.gpu_library_path,
                            &entry->options.gpu_kernel_cache,
                            &entry->options.gpu_kernel_pack};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0] && status == LLCUDA_OK; i++) {
        if (*texts[i]) {
            *texts[i] = arena_copy_text(&entry->arena, text_view_of(*texts[i])).data;
            status = *texts[i] ? LLCUDA_OK : error_no_memory(error, "the options", 4096);
        }
    }
    entry->options.asleep = true; /* room is made before the weights come */
    return status;
}

llcuda_status llcuda_models_add(llcuda_models *models, const char *name,
                                const llcuda_engine_options *options, llcuda_error *error)
{
    size_t length = strnlen(name, NAME_BYTES_MAX + 1);
    if (length == 0 || length > NAME_BYTES_MAX) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "a model's name has 1 to %u bytes",
                         NAME_BYTES_MAX);
    }
    struct entry *entry = calloc(1, sizeof *entry);
    if (!entry) {
        return error_no_memory(error, "a model's entry", sizeof *entry);
    }
    arena_init(&entry->arena, 0);
    memcpy(entry->name, name, length);
    llcuda_status status = copy_options(entry, options, error);
    if (status == LLCUDA_OK) {
        pthread_mutex_lock(&models->mutex);
        struct entry **link = find(models, name);
        if (*link) {
            status =
                error_set(error, LLCUDA_INVALID_ARGUMENT, "there is a model '%s' already", name);
        } else {
            *link = entry;
        }
        pthread_mutex_unlock(&models->mutex);
    }
    if (status != LLCUDA_OK) {
        entry_free(entry);
    }
    return status;
}

/* ------------------------------------------------------------------ memory */

static uint64_t counted(const llcuda_models *models)
{
    uint64_t sum = 0;
    for (const struct entry *entry = models->entries; entry; entry = entry->next) {
        sum += entry->memory_bytes;
    }
    return sum;
}

static llcuda_status put_to_sleep(struct entry *entry, struct llcuda_error *error)
{
    llcuda_status status = llcuda_engine_sleep(entry->engine, error);
    if (status == LLCUDA_OK) {
        entry->memory_bytes = 0;
    }
    return status;
}

/* Sends the models that nobody holds to sleep, the one used longest ago first, until `bytes` fit
 * beside the rest. */
static llcuda_status make_room(llcuda_models *models, const struct entry *wanted, uint64_t bytes,
                               struct llcuda_error *error)
{
    if (bytes > models->limit_bytes) {
        return error_set(error, LLCUDA_LIMIT,
                         "model '%s' takes %llu bytes, more than the limit of %llu", wanted->name,
                         (unsigned long long)bytes, (unsigned long long)models->limit_bytes);
    }
    while (counted(models) > models->limit_bytes - bytes) {
        struct entry *oldest = NULL;
        for (struct entry *entry = models->entries; entry; entry = entry->next) {
            if (entry != wanted && entry->memory_bytes > 0 && entry->holders == 0 &&
                (!oldest || entry->used < oldest->used)) {
                oldest = entry;
            }
        }
        if (!oldest) {
            return error_set(error, LLCUDA_BUSY,
                             "the models in use leave no room for '%s', try again later",
                             wanted->name);
        }
        llcuda_status status = put_to_sleep(oldest, error);
        if (status != LLCUDA_OK) {
            return status;
        }
    }
    return LLCUDA_OK;
}

/* Opens or wakes a model. Afterwards it counts with what it really takes, and others give way once
 * more should that be more than was thought. */
static llcuda_status bring_up(llcuda_models *models, struct entry *entry,
                              struct llcuda_error *error)
{
    llcuda_status status = LLCUDA_OK;
    if (!entry->engine) {
        status = llcuda_engine_open(&entry->options, &entry->engine, error);
    }
    if (status != LLCUDA_OK || entry->memory_bytes > 0 || entry->options.vocabulary_only) {
        return status;
    }
    const llcuda_engine_info *info = llcuda_engine_get_info(entry->engine);
    status =
        make_room(models, entry, info->weight_bytes + info->kv_bytes + info->logits_bytes, error);
    if (status == LLCUDA_OK) {
        status = llcuda_engine_wake(entry->engine, error);
    }
    if (status != LLCUDA_OK) {
        return status;
    }
    llcuda_stats stats = {.size = sizeof stats};
    llcuda_engine_get_stats(entry->engine, &stats);
    status = make_room(models, entry, stats.memory_bytes, error);
    if (status != LLCUDA_OK) {
        put_to_sleep(entry, NULL);
        return status;
    }
    entry->memory_bytes = stats.memory_bytes;
    return LLCUDA_OK;
}

/* ------------------------------------------------------------------ use */

static llcuda_status not_found(const char *name, struct llcuda_error *error)
{
    return error_set(error, LLCUDA_NOT_FOUND, "there is no model '%.200s'", name);
}

llcuda_status llcuda_models_acquire(llcuda_models *models, const char *name, llcuda_engine **engine,
                                    llcuda_error *error)
{
    *engine = NULL;
    pthread_mutex_lock(&models->mutex);
    struct entry *entry = *find(models, name);
    llcuda_status status;
    if (!entry) {
        status = not_found(name, error);
    } else if ((status = bring_up(models, entry, error)) == LLCUDA_OK) {
        entry->holders++;
        entry->used = ++models->tick;
        *engine = entry->engine;
    }
    pthread_mutex_unlock(&models->mutex);
    return status;
}

void llcuda_models_release(llcuda_models *models, llcuda_engine *engine)
{
    pthread_mutex_lock(&models->mutex);
    for (struct entry *entry = models->entries; entry; entry = entry->next) {
        if (entry->engine == engine && entry->holders > 0) {
            entry->holders--;
        }
    }
    pthread_mutex_unlock(&models->mutex);
}

llcuda_status llcuda_models_sleep(llcuda_models *models, const char *name, llcuda_error *error)
{
    pthread_mutex_lock(&models->mutex);
    struct entry *entry = *find(models, name);
    llcuda_status status = LLCUDA_OK;
    if (!entry) {
        status = not_found(name, error);
    } else if (entry->holders > 0) {
        status = error_set(error, LLCUDA_BUSY, "model '%s' is in use", name);
    } else if (entry->memory_bytes > 0) {
        status = put_to_sleep(entry, error);
    }
    pthread_mutex_unlock(&models->mutex);
    return status;
}

llcuda_status llcuda_models_remove(llcuda_models *models, const char *name, llcuda_error *error)
{
    pthread_mutex_lock(&models->mutex);
    struct entry **link = find(models, name);
    struct entry *entry = *link;
    llcuda_status status = LLCUDA_OK;
    if (!entry) {
        status = not_found(name, error);
    } else if (entry->holders > 0) {
        status = error_set(error, LLCUDA_BUSY, "model '%s' is in use", name);
    } else {
        *link = entry->next;
    }
    pthread_mutex_unlock(&models->mutex);
    if (status == LLCUDA_OK) {
        entry_free(entry);
    }
    return status;
}

bool llcuda_models_get_state(llcuda_models *models, size_t index, llcuda_model_state *state)
{
    pthread_mutex_lock(&models->mutex);
    struct entry *entry = models->entries;
    while (entry && index > 0) {
        entry = entry->next;
        index--;
    }
    if (entry) {
        *state = (llcuda_model_state){
            .name = entry->name,
            .opened = entry->engine != NULL,
            .asleep = entry->engine != NULL && entry->memory_bytes == 0,
            .holders = entry->holders,
            .memory_bytes = entry->memory_bytes,
        };
    }
    pthread_mutex_unlock(&models->mutex);
    return entry != NULL;
}
