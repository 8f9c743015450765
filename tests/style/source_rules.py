"""Rules that a compiler does not know: banned calls, file length, an opening comment, line width."""
import pathlib
import re
import sys

from sources import listed

BANNED = re.compile(r"(?<![\w.>])(strtol|strtoul|strtoll|strtoull|atoi|atol|atof|alloca|strcpy|"
                    r"strcat|sprintf|vsprintf|gets|system|popen)\s*\(")
# Inner rooms never print, exit or read the environment.
PROGRAM_ONLY = re.compile(r"(?<![\w.>])(printf|puts|putchar|exit|abort|getenv|signal|sigaction)\s*\(")
LINES_MAX = 1000
COLUMNS_MAX = 100


def strip_comments_and_strings(text):
    """Blanks out comments and literals, keeping the lines."""
    pattern = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def problems_of(root, name):
    text = (root / name).read_text()
    generated = "unicode_tables" in name
    lines = text.splitlines()
    code = strip_comments_and_strings(text).splitlines()
    if len(lines) > LINES_MAX and not generated:
        yield f"{name}: {len(lines)} lines, more than {LINES_MAX}"
    if name.startswith("src/") and not text.startswith("/*"):
        yield f"{name}: does not open with a comment that says what it owns"
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS_MAX and not generated:
            yield f"{name}:{number}: {len(line)} columns"
    inner = name.startswith("src/") and not name.startswith("src/cli/")
    for number, line in enumerate(code, 1):
        if name.startswith("src/") and BANNED.search(line):
            yield f"{name}:{number}: banned call: {line.strip()}"
        if inner and PROGRAM_ONLY.search(line):
            yield f"{name}:{number}: only src/cli may do this: {line.strip()}"


def main():
    root = pathlib.Path(sys.argv[1])
    names = listed(root, "src/*.c", "src/*.h", "include/*.h", "include/*.hpp", "tests/*.c",
                   "tests/*.h", "fuzz/*.c", "examples/*.c", "examples/*.cpp")
    problems = [problem for name in names for problem in problems_of(root, name)]
    print("\n".join(problems))
    print(f"{len(names)} files looked at, {len(problems)} problems")
    return 1 if problems or not names else 0


if __name__ == "__main__":
    sys.exit(main())
