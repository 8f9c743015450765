"""llama-bench of llama.cpp behind the engine protocol of `llcuda bench`
(docs/internals/bench-protocol.md). The tool measures itself and answers no prompt, so this adapter
asks it once for every shape (prompt and output tokens), `-r` times, when the shape first comes,
which is while warming up, and then replays its samples one after another: a request is answered
when the tool says that it would have been. Its figures so go through the same statistics as
everybody else's. Several requests at once come one after another, as the tool would do them.
Options: "program" (an argument list, default ["llama-bench"]), "repetitions" (default 5),
"flags" (more arguments)."""
import json
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from protocol import PROTOCOL_VERSION, check_version, serve, tell_done, tell_row  # noqa: E402


class Engine:
    def __init__(self):
        self.settings, self.options = None, {}
        self.shapes = {}  # (prompt, output): a list of (prompt ns, output ns), and the next one

    def hello(self, request):
        check_version(request)
        return {"version": PROTOCOL_VERSION, "engine": "llama-bench", "engine_version": "",
                "concurrent": 1}

    def load(self, request):
        self.settings, self.options = request, request.get("options") or {}
        begin = time.monotonic()
        rows = self.ask(1, 1, 1)
        return {"load_ms": (time.monotonic() - begin) * 1e3,
                "engine_version": f"build {rows[0].get('build_number')} "
                                  f"({rows[0].get('build_commit')})",
                "details": {key: rows[0].get(key) for key in
                            ("build_commit", "build_number", "cpu_info", "gpu_info", "backends",
                             "model_type", "model_size", "model_n_params", "n_threads",
                             "n_gpu_layers", "type_k", "flash_attn")}}

    def ask(self, prompt, output, repetitions):
        """The tool's rows for one shape; zero tokens of a kind are left out."""
        program = [str(word) for word in self.options.get("program", ["llama-bench"])]
        command = program + ["-m", self.settings["model"], "-o", "json", "-r", str(repetitions),
                             "-p", str(prompt), "-n", str(output)]
        if self.settings.get("threads"):
            command += ["-t", str(self.settings["threads"])]
        command += ["-ngl", "0" if self.settings.get("device", "cpu") == "cpu" else "999"]
        command += [str(flag) for flag in self.options.get("flags", [])]
        try:
            result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                    stderr=sys.stderr, check=False)
        except OSError as error:
            raise RuntimeError(f"not installed: {error} (build llama.cpp with the target "
                               "llama-bench and put it on the PATH)") from error
        if result.returncode:
            raise RuntimeError(f"llama-bench ended with status {result.returncode}")
        rows = json.loads(result.stdout)
        if not isinstance(rows, list) or not rows:
            raise ValueError("llama-bench printed no list of results")
        return rows

    def samples(self, prompt, output):
        if (prompt, output) not in self.shapes:
            rows = self.ask(prompt, output, int(self.options.get("repetitions", 5)))
            times = {}
            for row in rows:
                if row["n_prompt"] == prompt and row["n_gen"] == 0:
                    times["prompt"] = row["samples_ns"]
                elif row["n_gen"] == output and row["n_prompt"] == 0:
                    times["output"] = row["samples_ns"]
            if set(times) != {"prompt", "output"}:
                raise ValueError("llama-bench did not measure the prompt and the output")
            self.shapes[prompt, output] = [list(zip(times["prompt"], times["output"])), 0]
        shape = self.shapes[prompt, output]
        shape[1] += 1
        return shape[0][(shape[1] - 1) % len(shape[0])]

    def run(self, request):
        if self.settings is None:
            raise RuntimeError("run before load")
        if not request.get("ignore_eos", True):
            raise ValueError("llama-bench answers no prompts")
        work = [(len(item["prompt_ids"]), max(2, int(item.get("max_tokens", 16))))
                for item in request["requests"]]
        if not all(prompt for prompt, _ in work):
            raise ValueError("a request has an empty prompt")
        # What is not known yet is measured first: a replay has no pauses of the tool's own.
        for prompt, output in work:
            if (prompt, output) not in self.shapes:
                self.samples(prompt, output)
        at_ns = time.monotonic_ns()
        for index, (prompt, output) in enumerate(work):
            prompt_ns, output_ns = self.samples(prompt, output)
            # The prompt's last row gives the first token; the tool's output run has `output` steps.
            times = [int(at_ns + prompt_ns + output_ns * step / output) for step in range(output)]
            time.sleep(max(0, times[-1] - time.monotonic_ns()) / 1e9)
            for moment in times:
                tell_row(request["id"], index, 0, moment)
            tell_done(request["id"], index, "length", prompt, output)
            at_ns = times[-1]
        return {"id": request["id"]}

    def metrics(self, _):
        return {"metrics": {"shapes": [
            {"prompt": prompt, "output": output, "samples_ns": samples}
            for (prompt, output), (samples, _) in self.shapes.items()]}}

    def stop(self, _):
        return {}


if __name__ == "__main__":
    serve(Engine())
