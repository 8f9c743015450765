/* Owns opening, closing, sleeping and waking of an engine, and submission of requests: everything
 * that happens in callers' threads. Invariant: the core belongs to the engine thread from its start
 * to its end; callers reach it through the mailbox only, and read its published counters. */
#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "build_config.h"
#include "engine/parameters.h"

const char *llcuda_version(void)
{
    return LLCUDA_VERSION;
}

void llcuda_free(void *memory)
{
    free(memory);
}

/* ------------------------------------------------------------------ opening */

/* The caller may drop its options after opening: texts are copied. */
static bool copy_options(struct llcuda_engine *engine)
{
    llcuda_engine_options *options = &engine->options;
    const char **texts[] = {&options->model,
                            &options->device,
                            &options->chat_template,
                            &options->gpu_library_path,
                            &options->gpu_kernel_cache,
                            &options->gpu_kernel_pack};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (*texts[i]) {
            *texts[i] = arena_copy_text(&engine->arena, text_view_of(*texts[i])).data;
            if (!*texts[i]) {
                return false;
            }
        }
    }
    return true;
}

static void write_log(void *user, enum log_level level, const char *message)
{
    const struct llcuda_engine *engine = user;
    engine->options.log(engine->options.log_user, (llcuda_log_level)level, message);
}

static bool source_damaged(void *user)
{
    return model_source_damaged(user);
}

static llcuda_status make_core(struct llcuda_engine *engine, struct llcuda_error *error)
{
    struct loaded_model *model = &engine->model;
    struct device_info device;
    struct llcuda_error reason = {0};
    device_describe(model->device, &device);
    struct sizing_input input = {
        .options = &engine->options,
        .kv_block_bytes = device_kv_block_bytes(model->plan, model->kv_dtype),
        .weight_bytes = model->info.weight_bytes,
        .model_context_length = model->plan->context_length,
        .vocabulary_size = model->vocabulary_size,
        .piece_bytes_max = model->codec.piece_bytes_max,
        .memory_free_bytes = device.memory_free_bytes,
        .sampler_workers = sizing_workers(model->device),
        .step_rows = device.step_rows,
    };
    llcuda_status status = sizing_compute(&input, &engine->sizing, &reason);
    if (status != LLCUDA_OK && loaded_model_fall_back(model, &engine->options, &reason)) {
        device_describe(model->device, &device);
        input.memory_free_bytes = device.memory_free_bytes;
        input.sampler_workers = sizing_workers(model->device);
        input.step_rows = device.step_rows;
        status = sizing_compute(&input, &engine->sizing, &reason);
    }
    if (status != LLCUDA_OK) {
        if (error) {
            *error = reason;
        }
        return status;
    }
    struct core_options core;
    sizing_core_options(&input, &engine->sizing, &core);
    core.mailbox = engine->mailbox;
    core.step_void = source_damaged;
    core.step_void_user = model->source;
    model->device_options = (struct device_model_options){
        .kv_block_count = engine->sizing.kv_block_count,
        .kv_dtype = model->kv_dtype,
        .rows_max = engine->sizing.rows_max,
        .logits_rows_max = engine->sizing.logits_rows_max,
    };
    status = core_init(&engine->core, &core, error);
    engine->core_made = status == LLCUDA_OK;
    return status;
}

/* NULL: the model sleeps. */
static void publish_memory(struct llcuda_engine *engine, const struct device_model *model)
{
    struct device_memory memory = {0};
    uint64_t bytes = 0;
    if (model) {
        device_model_memory(model, &memory);
        bytes = device_model_memory_bytes(model);
        atomic_store(&engine->memory_limit_bytes, memory.limit_bytes);
    }
    for (int kind = 0; kind < DEVICE_MEMORY_KIND_COUNT; kind++) {
        atomic_store(&engine->memory_kind_bytes[kind], memory.bytes[kind]);
    }
    atomic_store(&engine->memory_bytes, bytes);
}

llcuda_status engine_load_weights(struct llcuda_engine *engine, struct llcuda_error *error)
{
    llcuda_status status = loaded_model_wake(&engine->model, &engine->options, error);
    if (status == LLCUDA_OK) {
        publish_memory(engine, engine->model.device_model);
    }
    return status;
}

void engine_drop_weights(struct llcuda_engine *engine)
{
    loaded_model_sleep(&engine->model);
    publish_memory(engine, NULL);
}

static void make_setup(struct llcuda_engine *engine)
{
    engine->setup = (struct request_setup){
        .vocabulary_size = engine->model.vocabulary_size,
        .context_length = engine->sizing.context_length,
        .end_tokens = engine->model.end_tokens,
        .end_token_count = engine->model.end_token_count,
        .codec = &engine->model.codec,
        .mailbox = engine->mailbox,
        .embedding_length = engine->model.device && device_gives_hidden(engine->model.device)
                                ? engine->model.plan->embedding_length
                                : 0,
        .pooling = engine->model.pooling,
    };
}

static void tell_context(const struct llcuda_engine *engine)
{
    const struct loaded_model *model = &engine->model;
    if (model->plan && engine->sizing.context_length > model->plan->context_length) {
        log_message(
            &model->log, LOG_WARN,
            "the model was made for %u positions, not %u: beyond them it may write nonsense",
            model->plan->context_length, engine->sizing.context_length);
    }
}

static llcuda_status open_parts(struct llcuda_engine *engine, struct llcuda_error *error)
{
    uint64_t begin = clock_now_ns();
    if (!copy_options(engine)) {
        return error_no_memory(error, "the options", 4096);
    }
    if (engine->options.log) {
        engine->model.log =
            (struct log_sink){write_log, engine, (enum log_level)engine->options.log_level};
    }
    llcuda_status status = loaded_model_open(&engine->model, &engine->options, error);
    if (status == LLCUDA_OK && !engine->options.vocabulary_only) {
        status = make_core(engine, error);
        if (status == LLCUDA_OK && !engine->options.asleep) {
            status = engine_load_weights(engine, error);
        }
        if (status == LLCUDA_OK) {
            core_set_device(&engine->core, engine->model.device_model);
            status = engine_thread_start(engine, error);
        }
    }
    if (status != LLCUDA_OK) {
        return status;
    }
    make_setup(engine);
    tell_context(engine);
    return engine_make_info(engine, clock_ms(clock_now_ns() - begin), error);
}

llcuda_status llcuda_engine_open(const llcuda_engine_options *options, llcuda_engine **engine,
                                 llcuda_error *error)
{
    *engine = NULL;
    llcuda_engine_options complete;
    llcuda_status status = parameters_read_engine(options, &complete, error);
    if (status == LLCUDA_OK) {
        status = parameters_check_engine(&complete, error);
    }
    if (status != LLCUDA_OK) {
        return status;
    }
    struct llcuda_engine *made = calloc(1, sizeof *made);
    struct mailbox *mailbox = mailbox_create();
    if (!made || !mailbox || !wakeup_init(&made->reached)) {
        free(made);
        if (mailbox) {
            mailbox_release(mailbox);
        }
        return error_no_memory(error, "an engine", sizeof *made);
    }
    made->options = complete;
    made->mailbox = mailbox;
    arena_init(&made->arena, 0);
    pthread_mutex_init(&made->control, NULL);
    status = open_parts(made, error);
    if (status != LLCUDA_OK) {
        llcuda_engine_close(made);
        return status;
    }
    *engine = made;
    return LLCUDA_OK;
}

void llcuda_engine_close(llcuda_engine *engine)
{
    if (!engine) {
        return;
    }
    atomic_store(&engine->mailbox->closing, true);
    engine_thread_stop(engine);
    /* From here on late cancellations are dropped by whoever releases the handle. */
    atomic_store(&engine->mailbox->stopped, true);
    llcuda_request *late = mailbox_take(engine->mailbox);
    while (late) {
        llcuda_request *next = late->mail_next;
        atomic_store(&late->mail_flags, 0);
        request_unref(late);
        late = next;
    }
    if (engine->core_made) {
        core_deinit(&engine->core);
    }
    loaded_model_close(&engine->model);
    mailbox_release(engine->mailbox);
    pthread_mutex_destroy(&engine->control);
    wakeup_deinit(&engine->reached);
    arena_deinit(&engine->arena);
    free(engine);
}

llcuda_status llcuda_engine_sleep(llcuda_engine *engine, llcuda_error *error)
{
    if (engine->options.vocabulary_only) {
        return error_set(error, LLCUDA_UNSUPPORTED, "the engine has no weights to put to sleep");
    }
    pthread_mutex_lock(&engine->control);
    if (atomic_load(&engine->actual) == ENGINE_AWAKE) {
        engine_thread_become(engine, ENGINE_ASLEEP);
        engine_drop_weights(engine);
    }
    pthread_mutex_unlock(&engine->control);
    return LLCUDA_OK;
}

llcuda_status llcuda_engine_wake(llcuda_engine *engine, llcuda_error *error)
{
    if (engine->options.vocabulary_only) {
        return error_set(error, LLCUDA_UNSUPPORTED, "the engine has no weights to wake");
    }
    llcuda_status status = LLCUDA_OK;
    pthread_mutex_lock(&engine->control);
    if (atomic_load(&engine->actual) == ENGINE_ASLEEP) {
        status = engine_load_weights(engine, error);
        if (status == LLCUDA_OK) {
            engine_thread_become(engine, ENGINE_AWAKE);
        }
    }
    pthread_mutex_unlock(&engine->control);
    return status;
}

/* ------------------------------------------------------------------ requests */

void llcuda_engine_request_defaults(const llcuda_engine *engine, llcuda_request_options *options,
                                    size_t size)
{
    llcuda_request_options complete;
    llcuda_request_options_init(&complete, sizeof complete);
    loaded_model_defaults(&engine->model, &complete);
    memset(options, 0, size);
    memcpy(options, &complete, size < sizeof complete ? size : sizeof complete);
    options->size = size;
}

/* What a submission makes on the way; all of it is copied into the request. */
struct submission {
    struct buffer text; /* the rendered messages */
    struct token_ids ids;
    uint8_t *breakers;
};

/* The prompt in ids, from whichever form it has. `text` is what echo shows. */
static llcuda_status read_prompt(const struct llcuda_engine *engine,
                                 const llcuda_request_options *options, struct submission *s,
                                 struct text_view *text, struct llcuda_error *error)
{
    const struct loaded_model *model = &engine->model;
    if (options->prompt) {
        *text = text_view_make(options->prompt, options->prompt_bytes);
        return options->embedding == LLCUDA_POOLING_NONE
                   ? loaded_model_encode_prompt(model, *text, options->add_bos, options->special,
                                                &s->ids, error)
                   : loaded_model_encode_whole(model, *text, options->add_bos != LLCUDA_NO,
                                               options->special, &s->ids, error);
    }
    if (options->messages) {
        llcuda_status status = loaded_model_render(
            model, text_view_make(options->messages, options->messages_bytes), &s->text, error);
        *text = buffer_view(&s->text);
        return status == LLCUDA_OK
                   ? loaded_model_encode_prompt(model, *text, LLCUDA_NO, true, &s->ids, error)
                   : status;
    }
    for (size_t i = 0; i < options->prompt_token_count; i++) {
        if (!token_ids_append(&s->ids, options->prompt_tokens[i])) {
            return error_no_memory(error, "a prompt", 4 * options->prompt_token_count);
        }
    }
    return options->echo ? tokenizer_decode(model->tokenizer, s->ids.data, s->ids.count, true,
                                            &s->text, error)
                         : LLCUDA_OK;
}

static llcuda_status make_request(struct llcuda_engine *engine,
                                  const llcuda_request_options *options, struct submission *s,
                                  llcuda_request **request, struct llcuda_error *error)
{
    uint64_t now = clock_now_ns();
    llcuda_status status = parameters_check_request(options, engine->setup.vocabulary_size, error);
    struct text_view text = {0};
    if (status == LLCUDA_OK) {
        status = read_prompt(engine, options, s, &text, error);
    }
    if (status != LLCUDA_OK) {
        return status;
    }
    if (!text.data) {
        text = buffer_view(&s->text);
    }
    const uint8_t *breakers = NULL;
    if (options->dry_multiplier > 0) {
        if (options->dry_breakers) {
            s->breakers = loaded_model_breakers(&engine->model, options->dry_breakers,
                                                options->dry_breaker_count);
        }
        breakers =
            options->dry_breakers ? s->breakers : loaded_model_default_breakers(&engine->model);
        if (!breakers) {
            return error_no_memory(error, "a bitmap of tokens", engine->setup.vocabulary_size / 8);
        }
    }
    return request_create(&engine->setup, options, s->ids.data, s->ids.count, text, breakers, now,
                          request, error);
}

/* Reserves places for the request's choices among those that wait or run. */
static bool reserve(struct llcuda_engine *engine, uint32_t count)
{
    _Atomic uint32_t *live = &engine->mailbox->sequences_live;
    uint32_t now = atomic_load(live);
    do {
        if (count > engine->sizing.sequence_max || now > engine->sizing.sequence_max - count) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(live, &now, now + count));
    return true;
}

static llcuda_status submit(struct llcuda_engine *engine, const llcuda_request_options *given,
                            llcuda_request **request, struct llcuda_error *error)
{
    if (engine->options.vocabulary_only) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "the engine was opened for its vocabulary only");
    }
    if (atomic_load(&engine->mailbox->closing)) {
        return error_set(error, LLCUDA_CANCELLED, "the engine is being closed");
    }
    llcuda_request_options options;
    llcuda_status status = parameters_read_request(given, &options, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    struct submission s = {0};
    llcuda_request *made = NULL;
    status = make_request(engine, &options, &s, &made, error);
    free(s.breakers);
    token_ids_deinit(&s.ids);
    buffer_deinit(&s.text);
    if (status != LLCUDA_OK) {
        return status;
    }
    if (!reserve(engine, made->choice_count)) {
        request_unref(made);
        return error_set(error, LLCUDA_BUSY, "the queue of %u is full, try again later",
                         engine->sizing.sequence_max);
    }
    mailbox_post(engine->mailbox, made, MAIL_SUBMIT);
    *request = made;
    return LLCUDA_OK;
}

llcuda_status llcuda_submit(llcuda_engine *engine, const llcuda_request_options *options,
                            llcuda_request **request, llcuda_error *error)
{
    *request = NULL;
    llcuda_status status = submit(engine, options, request, error);
    if (status != LLCUDA_OK) {
        atomic_fetch_add(&engine->rejected, 1);
    }
    return status;
}
