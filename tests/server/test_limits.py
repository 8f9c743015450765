"""What keeps one client from taking everything: limits of keys, the price of requests, long prompts."""
import json
import pathlib
import tempfile
import threading
import time
import unittest

from service import Service

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
LONG = {"prompt": "Once upon a time", "max_tokens": 1500, "ignore_eos": True, "stream": True}
SHORT = {"prompt": "a", "max_tokens": 1}


class KeyLimits(unittest.TestCase):
    def start(self, lines, *options):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name, "keys")
        self.path.write_text(lines)
        self.path.chmod(0o600)
        service = Service("--api-key-file", self.path, "--access-log",
                          pathlib.Path(folder.name, "log"), *options)
        self.log = pathlib.Path(folder.name, "log")
        self.addCleanup(lambda: self.assertEqual(service.close(), 0))
        return service

    def post(self, service, key, body=None):
        return service.post(TEXT, body or SHORT, {"Authorization": f"Bearer {key}"})

    def test_concurrency(self):
        service = self.start("alpha concurrency=2 name=first\nbeta\n")
        held = [service.connect() for _ in range(2)]
        for link in held:
            # Nobody reads: they cannot end.
            link.send("POST", TEXT, {**LONG, "n": 8}, {"Authorization": "Bearer alpha"})
            link.head()
        answer = self.post(service, "alpha")
        self.assertEqual((answer.status, answer.error()["code"], answer.error()["type"]),
                         (429, "concurrency_limit_exceeded", "rate_limit_error"))
        self.assertEqual(answer.headers["retry-after"], "1")
        self.assertEqual(self.post(service, "beta").status, 200, "other keys do not notice")
        held[0].link.close()
        end = time.monotonic() + 5
        while (status := self.post(service, "alpha").status) != 200 and time.monotonic() < end:
            time.sleep(0.05)
        self.assertEqual(status, 200)
        held[1].link.close()
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        refused = [line for line in lines if line.get("error") == "concurrency_limit_exceeded"]
        self.assertEqual(refused[0]["key"], "first")
        self.assertTrue(any(line["key"].startswith("key-") for line in lines))

    def test_an_answer_that_was_read_is_over(self):
        """A client that asks again on another connection, which another thread serves, finds the place
        of its last request free and the request counted."""
        service = self.start("alpha concurrency=1 admin\n", "--workers", "4", "--queue-tokens", "60")
        key = {"Authorization": "Bearer alpha"}
        links = [service.connect() for _ in range(4)]
        statuses = []
        for turn in range(200):
            link = links[turn % 4]
            link.send("POST", TEXT, {**SHORT, "stream": turn % 2 == 0}, key)
            statuses.append(link.answer().status)
            if turn % 10 == 0:
                links[(turn + 1) % 4].send("GET", "/metrics", headers=key)
                text = links[(turn + 1) % 4].answer().body.decode()
                line = 'llcuda_http_requests_total{path="/v1/completions",status="200"} %d\n'
                self.assertTrue(line % statuses.count(200) in text, "the last answer is not counted")
                self.assertTrue("\nllcuda_admitted_tokens 0\n" in text, "its tokens are still admitted")
        self.assertEqual(set(statuses), {200})

    def test_rate(self):
        service = self.start("alpha rate=5\nbeta rate=600\n", "--key-rate", "7")
        statuses = [self.post(service, "alpha").status for _ in range(8)]
        self.assertEqual(statuses, [200] * 5 + [429] * 3)
        answer = self.post(service, "alpha")
        self.assertEqual(answer.error()["code"], "rate_limit_exceeded")
        self.assertTrue(1 <= int(answer.headers["retry-after"]) <= 13)
        self.assertEqual({self.post(service, "beta").status for _ in range(20)}, {200})
        self.assertEqual(service.request("GET", "/v1/models",
                                         headers={"Authorization": "Bearer alpha"}).status, 200)

    def test_limits_without_keys(self):
        service = Service("--key-rate", 3)
        self.assertEqual([service.post(TEXT, SHORT).status for _ in range(4)], [200] * 3 + [429])
        self.assertEqual(service.close(), 0)

    def test_bad_lines(self):
        for line in ("alpha rate=x", "alpha concurrency=", "alpha name=a/b", "alpha king"):
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder, "keys")
                path.write_text(line + "\n")
                path.chmod(0o600)
                with self.assertRaisesRegex(AssertionError, "line 1"):
                    Service("--api-key-file", path)


class Price(unittest.TestCase):
    def test_tokens_are_counted_before_admission(self):
        service = Service("--queue-tokens", 2000)
        # 6 + 4 × 400 tokens: 1606 of 2000.
        link = service.connect()
        link.send("POST", TEXT, {**LONG, "max_tokens": 400, "n": 4})
        link.head()
        admitted = service.metric("llcuda_admitted_tokens")
        self.assertTrue(1600 < admitted < 1620, admitted)
        self.assertTrue(service.wait_for("llcuda_engine_requests_total", 1))
        before = service.metric("llcuda_engine_requests_total")
        refused = service.post(TEXT, {**SHORT, "max_tokens": 500})
        self.assertEqual((refused.status, refused.error()["code"]), (429, "queue_full"))
        self.assertIn("retry-after", refused.headers)
        self.assertEqual(service.metric("llcuda_engine_requests_total"), before)
        self.assertEqual(service.post(TEXT, {**SHORT, "max_tokens": 300}).status, 200)
        # 40 bytes, but fewer tokens: the bound by bytes does not decide.
        self.assertEqual(service.post(TEXT, {"prompt": "the " * 30, "max_tokens": 330}).status, 200)
        too_large = service.post(TEXT, {**SHORT, "max_tokens": 1000, "n": 3})
        self.assertEqual((too_large.status, too_large.error()["code"]), (400, "request_too_large"))
        link.link.close()
        self.assertTrue(service.wait_for("llcuda_admitted_tokens", 0))
        text = service.request("GET", "/metrics").body.decode()
        self.assertIn('llcuda_refusals_total{reason="queue_full"} 1', text)
        self.assertEqual(service.close(), 0)


class Deadlines(unittest.TestCase):
    def test_of_the_server_and_of_the_request(self):
        service = Service("--request-timeout", "0.3")
        for body in (LONG, {**LONG, "timeout_ms": 100000}, {**LONG, "timeout_ms": 100}):
            # Eight answers of 1,500 tokens take longer than that.
            answer = service.post(TEXT, {**body, "n": 16, "temperature": 1})
            last = json.loads(answer.events()[-2])
            self.assertEqual(last["error"]["code"], "timeout")
        whole = service.post(TEXT, {**LONG, "n": 16, "temperature": 1, "stream": False})
        self.assertEqual((whole.status, whole.error()["code"]), (504, "timeout"))
        self.assertEqual(service.post(TEXT, SHORT).status, 200)
        text = service.request("GET", "/metrics").body.decode()
        self.assertRegex(text, r'requests_ended_total\{[^}]*reason="timeout"\} 4\n')
        self.assertEqual(service.close(), 0)


class LongPrompts(unittest.TestCase):
    """Bodies that are prepared off the network thread."""

    @classmethod
    def setUpClass(cls):
        cls.service = Service("--workers", 1, "--ctx", "2048")

    @classmethod
    def tearDownClass(cls):
        assert cls.service.close() == 0

    def test_same_answer_by_either_way(self):
        body = {"prompt": "Once upon a time", "max_tokens": 8}
        padded = {**body, "unknown_padding": "x" * 100000}
        short, long = self.service.post(TEXT, body), self.service.post(TEXT, padded)
        self.assertEqual(long.status, 200)
        self.assertEqual(short.json()["choices"], long.json()["choices"])
        self.assertEqual(long.headers["x-llcuda-unknown-fields"], "unknown_padding")
        streamed = self.service.post(TEXT, {**padded, "stream": True}).chunks()
        self.assertEqual("".join(chunk["choices"][0]["text"] for chunk in streamed),
                         short.json()["choices"][0]["text"])
        bad = self.service.post(TEXT, {**padded, "n": 0})
        self.assertEqual((bad.status, bad.error()["param"]), (400, "n"))

    def test_text_routes(self):
        text = "The cat sat on the mat. " * 20000
        tokens = self.service.post("/tokenize", {"content": text}).json()["tokens"]
        self.assertEqual(self.service.post("/detokenize", {"tokens": tokens}).json()["content"], text)

    def test_others_do_not_wait(self):
        """One network thread, several prompts of 4 MB: a small request comes through at once."""
        body = json.dumps({"prompt": "The cat sat on the mat. " * 170000, "max_tokens": 1}).encode()
        links = [self.service.connect() for _ in range(4)]
        for link in links:
            link.send("POST", TEXT, body, {"Content-Type": "application/json"})
        slowest, start = 0, time.monotonic()
        for _ in range(20):
            begin = time.monotonic()
            self.assertEqual(self.service.request("GET", "/livez").status, 200)
            slowest = max(slowest, time.monotonic() - begin)
        for link in links:
            self.assertEqual(link.answer().error()["code"], "context_length_exceeded")
        total = time.monotonic() - start
        print(f"slowest of 20 probes beside four 4 MB prompts: {slowest * 1e3:.1f} ms of {total:.1f} s")
        # A thread that turned prompts into tokens itself would keep a probe for a quarter of it all.
        self.assertLess(slowest, max(0.5, total / 8))

    def test_clients_that_leave(self):
        body = json.dumps({"prompt": "The cat sat on the mat. " * 50000, "max_tokens": 1}).encode()

        def leave(seconds):
            with self.service.connect() as link:
                link.send("POST", TEXT, body, {"Content-Type": "application/json"})
                time.sleep(seconds)
        threads = [threading.Thread(target=leave, args=(i * 0.004,)) for i in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertTrue(self.service.wait_for("llcuda_admitted_tokens", 0))
        self.assertTrue(self.service.wait_for("llcuda_http_requests_in_flight", 1))
        self.assertEqual(self.service.post(TEXT, SHORT).status, 200)


if __name__ == "__main__":
    unittest.main()
