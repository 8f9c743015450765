/* Owns the recognition of tool call formats from what a template renders. */
#include "server/tool_format.h"

/* Bytes before a call's name in which its opening mark is looked for. */
#define LOOK_BACK 64u

static const char tool_probe[] =
    "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"tools\":[{\"type\":\"function\","
    "\"function\":{\"name\":\"" TOOL_FORMAT_TOOL
    "\",\"description\":\"d\",\"parameters\":{\"type\":"
    "\"object\",\"properties\":{\"k\":{\"type\":\"string\",\"description\":\"d\"}},\"required\":"
    "[\"k\"]}}}],\"add_generation_prompt\":true}";

/* Mistral's templates want ids of nine characters, and no question right behind a tool's result. */
static const char call_probe[] =
    "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"\","
    "\"tool_calls\":[{\"id\":\"abcdefghi\",\"type\":\"function\",\"function\":{\"name\":"
    "\"" TOOL_FORMAT_CALL "\",\"arguments\":{\"k\":\"v\"}}}]},{\"role\":\"tool\",\"name\":"
    "\"" TOOL_FORMAT_CALL "\",\"tool_call_id\":\"abcdefghi\",\"content\":\"r\"}],"
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":"
    "\"" TOOL_FORMAT_CALL "\",\"description\":\"d\",\"parameters\":{\"type\":\"object\","
    "\"properties\":{\"k\":{\"type\":\"string\",\"description\":\"d\"}},\"required\":[\"k\"]}}}],"
    "\"add_generation_prompt\":true}";

static const char *find(struct text_view text, const char *what)
{
    return text.length ? memmem(text.data, text.length, what, strlen(what)) : NULL;
}

/* The last place of `what`: in a rendering the list of tools stands before the conversation or
 * before its last question, the call between them or behind. */
static bool before_any(struct text_view text, const char *what, const char *mark)
{
    size_t length = strlen(what);
    const char *at = find(text, what);
    while (at) {
        size_t offset = (size_t)(at - text.data);
        size_t back = offset < LOOK_BACK ? offset : LOOK_BACK;
        if (find(text_view_make(at - back, back), mark)) {
            return true;
        }
        offset += length;
        at = find(text_view_make(text.data + offset, text.length - offset), what);
    }
    return false;
}

enum tool_format tool_format_recognise(struct text_view with_tool, struct text_view with_call)
{
    if (!find(with_tool, TOOL_FORMAT_TOOL)) {
        return TOOLS_NONE;
    }
    if (before_any(with_call, TOOL_FORMAT_CALL, "<tool_call>") || find(with_tool, "<tool_call>")) {
        return TOOLS_TAGGED;
    }
    if (before_any(with_call, TOOL_FORMAT_CALL, "[TOOL_CALLS]")) {
        return TOOLS_MISTRAL;
    }
    const char *call = find(with_call, "{\"name\": \"" TOOL_FORMAT_CALL "\", \"parameters\":");
    return call ? TOOLS_LLAMA : TOOLS_UNKNOWN;
}

void template_facts_find(const llcuda_engine *engine, struct template_facts *facts)
{
    char *with_tool = NULL, *with_call = NULL;
    size_t tool_bytes = 0, call_bytes = 0;
    *facts = (struct template_facts){0};
    if (llcuda_apply_template(engine, tool_probe, sizeof tool_probe - 1, &with_tool, &tool_bytes,
                              NULL) != LLCUDA_OK) {
        return;
    }
    /* A template that refuses the call is one that shows none. */
    llcuda_apply_template(engine, call_probe, sizeof call_probe - 1, &with_call, &call_bytes, NULL);
    facts->tools = tool_format_recognise(text_view_make(with_tool, tool_bytes),
                                         text_view_make(with_call, call_bytes));
    llcuda_free(with_tool);
    llcuda_free(with_call);
}

const char *tool_format_name(enum tool_format format)
{
    static const char *const names[] = {"none", "unknown", "tagged", "mistral", "llama"};
    return names[format];
}
