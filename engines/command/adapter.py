"""Any program that answers one prompt a call, behind the engine protocol of `llcuda bench`
(docs/internals/bench-protocol.md). Options:
  command  an argument list; {model} {prompt} {max_tokens} {threads} are filled in; no shell reads it
  words    count words as tokens where the program does not say how many it made (default true)
Each answer comes as one event when the program ends, or line by line as it prints: the time to the
first token is that of the first output, and loading the model is part of it, as it is for users."""
import json
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from protocol import say  # noqa: E402


def fill(word, values):
    for name, value in values.items():
        word = word.replace("{" + name + "}", str(value))
    return word


def run(settings, request):
    command = [str(word) for word in (settings.get("options") or {}).get("command") or []]
    if not command:
        raise ValueError("the option `command` is missing: an argument list")
    for index, item in enumerate(request["requests"]):
        values = {"model": settings["model"], "threads": settings.get("threads") or 0,
                  "max_tokens": item.get("max_tokens", 16), "prompt": item.get("prompt", "")}
        with subprocess.Popen([fill(word, values) for word in command], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=sys.stderr) as process:
            count = 0
            while piece := process.stdout.read1(4096):
                text = piece.decode(errors="replace")
                words = len(text.split())
                count += words
                if not words:
                    continue  # the end of a line is no word
                say({"event": "token", "id": request["id"], "index": index, "text": text,
                     "tokens": [0] * words})
        if process.returncode:
            raise RuntimeError(f"{command[0]} ended with status {process.returncode}")
        say({"event": "done", "id": request["id"], "index": index, "finish": "stop",
             "prompt_tokens": len(item["prompt_ids"]), "completion_tokens": count})
    return {"id": request["id"]}


def main():
    settings = {}
    for line in sys.stdin:
        request = json.loads(line)
        op = request.get("op", "")
        try:
            answer = {}
            if op == "hello":
                answer = {"version": 1, "engine": "command", "engine_version": "",
                          "concurrent": 1, "wants_text": True}
            elif op == "load":
                settings, answer = request, {"load_ms": 0}
                program = str(((request.get("options") or {}).get("command") or [""])[0])
                if program and not shutil.which(program):
                    say({"ok": False, "op": op, "installed": False,
                         "error": f"there is no program '{program}'"})
                    continue
            elif op == "run":
                answer = run(settings, request)
            elif op == "metrics":
                answer = {"metrics": {}}
            elif op != "stop":
                raise ValueError(f"there is no operation '{op}'")
            say({"ok": True, "op": op, **answer})
        except Exception as error:  # every failure is an answer
            say({"ok": False, "op": op, "id": request.get("id"), "error": str(error)})
        if op == "stop":
            break


if __name__ == "__main__":
    main()
