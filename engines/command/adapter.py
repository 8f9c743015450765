"""Any program that answers one prompt a call, behind the engine protocol of `llcuda bench`
(docs/internals/bench-protocol.md). Options:
  command      an argument list; {model} {folder} {prompt} {max_tokens} {threads} are filled in, {folder}
               with that of the model; no shell reads it
  input        what it reads as its standard input, "{prompt}\\n" say, with the prompt as one line; a program
               that is asked in this way may wait for the next question: it is ended when it has answered
  begin_after  what stands before the answer in its output
  end_at       what stands behind it
  pieces       count a token for each piece that it prints by itself; otherwise one for each word
Each answer comes as one event when the program ends, or piece by piece as it prints: the time to the
first token is that of the first output, and loading the model is part of it, as it is for users."""
import codecs
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


class Answer:
    """What of a program's output is the answer, as it comes."""

    def __init__(self, options):
        self.before = options.get("begin_after", "")
        self.end = options.get("end_at", "")
        self.decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self.kept = ""  # may be part of a mark
        self.over = False

    def take(self, piece):
        text = self.kept + self.decode(piece)
        self.kept = ""
        if self.before:
            at = text.find(self.before)
            if at < 0:
                self.kept = text
                return ""
            text = text[at + len(self.before):]
            self.before = ""
        at = text.find(self.end) if self.end else -1
        if at >= 0:
            self.over = True
            return text[:at]
        for length in range(min(len(self.end), len(text)), 0, -1):
            if self.end.startswith(text[-length:]):
                self.kept = text[-length:]
                return text[:-length]
        return text


def answer_one(command, options, values, request, index):
    """Runs the program once; returns how many tokens it made."""
    asked = None
    if "input" in options:
        line = " ".join(values["prompt"].split("\n"))
        asked = fill(options["input"], {**values, "prompt": line}).encode()
    answer = Answer(options)
    count = 0
    with subprocess.Popen([fill(word, values) for word in command],
                          stdin=subprocess.DEVNULL if asked is None else subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=sys.stderr) as process:
        if asked is not None:
            try:
                process.stdin.write(asked)
                process.stdin.flush()
            except BrokenPipeError:
                pass  # its status says more
        while not answer.over and (piece := process.stdout.read1(4096)):
            text = answer.take(piece)
            tokens = len(text.split())
            if options.get("pieces") and text:
                tokens = 1
            if asked is not None:
                tokens = min(tokens, values["max_tokens"] - count)
                answer.over = answer.over or count + tokens >= values["max_tokens"]
            count += tokens
            if tokens > 0:  # the end of a line is no word
                say({"event": "token", "id": request["id"], "index": index, "text": text,
                     "tokens": [0] * tokens})
        ended = answer.over and asked is not None
        if ended:
            process.kill()
    if process.returncode and not ended:
        raise RuntimeError(f"{command[0]} ended with status {process.returncode}")
    if answer.before:
        raise RuntimeError(f"{command[0]} did not print '{answer.before}'")
    return count


def run(settings, request):
    options = settings.get("options") or {}
    command = [str(word) for word in options.get("command") or []]
    if not command:
        raise ValueError("the option `command` is missing: an argument list")
    for index, item in enumerate(request["requests"]):
        values = {"model": settings["model"], "folder": pathlib.Path(settings["model"]).parent,
                  "threads": settings.get("threads") or 0,
                  "max_tokens": item.get("max_tokens", 16), "prompt": item.get("prompt", "")}
        count = answer_one(command, options, values, request, index)
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
