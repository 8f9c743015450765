"""Loads that files describe (ShareGPT, traces), several processes that share a load, the flags of
`llcuda bench` that need no configuration, and the parts of the report about money."""
import json
import pathlib
import re
import tempfile
import unittest

from test_suite import PROGRAM, SOURCE, Folder, bench, check_schema, fake  # noqa: F401


def run_direct(*arguments, status=0):
    """A run by flags in a fresh folder: (result, summary, raw lines)."""
    root = pathlib.Path(tempfile.mkdtemp(prefix="llcuda-direct-"))
    result = bench(*arguments, "--threads", "1", "--output", root / "out", status=status)
    if status:
        return result, None, None
    summary = json.loads((root / "out/summary.json").read_text())
    lines = [json.loads(line) for path in sorted((root / "out/raw_data").iterdir())
             for line in path.read_text().splitlines()]
    return result, summary, lines


class Flags(unittest.TestCase):
    def test_concurrent(self):
        _, summary, lines = run_direct("--mode", "concurrent", "--concurrency", "1,3",
                                       "--duration", "0.5", "--repeats", "2", "--pp", "8",
                                       "--tg", "4")
        self.assertEqual([row["level"] for row in summary["results"]], [1, 3])
        self.assertTrue(all(line["output_tokens"] == 4 and line["prompt_tokens"] == 8
                            for line in lines if line["kind"] == "sample"))
        self.assertEqual(summary["repeats"], 2)

    def test_open_loop_and_goodput(self):
        _, summary, lines = run_direct("--mode", "latency", "--request-rate", "20",
                                       "--arrival", "constant", "--duration", "0.5",
                                       "--repeats", "2", "--pp", "8", "--tg", "2",
                                       "--goodput", "ttft:0.001")
        due = sorted(line["due_us"] for line in lines if line["kind"] == "sample")
        self.assertEqual(len(due), 2 * 10)
        self.assertTrue(all(abs(value / 50000 - round(value / 50000)) < 1e-6 for value in due))
        self.assertEqual(summary["results"][0]["metrics"]["goodput_s"]["mean"], 0)

    def test_a_folder_means_a_report(self):
        _, summary, _ = run_direct("--mode", "latency", "--repeats", "2", "--pp", "8", "--tg", "2")
        self.assertEqual([row["level"] for row in summary["results"]], [1])

    def test_batches(self):
        _, summary, _ = run_direct("--mode", "throughput", "--batch", "2,4", "--iters", "3",
                                   "--warmup", "0", "--repeats", "2", "--pp", "8", "--tg", "2")
        self.assertEqual([row["requests"] for row in summary["results"]], [12, 24])

    def test_memory(self):
        result, summary, _ = run_direct("--mode", "memory", "--batch", "1", "--iters", "1",
                                        "--pp", "16,64", "--tg", "2", "--repeats", "2")
        self.assertIn("peak memory, MB", result.stdout)
        self.assertTrue(all(row["metrics"]["memory_peak_mb"]["mean"] > 5
                            for row in summary["results"]))

    def test_sweep_finds_its_rates(self):
        result, summary, _ = run_direct("--mode", "sweep", "--duration", "0.5", "--repeats", "2",
                                        "--pp", "8", "--tg", "4", "--concurrency", "4")
        self.assertIn("full at", result.stderr)
        levels = [row["level"] for row in summary["results"]]
        self.assertEqual(len(levels), 6)
        self.assertAlmostEqual(levels[-1] / levels[0], 11, 1)

    def test_scaling(self):
        result, summary, _ = run_direct("--mode", "scaling", "--ranks", "1,2", "--duration", "0.5",
                                        "--repeats", "2", "--pp", "8", "--tg", "8")
        one, two = summary["results"]
        self.assertIsNone(one["speedup"])
        expected = (two["metrics"]["output_tokens_s"]["mean"]
                    / one["metrics"]["output_tokens_s"]["mean"])
        self.assertAlmostEqual(two["speedup"], expected, 6)
        self.assertAlmostEqual(two["rank_efficiency"], expected / 2, 6)
        self.assertIn("2 ranks:", result.stdout)

    def test_wrong_flags(self):
        for arguments, expected in (
                (("--goodput", "foo:1"), "no key 'foo' here; expected one of ttft, tpot, e2e"),
                (("--goodput", "ttft"), "'ttft' must be a number"),
                (("--dataset", "sharegpt"), "needs a dataset_path"),
                (("--dataset", "poems"), "'poems' is not one of random"),
                (("--arrival", "never", "--request-rate", "1"), "'never' is not one of poisson"),
                (("--batch", "x"), "must be a number"),
                (("--mode", "kernels", "--batch", "2"), "takes --pp and --tg"),
                (("--mode", "fast"), "--mode is latency")):
            result = bench(*arguments, status=None)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertIn(expected, result.stderr)

    def test_help_teaches(self):
        text = " ".join(bench("--help").stdout.split())
        for word in ("--request-rate", "open loop", "closed loop", "ttft:500,tpot:50",
                     "sharegpt:FILE", "--mode sweep"):
            self.assertIn(word, text)


class Kernels(unittest.TestCase):
    """The profile beside a run: its points are those of kernels.json, and the report has them."""

    def test_roofline(self):
        folder = Folder(json.dumps({
            "benchmark": {"name": "kernels", "repeats": 1}, "engines": [fake("one")],
            "workloads": [{"name": "w", "batch_sizes": [1], "output_tokens": 2, "iterations": 1}]}))
        self.assertNotIn('id="kernels"', (folder.path / "report.html").read_text())
        bench("--mode", "kernels", "--pp", "32", "--tg", "8", "--repeats", "1", "--threads", "1",
              "--output", folder.path)
        profile = json.loads((folder.path / "kernels.json").read_text())
        page = (folder.path / "report.html").read_text()
        self.assertIn('id="kernels"', page)
        self.assertTrue((folder.path / "plots/roofline.svg").exists())
        rates = {f"{row['arithmetic_operations'] / row['ns'] * 1e9:.6g}"
                 for part in profile["profiles"] for row in part["operations"]
                 if row.get("bytes") and row.get("arithmetic_operations")}
        shown = {f"{float(value):.6g}" for value in
                 re.findall(r'data-metric="roofline_op_s"[^>]*data-value="([^"]+)"', page)}
        self.assertGreater(len(rates), 4)
        self.assertEqual(shown, rates)
        self.assertEqual([part["test"] for part in profile["profiles"]], ["pp", "tg"])
        text = profile["tokenizing"]
        self.assertIn(f"Tokenising: {text['bytes']} bytes of prose are {text['tokens']} tokens after "
                      f"{text['ns'] / 1e6:.2f} ms", page)
        folder.remove()

    def test_what_a_gpu_says(self):
        """A profile with occupancy, counters, launches and graphs: tables and criteria."""
        folder = Folder(json.dumps({
            "benchmark": {"name": "kernels", "repeats": 1}, "engines": [fake("one")],
            "workloads": [{"name": "w", "batch_sizes": [1], "output_tokens": 2, "iterations": 1}]}))

        def criteria():
            bench("report", folder.path)
            summary = json.loads((folder.path / "summary.json").read_text())
            return {row["text"]: row for row in summary["criteria"]}
        asked = {"occupancy above 75 %", "bandwidth above 80 %", "tensor cores above 60 %"}
        for text in asked:
            self.assertEqual(criteria()[text]["state"], "not measured")
        row = {"operation": "down", "type": "bf16", "times": 4, "bytes": 900, "memory_share": 0.9,
               "arithmetic_share": 0.2, "arithmetic_operations": 1800}
        kernel = {"kernel": "linear <f16>", "operation": "down", "launches": 16, "ns": 750,
                  "registers": 96, "shared_bytes": 49152, "occupancy": 0.9}
        steps = {"count": 2, "launches": 32, "plan_operations": 96, "kernel_ns": 1000,
                 "plain_ns": 3400, "graph_ns": 2200, "memory_bytes": {"weights": 6e6, "cache": 2e6}}
        counters = {"occupancy": 0.82, "tensor_share": 0.65, "sectors_per_request": 3.9, "passes": 2}
        profile = {"read_bytes_per_second": 1e9, "flop_per_second": 1e10,
                   "profiles": [
                       {"test": "tg", "tokens": 2, "depth": 0, "ns": 1000, "steps": steps,
                        "operations": [dict(row, ns=1000)], "kernels": [kernel],
                        "counters": {"reason": "administrators <only>"}},
                       {"test": "pp", "tokens": 512, "depth": 0, "ns": 1000,
                        "operations": [dict(row, ns=1000)], "counters": counters,
                        "kernels": [kernel, dict(kernel, ns=250, occupancy=0.5)]}]}
        (folder.path / "kernels.json").write_text(json.dumps(profile))
        seen = criteria()
        self.assertEqual(seen["bandwidth above 80 %"]["state"], "met")
        self.assertTrue(seen["bandwidth above 80 %"]["seen"].startswith("90.0 %, tg2 depth 0"))
        self.assertEqual(seen["occupancy above 75 %"]["state"], "met")
        self.assertTrue(seen["occupancy above 75 %"]["seen"].startswith("82.0 %, pp512"))
        self.assertEqual(seen["tensor cores above 60 %"]["state"], "met")
        self.assertTrue(seen["tensor cores above 60 %"]["seen"].startswith("65.0 %"))
        page = (folder.path / "report.html").read_text()
        for text in ("administrators &lt;only&gt;", "weights 6 MB, cache 2 MB", "linear &lt;f16&gt;"):
            self.assertIn(text, page)
        for value in ("1.7", "1.1", "16", "3", "3.9", "48", "96", "75 %", "25 %"):
            self.assertIn(f'<td class="n">{value}</td>', page)
        # Without counters the occupancy is that of registers and memory: 0.75 × 0.9 + 0.25 × 0.5.
        profile["profiles"][1]["counters"] = {"reason": "virtual <GPU>"}
        (folder.path / "kernels.json").write_text(json.dumps(profile))
        seen = criteria()
        self.assertTrue(seen["occupancy above 75 %"]["seen"].startswith("80.0 %, pp512"))
        self.assertEqual(seen["tensor cores above 60 %"]["state"], "not measured")
        self.assertIn("administrators", seen["tensor cores above 60 %"]["seen"])
        folder.remove()

    def test_damaged_profile(self):
        folder = Folder(json.dumps({
            "benchmark": {"name": "kernels", "repeats": 1}, "engines": [fake("one")],
            "workloads": [{"name": "w", "batch_sizes": [1], "output_tokens": 2, "iterations": 1}]}))
        for text in ("{", "{}", '{"profiles": 7, "flop_per_second": "a"}'):
            (folder.path / "kernels.json").write_text(text)
            self.assertIn("kernels.json", bench("report", folder.path, status=1).stderr)
        folder.remove()


class Loads(unittest.TestCase):
    """Prompts and arrivals from files."""

    def run_with(self, text, suffix, **workload):
        with tempfile.TemporaryDirectory() as root:
            path = pathlib.Path(root) / f"data{suffix}"
            path.write_text(text)
            folder = Folder(json.dumps({
                "benchmark": {"name": "loads", "repeats": 1},
                "engines": [fake("scripted")],
                "workloads": [{"name": "w", "dataset_path": str(path), **workload}],
                "analysis": {"token_check": {"prompts": 1, "tokens": 2}}}))
        samples = [line for _, _, line in folder.raw() if line["kind"] == "sample"]
        folder.remove()
        return samples

    def test_sharegpt(self):
        talk = [{"conversations": [{"from": "human", "value": "Tell me about the sea " * n},
                                   {"from": "gpt", "value": "It is wide. " * n}]}
                for n in (1, 2, 5)]
        samples = self.run_with(json.dumps(talk), ".json", dataset="sharegpt", batch_sizes=[1],
                                sequence_lengths=[1000], iterations=12, warmup=0, output_tokens=500)
        prompts = {line["prompt_tokens"] for line in samples}
        self.assertEqual(len(samples), 12)
        self.assertGreater(len(prompts), 1)           # several conversations were taken
        self.assertLess(max(prompts), 1000)           # and none was padded to the length
        self.assertGreaterEqual(max(prompts), 4 * min(prompts))

    def test_trace(self):
        trace = [(0, 5, 2), (40, 9, 3), (50, 7, 4), (120, 6, 1)]
        text = "".join(json.dumps({"timestamp": at, "input_length": size, "output_length": out})
                       + "\n" for at, size, out in trace)
        samples = self.run_with(text, ".jsonl", type="trace", speed=[1, 2], warmup=0)
        for begin, speed in ((0, 1), (4, 2)):
            part = sorted(samples[begin:begin + 4], key=lambda line: line["due_us"])
            for line, (at, size, out) in zip(part, trace):
                self.assertAlmostEqual(line["due_us"], at * 1000 / speed, delta=1)
                self.assertEqual((line["prompt_tokens"], line["output_tokens"]), (size, out))

    def test_damaged_files(self):
        for text, suffix, workload in (
                ("[]", ".json", {"dataset": "sharegpt", "batch_sizes": [1]}),
                ('{"timestamp": "soon"}\n', ".jsonl", {"type": "trace"})):
            with self.assertRaisesRegex(AssertionError, r"data\.json"):
                self.run_with(text, suffix, **workload)


class Ranks(unittest.TestCase):
    def test_two_processes_share_a_load(self):
        """Engines that sleep: two of them answer twice as much."""
        folder = Folder(json.dumps({
            "benchmark": {"name": "ranks", "repeats": 3},
            "engines": [fake("one", "good", 20, 1), fake("two", "good", 20, 1, ranks=2)],
            "workloads": [{"name": "w", "concurrency": [4], "num_prompts": 24, "output_tokens": 4,
                           "sequence_lengths": [8]},
                          {"name": "waves", "batch_sizes": [3], "iterations": 4,
                           "output_tokens": 4, "sequence_lengths": [8]}]}))
        summary = folder.summary()
        schema = json.loads((SOURCE / "benchmarks/summary.schema.json").read_text())
        self.assertEqual(check_schema(summary, schema, schema), [])
        rows = {(row["engine"], row["workload"]): row for row in summary["results"]}
        self.assertEqual(rows["two", "waves"]["requests"], 3 * 12)
        self.assertEqual(rows["two", "waves"]["failed"], 0)
        self.assertGreater(rows["two", "w"]["speedup"], 1.3)
        two = [row for row in summary["results"] if row["engine"] == "two"]
        least = min(row["rank_efficiency"] for row in two)
        fastest = max(two, key=lambda row: row["metrics"]["output_tokens_s"]["mean"])
        devices = [row for row in summary["criteria"] if "to the devices" in row["text"]][0]
        self.assertIn(f"least efficiency {least * 100:.0f} %, on 2 ranks; "
                      f"{fastest['rank_efficiency'] * 100:.0f} % at its point", devices["seen"])
        self.assertEqual(devices["state"], "met" if least > 0.8 else "missed")
        self.assertIn("Scaling over devices", (folder.path / "report.html").read_text())
        folder.remove()

    def test_servers_have_none(self):
        with tempfile.TemporaryDirectory() as root:
            path = pathlib.Path(root) / "c.yaml"
            path.write_text("benchmark: {name: x}\nengines:\n  - {engine: llcuda_http, ranks: 2}\n"
                            "workloads:\n  - {name: w, batch_sizes: [1]}\n")
            result = bench("check", path, status=1)
            self.assertRegex(result.stderr, r"c\.yaml:3.*not for servers")


class Money(unittest.TestCase):
    def test_return_on_investment(self):
        folder = Folder(json.dumps({
            "benchmark": {"name": "money", "repeats": 2},
            "engines": [fake("old <engine>", "good", 20, 2, baseline=True),
                        fake("new", "good", 5, 0.5)],
            "workloads": [{"name": "w", "batch_sizes": [1], "output_tokens": 5, "iterations": 4,
                           "sequence_lengths": [8]}],
            "prices": {"currency": "EUR", "machine_per_hour": 2, "migration": 3000,
                       "hardware": 1000, "tokens_per_month": 1e9}}))
        rows = {row["engine"]: row for row in folder.summary()["results"]}
        page = (folder.path / "report.html").read_text()
        monthly = {name: row["cost_per_million_tokens"] * 1000 for name, row in rows.items()}
        for name, row in rows.items():
            speed = row["metrics"]["output_tokens_s"]["mean"]
            self.assertAlmostEqual(row["cost_per_million_tokens"], 2 / (speed * 3600) * 1e6, 4)
        saving = monthly["old <engine>"] - monthly["new"]
        investment = page[page.index('id="investment"'):]
        investment = investment[:investment.index("<h2", 10)]
        self.assertIn(f">{monthly['new']:.4g}<", investment)
        self.assertIn(f">{saving:.4g}<", investment)
        self.assertIn(f">{4000 / saving:.4g}<", investment)
        self.assertIn(f">{(12 * saving - 4000) / 4000 * 100:.1f} %<", investment)
        self.assertNotIn("old <engine>", page)
        for part in ('id="winners"', 'id="moving"', "it is a library here"):
            self.assertIn(part, page)
        folder.remove()

    def test_without_prices_it_says_so(self):
        folder = Folder(json.dumps({
            "benchmark": {"name": "none", "repeats": 1}, "engines": [fake("one")],
            "workloads": [{"name": "w", "batch_sizes": [1], "output_tokens": 2, "iterations": 1}]}))
        self.assertIn("Not computed: it needs <code>prices</code>",
                      (folder.path / "report.html").read_text())
        folder.remove()


if __name__ == "__main__":
    unittest.main()
