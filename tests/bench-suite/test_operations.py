"""Who wins each kernel: what adapters tell of their operations, from the raw line to the report; what
becomes of those that cannot tell; and the two adapters that can."""
import html
import importlib.util
import json
import pathlib
import re
import shutil
import statistics
import tempfile
import unittest

from test_suite import SOURCE, Folder, bench, check_schema, configuration, fake

PROMPT, GENERATE, DEPTH = 32, 4, 16
ASKED = {"prompt_tokens": PROMPT, "generate": GENERATE, "depth": DEPTH}
SLOWER = 1.05  # the mean of 1, 1.05 and 1.1
STUDENT_T = 4.302652729911275  # 97.5 %, two degrees of freedom


def rows(*operations):
    """(name, ms[, with …]) as rows of an answer."""
    return [{"operation": name, "ns": ms * 1e6, "times": 2, **({"with": list(others)} if others
                                                               else {})}
            for name, ms, *others in operations]


def answer(prompt_ms, prompt, generate_ms, generate, **more):
    return json.dumps([
        {"name": "prompt", "tokens": PROMPT, "ns": prompt_ms * 1e6, "operations": prompt, **more},
        {"name": "generate", "tokens": GENERATE, "ns": generate_ms * 1e6, "operations": generate}])


def run(engines, repeats=3, asked=None, **benchmark):
    text = json.loads(configuration(engines, [
        {"name": "w", "batch_sizes": [1], "sequence_lengths": [8], "output_tokens": 2,
         "iterations": 1}], repeats=repeats, **benchmark))
    text["analysis"] = {"token_check": {"prompts": 0}, "kernel_profile": asked or ASKED}
    return Folder(json.dumps(text))


FINE = answer(20, rows(("qkv", 4), ("attention", 6), ("gate_up", 3), ("activation", 1), ("down", 2),
                       ("norm", 1), ("softmax <3>", 2)),
              8, rows(("qkv", 4), ("attention", 2), ("sampling", 1)))
FUSING = answer(21, rows(("qkv", 3), ("attention", 9), ("gate_up", 3.5, "activation"), ("down", 2.5),
                         ("norm", 1)),
                4, rows(("qkv", 1), ("attention", 2.1)))



class Gate(unittest.TestCase):
    """`bench compare`: the same engine, before and now."""

    @classmethod
    def setUpClass(cls):
        cls.before = cls.folder(FINE)

    @classmethod
    def folder(cls, told):
        """Six runs, each 5 % slower than the one before."""
        counter = tempfile.TemporaryDirectory()
        cls.addClassCleanup(counter.cleanup)
        folder = run([fake("engine", "profile", told, pathlib.Path(counter.name) / "n")], repeats=6)
        cls.addClassCleanup(folder.remove)
        return folder

    def rows(self, now, status):
        text = bench("compare", self.before.path, now.path, "--json", status=status).stdout
        told = [row for row in json.loads(text)["rows"] if row["workload"] == "operations"]
        self.assertTrue(all(row["metric"] == "operation_ms" for row in told))
        return {(row["point"].split()[1], row["words"].split(":")[0]): row for row in told}

    def test_the_same_is_the_same(self):
        rows = self.rows(self.before, 0)
        self.assertEqual({row["verdict"] for row in rows.values()}, {"no difference"})
        self.assertEqual(set(rows), {
            *(("prompt", name) for name in ("norm", "qkv", "attention", "gate_up", "activation",
                                            "down", "the whole")),
            *(("generated", name) for name in ("qkv", "attention", "sampling", "the whole"))})

    def test_one_operation_that_is_slower(self):
        slower = answer(26, rows(("qkv", 4), ("attention", 12), ("gate_up", 3), ("activation", 1),
                                 ("down", 2), ("norm", 1), ("softmax <3>", 2)),
                        8, rows(("qkv", 4), ("attention", 2), ("sampling", 1)))
        seen = self.rows(self.folder(slower), 1)
        self.assertEqual(seen["prompt", "attention"]["verdict"], "worse")
        self.assertAlmostEqual(seen["prompt", "attention"]["ratio"], 2, 6)
        self.assertEqual(seen["prompt", "the whole"]["verdict"], "worse")
        self.assertAlmostEqual(seen["prompt", "the whole"]["ratio"], 1.3, 6)
        for key, row in seen.items():
            if key not in (("prompt", "attention"), ("prompt", "the whole")):
                self.assertEqual(row["verdict"], "no difference", row)

    def test_what_is_fused_now_is_held_against_the_sum(self):
        fused = answer(18, rows(("qkv", 4), ("attention", 6), ("gate_up", 2, "activation"),
                                ("down", 2), ("norm", 1), ("softmax <3>", 3)),
                       8, rows(("qkv", 4), ("attention", 2), ("sampling", 1)))
        seen = self.rows(self.folder(fused), 0)
        row = seen["prompt", "gate_up + activation"]
        self.assertEqual(row["verdict"], "better")
        self.assertAlmostEqual(row["ratio"], 0.5, 6)
        self.assertNotIn(("prompt", "gate_up"), seen)
        self.assertAlmostEqual(seen["prompt", "the whole"]["ratio"], 0.9, 6)

    def test_what_is_not_told_any_more(self):
        seen = self.rows(self.folder(answer(20, rows(("qkv", 4), ("attention", 6)), 8, rows(
            ("qkv", 4), ("attention", 2), ("sampling", 1)))), 0)
        self.assertEqual(seen["prompt", "down"]["verdict"], "undecided")
        self.assertIn("was told before and is not now", seen["prompt", "down"]["words"])

    def test_another_question_is_not_compared(self):
        longer = json.loads((self.before.path / "config.yaml").read_text())
        longer["analysis"]["kernel_profile"]["depth"] = 99
        with tempfile.TemporaryDirectory() as folder:
            other = pathlib.Path(folder) / "out"
            shutil.copytree(self.before.path, other)
            (other / "config.yaml").write_text(json.dumps(longer))
            text = bench("compare", self.before.path, other, "--json").stdout
        self.assertFalse([row for row in json.loads(text)["rows"]
                          if row["workload"] == "operations"])


class Known(unittest.TestCase):
    """Two engines with known times, each session 5 % slower than the one before."""

    @classmethod
    def setUpClass(cls):
        cls.counters = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.counters.cleanup)
        counter = pathlib.Path(cls.counters.name)
        cls.folder = run([fake("fine <1>", "profile", FINE, counter / "fine"),
                          fake("fusing", "profile", FUSING, counter / "fusing"), fake("silent"),
                          {"name": "served", "url": "http://127.0.0.1:9", "start_seconds": 1}])
        cls.addClassCleanup(cls.folder.remove)
        cls.summary = cls.folder.summary()
        cls.tests = {test["name"]: test for test in cls.summary["operations"]["tests"]}
        cls.page = (cls.folder.path / "report.html").read_text()

    def row(self, test, *operations, kind="operation"):
        found = [row for row in self.tests[test]["rows"]
                 if row["kind"] == kind and (not operations
                                             or row["operations"] == list(operations))]
        self.assertEqual(len(found), 1, (test, operations, kind))
        return found[0], {figure["engine"]: figure for figure in found[0]["engines"]}

    def test_schema(self):
        schema = json.loads((SOURCE / "benchmarks/summary.schema.json").read_text())
        self.assertEqual(check_schema(self.summary, schema, schema), [])

    def test_figures_are_means_with_intervals(self):
        _, figures = self.row("prompt", "attention")
        for name, ms in (("fine <1>", 6), ("fusing", 9)):
            runs = [ms * scale for scale in (1, 1.05, 1.1)]
            for seen, true in zip(sorted(figures[name]["runs"]), runs, strict=True):
                self.assertAlmostEqual(seen, true, 9)
            self.assertAlmostEqual(figures[name]["mean"], statistics.mean(runs), 9)
            half = STUDENT_T * statistics.stdev(runs) / 3 ** 0.5
            self.assertAlmostEqual(figures[name]["interval"][0], statistics.mean(runs) - half, 6)
            self.assertAlmostEqual(figures[name]["interval"][1], statistics.mean(runs) + half, 6)

    def test_generated_tokens_count_one_by_one(self):
        _, figures = self.row("generate", "attention")
        self.assertAlmostEqual(figures["fine <1>"]["mean"], 2 * SLOWER / GENERATE, 9)
        self.assertEqual(self.tests["generate"]["unit"], "ms a token")
        self.assertEqual((self.tests["generate"]["tokens"], self.tests["generate"]["depth"]),
                         (GENERATE, DEPTH))

    def test_winners(self):
        expected = {("prompt", "qkv"): ("fusing", True), ("prompt", "attention"): ("fine <1>", True),
                    ("generate", "qkv"): ("fusing", True),
                    ("generate", "attention"): ("fine <1>", False)}
        for (test, operation), (winner, clear) in expected.items():
            row, _ = self.row(test, operation)
            self.assertEqual((row["winner"], row["clear"]), (winner, clear), (test, operation))
        self.assertEqual(self.row("prompt", "norm")[0]["winner"], "fine <1>")  # the first of equals
        self.assertIsNone(self.row("generate", "sampling")[0]["winner"])  # nobody to compare with
        self.assertIsNone(self.row("prompt", "other")[0]["winner"])

    def test_what_is_fused_is_compared_together(self):
        row, figures = self.row("prompt", "gate_up")
        self.assertIsNone(row["winner"])
        self.assertEqual(figures["fusing"]["with"], ["activation"])
        self.assertEqual(figures["fine <1>"]["with"], [])
        row, figures = self.row("prompt", "activation")
        self.assertIsNone(row["winner"])
        self.assertEqual(list(figures), ["fine <1>"])
        row, figures = self.row("prompt", "gate_up", "activation", kind="fused")
        self.assertEqual(row["winner"], "fusing")
        self.assertAlmostEqual(figures["fine <1>"]["mean"], 4 * SLOWER, 9)
        self.assertAlmostEqual(figures["fusing"]["mean"], 3.5 * SLOWER, 9)
        self.assertFalse([row for row in self.tests["generate"]["rows"] if row["kind"] == "fused"])

    def test_products_and_the_whole(self):
        row, figures = self.row("prompt", kind="products")
        self.assertLessEqual({"qkv", "gate_up", "activation", "down"}, set(row["operations"]))
        self.assertNotIn("attention", row["operations"])
        self.assertAlmostEqual(figures["fine <1>"]["mean"], (4 + 3 + 1 + 2) * SLOWER, 9)
        self.assertAlmostEqual(figures["fusing"]["mean"], (3 + 3.5 + 2.5) * SLOWER, 9)
        row, figures = self.row("prompt", kind="total")
        self.assertEqual(row["winner"], "fine <1>")
        self.assertAlmostEqual(figures["fine <1>"]["mean"], 20 * SLOWER, 9)
        self.assertAlmostEqual(figures["fusing"]["mean"], 21 * SLOWER, 9)

    def test_unknown_words_and_the_rest_are_other(self):
        _, figures = self.row("prompt", "other")
        self.assertAlmostEqual(figures["fine <1>"]["mean"], (2 + 1) * SLOWER, 9)  # softmax, and the rest
        self.assertAlmostEqual(figures["fusing"]["mean"], 2 * SLOWER, 9)

    def test_who_cannot_tell_is_named(self):
        silent = {row["engine"]: row for row in self.summary["operations"]["silent"]}
        self.assertEqual(set(silent), {"silent", "served"})
        self.assertEqual(silent["silent"]["reason"], "its adapter does not tell")
        self.assertIn("127.0.0.1", silent["served"]["reason"])  # nobody answers there
        self.assertIn("<li>silent is left out: its adapter does not tell</li>", self.page)

    def test_page(self):
        section = self.page.split('<h2 id="operations">')[1].split("<h2")[0]
        self.assertIn("A prompt of 32 tokens, ms", section)
        self.assertIn("A generated token after 16 positions (of 4), ms", section)
        self.assertEqual(section.count("<th>Best</th>"), 2)
        prompt = section.split("A generated token")[0]
        attention = re.search(r"<tr><td>attention</td>(.*?)</tr>", prompt, re.S)[1]
        self.assertRegex(attention, r'<td class="n better">6.3 ± 0.75</td><td class="n">9.45 ± 1.1</td>'
                                    r'<td class="better"><strong>fine &lt;1&gt;</strong></td>')
        gate = re.search(r"<tr><td>gate_up</td>(.*?)</tr>", prompt, re.S)[1]
        self.assertIn('3.675 ± 0.43<br><span class="small">with activation</span>', gate)
        self.assertNotIn("better", gate)
        self.assertRegex(prompt, r"<tr><td><em>gate_up \+ activation</em></td>.*<td>fusing</td>")
        self.assertNotIn("<1>", section)
        self.assertNotIn("<th class=\"n\">silent</th>", section)

    def test_terminal(self):
        said = self.folder.result.stdout
        self.assertIn("who wins each kernel, a prompt of 32 tokens, ms", said)
        self.assertRegex(said, r"  attention +fine <1> 6.3 ± 0.75 \(best\); fusing 9.45 ± 1.1\n")
        self.assertRegex(said, r"  qkv +fine <1> 4.2 ± 0.5; fusing 3.15 ± 0.37 \(best\)\n")

    def test_report_again(self):
        before = (self.folder.path / "summary.json").read_text()
        bench("report", self.folder.path)
        self.assertEqual((self.folder.path / "summary.json").read_text(), before)

    def test_answers_that_come_late_are_no_answers_to_others(self):
        kinds = [line["kind"] for name, _, line in self.folder.raw() if name in ("fine <1>", "fusing")]
        self.assertEqual((kinds.count("metrics"), kinds.count("profile")), (6, 6))

    def test_an_edited_profile_is_refused(self):
        path = sorted((self.folder.path / "raw_data").glob("00-*"))[0]
        kept = path.read_text()
        self.addCleanup(path.write_text, kept)
        edited = re.sub(r'("attention", ?"ns": ?)', r"\1-", kept)
        self.assertNotEqual(edited, kept)
        path.write_text(edited)
        self.assertIn("no line of this run's raw data",
                      bench("report", self.folder.path, status=1).stderr)


class Resumed(unittest.TestCase):
    def test_profiles_are_kept(self):
        folder = run([fake("one", "profile", FINE), fake("two", "profile", FUSING)])
        self.addCleanup(folder.remove)
        before = folder.summary()["operations"]
        lost = sorted((folder.path / "raw_data").glob("01-*"))[1]
        kept = {path: path.read_bytes() for path in (folder.path / "raw_data").iterdir()
                if path != lost}
        lost.unlink()
        (folder.path / "summary.json").unlink()
        bench("--config", folder.file, "--output", folder.path)
        for path, data in kept.items():
            self.assertEqual(path.read_bytes(), data)
        self.assertEqual(folder.summary()["operations"], before)
        self.assertEqual(sum(line["kind"] == "profile" for _, _, line in folder.raw()), 6)


class Failing(unittest.TestCase):
    """A session is worth having without its profile."""

    def failing(self, what, expected, repeats=1, **benchmark):
        folder = run([fake("good", "profile", FINE), fake("bad", "profile", what)], repeats,
                     **benchmark)
        self.addCleanup(folder.remove)
        summary = folder.summary()
        schema = json.loads((SOURCE / "benchmarks/summary.schema.json").read_text())
        self.assertEqual(check_schema(summary, schema, schema), [])
        self.assertEqual([(engine["state"], engine["reason"]) for engine in summary["engines"]],
                         [("ok", "")] * 2)
        self.assertEqual([row["failed"] for row in summary["results"]], [0, 0])
        silent, = summary["operations"]["silent"]
        self.assertEqual((silent["engine"], silent["profiles"]), ("bad", 0))
        self.assertRegex(silent["reason"], expected)
        page = (folder.path / "report.html").read_text()
        self.assertIn(f"<li>bad is left out: {html.escape(silent['reason'], False)}</li>",
                      page.replace("&quot;", '"').replace("&#39;", "'"))
        self.assertIn("<td>attention</td>", page)

    def test_refuses(self):
        self.failing("refuse", "this <engine> cannot tell")

    def test_rubbish(self):
        self.failing("rubbish", "no message of the protocol: 'attention took <b>long")

    def test_dies(self):
        self.failing("die", r"exit status 3\); its log ends with: the profiler fell over", repeats=2)

    def test_hangs(self):
        self.failing("hang", r"did not answer 'profile' within [0-3] s", timeout_seconds=3)

    def test_another_test(self):
        self.failing("[]", "no test 'prompt'")

    def test_another_length(self):
        self.failing(FINE.replace(f'"tokens": {PROMPT}', '"tokens": 33'),
                     "'prompt' is not one of 32 tokens")

    def test_longer_than_the_whole(self):
        self.failing(answer(5, rows(("qkv", 4), ("attention", 1.01)), 4, []),
                     r"operations of 'prompt' take 5.01 ms, longer than the whole of 5")

    def test_no_time(self):
        self.failing(answer(5, [{"operation": "qkv", "ns": "soon"}], 4, []),
                     "an operation of 'prompt' has no name or no time")
        self.failing(answer(5, [{"operation": "qkv", "ns": -1}], 4, []), "no name or no time")
        self.failing(answer(0, [], 4, []), "no test 'prompt' with a time")


class Asked(unittest.TestCase):
    def test_nothing_asked_is_nothing_said(self):
        folder = Folder(configuration([fake("one", "profile", FINE)], repeats=1))
        self.addCleanup(folder.remove)
        self.assertIsNone(folder.summary()["operations"])
        self.assertNotIn('id="operations"', (folder.path / "report.html").read_text())
        self.assertFalse([line for _, _, line in folder.raw() if line["kind"] == "profile"])

    def test_one_test_only(self):
        folder = run([fake("one", "profile", FINE)], 1, {"prompt_tokens": 0, "generate": GENERATE})
        self.addCleanup(folder.remove)
        test, = folder.summary()["operations"]["tests"]
        self.assertEqual((test["name"], test["depth"]), ("generate", 128))

    def test_wrong_configurations(self):
        def wrong(section, expected):
            with tempfile.TemporaryDirectory() as root:
                path = pathlib.Path(root) / "c.yaml"
                path.write_text("benchmark:\n  name: x\nengines: [llcuda_cpu]\nworkloads:\n"
                                "  - {name: w, batch_sizes: [1]}\nanalysis:\n  kernel_profile:\n"
                                f"{section}\n")
                self.assertRegex(bench("check", path, status=1).stderr, expected)
        wrong("    tokens: 3", r"c\.yaml:8\b.*no key 'tokens'.*prompt_tokens, generate, depth")
        wrong("    generate: -1", r"c\.yaml:8\b.*'generate'")
        wrong("    prompt_tokens: many", r"c\.yaml:8\b.*'prompt_tokens' must be a number")
        wrong("    prompt_tokens: 0\n    generate: 0", r"c\.yaml:[78]\b.*must not be 0")


class Llcuda(unittest.TestCase):
    """This program's own adapter with the built-in model, and the same over HTTP, which is silent."""

    def test_cpu(self):
        folder = run([{"name": "in process", "engine": "llcuda_cpu", "threads": 1},
                      {"name": "f32 cache", "engine": "llcuda_cpu", "threads": 1,
                       "options": {"cache_type": "f32"}},
                      {"name": "over HTTP", "engine": "llcuda_http", "threads": 1}], 2)
        self.addCleanup(folder.remove)
        operations = folder.summary()["operations"]
        self.assertEqual(operations["silent"], [{"engine": "over HTTP", "profiles": 0,
                                                 "reason": "a server does not tell"}])
        for test in operations["tests"]:
            words = {row["operations"][0]: row for row in test["rows"]
                     if row["kind"] == "operation"}
            self.assertLessEqual({"embed", "norm", "qkv", "rotary", "attention", "output", "gate_up",
                                  "down", "logits", "sampling"}, set(words))
            self.assertIsNone(words["prepare"]["winner"])
            self.assertIsNotNone(words["norm"]["winner"])
            for figure in words["gate_up"]["engines"]:
                self.assertEqual(figure["with"], ["activation"])
            self.assertEqual({figure["engine"] for figure in words["attention"]["engines"]},
                             {"in process", "f32 cache"})
        seen = 0
        for name, _, line in folder.raw():
            for test in line.get("answer", {}).get("tests", []) if line["kind"] == "profile" else []:
                times = [row["ns"] for row in test["operations"]]
                self.assertTrue(all(ns > 0 for ns in times), test)
                self.assertLess(sum(times), test["ns"])  # the host does something between them
                self.assertGreater(sum(times), test["ns"] * 0.3, "a profile of next to nothing")
                passes = 1 if test["name"] == "prompt" else GENERATE
                counts = {row["operation"]: row["times"] for row in test["operations"]}
                self.assertEqual(counts["sampling"], passes)
                self.assertEqual(counts["attention"], 5 * passes)  # layers
                seen += name in ("in process", "f32 cache")
        self.assertEqual(seen, 2 * 2 * 2)  # engines, runs, tests

    def test_too_long_for_the_model(self):
        folder = run([{"name": "one", "engine": "llcuda_cpu", "threads": 1}], 1,
                     {"prompt_tokens": 4000, "generate": 0})
        self.addCleanup(folder.remove)
        silent, = folder.summary()["operations"]["silent"]
        self.assertIn("needs 4000 positions and the model has 2048", silent["reason"])
        self.assertEqual(folder.summary()["engines"][0]["state"], "ok")


class Ticks:
    """A clock that goes on by one at each reading, and by what the scripted modules take."""

    def __init__(self):
        self.time = 0

    def now(self):
        self.time += 1
        return self.time

    def again(self, _):
        return self.now()

    def begin(self):
        self.time = 0

    @staticmethod
    def between(borders):
        return [end - begin for begin, end in borders]


class Module:
    def __init__(self, ticks, cost, *children):
        self.ticks, self.cost, self.children = ticks, cost, children

    def forward(self):
        for child in self.children:
            child.forward()
            self.ticks.time += self.cost


class Norm(Module):
    pass


class Transformers(unittest.TestCase):
    """The accounting of PyTorch's adapter, without PyTorch."""

    @classmethod
    def setUpClass(cls):
        path = SOURCE / "engines/transformers/operations.py"
        spec = importlib.util.spec_from_file_location("transformers_operations", path)
        cls.operations = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(cls.operations)

    costs = {"embed": 1000, "logits": 2000, "norm": 50, "qkv": 100, "attention": 2 * 10,
             "output": 200 + 7, "gate_up": 300, "activation": 2 * 20, "down": 400 + 7,
             "other": 7 + 3 * 3}

    def model(self, ticks, without=()):
        parts, leaf = {}, lambda cost: Module(ticks, cost, Module(ticks, 0))
        attention = [(f"self_attn.{name}", leaf(cost)) for name, cost in (("q_proj", 100),
                                                                         ("o_proj", 200))]
        network = [(f"mlp.{name}", leaf(cost)) for name, cost in (("gate_proj", 300),
                                                                 ("down_proj", 400))]
        parts.update(attention + network)
        parts["self_attn"] = Module(ticks, 10, *(part for _, part in attention))
        parts["mlp"] = Module(ticks, 20, *(part for _, part in network))
        norm = Norm(ticks, 50, Module(ticks, 0))
        layer = Module(ticks, 7, norm, parts["self_attn"], parts["mlp"])
        embed, head = leaf(1000), leaf(2000)
        names = {"": Module(ticks, 3, embed, layer, head), "embed_tokens": embed, "lm_head": head,
                 "layers.0": layer, "layers.0.input_layernorm": norm,
                 **{f"layers.0.{name}": part for name, part in parts.items()}}

        class Model:
            def named_modules(self):
                return [(name, part) for name, part in names.items()
                        if name.rsplit(".", 1)[-1] not in without]

            def get_input_embeddings(self):
                return embed

            def get_output_embeddings(self):
                return head
        model = Model()
        model.forward = names[""].forward
        return model

    def test_time_belongs_to_the_innermost(self):
        ticks = Ticks()
        watch, model = self.operations.Watch(ticks), self.model(ticks)
        with self.operations.watched(model, watch):
            watch.begin()
            model.forward()
            sums = watch.sums()
        # Between two borders a reading of the clock passes, the one that ends the span.
        spans = {"embed": 1, "logits": 1, "norm": 1, "qkv": 1, "attention": 3, "output": 2,
                 "gate_up": 1, "activation": 3, "down": 2, "other": 6}
        self.assertEqual(sums, {name: self.costs[name] + spans[name] for name in spans})
        self.assertEqual(watch.times["qkv"], 1)
        before = ticks.time
        model.forward()  # nothing is left of the wrappers
        self.assertEqual(ticks.time - before, sum(self.costs.values()))

    def test_an_unknown_architecture_is_refused(self):
        ticks = Ticks()
        model = self.model(ticks, without=("down_proj",))
        with self.assertRaisesRegex(ValueError, "not known: there is none for down"):
            with self.operations.watched(model, self.operations.Watch(ticks)):
                pass
        before = ticks.time
        model.forward()
        self.assertEqual(ticks.time - before, sum(self.costs.values()))


if __name__ == "__main__":
    unittest.main()
