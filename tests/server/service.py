"""A running `llcuda serve` for tests, and a client that sends bytes as they are."""
import atexit
import json
import os
import re
import signal
import socket
import subprocess
import time

PROGRAM = os.environ["LLCUDA_PROGRAM"]
MODEL = os.environ.get("LLCUDA_TEST_MODEL")


class Service:
    """Starts on any free port; stopped and checked by close()."""

    def __init__(self, *options, environment=None):
        clean = {key: value for key, value in os.environ.items() if not key.startswith("LLCUDA_")}
        model = ["-m", MODEL] if MODEL else []
        self.process = subprocess.Popen(
            [PROGRAM, "serve", "--port", "0", "--threads", "1", *model, *map(str, options)],
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
            env={**clean, **(environment or {})})
        atexit.register(self.process.kill)  # a test that failed leaves nothing behind
        self.stopping = False
        self.rest = ""
        self.connections = []
        line = self.process.stderr.readline()
        while ", loading '" in line:
            line = self.process.stderr.readline()
        found = re.search(r"(?:(https?)://[\d.]+:(\d+)|unix:(\S+)), model '(.*)', context (\d+)", line)
        if not found:
            _, rest = self.process.communicate()
            raise AssertionError(line + rest)
        self.port = int(found[2]) if found[2] else None
        self.path = found[3]
        self.model, self.context = found[4], int(found[5])

    def models(self, key):
        """The states of the models, by name."""
        answer = self.request("GET", "/admin/models", headers={"Authorization": f"Bearer {key}"})
        return {model["name"]: model["state"] for model in answer.json()["models"]}

    def connect(self, timeout=60):
        """A new plain connection."""
        if self.path:
            link = socket.socket(socket.AF_UNIX)
            link.settimeout(timeout)
            link.connect(self.path)
        else:
            link = socket.create_connection(("127.0.0.1", self.port), timeout)
        self.connections.append(Connection(link))
        return self.connections[-1]

    def request(self, method, path, body=None, headers=None):
        """One request on its own connection."""
        with self.connect() as connection:
            connection.send(method, path, body, headers)
            return connection.answer()

    def post(self, path, body, headers=None):
        return self.request("POST", path, body, headers)

    def metric(self, name):
        """The value of a metric without labels."""
        text = self.request("GET", "/metrics").body.decode()
        return float(re.search(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)[1])

    def stop(self):
        """SIGTERM, once: a second one would end the server at once."""
        if not self.stopping and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.stopping = True

    def close(self, seconds=60):
        """Stops, and returns the exit status; standard error is in self.rest."""
        self.stop()
        for connection in self.connections:
            connection.link.close()
        try:
            _, self.rest = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, self.rest = self.process.communicate()
            raise
        if self.process.returncode != 0:
            print(self.rest[-4000:])
        return self.process.returncode

    def wait_for(self, name, value, seconds=20):
        """Waits until a metric has a value."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.metric(name) == value:
                return True
            time.sleep(0.05)
        return False


def crowd():
    """How many programs want each processor, at least one: bounds on time are bounds for a program that
    has a processor to itself, and are stretched by this."""
    return max(1, os.getloadavg()[0] / os.cpu_count())


class Answer:
    """An answer, whole."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def error(self):
        """The error object, whose four members OpenAI's clients rely on."""
        error = self.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        assert error["code"] is None or isinstance(error["code"], str), error
        return error

    def events(self):
        """The data of a stream's events; comments are left out."""
        parts = self.body.decode().split("\n\n")
        return [part[6:] for part in parts if part.startswith("data: ")]

    def chunks(self):
        """The same, parsed, without the mark of the end, which must be there."""
        events = self.events()
        assert events[-1] == "[DONE]", events[-1]
        return [json.loads(event) for event in events[:-1]]


class Connection:
    """A socket with a reader that takes answers apart strictly."""

    def __init__(self, link):
        self.link = link
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.link.close()

    def send(self, method, path, body=None, headers=None):
        """A well-formed request; a body that is no bytes is sent as JSON."""
        lines = {"Host": "localhost", **(headers or {})}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            lines.setdefault("Content-Type", "application/json")
        if body is not None:
            lines["Content-Length"] = str(len(body))
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in lines.items())
        self.link.sendall(head.encode() + b"\r\n" + (body or b""))

    def more(self):
        """Some more bytes; False at the end."""
        try:
            data = self.link.recv(65536)
        except ConnectionResetError:
            data = b""
        self.buffer += data
        return bool(data)

    def until(self, mark):
        """Bytes up to and including a mark."""
        while mark not in self.buffer:
            if not self.more():
                raise EOFError(f"the connection ended before {mark!r}: {self.buffer[-300:]!r}")
        taken, self.buffer = self.buffer.split(mark, 1)
        return taken + mark

    def exactly(self, count):
        while len(self.buffer) < count:
            if not self.more():
                raise EOFError("the connection ended inside a body")
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def head(self):
        """Status and headers."""
        lines = self.until(b"\r\n\r\n").decode().split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = {}
        for line in lines[1:-2]:
            name, value = line.split(": ", 1)
            assert name.lower() not in headers, f"two headers {name}"
            headers[name.lower()] = value
        return status, headers

    def chunk(self):
        size = int(self.until(b"\r\n"), 16)
        data = self.exactly(size)
        assert self.exactly(2) == b"\r\n"
        return data

    def answer(self, head_only=False):
        """A whole answer."""
        status, headers = self.head()
        body = b""
        if head_only or status in (204, 304):
            pass
        elif headers.get("transfer-encoding") == "chunked":
            while data := self.chunk():
                body += data
        elif "content-length" in headers:
            body = self.exactly(int(headers["content-length"]))
        else:
            while self.more():
                pass
            body, self.buffer = self.buffer, b""
        return Answer(status, headers, body)

    def ended(self, seconds=10):
        """Whether the server closes within a time; what comes before that is thrown away."""
        self.link.settimeout(seconds)
        try:
            while self.more():
                pass
            return True
        except TimeoutError:
            return False
