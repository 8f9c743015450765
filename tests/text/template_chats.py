"""Whole chat templates of our own, in the styles that published families use, over a set of
conversations: markers per message, header blocks, instruction brackets, turns with renamed roles,
reasoning that is cut from old answers, tool calls and results, macros that print type signatures."""

MARKERS = r"""{%- if tools %}
    {{- '[[system]]\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\n\n' }}
    {%- endif %}
    {{- "# Tools\n\nOne signature a line:\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools>\n[[end]]\n" }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '[[system]]\n' + messages[0].content + '[[end]]\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step=true, last_query=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step and message.role == "user" and message.content is string and not(message.content.startswith('<result>') and message.content.endswith('</result>')) %}
        {%- set ns.multi_step = false %}
        {%- set ns.last_query = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '[[' + message.role + ']]\n' + content + '[[end]]' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set thought = '' %}
        {%- if message.reasoning_content is string %}
            {%- set thought = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query and (loop.last or (not loop.last and thought)) %}
            {{- '[[assistant]]\n<think>\n' + thought.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
        {%- else %}
            {{- '[[assistant]]\n' + content }}
        {%- endif %}
        {%- for call in message.tool_calls or [] %}
            {%- if (loop.first and content) or (not loop.first) %}
                {{- '\n' }}
            {%- endif %}
            {%- if call.function %}
                {%- set call = call.function %}
            {%- endif %}
            {{- '<call>\n{"name": "' }}
            {{- call.name }}
            {{- '", "arguments": ' }}
            {%- if call.arguments is string %}
                {{- call.arguments }}
            {%- else %}
                {{- call.arguments | tojson }}
            {%- endif %}
            {{- '}\n</call>' }}
        {%- endfor %}
        {{- '[[end]]\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '[[user]]' }}
        {%- endif %}
        {{- '\n<result>\n' }}
        {{- content }}
        {{- '\n</result>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '[[end]]\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '[[assistant]]\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
"""

HEADERS = r"""{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "1 Jan 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- The system message comes out first, so that the rest can be walked over. #}
{%- if messages and messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<h>system</h>\n\n" }}
{%- if tools is not none %}
    {{- "Environment: shell\n" }}
{%- endif %}
{{- "Today: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<eot>" }}

{%- if tools_in_user_message and not tools is none %}
    {%- if messages | length != 0 %}
        {%- set first_user_message = messages[0]['content']|trim %}
        {%- set messages = messages[1:] %}
    {%- else %}
        {{- raise_exception("Tools need a first user message!") }}
    {%- endif %}
    {{- '<h>user</h>\n\n' -}}
    {{- "Answer with a call of one of these.\n\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\n\n" }}
    {%- endfor %}
    {{- first_user_message + "<eot>"}}
{%- endif %}

{%- for message in messages %}
    {%- if not (message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<h>' + message['role'] + '</h>\n\n'+ message['content'] | trim + '<eot>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("One call at a time!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<h>assistant</h>\n\n' -}}
        {%- for arg_name, arg_val in tool_call.arguments | items %}
            {{- arg_name + '="' + arg_val|string + '"' }}
            {%- if not loop.last %}
                {{- ", " }}
            {%- endif %}
        {%- endfor %}
        {{- "<eot>" }}
    {%- else %}
        {{- "<h>tool</h>\n\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<eot>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<h>assistant</h>\n\n' }}
{%- endif %}
"""

BRACKETS = r"""{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}

{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("Roles must take turns: user, assistant, user, ...") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[TOOLS][" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}
                        {{- ", " }}
                    {%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- else %}
                    {{- "]" }}
                {%- endif %}
            {%- endfor %}
            {{- "[/TOOLS]" }}
            {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[I]" + system_message + "\n\n" + message["content"] + "[/I]" }}
        {%- else %}
            {{- "[I]" + message["content"] + "[/I]" }}
        {%- endif %}
    {%- elif (message.tool_calls is defined and message.tool_calls is not none) %}
        {{- "[CALLS][" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("Call ids have nine characters!") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {{- ", " if not loop.last else "]" + eos_token }}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {%- set content = message.content.content if message.content is mapping and message.content.content is defined else message.content %}
        {{- '[RESULTS]{"content": ' + content|string + ", " }}
        {{- '"call_id": "' + message.tool_call_id + '"}[/RESULTS]' }}
    {%- else %}
        {{- raise_exception("Unknown role: " + message["role"]) }}
    {%- endif %}
{%- endfor %}
"""

TURNS = r"""{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set prefix = messages[0]['content'] + '\n\n' -%}
    {%- else -%}
        {%- set prefix = messages[0]['content'][0]['text'] + '\n\n' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Turns must alternate user/model/user/model/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<turn>' + role + '\n' + (prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<picture>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<turn>model\n'}}
{%- endif -%}
"""

STATE = r"""{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt='', is_first_sp=true) %}{%- for message in messages %}{%- if message['role'] == 'system' %}{%- if ns.is_first_sp %}{% set ns.system_prompt = ns.system_prompt + message['content'] %}{% set ns.is_first_sp = false %}{%- else %}{% set ns.system_prompt = ns.system_prompt + '\n\n' + message['content'] %}{%- endif %}{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{'<U>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' and 'tool_calls' in message %}{%- set ns.is_tool = false -%}{%- for tool in message['tool_calls'] %}{%- if not ns.is_first %}{%- if message['content'] is none %}{{'<A><calls><call>' + tool['type'] + '<sep>' + tool['function']['name'] + '\n' + '```json' + '\n' + tool['function']['arguments']|string + '\n' + '```' + '</call>'}}{%- else %}{{'<A>' + message['content'] + '<calls><call>' + tool['type'] + '<sep>' + tool['function']['name'] + '</call>'}}{%- endif %}{%- set ns.is_first = true -%}{%- else %}{{'\n' + '<call>' + tool['type'] + '<sep>' + tool['function']['name'] + '</call>'}}{%- endif %}{%- endfor %}{{'</calls><end>'}}{%- endif %}{%- if message['role'] == 'assistant' and 'tool_calls' not in message %}{%- if ns.is_tool %}{{'</outs>' + message['content'] + '<end>'}}{%- set ns.is_tool = false -%}{%- else %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<A>' + content + '<end>'}}{%- endif %}{%- endif %}{%- if message['role'] == 'tool' %}{%- set ns.is_tool = true -%}{%- if ns.is_output_first %}{{'<outs><out>' + message['content'] + '</out>'}}{%- set ns.is_output_first = false %}{%- else %}{{'<out>' + message['content'] + '</out>'}}{%- endif %}{%- endif %}{%- endfor -%}{% if ns.is_tool %}{{'</outs>'}}{% endif %}{% if add_generation_prompt and not ns.is_tool %}{{'<A><think>\n'}}{% endif %}
"""

SIGNATURES = r"""{#- Prints a schema as a type; calls itself for what is nested. #}
{%- macro type_of(spec, required, nullable=false) -%}
    {%- if spec.type == "array" -%}
        {%- if spec['items'] -%}
            {%- if spec['items']['type'] in ["string", "number", "integer"] -%}
                {{- (spec['items']['type'] if spec['items']['type'] != "integer" else "number") + "[]" }}
            {%- else -%}
                {%- set inner = type_of(spec['items'], required) -%}
                {%- if inner == "object | object" or inner|length > 50 -%}
                    {{- "any[]" }}
                {%- else -%}
                    {{- inner + "[]" }}
                {%- endif -%}
            {%- endif -%}
        {%- else -%}
            {{- "any[]" }}
        {%- endif -%}
    {%- elif spec.type is defined and spec.type is iterable and spec.type is not string and spec.type is not mapping and spec.type[0] is defined -%}
        {{- spec.type | join(" | ") }}
    {%- elif spec.oneOf or spec.anyOf -%}
        {%- for variant in spec.oneOf or spec.anyOf -%}
            {{- type_of(variant, required) }}
            {%- if variant.default is defined %}
                {{- "// default: " + variant.default|tojson }}
            {%- endif -%}
            {%- if not loop.last %}{{- " | " }}{%- endif -%}
        {%- endfor -%}
    {%- elif spec.type == "string" -%}
        {%- if spec.enum -%}
            {{- '"' + spec.enum|join('" | "') + '"' -}}
        {%- else -%}
            {{- "string" }}
            {%- if spec.nullable or nullable %}
                {{- " | null" }}
            {%- endif -%}
        {%- endif -%}
    {%- elif spec.type in ["number", "integer"] -%}
        {{- "number" }}
    {%- elif spec.type == "boolean" -%}
        {{- "boolean" }}
    {%- elif spec.type == "object" -%}
        {%- if spec.properties -%}
            {{- "{\n" }}
            {%- for name, prop in spec.properties.items() -%}
                {{- "  " + name -}}
                {%- if name not in (spec.required or []) -%}
                    {{- "?" }}
                {%- endif -%}
                {{- ": " }}
                {{- type_of(prop, spec.required or []) }}
                {%- if not loop.last -%}
                    {{-", " }}
                {%- endif -%}
            {%- endfor -%}
            {{- "}" }}
        {%- else -%}
            {{- "object" }}
        {%- endif -%}
    {%- else -%}
        {{- "any" }}
    {%- endif -%}
{%- endmacro -%}

{%- macro signatures(name, tools) -%}
    {{- "## " + name + "\n\nspace " + name + " {\n\n" }}
    {%- for tool in tools %}
        {%- set tool = tool.function %}
        {{- "// " + tool.description + "\n" }}
        {{- "type "+ tool.name + " = " }}
        {%- if tool.parameters and tool.parameters.properties %}
            {{- "(_: {\n" }}
            {%- for param_name, param in tool.parameters.properties.items() %}
                {%- if param.description %}
                    {{- "// " + param.description + "\n" }}
                {%- endif %}
                {{- param_name }}
                {%- if param_name not in (tool.parameters.required or []) -%}
                    {{- "?" }}
                {%- endif -%}
                {{- ": " }}
                {{- type_of(param, tool.parameters.required or []) }}
                {%- if param.default is defined -%}
                    {%- if param.enum %}
                        {{- ", // default: " + param.default }}
                    {%- else %}
                        {{- ", // default: " + param.default|tojson }}
                    {%- endif -%}
                {%- endif -%}
                {{- ",\n" }}
            {%- endfor %}
            {{- "}) => any;\n\n" }}
        {%- else -%}
            {{- "() => any;\n\n" }}
        {%- endif -%}
    {%- endfor %}
    {{- "} // space " + name }}
{%- endmacro -%}

{%- macro system() -%}
    {%- if model_identity is not defined %}
        {%- set model_identity = "You answer questions." %}
    {%- endif %}
    {{- model_identity + "\n" }}
    {{- "Current date: " + strftime_now("%Y-%m-%d") + "\n\n" }}
    {%- if reasoning_effort is not defined %}
        {%- set reasoning_effort = "medium" %}
    {%- endif %}
    {{- "Reasoning: " + reasoning_effort }}
{%- endmacro -%}

{{- "<s>system<m>" }}{{- system() }}{{- "<e>" }}
{%- if messages and messages[0].role in ["developer", "system"] %}
    {%- set developer = messages[0].content %}
    {%- set rest = messages[1:] %}
{%- else %}
    {%- set developer = "" %}
    {%- set rest = messages %}
{%- endif %}
{%- if developer or tools %}
    {{- "<s>developer<m>" }}
    {%- if developer is string and developer %}
        {{- "# Instructions\n\n" + developer }}
    {%- endif %}
    {%- if tools -%}
        {{- "\n\n# Tools\n\n" }}
        {{- signatures("functions", tools) }}
    {%- endif -%}
    {{- "<e>" }}
{%- endif %}
{%- set last = namespace(name=none) %}
{%- for message in rest -%}
    {%- if message.role == 'assistant' -%}
        {%- if "tool_calls" in message and message.tool_calls %}
            {%- set call = message.tool_calls[0].function %}
            {%- if message.content and message.thinking %}
                {{- raise_exception("Not both content and thinking with a call.") }}
            {%- elif message.content %}
                {{- "<s>assistant<c>analysis<m>" + message.content + "<e>" }}
            {%- endif %}
            {{- "<s>assistant to=functions." + call.name + "<c>commentary json<m>" }}
            {{- call.arguments|tojson }}
            {{- "<call>" }}
            {%- set last.name = call.name %}
        {%- elif loop.last and not add_generation_prompt %}
            {%- if "thinking" in message %}
                {{- "<s>assistant<c>analysis<m>" + message.thinking + "<e>" }}
            {%- endif %}
            {{- "<s>assistant<c>final<m>" + message.content + "<return>" }}
        {%- else %}
            {{- "<s>assistant<c>final<m>" ~ message.content ~ "<e>" }}
            {%- set last.name = none %}
        {%- endif %}
    {%- elif message.role == 'tool' -%}
        {%- if last.name is none %}
            {{- raise_exception("A result without a call!") }}
        {%- endif %}
        {{- "<s>functions." + last.name + " to=assistant<m>" + message.content|tojson + "<e>" }}
    {%- elif message.role == 'user' -%}
        {{- "<s>user<m>" ~ message.content ~ "<e>" }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
<s>assistant
{%- endif -%}
"""

DOCUMENTS = """{% if documents %}
{% set tool_idx = namespace(value=0) %}
{% macro document(doc, i) %}
Document: {{ i }}
{% for key, value in doc|dictsort %}
{{ key | title }}: {{ value | string | replace('\\n', ' ') | truncate(40, true, '…') }}
{% endfor %}
{% endmacro %}
<results>
  {% for doc in documents %}
  {{ document(doc, loop.index0) | trim | indent(4) }}
  {{ "---" if not loop.last }}
  {% endfor %}
</results>
{% endif %}
{% for message in messages | rejectattr('role', 'equalto', 'tool') %}
  {% if message.role | lower == 'system' %}
SYSTEM: {{ message.content }}
  {% elif message.role == 'user' +%}
USER: {{ message.content if message.content is string else message.content | map(attribute='text', default='?') | join(' ') }}
  {% else %}
  {% generation %}
BOT: {{ message.content | default('', true) }}{{ eos_token }}
  {% endgeneration %}
  {% endif %}
{% endfor %}
{% if add_generation_prompt %}BOT:{% endif %}
"""

PLAIN = """{% for message in messages %}{% if message['role'] == 'user' %}{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


TOOLS = [
    {"type": "function", "function": {
        "name": "find_train", "description": "Trains between \"two\" <stations> – all of them",
        "parameters": {"type": "object", "properties": {
            "from": {"type": "string", "description": "First station"},
            "class": {"type": "string", "enum": ["first", "second"], "default": "second"},
            "times": {"type": "array", "items": {"type": "integer"}},
            "options": {"type": "object", "properties": {"bike": {"type": "boolean"},
                                                         "note": {"type": ["string", "null"]}}},
            "day": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            "limit": {"type": "integer", "default": 5}}, "required": ["from"]},
        "return": {"type": "string"}}},
    {"type": "function", "function": {"name": "ping", "description": "Nothing to give",
                                      "parameters": {"type": "object", "properties": {}}}},
]
CALL = {"id": "call12345", "type": "function",
        "function": {"name": "find_train",
                     "arguments": {"from": "Zürich", "times": [8, 9], "limit": None, "fast": True}}}
RESULT = {"role": "tool", "content": "IC 5, \"08:04\"", "tool_call_id": "call12345",
          "name": "find_train"}

CONVERSATIONS = [
    [user("Hello")],
    [{"role": "system", "content": "  Short.\n"}, user(" Hi <b>&amp; \"you\" ")],
    [{"role": "system", "content": "Sé amable. 你好"}, user("1+1?"), assistant("2"), user("2+2?\n")],
    [user("q"), assistant("<think>\nhm\n</think>\n\nanswer"), user("more"),
     assistant("x", reasoning_content="because"), user("z")],
    [user("A train?"), assistant("", tool_calls=[CALL]), RESULT, assistant("At 8:04."), user("ok")],
    [user("A train?"), assistant(None, tool_calls=[CALL]), RESULT],
    [user("Two?"), assistant("Both:", tool_calls=[CALL, CALL]), RESULT, RESULT],
    [{"role": "system", "content": [{"type": "text", "text": "S"}]},
     user([{"type": "text", "text": "look "}, {"type": "image"}]), assistant("seen")],
    [assistant("first"), assistant("second")],
    [{"role": "developer", "content": "Dev."}, user("x"), assistant("y", thinking="t")],
    [],
    [user("x"), {"role": "assistant"}],
    [user("x"), {"role": "wizard", "content": "y"}],
]

EXTRAS = [
    {"add_generation_prompt": True},
    {"add_generation_prompt": False, "tools": TOOLS},
    {"add_generation_prompt": True, "tools": TOOLS, "enable_thinking": False,
     "tools_in_user_message": False, "date_string": "26 Jul 2024", "reasoning_effort": "high",
     "documents": [{"title": "One", "body": "line\nbreak " * 5, "n": 1.5}, {"title": "Two"}]},
]


def cases():
    for template in (MARKERS, HEADERS, BRACKETS, TURNS, STATE, SIGNATURES, DOCUMENTS, PLAIN):
        for messages in CONVERSATIONS:
            for extra in EXTRAS:
                yield template, {"messages": messages, "bos_token": "<s>", "eos_token": "</s>",
                                 **extra}
