/* Renders templates for scripts: reads one JSON object a line {"template", "context", "now"} from
 * standard input and writes {"text": …} or {"error": …, "status": …, "load": true} for each. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "text/template.h"

static void answer(struct text_view line, struct buffer *out)
{
    struct llcuda_error error = {0};
    struct json_document *document = NULL;
    struct template *template = NULL;
    struct buffer text = {0};
    bool loaded = false;
    llcuda_status status = json_parse(line, NULL, &document, &error);
    if (!status) {
        const struct json_value *root = json_root(document);
        struct template_options options = {0};
        json_integer(json_member(root, "now"), INT64_MIN, INT64_MAX, &options.now_unix);
        status = template_parse(json_text(json_member(root, "template")), &template, &error);
        loaded = !status;
        if (loaded) {
            status =
                template_render(template, json_member(root, "context"), &options, &text, &error);
        }
    }
    struct json_writer writer;
    json_writer_init(&writer, out, 0);
    json_begin_object(&writer);
    if (status) {
        json_key(&writer, "error");
        json_write_string(&writer, error.message);
        json_key(&writer, "status");
        json_write_string(&writer, llcuda_status_name(status));
        json_key(&writer, "load");
        json_write_bool(&writer, !loaded);
    } else {
        json_key(&writer, "text");
        json_write_text(&writer, buffer_view(&text));
    }
    json_end_object(&writer);
    buffer_append_byte(out, '\n');
    buffer_deinit(&text);
    template_destroy(template);
    json_destroy(document);
}

int main(void)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    struct buffer out = {0};
    while ((length = getline(&line, &capacity, stdin)) > 0) {
        buffer_clear(&out);
        answer(text_view_make(line, (size_t)length), &out);
        fwrite(out.data, 1, out.length, stdout);
        fflush(stdout);
    }
    buffer_deinit(&out);
    free(line);
    return 0;
}
