#!/usr/bin/env python3
"""Random templates, rendered by jinja2 and by our engine: prints where they differ.

    python3 tests/text/fuzz_templates.py build/release/tests/text/template_driver [SEED [COUNT]]

Known and wanted differences are skipped: numbers beyond 64 bits, complex numbers, addresses in
what Python prints, slices of constants that jinja2 folds while compiling, and time limits.
"""
import random
import re
import sys

from template_reference import Driver, render
from template_snippets import CONTEXT

NAMES = list(CONTEXT) + ["missing", "range", "x", "y"]
STRINGS = ["", "a", "abc", "Hello World", " pad ", "1", "-2", "3.5", "0x1f", "é😀", "a,b,c", "%s", "{}",
           "role", "name", "a\nb\n", "<&>", "AbC", "{0}-{a}", "%d|%5.2f", "ß", "Σς", "it's", 'q"', "\t"]
NUMBERS = ["0", "1", "2", "-1", "3", "7", "10", "0.5", "1.5", "-2.5", "2.0", "1e3", "100", "1e16", "0.1"]
BINARY = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and",
          "or", "**"]
ATTRIBUTES = ["a", "b", "c", "role", "content", "name", "age", "items", "keys", "values", "get", "nope",
              "tags", "0", "1", "city", "append", "__class__", "upper", "count", "index"]
TESTS = ["defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "mapping",
         "sequence", "iterable", "callable", "true", "false", "odd", "even", "lower", "upper", "escaped",
         "divisibleby(2)", "eq(1)", "ne 'a'", "lt 2", "ge(2)", "in [1, 'a']", "sameas none", "filter",
         "test", "in 'abc'", "gt 'a'"]
FILTERS = ["abs", "capitalize", "center(9)", "count", "default('d')", "d(1, true)", "dictsort",
           "dictsort(true, 'value')", "e", "escape", "first", "float", "float(1.5)", "forceescape",
           "format(1, 'b')", "format(2)", "groupby(0)", "groupby('age')", "indent", "indent(2, true)",
           "indent('> ', blank=true)", "int", "int(5)", "int(0, 16)", "int(base=0)", "items", "join",
           "join(', ')", "join('-', 'name')", "last", "length", "list", "lower", "map('upper')",
           "map('string')", "map(attribute='name')", "map(attribute=0, default='z')", "map('int', 3)",
           "max", "min", "min(true)", "reject('none')", "rejectattr('age')", "reject", "replace('a', 'b')",
           "replace('', '-', 2)", "reverse", "round", "round(1)", "round(-1)", "round(1, 'floor')", "safe",
           "select", "select('string')", "selectattr('name')", "selectattr('age', 'gt', 30)", "slice(2)",
           "slice(3, 'f')", "batch(2)", "batch(2, 0)", "sort", "sort(true)", "sort(attribute='age')",
           "sort(attribute='0,1')", "sort(case_sensitive=true)", "string", "sum", "sum(start=1)", "title",
           "tojson", "tojson(indent=2)", "tojson(sort_keys=true)", "tojson(true)", "trim", "trim('a ')",
           "truncate(5)", "truncate(4, true, '.')", "unique", "unique(true)", "upper", "urlencode",
           "wordcount", "xmlattr", "filesizeformat", "attr('name')", "attr('upper')", "length|string",
           "list|length", "list|string", "items|list", "map('list')|list", "batch(2)|list|first"]
METHODS = ["upper()", "lower()", "title()", "capitalize()", "swapcase()", "strip()", "strip('a ')",
           "lstrip()", "rstrip('c')", "split()", "split(',')", "split(' ', 1)", "rsplit(none, 1)",
           "rsplit('a', 1)", "splitlines()", "splitlines(true)", "join(['x', 'y'])", "join('ab')",
           "replace('a', 'X')", "replace('', '.', 2)", "find('a')", "rfind('a')", "find('b', 1)", "index('a')",
           "count('a')", "count('')", "startswith('a')", "endswith(('c', 'd'))", "isdigit()", "isalpha()",
           "isspace()", "isupper()", "islower()", "istitle()", "isalnum()", "zfill(5)", "center(7, '*')",
           "ljust(4)", "rjust(4, '.')", "partition('b')", "rpartition(' ')", "removeprefix('a')",
           "removesuffix('c')", "format(1, a=2)", "format('x', 'y')", "items()", "keys()", "values()",
           "get('a')", "get('zz', 5)", "copy()", "index(1)", "count(1)", "append(1)", "update({})",
           "items()|list", "expandtabs()", "isidentifier()", "casefold()", "pop()"]


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def pick(self, choices):
        return self.random.choice(choices)

    def literal(self):
        kind = self.random.randrange(10)
        if kind < 3:
            return repr(self.pick(STRINGS))
        if kind < 6:
            return self.pick(NUMBERS)
        return self.pick(["true", "false", "none", "[]", "{}", "[1, 2, 3]", "['b', 'A', 'c']", "(1, 'a')",
                          "{'a': 1, 'b': [2]}", "[[1, 'x'], [0, 'y']]", "range(4)", "missing", "''"])

    def expression(self, depth):
        if depth <= 0:
            return self.pick(NAMES) if self.random.random() < 0.6 else self.literal()
        e = lambda: self.expression(depth - 1 - self.random.randrange(2))
        kind = self.random.randrange(24)
        if kind < 5:
            return f"{e()} {self.pick(BINARY)} {e()}"
        if kind < 10:
            return f"{self.wrap(e())}|{self.pick(FILTERS)}"
        if kind < 13:
            return f"{self.wrap(e())}.{self.pick(METHODS)}"
        if kind < 15:
            return f"{self.wrap(e())}.{self.pick(ATTRIBUTES)}"
        if kind < 16:
            return f"{self.wrap(e())}[{e()}]"
        if kind < 17:
            bounds = [self.pick(["", "1", "-1", "2", "-3", "none", "n"]) for _ in range(3)]
            return f"{self.pick(NAMES)}[{':'.join(bounds)}]"
        if kind < 19:
            return f"{self.wrap(e())} is {self.pick(['', 'not '])}{self.pick(TESTS)}"
        if kind < 20:
            return f"{e()} if {e()}" + (f" else {e()}" if self.random.random() < 0.8 else "")
        if kind < 21:
            return f"{self.pick(['not ', '-', '+'])}{self.wrap(e())}"
        if kind < 22:
            return f"[{e()}, {e()}]" if self.random.random() < 0.5 else f"({e()},)"
        if kind < 23:
            return f"{{{self.literal()}: {e()}, 'k': {e()}}}"
        return f"'{self.pick(['%s', '%d', '%5s|', '%.2f', '%r', '{:>6}', '%-4s|', '%x'])}' % {self.wrap(e())}"

    def wrap(self, text):
        return text if re.fullmatch(r"\w+", text) and not text[0].isdigit() else f"({text})"

    def sign(self):
        return self.pick(["", "", "", "-", "-", "+"])

    def tag(self, body):
        right = self.sign()
        return "{%" + self.sign() + " " + body + " " + right + "%}"

    def blank(self):
        return self.pick(["", "", " ", "\n", "\n  ", "x", " y\n"])

    def statements(self, depth, in_loop=False):
        return "".join(self.blank() + self.statement(depth, in_loop)
                       for _ in range(self.random.randrange(1, 4))) + self.blank()

    def statement(self, depth, in_loop):
        kind = self.random.randrange(14 if depth > 0 else 5)
        name = self.pick(["x", "y", "n", "q", "s"])
        inner = lambda loop=in_loop: self.statements(depth - 1, loop)
        if kind < 3:
            left = self.pick(["", "-"])
            return "{{" + left + " " + self.expression(2) + " " + self.pick(["", "-"]) + "}}"
        if kind < 4:
            return self.tag(f"set {name} = {self.expression(2)}")
        if kind < 5:
            if in_loop:
                return self.tag(self.pick(["break", "continue", f"set ns.v = {self.expression(1)}"])) \
                    if self.random.random() < 0.3 else \
                    "{{ loop." + self.pick(["index", "index0", "first", "last", "length", "revindex",
                                            "previtem", "nextitem", "cycle(1, 2)", "changed(x)"]) + " }}"
            return "{#" + self.sign() + " c " + self.sign() + "#}"
        if kind < 7:
            return (self.tag(f"if {self.expression(2)}") + inner() +
                    (self.tag(f"elif {self.expression(1)}") + inner() if kind == 5 else "") +
                    self.tag("else") + inner() + self.tag("endif"))
        if kind < 10:
            iterable = self.pick(["list", "words", "users", "d", "d.items()", "range(3)", "messages[1:]",
                                  "'héy'", "[]", "words|map('upper')", "nested", self.expression(1)])
            target = self.pick(["x", "y", "x", "x, y"])
            test = f" if {self.expression(1)}" if self.random.random() < 0.3 else ""
            other = self.tag("else") + inner() if self.random.random() < 0.3 else ""
            return (self.tag(f"for {target} in {self.wrap(iterable)}{test}") +
                    self.statements(depth - 1, True) + other + self.tag("endfor"))
        if kind < 11:
            return self.tag(f"set {name}{self.pick(['', ' | upper', ' | trim'])}") + inner() + \
                self.tag("endset")
        if kind < 12:
            return self.tag(f"with {name} = {self.expression(1)}") + inner() + self.tag("endwith")
        if kind < 13:
            return self.tag(f"filter {self.pick(['upper', 'trim', 'indent', 'e|title'])}") + inner() + \
                self.tag("endfilter")
        macro = self.pick(["f", "g"])
        return (self.tag(f"macro {macro}(x, y={self.expression(0)})") + self.statements(depth - 1) +
                self.pick(["{{ x }}", "{{ varargs }}", "{{ caller is defined }}"]) +
                self.tag("endmacro") + "{{ " + macro + "(" + self.expression(1) + ") }}")

    def template(self):
        if self.random.random() < 0.6:
            return "{{ " + self.expression(4) + " }}"
        return "{% set ns = namespace(v=1) %}" + self.statements(3)


def skipped(reference, ours):
    text = reference.get("text", "") + reference.get("error", "")
    if re.search(r" at 0x|(?i:generator object)|generbtor|\d{19,}|\dj\)|Exceeds the limit|MemoryError|<function|<class|ntegers? too large", text):
        return True
    if reference.get("load") and "unhashable" in text:  # folded while compiling
        return True
    message = ours.get("error", "")
    return "64-bit" in message or "too " in message or "real power" in message or \
        "not supported" in message or ours.get("status") == "LIMIT" or "<method>" in ours.get("text", "")


def main():
    driver = Driver(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30)
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 20000
    print("seed", seed)
    generator = Generator(seed)
    different = rendered = 0
    for i in range(count):
        template = generator.template()
        if "**" in template and template.count("**") > 1:
            continue
        reference = render(template, CONTEXT)
        ours = driver.render(template, CONTEXT)
        rendered += "text" in reference
        same = "crash" not in ours and ("error" in ours if "error" in reference
                                        else ours.get("text") == reference["text"])
        if not same and ("crash" in ours or not skipped(reference, ours)):
            different += 1
            print("template:", repr(template))
            print("   jinja2:", str(reference)[:300])
            print("   ours:  ", str(ours)[:300])
            if different >= 40:
                break
    print(f"{different} differ; {rendered} of {i + 1} rendered")


if __name__ == "__main__":
    main()
