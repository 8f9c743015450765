"""Fails when clang-format would change a file."""
import subprocess
import sys

from sources import listed


def main():
    root, formatter = sys.argv[1:3]
    names = [f"{root}/{name}" for name in listed(root, "*.c", "*.h", "*.cpp", "*.hpp")
             if "unicode_tables" not in name]
    result = subprocess.run([formatter, "--dry-run", "-Werror", *names], capture_output=True,
                            text=True, check=False)
    print(result.stderr[-4000:])
    print(f"{len(names)} files looked at")
    return result.returncode


if __name__ == "__main__":
    sys.exit(main())
