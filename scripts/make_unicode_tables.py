#!/usr/bin/env python3
"""Writes src/text/unicode_tables.c from Python's own Unicode database.

Run it with a Python whose unicodedata is version 14.0.0 (Python 3.11), the version that Debian 12's
PCRE2 10.42 has too, so that the hand-written pre-tokenisers and the regular expressions that they
are compared with agree on every character:

    python3.11 scripts/make_unicode_tables.py > src/text/unicode_tables.c
"""
import sys
import unicodedata

VERSION = "14.0.0"
BLOCK = 128
# The order is that of enum unicode_category in src/text/unicode.h.
CATEGORIES = ["Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd",
              "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf",
              "Cs", "Co"]
WHITE_SPACE, HAN, NFC_UNSAFE = 1 << 5, 1 << 6, 1 << 7

# The properties White_Space and Script=Han are not in unicodedata; these are their ranges in 14.0.
WHITE_SPACE_RANGES = [(0x9, 0xD), (0x20, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680),
                      (0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F),
                      (0x3000, 0x3000)]
HAN_RANGES = [(0x2E80, 0x2E99), (0x2E9B, 0x2EF3), (0x2F00, 0x2FD5), (0x3005, 0x3005),
              (0x3007, 0x3007), (0x3021, 0x3029), (0x3038, 0x303B), (0x3400, 0x4DBF),
              (0x4E00, 0x9FFF), (0xF900, 0xFA6D), (0xFA70, 0xFAD9), (0x16FE2, 0x16FE3),
              (0x16FF0, 0x16FF1), (0x20000, 0x2A6DF), (0x2A700, 0x2B738), (0x2B740, 0x2B81D),
              (0x2B820, 0x2CEA1), (0x2CEB0, 0x2EBE0), (0x2F800, 0x2FA1D), (0x30000, 0x3134A)]


def in_ranges(code, ranges):
    return any(first <= code <= last for first, last in ranges)


def composes_backwards():
    """Code points that can be the second half of a composition: NFC_Quick_Check=Maybe."""
    found = set()
    for code in range(0x110000):
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            found.add(int(parts[1], 16))
    # Hangul vowels and final consonants compose by rule.
    found.update(range(0x1161, 0x1176))
    found.update(range(0x11A8, 0x11C3))
    return found


def property_byte(code, maybe):
    char = chr(code)
    value = CATEGORIES.index(unicodedata.category(char))
    if in_ranges(code, WHITE_SPACE_RANGES):
        value |= WHITE_SPACE
    if in_ranges(code, HAN_RANGES):
        value |= HAN
    if 0xD800 <= code <= 0xDFFF:
        return value
    if (code in maybe or unicodedata.combining(char) or
            unicodedata.normalize("NFC", char) != char):
        value |= NFC_UNSAFE
    return value


def characters():
    """Every code point that is no surrogate."""
    return (code for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF)


def case_runs(convert):
    """Runs (first, last, step, delta) of the mappings from one character to one character."""
    pairs = []
    for code in characters():
        mapped = convert(chr(code))
        if mapped != chr(code) and len(mapped) == 1:
            pairs.append((code, ord(mapped) - code))
    runs = []
    for code, delta in pairs:
        if runs:
            first, last, step, run_delta = runs[-1]
            gap = code - last
            if run_delta == delta and (gap == step or (first == last and gap in (1, 2))):
                runs[-1] = (first, code, gap, delta)
                continue
        runs.append((code, code, 1, delta))
    return runs


def ranges_of(predicate):
    """Ranges (first, last) of the characters for which the predicate holds."""
    found = []
    for code in characters():
        if predicate(chr(code)):
            if found and found[-1][1] == code - 1:
                found[-1] = (found[-1][0], code)
            else:
                found.append((code, code))
    return found


def beyond(predicate, categories):
    """Where a property holds beside whole categories, in which it must hold everywhere."""
    for code in characters():
        if unicodedata.category(chr(code)) in categories and not predicate(chr(code)):
            sys.exit(f"U+{code:04X} is not what its category says")
    return ranges_of(lambda c: predicate(c) and unicodedata.category(c) not in categories)


def is_case_ignorable(c):
    """Found through what lower() does to a sigma before it."""
    return ("A\u03a3" + c + "A").lower()[1] == "\u03c3" and ("A\u03a3" + c).lower()[1] == "\u03c2"


def write_runs(name, runs, out):
    out.append(f"const struct unicode_case_run {name}_runs[{len(runs)}] = {{")
    for first, last, step, delta in runs:
        out.append(f"    {{0x{first:X}, 0x{last:X}, {step}, {delta}}},")
    out.append("};")
    out.append(f"const uint32_t {name}_run_count = {len(runs)};")
    out.append("")


def write_specials(name, codes, convert, out):
    out.append(f"const struct unicode_case_special {name}_specials[{len(codes)}] = {{")
    for code in codes:
        mapped = [f"0x{ord(c):X}" for c in convert(chr(code))]
        out.append(f"    {{0x{code:X}, {{{', '.join(mapped)}}}}},")
    out.append("};")
    out.append(f"const uint32_t {name}_special_count = {len(codes)};")
    out.append("")


def write_ranges(name, ranges, out):
    out.append(f"const struct unicode_range {name}_ranges[{len(ranges)}] = {{")
    line = "    "
    for first, last in ranges:
        item = f"{{0x{first:X}, 0x{last:X}}}, "
        if len(line) + len(item) > 100:
            out.append(line.rstrip())
            line = "    "
        line += item
    out.append(line.rstrip())
    out.append("};")
    out.append(f"const uint32_t {name}_range_count = {len(ranges)};")
    out.append("")


def write_cases(out):
    """Case mappings, and what Python's str methods see beside the categories."""
    write_runs("unicode_lower", case_runs(str.lower), out)
    write_runs("unicode_upper", case_runs(str.upper), out)
    write_specials("unicode_upper", [code for code in characters() if len(chr(code).upper()) > 1],
                   str.upper, out)
    write_specials("unicode_title",
                   [code for code in characters() if chr(code).title() != chr(code).upper()],
                   str.title, out)
    write_ranges("unicode_digit", ranges_of(lambda c: c.isdigit() and not c.isdecimal()), out)
    write_ranges("unicode_numeric", beyond(str.isnumeric, ("Nd", "Nl", "No")), out)
    write_ranges("unicode_upper", beyond(str.isupper, ("Lu",)), out)
    write_ranges("unicode_lower", beyond(str.islower, ("Ll",)), out)
    write_ranges("unicode_ignorable",
                 beyond(is_case_ignorable, ("Mn", "Me", "Cf", "Lm", "Sk")), out)


def write_numbers(name, kind, numbers, out):
    out.append(f"const {kind} {name}[{len(numbers)}] = {{")
    line = "    "
    for number in numbers:
        item = f"{number}, "
        if len(line) + len(item) > 100:
            out.append(line.rstrip())
            line = "    "
        line += item
    out.append(line.rstrip())
    out.append("};")
    out.append("")


def main():
    if unicodedata.unidata_version != VERSION:
        sys.exit(f"unicodedata is {unicodedata.unidata_version}, this script wants {VERSION}")
    maybe = composes_backwards()
    stage1, blocks, numbers_of = [], [], {}
    for start in range(0, 0x110000, BLOCK):
        block = tuple(property_byte(code, maybe) for code in range(start, start + BLOCK))
        if block not in numbers_of:
            numbers_of[block] = len(blocks)
            blocks.append(block)
        stage1.append(numbers_of[block])
    out = ["/* Made by scripts/make_unicode_tables.py from Unicode " + VERSION + ". Do not edit. */",
           '#include "text/unicode.h"', "", "/* clang-format off */", ""]
    if len(blocks) > 256:
        sys.exit("unicode.h declares unicode_stage1 as uint8_t")
    write_numbers("unicode_stage1", "uint8_t", stage1, out)
    write_numbers("unicode_stage2", "uint8_t", [b for block in blocks for b in block], out)
    ascii_classes = [1 << (b & 31) | (b & (WHITE_SPACE | HAN)) << 25 for b in blocks[stage1[0]]]
    write_numbers("unicode_ascii_class", "uint32_t",
                  [f"0x{c:X}u" for c in ascii_classes] + ["0"] * 128, out)
    write_cases(out)
    print("\n".join(out).rstrip())


main()
