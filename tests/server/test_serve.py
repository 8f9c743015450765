"""`llcuda serve` from outside, with plain sockets."""
import gzip
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import tempfile
import time
import unittest

from service import Service, crowd

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
QUESTION = [{"role": "user", "content": "What is 2+2?"}]
LONG = {"prompt": "Once upon a time", "max_tokens": 1500, "ignore_eos": True, "temperature": 1,
        "seed": 1, "stream": True}


class Shared(unittest.TestCase):
    """One server for tests that leave it as it was."""

    @classmethod
    def setUpClass(cls):
        cls.service = Service("--alias", "demo")

    @classmethod
    def tearDownClass(cls):
        assert cls.service.close() == 0

    def post(self, path, **body):
        return self.service.post(path, body)

    def refused(self, answer, status, code, param=None):
        self.assertEqual(answer.status, status, answer.body)
        error = answer.error()
        self.assertEqual((error["code"], error["param"]), (code, param), error)
        self.assertTrue(error["message"])
        return error


class Probes(Shared):
    def test_probes_need_nothing(self):
        for path in ("/livez", "/readyz", "/health", "/version"):
            answer = self.service.request("GET", path, headers={"Host": "elsewhere.example"})
            self.assertEqual(answer.status, 200, path)
        self.assertEqual(json.loads(answer.body)["version"].count("."), 2)

    def test_head_has_no_body(self):
        with self.service.connect() as connection:
            connection.send("HEAD", "/livez")
            self.assertEqual(connection.answer(head_only=True).headers["content-length"], "6")
            connection.send("GET", "/livez")
            self.assertEqual(connection.answer().body, b"alive\n")

    def test_models(self):
        listed = self.service.request("GET", "/v1/models").json()
        self.assertEqual([model["id"] for model in listed["data"]], ["demo"])
        self.assertEqual(listed["data"][0]["max_model_len"], self.service.context)
        self.assertEqual(self.service.request("GET", "/v1/models/demo").json()["object"], "model")
        self.assertEqual(self.service.request("GET", "/v1/models/%64emo").status, 200)
        self.refused(self.service.request("GET", "/v1/models/other"), 404, "model_not_found", "model")

    def test_page(self):
        page = self.service.request("GET", "/")
        self.assertEqual(page.headers["content-type"], "text/html; charset=utf-8")
        policy = page.headers["content-security-policy"]
        self.assertIn("default-src 'none'", policy)
        self.assertNotIn("unsafe", policy)
        text = page.body.decode()
        self.assertNotRegex(text, r"https?://", "nothing comes from elsewhere")
        self.assertNotRegex(text, r"<script>|<style| on[a-z]+=", "nothing is inline")
        names = re.findall(r'(?:src|href)="(page\.\w+)"', text)
        self.assertEqual(sorted(names), ["page.css", "page.js"])
        source = pathlib.Path(__file__).parents[2] / "src/server/page"
        for name in names:
            self.assertEqual(self.service.request("GET", "/" + name).body, (source / name).read_bytes())
        script = (source / "page.js").read_text()
        self.assertNotRegex(script, r"innerHTML|insertAdjacent|document\.write|eval\(")
        for name in re.findall(r'\$\("([\w-]+)"\)', script):
            self.assertIn(f'id="{name}"', text)

    def test_openapi_document_matches(self):
        """Every route is in the document and the other way round; every field is read."""
        document = self.service.request("GET", "/openapi.json").json()
        source = pathlib.Path(__file__).parents[2] / "src/server"
        routes = re.findall(r'\{"(GET|POST)", "(/[^"]*)"', (source / "routes.c").read_text())
        served = {(method.lower(), path) for method, path in routes} - {
            ("get", "/"), ("get", "/page.css"), ("get", "/page.js")}
        told = {(method, path.replace("{model}", "")) for path, item in document["paths"].items()
                for method in item}
        self.assertEqual(served, told)
        schemas = document["components"]["schemas"]
        fields = re.findall(r'\{"(\w+)", ([A-Z]+), (\w+)\}',
                            (source / "openai_request.c").read_text())
        bits = {"CHAT": 1, "COMPLETION": 2, "BOTH": 3, "RESPONSES": 4, "TALK": 5, "ANY": 7,
                "EMBEDDINGS": 8, "ALL": 15}
        for bit, parts in ((1, ("Sampling", "Common", "ChatRequest")),
                           (2, ("Sampling", "Common", "CompletionRequest")),
                           (4, ("Sampling", "ResponsesRequest")), (8, ("EmbeddingsRequest",))):
            read = {name for name, apis, how in fields
                    if bits[apis] & bit and not how.startswith(("ignore", "refuse"))}
            named = {name for part in parts for name in schemas[part]["properties"]}
            self.assertEqual(read, named, parts)
        self.assertEqual(document["info"]["version"],
                         self.service.request("GET", "/version").json()["version"])

    def test_unknown_paths_and_methods(self):
        self.refused(self.service.request("GET", "/v1/nothing"), 404, "route_not_found")
        answer = self.service.request("GET", CHAT)
        self.refused(answer, 405, "method_not_allowed")
        self.assertEqual(answer.headers["allow"], "POST")
        self.assertEqual(self.service.post("/livez", {}).headers["allow"], "GET, HEAD")

    def test_metrics(self):
        before = self.service.metric("llcuda_generation_tokens_total")
        self.post(TEXT, prompt="Once", max_tokens=4, ignore_eos=True)
        text = self.service.request("GET", "/metrics").body.decode()
        self.assertGreaterEqual(self.service.metric("llcuda_generation_tokens_total"), before + 3)
        self.assertIn('llcuda_http_requests_total{path="/v1/completions",status="200"}', text)
        self.assertIn('llcuda_time_to_first_token_seconds_bucket{model="demo",le="+Inf"}', text)
        for line in text.splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                float(value)
                self.assertRegex(name, r'^(llcuda|process)_[a-z0-9_]+(\{([a-z]+="[^"]*",?)+\})?$')

    def test_request_ids_and_traces(self):
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        answer = self.service.request("GET", "/v1/models", headers={"X-Request-Id": "mine-1",
                                                                    "Traceparent": parent})
        self.assertEqual(answer.headers["x-request-id"], "mine-1")
        self.assertRegex(answer.headers["traceparent"],
                         r"^00-0af7651916cd43dd8448eb211c80319c-[0-9a-f]{16}-01$")
        self.assertNotEqual(answer.headers["traceparent"], parent)
        for bad in ("a b", "x" * 200, "é"):
            answer = self.service.request("GET", "/livez", headers={"X-Request-Id": bad})
            self.assertRegex(answer.headers["x-request-id"], "^req_[0-9a-f]{24}$")
        zero = "00-" + "0" * 32 + "-b7ad6b7169203331-01"
        answer = self.service.request("GET", "/livez", headers={"Traceparent": zero})
        self.assertNotIn("traceparent", answer.headers)


class Memory(unittest.TestCase):
    """What /metrics says of a model's memory, on the CPU and on the emulated GPU with a limit."""

    def check(self, limit, *options):
        with tempfile.TemporaryDirectory() as folder:
            service = Service("--alias", "demo", "-c", "128", "--kernel-cache", folder, *options)
            text = service.request("GET", "/metrics").body.decode()
            self.assertEqual(service.close(), 0)
        value = {line.split(" ")[0]: float(line.split(" ")[1]) for line in text.splitlines()
                 if line.startswith("llcuda_memory")}
        held = value['llcuda_memory_bytes{model="demo"}']
        kinds = {kind: value[f'llcuda_memory_kind_bytes{{model="demo",kind="{kind}"}}']
                 for kind in ("weights", "kv_cache", "workspace", "step")}
        self.assertEqual(sum(kinds.values()), held)
        self.assertTrue(all(kinds[kind] > 0 for kind in ("weights", "kv_cache", "workspace")))
        self.assertEqual(value['llcuda_memory_limit_bytes{model="demo"}'], limit)
        share = value.get('llcuda_memory_limit_used_ratio{model="demo"}')
        if limit:
            self.assertGreater(kinds["step"], 0)
            self.assertAlmostEqual(share, held / limit)
        else:
            self.assertIsNone(share)

    def test_by_kind(self):
        self.check(0, "--device", "cpu")

    def test_limit(self):
        self.check(2 ** 29, "--device", "emu", "--gpu-memory-limit", "0.5")


class Chat(Shared):
    def test_whole_answer(self):
        answer = self.post(CHAT, model="demo", messages=QUESTION, max_tokens=8)
        self.assertEqual(answer.status, 200, answer.body)
        document = answer.json()
        choice = document["choices"][0]
        self.assertEqual(document["object"], "chat.completion")
        self.assertTrue(document["id"].startswith("chatcmpl-"))
        self.assertEqual(choice["message"]["role"], "assistant")
        self.assertTrue(choice["message"]["content"])
        self.assertIn(choice["finish_reason"], ("stop", "length"))
        usage = document["usage"]
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + usage["completion_tokens"])
        self.assertGreater(usage["prompt_tokens"], 5)

    def test_stream_says_the_same(self):
        body = {"messages": QUESTION, "max_completion_tokens": 20, "temperature": 1, "seed": 7}
        whole = self.service.post(CHAT, body).json()
        answer = self.service.post(CHAT, {**body, "stream": True})
        self.assertEqual(answer.headers["content-type"], "text/event-stream; charset=utf-8")
        chunks = answer.chunks()
        self.assertEqual(chunks[0]["choices"][0]["delta"], {"role": "assistant", "content": ""})
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        self.assertEqual(text, whole["choices"][0]["message"]["content"])
        self.assertEqual(chunks[-1]["choices"][0]["finish_reason"],
                         whole["choices"][0]["finish_reason"])
        self.assertTrue(all(chunk["object"] == "chat.completion.chunk" for chunk in chunks))
        self.assertTrue(all("usage" not in chunk for chunk in chunks))

    def test_usage_in_streams(self):
        chunks = self.post(CHAT, messages=QUESTION, max_tokens=5, stream=True,
                           stream_options={"include_usage": True}).chunks()
        self.assertEqual(chunks[-1]["choices"], [])
        self.assertGreater(chunks[-1]["usage"]["completion_tokens"], 0)
        self.assertTrue(all(chunk["usage"] is None for chunk in chunks[:-1]))

    def test_choices(self):
        document = self.post(CHAT, messages=QUESTION, max_tokens=6, n=3, temperature=1.5, seed=3).json()
        self.assertEqual([choice["index"] for choice in document["choices"]], [0, 1, 2])
        chunks = self.post(CHAT, messages=QUESTION, max_tokens=6, n=3, temperature=1.5, seed=3,
                           stream=True).chunks()
        for choice in document["choices"]:
            text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks
                           if chunk["choices"][0]["index"] == choice["index"])
            self.assertEqual(text, choice["message"]["content"])

    def test_logprobs(self):
        document = self.post(CHAT, messages=QUESTION, max_tokens=4, logprobs=True, top_logprobs=3).json()
        content = document["choices"][0]["logprobs"]["content"]
        self.assertEqual(len(content), document["usage"]["completion_tokens"])
        for item in content:
            self.assertLessEqual(item["logprob"], 0)
            self.assertEqual(bytes(item["bytes"]).decode(), item["token"])
            self.assertEqual(len(item["top_logprobs"]), 3)
            self.assertEqual(item["top_logprobs"][0]["logprob"], item["logprob"])

    def test_content_parts_and_developer(self):
        plain = [{"role": "system", "content": "Be brief."}, *QUESTION]
        parts = [{"role": "developer", "content": [{"type": "text", "text": "Be "},
                                                   {"type": "text", "text": "brief."}]}, *QUESTION]
        prompts = [self.post("/apply-template", messages=messages).json()["prompt"]
                   for messages in (plain, parts)]
        self.assertEqual(*prompts)
        self.assertIn("Be brief.", prompts[0])

    def test_fields_are_reported(self):
        answer = self.post(CHAT, messages=QUESTION, max_tokens=1, user="me", colour="red",
                           store=None, **{"bad\r\nname": 1})
        self.assertEqual(answer.status, 200, answer.body)
        self.assertEqual(answer.headers["x-llcuda-ignored-fields"], "user")
        self.assertEqual(answer.headers["x-llcuda-unknown-fields"], "colour,bad??name")

    def test_refusals(self):
        for body, status, code, param in (
                ({}, 400, "missing_required_parameter", "messages"),
                ({"messages": []}, 400, "invalid_value", "messages"),
                ({"messages": [{"role": "king", "content": "a"}]}, 400, "invalid_value", "messages"),
                ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400,
                 "unsupported_parameter", "messages"),
                ({"messages": QUESTION, "model": "gpt-4"}, 404, "model_not_found", "model"),
                ({"messages": QUESTION, "temperature": -1}, 400, "invalid_value", "temperature"),
                ({"messages": QUESTION, "temperature": "hot"}, 400, "invalid_value", "temperature"),
                ({"messages": QUESTION, "n": 0}, 400, "invalid_value", "n"),
                ({"messages": QUESTION, "n": 10 ** 9}, 400, "invalid_value", "n"),
                ({"messages": QUESTION, "max_tokens": 0}, 400, "invalid_value", "max_tokens"),
                ({"messages": QUESTION, "top_logprobs": 2}, 400, "invalid_value", "top_logprobs"),
                ({"messages": QUESTION, "logit_bias": {"99999999": 1}}, 400, "invalid_value",
                 "logit_bias"),
                ({"messages": QUESTION, "stop": [""]}, 400, "invalid_value", "stop"),
                ({"messages": QUESTION, "tools": [{"type": "function"}]}, 400, "invalid_value", "tools"),
                ({"messages": QUESTION, "tools": [{"type": "web_search"}]}, 400,
                 "unsupported_parameter", "tools"),
                ({"messages": QUESTION, "tool_choice": "required"}, 400, "unsupported_parameter",
                 "tool_choice"),
                ({"messages": QUESTION, "response_format": {"type": "json_object"}}, 400,
                 "unsupported_parameter", "response_format"),
                ({"messages": QUESTION, "max_tokens": self.service.context}, 400,
                 "context_length_exceeded", "messages"),
        ):
            self.refused(self.service.post(CHAT, body), status, code, param)
        self.refused(self.service.post(CHAT, b"{", {"Content-Type": "application/json"}), 400,
                     "invalid_json")
        self.refused(self.service.post(CHAT, b"[]", {"Content-Type": "application/json"}), 400,
                     "invalid_json")


class Completions(Shared):
    def test_text_and_ids_agree(self):
        ids = self.post("/tokenize", content="Once upon a", add_special=True).json()["tokens"]
        texts = [self.post(TEXT, prompt=prompt, max_tokens=6).json()["choices"][0]["text"]
                 for prompt in ("Once upon a", ids)]
        self.assertEqual(*texts)
        self.assertEqual(self.post("/detokenize", tokens=ids[1:]).json()["content"], "Once upon a")

    def test_several_prompts(self):
        body = {"prompt": ["Once upon", "The dog"], "n": 2, "max_tokens": 5, "temperature": 1, "seed": 2}
        document = self.service.post(TEXT, body).json()
        self.assertEqual([choice["index"] for choice in document["choices"]], [0, 1, 2, 3])
        chunks = self.service.post(TEXT, {**body, "stream": True}).chunks()
        for choice in document["choices"]:
            text = "".join(chunk["choices"][0]["text"] for chunk in chunks
                           if chunk["choices"][0]["index"] == choice["index"])
            self.assertEqual(text, choice["text"])

    def test_echo_and_logprobs(self):
        choice = self.post(TEXT, prompt="Once upon", max_tokens=3, echo=True, logprobs=2).json()["choices"][0]
        self.assertTrue(choice["text"].startswith("Once upon"))
        lists = choice["logprobs"]
        self.assertEqual(len({len(lists[name]) for name in lists}), 1)
        self.assertIsNone(lists["token_logprobs"][0])
        self.assertEqual(len(lists["top_logprobs"][-1]), 2)

    def test_stop_and_default_length(self):
        text = self.post(TEXT, prompt="Once upon a", ignore_eos=True).json()
        self.assertEqual(text["usage"]["completion_tokens"], 16)
        whole = text["choices"][0]["text"]
        stopped = self.post(TEXT, prompt="Once upon a", ignore_eos=True, stop=whole[8:12]).json()["choices"][0]
        self.assertEqual(stopped["finish_reason"], "stop")
        self.assertEqual(stopped["text"], whole[:whole.index(whole[8:12])])

    def test_logit_bias(self):
        token = self.post("/tokenize", content=" zebra").json()["tokens"][0]
        document = self.post(TEXT, prompt="Once", max_tokens=3, logit_bias={str(token): 100}).json()
        expected = self.post("/detokenize", tokens=[token] * 3).json()["content"]
        self.assertEqual(document["choices"][0]["text"], expected)

    def test_refusals(self):
        for body, code, param in (
                ({}, "missing_required_parameter", "prompt"),
                ({"prompt": []}, "invalid_value", "prompt"),
                ({"prompt": [1, -1]}, "invalid_value", "prompt"),
                ({"prompt": [1, 10 ** 9]}, "invalid_value", "prompt"),
                ({"prompt": {}}, "invalid_value", "prompt"),
                ({"prompt": "a", "suffix": "b"}, "unsupported_parameter", "suffix"),
                ({"prompt": "a", "best_of": 3}, "unsupported_parameter", "best_of"),
                ({"prompt": ["a"] * 100, "n": 100}, "invalid_value", "n"),
                ({"prompt": "word " * 5000}, "context_length_exceeded", "prompt"),
        ):
            self.refused(self.service.post(TEXT, body), 400, code, param)


class Wire(Shared):
    """Bytes that are no requests, and clients that behave badly."""

    def raw(self, data):
        with self.service.connect() as connection:
            connection.link.sendall(data)
            answer = connection.answer()
            self.assertTrue(connection.ended(), data)
            return answer

    def test_smuggling_is_refused_and_closed(self):
        for data in (b"GET /livez HTTP/1.1\nHost: localhost\n\n",
                     b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
                     b"GET /livez HTTP/1.1\r\nHost : a\r\n\r\n",
                     b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
                     b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
                     b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                     b"GET /livez HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
                     b"GET /livez HTTP/1.1\r\nHost: a\0\r\n\r\n"):
            answer = self.raw(data)
            self.refused(answer, 400, "invalid_http")
            self.assertEqual(answer.headers["connection"], "close")

    def test_limits(self):
        self.assertEqual(self.raw(b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\n\r\n").status, 414)
        many = b"".join(b"X-%d: a\r\n" % i for i in range(200))
        self.assertEqual(self.raw(b"GET / HTTP/1.1\r\nHost: a\r\n" + many + b"\r\n").status, 431)
        self.assertEqual(self.raw(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
                                  b"Content-Type: application/json\r\n"
                                  b"Content-Length: 99999999999\r\n\r\n").status, 413)

    def test_pipelining_and_keep_alive(self):
        with self.service.connect() as connection:
            request = b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n"
            connection.link.sendall(request * 50)
            for _ in range(50):
                self.assertEqual(connection.answer().status, 200)
            body = json.dumps({"prompt": "Once", "max_tokens": 2}).encode()
            post = (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
                    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)) + body
            connection.link.sendall(post * 3 + request)
            for _ in range(3):
                self.assertEqual(connection.answer().json()["usage"]["completion_tokens"], 2)
            self.assertIn("version", connection.answer().json())

    def test_chunked_body_a_byte_at_a_time(self):
        body = json.dumps({"prompt": "Once", "max_tokens": 1}).encode()
        data = (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n")
        data += b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
        with self.service.connect() as connection:
            for byte in data:
                connection.link.send(bytes([byte]))
            self.assertEqual(connection.answer().status, 200)

    def test_expect_continue(self):
        with self.service.connect() as connection:
            connection.link.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Expect: 100-continue\r\nContent-Length: 30\r\n\r\n")
            self.assertEqual(connection.head()[0], 100)
            connection.link.sendall(b'{"prompt":"a","max_tokens":1 }')
            self.assertEqual(connection.answer().status, 200)
        with self.service.connect() as connection:
            connection.link.sendall(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\n"
                                    b"Content-Type: application/json\r\n"
                                    b"Expect: 100-continue\r\nContent-Length: 30\r\n\r\n")
            self.assertEqual(connection.answer().status, 404)

    def test_http_1_0(self):
        body = json.dumps({"prompt": "Once", "max_tokens": 2, "stream": True}).encode()
        with self.service.connect() as connection:
            connection.link.sendall(b"POST /v1/completions HTTP/1.0\r\nHost: localhost\r\n"
                                    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                                    % len(body) + body)
            answer = connection.answer()
            self.assertNotIn("transfer-encoding", answer.headers)
            self.assertEqual(answer.events()[-1], "[DONE]")

    def test_a_compressed_body_is_refused_as_that(self):
        body = gzip.compress(json.dumps({"prompt": "a", "max_tokens": 1}).encode())
        refused = self.service.post(TEXT, body, {"Content-Type": "application/json", "Content-Encoding": "gzip"})
        self.refused(refused, 415, "unsupported_media_type")
        self.assertIn("without Content-Encoding", refused.json()["error"]["message"])
        plain = {"Content-Encoding": "identity"}
        self.assertEqual(self.service.post(TEXT, {"prompt": "a", "max_tokens": 1}, plain).status, 200)

    def test_web_pages_stay_out(self):
        body = {"prompt": "a", "max_tokens": 1}
        self.refused(self.service.post(TEXT, body, {"Host": "evil.example"}), 403, "host_not_allowed")
        self.refused(self.service.post(TEXT, body, {"Origin": "http://evil.example"}), 403,
                     "origin_not_allowed")
        self.refused(self.service.post(TEXT, json.dumps(body).encode(), {"Content-Type": "text/plain"}),
                     415, "unsupported_media_type")
        own = {"Host": "localhost:1234", "Origin": "http://localhost:1234"}
        self.assertEqual(self.service.post(TEXT, body, own).status, 200)

    def test_disconnect_cancels_within_a_second(self):
        before = self.service.metric("llcuda_engine_requests_cancelled_total")
        for body in (LONG, {**LONG, "stream": False}):
            with self.service.connect() as connection:
                connection.send("POST", TEXT, body)
                if body["stream"]:
                    connection.head()
                    connection.chunk()
                else:
                    self.assertTrue(self.service.wait_for("llcuda_requests_running", 1))
            begin = time.monotonic()
            self.assertTrue(self.service.wait_for("llcuda_requests_running", 0))
            self.assertLess(time.monotonic() - begin, 1.5 * crowd())
        self.assertEqual(self.service.metric("llcuda_engine_requests_cancelled_total"), before + 2)
        self.assertEqual(self.service.metric("llcuda_kv_cache_blocks_used"), 0)

    def test_disconnect_in_the_queue(self):
        """Who waits for a place and leaves is forgotten within a second, too."""
        service = Service("--running-max", 1)
        first = service.connect()
        first.send("POST", TEXT, {**LONG, "n": 1})
        first.head()
        for body in (LONG, {**LONG, "stream": False}):
            with service.connect() as second:
                second.send("POST", TEXT, body)
                self.assertTrue(service.wait_for("llcuda_requests_waiting", 1))
            begin = time.monotonic()
            self.assertTrue(service.wait_for("llcuda_requests_waiting", 0))
            self.assertLess(time.monotonic() - begin, 1.5 * crowd())
            self.assertEqual(service.metric("llcuda_requests_running"), 1)
        first.link.close()
        self.assertEqual(service.close(), 0)

    def test_many_streams_at_once(self):
        links = [self.service.connect() for _ in range(40)]
        for link in links:
            link.send("POST", TEXT, {**LONG, "max_tokens": 20})
        texts = ["".join(chunk["choices"][0]["text"] for chunk in link.answer().chunks())
                 for link in links]
        for link in links:
            link.link.close()
        self.assertEqual(len(set(texts)), 1)


class Keys(unittest.TestCase):
    def test_keys_scopes_and_reload(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "keys")
            path.write_text("# ours\nalpha\nsha256:%s admin\n" % hashlib.sha256(b"beta").hexdigest())
            path.chmod(0o600)
            service = Service("--api-key-file", path, environment={"LLCUDA_API_KEY": "gamma"})
            status = lambda key, path="/v1/models": service.request(
                "GET", path, headers={"Authorization": f"Bearer {key}"}).status
            try:
                self.assertEqual([status(key) for key in ("alpha", "beta", "gamma")], [200] * 3)
                self.assertEqual([status(key) for key in ("", "alph", "alphaa", "sha256:", "Beta")],
                                 [401] * 5)
                self.assertEqual(status("nobody", "/nothing"), 401)
                self.assertEqual(service.request("GET", "/metrics").status, 401)
                self.assertEqual(service.request("GET", "/livez").status, 200)
                answer = service.post(TEXT, {"prompt": "a", "max_tokens": 1},
                                      {"X-Api-Key": "alpha", "Host": "any.example"})
                self.assertEqual(answer.status, 200)
                self.assertEqual(service.request("GET", "/v1/models").error()["code"], "invalid_api_key")
                path.write_text("delta\n")
                service.process.send_signal(signal.SIGHUP)
                end = time.monotonic() + 10
                while status("delta") != 200 and time.monotonic() < end:
                    time.sleep(0.05)
                self.assertEqual([status(key) for key in ("delta", "gamma", "alpha")], [200, 200, 401])
            finally:
                self.assertEqual(service.close(), 0)

    def test_open_addresses_need_a_key(self):
        with self.assertRaisesRegex(AssertionError, "--api-key-file"):
            Service("--host", "0.0.0.0")
        service = Service()
        with self.assertRaisesRegex(AssertionError, f"127.0.0.1:{service.port}': Address already"):
            Service("--port", service.port)
        self.assertEqual(service.close(), 0)
        with tempfile.NamedTemporaryFile() as file:
            os.chmod(file.name, 0o644)
            with self.assertRaisesRegex(AssertionError, "chmod 600"):
                Service("--api-key-file", file.name)


class Stopping(unittest.TestCase):
    def test_drain_finishes_and_refuses(self):
        service = Service("--alias", "demo")
        busy, idle, late = (service.connect() for _ in range(3))
        idle.send("GET", "/livez")
        idle.answer()
        late.link.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n")
        busy.send("POST", TEXT, {**LONG, "max_tokens": 300})
        busy.head()
        busy.chunk()
        service.stop()
        self.assertTrue(idle.ended(), "an idle connection closes")
        late.link.sendall(b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
        answer = late.answer()
        self.assertEqual((answer.status, answer.error()["code"]), (503, "server_draining"))
        self.assertEqual(answer.headers["connection"], "close")
        rest = b""
        while data := busy.chunk():
            rest += data
        self.assertTrue(rest.endswith(b"data: [DONE]\n\n"))
        self.assertIn(b'"finish_reason":"length"', rest)
        self.assertEqual(service.close(), 0)

    def test_nobody_is_cut_off_without_a_word(self):
        """The process stands still meanwhile, so that connections and requests wait in the system when
        the signal comes: everybody is told, also who sends a moment later or only half a request."""
        service = Service("--drain-timeout", "0.2")
        used = service.connect()
        used.send("GET", "/livez")
        used.answer()
        service.process.send_signal(signal.SIGSTOP)
        links = [service.connect(timeout=10) for _ in range(30)]
        for link in links[:15] + [used]:
            link.send("POST", TEXT, LONG)
        for link in links[25:]:
            link.link.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n")
        service.stop()
        service.process.send_signal(signal.SIGCONT)
        time.sleep(0.1)
        for link in links[15:25]:
            link.send("POST", TEXT, LONG)
        for link in [used] + links:
            answer = link.answer()
            if answer.status == 200:
                answer.chunks()  # as many as there was time for, then the mark of the end
            else:
                self.assertEqual((answer.status, answer.error()["code"]), (503, "server_draining"))
            self.assertEqual(answer.headers.get("connection", "close"), "close")
            self.assertTrue(link.ended())
        self.assertEqual(service.close(), 0)

    def test_timeout_cuts_with_an_error(self):
        service = Service("--drain-timeout", "0.2")
        stream, whole = service.connect(), service.connect()
        stream.send("POST", TEXT, LONG)
        whole.send("POST", TEXT, {**LONG, "stream": False})
        stream.head()
        stream.chunk()
        self.assertTrue(service.wait_for("llcuda_requests_running", 2))
        service.stop()
        rest = b""
        while data := stream.chunk():
            rest += data
        events = rest.decode().split("\n\n")
        self.assertEqual(events[-2], "data: [DONE]")
        self.assertEqual(json.loads(events[-3][6:])["error"]["code"], "server_shutdown")
        answer = whole.answer()
        self.assertEqual((answer.status, answer.error()["code"]), (503, "server_shutdown"))
        self.assertEqual(service.close(), 0)

    def test_second_signal_ends_at_once(self):
        service = Service("--drain-timeout", "100")
        stream = service.connect()
        stream.send("POST", TEXT, LONG)
        stream.head()
        service.process.terminate()
        time.sleep(0.3)
        begin = time.monotonic()
        service.process.terminate()
        service.process.communicate(timeout=20)
        self.assertLess(time.monotonic() - begin, 5)
        self.assertEqual(service.process.returncode, 128 + 15)


class Admission(unittest.TestCase):
    def test_full_queue(self):
        service = Service("--running-max", 40, "--queue-max", 40)
        first, second = service.connect(), service.connect()
        for link in (first, second):
            # More than fits the buffers on the way: it cannot end while nobody reads.
            link.send("POST", TEXT, {**LONG, "n": 20})
            link.head()
        answer = service.post(TEXT, {"prompt": "a", "max_tokens": 1})
        self.assertEqual((answer.status, answer.error()["type"], answer.error()["code"]),
                         (429, "rate_limit_error", "queue_full"))
        self.assertEqual(answer.headers["retry-after"], "1")
        for link in (first, second):
            link.link.close()
        self.assertTrue(service.wait_for("llcuda_engine_requests_cancelled_total", 2))
        self.assertEqual(service.post(TEXT, {"prompt": "a", "max_tokens": 1}).status, 200)
        self.assertEqual(service.close(), 0)

    def test_connection_limit(self):
        service = Service("--connection-max", 3)
        held = [service.connect() for _ in range(3)]
        for link in held:
            link.send("GET", "/livez")
            link.answer()
        self.assertEqual(service.request("GET", "/livez").status, 503)
        held[0].link.close()
        end = time.monotonic() + 10
        while (status := service.request("GET", "/livez").status) != 200 and time.monotonic() < end:
            time.sleep(0.05)
        self.assertEqual(status, 200)
        self.assertEqual(service.close(), 0)


class Transport(unittest.TestCase):
    def test_a_slow_reader_pauses_itself_only(self):
        """A client that takes nothing fills its output; then its request waits, others do not, and when
        it reads again nothing of its answer is missing."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        service = Service("--socket", pathlib.Path(folder.name, "socket"))  # holds little by itself
        tokens = 600
        with service.connect() as slow:
            slow.send("POST", TEXT, {**LONG, "n": 2, "max_tokens": tokens, "logprobs": 20},
                      {"Connection": "close"})
            steps, stands = -1, False
            while not stands:
                self.assertTrue(service.wait_for("llcuda_requests_paused", 2))
                time.sleep(0.3)
                before, steps = steps, service.metric("llcuda_steps_total")
                stands = steps == before
            self.assertEqual(service.post(TEXT, {"prompt": "a", "max_tokens": 3}).status, 200)
            self.assertEqual(service.metric("llcuda_requests_paused"), 2)
            data = b"".join(iter(lambda: slow.link.recv(1 << 16), b""))
        body, at = [], data.index(b"\r\n\r\n") + 4
        while body[-1:] != [b""]:
            line = data.index(b"\r\n", at)
            at = line + 4 + int(data[at:line], 16)
            body.append(data[line + 2:at - 2])
        events = b"".join(body).decode().split("\n\n")
        self.assertEqual((at, events[-2:]), (len(data), ["data: [DONE]", ""]))
        choices = [json.loads(event[6:])["choices"][0] for event in events[:-2]]
        self.assertEqual([choice["finish_reason"] for choice in choices].count("length"), 2)
        self.assertEqual(sum(len(choice["logprobs"]["tokens"]) for choice in choices if choice["logprobs"]),
                         2 * tokens)
        self.assertEqual(service.close(), 0)

    def test_unix_socket(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "s")
            with self.assertRaisesRegex(AssertionError, "no socket: choose another path"):
                Service("--socket", folder)
            service = Service("--socket", path)
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
            answer = service.post(TEXT, {"prompt": "a", "max_tokens": 1}, {"Host": "anything"})
            self.assertEqual(answer.status, 200)
            with self.assertRaisesRegex(AssertionError, "in use"):
                Service("--socket", path)
            self.assertTrue(path.exists())
            self.assertEqual(service.close(), 0)
            with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
                busy.bind(str(path))
                busy.listen(0)
                first.connect(str(path))  # its queue is full: it answers nobody for now
                with self.assertRaisesRegex(AssertionError, "in use"):
                    Service("--socket", path)
                self.assertTrue(path.exists())
            Service("--socket", path).close()  # nobody listens any more: it is left over
            self.assertFalse(path.exists())

    def test_tls(self):
        if not shutil.which("openssl"):
            self.skipTest("there is no openssl program to make a certificate with")
        with tempfile.TemporaryDirectory() as folder:
            key, certificate = pathlib.Path(folder, "key"), pathlib.Path(folder, "cert")
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                            "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out",
                            certificate, "-subj", "/CN=localhost", "-addext",
                            "subjectAltName=DNS:localhost"], check=True, capture_output=True)
            service = Service("--tls-cert", certificate, "--tls-key", key)
            context = ssl.create_default_context(cafile=certificate)
            connection = service.connect()
            connection.link = context.wrap_socket(connection.link, server_hostname="localhost")
            connection.send("POST", TEXT, {"prompt": "Once", "max_tokens": 3, "stream": True})
            self.assertEqual(connection.answer().events()[-1], "[DONE]")
            connection.link.close()
            with service.connect() as plain:
                plain.send("GET", "/livez")
                self.assertTrue(plain.ended())
            self.assertEqual(service.close(), 0)


if __name__ == "__main__":
    unittest.main()
