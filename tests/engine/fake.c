/* Owns the fake device and the lone run that results are compared with. One thread. */
#include "fake.h"

#include "base/clock.h"
#include "base/random.h"
#include "engine/parameters.h"

static const uint32_t end_tokens[] = {FAKE_END_TOKEN};

/* ------------------------------------------------------------------ the device */

/* The entry of a position from the entry before it, the last entries of the blocks before its own,
 * and its token. */
static uint64_t entry_begin(uint64_t previous, uint32_t token)
{
    return random_mix(previous + 0x9E3779B97F4A7C15ull * (token + 1));
}

static uint64_t entry_add(uint64_t entry, uint64_t block_end, uint32_t block)
{
    return entry + random_mix(block_end + block);
}

static void make_logits(uint64_t entry, uint32_t token, bool nan_token, float *logits,
                        uint32_t count)
{
    for (uint32_t i = 0; i < count; i += 4) {
        uint64_t bits = random_mix(entry + i);
        for (uint32_t j = i; j < count && j < i + 4; j++, bits >>= 16) {
            logits[j] = (float)(bits & 0xFFFF) * (8.0f / 65536.0f) - 4.0f;
        }
    }
    if (nan_token && token == FAKE_NAN_TOKEN) {
        logits[count / 2] = NAN;
    }
}

static void make_hidden(uint64_t entry, float *hidden)
{
    for (uint32_t i = 0; i < FAKE_EMBEDDING; i++) {
        hidden[i] = (float)(random_mix(entry + 1000 + i) & 0xFFFFFF) * 0x1p-22f - 2.0f;
    }
}

static const float *hidden(const struct device_model *base, uint64_t *stride)
{
    *stride = FAKE_EMBEDDING;
    return ((const struct fake_model *)base)->hidden;
}

static llcuda_status step(struct device_model *base, const struct step_batch *batch,
                          const float **logits, struct llcuda_error *error)
{
    struct fake_model *model = (struct fake_model *)base;
    llcuda_status status = step_batch_check(batch, base, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    model->steps++;
    model->rows += batch->row_count;
    model->weight_bytes_read += 1000;
    if (model->fail_at_step == model->steps) {
        return error_set(error, LLCUDA_DEVICE, "the fake device fails on demand");
    }
    uint32_t wanted = 0;
    uint32_t hidden_wanted = 0;
    for (uint32_t row = 0; row < batch->row_count; row++) {
        uint32_t position = batch->positions[row];
        const uint32_t *table =
            batch->block_tables + (size_t)batch->sequences[row] * batch->block_table_stride;
        uint64_t previous = 0;
        if (position > 0) {
            uint32_t before = position - 1;
            previous = model->cache[(size_t)table[before / KV_BLOCK_TOKENS] * KV_BLOCK_TOKENS +
                                    before % KV_BLOCK_TOKENS];
        }
        uint64_t entry = entry_begin(previous, batch->tokens[row]);
        for (uint32_t b = 0; b < position / KV_BLOCK_TOKENS; b++) {
            entry = entry_add(
                entry, model->cache[(size_t)table[b] * KV_BLOCK_TOKENS + KV_BLOCK_TOKENS - 1], b);
        }
        model->cache[(size_t)table[position / KV_BLOCK_TOKENS] * KV_BLOCK_TOKENS +
                     position % KV_BLOCK_TOKENS] = entry;
        if (wanted < batch->logits_count && batch->logits_rows[wanted] == row) {
            make_logits(entry, batch->tokens[row], model->nan_token,
                        model->logits + (size_t)wanted * model->plan.vocabulary_size,
                        model->plan.vocabulary_size);
            wanted++;
        }
        if (hidden_wanted < batch->hidden_count && batch->hidden_rows[hidden_wanted] == row) {
            make_hidden(entry, model->hidden + (size_t)hidden_wanted * FAKE_EMBEDDING);
            hidden_wanted++;
        }
    }
    *logits = model->logits;
    return LLCUDA_OK;
}

/* ------------------------------------------------------------------ one step ahead */

static bool copy_array(void **copy, const void *data, size_t bytes)
{
    free(*copy);
    *copy = malloc(bytes ? bytes : 1);
    if (*copy && bytes > 0) {
        memcpy(*copy, data, bytes);
    }
    return *copy != NULL;
}

/* Keeps a copy of the batch: nothing is computed before the step is waited for, so that whoever
 * looks at a result too early finds the one before. */
static llcuda_status step_begin(struct device_model *base, const struct step_batch *batch,
                                struct llcuda_error *error)
{
    struct fake_model *model = (struct fake_model *)base;
    assert_false(model->flying);
    struct step_batch *own = &model->batch;
    size_t rows = batch->row_count * sizeof(uint32_t);
    *own = *batch;
    bool good =
        copy_array(&model->copies[0], batch->tokens, rows) &&
        copy_array(&model->copies[1], batch->positions, rows) &&
        copy_array(&model->copies[2], batch->sequences, rows) &&
        copy_array(&model->copies[3], batch->block_tables,
                   (size_t)batch->sequence_count * batch->block_table_stride * sizeof(uint32_t)) &&
        copy_array(&model->copies[4], batch->logits_rows, batch->logits_count * sizeof(uint32_t)) &&
        copy_array(&model->copies[5], batch->hidden_rows, batch->hidden_count * sizeof(uint32_t));
    if (!good) {
        return error_no_memory(error, "a copy of the batch", rows);
    }
    own->tokens = model->copies[0];
    own->positions = model->copies[1];
    own->sequences = model->copies[2];
    own->block_tables = model->copies[3];
    own->logits_rows = model->copies[4];
    own->hidden_rows = model->copies[5];
    if (model->fail_at_step == model->steps + 1 && model->steps % 2 == 0) {
        model->steps++;
        return error_set(error, LLCUDA_DEVICE, "the fake device fails on demand, at the beginning");
    }
    model->flying = true;
    return LLCUDA_OK;
}

static llcuda_status step_end(struct device_model *base, const float **logits,
                              struct llcuda_error *error)
{
    struct fake_model *model = (struct fake_model *)base;
    assert_true(model->flying);
    if (model->on_end) {
        model->on_end(model, model->on_end_user);
    }
    model->flying = false;
    return step(base, &model->batch, logits, error);
}

static void parallel(struct device_model *base, uint64_t item_count,
                     void (*task)(void *context, uint32_t worker, uint64_t item), void *context)
{
    ((struct fake_model *)base)->parallel_runs++;
    for (uint64_t item = item_count; item-- > 0;) { /* any order is allowed */
        task(context, 0, item);
    }
}

static llcuda_status copy_blocks(struct device_model *base, const uint32_t *from,
                                 const uint32_t *to, uint32_t count, struct llcuda_error *error)
{
    struct fake_model *model = (struct fake_model *)base;
    assert_false(model->flying);
    for (uint32_t i = 0; i < count; i++) {
        if (from[i] >= base->options.kv_block_count || to[i] >= base->options.kv_block_count) {
            return error_set(error, LLCUDA_INVALID_ARGUMENT, "no such block");
        }
        memcpy(model->cache + (size_t)to[i] * KV_BLOCK_TOKENS,
               model->cache + (size_t)from[i] * KV_BLOCK_TOKENS,
               KV_BLOCK_TOKENS * sizeof *model->cache);
    }
    return LLCUDA_OK;
}

static uint64_t weight_bytes_read(const struct device_model *base)
{
    return ((const struct fake_model *)base)->weight_bytes_read;
}

static const struct device_interface interface = {
    .step = step,
    .copy_blocks = copy_blocks,
    .weight_bytes_read = weight_bytes_read,
    .hidden = hidden,
};

static const struct device_interface interface_ahead = {
    .step = step,
    .copy_blocks = copy_blocks,
    .weight_bytes_read = weight_bytes_read,
    .hidden = hidden,
    .step_begin = step_begin,
    .step_end = step_end,
    .parallel = parallel,
};

void fake_run_ahead(struct fake_model *model)
{
    model->base.interface = &interface_ahead;
}

struct fake_model *fake_model_make(const struct core_options *options, uint32_t vocabulary_size)
{
    struct fake_model *model = calloc(1, sizeof *model);
    if (!model) {
        return NULL;
    }
    const struct scheduler_options *scheduler = &options->scheduler;
    model->plan.vocabulary_size = vocabulary_size;
    model->base.interface = &interface;
    model->base.plan = &model->plan;
    model->base.options = (struct device_model_options){
        .kv_block_count = scheduler->block_count,
        .rows_max = scheduler->rows_max,
        .logits_rows_max = scheduler->running_max,
    };
    model->cache = calloc((size_t)scheduler->block_count * KV_BLOCK_TOKENS, sizeof *model->cache);
    model->logits = calloc((size_t)scheduler->running_max * vocabulary_size, sizeof(float));
    model->hidden = calloc((size_t)scheduler->rows_max * FAKE_EMBEDDING, sizeof(float));
    if (!model->cache || !model->logits || !model->hidden) {
        fake_model_free(model);
        return NULL;
    }
    return model;
}

void fake_model_free(struct fake_model *model)
{
    if (model) {
        for (size_t i = 0; i < sizeof model->copies / sizeof model->copies[0]; i++) {
            free(model->copies[i]);
        }
        free(model->hidden);
        free(model->logits);
        free(model->cache);
        free(model);
    }
}

/* ------------------------------------------------------------------ the codec */

void fake_text(uint32_t token, struct buffer *out)
{
    if (token == FAKE_END_TOKEN || token == 2) {
        return;
    }
    for (uint32_t i = 0; i <= token % 3; i++) {
        buffer_append_byte(out, (char)('a' + (token / 3 + i) % 5));
    }
}

static llcuda_status stream_create(void *user, bool skip_special, const uint32_t *context,
                                   size_t context_count, void **stream, struct llcuda_error *error)
{
    (void)user;
    (void)skip_special;
    (void)context;
    (void)context_count;
    *stream = malloc(8);
    return *stream ? LLCUDA_OK : error_no_memory(error, "a stream", 8);
}

static llcuda_status stream_push(void *stream, uint32_t id, struct buffer *out,
                                 struct llcuda_error *error)
{
    (void)stream;
    (void)error;
    fake_text(id, out);
    return LLCUDA_OK;
}

static llcuda_status stream_finish(void *stream, struct buffer *out, struct llcuda_error *error)
{
    (void)stream;
    (void)out;
    (void)error;
    return LLCUDA_OK;
}

const struct text_codec fake_codec = {
    .stream_create = stream_create,
    .stream_destroy = free,
    .stream_push = stream_push,
    .stream_finish = stream_finish,
    .piece_bytes_max = 8,
};

/* ------------------------------------------------------------------ the engine */

static uint64_t fake_clock(void *user)
{
    return ((struct fake_engine *)user)->now_ns;
}

bool fake_core_open(struct engine_core *core, struct core_options *options, struct mailbox *mailbox,
                    struct fake_model **model, struct request_setup *setup)
{
    struct llcuda_error error;
    options->piece_bytes_max = fake_codec.piece_bytes_max;
    options->mailbox = mailbox;
    *model = fake_model_make(options, options->vocabulary_size);
    if (!*model) {
        return false;
    }
    if (core_init(core, options, &error) != LLCUDA_OK) {
        assert_int_equal(error.status, LLCUDA_OUT_OF_MEMORY);
        fake_model_free(*model);
        return false;
    }
    core_set_device(core, &(*model)->base);
    *setup = (struct request_setup){
        .vocabulary_size = options->vocabulary_size,
        .context_length = options->scheduler.context_max,
        .end_tokens = end_tokens,
        .end_token_count = 1,
        .codec = &fake_codec,
        .mailbox = mailbox,
        .embedding_length = FAKE_EMBEDDING,
        .pooling = LLCUDA_POOLING_LAST,
    };
    return true;
}

bool fake_engine_open(struct fake_engine *engine, const struct scheduler_options *options,
                      uint32_t vocabulary_size)
{
    *engine = (struct fake_engine){.now_ns = 1000000};
    engine->mailbox = mailbox_create();
    struct core_options core = {
        .scheduler = *options,
        .vocabulary_size = vocabulary_size,
        .sampler_workers = 3,
        .clock_ns = fake_clock,
        .clock_user = engine,
    };
    if (!engine->mailbox) {
        return false;
    }
    if (!fake_core_open(&engine->core, &core, engine->mailbox, &engine->model, &engine->setup)) {
        mailbox_release(engine->mailbox);
        return false;
    }
    return true;
}

void fake_engine_close(struct fake_engine *engine)
{
    core_take_mail(&engine->core);
    core_end_all(&engine->core, LLCUDA_CANCELLED, "closed");
    core_deinit(&engine->core);
    fake_model_free(engine->model);
    atomic_store(&engine->mailbox->stopped, true);
    mailbox_release(engine->mailbox);
}

llcuda_request *fake_post(const struct request_setup *setup, const llcuda_request_options *options,
                          uint64_t now_ns, llcuda_status *status)
{
    struct llcuda_error error;
    llcuda_request *request;
    *status = parameters_check_request(options, setup->vocabulary_size, &error);
    if (*status == LLCUDA_OK) {
        *status =
            request_create(setup, options, options->prompt_tokens, options->prompt_token_count,
                           text_view_of("prompt"), NULL, now_ns, &request, &error);
    }
    if (*status != LLCUDA_OK) {
        return NULL;
    }
    atomic_fetch_add(&setup->mailbox->sequences_live, options->choice_count);
    mailbox_post(setup->mailbox, request, MAIL_SUBMIT);
    return request;
}

llcuda_request *fake_submit(struct fake_engine *engine, const llcuda_request_options *options,
                            llcuda_status *status)
{
    return fake_post(&engine->setup, options, engine->now_ns, status);
}

/* ------------------------------------------------------------------ the lone run */

/* Cuts the text at the first completed stop string that does not begin before `from`, found the
 * slow way. */
static bool cut_at_stop(struct buffer *text, size_t from, size_t fresh,
                        const llcuda_request_options *options)
{
    for (size_t end = fresh + 1; end <= text->length; end++) {
        size_t best = 0;
        for (uint32_t s = 0; s < options->stop_count; s++) {
            size_t bytes = options->stop[s].bytes;
            if (from + bytes <= end && bytes > best &&
                memcmp(text->data + end - bytes, options->stop[s].data, bytes) == 0) {
                best = bytes;
            }
        }
        if (best > 0) {
            text->length = end - best;
            return true;
        }
    }
    return false;
}

static bool ends(const llcuda_request_options *options, uint32_t token)
{
    if (token == FAKE_END_TOKEN && !options->ignore_eos) {
        return true;
    }
    for (uint32_t i = 0; i < options->stop_token_count; i++) {
        if (options->stop_tokens[i] == token) {
            return true;
        }
    }
    return false;
}

struct lone {
    uint64_t *entries;
    uint32_t *tokens;
    uint32_t known;
};

static uint64_t lone_append(struct lone *lone, uint32_t token)
{
    uint32_t position = lone->known++;
    lone->tokens[position] = token;
    uint64_t entry = entry_begin(position > 0 ? lone->entries[position - 1] : 0, token);
    for (uint32_t b = 0; b < position / KV_BLOCK_TOKENS; b++) {
        entry = entry_add(entry, lone->entries[b * KV_BLOCK_TOKENS + KV_BLOCK_TOKENS - 1], b);
    }
    return lone->entries[position] = entry;
}

void fake_answer_make(const struct request_setup *setup, const llcuda_request_options *options,
                      uint64_t seed, uint32_t index, bool nan_token, struct fake_answer *answer)
{
    /* The sampler is tested on its own; a request of one choice gives its parameters. */
    struct llcuda_error error;
    llcuda_request_options alone = *options;
    alone.choice_count = 1;
    llcuda_request *request;
    assert_ok(request_create(setup, &alone, options->prompt_tokens, options->prompt_token_count,
                             text_view_of(""), NULL, 1, &request, &error),
              error);
    uint32_t token_max = request->choices[0].sequence.token_max;
    struct sampler_workspace workspace;
    assert_ok(
        sampler_workspace_init(&workspace, setup->vocabulary_size, setup->context_length, &error),
        error);
    struct sampler *sampler = &request->choices[0].sampler;
    sampler->seed = sampler_choice_seed(seed, index);
    struct lone lone = {calloc(token_max, sizeof(uint64_t)), calloc(token_max, sizeof(uint32_t)),
                        0};
    float *logits = calloc(setup->vocabulary_size, sizeof *logits);
    *answer = (struct fake_answer){.tokens = calloc(token_max, sizeof(uint32_t))};
    assert_true(lone.entries && lone.tokens && logits && answer->tokens);
    uint32_t prompt = (uint32_t)options->prompt_token_count;
    size_t from = 0; /* where text begins to count for stop strings */
    uint64_t entry = 0;
    for (uint32_t i = 0; i < prompt; i++) {
        entry = lone_append(&lone, options->prompt_tokens[i]);
    }
    while (answer->reason == LLCUDA_FINISH_NONE) {
        uint32_t token;
        make_logits(entry, lone.tokens[lone.known - 1], nan_token, logits, setup->vocabulary_size);
        if (sampler_choose(sampler, &workspace, logits, lone.tokens, lone.known, prompt, &token,
                           NULL, &error) != LLCUDA_OK) {
            answer->reason = LLCUDA_FINISH_ERROR;
            break;
        }
        answer->tokens[answer->count++] = token;
        bool end = ends(options, token);
        size_t fresh = answer->text.length;
        from = answer->count <= options->min_tokens ? fresh : from;
        if (!end) {
            fake_text(token, &answer->text);
        }
        entry = lone_append(&lone, token);
        sampler_accept(sampler, lone.tokens, lone.known, prompt);
        if (end || (answer->count >= options->min_tokens &&
                    cut_at_stop(&answer->text, from, fresh, options))) {
            answer->reason = LLCUDA_FINISH_STOP;
        } else if (lone.known == token_max) {
            answer->reason = LLCUDA_FINISH_LENGTH;
        }
    }
    free(logits);
    free(lone.tokens);
    free(lone.entries);
    sampler_workspace_deinit(&workspace);
    request_unref(request);
}

void fake_embedding_make(const llcuda_request_options *options, float *embedding)
{
    uint32_t count = (uint32_t)options->prompt_token_count;
    struct lone lone = {calloc(count, sizeof(uint64_t)), calloc(count, sizeof(uint32_t)), 0};
    assert_true(lone.entries && lone.tokens);
    double sums[FAKE_EMBEDDING] = {0};
    double squares = 0;
    for (uint32_t i = 0; i < count; i++) {
        float state[FAKE_EMBEDDING];
        make_hidden(lone_append(&lone, options->prompt_tokens[i]), state);
        for (uint32_t k = 0; k < FAKE_EMBEDDING; k++) {
            if (options->embedding == LLCUDA_POOLING_MEAN) {
                sums[k] += (double)state[k];
            } else if (i + 1 == count) {
                sums[k] = (double)state[k];
            }
        }
    }
    for (uint32_t k = 0; k < FAKE_EMBEDDING; k++) {
        squares += sums[k] * sums[k];
    }
    for (uint32_t k = 0; k < FAKE_EMBEDDING; k++) {
        double mean = options->embedding == LLCUDA_POOLING_MEAN ? sums[k] / count : sums[k];
        embedding[k] = (float)(options->embedding_raw ? mean : sums[k] / sqrt(squares));
    }
    free(lone.tokens);
    free(lone.entries);
}

void fake_answer_free(struct fake_answer *answer)
{
    free(answer->tokens);
    buffer_deinit(&answer->text);
}
