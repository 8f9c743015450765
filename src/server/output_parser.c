/* Owns the taking apart of answers.
 *
 * Invariants. Text that may still turn out to be a mark, or white space before one, is held; all
 * else goes out at once. A call is held whole until its end and then parsed; one that cannot be
 * parsed comes out as content, marks included, so that nothing a model says is lost. */
#include "server/output_parser.h"

#include "base/json.h"

#define CALL_DEPTH_MAX 32u
/* White space that is held back: a model that writes nothing else must not cost more and more. */
#define SPACE_HELD_MAX 4096u

enum { BEGIN, REASONING, CONTENT_BEGIN, CONTENT, CALL, REST };

static const char think_open[] = "<think>";
static const char think_close[] = "</think>";
static const char call_open[] = "<tool_call>";
static const char call_close[] = "</tool_call>";
static const char mistral_open[] = "[TOOL_CALLS]";
static const char python_tag[] = "<|python_tag|>";

void output_parser_init(struct output_parser *parser, enum tool_format tools, bool split_reasoning,
                        bool begun)
{
    *parser = (struct output_parser){.tools = tools, .split_reasoning = split_reasoning};
    parser->state = !split_reasoning ? CONTENT_BEGIN : begun ? REASONING : BEGIN;
    parser->skip_space = parser->state == REASONING;
}

void output_parser_deinit(struct output_parser *parser)
{
    buffer_deinit(&parser->held);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static struct text_view trim(struct text_view text)
{
    while (text.length && is_space(text.data[0])) {
        text.data++;
        text.length--;
    }
    while (text.length && is_space(text.data[text.length - 1])) {
        text.length--;
    }
    return text;
}

static const char *find(struct text_view text, const char *what)
{
    return text.length ? memmem(text.data, text.length, what, strlen(what)) : NULL;
}

static bool begins_with(struct text_view text, const char *what)
{
    size_t length = strlen(what);
    return text.length >= length && memcmp(text.data, what, length) == 0;
}

bool output_prompt_opens_reasoning(struct text_view prompt)
{
    size_t length = sizeof think_open - 1;
    prompt = trim(prompt);
    return prompt.length >= length &&
           memcmp(prompt.data + prompt.length - length, think_open, length) == 0;
}

bool output_parser_is_reasoning(const struct output_parser *parser)
{
    return parser->state == REASONING;
}

/* Drops the first bytes of what is held. */
static void consume(struct output_parser *parser, size_t bytes)
{
    struct buffer *held = &parser->held;
    memmove(held->data, held->data + bytes, held->length - bytes);
    held->length -= bytes;
    held->data[held->length] = 0;
}

/* How many bytes at the end may be the beginning of `mark`, with the white space before them. */
static size_t undecided(struct text_view text, const char *mark)
{
    size_t keep = 0;
    size_t length = strlen(mark);
    for (size_t bytes = length - 1; bytes > 0 && keep == 0; bytes--) {
        if (bytes <= text.length && memcmp(text.data + text.length - bytes, mark, bytes) == 0) {
            keep = bytes;
        }
    }
    size_t keep_max = keep + SPACE_HELD_MAX;
    while (keep < text.length && keep < keep_max && is_space(text.data[text.length - keep - 1])) {
        keep++;
    }
    return keep;
}

/* ------------------------------------------------------------------ calls */

/* {"name": …, "arguments" or "parameters": {…}}; arguments may also be a string that holds JSON. */
static bool give_object(struct output_parser *parser, const struct json_value *object,
                        const struct output_sink *sink)
{
    struct text_view name = json_text(json_member(object, "name"));
    const struct json_value *arguments = json_member(object, "arguments");
    struct buffer text = {0};
    struct json_writer writer;
    if (!arguments) {
        arguments = json_member(object, "parameters");
    }
    if (name.length == 0 || parser->calls == OUTPUT_CALLS_MAX ||
        (arguments && !json_is(arguments, JSON_OBJECT))) {
        return false;
    }
    json_writer_init(&writer, &text, 0);
    if (arguments) {
        json_write_value(&writer, arguments);
    } else {
        buffer_append_text(&text, "{}");
    }
    bool good = !text.failed;
    if (good) {
        parser->calls++;
        sink->tool_call(sink->user, name, buffer_view(&text));
    }
    buffer_deinit(&text);
    return good;
}

/* An object, or an array of them of which all are calls. */
static bool give_json(struct output_parser *parser, struct text_view body,
                      const struct output_sink *sink)
{
    struct json_document *document;
    const struct json_options limits = {.depth_max = CALL_DEPTH_MAX, .value_count_max = 1u << 16};
    if (json_parse(body, &limits, &document, NULL) != LLCUDA_OK) {
        return false;
    }
    const struct json_value *root = json_root(document);
    bool good = json_is(root, JSON_OBJECT) ||
                (json_is(root, JSON_ARRAY) && root->count > 0 && root->count <= OUTPUT_CALLS_MAX);
    JSON_EACH(element, root)
    {
        good = good && json_text(json_member(element, "name")).length > 0;
    }
    if (good && json_is(root, JSON_OBJECT)) {
        good = give_object(parser, root, sink);
    } else if (good) {
        JSON_EACH(call, root)
        {
            good = give_object(parser, call, sink) && good;
        }
    }
    json_destroy(document);
    return good;
}

/* A value that reads as JSON is taken as such, anything else as a string. */
static void write_parameter(struct json_writer *writer, struct text_view value)
{
    struct json_document *document = NULL;
    const struct json_options limits = {.depth_max = CALL_DEPTH_MAX, .value_count_max = 1u << 16};
    if (json_parse(value, &limits, &document, NULL) == LLCUDA_OK) {
        json_write_value(writer, json_root(document));
        json_destroy(document);
    } else {
        json_write_text(writer, value);
    }
}

/* The text between `from` and the next `end`; *rest is what stands behind it. */
static bool take_until(struct text_view *rest, const char *end, struct text_view *taken)
{
    const char *at = find(*rest, end);
    if (!at) {
        return false;
    }
    *taken = text_view_make(rest->data, (size_t)(at - rest->data));
    size_t used = taken->length + strlen(end);
    *rest = text_view_make(rest->data + used, rest->length - used);
    return true;
}

/* <function=NAME><parameter=KEY>VALUE</parameter>…</function> */
static bool give_function(struct output_parser *parser, struct text_view body,
                          const struct output_sink *sink)
{
    static const char begin[] = "<function=", parameter[] = "<parameter=";
    struct text_view rest = text_view_make(body.data + strlen(begin), body.length - strlen(begin));
    struct text_view name, inside, key, value;
    struct buffer text = {0};
    struct json_writer writer;
    if (!take_until(&rest, ">", &name) || !take_until(&rest, "</function>", &inside) ||
        name.length == 0 || parser->calls == OUTPUT_CALLS_MAX) {
        return false;
    }
    json_writer_init(&writer, &text, 0);
    json_begin_object(&writer);
    bool good = true;
    for (inside = trim(inside); good && inside.length; inside = trim(inside)) {
        good = begins_with(inside, parameter);
        if (good) {
            inside.data += strlen(parameter);
            inside.length -= strlen(parameter);
            good = take_until(&inside, ">", &key) && take_until(&inside, "</parameter>", &value);
        }
        if (good) {
            json_key_view(&writer, trim(key));
            write_parameter(&writer, trim(value));
        }
    }
    json_end_object(&writer);
    good = good && !text.failed;
    if (good) {
        parser->calls++;
        sink->tool_call(sink->user, trim(name), buffer_view(&text));
    }
    buffer_deinit(&text);
    return good;
}

/* NAME[ARGS]{…}, once or several times with [TOOL_CALLS] between. */
static bool give_named(struct output_parser *parser, struct text_view body,
                       const struct output_sink *sink)
{
    struct text_view name;
    struct text_view rest = body;
    struct json_document *document;
    const struct json_options limits = {.depth_max = CALL_DEPTH_MAX, .value_count_max = 1u << 16};
    if (parser->calls == OUTPUT_CALLS_MAX || !take_until(&rest, "[ARGS]", &name)) {
        return false;
    }
    name = trim(name);
    rest = trim(rest);
    if (name.length == 0 || json_parse(rest, &limits, &document, NULL) != LLCUDA_OK) {
        return false;
    }
    bool good = json_is(json_root(document), JSON_OBJECT);
    json_destroy(document);
    if (good) {
        parser->calls++;
        sink->tool_call(sink->user, name, rest);
    }
    return good;
}

static bool give_call(struct output_parser *parser, struct text_view body,
                      const struct output_sink *sink)
{
    body = trim(body);
    if (begins_with(body, "<function=")) {
        return give_function(parser, body, sink);
    }
    return give_json(parser, body, sink) ||
           (parser->tools == TOOLS_MISTRAL && give_named(parser, body, sink));
}

/* Mistral: everything behind the mark; more marks separate more calls. */
static bool give_mistral(struct output_parser *parser, struct text_view body,
                         const struct output_sink *sink)
{
    struct text_view piece;
    bool good = true;
    while (good && take_until(&body, mistral_open, &piece)) {
        good = trim(piece).length == 0 || give_call(parser, piece, sink);
    }
    return good && give_call(parser, body, sink);
}

/* Where the value that begins at `from` ends: at a semicolon outside strings and brackets. */
static size_t end_of_value(struct text_view text, size_t from)
{
    bool quoted = false;
    size_t depth = 0;
    for (size_t i = from; i < text.length; i++) {
        char c = text.data[i];
        if (c == '"') {
            quoted = !quoted;
        } else if (quoted) {
            i += c == '\\';
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (depth > 0) {
            depth -= c == '}' || c == ']';
        } else if (c == ';') {
            return i;
        }
    }
    return text.length;
}

/* Llama: the whole answer, calls separated by semicolons. */
static bool give_llama(struct output_parser *parser, struct text_view body,
                       const struct output_sink *sink)
{
    body = trim(body);
    if (begins_with(body, python_tag)) {
        body = text_view_make(body.data + strlen(python_tag), body.length - strlen(python_tag));
    }
    bool good = give_call(parser, body, sink);
    size_t end = good ? body.length : end_of_value(body, 0);
    if (good || end == body.length) {
        return good;
    }
    good = give_call(parser, text_view_make(body.data, end), sink);
    while (good && end < body.length) {
        size_t from = end + 1;
        end = end_of_value(body, from);
        good = give_call(parser, text_view_make(body.data + from, end - from), sink);
    }
    return good;
}

/* ------------------------------------------------------------------ states */

static void give_content(struct output_parser *parser, size_t bytes, const struct output_sink *sink)
{
    if (bytes > 0) {
        sink->content(sink->user, text_view_make(parser->held.data, bytes));
        consume(parser, bytes);
    }
}

static void skip_space(struct output_parser *parser)
{
    size_t bytes = 0;
    while (bytes < parser->held.length && is_space(parser->held.data[bytes])) {
        bytes++;
    }
    if (bytes) {
        consume(parser, bytes);
    }
}

/* Whether the answer opens with `mark`: 1 yes, 0 no, -1 it may still. */
static int opens_with(struct text_view text, const char *mark)
{
    size_t length = strlen(mark);
    size_t common = text.length < length ? text.length : length;
    if (common > 0 && memcmp(text.data, mark, common) != 0) {
        return 0;
    }
    return text.length >= length ? 1 : -1;
}

/* The first bytes: is there reasoning? False: wait for more. */
static bool step_begin(struct output_parser *parser)
{
    struct text_view text = buffer_view(&parser->held);
    size_t space = 0;
    while (space < text.length && is_space(text.data[space])) {
        space++;
    }
    int opens = opens_with(text_view_make(text.data + space, text.length - space), think_open);
    if (space > SPACE_HELD_MAX) {
        opens = 0;
    }
    if (opens < 0) {
        return false;
    }
    parser->state = opens ? REASONING : CONTENT_BEGIN;
    parser->skip_space = opens;
    if (opens) {
        consume(parser, space + strlen(think_open));
    }
    return true;
}

static bool step_reasoning(struct output_parser *parser, const struct output_sink *sink)
{
    struct text_view text = buffer_view(&parser->held);
    const char *end = find(text, think_close);
    size_t bytes = end ? (size_t)(end - text.data) : text.length - undecided(text, think_close);
    size_t given = bytes;
    while (end && given > 0 && bytes - given < SPACE_HELD_MAX && is_space(text.data[given - 1])) {
        given--;
    }
    if (given > 0) {
        sink->reasoning(sink->user, text_view_make(text.data, given));
    }
    if (!end) {
        if (bytes) {
            consume(parser, bytes);
        }
        return false;
    }
    consume(parser, bytes + strlen(think_close));
    parser->state = CONTENT_BEGIN;
    parser->skip_space = true;
    return true;
}

/* The first bytes of the content: a Llama call is the whole of it. False: wait for more. */
static bool step_content_begin(struct output_parser *parser)
{
    if (parser->tools == TOOLS_LLAMA) {
        struct text_view text = buffer_view(&parser->held);
        size_t space = 0;
        while (space < text.length && is_space(text.data[space])) {
            space++;
        }
        text = text_view_make(text.data + space, text.length - space);
        int opens = opens_with(text, python_tag);
        bool late = space > SPACE_HELD_MAX;
        if (!late && (text.length == 0 || opens < 0)) {
            return false;
        }
        parser->state = !late && (opens > 0 || text.data[0] == '{') ? REST : CONTENT;
        return true;
    }
    parser->state = CONTENT;
    return true;
}

static bool step_content(struct output_parser *parser, const struct output_sink *sink)
{
    struct text_view text = buffer_view(&parser->held);
    const char *mark = parser->tools == TOOLS_TAGGED    ? call_open
                       : parser->tools == TOOLS_MISTRAL ? mistral_open
                                                        : NULL;
    if (!mark) {
        give_content(parser, text.length, sink);
        return false;
    }
    const char *at = find(text, mark);
    if (!at) {
        give_content(parser, text.length - undecided(text, mark), sink);
        return false;
    }
    size_t bytes = (size_t)(at - text.data);
    size_t space = bytes;
    while (space > 0 && bytes - space < SPACE_HELD_MAX && is_space(text.data[space - 1])) {
        space--;
    }
    give_content(parser, space, sink);
    consume(parser, bytes - space); /* white space before a call is no content */
    parser->state = parser->tools == TOOLS_TAGGED ? CALL : REST;
    return true;
}

/* Held: a call from its opening mark on. */
static bool step_call(struct output_parser *parser, const struct output_sink *sink)
{
    struct text_view text = buffer_view(&parser->held);
    size_t open = strlen(call_open);
    const char *end = find(text, call_close);
    if (!end) {
        if (text.length > OUTPUT_CALL_BYTES_MAX) {
            give_content(parser, text.length, sink);
            parser->state = CONTENT;
        }
        return false;
    }
    size_t bytes = (size_t)(end - text.data) + strlen(call_close);
    struct text_view body = text_view_make(text.data + open, (size_t)(end - text.data) - open);
    if (give_call(parser, body, sink)) {
        consume(parser, bytes);
        parser->skip_space = true;
    } else {
        give_content(parser, bytes, sink);
    }
    parser->state = CONTENT;
    return true;
}

void output_parser_feed(struct output_parser *parser, struct text_view text,
                        const struct output_sink *sink)
{
    bool again = true;
    if (text.length == 0) {
        return;
    }
    if (parser->state == CONTENT && parser->held.length == 0 && !parser->skip_space &&
        (parser->tools == TOOLS_NONE || parser->tools == TOOLS_UNKNOWN)) {
        sink->content(sink->user, text); /* the usual case, without a copy */
        return;
    }
    parser->failed = !buffer_append_view(&parser->held, text) || parser->failed;
    while (again && parser->held.length > 0) {
        if (parser->skip_space) {
            skip_space(parser);
            parser->skip_space = parser->held.length == 0;
            continue;
        }
        switch (parser->state) {
        case BEGIN:
            again = step_begin(parser);
            break;
        case REASONING:
            again = step_reasoning(parser, sink);
            break;
        case CONTENT_BEGIN:
            again = step_content_begin(parser);
            break;
        case CONTENT:
            again = step_content(parser, sink);
            break;
        case CALL:
            again = step_call(parser, sink);
            break;
        default: /* REST: up to the end of the answer */
            if (parser->held.length > OUTPUT_CALL_BYTES_MAX) {
                give_content(parser, parser->held.length, sink);
                parser->state = CONTENT;
                parser->tools = TOOLS_NONE;
            }
            again = false;
            break;
        }
    }
}

void output_parser_finish(struct output_parser *parser, const struct output_sink *sink)
{
    struct text_view text = buffer_view(&parser->held);
    bool given = false;
    if (text.length == 0) {
        return;
    }
    if (parser->state == REASONING) {
        sink->reasoning(sink->user, text);
        given = true;
    } else if (parser->state == CALL) {
        size_t open = strlen(call_open);
        given = give_call(parser, text_view_make(text.data + open, text.length - open), sink);
    } else if (parser->state == REST && parser->tools == TOOLS_MISTRAL) {
        size_t open = strlen(mistral_open);
        given = give_mistral(parser, text_view_make(text.data + open, text.length - open), sink);
    } else if (parser->state == REST) {
        given = give_llama(parser, text, sink);
    }
    if (!given) {
        sink->content(sink->user, text);
    }
    buffer_clear(&parser->held);
}
