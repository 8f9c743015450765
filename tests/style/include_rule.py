"""Walks the includes of src/ and fails on an arrow that the table of rooms does not allow."""
import pathlib
import re
import sys

from sources import listed

# Who may include whom, besides itself and `base`. docs/internals/rooms.md explains the table.
ALLOWED = {
    "base": set(),
    "tensor": set(),
    "format": {"tensor"},
    "text": set(),
    "plan": {"tensor"},
    "model": {"plan", "format", "tensor"},
    "device": {"plan", "tensor"},
    "cpu": {"device", "plan", "tensor"},
    "kernels": set(),
    "gpu": {"device", "plan", "tensor", "kernels"},
    "dist": {"device", "plan"},
    "engine": {"tensor", "format", "text", "plan", "model", "device", "cpu", "gpu", "dist",
               "public"},
    "net": set(),
    "server": {"net", "public"},
    "convert": {"tensor", "format", "text", "model", "plan", "cpu"},
    "bench": {"tensor", "plan", "device", "net", "public"},
    "cli": {"tensor", "format", "text", "plan", "model", "device", "cpu", "gpu", "dist", "engine",
            "net", "server", "bench", "convert", "public"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


def room_of(include):
    """The room that a quoted include belongs to."""
    if include == "llcuda/status.h":
        return "base"
    if include.startswith("llcuda/"):
        return "public"
    return include.split("/")[0] if "/" in include else None


def main():
    root = pathlib.Path(sys.argv[1])
    violations = []
    arrows = 0
    for name in listed(root, "src/*.c", "src/*.h", "src/*.S"):
        room = name.split("/")[1]
        if room not in ALLOWED:
            violations.append(f"{name}: the room '{room}' is not in the table")
            continue
        for include in INCLUDE.findall((root / name).read_text()):
            target = room_of(include)
            arrows += 1
            if target not in ALLOWED[room] | {None, "base", room}:
                violations.append(f"{name}: {room} may not include {include}")
    for name in listed(root, "include/*.h", "include/*.hpp"):
        for include in INCLUDE.findall((root / name).read_text()):
            if not include.startswith("llcuda/"):
                violations.append(f"{name}: a public header may not include {include}")
    print("\n".join(violations))
    print(f"{arrows} includes looked at")
    return 1 if violations or arrows == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
