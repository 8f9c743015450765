"""The reference for chat templates: jinja2 set up as the transformers library sets it up, and a
driver for ours. Used by make_templates.py and fuzz_templates.py; needs jinja2 (python3-jinja2)."""
import datetime
import functools
import json
import subprocess

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(Extension):
    """{% generation %} marks assistant text; rendering only passes it through."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_pass"), [], [], body).set_lineno(line)

    def _pass(self, caller):
        return caller()


def environment(now):
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    def strftime_now(format):
        return datetime.datetime.fromtimestamp(now, datetime.timezone.utc).strftime(format)

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True,
        extensions=[Generation, "jinja2.ext.loopcontrols", "jinja2.ext.do"])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


@functools.lru_cache(maxsize=64)
def compile_template(template, now):
    return environment(now).from_string(template)


def render(template, context, now=0):
    """{"text"} or {"error", "load", "raised"}: raised holds the template's own message."""
    try:
        compiled = compile_template(template, now)
    except (Exception, RecursionError) as error:
        return {"error": f"{type(error).__name__}: {error}", "load": True}
    try:
        text = compiled.render(**context)
        text.encode("utf-8")
        return {"text": text}
    except (Exception, RecursionError) as error:
        answer = {"error": f"{type(error).__name__}: {error}", "load": False}
        if type(error) is jinja2.exceptions.TemplateError:
            answer["raised"] = str(error)
        return answer


class Driver:
    """Our engine, as the program template_driver."""

    def __init__(self, path):
        self.path = path
        self.start()

    def start(self):
        self.process = subprocess.Popen([self.path], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)

    def render(self, template, context, now=0):
        line = json.dumps({"template": template, "context": context, "now": now}) + "\n"
        self.process.stdin.write(line.encode())
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            code = self.process.wait()
            self.start()
            return {"crash": code}
        return json.loads(answer)
