"""What the adapters written in Python share of the engine protocol of `llcuda bench`
(docs/internals/bench-protocol.md): JSON lines on standard input and output.

An adapter finds this file beside its own folder:

    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
    from protocol import PROTOCOL_VERSION, check_version, say, serve"""
import json
import os
import sys

PROTOCOL_VERSION = 1
# Whatever libraries print must not get between the lines of the protocol.
LINES = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)


def say(message):
    LINES.write(json.dumps(message, separators=(",", ":")) + "\n")
    LINES.flush()


def check_version(request):
    if request.get("version") != PROTOCOL_VERSION:
        raise ValueError(f"this adapter speaks version {PROTOCOL_VERSION} of the protocol")


def serve(engine):
    """Answers every line by the method of `engine` that its operation names, until `stop`."""
    for line in sys.stdin:
        request = json.loads(line)
        op = request.get("op", "")
        try:
            if op not in ("hello", "load", "run", "metrics", "stop"):
                raise ValueError(f"there is no operation '{op}'")
            say({"ok": True, "op": op, **getattr(engine, op)(request)})
        except Exception as error:  # every failure is an answer
            say({"ok": False, "op": op, "id": request.get("id"),
                 "error": f"{type(error).__name__}: {error}"})
        if op == "stop":
            break
