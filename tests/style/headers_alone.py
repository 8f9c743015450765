"""Compiles every header alone: public ones as C11 and C++17, inner ones as C17."""
import pathlib
import re
import subprocess
import sys

from sources import listed

# Bodies that each instruction set's file includes after it has defined its vectors: no headers of
# their own.
PARAMETERISED = re.compile(r"src/(cpu|engine)/\w*(simd|_body|_ops|avx)\w*\.h$")


def compiles(command, text):
    result = subprocess.run(command + ["-fsyntax-only", "-"], input=text, capture_output=True,
                            text=True, check=False)
    if result.returncode:
        print(text.strip(), result.stderr, sep="\n")
    return result.returncode == 0


def main():
    root, c_compiler, cxx_compiler, generated = sys.argv[1:5]
    strict = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{root}/include"]
    bad = 0
    count = 0
    for name in listed(root, "include/*.h", "include/*.hpp"):
        text = f'#include "{pathlib.PurePath(name).relative_to("include")}"\n'
        jobs = [[cxx_compiler, "-xc++", "-std=c++17"]]
        if name.endswith(".h"):
            jobs.append([c_compiler, "-xc", "-std=c11"])
        for job in jobs:
            bad += not compiles(job + strict, text)
            count += 1
    inner = ["-xc", "-std=c17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", f"-I{root}/include",
             f"-I{root}/src", f"-I{generated}"]
    for name in listed(root, "src/*.h"):
        if PARAMETERISED.search(name):
            continue
        text = f'#include "{pathlib.PurePath(name).relative_to("src")}"\n'
        bad += not compiles([c_compiler] + inner, text)
        count += 1
    print(f"{count} compilations, {bad} failed")
    return 1 if bad or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
