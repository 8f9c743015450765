/* Owns the way from /v1/responses' instructions and input to messages. The server keeps nothing
 * between requests: what was said before is to be in the input. */
#include "server/openai_internal.h"

static void begin_message(struct json_writer *writer, const char *role)
{
    json_begin_object(writer);
    json_key(writer, "role");
    json_write_string(writer, role);
}

static bool write_instructions(struct reading *reading, struct json_writer *writer)
{
    const struct json_value *value = json_member(reading->root, "instructions");
    if (!value || json_is(value, JSON_NULL)) {
        return true;
    }
    if (!json_is(value, JSON_STRING)) {
        reading->field = "instructions";
        return reading_fail(reading, "instructions must be a string");
    }
    begin_message(writer, "system");
    json_key(writer, "content");
    json_write_text(writer, json_text(value));
    json_end_object(writer);
    return true;
}

static bool write_item_message(struct reading *reading, const struct json_value *item,
                               struct json_writer *writer)
{
    struct text_view role = json_text(json_member(item, "role"));
    if (text_view_is(role, "user")) {
        begin_message(writer, "user");
    } else if (text_view_is(role, "assistant")) {
        begin_message(writer, "assistant");
    } else if (text_view_is(role, "system") || text_view_is(role, "developer")) {
        begin_message(writer, "system");
    } else {
        return reading_fail(reading, "a message of the input needs a role: system, developer, user "
                                     "or assistant");
    }
    bool good = write_content(reading, json_member(item, "content"), false, writer);
    json_end_object(writer);
    return good;
}

static bool is_call(const struct json_value *item)
{
    return text_view_is(json_text(json_member(item, "type")), "function_call");
}

/* A run of calls is one message of the assistant. */
static bool write_item_calls(struct reading *reading, const struct json_value *item, uint32_t count,
                             struct json_writer *writer)
{
    begin_message(writer, "assistant");
    json_key(writer, "content");
    json_write_string(writer, "");
    json_key(writer, "tool_calls");
    json_begin_array(writer);
    for (; count > 0; count--, item = json_next(item)) {
        struct text_view name = json_text(json_member(item, "name"));
        if (name.length == 0) {
            return reading_fail(reading, "a function_call of the input needs a name");
        }
        write_call(writer, json_text(json_member(item, "call_id")), name,
                   json_member(item, "arguments"));
    }
    json_end_array(writer);
    json_end_object(writer);
    return true;
}

static bool write_item_output(struct reading *reading, const struct json_value *item,
                              struct json_writer *writer)
{
    struct text_view id = json_text(json_member(item, "call_id"));
    if (id.length == 0) {
        return reading_fail(reading, "a function_call_output of the input needs a call_id");
    }
    begin_message(writer, "tool");
    json_key(writer, "tool_call_id");
    json_write_text(writer, id);
    bool good = write_content(reading, json_member(item, "output"), false, writer);
    json_end_object(writer);
    return good;
}

static bool write_items(struct reading *reading, const struct json_value *items,
                        struct json_writer *writer)
{
    uint32_t calls = 0;
    const struct json_value *first_call = NULL;
    uint32_t left = items->count;
    JSON_EACH(item, items)
    {
        struct text_view type = json_text(json_member(item, "type"));
        left--;
        if (is_call(item)) {
            first_call = calls++ ? first_call : item;
            if (left > 0 && is_call(json_next(item))) {
                continue;
            }
            if (!write_item_calls(reading, first_call, calls, writer)) {
                return false;
            }
            calls = 0;
        } else if (text_view_is(type, "function_call_output")) {
            if (!write_item_output(reading, item, writer)) {
                return false;
            }
        } else if (text_view_is(type, "reasoning")) {
            reading_note(&reading->request->ignored, "", text_view_of("input.reasoning"));
        } else if (type.length == 0 || text_view_is(type, "message")) {
            if (!write_item_message(reading, item, writer)) {
                return false;
            }
        } else {
            return reading_unsupported(reading, "items of type '%.*s' are not supported",
                                       type.length > 40 ? 40 : (int)type.length, type.data);
        }
    }
    return true;
}

bool read_input(struct reading *reading, const struct json_value *value)
{
    struct json_writer writer;
    bool text = json_is(value, JSON_STRING);
    if (!text && (!json_is(value, JSON_ARRAY) || value->count == 0)) {
        return reading_fail(reading, "input must be a string or a list of items");
    }
    json_writer_init(&writer, &reading->request->messages, 0);
    json_begin_object(&writer);
    json_key(&writer, "messages");
    json_begin_array(&writer);
    if (!write_instructions(reading, &writer)) {
        return false;
    }
    if (text) {
        begin_message(&writer, "user");
        json_key(&writer, "content");
        json_write_text(&writer, json_text(value));
        json_end_object(&writer);
    } else if (!write_items(reading, value, &writer)) {
        return false;
    }
    return write_context(reading, &writer);
}
