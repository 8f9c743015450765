/* How a model's chat template writes tool calls, found out by asking the template: it renders a
 * conversation in which a tool is called, and what stands around the call tells the format. No list
 * of models, and nothing to configure. */
#ifndef SERVER_TOOL_FORMAT_H
#define SERVER_TOOL_FORMAT_H

#include "base/view.h"
#include "llcuda/llcuda.h"

enum tool_format {
    TOOLS_NONE,    /* the template shows no tools to the model */
    TOOLS_UNKNOWN, /* it shows them, but writes calls in a way that is not read here */
    TOOLS_TAGGED, /* <tool_call>{"name": …, "arguments": {…}}</tool_call> (Hermes, Qwen), also with
                     <function=NAME><parameter=KEY>… inside (Qwen3-Coder) */
    TOOLS_MISTRAL, /* [TOOL_CALLS][{"name": …, "arguments": {…}}, …] or NAME[ARGS]{…} */
    TOOLS_LLAMA    /* the whole answer is {"name": …, "parameters": {…}} (Llama 3) */
};

struct template_facts {
    enum tool_format tools;
};

/* Asks the model's template; a model without one has TOOLS_NONE. */
void template_facts_find(const llcuda_engine *engine, struct template_facts *facts);

/* The format from two renderings: of a conversation with a tool called TOOL_FORMAT_TOOL, and of one
 * in which TOOL_FORMAT_CALL has been called. Pure. */
enum tool_format tool_format_recognise(struct text_view with_tool, struct text_view with_call);
#define TOOL_FORMAT_TOOL "llcuda_probe_tool"
#define TOOL_FORMAT_CALL "llcuda_probe_call"

/* "tagged", for logs and the model list. */
const char *tool_format_name(enum tool_format format);

#endif
