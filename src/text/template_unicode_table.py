#!/usr/bin/env python3
"""Writes template_unicode_table.c: what Python's str methods know about characters.

Run it by hand (python3 src/text/template_unicode_table.py > src/text/template_unicode_table.c, then
clang-format -i) when a newer Unicode is wanted; the tables follow the Unicode version of the
Python that runs it.
"""
import unicodedata

LAST = 0x110000
SURROGATES = range(0xD800, 0xE000)


def ranges(predicate):
    found, begin = [], None
    for code in range(LAST + 1):
        hit = code < LAST and code not in SURROGATES and predicate(chr(code))
        if hit and begin is None:
            begin = code
        if not hit and begin is not None:
            found.append((begin, code - 1))
            begin = None
    return found


def packed(found):
    """first << 11 | (length - 1); longer ranges are split."""
    numbers = []
    for first, last in found:
        while first <= last:
            length = min(2048, last - first + 1)
            numbers.append(first << 11 | (length - 1))
            first += length
    return numbers


def print_set(name, comment, found):
    numbers = packed(found)
    print(f"/* {comment} */")
    print(f"const uint32_t jinja_set_{name}[] = {{")
    print(", ".join(f"0x{n:X}" for n in numbers) + "};")
    print(f"const size_t jinja_set_{name}_count = {len(numbers)};\n")


def print_map(name, convert):
    single, special = [], []
    for code in range(LAST):
        if code in SURROGATES:
            continue
        out = convert(chr(code))
        if out == chr(code):
            continue
        if len(out) == 1:
            single.append((code, ord(out) - code))
        else:
            special.append((code, [ord(c) for c in out]))
    runs = []
    i = 0
    while i < len(single):
        code, delta = single[i]
        j, stride = i + 1, 1
        while j < len(single) and single[j][1] == delta:
            gap = single[j][0] - single[j - 1][0]
            if gap > 2 or (j > i + 1 and gap != stride):
                break
            stride = gap
            j += 1
        runs.append((code, j - i, stride, delta))
        i = j
    print(f"const struct jinja_case_run jinja_{name}_runs[] = {{")
    print(", ".join("{0x%X, %d, %d, %d}" % r for r in runs) + "};")
    print(f"const size_t jinja_{name}_runs_count = {len(runs)};\n")
    print(f"const struct jinja_case_special jinja_{name}_specials[] = {{")
    print(", ".join("{0x%X, {%s}}" % (c, ", ".join(f"0x{o:X}" for o in out))
                    for c, out in special) + "};")
    print(f"const size_t jinja_{name}_specials_count = {len(special)};\n")


def final_sigma_ignores(c):
    """Case-ignorable, found through what lower() does to a sigma before it."""
    return ("A\u03a3" + c + "A").lower()[1] == "\u03c3" and ("A\u03a3" + c).lower()[1] == "\u03c2"


print(f"""/* Owns the character tables of the template engine: Unicode {unicodedata.unidata_version}, as
 * Python's str methods see it. Written by template_unicode_table.py; do not edit. */
#include "text/template_unicode.h"

/* A range is first << 11 | (length - 1), in rising order. */
""")
print_set("alpha", "str.isalpha", ranges(str.isalpha))
print_set("decimal", "str.isdecimal", ranges(str.isdecimal))
print_set("digit", "str.isdigit and not str.isdecimal",
          ranges(lambda c: c.isdigit() and not c.isdecimal()))
print_set("numeric", "str.isnumeric and not str.isdigit",
          ranges(lambda c: c.isnumeric() and not c.isdigit()))
print_set("upper", "str.isupper", ranges(str.isupper))
print_set("lower", "str.islower", ranges(str.islower))
print_set("title", "neither, but str.istitle (category Lt)",
          ranges(lambda c: unicodedata.category(c) == "Lt"))
print_set("printable", "str.isprintable", ranges(str.isprintable))
print_set("ignorable", "skipped by the rule for a final sigma",
          ranges(lambda c: final_sigma_ignores(c)))
print_map("lower", str.lower)
print_map("upper", str.upper)
print_map("title", str.title)
