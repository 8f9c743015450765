"""What the server tells others: spans, logs, metrics under other names, the service manager, health."""
import ctypes
import http.server
import json
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from service import Service, crowd
from set_up_python import python_with

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
QUESTION = [{"role": "user", "content": "What is 2+2?"}]
LONG = {"prompt": "Once upon a time", "max_tokens": 1500, "ignore_eos": True, "stream": True}


def free_ports(count):
    links = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [link.getsockname()[1] for link in links]
    for link in links:
        link.close()
    return ports


def wait_for_port(port, seconds=20):
    end = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


class Collector(http.server.ThreadingHTTPServer):
    """Takes what an OTLP collector takes, and keeps it."""

    def __init__(self, status=200, delay=0):
        received = self.received = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(delay)
                received.append((self.path, self.headers["Content-Type"], body))
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def spans(self):
        found = []
        for _, _, body in self.received:
            for resource in json.loads(body)["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    found += scope["spans"]
        return found

    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


def attributes(span):
    return {item["key"]: list(item["value"].values())[0] for item in span["attributes"]}


class RealCollector(unittest.TestCase):
    """Rotel, an OpenTelemetry collector that PyPI has: it prints what it has received."""

    def ask(self, port, trace):
        service = Service("--alias", "demo", "--otlp-endpoint", f"http://127.0.0.1:{port}")
        for body in ({"max_tokens": 3}, {"max_tokens": 5, "stream": True}, {"max_tokens": "many"}):
            service.post("/v1/completions", {"prompt": "Once", "ignore_eos": True, **body},
                         {"traceparent": f"00-{trace}-1122334455667788-01"})
        sent = service.wait_for("llcuda_trace_spans_sent_total", 3)
        lost = service.metric("llcuda_trace_spans_lost_total")
        self.assertEqual((sent, lost, service.close()), (True, 0, 0))

    def test_received(self):
        python = python_with("collector-venv", "rotel")
        agents = python and sorted(pathlib.Path(python).parents[1].glob("lib/*/site-packages/rotel/rotel-agent"))
        if not agents:
            self.skipTest("the collector (PyPI package rotel) cannot be had")
        trace = os.urandom(16).hex()
        with tempfile.TemporaryDirectory() as folder, open(f"{folder}/out", "w+") as out:
            ports = free_ports(2)
            collector = subprocess.Popen(
                [agents[0], "start", "--otlp-grpc-endpoint", f"127.0.0.1:{ports[0]}",
                 "--otlp-http-endpoint", f"127.0.0.1:{ports[1]}", "--exporter", "blackhole",
                 "--pid-file", f"{folder}/pid", "--log-file", f"{folder}/log",
                 "--debug-log", "traces", "--debug-log-verbosity", "detailed"],
                stdout=out, stderr=subprocess.STDOUT)
            try:
                wait_for_port(ports[1])
                self.ask(ports[1], trace)
                time.sleep(1)  # what it has taken it prints after its batch's 200 ms
            finally:
                collector.terminate()
                collector.wait(20)
            out.seek(0)
            self.check(out.read(), trace)

    def check(self, text, trace):
        spans = [dict(re.findall(r"^    (Trace ID|Parent ID|ID|Name|Kind) *: (.*)$", part, re.MULTILINE))
                 for part in re.split(r"^Span #\d+$", text, flags=re.MULTILINE)[1:]]
        self.assertEqual({span["Trace ID"] for span in spans}, {trace}, text[-3000:])
        roots = [span for span in spans if span["Kind"] == "SPAN_KIND_SERVER"]
        self.assertEqual([span["Name"] for span in roots].count("text_completion demo"), len(roots))
        self.assertEqual([span["Parent ID"] for span in roots], ["1122334455667788"] * 3)
        children = sorted([span["Name"] for span in spans if span["Parent ID"] == root["ID"]] for root in roots)
        self.assertEqual(children, [[], ["queue", "prefill", "decode"], ["queue", "prefill", "decode"]])
        self.assertRegex(text, r"gen_ai.usage.output_tokens: Int\(5\)")
        self.assertRegex(text, r"http.response.status_code: Int\(400\)")


class Traces(unittest.TestCase):
    def test_spans(self):
        collector = Collector()
        service = Service("--alias", "demo", "--otlp-endpoint", collector.url())
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        begin = time.time_ns()
        answer = service.post(CHAT, {"messages": QUESTION, "max_tokens": 5}, {"Traceparent": parent})
        service.post(TEXT, {"prompt": "a", "max_tokens": 2, "n": 0})
        own = service.post(TEXT, {"prompt": "a", "max_tokens": 2, "ignore_eos": True})
        self.assertRegex(own.headers["traceparent"], "^00-[0-9a-f]{32}-[0-9a-f]{16}-01$")
        service.request("GET", "/v1/models")
        self.assertEqual(service.close(), 0, "the last spans are sent at the end")
        path, kind, body = collector.received[0]
        self.assertEqual((path, kind), ("/v1/traces", "application/json"))
        spans = collector.spans()
        # A span is told when its answer is out, which the next request may overtake.
        roots = sorted((span for span in spans if span["kind"] == 2),
                       key=lambda span: int(span["startTimeUnixNano"]))
        self.assertEqual([span["name"] for span in roots],
                         ["chat demo", "text_completion demo", "text_completion demo"])
        chat = roots[0]
        self.assertEqual(chat["traceId"], parent[3:35])
        self.assertEqual(chat["parentSpanId"], parent[36:52])
        self.assertEqual(chat["spanId"], answer.headers["traceparent"][36:52])
        told = attributes(chat)
        self.assertEqual(told["gen_ai.operation.name"], "chat")
        self.assertEqual(int(told["gen_ai.usage.output_tokens"]),
                         answer.json()["usage"]["completion_tokens"])
        self.assertEqual(told["llcuda.request_id"], answer.headers["x-request-id"])
        self.assertTrue(begin <= int(chat["startTimeUnixNano"]) <= int(chat["endTimeUnixNano"])
                        <= time.time_ns())
        children = [span for span in spans if span.get("parentSpanId") == chat["spanId"]]
        self.assertEqual([span["name"] for span in children], ["queue", "prefill", "decode"])
        at = int(chat["startTimeUnixNano"])
        for span in children:
            self.assertEqual(span["traceId"], chat["traceId"])
            self.assertTrue(at <= int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"]))
            at = int(span["endTimeUnixNano"])
        self.assertLessEqual(at, int(chat["endTimeUnixNano"]))
        failed = attributes(roots[1])
        self.assertEqual((failed["error.type"], roots[1]["status"]["code"]), ("invalid_value", 2))
        self.assertEqual(len({span["spanId"] for span in spans}), len(spans))
        self.assertNotIn(b"2+2", body)
        self.check_with_protobuf(body)

    def check_with_protobuf(self, body):
        """The official message definitions must take the document, unknown fields refused."""
        python = python_with("otlp-venv", "opentelemetry-proto")
        if not python:
            print("opentelemetry-proto cannot be had: the document was not checked against it")
            return
        import subprocess
        code = ("import sys\n"
                "from google.protobuf import json_format\n"
                "from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as t\n"
                "import json, base64\n"
                "d = json.load(sys.stdin)\n"
                # OTLP's JSON has ids as hexadecimal digits, protobuf's as base64.
                "for r in d['resourceSpans']:\n"
                "  for s in r['scopeSpans']:\n"
                "    for x in s['spans']:\n"
                "      for k in ('traceId', 'spanId', 'parentSpanId'):\n"
                "        if k in x: x[k] = base64.b64encode(bytes.fromhex(x[k])).decode()\n"
                "m = json_format.ParseDict(d, t.ExportTraceServiceRequest())\n"
                "print(sum(len(s.spans) for r in m.resource_spans for s in r.scope_spans))\n")
        done = subprocess.run([python, "-c", code], input=body, capture_output=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        self.assertGreater(int(done.stdout), 0)

    def test_a_collector_that_fails_costs_spans_only(self):
        for collector in (Collector(status=500), Collector(delay=30)):
            service = Service("--otlp-endpoint", collector.url())
            for _ in range(3):
                begin = time.monotonic()
                self.assertEqual(service.post(TEXT, {"prompt": "a", "max_tokens": 1}).status, 200)
                self.assertLess(time.monotonic() - begin, 10, "nobody waits for the collector's 30 s")
            self.assertTrue(service.wait_for("llcuda_trace_spans_lost_total", 3))
            self.assertEqual(service.close(), 0)

    def test_bad_addresses(self):
        for url in ("https://a", "ftp://a", "http://", "http://a b", "http://u@h"):
            with self.assertRaises(AssertionError):
                Service("--otlp-endpoint", url)


class Logs(unittest.TestCase):
    def lines(self, *options):
        with tempfile.TemporaryDirectory() as folder:
            log = pathlib.Path(folder, "log")
            service = Service("--alias", "demo", "--access-log", log, *options)
            service.post(CHAT, {"messages": QUESTION, "max_tokens": 3, "stream": True},
                         {"X-Request-Id": "mine"})
            service.post(TEXT, {"prompt": "a" * 50000, "max_tokens": 1})
            service.request("GET", "/livez")
            self.assertEqual(service.close(), 0)
            return [json.loads(line) for line in log.read_text().splitlines()]

    def test_access_log(self):
        lines = self.lines()
        self.assertEqual([line["path"] for line in lines], [CHAT, TEXT], "probes are not logged")
        first = lines[0]
        self.assertEqual((first["request_id"], first["status"], first["model"], first["stream"]),
                         ("mine", 200, "demo", True))
        self.assertEqual(first["completion_tokens"], 3 if first["finish_reason"] == "length" else
                         first["completion_tokens"])
        self.assertGreater(first["duration_ms"], first["ttft_ms"])
        self.assertGreater(first["prompt_tokens"], 5)
        self.assertRegex(first["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(lines[1]["error"], "context_length_exceeded")
        self.assertNotIn("2+2", json.dumps(lines))

    def test_prompts_when_asked(self):
        first = self.lines("--log-prompts")[0]
        self.assertEqual(json.loads(first["body"])["messages"], QUESTION)


class Metrics(unittest.TestCase):
    def test_names_of_vllm(self):
        service = Service("--alias", "demo", "--metrics-compat", "vllm")
        service.post(TEXT, {"prompt": "a", "max_tokens": 3, "ignore_eos": True})
        text = service.request("GET", "/metrics").body.decode()
        labels = 'model_name="demo",engine="0"'
        for line in (f"vllm:num_requests_running{{{labels}}} 0", f"vllm:num_requests_waiting{{{labels}}} 0",
                     f"vllm:kv_cache_usage_perc{{{labels}}} 0",
                     f'vllm:request_success_total{{{labels},finished_reason="length"}} 1',
                     f"vllm:e2e_request_latency_seconds_count{{{labels}}} 1",
                     f"vllm:request_generation_tokens_sum{{{labels}}} 3"):
            self.assertIn(line, text)
        self.assertEqual(service.close(), 0)
        plain = Service()
        self.assertNotIn("vllm:", plain.request("GET", "/metrics").body.decode())
        self.assertEqual(plain.close(), 0)

    def test_every_family_is_declared_once(self):
        service = Service("--metrics-compat", "vllm")
        text = service.request("GET", "/metrics").body.decode()
        declared = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
        self.assertEqual(len(declared), len(set(declared)))
        for sample in set(re.findall(r"^([a-z0-9_:]+)", text, re.MULTILINE)):
            family = re.sub("_(bucket|sum|count)$", "", sample)
            self.assertTrue(sample in declared or family in declared, sample)
        self.assertEqual(service.close(), 0)


class Manager(unittest.TestCase):
    """The service manager's side of the notification socket."""

    def test_ready_watchdog_and_stop(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "notify")
            manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            manager.bind(path)
            manager.settimeout(10)
            service = Service(environment={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1000000"})
            self.assertIn("READY=1", manager.recv(4096).decode())
            at = []
            while len(at) < 3:
                if manager.recv(4096) == b"WATCHDOG=1\n":
                    at.append(time.monotonic())
            self.assertLess(at[-1] - at[0], 2 * crowd(), "at least once a second")
            service.stop()
            while (message := manager.recv(4096)) == b"WATCHDOG=1\n":
                pass
            self.assertEqual(message, b"STOPPING=1\n")
            self.assertEqual(service.close(), 0)


class FrozenThreads:
    """Stops the threads of a process that have a name, by the tracing interface."""
    SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17

    def __init__(self, process, name):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        self.threads = []
        for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir():
            if (task / "comm").read_text().strip() == name:
                if self.libc.ptrace(self.SEIZE, int(task.name), None, None) != 0:
                    raise OSError(ctypes.get_errno(), "ptrace")
                self.libc.ptrace(self.INTERRUPT, int(task.name), None, None)
                os.waitpid(int(task.name), 0x40000000)
                self.threads.append(int(task.name))

    def thaw(self):
        for thread in self.threads:
            self.libc.ptrace(self.DETACH, thread, None, None)


class Heartbeat(unittest.TestCase):
    """An engine that has work and takes no step is noticed, and told."""

    def test_frozen_engine(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "notify")
            manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            manager.bind(path)
            service = Service("--heartbeat-timeout", 1, environment={
                "NOTIFY_SOCKET": path, "WATCHDOG_USEC": "500000"})
            link = service.connect()
            link.send("POST", TEXT, LONG)
            link.head()
            link.chunk()
            try:
                frozen = FrozenThreads(service.process, "llcuda-models")
            except OSError as error:
                service.process.kill()
                self.skipTest(f"threads cannot be stopped here: {error}")
            self.assertTrue(frozen.threads)
            begin = time.monotonic()
            while service.request("GET", "/readyz").status == 200 and time.monotonic() - begin < 10:
                time.sleep(0.05)
            noticed = time.monotonic() - begin
            answer = service.request("GET", "/readyz")
            self.assertEqual((answer.status, answer.json()["status"]), (503, "engine_stalled"))
            self.assertLess(noticed, 5 * crowd())
            self.assertEqual(service.request("GET", "/livez").status, 200)
            manager.setblocking(False)
            try:
                while True:
                    manager.recv(4096)
            except BlockingIOError:
                pass
            time.sleep(1)
            with self.assertRaises(BlockingIOError):
                manager.recv(4096)  # the watchdog is not fed any more
            frozen.thaw()
            begin = time.monotonic()
            while service.request("GET", "/readyz").status != 200 and time.monotonic() - begin < 10:
                time.sleep(0.05)
            self.assertEqual(service.request("GET", "/readyz").status, 200)
            print(f"a frozen engine was noticed after {noticed:.2f} s with a timeout of 1 s")
            link.link.close()
            self.assertEqual(service.close(), 0)


if __name__ == "__main__":
    unittest.main()
