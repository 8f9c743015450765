/* Owns a template's life: normalising its source, parsing, resolving, rendering. Invariant: a
 * template that template_parse has returned never changes, so renderings may run at once on it.
 * All state of a rendering is in one struct jinja_render. */
#include "text/template.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/random.h"
#include "base/utf8.h"
#include "text/template_engine.h"
#include "text/template_lexer.h"
#include "text/template_node.h"

/* Newlines become "\n" and one newline at the end goes, as jinja2 does before it reads. */
static bool normalise(struct template *template, struct text_view source)
{
    char *original = arena_alloc(&template->arena, source.length + 1, 1);
    char *text = arena_alloc(&template->arena, source.length + 1, 1);
    if (!original || !text) {
        return false;
    }
    size_t length = 0;
    for (size_t i = 0; i < source.length; i++) {
        char c = source.data[i];
        original[i] = c;
        if (c == '\r') {
            c = '\n';
            if (i + 1 < source.length && source.data[i + 1] == '\n') {
                original[++i] = '\n';
            }
        }
        text[length++] = c;
    }
    length -= length > 0 && text[length - 1] == '\n';
    template->original = text_view_make(original, source.length);
    template->source = text_view_make(text, length);
    return true;
}

struct template_position template_position(const struct template *template, uint32_t offset)
{
    struct template_position position = {0, 1, 1};
    const char *text = template->original.data;
    for (uint32_t i = 0; i < offset && position.offset < template->original.length; i++) {
        char c = text[position.offset++];
        if (c == '\r' && position.offset < template->original.length &&
            text[position.offset] == '\n') {
            position.offset++;
        }
        if (c == '\n' || c == '\r') {
            position.line++;
            position.column = 1;
        } else {
            position.column += ((unsigned char)c & 0xC0) != 0x80;
        }
    }
    return position;
}

static llcuda_status build(struct template *template, struct text_view source,
                           struct llcuda_error *error)
{
    template->seed = random_seed();
    if (!normalise(template, source)) {
        return error_no_memory(error, "a chat template", source.length);
    }
    llcuda_status status = template_parse_nodes(template, error);
    return status ? status : template_resolve(template, error);
}

llcuda_status template_parse(struct text_view source, struct template **out,
                             struct llcuda_error *error)
{
    *out = NULL;
    if (source.length > LIMIT_TEMPLATE_BYTES) {
        return error_set(error, LLCUDA_LIMIT,
                         "the chat template has %zu bytes; %u are allowed at most", source.length,
                         LIMIT_TEMPLATE_BYTES);
    }
    if (!utf8_valid(source)) {
        size_t offset = 0;
        uint32_t code;
        size_t length;
        while ((length = utf8_decode(source.data + offset, source.length - offset, &code)) > 0) {
            offset += length;
        }
        return error_set_at(error, LLCUDA_BAD_FORMAT, offset,
                            "the chat template is not valid UTF-8 at byte %zu", offset);
    }
    struct template *template = calloc(1, sizeof *template);
    if (!template) {
        return error_no_memory(error, "a chat template", sizeof *template);
    }
    arena_init(&template->arena, LIMIT_TEMPLATE_MEMORY_BYTES);
    llcuda_status status = build(template, source, error);
    if (status) {
        template_destroy(template);
        return status;
    }
    *out = template;
    return LLCUDA_OK;
}

void template_destroy(struct template *template)
{
    if (template) {
        arena_deinit(&template->arena);
        free(template);
    }
}

bool template_mentions(const struct template *template, struct text_view name)
{
    for (uint32_t i = 0; i < template->name_count; i++) {
        if (text_view_equal(jinja_text(template->name_list[i]->string), name)) {
            return true;
        }
    }
    return false;
}

static bool run(struct jinja_render *render)
{
    const struct template *template = render->template;
    render->globals = jinja_alloc(render, template->name_count, sizeof *render->globals);
    render->globals_known = jinja_alloc(render, template->name_count, sizeof(bool));
    return render->globals && render->globals_known && jinja_run(render);
}

llcuda_status template_render(const struct template *template, const struct json_value *context,
                              const struct template_options *options, struct buffer *out,
                              struct llcuda_error *error)
{
    if (context && !json_is(context, JSON_OBJECT)) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "the variables of a chat template must be a JSON object, not %s",
                         json_kind_name(context));
    }
    struct jinja_render render = {
        .template = template,
        .context = context,
        .error = error,
        .steps_left = LIMIT_TEMPLATE_STEPS,
        .seed = template->seed,
        .now_unix = options ? options->now_unix : 0,
    };
    arena_init(&render.arena, LIMIT_TEMPLATE_MEMORY_BYTES);
    buffer_init(&render.out, LIMIT_TEMPLATE_OUTPUT_BYTES);
    if (run(&render) && !buffer_append_view(out, buffer_view(&render.out))) {
        render.status = error_no_memory(error, "rendered text", render.out.length);
    }
    buffer_deinit(&render.out);
    arena_deinit(&render.arena);
    return render.status;
}
