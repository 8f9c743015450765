"""`llcuda experiment run|list|report`: combinations, ablations, quality, the database, resumption;
and engines that measure themselves (llama-bench) or cannot be told apart with few runs."""
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest

from test_suite import PROGRAM, SOURCE, Folder, fake

WORKLOADS = [{"name": "chat", "batch_sizes": [1, 2], "sequence_lengths": [16], "output_tokens": 4,
              "iterations": 2}]


class Place:
    """A folder with an experiment's file, its results and its database."""

    def __init__(self, document):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="llcuda-experiment-"))
        self.out, self.database = self.root / "out", self.root / "all.sqlite"
        self.write(document)

    def write(self, document):
        (self.root / "e.yaml").write_text(json.dumps(document))

    def command(self, *arguments):
        return [PROGRAM, "experiment", *map(str, arguments), "--database", str(self.database)]

    def run(self, *arguments, status=0):
        result = subprocess.run(self.command(*arguments), capture_output=True, text=True,
                                timeout=240, check=False, cwd=SOURCE)
        assert result.returncode == status, (result.returncode, result.stderr, result.stdout)
        return result

    def measure(self, status=0):
        return self.run("run", self.root / "e.yaml", "--output", self.out, status=status)

    def rows(self, query):
        with sqlite3.connect(self.database) as database:
            return database.execute(query).fetchall()

    def remove(self):
        shutil.rmtree(self.root)


def experiment(**more):
    head = {"id": "cache-types", "name": "Cache types", "model_path": "builtin", "repeats": 2,
            "seed": 3}
    return {"experiment": {**head, **more.pop("head", {})},
            "engine": {"engine": "llcuda_cpu", "threads": 1},
            "factors": {"options.cache_type": ["f16", "f32"], "options.prefix_cache": [True, False]},
            "workloads": WORKLOADS, "analysis": {"token_check": {"prompts": 2, "tokens": 8}}, **more}


class Experiment(unittest.TestCase):
    def setUp(self):
        self.place = None

    def tearDown(self):
        if self.place:
            self.place.remove()

    def test_every_combination(self):
        self.place = place = Place(experiment())
        place.measure()
        summary = json.loads((place.out / "summary.json").read_text())
        self.assertEqual(len(summary["engines"]), 4)
        self.assertEqual({engine["state"] for engine in summary["engines"]}, {"ok"})
        # The cells differ in what the factors say, and in nothing else.
        sessions = [json.loads(path.read_text().splitlines()[0])
                    for path in sorted((place.out / "raw_data").glob("*.run1.jsonl"))]
        self.assertEqual(len(sessions), 4)
        # What the database keeps is what the report says.
        kept = {(cell, workload, point, run): value for cell, workload, point, run, value in
                place.rows("select cell, workload, point, run, value from figure "
                           "where metric = 'output_tokens_s'")}
        self.assertEqual(len(kept), 4 * 2 * 2)
        first = min(run for *_, run in kept)
        for row in summary["results"]:
            for run, value in enumerate(row["metrics"]["output_tokens_s"]["runs"]):
                found = kept[row["engine"], row["workload"], row["point"], run + first]
                self.assertAlmostEqual(found, value, delta=value * 1e-6)
        agreeing = {engine["name"]: engine["prompts_agreeing"] for engine in summary["engines"]}
        exact = dict(place.rows("select cell, value from quality where metric = 'exact_match'"))
        self.assertEqual(set(exact), set(agreeing))
        for name, value in exact.items():
            self.assertAlmostEqual(value, agreeing[name] / 2)
        self.assertEqual(place.rows("select id, state from experiment"), [("cache-types", "done")])
        listed = place.run("list").stdout
        self.assertIn("cache-types", listed)
        self.assertIn("done", listed)
        pdf = place.root / "report.pdf"
        table = place.run("report", "--exp-id", "cache-types", "--output", pdf).stdout
        self.assertEqual(pdf.read_bytes()[:5], b"%PDF-")
        for name in agreeing:
            self.assertIn(name, table)

    def test_ablation_changes_one_thing_at_a_time(self):
        self.place = place = Place(experiment(head={"ablation": True, "repeats": 1}))
        place.measure()
        summary = json.loads((place.out / "summary.json").read_text())
        self.assertEqual(len(summary["engines"]), 3)  # the first levels, and a change of each factor

    def test_perplexity(self):
        model = SOURCE / "models/demo/hf"
        document = experiment(factors={"options.cache_type": ["f16"]},
                              head={"model_path": str(model), "repeats": 1})
        self.place = place = Place(document)
        text = place.root / "text.txt"
        text.write_text("The cat is in the kitchen. The umbrella is in the bathroom. " * 40)
        document["experiment"]["quality_text"] = str(text)
        place.write(document)
        place.measure()
        (value,), = place.rows("select value from quality where metric = 'perplexity'")
        said = json.loads(subprocess.run(
            [PROGRAM, "perplexity", "-m", str(model), "-f", str(text), "--json"],
            capture_output=True, text=True, check=True).stdout)
        self.assertAlmostEqual(value, said["perplexity"], delta=said["perplexity"] * 1e-3)

    def test_killed_experiment_goes_on(self):
        document = experiment(head={"repeats": 3})
        document["workloads"][0]["iterations"] = 4
        self.place = place = Place(document)
        process = subprocess.Popen(
            place.command("run", place.root / "e.yaml", "--output", place.out), cwd=SOURCE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        raw = place.out / "raw_data"
        end = time.monotonic() + 60
        while time.monotonic() < end and len(list(raw.glob("*.jsonl")) if raw.exists() else []) < 3:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        before = {path.name: path.read_bytes() for path in raw.glob("*.jsonl")}
        self.assertGreaterEqual(len(before), 3)
        self.assertEqual(place.rows("select state from experiment"), [("unfinished",)])
        place.measure()
        after = {path.name: path.read_bytes() for path in raw.glob("*.jsonl")}
        self.assertEqual(len(after), 4 * 3)
        for name, content in before.items():
            self.assertEqual(after[name], content, name)
        self.assertEqual(place.rows("select state from experiment"), [("done",)])

    def test_mistakes(self):
        self.place = place = Place(experiment())
        for change, words in (({"factors": {"options.cache_type": []}}, "needs a list"),
                              ({"factors": {"nothing": [1]}}, "nothing"),
                              ({"engine": {"engine": "nobody"}}, "nobody"),
                              ({"nonsense": 1}, "nonsense")):
            place.write(experiment(**change))
            result = place.measure(status=1)
            self.assertIn(words, result.stderr)
        self.assertIn("no experiment", place.run("report", "--exp-id", "none", status=1).stderr)

    def test_looking_makes_no_database(self):
        self.place = place = Place(experiment())
        self.assertIn("no experiments in", place.run("list", status=1).stderr)
        self.assertFalse(pathlib.Path(place.database).exists())

    def test_an_id_whose_folder_is_gone_is_free(self):
        self.place = place = Place(experiment(factors={"options.cache_type": ["f16"]},
                                              head={"repeats": 1}))
        place.measure()
        first = place.out
        place.out = first.with_name("elsewhere")
        self.assertIn("belongs to", place.measure(status=1).stderr)
        shutil.rmtree(first)
        place.measure()
        self.assertEqual(place.rows("select folder, state from experiment"),
                         [(str(place.out), "done")])


class LlamaBench(unittest.TestCase):
    """The tool's own samples come through the report's statistics."""

    def folder(self, name):
        self.root = tempfile.TemporaryDirectory()
        self.addCleanup(self.root.cleanup)
        model = str(pathlib.Path(self.root.name) / name)
        subprocess.run([PROGRAM, "quantize", str(SOURCE / "models/demo/hf"), model, "f16"],
                       capture_output=True, check=True)
        program = [sys.executable, str(SOURCE / "tests/bench-suite/fake_llama_bench.py")]
        return Folder(json.dumps({
            "benchmark": {"name": "b", "repeats": 1, "model_gguf": model},
            "engines": [{"name": "tool", "engine": "llama_bench", "threads": 1,
                         "options": {"program": program, "repetitions": 3}}],
            "workloads": [{"name": "w", "batch_sizes": [1], "sequence_lengths": [64],
                           "output_tokens": 8, "iterations": 6, "warmup": 1}],
            "system": {"steal_limit": 1},  # nothing is said of the host that runs this test
            "analysis": {"token_check": {"prompts": 2}}}), extra=("--engines", SOURCE / "engines"),
            status=1 if "broken" in name else 0)

    def test_samples_are_replayed(self):
        folder = self.folder("model.gguf")
        summary = folder.summary()
        engine, = summary["engines"]
        self.assertEqual((engine["state"], engine["prompts_checked"]), ("ok", 0))
        self.assertEqual(engine["details"]["build_commit"], "abc")
        self.assertEqual(engine["version"], "build 1 (abc)")
        metrics = summary["results"][0]["metrics"]
        # What the adapter takes while it replays is none of the tool's.
        for key in ("memory_peak_mb", "cpu_ms_token", "energy_j_token"):
            self.assertIsNone(metrics[key]["mean"])
        self.assertEqual(summary["recommendations"], [])
        # 64 tokens of prompt take 6.4 ms, 8 of output 8 ms; each repetition 1 ms more of both.
        # One sample warms up: the six that count are two rounds of three.
        self.assertAlmostEqual(metrics["ttft_ms"]["mean"], 6.4 + 1, delta=1.5)
        self.assertAlmostEqual(metrics["tpot_ms"]["mean"], (8 + 1) / 8, delta=0.02)
        self.assertGreater(metrics["tpot_ms"]["maximum"] - metrics["tpot_ms"]["minimum"], 0.2)
        folder.remove()

    def test_its_failure_is_a_row(self):
        folder = self.folder("broken.gguf")
        engine, = folder.summary()["engines"]
        self.assertIn("ended with status 1", engine["reason"])
        folder.remove()


class AnyProgram(unittest.TestCase):
    """A program that answers one prompt a call, without a shell between."""

    def test_command_line(self):
        program = [sys.executable, "-c", "import sys; print(sys.argv[1][:0] + 'one two three')",
                   "{prompt}; exit 7", "{max_tokens}"]
        folder = Folder(json.dumps({
            "benchmark": {"name": "b", "repeats": 1, "model_path": "builtin"},
            "engines": [{"name": "program", "engine": "command", "options": {"command": program}},
                        {"name": "broken", "engine": "command",
                         "options": {"command": [sys.executable, "-c", "import sys; sys.exit(3)"]}}],
            "workloads": [{"name": "w", "batch_sizes": [1], "sequence_lengths": [8],
                           "output_tokens": 4, "iterations": 2}]}),
            extra=("--engines", SOURCE / "engines"))
        good, broken = folder.summary()["engines"]
        self.assertEqual(good["state"], "ok")
        self.assertEqual({line["output_tokens"] for name, _, line in folder.raw()
                          if name == "program" and line["kind"] == "sample"}, {3})
        self.assertIn("ended with status 3", json.dumps(folder.summary()))
        self.assertNotEqual(broken["state"], "ok")
        folder.remove()


    def test_a_program_that_asks_for_the_next_prompt(self):
        """It is ended when its answer is whole, or as long as was asked for."""
        script = """if True:
            import sys, time
            print("a logo", flush=True)
            while True:
                print("You: ", end="", flush=True)
                line = sys.stdin.readline()
                print("Assistant:", flush=True)
                for word in [f"{len(line) > 1} ", "w\u00f6rd", " You:", " more"][:int(sys.argv[1])]:
                    sys.stdout.write(word)
                    sys.stdout.flush()
                    time.sleep(0.02)
                print()
        """

        def engine(name, words, **more):
            return {"name": name, "engine": "command", "options": {
                "command": [sys.executable, "-c", script, str(words)], "input": "{prompt}\n",
                "begin_after": "Assistant:\n", "end_at": "\nYou: ", "pieces": True, **more}}

        folder = Folder(json.dumps({
            "benchmark": {"name": "b", "repeats": 1, "model_path": "builtin"},
            "engines": [engine("whole", 2), engine("cut", 4),
                        engine("mute", 2, command=[sys.executable, "-c", "print('hello')"])],
            "workloads": [{"name": "w", "batch_sizes": [1], "sequence_lengths": [8],
                           "output_tokens": 3, "iterations": 2}]}),
            extra=("--engines", SOURCE / "engines"))
        made = {name: {line["output_tokens"] for engine, _, line in folder.raw()
                       if engine == name and line["kind"] == "sample"}
                for name in ("whole", "cut", "mute")}
        self.assertEqual(made, {"whole": {2}, "cut": {3}, "mute": set()})
        self.assertIn("did not print 'Assistant:", json.dumps(folder.summary()))
        folder.remove()


class FewRuns(unittest.TestCase):
    """Three runs cannot reach 5 % by ranks, and the report says so; five can."""

    def words(self, repeats):
        folder = Folder(json.dumps({
            "benchmark": {"name": "b", "repeats": repeats},
            "engines": [dict(fake("slow", "good", "2", "4"), baseline=True),
                        fake("fast", "good", "2", "0.5")],
            "workloads": [{"name": "w", "batch_sizes": [1], "output_tokens": 8, "iterations": 2,
                           "warmup": 1}]}))
        rows = [row for row in folder.summary()["comparisons"] if row["metric"] == "tpot_ms"]
        folder.remove()
        self.assertEqual(len(rows), 1)
        return rows[0]

    def test_three(self):
        row = self.words(3)
        self.assertEqual(row["verdict"], "undecided")
        self.assertIn("too few runs for a verdict", row["words"])
        self.assertIn("with 3 and 3 the rank test cannot fall below p 0.1", row["words"])

    def test_five(self):
        self.assertEqual(self.words(5)["verdict"], "better")


if __name__ == "__main__":
    unittest.main()
