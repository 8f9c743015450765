"""`llcuda bench --config` from outside: reports that are complete and true to their raw data, and
engines, files and folders that are not as they should be."""
import hashlib
import html
import html.parser
import json
import math
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import unittest
import zlib

PROGRAM = os.environ["LLCUDA_PROGRAM"]
SOURCE = pathlib.Path(os.environ["LLCUDA_SOURCE"])
KEEP = pathlib.Path(os.environ.get("LLCUDA_KEEP", tempfile.gettempdir()))
FAKE = SOURCE / "tests/bench-suite/fake_engine.py"
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("LLCUDA_")}


def bench(*arguments, status=0, timeout=200, environment=None):
    result = subprocess.run([PROGRAM, "bench", *map(str, arguments)], capture_output=True, text=True,
                            timeout=timeout, check=False,
                            env={**ENVIRONMENT, **(environment or {})})
    if status is not None and result.returncode != status:
        raise AssertionError(f"{arguments}: exit {result.returncode}, not {status}\n"
                             f"{result.stdout}\n{result.stderr}")
    return result


def fake(name, *arguments, **more):
    """An engine of a configuration, in YAML's flow style, which is JSON here."""
    return {"name": name, "engine": "custom",
            "command": [sys.executable, str(FAKE), *map(str, arguments)], **more}


def configuration(engines, workloads=None, **benchmark):
    return json.dumps({
        "benchmark": {"name": "Test <of> the \"suite\"", "repeats": 3, **benchmark},
        "engines": engines,
        "workloads": workloads or [{"name": "w", "batch_sizes": [1, 2], "sequence_lengths": [8],
                                    "output_tokens": 4, "iterations": 3, "warmup": 1}],
        "analysis": {"token_check": {"prompts": 2, "tokens": 4}},
        "prices": {"currency": "EUR", "machine_per_hour": 0.1}})


class Page(html.parser.HTMLParser):
    """Looks for what must not be in a report."""

    def __init__(self):
        super().__init__()
        self.outside, self.tags, self.marks, self.downloads = [], set(), [], {}

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.add(tag)
        for name in ("src", "href", "action"):
            value = values.get(name, "")
            if value and not value.startswith(("data:", "#")):
                self.outside.append(value)
        if "data-value" in values:
            self.marks.append(values)
        if tag == "a" and "download" in values:
            self.downloads[values["download"]] = values["href"]


class Folder:
    """A run in a fresh folder."""

    def __init__(self, text, status=0, extra=(), **keywords):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="llcuda-bench-"))
        self.file, self.path = self.root / "config.yaml", self.root / "out"
        self.file.write_text(text)
        self.result = bench("--config", self.file, "--output", self.path, *extra, status=status,
                            **keywords)

    def summary(self):
        return json.loads((self.path / "summary.json").read_text())

    def raw(self):
        """(engine, run, line) of every raw line."""
        for path in sorted((self.path / "raw_data").iterdir()):
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            for line in lines:
                yield lines[0]["engine"], lines[0]["repeat"] + 1, line

    def remove(self):
        shutil.rmtree(self.root)


def throughput(folder, engine, run, workload, point):
    """Output tokens a second, from raw data alone."""
    tokens, wall = 0, None
    for name, number, line in folder.raw():
        if (name, number, line.get("workload"), line.get("point")) == (engine, run, workload, point):
            if line["kind"] == "point":
                wall = line["wall_s"]
            elif line["kind"] == "sample" and line["ok"]:
                tokens += line["output_tokens"]
    return tokens / wall


class QuickTest(unittest.TestCase):
    """The configuration that everybody runs first."""

    @classmethod
    def setUpClass(cls):
        begin = time.monotonic()
        cls.folder = Folder((SOURCE / "benchmarks/quick-test.yaml").read_text())
        cls.seconds = time.monotonic() - begin
        cls.page = Page()
        cls.page.feed((cls.folder.path / "report.html").read_text())

    @classmethod
    def tearDownClass(cls):
        cls.folder.remove()

    def test_takes_less_than_two_minutes(self):
        print(f"quick-test.yaml: {self.seconds:.1f} s")
        self.assertLess(self.seconds, 120)

    def test_everything_is_there(self):
        for name in ("summary.json", "report.html", "report.pdf", "host.json", "config.yaml",
                     "plots", "raw_data", "logs"):
            self.assertTrue((self.folder.path / name).exists(), name)
        self.assertGreater(len(list((self.folder.path / "plots").glob("*.svg"))), 6)
        self.assertEqual((self.folder.path / "report.pdf").read_bytes()[:5], b"%PDF-")
        self.assertIn("tokens/s", self.folder.result.stdout)
        self.assertIn("left", self.folder.result.stderr)

    def test_no_outside_address(self):
        self.assertEqual(self.page.outside, [])
        self.assertFalse(self.page.tags & {"script", "link", "iframe", "img"})
        self.assertEqual(set(self.page.downloads), {"summary.json", "raw_data.jsonl"})

    def test_plotted_points_are_the_raw_data(self):
        looked_at = 0
        for mark in self.page.marks:
            if mark["data-metric"] == "output_tokens_s" and "data-run" in mark:
                true = throughput(self.folder, mark["data-engine"], int(mark["data-run"]),
                                  mark["data-workload"], mark["data-point"])
                self.assertAlmostEqual(float(mark["data-value"]), true, delta=true * 1e-6)
                looked_at += 1
        self.assertEqual(looked_at, 2 * 3 * 5)  # engines, points, runs

    def test_plotted_percentiles_are_the_raw_data(self):
        looked_at = 0
        for mark in self.page.marks:
            found = re.fullmatch(r"ttft_ms (p50|p95|p99)", mark["data-metric"])
            if not found:
                continue
            values = sorted(line["first_us"] / 1e3 for name, _, line in self.folder.raw()
                            if line["kind"] == "sample" and name == mark["data-engine"]
                            and line["workload"] == mark["data-workload"]
                            and line["point"] == mark["data-point"])
            place = int(found[1][1:]) / 100 * (len(values) - 1)
            below = int(place)
            above = min(below + 1, len(values) - 1)
            true = values[below] + (place - below) * (values[above] - values[below])
            self.assertAlmostEqual(float(mark["data-value"]), true, delta=true * 1e-3 + 1e-3)
            looked_at += 1
        self.assertEqual(looked_at, 2 * 3 * 3)

    def test_bars_are_as_high_as_they_say(self):
        """Heights in a chart are proportional to the values."""
        for path in (self.folder.path / "plots").glob("throughput-*.svg"):
            bars = re.findall(r'<rect [^>]*height="([\d.]+)"[^>]*data-value="([\d.]+)"',
                              path.read_text())
            self.assertGreater(len(bars), 1, path)
            scale = [float(height) / float(value) for height, value in bars]
            self.assertLess(max(scale) - min(scale), max(scale) * 0.02 + 0.1 / float(bars[0][1]))

    def test_summary(self):
        summary = self.folder.summary()
        schema = json.loads((SOURCE / "benchmarks/summary.schema.json").read_text())
        self.assertEqual(check_schema(summary, schema, schema), [])
        self.assertEqual(summary["schema"], "llcuda-bench-summary/1")
        self.assertEqual([engine["state"] for engine in summary["engines"]], ["ok", "ok"])
        self.assertEqual(len(summary["results"]), 6)
        self.assertEqual(len(summary["comparisons"]), 9)
        for engine in summary["engines"]:
            self.assertEqual(engine["prompts_agreeing"], engine["prompts_checked"])
            self.assertEqual(engine["prompts_checked"], 4)
        for row in summary["results"]:
            figure = row["metrics"]["output_tokens_s"]
            self.assertAlmostEqual(figure["mean"], statistics.mean(figure["runs"]), 6)
            self.assertAlmostEqual(figure["deviation"], statistics.stdev(figure["runs"]), 6)
        self.assertTrue(summary["recommendations"])
        self.assertTrue(all(row["evidence"] for row in summary["recommendations"]))

    def test_pdf_has_every_chart(self):
        """Its outline names them; compressed parts are looked into."""
        content = (self.folder.path / "report.pdf").read_bytes()
        for part in re.findall(rb"stream\r?\n(.*?)endstream", content, re.S):
            try:
                content += zlib.decompress(part)
            except zlib.error:
                pass
        titles = {html.unescape(re.search(r"<title>(.*?)</title>|aria-label=\"(.*?)\"",
                                          path.read_text())[1])
                  for path in (self.folder.path / "plots").glob("*.svg")}
        outline = {title.decode("utf-16-be") if title.startswith(b"\xfe\xff") else title.decode()
                   for title in self.titles(content)}
        self.assertGreater(len(titles), 6)
        self.assertEqual(titles - outline, set())

    @staticmethod
    def titles(content):
        for text, digits in re.findall(rb"/Title \((.*?)\)|/Title <([0-9a-fA-F]+)>", content):
            yield bytes.fromhex(digits.decode()) if digits else text

    def test_every_metric_has_its_formula(self):
        formulas = self.folder.summary()["formulas"]
        page = html.unescape((self.folder.path / "report.html").read_text())
        asked = {"ttft_ms", "tpot_ms", "itl_ms", "e2e_ms", "output_tokens_s", "user_tokens_s",
                 "requests_s", "goodput_s", "batch_efficiency", "scaling_factor", "cpu_ms_token",
                 "memory_peak_mb", "memory_mean_mb", "kv_efficiency", "energy_j_token",
                 "cost_per_million_tokens"}
        self.assertLessEqual(asked, set(formulas))
        for row in formulas.values():
            for text in row["title"], row["formula"]:
                self.assertIn(f"<td>{text}</td>", page)
        for row in self.folder.summary()["results"]:
            for key in asked:
                self.assertIn(key, {**row["metrics"], **row})

    def test_speed_of_a_stream_is_the_raw_data(self):
        """Tokens that are read together have no time between them: no mean of reciprocals."""
        tokens, times = {}, {}
        for name, run, line in self.folder.raw():
            if line["kind"] == "sample" and line["ok"] and line["last_us"] > line["first_us"] and \
                    line["output_tokens"] > 1:
                key = name, line["point"], run
                tokens[key] = tokens.get(key, 0) + line["output_tokens"] - 1
                times[key] = times.get(key, 0) + (line["last_us"] - line["first_us"]) / 1e6
        for row in self.folder.summary()["results"]:
            for run, value in enumerate(row["metrics"]["user_tokens_s"]["runs"]):
                key = row["engine"], row["point"], run + 1
                self.assertAlmostEqual(value / (tokens[key] / times[key]), 1, 6)

    def test_figures_are_written_out(self):
        """Tables have 20254 ± 1432, not 2.025e+04 ± 1.4e+03."""
        texts = re.findall(r"<td[^>]*>([^<]*)", (self.folder.path / "report.html").read_text())
        texts += re.findall(r"\S+", self.folder.result.stdout)
        self.assertGreater(len(texts), 100)
        self.assertEqual([text for text in texts if re.search(r"\de\+", text)], [])

    def test_percentiles_stand_in_a_table(self):
        page = (self.folder.path / "report.html").read_text()
        rows = self.folder.summary()["results"]
        for row in rows:
            metric = row["metrics"]["e2e_ms"]
            self.assertIn(f"<td class=\"n\">{metric['p99']:.4g}<br><span class=\"small\">"
                          f"{metric['p99_interval'][0]:.4g} … {metric['p99_interval'][1]:.4g}<", page)

    def test_medals_need_no_font(self):
        page = (self.folder.path / "report.html").read_text()
        self.assertIn('<span class="medal gold" title="gold">1</span>', page)
        self.assertIn('<span class="medal silver" title="silver">2</span>', page)
        self.assertTrue(all(ord(letter) < 0x10000 for letter in page))
        self.assertIn("prompts random, 96 output tokens", page)

    def test_cache_efficiency_is_the_raw_data(self):
        sums, walls, caches = {}, {}, {}
        for name, run, line in self.folder.raw():
            if line["kind"] == "session":
                details = line["load"]["details"]
                caches[name] = details["kv_bytes_per_token"] / details["kv_bytes"]
            elif line["kind"] == "point":
                walls[name, line["point"], run] = line["wall_s"]
            elif line["kind"] == "sample" and line["ok"]:
                key = name, line["point"], run
                sums[key] = sums.get(key, 0) + ((line["prompt_tokens"] + line["output_tokens"] / 2)
                                                * line["last_us"] / 1e6)
        for row in self.folder.summary()["results"]:
            for run, value in enumerate(row["metrics"]["kv_efficiency"]["runs"]):
                key = row["engine"], row["point"], run + 1
                true = sums[key] / walls[key] * caches[row["engine"]]
                self.assertAlmostEqual(value, true, delta=true * 1e-6)
                self.assertTrue(0 < value < 1)

    def test_browser_shows_the_charts(self):
        browser = shutil.which("chromium") or shutil.which("google-chrome")
        if not browser:
            self.skipTest("there is no chromium")
        picture = KEEP / "bench-report.png"
        picture.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory() as profile:
            subprocess.run([browser, "--headless=new", "--no-sandbox", "--disable-gpu",
                            f"--user-data-dir={profile}", "--window-size=1000,2600",
                            f"--screenshot={picture}", f"file://{self.folder.path}/report.html"],
                           capture_output=True, timeout=120, check=False)
        self.assertEqual(picture.read_bytes()[:4], b"\x89PNG")
        self.assertGreater(picture.stat().st_size, 60000)  # an empty page has some 10 kB
        print(f"screenshot: {picture}")

    def test_finished_folder_is_refused(self):
        result = bench("--config", self.folder.file, "--output", self.folder.path, status=1)
        self.assertIn("finished run", result.stderr)

    def test_report_again(self):
        before = (self.folder.path / "summary.json").read_text()
        bench("report", self.folder.path)
        self.assertEqual((self.folder.path / "summary.json").read_text(), before)


def check_schema(value, schema, root, path="$"):
    """The part of JSON Schema that the kept schema uses."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].split("/")[-1]]
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None),
             "integer": int}
    problems = []
    if "type" in schema:
        allowed = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        fine = any((kind in kinds and isinstance(value, kinds[kind]))
                   or (kind == "number" and isinstance(value, (int, float))
                       and not isinstance(value, bool)) for kind in allowed)
        if not fine:
            return [f"{path}: {value!r} is no {allowed}"]
    if "enum" in schema and value not in schema["enum"]:
        problems.append(f"{path}: {value!r} is not one of {schema['enum']}")
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        problems += [f"{path}: '{key}' is missing" for key in schema.get("required", [])
                     if key not in value]
        if schema.get("additionalProperties") is False:
            problems += [f"{path}: '{key}' is not known" for key in value if key not in properties]
        for key, part in value.items():
            part_schema = properties.get(key, schema.get("additionalProperties") or {})
            if isinstance(part_schema, dict):
                problems += check_schema(part, part_schema, root, f"{path}.{key}")
    if isinstance(value, list) and "items" in schema:
        for index, part in enumerate(value):
            problems += check_schema(part, schema["items"], root, f"{path}[{index}]")
    return problems


class Truth(unittest.TestCase):
    """A scripted engine in a process of its own, on the real clock."""

    def test_known_latencies(self):
        folder = Folder(configuration(
            [fake("fast", "good", 5, 2), fake("slow", "good", 40, 2)],
            [{"name": "w", "batch_sizes": [1], "sequence_lengths": [8], "output_tokens": 5,
              "iterations": 20, "warmup": 2}], repeats=4))
        for row in folder.summary()["results"]:
            first = {"fast": 5, "slow": 40}[row["engine"]]
            # sleep() oversleeps, never the other way; a busy machine adds more.
            self.assertGreaterEqual(row["metrics"]["ttft_ms"]["minimum"], first)
            crowd = max(1, os.getloadavg()[0] / os.cpu_count())
            self.assertLess(row["metrics"]["ttft_ms"]["p50"], first + 8 * crowd)
            self.assertGreaterEqual(row["metrics"]["e2e_ms"]["minimum"], first + 4 * 2)
            self.assertGreater(row["metrics"]["tpot_ms"]["p50"], 1.9)
        verdicts = {row["metric"]: row["verdict"] for row in folder.summary()["comparisons"]}
        self.assertEqual(verdicts["ttft_ms"], "worse")
        folder.remove()


class Ends(unittest.TestCase):
    """A load ends with its number of requests or with its time, whichever comes first."""

    def test_whichever_comes_first(self):
        common = {"sequence_lengths": [8], "output_tokens": 2, "warmup": 0}
        folder = Folder(configuration([fake("one", "good", 5, 2)], [
            {"name": "number", "batch_sizes": [2], "iterations": 4, "duration": 60, **common},
            {"name": "time", "batch_sizes": [2], "iterations": 100000, "duration": 0.4, **common},
            {"name": "open", "request_rates": [50], "num_prompts": 100000, "duration": 0.4, **common},
            {"name": "preset", "preset": "interactive", "request_rates": [50], "num_prompts": 5, **common},
        ], repeats=1))
        sent = {}
        for _, _, line in folder.raw():
            if line["kind"] == "sample":
                self.assertTrue(line["ok"])
                sent.setdefault(line["workload"], []).append(line["due_us"])
        self.assertEqual(len(sent["number"]), 8)
        self.assertEqual(len(sent["preset"]), 5)
        self.assertEqual(len(sent["time"]) % 2, 0)  # whole waves
        for name in ("time", "open"):
            self.assertGreater(max(sent[name]), 100e3, name)
            self.assertLess(max(sent[name]), 400e3, name)
        folder.remove()


class Holding(unittest.TestCase):
    """Lines may wait the longer, the slower they come; what waits stays below a pipe's 64 KB."""

    def test_slow_engines_may_hold_lines_for_longer(self):
        def holds(first_ms, token_ms, size, tokens):
            folder = Folder(configuration([fake("one", "holds", first_ms, token_ms)], [
                {"name": "w", "batch_sizes": [size], "sequence_lengths": [8],
                 "output_tokens": tokens, "iterations": 3, "warmup": 4}], repeats=1))
            log, = (folder.path / "logs").iterdir()
            words = [line.split() for line in log.read_text().splitlines()]
            folder.remove()
            # After the two whose greedy answers are compared, and warming up.
            return [[int(us) for what, us in words if what == kind][6:] for kind in ("hold", "took")]
        self.assertEqual(holds(5, 20, 1, 4)[0], [250000] * 3)
        # 64 times 200 lines of some 70 bytes: half a pipe's 64 KB is 468 of them. A busy machine
        # is slower, and may be so while the harness looks and not while the engine does.
        held, took = holds(0, 0, 64, 200)
        self.assertGreaterEqual(min(held), 50000)
        self.assertLess(min(held), max(60000, 2 * max(took) * 468 / (64 * 200)))

    def test_llcuda_holds_lines_as_long_as_it_may(self):
        def lines_of_tokens(hold_us):
            process = subprocess.Popen([PROGRAM, "bench", "engine"], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
            def ask(**message):
                process.stdin.write(json.dumps(message) + "\n")
                process.stdin.flush()
            ask(op="hello", version=1)
            ask(op="load", model="builtin", device="cpu", threads=1, context=128, parallel=1)
            # Tokens that are there when an answer is written go with it.
            while json.loads(process.stdout.readline()).get("op") != "load":
                pass
            ask(op="run", id=1, ignore_eos=True, hold_us=hold_us,
                requests=[{"max_tokens": 64, "prompt_ids": [5, 6, 7]}])
            count = 0
            while (line := json.loads(process.stdout.readline())).get("op") != "run":
                count += line.get("event") == "tokens"
            self.assertTrue(line["ok"])
            ask(op="stop")
            process.communicate(timeout=30)
            return count
        self.assertEqual(lines_of_tokens(10_000_000), 1)
        # Tokens that come while a busy machine runs something else share a line.
        self.assertTrue(any(lines_of_tokens(1) > 3 for attempt in range(10)))


class Failures(unittest.TestCase):
    """What goes wrong is a row that says why; the others are measured all the same."""

    def failing(self, behaviour, expected, **more):
        benchmark = more.pop("benchmark", {})
        system = more.pop("system", None)
        text = json.loads(configuration([fake("good"), fake("bad <one>", behaviour, **more)],
                                        **benchmark))
        if system:
            text["system"] = system
        folder = Folder(json.dumps(text))
        engines = {engine["name"]: engine for engine in folder.summary()["engines"]}
        self.assertEqual(engines["good"]["state"], "ok")
        self.assertEqual(engines["bad <one>"]["state"], "failed")
        self.assertRegex(engines["bad <one>"]["reason"], expected)
        page = (folder.path / "report.html").read_text()
        self.assertIn("bad &lt;one&gt;", page)
        if behaviour in ("rubbish", "hang", "die"):
            self.assertRegex(page, "Its log ended with: <code>(trouble &amp; &lt;u&gt;smoke|out of m)")
        for tag in ("<script", "<b>no", "<one>", "<i>engine", "<u>"):
            self.assertNotIn(tag, page)
        folder.remove()

    def test_rubbish(self):
        self.failing("rubbish", "printed what is no message of the protocol: 'this is <b>no")

    def test_death(self):
        self.failing("die", r"ended \(exit status 3\); its log ends with: out of memory")

    def test_hang(self):
        begin = time.monotonic()
        self.failing("hang", "longer than its limit|not answered within", benchmark={
            "timeout_seconds": 2, "repeats": 1})
        self.assertLess(time.monotonic() - begin, 30)

    def test_wrong_version(self):
        self.failing("version", "does not speak version 1")

    def test_refuses_to_load(self):
        self.failing("refuse", "no such model & no memory")

    def test_says_done_too_early(self):
        self.failing("early", "no request succeeded while warming up")

    def test_every_request_fails(self):
        self.failing("fails", "the scripted engine says no")

    def test_memory_limit(self):
        self.failing("big", r"above the limit of 0.30 GB", benchmark={"repeats": 1},
                     system={"memory_limit_gb": 0.3, "monitor_hz": 20})

    def test_not_installed(self):
        text = configuration([fake("good"), {"name": "absent", "engine": "llama_cpp_server",
                                             "command": ["no-such-program-here"]}])
        folder = Folder(text)
        absent = folder.summary()["engines"][1]
        self.assertEqual(absent["state"], "failed")
        self.assertRegex(absent["reason"], r"not installed \(build llama.cpp")
        self.assertEqual(sum(1 for name, _, line in folder.raw() if name == "absent"
                             and line["kind"] == "session"), 1)  # tried once, not every time
        folder.remove()

    def test_other_ways_of_not_being_installed(self):
        """A script that is not there, a program that an adapter looks for, a module of Python."""
        text = configuration([fake("good"),
                              {"name": "script", "engine": "custom",
                               "command": ["python3", "/nowhere/adapter.py"]},
                              {"name": "program", "engine": "lm_rs",
                               "options": {"command": ["no-such-program-here"]}},
                              {"name": "module", "engine": "sglang",
                               "command": ["python3", "-m", "no_such_module.server"]}], repeats=1)
        folder = Folder(text, extra=("--engines", SOURCE / "engines"))
        reasons = {engine["name"]: engine.get("reason", "") for engine in
                   folder.summary()["engines"]}
        self.assertRegex(reasons["script"], "not installed .*no adapter '/nowhere/adapter.py'")
        self.assertRegex(reasons["program"], r"not installed \(build lm.rs .*no-such-program-here")
        self.assertRegex(reasons["module"], r"not installed \(.*sglang.*no_such_module")
        folder.remove()

    def test_rubbish_before_a_quick_end(self):
        folder = Folder(configuration([fake("good"), {"name": "echo", "engine": "custom",
                                                      "command": ["/bin/echo", "no json"]}],
                                      repeats=1))
        self.assertIn("what is no message of the protocol: 'no json'",
                      folder.summary()["engines"][1]["reason"])
        folder.remove()

    def test_nothing_is_left_running(self):
        folder = Folder(configuration([fake("good"), fake("hangs", "hang")], timeout_seconds=2,
                                      repeats=1))
        left = subprocess.run(["pgrep", "-f", str(FAKE) + " hang"], capture_output=True, text=True,
                              check=False).stdout
        self.assertEqual(left, "")
        folder.remove()


@unittest.skipUnless("LLCUDA_FAKE_NVML" in os.environ, "there is no scripted NVML")
class Limits(unittest.TestCase):
    """Whole runs with a GPU whose temperature stands in a file, and which uses 43 GB."""

    def start(self, engines, system, heat="55"):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="llcuda-bench-"))
        self.addCleanup(shutil.rmtree, self.root)
        self.heat = self.root / "heat"
        self.heat.write_text(heat)
        text = json.loads(configuration(engines(self.heat), [
            {"name": "w", "batch_sizes": [1], "sequence_lengths": [8], "output_tokens": 4,
             "iterations": 2}], repeats=2))
        text["system"] = {"monitor_hz": 50, **system}
        text["analysis"] = {"token_check": {"prompts": 0}}
        (self.root / "config.yaml").write_text(json.dumps(text))

    def run_it(self, status=0):
        return bench("--config", self.root / "config.yaml", "--output", self.root / "out",
                     status=status, environment={"LD_LIBRARY_PATH": os.environ["LLCUDA_FAKE_NVML"],
                                                 "FAKE_NVML_HEAT": str(self.heat)})

    def engines(self):
        summary = json.loads((self.root / "out/summary.json").read_text())
        return {engine["name"]: engine for engine in summary["engines"]}

    def test_heat_stops_a_run_which_goes_on_when_it_is_cool(self):
        self.start(lambda heat: [fake("warm", "heat", heat), fake("other")],
                   {"thermal_limit": 90})
        begin = time.monotonic()
        result = self.run_it()
        self.assertLess(time.monotonic() - begin, 30)
        self.assertRegex(result.stderr, r"[2-4] sessions were stopped by heat; start the same again")
        self.assertRegex(result.stderr, "warm, run 1: stopped: 93 °C, above the thermal limit of 90")
        warm = self.engines()["warm"]
        self.assertEqual(warm["state"], "failed")
        self.assertEqual(warm["reason"], "stopped: 93 °C, above the thermal limit of 90 °C")
        page = (self.root / "out/report.html").read_text()
        self.assertIn("stopped: 93 °C, above the thermal limit of 90 °C", page)
        left = subprocess.run(["pgrep", "-f", str(self.heat)], capture_output=True, text=True,
                              check=False).stdout
        self.assertEqual(left, "")
        kept = {path.name: path.read_bytes() for path in (self.root / "out/raw_data").iterdir()
                if b'"failure"' not in path.read_bytes()}
        self.assertTrue(kept)  # the drawn order has another engine first
        self.heat.write_text("50")
        result = self.run_it()
        self.assertNotIn("stopped", result.stderr)
        for name, data in kept.items():
            self.assertEqual((self.root / "out/raw_data" / name).read_bytes(), data)
        for engine in self.engines().values():
            self.assertEqual((engine["state"], engine["reason"]), ("ok", ""))
        self.assertIn("finished run", self.run_it(status=1).stderr)

    def test_a_gpu_that_others_use(self):
        self.start(lambda heat: [fake("on the GPU", device="cuda:0"), fake("on the CPU")], {})
        self.run_it()
        summary = json.loads((self.root / "out/summary.json").read_text())
        said = [row for row in summary["recommendations"] if "others used it" in row["text"]]
        self.assertEqual([(row["text"][:18], row["evidence"]) for row in said],
                         [("Measure on the GPU", "43.0 GB of its GPU's memory were in use before the "
                           "engine began")])

    def test_memory_of_a_gpu_counts_where_the_engine_uses_it(self):
        self.start(lambda heat: [fake("on the GPU", device="cuda:0"), fake("on the CPU")],
                   {"memory_limit_gb": 40})
        result = self.run_it()
        engines = self.engines()
        self.assertEqual(engines["on the CPU"]["state"], "ok")
        self.assertEqual(engines["on the GPU"]["reason"],
                         "stopped: 43.00 GB of GPU memory, above the limit of 40.00 GB")
        self.assertNotIn("sessions were stopped by heat", result.stderr)
        self.assertIn("finished run", self.run_it(status=1).stderr)  # it would be as large again


class Servers(unittest.TestCase):
    """llcuda over HTTP, started by the suite, beside itself in process: equal tokens."""

    def test_http(self):
        folder = Folder(configuration(
            [{"name": "in process", "engine": "llcuda_cpu", "threads": 1},
             {"name": "over HTTP", "engine": "llcuda_http", "threads": 1}],
            [{"name": "open", "request_rates": [20], "arrival": "gamma", "burstiness": 0.5,
              "num_prompts": 20, "sequence_lengths": [16], "output_tokens": 6},
             {"name": "closed", "concurrency": [3], "num_prompts": 12, "output_tokens": 6,
              "sequence_lengths": [16], "dataset": "shared-prefix", "prefix_tokens": 8}],
            repeats=2))
        summary = folder.summary()
        for engine in summary["engines"]:
            self.assertEqual(engine["state"], "ok", engine)
            self.assertEqual(engine["prompts_agreeing"], 2, engine["first_difference"])
        self.assertEqual(len({engine["version"] for engine in summary["engines"]}), 1)
        self.assertTrue(summary["engines"][0]["version"])
        for row in summary["results"]:
            self.assertEqual(row["failed"], 0, row["first_failure"])
            expected = 2 * (20 if row["workload"] == "open" else 12)
            self.assertEqual(row["requests"], expected)
        self.assertTrue(all(line["output_tokens"] == 6 for _, _, line in folder.raw()
                            if line["kind"] == "sample"))
        times = {engine: line["times"] for engine, _, line in folder.raw()
                 if line["kind"] == "session"}
        try:  # what the harness may do, this test may
            socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0).close()
            by = "packets"
        except OSError:
            by = "socket"
        self.assertEqual(times, {"in process": "adapter", "over HTTP": by})
        folder.remove()


class Resume(unittest.TestCase):
    def test_killed_run_goes_on(self):
        text = configuration([fake("one", "good", 20), fake("two", "good", 20)], repeats=4)
        root = pathlib.Path(tempfile.mkdtemp(prefix="llcuda-bench-"))
        (root / "config.yaml").write_text(text)
        command = [PROGRAM, "bench", "--config", root / "config.yaml", "--output", root / "out"]
        raw = root / "out/raw_data"
        for _ in range(5):  # on a busy machine it may be over before it is killed
            shutil.rmtree(root / "out", ignore_errors=True)
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, env=ENVIRONMENT)
            end = time.monotonic() + 60
            while time.monotonic() < end and len(list(raw.glob("*.jsonl"))) < 3:
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait()
            if len(list(raw.glob("*.jsonl"))) < 8:
                break
        kept = {path.name: path.read_bytes() for path in raw.glob("*.jsonl")}
        self.assertGreaterEqual(len(kept), 3)
        self.assertLess(len(kept), 8)
        self.assertFalse((root / "out/summary.json").exists())
        bench("--config", root / "config.yaml", "--output", root / "out")
        for name, data in kept.items():
            self.assertEqual((raw / name).read_bytes(), data, "a finished session was run again")
        self.assertEqual(len(list(raw.glob("*.jsonl"))), 8)
        shutil.rmtree(root)

    def test_interrupted_while_models_are_read(self):
        root = pathlib.Path(tempfile.mkdtemp(prefix="llcuda-bench-"))
        model = root / "big.gguf"
        with open(model, "wb") as file:
            file.truncate(64 << 30)  # takes no room
        (root / "c.yaml").write_text(configuration([fake("one", model_path=str(model))], repeats=1))
        command = [PROGRAM, "bench", "--config", root / "c.yaml", "--output", root / "out"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                   env=ENVIRONMENT)
        seen = b""
        while b"checksum of" not in seen:
            piece = os.read(process.stderr.fileno(), 1000)
            self.assertTrue(piece, seen)
            seen += piece
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        self.assertNotEqual(process.returncode, 0)
        self.assertFalse((root / "out/host.json").exists())
        with open(model, "wb") as file:
            file.write(b"small")
        bench("--config", root / "c.yaml", "--output", root / "out")
        host = json.loads((root / "out/host.json").read_text())
        self.assertEqual(host["models"], {str(model): hashlib.sha256(b"small").hexdigest()})
        shutil.rmtree(root)

    def test_other_folders_are_refused(self):
        root = pathlib.Path(tempfile.mkdtemp(prefix="llcuda-bench-"))
        (root / "a.yaml").write_text(configuration([fake("one")]))
        (root / "out").mkdir()
        (root / "out/precious.txt").write_text("mine")
        result = bench("--config", root / "a.yaml", "--output", root / "out", status=1)
        self.assertIn("holds no run", result.stderr)
        self.assertEqual([path.name for path in (root / "out").iterdir()], ["precious.txt"])
        shutil.rmtree(root)


class Configurations(unittest.TestCase):
    """Wrong files: file, line, and what was expected."""

    def wrong(self, text, line, expected):
        root = pathlib.Path(tempfile.mkdtemp(prefix="llcuda-bench-"))
        (root / "c.yaml").write_text(text)
        result = bench("--config", root / "c.yaml", "--output", root / "out", status=1)
        self.assertRegex(result.stderr, rf"c\.yaml:{line}\b")
        self.assertRegex(result.stderr, expected)
        self.assertFalse((root / "out").exists())
        shutil.rmtree(root)

    good = ("benchmark:\n  name: x\nengines: [llcuda_cpu]\nworkloads:\n  - name: w\n"
            "    batch_sizes: [1]\n")

    def test_wrong_key(self):
        self.wrong(self.good + "    iteration: 3\n", 7, "no key 'iteration'.*iterations")
        self.wrong(self.good + "analyses:\n  confidence_level: 0.9\n", 7, "no key 'analyses'")

    def test_wrong_type(self):
        self.wrong(self.good + "    iterations: many\n", 7, "'iterations' must be a number")

    def test_quoted_numbers_are_texts(self):
        self.wrong(self.good + "    iterations: '3'\n", 7, "'iterations' must be a number")

    def test_schema_is_what_the_program_reads(self):
        """Every section takes the keys of the kept schema, and no other."""
        schema = json.loads((SOURCE / "benchmarks/config.schema.json").read_text())
        sections = schema["properties"]
        engine, workload = schema["$defs"]["engine"], schema["$defs"]["workload"]
        good = json.loads(configuration([fake("one")]))
        self.assertEqual(check_schema(good, schema, schema), [])
        places = [(schema, lambda c: c), (engine, lambda c: c["engines"][0]),
                  (workload, lambda c: c["workloads"][0]),
                  (workload["properties"]["goodput"],
                   lambda c: c["workloads"][0].setdefault("goodput", {})),
                  (sections["analysis"]["properties"]["token_check"],
                   lambda c: c["analysis"].setdefault("token_check", {})),
                  (sections["analysis"]["properties"]["kernel_profile"],
                   lambda c: c["analysis"].setdefault("kernel_profile", {}))]
        places += [(sections[name], lambda c, name=name: c.setdefault(name, {}))
                   for name in ("benchmark", "analysis", "system", "prices")]
        for part, place in places:
            wrong = json.loads(json.dumps(good))
            place(wrong)["no_such_key"] = 1
            self.assertNotEqual(check_schema(wrong, schema, schema), [])
            with tempfile.TemporaryDirectory() as root:
                path = pathlib.Path(root) / "c.json"
                path.write_text(json.dumps(wrong))
                said = bench("check", path, status=1).stderr
            known = re.search(r"no key 'no_such_key' here; expected one of ([\w, ]+)", said)[1]
            self.assertEqual(set(known.split(", ")), set(part["properties"]), said)

    def test_values_that_stand_twice(self):
        self.wrong(self.good.replace("[1]", "[1, 4, 1]"), 6, "1 stands here twice")
        self.wrong(self.good + "    sequence_lengths: [64.5]\n", 7, "whole numbers")
        self.wrong(self.good + "analysis:\n  statistical_tests: []\n", 8, "one of mann_whitney_u")

    def test_fraction(self):
        self.wrong(self.good + "    iterations: 2.5\n", 7, "whole number")

    def test_unknown_engine(self):
        self.wrong(self.good.replace("llcuda_cpu", "llcuda_tpu"), 3,
                   "no engine 'llcuda_tpu'; known are .*candle_cpu.*custom")

    def test_unknown_test(self):
        self.wrong(self.good + "analysis:\n  statistical_tests: [anova]\n", 8,
                   "'anova' is not one of mann_whitney_u, welch_t_test")

    def test_two_levels(self):
        self.wrong(self.good + "    concurrency: [2]\n", 7, "one of batch_sizes, concurrency")

    def test_shell_commands_are_refused(self):
        self.wrong(self.good.replace("[llcuda_cpu]",
                                     "\n  - {name: a, command: 'rm -rf /'}"), 4, "list of words")

    def test_same_name_twice(self):
        self.wrong(self.good.replace("[llcuda_cpu]", "[llcuda_cpu, llcuda_cpu]"), 3, "two engines")

    def test_broken_yaml(self):
        self.wrong("benchmark: {name: x\nengines: [\n", 2, "did not find expected")

    def test_aliases_are_bounded(self):
        lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
        for level in range(1, 9):
            lines.append(f"a{level}: &a{level} [" + ", ".join([f"*a{level - 1}"] * 10) + "]")
        self.wrong("\n".join(lines) + "\n", r"\d", "stands for more than 100,000 values")

    def test_aliases_work(self):
        folder = Folder("benchmark: {name: x, repeats: 1}\nengines:\n"
                        f"  - &e {{name: a, command: [{sys.executable}, {FAKE}]}}\n"
                        "workloads:\n  - name: w\n    batch_sizes: &l [1]\n    iterations: 1\n"
                        "    sequence_lengths: *l\n    output_tokens: 2\n")
        self.assertEqual(folder.summary()["results"][0]["prompt_tokens"], 1)
        folder.remove()

    def wrong_json(self, text, line, expected):
        with tempfile.TemporaryDirectory() as root:
            path = pathlib.Path(root) / "c.json"
            path.write_text(text)
            result = bench("check", path, status=1)
            self.assertRegex(result.stderr, rf"c\.json:{line}\b")
            self.assertRegex(result.stderr, expected)

    def test_json_is_yaml_too(self):
        """Builds without libyaml read this only."""
        good = ('{"benchmark": {"name": "x"},\n "engines": ["llcuda_cpu"],\n'
                ' "workloads": [{"name": "w",\n  "batch_sizes": [1], "iterations": 3}]}\n')
        with tempfile.TemporaryDirectory() as root:
            path = pathlib.Path(root) / "c.json"
            path.write_text(good)
            bench("check", path)
        self.wrong_json(good.replace('"iterations"', '"iteration"'), 4, "no key 'iteration'")
        self.wrong_json(good.replace(": 3", ': "3"'), 4, "'iterations' must be a number")
        self.wrong_json(good.replace("llcuda_cpu", "tpu"), 2, "no engine 'tpu'")
        self.wrong_json(good.replace('"x"}', '"x", "name": "y"}'), 1, "twice|same key|name")
        self.wrong_json(good[:-4], r"[45]", "expected|ends")
        self.wrong_json("[" * 60 + "]" * 60, 1, "deep|nest")

    def test_options_keep_their_types(self):
        text = json.loads(configuration([fake("one", options={
            "lists": [1, 2.5, "3", True, "x"], "plain": 4, "quoted": "5", "flag": False})]))
        folder = Folder(json.dumps(text))
        engines = (folder.path / "report.html").read_text()
        found = re.findall(r"Options: <code>(.*?)</code>", engines)
        self.assertEqual(json.loads(html.unescape(found[0])), {
            "lists": [1, 2.5, "3", True, "x"], "plain": 4, "quoted": "5", "flag": False})
        folder.remove()

    def test_ready_configurations_can_be_read(self):
        for path in sorted((SOURCE / "benchmarks").glob("*.yaml")):
            result = subprocess.run([PROGRAM, "bench", "check", str(path)], capture_output=True,
                                    text=True, check=False, env=ENVIRONMENT)
            self.assertEqual(result.returncode, 0, f"{path}: {result.stderr}")


class Advice(unittest.TestCase):
    """What a report says to a buyer rests on what was seen, and on nothing else."""

    @classmethod
    def setUpClass(cls):
        cls.folder = Folder(json.dumps({
            "benchmark": {"name": "advice", "repeats": 5},
            "engines": [fake("old", "good", 30, 2, baseline=True), fake("new", "good", 6, 0.5),
                        fake("twin", "good", 6, 0.5, price_per_hour=4)],
            "workloads": [{"name": "open", "request_rates": [10, 20], "arrival": "constant",
                           "num_prompts": 5, "output_tokens": 4, "sequence_lengths": [8]},
                          {"name": "closed", "batch_sizes": [1], "iterations": 4,
                           "output_tokens": 4, "sequence_lengths": [8]}],
            "prices": {"currency": "EUR", "machine_per_hour": 2, "migration": 3000,
                       "hardware": 1000, "tokens_per_month": 1e9}}))
        cls.summary = cls.folder.summary()
        cls.texts = [row["text"] for row in cls.summary["recommendations"]]

    @classmethod
    def tearDownClass(cls):
        cls.folder.remove()

    def mean(self, engine, workload, metric):
        rows = [row["metrics"][metric]["mean"] for row in self.summary["results"]
                if (row["engine"], row["workload"]) == (engine, workload)]
        return math.exp(statistics.mean(map(math.log, rows)))

    def test_open_loops_are_judged_by_time(self):
        """Throughput is that of the arrivals: five times faster would look the same."""
        judged = {(row["workload"], row["metric"]) for row in self.summary["comparisons"]}
        self.assertIn(("open", "e2e_ms"), judged)
        self.assertNotIn(("open", "output_tokens_s"), judged)
        self.assertIn(("closed", "output_tokens_s"), judged)
        score = {engine["name"]: engine["throughput_against_baseline"]
                 for engine in self.summary["engines"]}
        expected = ((self.mean("old", "open", "e2e_ms") / self.mean("new", "open", "e2e_ms")) ** 2
                    * self.mean("new", "closed", "output_tokens_s")
                    / self.mean("old", "closed", "output_tokens_s")) ** (1 / 3)
        self.assertAlmostEqual(score["new"], expected, 6)
        scaling = [row for row in self.summary["criteria"] if "to the level" in row["text"]]
        self.assertEqual(scaling[0]["state"], "not measured")  # rates that double prove nothing

    def test_the_best_is_tested_against_the_next(self):
        """Both are better than the baseline, and nobody can tell them apart."""
        said = next(text for text in self.texts if text.startswith("For 'closed'"))
        self.assertRegex(said, "the figures do not decide between (new and twin|twin and new)")
        evidence = [row["evidence"] for row in self.summary["recommendations"]]
        self.assertRegex(evidence[0], "against the next best, (new|twin): better at 0 of 2 points")

    def test_a_winner_is_named_when_the_tests_say_so(self):
        """The tests against the baseline are those of the report: no second opinion."""
        folder = Folder(configuration([fake("old", "good", 30, 2), fake("new", "good", 6, 0.5)],
                                      repeats=5))
        first = folder.summary()["recommendations"][0]
        self.assertRegex(first["text"], "^For 'w' use new: throughput")
        self.assertRegex(first["evidence"], "the next best, old: better at 2 of 2 points, worse at 0")
        self.assertTrue(any(row["words"] in first["evidence"]
                            for row in folder.summary()["comparisons"]))
        folder.remove()

    def test_money_knows_each_machine_s_price(self):
        """As fast for twice the price; and the recommendation says what the table says."""
        rows = {row["engine"]: row["cost_per_million_tokens"] for row in self.summary["results"]
                if row["workload"] == "closed"}
        moves = {text: row["evidence"] for text, row in zip(self.texts,
                                                            self.summary["recommendations"])}
        for engine in ("new", "twin"):
            saved = (1 - rows[engine] / rows["old"]) * 100
            text = f"Moving from old to {engine} lowers the cost of a token by {saved:.0f} %."
            self.assertIn(text, moves)
            monthly = (rows["old"] - rows[engine]) * 1000
            self.assertIn(f"{monthly:.2f} EUR a month", moves[text])
            self.assertIn(f"pays back in {4000 / monthly:.1f} months", moves[text])


class FewRuns(unittest.TestCase):
    """What one or two runs cannot say is said in words, never as a number that is none."""

    def nothing_is_nan(self, repeats):
        text = json.loads(configuration(
            [fake("a"), fake("b", "good", 4), fake("dead", "die")],
            [{"name": "short", "batch_sizes": [1, 2], "sequence_lengths": [8], "output_tokens": 1,
              "iterations": 1, "warmup": 0},
             {"name": "open", "request_rates": [50], "num_prompts": 3, "sequence_lengths": [8],
              "output_tokens": 4, "goodput": {"e2e": 0.001}}], repeats=repeats))
        folder = Folder(json.dumps(text))
        self.addCleanup(folder.remove)
        page = re.sub(r'href="data:[^"]*"', "", (folder.path / "report.html").read_text())
        compared = bench("compare", folder.path, folder.path).stdout
        texts = [page, folder.result.stdout, folder.result.stderr, compared,
                 (folder.path / "summary.json").read_text()]
        texts += [path.read_text() for path in (folder.path / "plots").glob("*.svg")]
        for content in texts:
            self.assertEqual(re.findall(r".{0,60}\b(?:nan|inf|NaN|Infinity)\b.{0,20}", content), [])
        return page, compared

    def test_one(self):
        page, compared = self.nothing_is_nan(1)
        self.assertRegex(page, r"a test needs two of each at least; shift [\d.e-]+ ms "
                               r"\(too few runs for its interval\), δ 1<")
        self.assertIn("one run does not say how speed varies", page)
        self.assertIn("goodput: too few runs", compared)

    def test_two(self):
        page, compared = self.nothing_is_nan(2)
        self.assertIn("cannot fall below p 0.33", page)
        self.assertIn("(seen: both are 0, Welch p 1)", compared)  # goodput: nothing was in time


class Compare(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        workload = [{"name": "w", "batch_sizes": [1], "sequence_lengths": [8], "output_tokens": 4,
                     "iterations": 8, "warmup": 1}]
        cls.base = Folder(configuration([fake("engine", "good", 10, 1)], workload, repeats=6))
        cls.slow = Folder(configuration([fake("engine", "good", 20, 2)], workload, repeats=6))

    @classmethod
    def tearDownClass(cls):
        cls.base.remove()
        cls.slow.remove()

    def test_regression_has_an_exit_status(self):
        result = bench("compare", self.base.path, self.slow.path, status=1)
        self.assertIn("worse", result.stdout)

    def test_improvement_is_none(self):
        self.assertIn("better", bench("compare", self.slow.path, self.base.path).stdout)

    def test_same_is_same(self):
        self.assertIn("0 regressions", bench("compare", self.base.path, self.base.path).stdout)

    def test_an_engine_that_is_gone_is_a_regression(self):
        gone = Folder(configuration([fake("engine", "die")], [
            {"name": "w", "batch_sizes": [1], "sequence_lengths": [8], "output_tokens": 4,
             "iterations": 8, "warmup": 1}], repeats=1), status=1)
        result = bench("compare", self.base.path, gone.path, status=1)
        self.assertRegex(result.stdout, "- engine, w, .*measured before and is not now: .*out of memory")
        self.assertIn("1 regressions in 1 figures", result.stdout)
        gone.remove()

    def edited(self, change):
        """The base with other raw lines."""
        root = pathlib.Path(tempfile.mkdtemp(prefix="llcuda-bench-"))
        shutil.copytree(self.base.path, root / "out")
        for path in (root / "out/raw_data").iterdir():
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            for number, line in enumerate(lines):
                change(number, line)
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self.addCleanup(shutil.rmtree, root)
        return root / "out"

    def test_requests_that_fail_are_a_regression(self):
        def fail(number, line):
            if line["kind"] == "sample" and number % 4 == 0:
                line["ok"] = False
        result = bench("compare", self.base.path, self.edited(fail), status=1)
        self.assertRegex(result.stdout, r"- engine, w, .*\d+ of 48 requests failed, 0 of 48 before")

    def grown(self, key, factor):
        """The base with 100 in one figure of every run's point, times a factor."""
        def grow(_, line):
            if line["kind"] == "point":
                line[key] = 100 * factor
        return self.edited(grow)

    def rows(self, before, now, status):
        text = bench("compare", before, now, "--json", status=status).stdout
        return {row["metric"]: row for row in json.loads(text)["rows"]}

    def test_memory_and_energy_may_not_grow(self):
        for key, metric in (("memory_peak_bytes", "memory_peak_mb"),
                            ("gpu_memory_peak_bytes", "gpu_memory_peak_mb"),
                            ("cpu_energy_j", "energy_j_token")):
            before, now = self.grown(key, 1), self.grown(key, 1.1)
            row = self.rows(before, now, 1)[metric]
            self.assertEqual(row["verdict"], "worse", row)
            self.assertAlmostEqual(row["ratio"], 1.1, 6)
            self.assertEqual(self.rows(now, before, 0)[metric]["verdict"], "better")
            if "memory" in key:  # a page more is no regression
                row = self.rows(before, self.grown(key, 1.005), 0)[metric]
                self.assertRegex(row["words"], r"\+0.50 %, less than the 1 %")
        gone = self.rows(before, self.base.path, None)["energy_j_token"]
        if not os.path.exists("/sys/class/powercap/intel-rapl:0"):
            self.assertEqual(gone["verdict"], "undecided")
            self.assertIn("was measured before and is not now", gone["words"])

    def test_electricity_has_its_price(self):
        folder = self.grown("cpu_energy_j", 1)  # 100 J for 32 tokens
        file = folder / "config.yaml"
        text = json.loads(file.read_text())
        text["prices"] = {"machine_per_hour": 0.1, "kwh": 0.3}
        file.write_text(json.dumps(text))
        bench("report", folder)
        row = json.loads((folder / "summary.json").read_text())["results"][0]
        machine = 0.1 / 3600 / row["metrics"]["output_tokens_s"]["mean"] * 1e6
        self.assertAlmostEqual(row["cost_per_million_tokens"],
                               machine + 1e6 * 100 / 32 / 3.6e6 * 0.3, 6)

    def test_a_gpu_that_idles_is_none_of_the_cpu_s_energy(self):
        """Without RAPL the power of the GPU beside was all the energy that an engine had."""
        def watch(share, joules):
            def change(_, line):
                if line["kind"] == "point":
                    line.update(gpu_mean=share, gpu_power_mean_w=100, cpu_energy_j=joules)
            folder = self.edited(change)
            bench("report", folder)
            row = json.loads((folder / "summary.json").read_text())["results"][0]["metrics"]
            return row["energy_j_token"]["mean"], row["output_tokens_s"]["runs"]
        self.assertIsNone(watch(0, None)[0])
        self.assertAlmostEqual(watch(0, 64)[0], 2)  # 32 tokens
        energy, speeds = watch(0.5, None)
        self.assertAlmostEqual(energy, statistics.mean(100 / speed for speed in speeds), 6)

    def test_goodput_may_not_fall(self):
        """Where there are bounds; as many answers as before, half of them too late."""
        good = self.with_goodput(self.base.path)
        def late(number, line):
            if line["kind"] == "sample" and number % 2:
                line["last_us"] = line["last_us"] + 9e5
        row = self.rows(good, self.with_goodput(self.edited(late)), 1)["goodput_s"]
        self.assertEqual(row["verdict"], "worse")
        self.assertLess(row["ratio"], 0.7)
        self.assertEqual(self.rows(good, good, 0)["goodput_s"]["verdict"], "no difference")
        self.assertNotIn("goodput_s", self.rows(self.base.path, self.base.path, 0))

    def with_goodput(self, folder):
        root = pathlib.Path(tempfile.mkdtemp(prefix="llcuda-bench-"))
        shutil.copytree(folder, root / "out")
        file = root / "out/config.yaml"
        text = json.loads(file.read_text())
        text["workloads"][0]["goodput"] = {"e2e": 800}
        file.write_text(json.dumps(text))
        self.addCleanup(shutil.rmtree, root)
        return root / "out"

    def test_runs_that_fail_are_a_regression(self):
        """What is left of the engine is as quick as before."""
        folder = self.edited(lambda *_: None)
        path = sorted((folder / "raw_data").iterdir())[2]
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        lines = [line for line in lines if line["kind"] not in ("point", "sample", "gaps")]
        lines.insert(1, {"kind": "failure", "status": "io", "workload": "w", "point": "",
                         "reason": "the engine ended (signal 11)"})
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        result = bench("compare", self.base.path, folder, status=1)
        self.assertRegex(result.stdout, r"- engine, all workloads, all points: 1 of 6 runs failed, "
                                        r"0 of 6 before: the engine ended \(signal 11\)")
        self.assertIn("1 regressions", result.stdout)
        self.assertIn("0 regressions", bench("compare", folder, self.base.path).stdout)

    def test_other_answers_are_told(self):
        """Neither a regression nor proof that there is none."""
        def other(_, line):
            if line["kind"] == "tokens" and line["prompt"] == 1:
                line["ids"][2] += 1
                line["text"] = "else"
        before = self.edited(lambda *_: None)
        rows = self.rows(before, before, 0)
        self.assertEqual(rows["greedy_answers"]["verdict"], "no difference")
        self.assertEqual(rows["greedy_answers"]["point"], "2 prompts")
        row = self.rows(before, self.edited(other), 0)["greedy_answers"]
        self.assertEqual(row["verdict"], "undecided")
        self.assertRegex(row["words"], "^1 of 2 are others than before, as good or not; "
                                       "prompt 2 parts at token 2: '.*' and now 'else'")
        self.assertIn("1 could not be judged",
                      bench("compare", before, self.edited(other)).stdout)

        seeded = self.edited(other)  # other prompts: nothing to compare
        text = json.loads((seeded / "config.yaml").read_text())
        text["benchmark"]["seed"] = 77
        (seeded / "config.yaml").write_text(json.dumps(text))
        self.assertNotIn("greedy_answers", self.rows(before, seeded, 0))

    def test_memory_and_throttling_of_a_gpu(self):
        def watch(_, line):
            if line["kind"] == "point":
                line.update(gpu_memory_peak_bytes=43e9, gpu_throttled_share=0.5)
        folder = self.edited(watch)
        self.assertRegex(bench("report", folder).stdout, r"GPU memory, MB +\n.* 43000 ")
        self.assertNotIn("GPU memory, MB", bench("report", self.base.path).stdout)
        summary = json.loads((folder / "summary.json").read_text())
        metrics = summary["results"][0]["metrics"]
        self.assertAlmostEqual(metrics["gpu_memory_peak_mb"]["mean"], 43000)
        self.assertAlmostEqual(metrics["gpu_throttled_share"]["mean"], 0.5)
        self.assertTrue(any("held down by power or heat" in row["text"] and "50 %" in row["evidence"]
                            for row in summary["recommendations"]))

    def test_a_host_that_takes_processors_away(self):
        def steal(share):
            def watch(_, line):
                if line["kind"] == "point":
                    line["stolen_share"] = share
            folder = self.edited(watch)
            bench("report", folder)
            summary = json.loads((folder / "summary.json").read_text())
            told = [row for row in summary["recommendations"] if "to itself" in row["text"]]
            return summary["results"][0]["metrics"]["stolen_share"]["mean"], told
        share, told = steal(0.09)
        self.assertAlmostEqual(share, 0.09)
        self.assertEqual(len(told), 1)
        self.assertIn("gave 9 % of their time to others while", told[0]["evidence"])
        share, told = steal(0.01)
        self.assertAlmostEqual(share, 0.01)
        self.assertEqual(told, [])

    def test_few_runs_are_no_proof(self):
        few = Folder(configuration([fake("engine", "good", 10, 1)], [
            {"name": "w", "batch_sizes": [1], "sequence_lengths": [8], "output_tokens": 4,
             "iterations": 2}], repeats=1))
        self.assertRegex(bench("compare", few.path, few.path).stdout, "[4-5] could not be judged")
        few.remove()

    def test_json(self):
        result = bench("compare", self.base.path, self.slow.path, "--json", status=1)
        rows = json.loads(result.stdout)
        self.assertGreater(rows["regressions"], 0)
        self.assertTrue(all(math.isfinite(row["ratio"]) for row in rows["rows"]
                            if row["metric"] != "greedy_answers"))


if __name__ == "__main__":
    unittest.main()
