"""What the adapters written in Python share of the engine protocol of `llcuda bench`
(docs/internals/bench-protocol.md): JSON lines on standard input and output.

An adapter finds this file beside its own folder:

    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
    from protocol import PROTOCOL_VERSION, check_version, serve, tell_done, tell_token"""
import json
import os
import sys
import time

PROTOCOL_VERSION = 1
# Whatever libraries print must not get between the lines of the protocol.
LINES = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)


class Hold:
    """How long tokens may wait for company before they are written; the harness says in `run`."""
    seconds = 0.0
    written = 0.0
    rows = []  # (run, index, token, at_ns) of tokens that are not written yet


def write_rows():
    """What waits, as one line: a column for each member."""
    if Hold.rows:
        run, index, token, at_ns = map(list, zip(*Hold.rows))
        Hold.rows.clear()
        line = {"event": "tokens", "id": run, "index": index, "token": token, "at_ns": at_ns}
        LINES.write(json.dumps(line, separators=(",", ":")) + "\n")


def say(message):
    write_rows()
    LINES.write(json.dumps(message, separators=(",", ":")) + "\n")
    LINES.flush()
    Hold.written = time.monotonic()


def tell_row(run, index, token, at_ns):
    """A token that was known at a time; it is written with whatever comes next."""
    Hold.rows.append((run, index, token, at_ns))


def tell_token(run, index, token):
    """A token that is known now; it may wait a little."""
    at_ns = time.monotonic_ns()
    tell_row(run, index, token, at_ns)
    if at_ns / 1e9 - Hold.written >= Hold.seconds:
        write_rows()
        LINES.flush()
        Hold.written = at_ns / 1e9


def tell_done(run, index, finish, prompt_tokens, completion_tokens):
    """The last event of a request, at once, with whatever waited."""
    say({"event": "done", "id": run, "index": index, "finish": finish,
         "prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens})


def check_version(request):
    if request.get("version") != PROTOCOL_VERSION:
        raise ValueError(f"this adapter speaks version {PROTOCOL_VERSION} of the protocol")


def serve(engine):
    """Answers every line by the method of `engine` that its operation names, until `stop`."""
    for line in sys.stdin:
        request = json.loads(line)
        op = request.get("op", "")
        try:
            if op not in ("hello", "load", "run", "metrics", "profile", "stop") or \
                    not hasattr(engine, op):
                raise ValueError(f"there is no operation '{op}'")
            Hold.seconds = request.get("hold_us", 0) / 1e6
            say({"ok": True, "op": op, **getattr(engine, op)(request)})
        except Exception as error:  # every failure is an answer
            say({"ok": False, "op": op, "id": request.get("id"),
                 "error": f"{type(error).__name__}: {error}"})
        if op == "stop":
            break
