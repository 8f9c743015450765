/* Owns the reading of chat messages: OpenAI's shapes in, the JSON that chat templates see out. Only
 * what is known passes: a template never sees members that a client made up. */
#include <stdio.h>

#include "server/openai_internal.h"

static const char *const roles[] = {"system", "developer", "user", "assistant", "tool"};
#define ROLE_COUNT (sizeof roles / sizeof roles[0])

/* Members that pass as they are. */
static const char *const passing[] = {"name", "tool_call_id", "reasoning_content"};
/* Template variables that a request may set. */
static const char *const template_arguments[] = {"enable_thinking", "thinking",
                                                 "add_generation_prompt", "reasoning_effort"};

static bool is_one_of(struct text_view name, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (text_view_is(name, list[i])) {
            return true;
        }
    }
    return false;
}

/* Text parts are joined; other kinds of part are refused. */
static bool write_parts(struct reading *reading, const struct json_value *parts,
                        struct json_writer *writer)
{
    struct buffer joined = {0};
    bool good = true;
    JSON_EACH(part, parts)
    {
        struct text_view type = json_text(json_member(part, "type"));
        const struct json_value *text = json_member(part, "text");
        bool is_text = text_view_is(type, "text") || text_view_is(type, "input_text") ||
                       text_view_is(type, "output_text");
        if (!is_text || !json_is(text, JSON_STRING)) {
            good = reading_unsupported(reading,
                                       "messages may hold text only, not a part of type "
                                       "'%.*s'",
                                       type.length > 40 ? 40 : (int)type.length,
                                       type.data ? type.data : "");
            break;
        }
        buffer_append_view(&joined, json_text(text));
    }
    if (good && joined.failed) {
        good = reading_no_memory(reading);
    }
    if (good) {
        json_write_text(writer, buffer_view(&joined));
    }
    buffer_deinit(&joined);
    return good;
}

bool write_content(struct reading *reading, const struct json_value *content, bool may_be_absent,
                   struct json_writer *writer)
{
    json_key(writer, "content");
    if (json_is(content, JSON_STRING)) {
        json_write_text(writer, json_text(content));
        return true;
    }
    if (json_is(content, JSON_ARRAY)) {
        return write_parts(reading, content, writer);
    }
    if (may_be_absent && (!content || json_is(content, JSON_NULL))) {
        json_write_string(writer, "");
        return true;
    }
    return reading_fail(reading, "the content of a message must be a string or a list of parts");
}

static bool write_message(struct reading *reading, const struct json_value *message,
                          struct json_writer *writer)
{
    struct text_view role = json_text(json_member(message, "role"));
    if (!json_is(message, JSON_OBJECT) || !is_one_of(role, roles, ROLE_COUNT)) {
        return reading_fail(reading, "each message needs a role: system, developer, user, "
                                     "assistant or tool");
    }
    json_begin_object(writer);
    json_key(writer, "role");
    /* Templates know "system"; "developer" is OpenAI's newer word for it. */
    json_write_text(writer, text_view_is(role, "developer") ? text_view_of("system") : role);
    if (!write_content(reading, json_member(message, "content"), text_view_is(role, "assistant"),
                       writer)) {
        return false;
    }
    JSON_EACH_KEY(key, message)
    {
        struct text_view name = json_text(key);
        if (text_view_is(name, "role") || text_view_is(name, "content")) {
            continue;
        }
        if (text_view_is(name, "tool_calls")) {
            if (!write_calls(reading, json_next(key), writer)) {
                return false;
            }
        } else if (is_one_of(name, passing, sizeof passing / sizeof passing[0])) {
            json_key_view(writer, name);
            json_write_value(writer, json_next(key));
        } else {
            reading_note(&reading->request->unknown, "messages.", name);
        }
    }
    json_end_object(writer);
    return true;
}

static bool write_arguments(struct reading *reading, struct json_writer *writer)
{
    const struct json_value *arguments = json_member(reading->root, "chat_template_kwargs");
    bool prompt_given = false;
    reading->field = "chat_template_kwargs";
    if (arguments && !json_is(arguments, JSON_NULL) && !json_is(arguments, JSON_OBJECT)) {
        return reading_fail(reading, "chat_template_kwargs must be an object");
    }
    JSON_EACH_KEY(key, arguments)
    {
        struct text_view name = json_text(key);
        const struct json_value *value = json_next(key);
        bool scalar = !json_is(value, JSON_OBJECT) && !json_is(value, JSON_ARRAY);
        if (!scalar || !is_one_of(name, template_arguments,
                                  sizeof template_arguments / sizeof template_arguments[0])) {
            return reading_unsupported(reading, "the template argument '%.*s' may not be set",
                                       name.length > 40 ? 40 : (int)name.length, name.data);
        }
        prompt_given = prompt_given || text_view_is(name, "add_generation_prompt");
        json_key_view(writer, name);
        json_write_value(writer, value);
    }
    if (!prompt_given) {
        json_key(writer, "add_generation_prompt");
        json_write_bool(writer, true);
    }
    return true;
}

bool write_context(struct reading *reading, struct json_writer *writer)
{
    const char *field = reading->field;
    json_end_array(writer);
    write_tools(reading, writer);
    if (!write_arguments(reading, writer)) {
        return false;
    }
    reading->field = field;
    json_end_object(writer);
    return writer->out->failed ? reading_no_memory(reading) : true;
}

bool read_messages(struct reading *reading, const struct json_value *value)
{
    struct json_writer writer;
    if (!json_is(value, JSON_ARRAY) || value->count == 0) {
        return reading_fail(reading, "messages must be a list of at least one message");
    }
    json_writer_init(&writer, &reading->request->messages, 0);
    json_begin_object(&writer);
    json_key(&writer, "messages");
    json_begin_array(&writer);
    JSON_EACH(message, value)
    {
        if (!write_message(reading, message, &writer)) {
            return false;
        }
    }
    return write_context(reading, &writer);
}
