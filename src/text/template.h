/* Chat templates: an engine of our own for the Jinja that published models use. It follows Jinja2
 * 3.1 as model publishers run it: trim_blocks, lstrip_blocks, loop controls, an immutable sandbox,
 * raise_exception, strftime_now, and a tojson that escapes neither HTML nor other scripts.
 *
 * A template is parsed once and never changes: any number of threads may render it at once. What
 * the engine does not have is refused when the template is parsed. Templates and their arguments
 * are hostile: steps, nesting, memory and output of a rendering are bounded (base/limits.h). */
#ifndef TEXT_TEMPLATE_H
#define TEXT_TEMPLATE_H

#include "base/buffer.h"
#include "base/error.h"
#include "base/json.h"
#include "base/view.h"

struct template;

/* Parses `source` (UTF-8), which is copied. On success *template is owned by the caller
 * (template_destroy). Errors name line and column and carry the byte offset in `source`:
 * BAD_FORMAT for a mistake, UNSUPPORTED for Jinja that this engine does not have, LIMIT,
 * OUT_OF_MEMORY. */
llcuda_status template_parse(struct text_view source, struct template **template,
                             struct llcuda_error *error);
void template_destroy(struct template *template);

struct template_options {
    int64_t now_unix; /* what strftime_now sees: seconds since 1970, UTC */
};

/* Renders with the members of the JSON object `context` as variables (messages, tools,
 * add_generation_prompt, bos_token, …) and appends the text to `out`. `context` may be NULL (no
 * variables); `options` may be NULL (the time is 0). On an error `out` keeps what it held.
 * Errors: REFUSED with the template's own message when it calls raise_exception; BAD_FORMAT with
 * line and column when the values do not suit the template; LIMIT; OUT_OF_MEMORY;
 * INVALID_ARGUMENT when `context` is no object. */
llcuda_status template_render(const struct template *template, const struct json_value *context,
                              const struct template_options *options, struct buffer *out,
                              struct llcuda_error *error);

/* True when the template names this variable anywhere, whether it comes from the context or not: a
 * hint whether it knows tools, documents, enable_thinking … */
bool template_mentions(const struct template *template, struct text_view name);

#endif
