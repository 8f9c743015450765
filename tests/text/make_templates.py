#!/usr/bin/env python3
"""Writes data/template_cases.json: our own snippets and chat templates as jinja2 renders them.

Run it by hand (python3 tests/text/make_templates.py) after changing template_snippets.py or
template_chats.py; test_template.c replays the file. Needs jinja2. It also writes the seeds of the two fuzz targets.
With --compare DRIVER it renders with our engine too and prints where they differ.
"""
import itertools
import json
import pathlib
import sys

import template_chats
import template_snippets as snippets
from template_reference import Driver, render

NOW = 1735787045
HERE = pathlib.Path(__file__).parent


def expressions(block):
    """Rows of expressions divided by ' | ' outside of strings, brackets and filters: a filter is
    written without blanks around its bar."""
    for line in block.strip("\n").split("\n\n"):
        parts, current, depth, quote, i = [], "", 0, None, 0
        text = line.replace("\\\n", "\\\x01").replace("\n", " | ").replace("\\\x01", "\\\n")
        while i < len(text):
            c = text[i]
            if quote:
                current += c
                if c == "\\":
                    current += text[i + 1]
                    i += 1
                elif c == quote:
                    quote = None
            elif c in "'\"":
                quote = c
                current += c
            elif c in "([{":
                depth += 1
                current += c
            elif c in ")]}":
                depth -= 1
                current += c
            elif depth == 0 and text.startswith(" | ", i):
                parts.append(current.strip())
                current = ""
                i += 2
            else:
                current += c
            i += 1
        parts.append(current.strip())
        yield from (part for part in parts if part)


def whitespace():
    """Every combination of signs around a tag, with and without blanks and newlines."""
    signs = ["", "-", "+"]
    for before, after in itertools.product(["", " ", "\n", "a \n  ", "a\n\n", "\t"], repeat=2):
        for left, right in itertools.product(signs, signs):
            yield f"{before}{{%{left} if n {right}%}}{after}x{before}{{%{left} endif {right}%}}{after}"
    for before, after in itertools.product(["", " ", "\n", " \n  "], repeat=2):
        for left, right in itertools.product(["", "-", "+"], ["", "-"]):
            yield f"a{before}{{{{{left} n {right}}}}}{after}b"
        for left, right in itertools.product(signs, signs):
            yield f"a{before}{{#{left} c {right}#}}{after}b"


def templates():
    for block in (snippets.LITERALS, snippets.OPERATORS, snippets.ACCESS, snippets.METHODS,
                  snippets.FILTERS, snippets.TESTS):
        for expression in expressions(block):
            yield "{{ " + expression + " }}", snippets.CONTEXT
    for template in itertools.chain(snippets.STATEMENTS, whitespace(), snippets.REFUSED):
        yield template, snippets.CONTEXT
    yield from template_chats.cases()


def tables(cases):
    """Templates and contexts that several cases share are stored once."""
    stored = {"templates": [], "contexts": [snippets.CONTEXT], "cases": cases}
    places = {}
    for case in cases:
        context = json.dumps(case["context"])
        if context == json.dumps(snippets.CONTEXT):
            del case["context"]
        else:
            if context not in places:
                places[context] = len(stored["contexts"])
                stored["contexts"].append(case["context"])
            case["context"] = places[context]
        template = case["template"]
        if len(template) > 1000:
            if template not in places:
                places[template] = len(stored["templates"])
                stored["templates"].append(template)
            case["template"] = places[template]
    return stored


def make_case(template, context):
    answer = render(template, context, NOW)
    case = {"template": template, "context": context}
    if "text" in answer:
        case["expected"] = answer["text"]
    elif "raised" in answer:
        case["raised"] = answer["raised"]
    else:
        case["refused"] = "load" if answer["load"] else "render"
    return case, answer


def differs(case, ours):
    if "crash" in ours:
        return True
    if "expected" in case:
        return ours.get("text") != case["expected"]
    if "raised" in case:
        return ours.get("error") != case["raised"] or ours.get("status") != "REFUSED"
    return "error" not in ours or (case["refused"] == "load" and not ours["load"])


def write_seeds(cases):
    """Some of the cases as fuzzing seeds: a template, and a template, NUL, its variables."""
    corpus = HERE.parents[1] / "fuzz" / "corpus"
    for target in ("template_parse", "template_render"):
        folder = corpus / target
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("case-*"):
            old.unlink()
    short = [case for case in cases if len(case["template"]) > 25 and "context" in case]
    for number, case in enumerate(short[::23]):
        template = case["template"].encode()
        context = json.dumps(case["context"], ensure_ascii=False).encode()
        (corpus / "template_parse" / f"case-{number:03}").write_bytes(template)
        (corpus / "template_render" / f"case-{number:03}").write_bytes(template + b"\0" + context)


def main():
    driver = Driver(sys.argv[2]) if len(sys.argv) > 2 and sys.argv[1] == "--compare" else None
    cases, seen, different = [], set(), 0
    for template, context in templates():
        key = (template, id(context))
        if key in seen:
            continue
        seen.add(key)
        case, answer = make_case(template, context)
        cases.append(case)
        if driver:
            ours = driver.render(template, context, NOW)
            if differs(case, ours):
                different += 1
                print("template:", repr(template)[:300])
                print("   jinja2:", str(answer)[:400])
                print("   ours:  ", str(ours)[:400])
    if driver:
        print(f"{different} of {len(cases)} differ")
        return
    write_seeds(cases)
    contents = "{" + f'"now": {NOW},\n' + ",\n".join(
        f'"{name}": [\n' + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]"
        for name, rows in tables(cases).items()) + "}\n"
    (HERE / "data" / "template_cases.json").write_text(contents, encoding="utf-8", newline="\n")
    counts = [sum(kind in case for case in cases) for kind in ("expected", "raised", "refused")]
    print("%d cases: %d rendered, %d raised, %d refused" % (len(cases), *counts))


if __name__ == "__main__":
    main()
