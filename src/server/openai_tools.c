/* Owns the reading of tools and of calls in messages. What templates see has chat's shape,
 * whichever route it came by. Choosing a tool by force needs constrained decoding and is refused.
 */
#include "server/openai_internal.h"

#define TOOLS_MAX 256u

/* Chat: {"type": "function", "function": {"name", …}}; responses: {"type": "function", "name", …}.
 */
static const struct json_value *function_of(const struct reading *reading,
                                            const struct json_value *tool)
{
    return reading->request->api == OPENAI_RESPONSES ? tool : json_member(tool, "function");
}

static bool tools_are_wanted(const struct reading *reading)
{
    const struct json_value *tools = json_member(reading->root, "tools");
    return json_is(tools, JSON_ARRAY) && tools->count > 0 &&
           !text_view_is(json_text(json_member(reading->root, "tool_choice")), "none");
}

bool read_tools(struct reading *reading, const struct json_value *value)
{
    if (!json_is(value, JSON_ARRAY) || value->count > TOOLS_MAX) {
        return reading_fail(reading, "tools must be a list of at most %u tools", TOOLS_MAX);
    }
    JSON_EACH(tool, value)
    {
        struct text_view type = json_text(json_member(tool, "type"));
        const struct json_value *function = function_of(reading, tool);
        const struct json_value *parameters = json_member(function, "parameters");
        if (!text_view_is(type, "function")) {
            return reading_unsupported(reading, "a tool may only be of type function, not '%.*s'",
                                       type.length > 40 ? 40 : (int)type.length,
                                       type.data ? type.data : "");
        }
        if (json_text(json_member(function, "name")).length == 0) {
            return reading_fail(reading, "each tool needs a function with a name");
        }
        if (parameters && !json_is(parameters, JSON_OBJECT) && !json_is(parameters, JSON_NULL)) {
            return reading_fail(reading, "a function's parameters must be a JSON schema object");
        }
        if (json_is(json_member(function, "strict"), JSON_TRUE)) {
            reading_note(&reading->request->ignored, "", text_view_of("tools.strict"));
        }
    }
    reading->request->has_tools = tools_are_wanted(reading);
    return true;
}

bool read_tool_choice(struct reading *reading, const struct json_value *value)
{
    struct text_view text = json_text(value);
    return text_view_is(text, "none") || text_view_is(text, "auto") ||
           reading_unsupported(reading,
                               "%s may be \"none\" or \"auto\" here: a model cannot be "
                               "made to call a tool without constrained decoding",
                               reading->field);
}

void write_tools(struct reading *reading, struct json_writer *writer)
{
    const struct json_value *tools = json_member(reading->root, "tools");
    if (!tools_are_wanted(reading)) {
        return;
    }
    json_key(writer, "tools");
    if (reading->request->api != OPENAI_RESPONSES) {
        json_write_value(writer, tools);
        return;
    }
    json_begin_array(writer);
    JSON_EACH(tool, tools)
    {
        json_begin_object(writer);
        json_key(writer, "type");
        json_write_string(writer, "function");
        json_key(writer, "function");
        json_begin_object(writer);
        JSON_EACH_KEY(key, tool)
        {
            if (!text_view_is(json_text(key), "type") && !text_view_is(json_text(key), "strict")) {
                json_key_view(writer, json_text(key));
                json_write_value(writer, json_next(key));
            }
        }
        json_end_object(writer);
        json_end_object(writer);
    }
    json_end_array(writer);
}

/* ------------------------------------------------------------------ calls */

static void write_call_arguments(struct json_writer *writer, const struct json_value *arguments)
{
    struct text_view text = json_text(arguments);
    struct json_document *document = NULL;
    const struct json_options limits = {.depth_max = 30, .value_count_max = 1u << 16};
    json_key(writer, "arguments");
    if (text.data && json_parse(text, &limits, &document, NULL) == LLCUDA_OK) {
        json_write_value(writer, json_root(document));
        json_destroy(document);
    } else if (arguments) {
        json_write_value(writer, arguments);
    } else {
        json_begin_object(writer);
        json_end_object(writer);
    }
}

void write_call(struct json_writer *writer, struct text_view id, struct text_view name,
                const struct json_value *arguments)
{
    json_begin_object(writer);
    if (id.data) {
        json_key(writer, "id");
        json_write_text(writer, id);
    }
    json_key(writer, "type");
    json_write_string(writer, "function");
    json_key(writer, "function");
    json_begin_object(writer);
    json_key(writer, "name");
    json_write_text(writer, name);
    write_call_arguments(writer, arguments);
    json_end_object(writer);
    json_end_object(writer);
}

bool write_calls(struct reading *reading, const struct json_value *calls,
                 struct json_writer *writer)
{
    if (json_is(calls, JSON_NULL)) {
        return true;
    }
    if (!json_is(calls, JSON_ARRAY)) {
        return reading_fail(reading, "tool_calls must be a list");
    }
    json_key(writer, "tool_calls");
    json_begin_array(writer);
    JSON_EACH(call, calls)
    {
        const struct json_value *function = json_member(call, "function");
        struct text_view name = json_text(json_member(function, "name"));
        if (name.length == 0) {
            return reading_fail(reading, "each of tool_calls needs a function with a name");
        }
        write_call(writer, json_text(json_member(call, "id")), name,
                   json_member(function, "arguments"));
    }
    json_end_array(writer);
    return true;
}
