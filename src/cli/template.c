/* `llcuda template`: renders a chat template over a conversation and prints the rendering alone. */
#include "text/template.h"

#include <time.h>

#include "base/limits.h"
#include "cli/open.h"
#include "format/chat_template.h"

static llcuda_status read_template(const struct options *options, struct buffer *source,
                                   struct llcuda_error *error)
{
    const char *file = option_text(options, OPTION_TEMPLATE);
    const char *path = option_text(options, OPTION_MODEL);
    if (file) {
        return file_read_all(file, LIMIT_TEMPLATE_BYTES, source, error);
    }
    struct model_source *model = NULL;
    llcuda_status status =
        path ? model_source_open(path, true, &model, error)
             : model_source_open_memory(builtin_model_data(), builtin_model_bytes(), &model, error);
    if (!status) {
        status = chat_template_read(model, source, error);
    }
    model_source_close(model);
    return status;
}

/* `now` of the input, or the clock. */
static int64_t time_of(const struct json_value *context)
{
    int64_t now = (int64_t)time(NULL);
    json_integer(json_member(context, "now"), INT64_MIN, INT64_MAX, &now);
    return now;
}

static llcuda_status render(const struct buffer *source, const struct buffer *input,
                            struct buffer *out, struct llcuda_error *error)
{
    struct json_document *document = NULL;
    struct template *template = NULL;
    llcuda_status status = template_parse(buffer_view(source), &template, error);
    if (!status) {
        status = json_parse(buffer_view(input), NULL, &document, error);
        if (status) {
            error_prefix(error, status, "the input");
        }
    }
    if (!status) {
        struct template_options template_options = {.now_unix = time_of(json_root(document))};
        status = template_render(template, json_root(document), &template_options, out, error);
    }
    json_destroy(document);
    template_destroy(template);
    return status;
}

int command_template(struct options *options)
{
    struct llcuda_error error = {0};
    struct buffer source = {0};
    struct buffer input = {0};
    struct buffer out = {0};
    const char *file = option_text(options, OPTION_INPUT);
    if (!file || options->argument_count) {
        return console_usage(options->command, "give the conversation with --input FILE.json");
    }
    llcuda_status status = read_template(options, &source, &error);
    if (!status) {
        status = console_read_text(file, &input, &error);
    }
    if (!status) {
        status = render(&source, &input, &out, &error);
    }
    int result = EXIT_FAILED;
    if (status) {
        console_fail(options, &error);
    } else {
        result = console_write_buffer(&out) ? EXIT_DONE : EXIT_FAILED;
    }
    buffer_deinit(&source);
    buffer_deinit(&input);
    buffer_deinit(&out);
    return result;
}
