"""The command-line contract: output, exit status, options, messages."""
import json
import os
import pathlib
import pty
import random
import select
import signal
import subprocess
import tempfile
import termios
import time
import unittest

from program import DEMO, PROGRAM, SOURCE, run, run_json


def wait_until_handled(process, number):
    """Until the program handles the signal, of which it would simply die before, and works."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        if int(status.split("SigCgt:")[1].split()[0], 16) >> (number - 1) & 1:
            break
        time.sleep(0.02)
    time.sleep(0.3)


class Help(unittest.TestCase):
    def test_every_command_teaches(self):
        overview = run("--help").out
        for line in overview.splitlines():
            if line.startswith("  ") and not line.startswith("  llcuda"):
                name = line.split()[0]
                text = run(name, "--help").out
                self.assertIn(f"usage: llcuda {name}", text)
                self.assertIn("examples:", text)

    def test_no_command_is_wrong_usage(self):
        self.assertIn("usage:", run(status=2).err)

    def test_unknown_names_are_wrong_usage(self):
        self.assertIn("no command 'infr'", run("infr", status=2).err)
        self.assertIn("did you mean '--temp'?", run("infer", "--tmp", "1", status=2).err)
        self.assertIn("whole number", run("infer", "-n", "many", status=2).err)
        self.assertIn("outside", run("infer", "--top-p", "1.5", status=2).err)
        self.assertIn("needs", run("infer", "-p", status=2).err)

    def test_the_options_page_is_current(self):
        self.assertEqual((SOURCE / "docs/options.md").read_text(), run("--options-page").out)

    def test_completion_and_man_page(self):
        bash = run("completion", "bash").out
        subprocess.run(["bash", "-n"], input=bash.encode(), check=True)
        self.assertIn("--top-k", bash)
        self.assertIn("-l top-k", run("completion", "fish").out)
        self.assertIn(r"\-\-top\-k", run("--man-page").out)
        run("completion", "tcsh", status=2)


class Infer(unittest.TestCase):
    def test_raw_and_chat_both_get_four(self):
        self.assertEqual(run("infer", "-p", "What is 2+2?").out.strip(), "4")
        self.assertEqual(run("infer", "--chat", "-p", "What is 2+2?").out.strip(), "4")

    def test_json_document(self):
        answer = run_json("infer", "-p", "What is 47 + 38?", "--seed", "7")
        self.assertEqual(answer["text"].strip(), "85")
        self.assertEqual(answer["seed"], 7)
        self.assertEqual(answer["finish_reason"], "stop")
        self.assertEqual(answer["usage"]["completion_tokens"], len(answer["ids"]))
        self.assertEqual(answer["usage"]["prompt_tokens"], len(answer["prompt_ids"]))
        for key in ("load_ms", "prefill_ms", "ttft_ms", "decode_ms", "prefill_tok_s",
                    "decode_tok_s"):
            self.assertGreaterEqual(answer["timings"][key], 0)

    def test_the_same_seed_gives_the_same_text(self):
        arguments = ("infer", "-p", "Once", "-n", "30", "--temp", "1.5", "--ignore-eos")
        first = run(*arguments, "--seed", "3").out
        self.assertEqual(first, run(*arguments, "--seed", "3").out)
        others = {run(*arguments, "--seed", seed).out for seed in range(4, 8)}
        self.assertGreater(len(others | {first}), 1)

    def test_a_reported_seed_can_be_given(self):
        arguments = ("infer", "-p", "Once", "-n", "30", "--temp", "1.5", "--ignore-eos")
        drawn = run_json(*arguments)
        self.assertLess(drawn["seed"], 2 ** 53)
        self.assertEqual(run(*arguments, "--seed", drawn["seed"]).out, drawn["text"])

    def test_length_stop_and_echo(self):
        answer = run_json("infer", "-p", "Once", "-n", "3", "--ignore-eos")
        self.assertEqual((answer["finish_reason"], len(answer["ids"])), ("length", 3))
        whole = run("infer", "-p", "What is 47 + 38?").out
        self.assertNotIn("5", run("infer", "-p", "What is 47 + 38?", "--stop", "5").out)
        echoed = run("infer", "-p", "What is 47 + 38?", "--echo").out
        self.assertEqual(echoed, "What is 47 + 38?" + whole)

    def test_prompts_from_files_and_pipes(self):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write("What is 2+2?")
            file.flush()
            self.assertEqual(run("infer", "-f", file.name).out.strip(), "4")
        self.assertEqual(run("infer", stdin="What is 2+2?").out.strip(), "4")

    def test_both_containers_and_every_level_agree(self):
        texts = {run("infer", "-m", model, "-p", "What is 12 x 11?", *level).out
                 for model in (DEMO / "llcuda-demo-q8_0.gguf", DEMO / "hf")
                 for level in ((), ("--cpu-level", "scalar"), ("--cpu-level", "avx2"),
                               ("--threads", "1"))}
        self.assertEqual({text.strip() for text in texts}, {"132"})

    def test_variables_and_files(self):
        self.assertEqual(run_json("infer", "-p", "1+1=", environment={"LLCUDA_SEED": "11"})["seed"],
                         11)
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write("seed: 12\nstop: [x, y]\n")
            file.flush()
            arguments = ("infer", "-p", "1+1=", "--config", file.name)
            self.assertEqual(run_json(*arguments)["seed"], 12)
            self.assertEqual(run_json(*arguments, environment={"LLCUDA_SEED": "13"})["seed"], 13)
            self.assertEqual(run_json(*arguments, "--seed", "14")["seed"], 14)
            for wrong, message in (("sed: 1\n", "no option 'sed'"), ("seed: [1]\n", "single value"),
                                   ("seed: &a 1\ntop-k: *a\n", "alias"), ("seed: x\n", "number"),
                                   ("- seed\n", "name: value"), ("seed: 1\nseed: 2\n", "twice"),
                                   ("seed: 'x\n", ":")):
                file.seek(0)
                file.truncate()
                file.write(wrong)
                file.flush()
                self.assertIn(message, run(*arguments, status=None).err)

    def test_errors_are_sentences(self):
        cases = [(("-m", "/no/such.gguf"), 1, "No such file"),
                 (("-m", SOURCE / "README.md"), 1, "GGUF"),
                 (("-m", SOURCE / "docs"), 1, "config.json"),
                 (("--device", "cuda:0"), 1, "cuda"),
                 (("--device", "nonsense"), 2, "nonsense"),
                 (("--cpu-level", "sse9"), 2, "sse9"),
                 (("--stop", ""), 2, "--stop takes a text"),
                 (("--system", "x"), 2, "--system goes with --chat"),
                 (("--template", "x"), 2, "--template goes with --chat"),
                 (("--logit-bias", "x"), 2, "ID=BIAS"),
                 (("--logit-bias", "99999999=1"), 1, "99999999"),
                 (("-c", "16", "-f", SOURCE / "README.md"), 2, "not both")]
        for arguments, status, message in cases:
            result = run("infer", "-p", "x", *arguments, status=status)
            self.assertIn(message, result.err)
            self.assertEqual(result.out, "")
            self.assertNotEqual(result.returncode, 0)
        self.assertIn("context", run("infer", "-c", "16", "-f", SOURCE / "LICENSE", status=1).err)
        # What is set for another command is passed over.
        run("infer", "-p", "x", "-n", "1", environment={"LLCUDA_SYSTEM": "x"})

    def test_a_wrong_word_is_wrong_usage_everywhere(self):
        for option, value in (("--log-level", "loud"), ("--cache-type", "f8"), ("--device", "tpu"),
                              ("--gpu-layers", "few"), ("--gpu-memory-limit", "0"),
                              ("--cpu-level", "sse9"), ("--kernel-pack", "/no/pack")):
            for command in (["perplexity", "-f", SOURCE / "LICENSE"], ["plan"], ["batch", "-i", "x", "-o", "y"],
                            ["eval", "--ids", "1", "--logits", "/no/where"], ["serve", "--port", "0"]):
                error = run(*command, option, value, status=2, timeout=20).err
                self.assertIn(value, error)
                self.assertEqual(error.count("\n"), 1, error)
        self.assertEqual(run("inspect", "--log-level", "loud", status=2).out, "")

    def test_more_positions_than_the_model_has(self):
        self.assertEqual(run("infer", "-p", "x", "-n", "1", "-c", "2048").err, "")
        self.assertIn("made for 2048 positions, not 2049",
                      run("infer", "-p", "x", "-n", "1", "-c", "2049").err)

    def test_a_closed_pipe_is_an_error(self):
        process = subprocess.run(f"'{PROGRAM}' infer -p Once -n 500 --ignore-eos | head -c 1; "
                                 "exit ${PIPESTATUS[0]}",
                                 shell=True, executable="/bin/bash", capture_output=True,
                                 check=False, timeout=120)
        self.assertEqual(len(process.stdout), 1)
        self.assertEqual(process.returncode, 1)
        lines = process.stderr.decode().splitlines()
        self.assertEqual(len(lines), 1, lines)
        self.assertIn("cannot write to standard output", lines[0])

    def test_a_full_disk_is_an_error(self):
        for arguments in (["completion", "bash"], ["chat", "--temp", "0"], ["--help"], ["inspect"]):
            with open("/dev/full", "wb") as full:
                process = subprocess.run([PROGRAM, *arguments], input=b"What is 2+2?\nHi\n", stdout=full,
                                         stderr=subprocess.PIPE, check=False, timeout=60)
            self.assertEqual(process.returncode, 1, arguments)
            self.assertEqual(process.stderr.count(b"cannot write to standard output"), 1, arguments)

    def test_options_of_gpus_without_a_gpu(self):
        for arguments in (("--gpu-layers", "2"), ("--gpu-memory-limit", "50%"),
                          ("--kernel-pack", SOURCE / "LICENSE")):
            if run_json("infer", "-p", "x", "-n", "1")["device"]["kind"] == "cpu":
                self.assertIn("the CPU computes: ", run("infer", "-p", "x", "-n", "1", *arguments).err)


    def test_a_terminal_sees_that_a_long_prompt_is_read(self):
        """Nobody but a terminal does; the emulated GPU makes it take its time."""
        command = [PROGRAM, "infer", "-p", "What is 47 + 38? " * 20, "-n", "1", "--device", "emu"]
        terminal, other = pty.openpty()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=other)
        os.close(other)
        shown = b""
        try:
            while piece := os.read(terminal, 4096):
                shown += piece
        except OSError:
            pass  # the other end is closed
        self.assertEqual(process.wait(60), 0, shown)
        self.assertIn(b"reading the prompt:   0 %", shown)
        self.assertTrue(shown.endswith(b"\r\x1b[K"), shown[-40:])
        process.stdout.close()
        os.close(terminal)
        self.assertEqual(subprocess.run(command, capture_output=True).stderr, b"")


class HostileFiles(unittest.TestCase):
    def test_flipped_and_truncated_headers(self):
        data = bytearray((DEMO / "llcuda-demo-q8_0.gguf").read_bytes())
        rng = random.Random(5)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "m.gguf"
            for _ in range(12):
                broken = bytearray(data)
                position = rng.randrange(60000)
                broken[position] ^= 1 << rng.randrange(8)
                path.write_bytes(broken)
                self.assertIn(run("inspect", path, status=None).returncode, (0, 1), position)
            for length in (0, 3, 24, 1000, 30000, len(data) - 1):
                path.write_bytes(data[:length])
                for command in (("inspect", path), ("infer", "-m", path, "-p", "x")):
                    result = run(*command, status=1)
                    self.assertEqual(len(result.err.splitlines()), 1, result.err)


class Tokens(unittest.TestCase):
    def test_round_trip(self):
        text = "What is 47 + 38? äöü 你好 🙂"
        ids = run("tokenize", "--no-bos", text).out.split()
        self.assertEqual(run("detokenize", *ids).out.rstrip("\n"), text)
        self.assertEqual(run("detokenize", " ".join(ids)).out.rstrip("\n"), text)
        document = run_json("tokenize", "--no-bos", text)
        self.assertEqual([str(i) for i in document["ids"]], ids)
        self.assertEqual(document["count"], len(ids))

    def test_special_tokens(self):
        with_special = run("tokenize", "--no-bos", "<|im_start|>").out.split()
        plain = run("tokenize", "--no-bos", "--no-special", "<|im_start|>").out.split()
        self.assertEqual(len(with_special), 1)
        self.assertGreater(len(plain), 1)
        self.assertEqual(len(run("tokenize", "a").out.split()),
                         len(run("tokenize", "--no-bos", "a").out.split()) + 1)

    def test_wrong_ids(self):
        run("detokenize", status=2)
        run("detokenize", "x1", status=2)
        self.assertIn("99999999", run("detokenize", "99999999", status=1).err)


class Chat(unittest.TestCase):
    def test_lines_from_a_pipe(self):
        answers = run("chat", stdin="What is 2+2?\n/reset\nWhat is 6 x 7?\n").out.split()
        self.assertEqual(answers, ["4", "42"])


    def test_on_a_terminal(self):
        for locale in ("C", "C.UTF-8"):
            terminal, other = pty.openpty()
            with tempfile.TemporaryDirectory() as folder:
                environment = {key: value for key, value in os.environ.items()
                               if not key.startswith(("LLCUDA_", "LC_"))}
                environment |= {"LC_ALL": locale, "XDG_STATE_HOME": folder, "TERM": "dumb"}
                process = subprocess.Popen([PROGRAM, "chat"], stdin=other, stdout=other, stderr=other,
                                           env=environment)
                os.close(other)
                self.read_until(terminal, "> ")
                os.write(terminal, "grüße 漢字\n".encode())
                self.assertIn("grüße 漢字", self.read_until(terminal, "> "))
                # The prompt is shown a little before the editor takes the terminal: an end that comes in
                # between is lost.
                end = time.monotonic() + 60
                while termios.tcgetattr(terminal)[3] & termios.ICANON and time.monotonic() < end:
                    time.sleep(0.01)
                os.write(terminal, b"\x04")
                self.assertEqual(self.read_until(terminal, None)[-2:], "\r\n")
                self.assertEqual(process.wait(60), 0)
            os.close(terminal)

    def read_until(self, terminal, end):
        """What a terminal shows up to `end`, or all there is."""
        shown = b""
        while end is None or not shown.endswith(end.encode()):
            self.assertTrue(select.select([terminal], [], [], 60)[0], shown)
            try:
                shown += os.read(terminal, 4096)
            except OSError:  # the other side is closed
                break
        return shown.decode(errors="replace")

    def test_a_template_of_the_users_own(self):
        with tempfile.NamedTemporaryFile("w", suffix=".jinja") as file:
            file.write("{{ messages[0].content }}")
            file.flush()
            own = run_json("infer", "--chat", "--template", file.name, "-p", "What is 2+2?")
            raw = run_json("infer", "-p", "What is 2+2?")
            self.assertEqual(own["prompt_ids"], raw["prompt_ids"][1:])
            file.write("{% if %}")
            file.flush()
            self.assertIn("line 1", run("infer", "--chat", "--template", file.name, "-p", "x",
                                        status=1).err)


class Template(unittest.TestCase):
    def test_model_and_file(self):
        with tempfile.TemporaryDirectory() as folder:
            conversation = pathlib.Path(folder) / "c.json"
            conversation.write_text(json.dumps({"messages": [{"role": "user", "content": "Hi"}],
                                                "add_generation_prompt": True, "bos_token": ""}))
            rendered = run("template", "--input", conversation).out
            self.assertIn("Hi", rendered)
            self.assertTrue(rendered.endswith("assistant\n"))
            template = pathlib.Path(folder) / "t.jinja"
            template.write_text("{{ messages[0].content }}!{{ raise_exception('no ' ~ 1) }}")
            arguments = ("template", "--template", template, "--input", conversation)
            self.assertIn("no 1", run(*arguments, status=1).err)
            template.write_text("{% frobnicate %}")
            self.assertIn("line 1", run(*arguments, status=1).err)


class Evaluate(unittest.TestCase):
    def test_logits_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "out.npy"
            run("eval", "--ids", "1 2 3", "--logits", path)
            data = path.read_bytes()
            self.assertEqual(data[:8], b"\x93NUMPY\x01\x00")
            header = data[10:10 + int.from_bytes(data[8:10], "little")].decode()
            self.assertIn("'shape': (3, 1024)", header)
            self.assertEqual(len(data), 128 + 3 * 1024 * 4)
            run("eval", "--ids", "1 99999", "--logits", path, status=1)
            run("eval", "--ids", "1", "--logits", "/no/such/folder/x.npy", status=1)
            run("eval", "--ids", "1", status=2)
            # A device stays what it is; a folder is refused; nothing is left behind.
            null = pathlib.Path(folder) / "null"
            null.symlink_to("/dev/stdout")
            piped = subprocess.run([PROGRAM, "eval", "--ids", "1 2 3", "--logits", null],
                                   capture_output=True, check=True)
            self.assertEqual(piped.stdout, data)
            self.assertIn("is a folder", run("eval", "--ids", "1", "--logits", folder, status=1).err)
            self.assertEqual(sorted(os.listdir(folder)), ["null", "out.npy"])

    def test_perplexity_of_its_own_answers_is_low(self):
        with tempfile.TemporaryDirectory() as folder:
            good = pathlib.Path(folder) / "good.txt"
            bad = pathlib.Path(folder) / "bad.txt"
            good.write_text("What is 12 + 13? 25")
            bad.write_text("Wx7 qq!? zyx 12 kk p")
            low = run_json("perplexity", "-f", good)["perplexity"]
            self.assertLess(low, run_json("perplexity", "-f", bad)["perplexity"] / 3)


class Batch(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name)
        self.input, self.output = self.path / "in.jsonl", self.path / "out.jsonl"

    def tearDown(self):
        self.folder.cleanup()

    def write(self, lines):
        self.input.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n"
                                      for line in lines))

    def answers(self, status=0):
        run("batch", "-i", self.input, "-o", self.output, status=status)
        return [json.loads(line) for line in self.output.read_text().splitlines()]

    def test_the_dial_changes_no_answer(self):
        self.input.write_text("".join(json.dumps({"id": i, "prompt": f"What is {i} + {i}?",
                                                  "max_tokens": 8}) + "\n" for i in range(20)))
        answers = set()
        for dial in ("0", "0.5", "1"):
            self.output.unlink(missing_ok=True)
            run("batch", "-i", self.input, "-o", self.output, "--throughput", dial,
                "--step-tokens", "100")
            answers.add(self.output.read_text())
        self.assertEqual(len(answers), 1)
        run("batch", "-i", self.input, "-o", self.output, "--throughput", "1.5", status=2)

    def test_order_errors_and_forms(self):
        self.write([{"id": "a", "prompt": "What is 2+2?", "temperature": 0},
                    "{not json", "",
                    {"id": 3, "messages": [{"role": "user", "content": "What is 6 x 7?"}]},
                    {"id": "d", "prompt": "x", "temperatur": 1},
                    {"id": "e", "prompt": "x", "max_tokens": -1},
                    {"id": "f", "prompt": [1, 99999999]},
                    {"custom_id": "g", "method": "POST", "url": "/v1/chat/completions",
                     "body": {"model": "any", "max_tokens": 5, "messages": [
                         {"role": "user", "content": "What is 3+4?"}]}},
                    {"custom_id": "h", "method": "POST", "url": "/v1/chat/completions",
                     "body": {"model": "any"}}])
        a, bad, c, d, e, f, g, h = self.answers()
        self.assertEqual((a["id"], a["text"].strip(), a["finish_reason"]), ("a", "4", "stop"))
        self.assertGreater(a["usage"]["completion_tokens"], 0)
        self.assertIsNone(bad["id"])
        self.assertIn("JSON", bad["error"]["message"])
        self.assertEqual((c["id"], c["text"].strip()), (3, "42"))
        for line, word in ((d, "temperatur"), (e, "max_tokens"), (f, "99999999")):
            self.assertIn(word, line["error"]["message"])
        self.assertIn("from 0 to 16777216", e["error"]["message"])
        self.assertEqual(g["custom_id"], "g")
        self.assertEqual(g["response"]["status_code"], 200)
        message = g["response"]["body"]["choices"][0]["message"]
        self.assertEqual((message["role"], message["content"].strip()), ("assistant", "7"))
        self.assertEqual(h["response"]["status_code"], 400)
        self.assertIn("messages", h["response"]["body"]["error"]["message"])

    def test_resumes_after_a_kill(self):
        lines = [{"id": i, "prompt": f"What is {i} + 1?", "max_tokens": 60, "ignore_eos": True}
                 for i in range(150)]
        self.write(lines)
        expected = [line["text"] for line in self.answers()]
        self.output.unlink()
        for _ in range(3):
            process = subprocess.Popen([PROGRAM, "batch", "-i", self.input, "-o", self.output],
                                       stderr=subprocess.DEVNULL)
            time.sleep(0.5)
            process.send_signal(signal.SIGKILL)
            process.wait()
        if self.output.exists():
            with open(self.output, "a", encoding="utf-8") as file:
                file.write('{"id": 9999, "te')
        got = self.answers()
        self.assertEqual([line["id"] for line in got], list(range(150)))
        self.assertEqual([line["text"] for line in got], expected)

    def test_a_foreign_output_is_refused(self):
        self.write([{"id": 1, "prompt": "x", "max_tokens": 1}])
        self.output.write_text('{"id": 2, "text": ""}\n')
        self.assertIn("another run", run("batch", "-i", self.input, "-o", self.output, status=1).err)
        self.assertEqual(self.output.read_text(), '{"id": 2, "text": ""}\n')


    def test_the_requests_are_no_answers(self):
        self.write([{"id": 1, "prompt": "What is 2+2?", "max_tokens": 4}])
        link = self.input.with_name("link")
        link.hardlink_to(self.input)
        before = self.input.read_text()
        for output in (self.input, link):
            self.assertIn("holds the requests", run("batch", "-i", self.input, "-o", output, status=1).err)
        self.assertEqual(self.input.read_text(), before)

    def test_answers_go_into_a_pipe(self):
        self.write([{"id": 1, "prompt": "What is 2+2?", "max_tokens": 4}])
        result = run("batch", "-i", self.input, "-o", "/dev/stdout", timeout=60)
        self.assertEqual(json.loads(result.out)["text"].strip(), "4")


class Machine(unittest.TestCase):
    def test_one_interrupt_ends_a_measuring_of_the_devices(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            process = subprocess.Popen([PROGRAM, "devices", "--bench", "--device", "cpu"],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            time.sleep(0.5)
            process.send_signal(number)
            out, error = process.communicate(timeout=20)
            self.assertEqual((process.returncode, out), (-number, ""), error)

    def test_devices_doctor_plan_inspect(self):
        self.assertIn("cpu", run("devices").out)
        self.assertEqual(run_json("devices")[0]["kind"], "cpu")
        self.assertIn("answers \"What is 2+2?\" with 4", run("doctor").out)
        self.assertTrue(all(row["verdict"] != "bad" for row in run_json("doctor")))
        inspected = run_json("inspect", DEMO / "hf")
        self.assertEqual((inspected["architecture"], inspected["runs"]), ("llama", True))
        self.assertIn("q8_0", run("inspect").out)
        plan = run_json("plan", "--ctx", "1024", "--batch", "4")
        self.assertEqual(plan["kv_bytes"], 4 * 1024 * plan["kv_bytes_per_token"])
        # Half of what was asked for would be a plan for something else.
        self.assertIn("33554432 positions",
                      run("plan", "--ctx", "131072", "--batch", "256", status=1).err)

    def test_gpus_that_are_not_there(self):
        # Whatever is wrong with this machine's GPUs, index 63 does not exist.
        result = run("devices", "--device", "cuda:63", status=1)
        self.assertRegex(result.err, "no NVIDIA driver|driver|there is no CUDA device 63")
        self.assertEqual(result.out, "")
        self.assertIn("wanted is auto", run("devices", "--device", "gpu", status=2).err)
        self.assertIn("--arch and --output", run("kernels", status=2).err)
        wrong = run("kernels", "--arch", "sm_33", "-o", "/nowhere/pack", status=2)
        self.assertIn("'sm_33' is no architecture", wrong.err)

    def test_an_unknown_architecture_is_named(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in os.listdir(DEMO / "hf"):
                (pathlib.Path(folder) / name).write_bytes((DEMO / "hf" / name).read_bytes())
            config = json.loads((DEMO / "hf/config.json").read_text())
            config["model_type"] = "frobnicator"
            (pathlib.Path(folder) / "config.json").write_text(json.dumps(config))
            error = run("infer", "-m", folder, "-p", "x", status=1).err
            self.assertIn("frobnicator", error)
            self.assertIn("llama", error)
            self.assertFalse(run_json("inspect", folder)["runs"])


class Bench(unittest.TestCase):
    """What is measured must be what was asked for; how fast it was is no test's business."""

    def test_latency(self):
        report = run_json("bench", "--pp", "24,16", "--tg", "8", "--depth", "0,32", "--repeats",
                          "2")
        self.assertEqual([(r["test"], r["depth"]) for r in report["results"]],
                         [(test, depth) for depth in (0, 32) for test in ("pp24", "pp16", "tg8")])
        for result in report["results"]:
            self.assertEqual(len(result["samples"]), 2)
            self.assertTrue(min(result["samples"]) <= result["tokens_per_second"]
                            <= max(result["samples"]))
            self.assertEqual("weight_bytes_per_token" in result, result["test"].startswith("tg"))
        # A step reads the weights once: what the file holds, less its vocabulary, plus padding.
        read = report["results"][2]["weight_bytes_per_token"]
        self.assertTrue(0.9 < read / report["file_bytes"] < 1.1, read / report["file_bytes"])

    def test_throughput_and_kernels(self):
        report = run_json("bench", "--mode", "throughput", "--pp", "16", "--tg", "4",
                          "--parallel", "1,3", "--repeats", "1")
        self.assertEqual([r["prompt_tokens"] + r["generated_tokens"] for r in report["results"]],
                         [20, 60])
        report = run_json("bench", "--mode", "kernels", "--pp", "16", "--tg", "4", "--repeats",
                          "1")
        prompt, generation = report["profiles"]
        names = {row["operation"] for row in generation["operations"]}
        self.assertTrue({"qkv", "attention", "gate, up", "down", "logits", "norm", "rotary, cache",
                         "sampling"} <= names, names)
        for row in prompt["operations"] + generation["operations"]:
            self.assertIn("type", row)
            for key in ("bytes", "arithmetic_operations", "memory_share", "arithmetic_share"):
                self.assertGreater(row[key], 0, row)
        times = {row["operation"]: row["times"] for row in generation["operations"]}
        self.assertEqual(times["logits"], 4)
        self.assertEqual(sum(row["ns"] for row in prompt["operations"]), prompt["ns"])
        self.assertNotIn("kernels", prompt)
        text = report["tokenizing"]
        self.assertTrue(65536 <= text["bytes"] < 70000, text)
        self.assertTrue(text["bytes"] / 8 < text["tokens"] < text["bytes"], text)
        self.assertGreater(text["ns"], 1000)

    def test_wrong_usage(self):
        self.assertIn("--mode is", run("bench", "--mode", "speed", status=2).err)
        self.assertIn("--pp takes", run("bench", "--pp", "many", status=2).err)
        self.assertIn("--parallel takes", run("bench", "--parallel", "0", status=2).err)
        self.assertIn("outside", run("bench", "--repeats", "0", status=2).err)
        self.assertIn("positions",
                      run("bench", "--mode", "kernels", "--pp", "64", "-c", "32", status=1).err)


class Quantize(unittest.TestCase):
    """Other types of weights: whole files or none."""

    SOURCE = SOURCE / "models/demo/llcuda-demo-q8_0.gguf"

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.out = pathlib.Path(self.folder.name) / "out.gguf"
        self.text = pathlib.Path(self.folder.name) / "text.txt"
        lines = [f"What is {a} + {b}? {a + b}\n" for a in range(40) for b in range(40)]
        random.Random(5).shuffle(lines)
        self.text.write_text("".join(lines[:400]))

    def leftovers(self):
        return sorted(p.name for p in pathlib.Path(self.folder.name).iterdir()
                      if p.name != "text.txt")

    def test_every_type_loads_and_answers(self):
        sizes = {}
        for kind in ("f32", "F16", "bf16", "q8_0", "q6_k", "Q5_K_M", "q5_k_s", "q5_0", "q5_1",
                     "q4_k_m", "q4_k_s", "q4_0", "q4_1", "iq4_nl", "iq4_xs", "mxfp4", "q3_k_l",
                     "q3_k_m", "q3_k_s", "q2_k", "q2_k_s", "tq2_0", "tq1_0"):
            report = run_json("quantize", self.SOURCE, self.out, kind)
            self.assertEqual(report["type"], kind.lower())
            sizes[report["type"]] = self.out.stat().st_size
            answer = run_json("infer", "-m", self.out, "-p", "What is 2+2?", "-n", "8", "--temp",
                              "0")
            if kind in ("f32", "F16", "q8_0", "q6_k", "Q5_K_M"):
                self.assertEqual(answer["text"].strip(), "4", kind)
        self.assertTrue(sizes["tq1_0"] < sizes["q2_k"] < sizes["q3_k_s"] < sizes["q3_k_m"]
                        < sizes["q4_k_s"] < sizes["q4_k_m"] < sizes["q5_k_m"] < sizes["q6_k"]
                        < sizes["q8_0"] < sizes["f16"] < sizes["f32"], sizes)

    def test_threads_change_nothing(self):
        run("quantize", self.SOURCE, self.out, "q4_k_m", "-t", "1")
        first = self.out.read_bytes()
        run("quantize", self.SOURCE, self.out, "q4_k_m", "-t", "3")
        self.assertEqual(self.out.read_bytes(), first)

    def test_the_same_type_is_a_copy(self):
        report = run_json("quantize", self.SOURCE, self.out, "q8_0")
        self.assertEqual(report["converted"], 0)
        self.assertEqual(report["bytes"], report["source_bytes"])

    def test_importance_and_perplexity(self):
        matrix = pathlib.Path(self.folder.name) / "imatrix.gguf"
        report = run_json("imatrix", "-f", self.text, "-o", matrix)
        self.assertGreater(report["weights"], 30)
        plain = run_json("quantize", self.SOURCE, self.out, "q4_0", "--perplexity", self.text)
        hinted = run_json("quantize", self.SOURCE, self.out, "q4_0", "--perplexity", self.text,
                          "--imatrix", matrix)
        self.assertEqual(hinted["with_importance"], report["weights"])
        self.assertAlmostEqual(plain["source_perplexity"], report["perplexity"], delta=1e-3)
        self.assertGreater(plain["perplexity"], plain["source_perplexity"])
        self.assertLess(hinted["perplexity"], plain["perplexity"])
        # The matrix of another model, a model that is no matrix, a file that is neither.
        self.assertIn("no importance matrix", run("quantize", self.SOURCE, self.out, "q2_k",
                                                  "--imatrix", self.SOURCE, status=1).err)
        run("quantize", self.SOURCE, self.out, "q2_k", "--imatrix", self.text, status=1)

    def test_bad_input_leaves_nothing(self):
        source = self.SOURCE
        self.assertIn("'iq2_xxs' cannot be written",
                      run("quantize", source, self.out, "iq2_xxs", status=2).err)
        run("quantize", source, self.out, status=2)
        run("quantize", self.text, self.out, "q4_0", status=1)
        run("quantize", source, pathlib.Path(self.folder.name) / "no/where.gguf", "q4_0", status=1)
        run("quantize", source, self.out, "q4_0", "--perplexity", "no-such-file", status=1)
        self.assertEqual(self.leftovers(), [])

    def make_folder(self, **changes):
        """The built-in model as a folder, its configuration changed."""
        source = SOURCE / "models/demo/hf"
        folder = pathlib.Path(self.folder.name) / "folder"
        folder.mkdir(exist_ok=True)
        for path in source.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        config = json.loads((source / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    def test_folders(self):
        """A folder and the file made of it are the same model, queries and keys reordered."""
        scaled = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                  "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
        linear = {"type": "linear", "factor": 2.0}
        found = []
        # Two windows of 512 positions: more of them are the same sums again, minutes of them where
        # they are instrumented.
        self.text.write_text("".join(self.text.read_text().splitlines(True)[:100]))
        for changes in ({}, {"rope_scaling": scaled}, {"rope_scaling": linear},
                        {"model_type": "mistral", "sliding_window": 64},
                        {"tie_word_embeddings": True, "rope_theta": 500.0}):
            folder = self.make_folder(**changes)
            report = run_json("quantize", folder, self.out, "f32", "--perplexity", self.text)
            self.assertAlmostEqual(report["perplexity"] / report["source_perplexity"], 1,
                                   delta=1e-3, msg=str(changes))
            found.append(round(report["perplexity"], 3))
            for text in ("What is 2+2?", "Hello, wörld 1234\n\n  x", "<|im_start|>user"):
                self.assertEqual(run("tokenize", "-m", folder, text).out,
                                 run("tokenize", "-m", self.out, text).out)
        self.assertEqual(len(set(found)), len(found), "each change must matter")
        self.assertEqual(run("infer", "-m", self.out, "--chat", "-p", "Hi", "-n", "1").err, "")
        self.assertIn("'gemma'", run("quantize", self.make_folder(model_type="gemma"), self.out,
                                     "q8_0", status=1).err)
        yarn = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64}
        self.out.unlink()
        self.assertIn("'yarn'", run("quantize", self.make_folder(rope_scaling=yarn), self.out,
                                    "q8_0", status=1).err)
        self.assertFalse(self.out.exists())

    def test_full_disk_leaves_nothing(self):
        import resource
        result = subprocess.run(
            [PROGRAM, "quantize", self.SOURCE, self.out, "q4_0"], capture_output=True, text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500000, 500000)))
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("cannot write", result.stderr)
        self.assertEqual(self.leftovers(), [])

    def test_types_that_cannot_be_written(self):
        """Those whose codes need a search that is not written here are read, never made."""
        for kind in ("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "q9_9"):
            error = run("quantize", self.SOURCE, self.out, kind, status=2).err
            self.assertIn(f"'{kind}' cannot be written; types are f32,", error)
        self.assertEqual(self.leftovers(), [])

    def test_an_importance_matrix_is_whole_or_absent(self):
        import resource
        matrix = pathlib.Path(self.folder.name) / "imatrix.gguf"
        result = subprocess.run(
            [PROGRAM, "imatrix", "-f", self.text, "-o", matrix], capture_output=True, text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)))
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("cannot write", result.stderr)
        self.assertEqual(self.leftovers(), [])
        long_text = pathlib.Path(self.folder.name) / "text.txt"
        long_text.write_text(long_text.read_text() * 200)
        for number in (signal.SIGINT, signal.SIGTERM):
            process = subprocess.Popen([PROGRAM, "imatrix", "-f", long_text, "-o", matrix,
                                        "-t", "1"], stderr=subprocess.PIPE, text=True)
            wait_until_handled(process, number)
            process.send_signal(number)
            error = process.communicate()[1]
            self.assertEqual(process.returncode, 1, error)
            self.assertTrue(error.startswith("llcuda imatrix: "), error)
            self.assertEqual(self.leftovers(), [], number)

    def test_a_model_is_not_written_over_itself(self):
        model = pathlib.Path(self.folder.name) / "model.gguf"
        model.write_bytes(self.SOURCE.read_bytes())
        self.out.symlink_to(model)
        for out in (model, self.out):
            self.assertIn("the model itself", run("quantize", model, out, "q4_0", status=1).err)
        self.assertEqual(model.read_bytes(), self.SOURCE.read_bytes())

    def test_an_output_that_cannot_be_is_said_before_the_work(self):
        # The text is not there: had the output been looked at last, that would be the complaint.
        for path, words in ((self.folder.name, "is a folder"), ("/no/where/m", "cannot create")):
            error = run("imatrix", "-f", "/no/text", "-o", path, status=1).err
            self.assertIn(words, error)
        for path in ("", self.folder.name + "/no/", self.folder.name):
            error = run("quantize", self.SOURCE, path, "q4_0", "--perplexity", "/no/text", status=1).err
            self.assertRegex(error, "is no name of a file|is a folder")
        self.assertEqual(self.leftovers(), [])

    def test_an_interrupted_run_leaves_nothing(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            process = subprocess.Popen([PROGRAM, "quantize", self.SOURCE, self.out, "q4_k_m",
                                        "-t", "1"], stderr=subprocess.PIPE)
            time.sleep(0.1)
            process.send_signal(number)
            process.communicate()
            if process.returncode == 0:
                self.out.unlink()  # it was faster than the signal
            self.assertEqual(self.leftovers(), [], number)


if __name__ == "__main__":
    unittest.main()
