#!/usr/bin/env python3
"""Runs the program on a device against what transformers and PyTorch computed (data/), and lets the
built-in model answer there as on the CPU. Needs Python alone.

    compare.py PROGRAM [--device cuda:0] [--option=--cuda-path --option=FOLDER] [--jobs 4]
               [--oracle FOLDER] [--models llama,mixtral]

Every tiny model runs whole, with one and with half of its layers on the device, deterministic and
without graphs; its weights as they are, in float32 and in float16. With --oracle the stories of its models too. Prints
a line a model with the largest distance of any row, |a - b| / |b|; exit status 1 when one is too far.
"""
import argparse
import array
import concurrent.futures
import json
import math
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

DATA = pathlib.Path(__file__).resolve().parent / "data"
WAYS = {
    "plain": (),
    "1 layer": ("--gpu-layers", "1"),
    "half": ("--gpu-layers", "half"),
    "deterministic": ("--deterministic",),
    "no graphs": ("--gpu-graphs", "off"),
}
# Activations have the type of the weights; a choice between nearly equal experts may tip with the
# rounding of halves, so that of experts nine rows in ten must be near.
LIMITS = {"f32": 2e-5, "f16": 1e-2, "bf16": 5e-2}
QUESTIONS = ("What is 2+2?", "What is 7+8?", "What is 31+14?", "Hello")


class Failure(Exception):
    pass


def npy(path, kind):
    data = path.read_bytes()
    values = array.array(kind)
    values.frombytes(data[10 + struct.unpack("<H", data[8:10])[0]:])
    return values


def run(program, *arguments):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("LLCUDA_")}
    try:
        result = subprocess.run([program, *map(str, arguments)], capture_output=True, timeout=300,
                                env=clean, check=False)
    except subprocess.TimeoutExpired as error:
        raise Failure("no answer within 300 seconds") from error
    if result.returncode:
        raise Failure(f"exit {result.returncode}: {result.stderr.decode(errors='replace').strip()}")
    return result.stdout.decode()


def row_distances(actual, expected, rows):
    width = len(expected) // rows
    if len(actual) != len(expected):
        raise Failure(f"{len(actual)} logits, not {len(expected)}")
    for row in range(rows):
        part = range(row * width, (row + 1) * width)
        difference = math.sqrt(sum((actual[i] - expected[i]) ** 2 for i in part))
        norm = math.sqrt(sum(expected[i] ** 2 for i in part))
        distance = difference / norm
        yield distance if math.isfinite(distance) else math.inf


class Checker:
    def __init__(self, arguments, folder):
        self.program, self.folder = arguments.program, folder
        self.device = ("--device", arguments.device, *arguments.option)
        self.names = arguments.models.split(",") if arguments.models else []
        self.failures = []

    def eval(self, name, kind, model, layers, way):
        """The largest distance of a row, as text; a failure is noted."""
        if way == "half" and layers < 4:
            return "="
        folder = DATA / name
        tokens = npy(folder / "tokens.npy", "i")
        expected = npy(folder / "logits.npy", "f")
        out = pathlib.Path(self.folder) / f"{name}-{kind}-{way.replace(' ', '-')}.npy"
        options = [str(max(1, layers // 2)) if word == "half" else word for word in WAYS.get(way, ())]
        device = ("--device", "cpu") if way == "cpu" else self.device
        cache = ("--cache-type", "f32") if kind == "f32" else ()
        try:
            run(self.program, "eval", "-m", model, "--ids", " ".join(map(str, tokens)), "--logits",
                out, *device, *cache, *options)
            distances = list(row_distances(npy(out, "f"), expected, len(tokens)))
        except Failure as error:
            self.failures.append(f"{name}, {kind}, {way}: {error}")
            return "FAILED"
        far = sum(distance > LIMITS[kind] for distance in distances)
        routed = name in ("mixtral", "gpt-oss") or name.endswith("moe")
        if far > (len(tokens) // 10 if routed and kind != "f32" else 0):
            self.failures.append(f"{name}, {kind}, {way}: {far} of {len(tokens)} rows are farther than "
                                 f"{LIMITS[kind]:g}, the farthest {max(distances):.3g}")
            return f"{max(distances):.1e} !"
        return f"{max(distances):.1e}"

    def models(self, jobs):
        """Lines of a table."""
        tasks = []
        for folder in sorted(DATA.iterdir()):
            if self.names and folder.name not in self.names:
                continue
            gguf = folder / "model.gguf"
            plan = json.loads(run(self.program, "inspect", gguf, "--json"))
            kinds = {tensor_type(plan): gguf}
            for kind in {"f32", "f16"} - kinds.keys():
                kinds[kind] = pathlib.Path(self.folder) / f"{folder.name}-{kind}.gguf"
                run(self.program, "quantize", gguf, kinds[kind], kind)
            layers = json.loads(run(self.program, "plan", gguf, "--device", "cpu", "--json"))["layers"]
            tasks += [(folder.name, kind, model, layers, way) for kind, model in sorted(kinds.items())
                      for way in ("cpu", *WAYS)]
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            cells = list(pool.map(lambda task: self.eval(*task), tasks))
        ways = ("cpu", *WAYS)
        yield f"{'model':24}" + "".join(f"{way:>15}" for way in ways)
        for i in range(0, len(tasks), len(ways)):
            yield f"{tasks[i][0] + ' ' + tasks[i][1]:24}" + "".join(f"{cell:>15}"
                                                                    for cell in cells[i:i + len(ways)])

    def answers(self):
        """The built-in model's; greedy, so that a right device gives the CPU's words."""
        same = 0
        for question in QUESTIONS:
            words = ("infer", "--chat", "-p", question, "--temp", "0", "-n", "24")
            try:
                expected = run(self.program, *words, "--device", "cpu")
                for way in ("plain", "1 layer", "deterministic"):
                    answer = run(self.program, *words, *self.device, *WAYS[way])
                    same += answer == expected
                    if answer != expected:
                        self.failures.append(f"built-in model, {way}: {question} {answer!r}, on the CPU "
                                             f"{expected!r}")
            except Failure as error:
                self.failures.append(f"built-in model: {question} {error}")
        yield f"built-in model: {same} of {3 * len(QUESTIONS)} answers are the CPU's"

    def stories(self, oracle):
        expected = (oracle / "models/stories260K-expected.txt").read_text()
        for way, options in WAYS.items():
            words = [word.replace("half", "3") for word in options]
            try:
                text = run(self.program, "infer", "-m", oracle / "models/stories260K-f32.gguf", "-p", "",
                           "--temp", "0", "-n", "198", *self.device, *words)
                fine = len(text) > 400 and expected.startswith(text.lstrip())
            except Failure as error:
                text, fine = str(error), False
            if not fine:
                self.failures.append(f"story, {way}: {text!r}")
            yield f"story, {way}: {'to the letter' if fine else 'WRONG'}"


def tensor_type(inspected):
    """The type of a file's matrices."""
    kinds = {tensor["type"].lower() for tensor in inspected["tensors"] if len(tensor["shape"]) > 1}
    return next(kind for kind in ("f16", "bf16", "f32") if kind in kinds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--option", action="append", default=[])
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--oracle", type=pathlib.Path)
    parser.add_argument("--models", default="")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checker = Checker(arguments, folder)
        lines = [*checker.models(arguments.jobs), *checker.answers()]
        if arguments.oracle:
            lines += checker.stories(arguments.oracle)
    print("\n".join(lines))
    for failure in checker.failures:
        print("FAILED:", failure)
    sys.exit(1 if checker.failures else 0)


if __name__ == "__main__":
    main()
