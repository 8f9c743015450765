/* `llcuda tokenize` and `llcuda detokenize`: text to ids and back, with the vocabulary alone. */
#include "cli/open.h"

static int read_text(const struct options *options, struct buffer *text)
{
    const char *file = option_text(options, OPTION_FILE);
    struct llcuda_error error = {0};
    if (options->argument_count > 1 || (file && options->argument_count)) {
        return console_usage(options->command,
                             "give one TEXT or -f FILE (quote a text with spaces)");
    }
    if (options->argument_count == 1) {
        buffer_append_text(text, options->arguments[0]);
        return EXIT_DONE;
    }
    return console_read_text(file, text, &error) ? console_fail(options, &error) : EXIT_DONE;
}

static void write_ids(const struct options *options, const uint32_t *ids, size_t count,
                      struct buffer *out)
{
    if (!option_flag(options, OPTION_JSON)) {
        for (size_t i = 0; i < count; i++) {
            buffer_printf(out, "%s%u", i ? " " : "", ids[i]);
        }
        buffer_append_byte(out, '\n');
        return;
    }
    struct json_writer writer;
    json_writer_init(&writer, out, 0);
    json_begin_object(&writer);
    json_key(&writer, "ids");
    json_begin_array(&writer);
    for (size_t i = 0; i < count; i++) {
        json_write_unsigned(&writer, ids[i]);
    }
    json_end_array(&writer);
    json_key(&writer, "count");
    json_write_unsigned(&writer, count);
    json_end_object(&writer);
    buffer_append_byte(out, '\n');
}

int command_tokenize(struct options *options)
{
    struct buffer text = {0};
    struct buffer out = {0};
    struct llcuda_error error = {0};
    llcuda_engine *engine = NULL;
    uint32_t *ids = NULL;
    size_t count = 0;
    int result = read_text(options, &text);
    if (!result) {
        result = open_engine(options, true, &engine);
    }
    if (!result) {
        bool special = !option_flag(options, OPTION_NO_SPECIAL);
        llcuda_tristate bos =
            option_flag(options, OPTION_NO_BOS) ? LLCUDA_NO : LLCUDA_MODEL_DEFAULT;
        llcuda_status status = llcuda_tokenize(engine, buffer_text(&text), text.length, bos,
                                               special, &ids, &count, &error);
        result = status ? console_fail(options, &error) : EXIT_DONE;
    }
    if (!result) {
        write_ids(options, ids, count, &out);
        result = console_write_buffer(&out) ? EXIT_DONE : EXIT_FAILED;
    }
    llcuda_free(ids);
    llcuda_engine_close(engine);
    buffer_deinit(&text);
    buffer_deinit(&out);
    return result;
}

/* Ids from arguments: numbers separated by spaces or commas, in one argument or in many. */
static int read_ids(struct options *options, const char *text, struct buffer *ids)
{
    while (*text) {
        if (*text == ' ' || *text == ',' || *text == '\n' || *text == '\t') {
            text++;
            continue;
        }
        uint64_t value = 0;
        size_t digits = 0;
        while (text[digits] >= '0' && text[digits] <= '9' && digits < 10) {
            value = value * 10 + (uint64_t)(text[digits++] - '0');
        }
        bool ended = text[digits] == 0 || strchr(" ,\n\t", text[digits]) != NULL;
        if (digits == 0 || !ended || value > UINT32_MAX) {
            return console_usage(options->command, "'%.40s' is no token id", text);
        }
        uint32_t id = (uint32_t)value;
        buffer_append(ids, &id, sizeof id);
        text += digits;
    }
    return EXIT_DONE;
}

int read_token_ids(struct options *options, const char *const *texts, uint32_t count,
                   struct buffer *ids)
{
    for (uint32_t i = 0; i < count; i++) {
        int result = read_ids(options, texts[i], ids);
        if (result) {
            return result;
        }
    }
    return ids->length ? EXIT_DONE : console_usage(options->command, "give token ids");
}

int command_detokenize(struct options *options)
{
    struct buffer ids = {0};
    struct buffer out = {0};
    struct llcuda_error error = {0};
    llcuda_engine *engine = NULL;
    char *text = NULL;
    size_t bytes = 0;
    int result = read_token_ids(options, options->arguments, options->argument_count, &ids);
    if (!result) {
        result = open_engine(options, true, &engine);
    }
    if (!result) {
        const uint32_t *tokens = (const uint32_t *)(const void *)ids.data;
        llcuda_status status = llcuda_detokenize(engine, tokens, ids.length / sizeof *tokens, true,
                                                 &text, &bytes, &error);
        result = status ? console_fail(options, &error) : EXIT_DONE;
    }
    if (!result && option_flag(options, OPTION_JSON)) {
        struct json_writer writer;
        json_writer_init(&writer, &out, 0);
        json_begin_object(&writer);
        json_key(&writer, "text");
        json_write_text(&writer, text_view_make(text, bytes));
        json_end_object(&writer);
        buffer_append_byte(&out, '\n');
    } else if (!result) {
        buffer_append(&out, text, bytes);
        buffer_append_byte(&out, '\n');
    }
    if (!result) {
        result = console_write_buffer(&out) ? EXIT_DONE : EXIT_FAILED;
    }
    llcuda_free(text);
    llcuda_engine_close(engine);
    buffer_deinit(&ids);
    buffer_deinit(&out);
    return result;
}
