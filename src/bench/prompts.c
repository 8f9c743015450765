/* Owns the vocabulary and the data sets that prompts come from. A prompt is a pure function of the
 * set, the seed and its number: every engine of a repeat is asked the same. */
#include "bench/prompts.h"

#include <math.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/json.h"
#include "base/random.h"

#define DATASET_BYTES_MAX (256ull << 20)
#define TRACE_MAX         1000000u

/* What a file gave: a run of ids, cut into entries where it has some. */
struct dataset {
    const char *path; /* of the workload, borrowed: its identity */
    uint32_t *ids;
    size_t id_count;
    struct entry {
        uint64_t begin, due_ns; /* trace: when; length is then the prompt's */
        uint32_t length, output;
    } * entries;
    uint64_t entry_count;
};

struct prompts {
    llcuda_engine *engine; /* vocabulary only; NULL: words */
    uint32_t *plain;       /* ids that have text of their own */
    uint32_t plain_count;
    struct dataset datasets[CONFIG_WORKLOAD_MAX];
    uint32_t dataset_count;
};

static const char *const words[] = {"time",  "people", "water", "light",  "house", "number", "word",
                                    "work",  "place",  "year",  "letter", "story", "river",  "city",
                                    "night", "paper",  "music", "garden", "ship",  "winter"};
#define WORD_COUNT (sizeof words / sizeof words[0])

static const char *const sentences[] = {
    "What is 2+2?",
    "Once upon a time there was a small",
    "What is 17+25?",
    "The quick brown fox",
    "How many minutes are 3 hours?",
    "What is 9 x 7?",
    "Write a JSON object with the name and the age of a person:",
    "Tell me a short story about a cat.",
};
#define SENTENCE_COUNT (sizeof sentences / sizeof sentences[0])

static uint64_t draw(uint64_t seed, uint64_t index, uint64_t position)
{
    return random_mix(seed ^ random_mix(index * 0x9E3779B97F4A7C15ull + position));
}

static llcuda_status find_plain_ids(struct prompts *prompts, struct llcuda_error *error)
{
    uint32_t size = llcuda_engine_get_info(prompts->engine)->vocabulary_size;
    prompts->plain = malloc((size ? size : 1) * sizeof *prompts->plain);
    if (!prompts->plain) {
        return error_no_memory(error, "a list of tokens", size * sizeof *prompts->plain);
    }
    for (uint32_t id = 0; id < size; id++) {
        char *text = NULL;
        size_t bytes = 0;
        if (!llcuda_detokenize(prompts->engine, &id, 1, false, &text, &bytes, NULL) && bytes) {
            prompts->plain[prompts->plain_count++] = id;
        }
        llcuda_free(text);
    }
    return LLCUDA_OK;
}

llcuda_status prompts_open(const char *model, const void *builtin, uint64_t builtin_bytes,
                           struct prompts **out, struct llcuda_error *error)
{
    llcuda_engine_options options;
    struct prompts *prompts = calloc(1, sizeof *prompts);
    llcuda_status status = LLCUDA_OK;
    if (!prompts) {
        return error_no_memory(error, "prompts", sizeof *prompts);
    }
    llcuda_engine_options_init(&options, sizeof options);
    options.vocabulary_only = true;
    if (strcmp(model, "builtin") == 0) {
        options.builtin_model = builtin;
        options.builtin_model_bytes = builtin_bytes;
    } else {
        options.model = model;
    }
    if (!llcuda_engine_open(&options, &prompts->engine, NULL)) {
        status = find_plain_ids(prompts, error);
    }
    if (status) {
        prompts_destroy(prompts);
        return status;
    }
    *out = prompts;
    return LLCUDA_OK;
}

void prompts_destroy(struct prompts *prompts)
{
    if (!prompts) {
        return;
    }
    for (uint32_t i = 0; i < prompts->dataset_count; i++) {
        free(prompts->datasets[i].ids);
        free(prompts->datasets[i].entries);
    }
    llcuda_engine_close(prompts->engine);
    free(prompts->plain);
    free(prompts);
}

bool prompts_have_ids(const struct prompts *prompts)
{
    return prompts->plain_count > 0;
}

static const struct dataset *dataset_of(const struct prompts *prompts,
                                        const struct config_workload *workload)
{
    for (uint32_t i = 0; workload->dataset_path && i < prompts->dataset_count; i++) {
        if (prompts->datasets[i].path == workload->dataset_path) {
            return &prompts->datasets[i];
        }
    }
    return NULL;
}

static bool append_ids(struct prompts *prompts, struct dataset *dataset, struct text_view text,
                       uint32_t *count)
{
    uint32_t *ids = NULL;
    size_t length = 0;
    if (llcuda_tokenize(prompts->engine, text.data, text.length, LLCUDA_MODEL_DEFAULT, false, &ids,
                        &length, NULL) ||
        length > UINT32_MAX / 2) {
        return false;
    }
    uint32_t *grown = realloc(dataset->ids, (dataset->id_count + length + 1) * sizeof *grown);
    if (grown) {
        memcpy(grown + dataset->id_count, ids, length * sizeof *ids);
        dataset->ids = grown;
        dataset->id_count += length;
    }
    *count = (uint32_t)length;
    llcuda_free(ids);
    return grown != NULL;
}

static bool append_entry(struct dataset *dataset, const struct entry *entry)
{
    if ((dataset->entry_count & (dataset->entry_count - 1)) == 0) {
        uint64_t capacity = dataset->entry_count ? dataset->entry_count * 2 : 1;
        struct entry *grown = realloc(dataset->entries, capacity * sizeof *grown);
        if (!grown) {
            return false;
        }
        dataset->entries = grown;
    }
    dataset->entries[dataset->entry_count++] = *entry;
    return true;
}

/* One conversation of a ShareGPT file: its first question, and how long the answer was. */
static bool add_conversation(struct prompts *prompts, struct dataset *dataset,
                             const struct json_value *turns)
{
    struct text_view question = {0};
    struct entry entry = {.begin = dataset->id_count};
    JSON_EACH(turn, turns)
    {
        struct text_view from = json_text(json_member(turn, "from"));
        struct text_view value = json_text(json_member(turn, "value"));
        if (text_view_is(from, "human") && !question.data) {
            question = value;
        } else if (text_view_is(from, "gpt") && question.length && value.length) {
            uint32_t answer = 0;
            struct dataset scratch = {0};
            bool fine = append_ids(prompts, &scratch, value, &answer) &&
                        append_ids(prompts, dataset, question, &entry.length);
            free(scratch.ids);
            entry.output = answer;
            return fine && (entry.length == 0 || append_entry(dataset, &entry));
        }
    }
    return true;
}

static llcuda_status read_sharegpt(struct prompts *prompts, struct dataset *dataset,
                                   struct text_view text, struct llcuda_error *error)
{
    struct json_document *document = NULL;
    llcuda_status status = json_parse(text, NULL, &document, error);
    if (status) {
        return error_prefix(error, status, "%s", dataset->path);
    }
    JSON_EACH(item, json_root(document))
    {
        if (!status && !add_conversation(prompts, dataset, json_member(item, "conversations"))) {
            status = error_no_memory(error, "conversations", dataset->id_count);
        }
    }
    json_destroy(document);
    if (!status && dataset->entry_count == 0) {
        status = error_set(error, LLCUDA_BAD_FORMAT,
                           "%s: no list of {\"conversations\": [{\"from\", \"value\"}]} with a "
                           "question and an answer was found",
                           dataset->path);
    }
    return status;
}

/* {"timestamp": ms, "input_length": n, "output_length": m} a line, as the Mooncake traces. */
static llcuda_status read_trace(struct dataset *dataset, struct text_view text,
                                struct llcuda_error *error)
{
    size_t line_number = 0;
    while (text.length) {
        const char *end = memchr(text.data, '\n', text.length);
        size_t length = end ? (size_t)(end - text.data) : text.length;
        struct text_view line = text_view_make(text.data, length);
        struct json_document *document = NULL;
        double due_ms = 0;
        int64_t input = 0;
        int64_t output = 0;
        line_number++;
        text.data += length + (end != NULL);
        text.length -= length + (end != NULL);
        if (length == 0) {
            continue;
        }
        bool fine =
            !json_parse(line, NULL, &document, NULL) &&
            json_number(json_member(json_root(document), "timestamp"), &due_ms) &&
            json_integer(json_member(json_root(document), "input_length"), 1, 1 << 24, &input) &&
            json_integer(json_member(json_root(document), "output_length"), 1, 1 << 20, &output) &&
            due_ms >= 0 && due_ms < 1e12;
        json_destroy(document);
        struct entry entry = {.due_ns = (uint64_t)(due_ms * 1e6),
                              .length = (uint32_t)input,
                              .output = (uint32_t)output};
        fine = fine && (dataset->entry_count == 0 ||
                        entry.due_ns >= dataset->entries[dataset->entry_count - 1].due_ns);
        if (!fine) {
            return error_set(error, LLCUDA_BAD_FORMAT,
                             "%s:%zu: expected {\"timestamp\": ms, \"input_length\": n, "
                             "\"output_length\": n} in the order of time",
                             dataset->path, line_number);
        }
        if (dataset->entry_count == TRACE_MAX || !append_entry(dataset, &entry)) {
            return error_set(error, LLCUDA_LIMIT, "%s: too many requests", dataset->path);
        }
    }
    return LLCUDA_OK;
}

llcuda_status prompts_add_file(struct prompts *prompts, const struct config_workload *workload,
                               struct llcuda_error *error)
{
    bool trace = workload->kind == LOAD_TRACE;
    bool reads =
        trace || workload->dataset == DATASET_FILE || workload->dataset == DATASET_SHAREGPT;
    if (!reads || dataset_of(prompts, workload) || prompts->dataset_count == CONFIG_WORKLOAD_MAX) {
        return LLCUDA_OK;
    }
    if (!trace && !prompts->engine) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "'%s' cannot be used: the model's vocabulary could not be read",
                         workload->dataset_path);
    }
    struct buffer text = {0};
    struct dataset *dataset = &prompts->datasets[prompts->dataset_count];
    *dataset = (struct dataset){.path = workload->dataset_path};
    llcuda_status status = file_read_all(workload->dataset_path, DATASET_BYTES_MAX, &text, error);
    if (!status && trace) {
        status = read_trace(dataset, buffer_view(&text), error);
    } else if (!status && workload->dataset == DATASET_SHAREGPT) {
        status = read_sharegpt(prompts, dataset, buffer_view(&text), error);
    } else if (!status) {
        uint32_t count = 0;
        status = append_ids(prompts, dataset, buffer_view(&text), &count)
                     ? LLCUDA_OK
                     : error_no_memory(error, "tokens", text.length);
    }
    buffer_deinit(&text);
    if (status) {
        free(dataset->ids);
        free(dataset->entries);
    } else {
        prompts->dataset_count++;
    }
    return status;
}

static void random_ids(const struct prompts *prompts, uint64_t seed, uint64_t index, uint32_t begin,
                       uint32_t end, struct prompt *prompt)
{
    for (uint32_t i = begin; i < end; i++) {
        prompt->ids[i] = prompts->plain[draw(seed, index, i) % prompts->plain_count];
    }
}

static void copy_ids(const struct dataset *dataset, uint64_t begin, struct prompt *prompt)
{
    for (uint32_t i = 0; i < prompt->id_count; i++) {
        prompt->ids[i] = dataset->ids[(begin + i) % dataset->id_count];
    }
}

void prompts_make(const struct prompts *prompts, const struct config_workload *workload,
                  uint32_t length, uint64_t seed, uint64_t index, struct prompt *prompt)
{
    const struct dataset *dataset = dataset_of(prompts, workload);
    uint32_t spread = workload->output_max - workload->output_min + 1;
    prompt->max_tokens = workload->output_min + (uint32_t)(draw(seed, index, UINT64_MAX) % spread);
    uint64_t unused;
    if (workload->kind == LOAD_TRACE) {
        prompts_trace(prompts, workload, index, &unused, &length, &prompt->max_tokens);
    }
    prompt->id_count = length < prompt->id_capacity ? length : prompt->id_capacity;
    if (!prompts_have_ids(prompts)) {
        prompt->id_count = 0;
    } else if (workload->kind != LOAD_TRACE && workload->dataset == DATASET_SHAREGPT && dataset) {
        const struct entry *entry = &dataset->entries[draw(seed, index, 0) % dataset->entry_count];
        prompt->id_count = entry->length < prompt->id_count ? entry->length : prompt->id_count;
        prompt->max_tokens =
            entry->output < workload->output_max ? entry->output : workload->output_max;
        prompt->max_tokens += prompt->max_tokens == 0;
        copy_ids(dataset, entry->begin, prompt);
    } else if (workload->kind != LOAD_TRACE && workload->dataset == DATASET_FILE && dataset &&
               dataset->id_count) {
        copy_ids(dataset, draw(seed, index, 0) % dataset->id_count, prompt);
    } else {
        uint32_t prefix = 0;
        if (workload->dataset == DATASET_SHARED_PREFIX) {
            prefix = workload->prefix_tokens < prompt->id_count ? workload->prefix_tokens
                                                                : prompt->id_count;
        }
        random_ids(prompts, seed, UINT64_MAX, 0, prefix, prompt);
        random_ids(prompts, seed, index, prefix, prompt->id_count, prompt);
    }
}

void prompts_detokenize(const struct prompts *prompts, const uint32_t *ids, uint32_t count,
                        struct buffer *text)
{
    char *out = NULL;
    size_t bytes = 0;
    if (prompts->engine &&
        !llcuda_detokenize(prompts->engine, ids, count, false, &out, &bytes, NULL)) {
        buffer_append(text, out, bytes);
    }
    llcuda_free(out);
}

void prompts_text(const struct prompts *prompts, const struct prompt *prompt, uint64_t seed,
                  uint64_t index, uint32_t length, struct buffer *text)
{
    if (prompt->id_count) {
        prompts_detokenize(prompts, prompt->ids, prompt->id_count, text);
        return;
    }
    for (uint32_t i = 0; i < length; i++) {
        buffer_printf(text, "%s%s", i ? " " : "", words[draw(seed, index, i) % WORD_COUNT]);
    }
}

void prompts_sentence(const struct prompts *prompts, uint64_t index, struct prompt *prompt,
                      struct buffer *text)
{
    const char *sentence = sentences[index % SENTENCE_COUNT];
    uint32_t *ids = NULL;
    size_t count = 0;
    prompt->id_count = 0;
    buffer_append_text(text, sentence);
    for (uint64_t i = 0; i < index / SENTENCE_COUNT; i++) {
        buffer_printf(text, " %s", words[(index + i) % WORD_COUNT]);
    }
    if (prompts->engine && !llcuda_tokenize(prompts->engine, buffer_text(text), text->length,
                                            LLCUDA_MODEL_DEFAULT, false, &ids, &count, NULL)) {
        prompt->id_count = count < prompt->id_capacity ? (uint32_t)count : prompt->id_capacity;
        memcpy(prompt->ids, ids, prompt->id_count * sizeof *ids);
    }
    llcuda_free(ids);
}

bool prompts_trace(const struct prompts *prompts, const struct config_workload *workload,
                   uint64_t index, uint64_t *due_ns, uint32_t *length, uint32_t *output)
{
    const struct dataset *dataset = dataset_of(prompts, workload);
    if (!dataset || index >= dataset->entry_count) {
        return false;
    }
    *due_ns = dataset->entries[index].due_ns;
    *length = dataset->entries[index].length;
    *output = dataset->entries[index].output;
    return true;
}

uint64_t prompts_trace_count(const struct prompts *prompts, const struct config_workload *workload)
{
    const struct dataset *dataset = dataset_of(prompts, workload);
    return dataset ? dataset->entry_count : 0;
}
