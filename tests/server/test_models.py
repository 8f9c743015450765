"""Several models on one port: loading, sleeping, unloading, memory, and what is said meanwhile."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from service import PROGRAM, Service

TEXT = "/v1/completions"
DEMO = pathlib.Path(__file__).parents[2] / "models/demo/llcuda-demo-q8_0.gguf"
ADMIN = {"LLCUDA_API_KEY_FILE": "", "LLCUDA_API_KEY": "user-key"}


class Keyed:
    """A key file with one admin and one user."""

    def __init__(self, folder):
        self.path = pathlib.Path(folder, "keys")
        self.path.write_text("boss admin\nuser\n")
        self.path.chmod(0o600)


def request(service, method, path, body=None, key="boss"):
    return service.request(method, path, body, {"Authorization": f"Bearer {key}"})


def complete(service, model, **more):
    return request(service, "POST", TEXT, {"model": model, "prompt": "Once upon", "max_tokens": 4,
                                           "ignore_eos": True, **more}, "user")


def until(condition, seconds=20):
    """Whether a condition becomes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


class Several(unittest.TestCase):
    def start(self, *options):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        service = Service("--api-key-file", Keyed(folder.name).path, *options)
        self.addCleanup(lambda: self.assertEqual(service.close(), 0))
        return service

    def answered(self, service, model):
        """Asks again, as clients do after 503, until the model answers."""
        answers = []

        def ask():
            answers.append(complete(service, model))
            return answers[-1].status != 503
        self.assertTrue(until(ask))
        for answer in answers[:-1]:
            self.assertEqual(answer.error()["code"], "model_loading")
            self.assertIn("retry-after", answer.headers)
        return answers[-1]

    def test_names_choose(self):
        service = self.start("-m", f"one={DEMO}", "-m", f"two={DEMO}")
        self.assertEqual(service.models("boss"), {"one": "ready", "two": "unloaded"})
        first = complete(service, "two")
        self.assertEqual((first.status, first.error()["code"]), (503, "model_loading"))
        second = self.answered(service, "two").json()
        self.assertEqual(second["model"], "two")
        one = complete(service, "one").json()
        self.assertEqual(one["model"], "one")
        self.assertEqual(one["choices"][0]["text"], second["choices"][0]["text"])
        self.assertEqual(complete(service, "three").error()["code"], "model_not_found")
        self.assertEqual(complete(service, str(DEMO)).error()["code"], "model_not_found")
        listed = request(service, "GET", "/v1/models").json()["data"]
        self.assertEqual([model["id"] for model in listed], ["one", "two"])
        text = request(service, "GET", "/metrics").body.decode()
        for name in ("one", "two"):
            self.assertIn(f'llcuda_requests_ended_total{{model="{name}",reason="length"}} 1', text)
            self.assertIn(f'llcuda_model_ready{{model="{name}"}} 1', text)

    def test_admin_changes_states(self):
        service = self.start("-m", f"one={DEMO}", "-m", f"two={DEMO}", "--preload")
        states = lambda: service.models("boss")
        self.assertEqual(states(), {"one": "ready", "two": "ready"})
        ask = lambda verb, name: request(service, "POST", f"/admin/models/{verb}", {"model": name})
        before = complete(service, "two").json()["choices"][0]["text"]
        self.assertEqual(ask("sleep", "two").status, 202)
        self.assertTrue(until(lambda: states()["two"] == "asleep"))
        tokens = request(service, "POST", "/tokenize", {"model": "two", "content": "Once"}, "user")
        self.assertEqual(tokens.status, 200, "a sleeping model has its vocabulary")
        self.assertEqual(ask("load", "two").status, 202)
        self.assertTrue(until(lambda: states()["two"] == "ready"))
        self.assertEqual(complete(service, "two").json()["choices"][0]["text"], before)
        self.assertEqual(ask("unload", "two").status, 202)
        self.assertTrue(until(lambda: states()["two"] == "unloaded"))
        self.assertEqual(self.answered(service, "two").json()["choices"][0]["text"], before)
        self.assertEqual(ask("load", "three").error()["code"], "model_not_found")
        self.assertEqual(ask("load", 3).error()["code"], "missing_required_parameter")
        for path in ("/admin/models", "/admin/models/load"):
            method = "GET" if path.endswith("models") else "POST"
            refused = request(service, method, path, None if method == "GET" else {}, "user")
            self.assertEqual((refused.status, refused.error()["code"]), (403, "admin_key_required"))

    def test_unloading_while_loading(self):
        with tempfile.TemporaryDirectory() as folder:
            big = pathlib.Path(folder, "big.gguf")
            subprocess.run([os.environ["LLCUDA_RANDOM_MODEL"], "medium", "q8_0", big], check=True)
            service = self.start("-m", f"one={DEMO}", "-m", f"big={big}")
            state = lambda: service.models("boss")["big"]
            request(service, "POST", "/admin/models/load", {"model": "big"})
            self.assertTrue(until(lambda: state() != "unloaded"))
            self.assertEqual(state(), "loading")
            request(service, "POST", "/admin/models/unload", {"model": "big"})
            self.assertTrue(until(lambda: state() == "unloaded"))

    def test_sleep_waits_for_requests(self):
        service = self.start("-m", f"one={DEMO}", "-m", f"two={DEMO}")
        with service.connect() as link:
            link.send("POST", TEXT, {"model": "one", "prompt": "Once", "max_tokens": 400,
                                     "ignore_eos": True, "stream": True},
                      {"Authorization": "Bearer user"})
            link.head()
            request(service, "POST", "/admin/models/sleep", {"model": "one"})
            self.assertTrue(until(lambda: service.models("boss")["one"] == "leaving", 5))
            self.assertEqual(complete(service, "one").error()["code"], "model_loading")
            rest = b""
            while data := link.chunk():
                rest += data
            self.assertTrue(rest.endswith(b"data: [DONE]\n\n"))
            self.assertIn(b'"finish_reason":"length"', rest)
        self.assertTrue(until(lambda: service.models("boss")["one"] in ("asleep", "loading", "ready")))

    def test_memory_limit_sends_the_oldest_to_sleep(self):
        alone = self.start("-m", f"one={DEMO}")
        bytes_of_one = request(alone, "GET", "/admin/models").json()["models"][0]["memory_bytes"]
        self.assertGreater(bytes_of_one, 0)
        service = self.start("-m", f"one={DEMO}", "-m", f"two={DEMO}", "-m", f"three={DEMO}",
                             "--memory-limit", 2.4 * bytes_of_one / 2 ** 30)
        for name in ("one", "two"):
            self.answered(service, name)
        complete(service, "one")
        self.answered(service, "three")
        self.assertEqual(service.models("boss"), {"one": "ready", "two": "asleep", "three": "ready"})
        self.answered(service, "two")
        self.assertEqual(service.models("boss"), {"one": "asleep", "two": "ready", "three": "ready"})

    def test_switching_under_load_fails_nobody(self):
        alone = self.start("-m", f"one={DEMO}")
        bytes_of_one = request(alone, "GET", "/admin/models").json()["models"][0]["memory_bytes"]
        service = self.start("-m", f"one={DEMO}", "-m", f"two={DEMO}",
                             "--memory-limit", 1.4 * bytes_of_one / 2 ** 30)
        seen = []

        def use(name):
            for _ in range(3):
                end = time.monotonic() + 30
                while (answer := complete(service, name)).status == 503 and time.monotonic() < end:
                    time.sleep(0.02)
                seen.append((name, answer.status, answer.body[-200:]))
        threads = [threading.Thread(target=use, args=(name,)) for name in ("one", "two") * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual({status for _, status, _ in seen}, {200}, seen)
        self.assertEqual(len(seen), 12)

    def test_idle_models_sleep(self):
        service = self.start("-m", f"one={DEMO}", "--sleep-idle", 1)
        complete(service, "one")
        def asleep():
            """Who only looks does not keep it awake."""
            request(service, "POST", "/tokenize", {"model": "one", "content": "Once"}, "user")
            return request(service, "GET", "/v1/models").json()["data"][0]["state"] == "asleep"
        self.assertTrue(until(asleep, 10))
        self.answered(service, "one")

    def test_file_of_models(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "models.yaml")
            path.write_text(f"short:\n  model: {DEMO}\n  ctx: 128\nlong:\n  model: {DEMO}\n"
                            "  ctx: 1024\n  preload: true\nbuiltin:\n  threads: 1\n")
            service = self.start("--models", path, "--ctx", "512")
            self.assertEqual(service.models("boss"),
                             {"short": "unloaded", "long": "ready", "builtin": "unloaded"})
            for name, context in (("short", 128), ("long", 1024), ("builtin", 512)):
                self.answered(service, name)
                model = request(service, "GET", f"/v1/models/{name}").json()
                self.assertEqual(model["max_model_len"], context, name)

    def test_wrong_files_are_told(self):
        for text, words in (("one: 3\n", "mapping"), ("", "names no model"),
                            ("one:\n  colour: red\n", "no option"), ("- a\n", "name: value")):
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                file.write(text)
                file.flush()
                done = subprocess.run([PROGRAM, "serve", "--models", file.name, "--port", "0"],
                                      capture_output=True, text=True, timeout=60, check=False)
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn(words, done.stderr)

    def test_a_missing_model(self):
        done = subprocess.run([PROGRAM, "serve", "-m", "/nowhere/x.gguf", "--port", "0"],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nowhere/x.gguf", done.stderr)
        service = self.start("-m", f"one={DEMO}", "-m", "gone=/nowhere/x.gguf")
        complete(service, "gone")
        self.assertTrue(until(lambda: service.models("boss")["gone"] == "failed"))
        answer = complete(service, "gone")
        self.assertEqual((answer.status, answer.error()["code"]), (503, "model_failed"))
        self.assertEqual(complete(service, "one").status, 200)


class Loading(unittest.TestCase):
    """A model that takes a moment: what is answered before it is there."""

    def test_503_until_loaded(self):
        with tempfile.TemporaryDirectory() as folder:
            model, path = pathlib.Path(folder, "m.gguf"), pathlib.Path(folder, "s")
            subprocess.run([os.environ["LLCUDA_RANDOM_MODEL"], "medium", "q8_0", model], check=True)
            clean = {key: value for key, value in os.environ.items()
                     if not key.startswith("LLCUDA_")}
            process = subprocess.Popen([PROGRAM, "serve", "-m", model, "--socket", path, "--threads",
                                        "1"], stderr=subprocess.DEVNULL, env=clean)
            self.addCleanup(process.kill)
            seen = []

            def ask(method, target, body=b""):
                link = socket.socket(socket.AF_UNIX)
                link.connect(str(path))
                link.sendall(f"{method} {target} HTTP/1.0\r\nContent-Type: application/json\r\n"
                             f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
                data = b""
                while part := link.recv(65536):
                    data += part
                link.close()
                head, rest = data.split(b"\r\n\r\n", 1)
                return int(head.split()[1]), head, rest

            self.assertTrue(until(path.exists))
            def ready():
                try:
                    status, head, body = ask("GET", "/readyz")
                except OSError:
                    return False
                if status == 503:
                    asked = ask("POST", TEXT, b'{"prompt": "a", "max_tokens": 1}')
                    seen.append((head, json.loads(body), asked))
                return status == 200
            self.assertTrue(until(ready, 60))
            self.assertTrue(seen, "the model was there before anybody could ask")
            for head, document, asked in seen[:-1]:
                self.assertEqual(document["status"], "loading")
                self.assertIn(b"Retry-After", head)
                self.assertTrue(0 <= document["models"][0]["progress"] <= 1)
                self.assertEqual(asked[0], 503)
                self.assertEqual(json.loads(asked[2])["error"]["code"], "model_loading")
            self.assertEqual(ask("POST", TEXT, b'{"prompt": "a", "max_tokens": 1}')[0], 200)
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(30), 0)

    def test_a_signal_while_loading(self):
        with tempfile.TemporaryDirectory() as folder:
            model, path = pathlib.Path(folder, "m.gguf"), pathlib.Path(folder, "s")
            subprocess.run([os.environ["LLCUDA_RANDOM_MODEL"], "medium", "q8_0", model], check=True)
            process = subprocess.Popen([PROGRAM, "serve", "-m", model, "--socket", path],
                                       stderr=subprocess.DEVNULL)
            self.addCleanup(process.kill)
            self.assertTrue(until(path.exists))
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(30), 0)


if __name__ == "__main__":
    unittest.main()
