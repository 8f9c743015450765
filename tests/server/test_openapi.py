"""Requests generated from the served OpenAPI document, whole and broken: none may give a 5xx, each
answer must have the shape that the document promises. LLCUDA_REQUESTS says how many (10,000)."""
import json
import os
import random
import socket
import threading
import time
import unittest

from service import Service

COUNT = int(os.environ.get("LLCUDA_REQUESTS", 10000))
SEED = int(os.environ.get("LLCUDA_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
KEY = "key-of-an-admin"
TEXTS = ["", "a", "Once upon a time", "{\"a\":1}", "\u0000", "é", "𝄞" * 3, "<|im_start|>", "\ud7ff",
         "a" * 300, "../../etc/passwd", "%s%n", "' OR 1=1", "\r\nX: y", "null", "<tool_call>", "</think>"]
NUMBERS = [0, 1, -1, 2, 7, 0.5, 1e308, -1e308, 1e-320, 2 ** 31, 2 ** 32, 2 ** 53, 2 ** 63, -2 ** 63,
           2 ** 64, 10 ** 30, 128, 129]


class Schemas:
    """Reads the part of JSON Schema that the document uses: instances out, instances checked."""

    def __init__(self, document, chance):
        self.document, self.chance = document, chance

    def resolve(self, schema):
        while "$ref" in schema:
            at = self.document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                at = at[part]
            schema = at
        return schema

    def merged(self, schema):
        """allOf as one object schema."""
        schema = self.resolve(schema)
        properties, required = {}, []
        for part in schema.get("allOf", []):
            inner = self.merged(part)
            properties.update(inner.get("properties", {}))
            required += inner.get("required", [])
        return {**schema, "properties": {**properties, **schema.get("properties", {})},
                "required": required + schema.get("required", [])}

    def anything(self, depth=0):
        kind = self.chance.randrange(8 if depth < 3 else 5)
        if kind == 0:
            return None
        if kind == 1:
            return self.chance.random() < 0.5
        if kind in (2, 3):
            return self.chance.choice(NUMBERS)
        if kind == 4:
            return self.chance.choice(TEXTS)
        if kind in (5, 6):
            return [self.anything(depth + 1) for _ in range(self.chance.randrange(4))]
        return {self.chance.choice(TEXTS): self.anything(depth + 1) for _ in range(self.chance.randrange(4))}

    def make(self, schema, depth=0):
        """An instance."""
        schema = self.resolve(schema)
        chance = self.chance
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return chance.choice(schema["enum"])
        if "anyOf" in schema:
            return self.make(chance.choice(schema["anyOf"]), depth)
        kind = schema.get("type", "object" if "properties" in schema or "allOf" in schema else None)
        if isinstance(kind, list):
            kind = kind[0] if chance.random() < 0.9 else chance.choice(kind)
        if kind == "null":
            return None
        if kind == "boolean":
            return chance.random() < 0.5
        if kind == "string":
            least, most = schema.get("minLength", 0), schema.get("maxLength", 1000)
            return chance.choice([text for text in TEXTS if least <= len(text.encode()) <= most])
        if kind in ("integer", "number"):
            low, high = schema.get("minimum", -5), min(schema.get("maximum", 20), 20)
            return (chance.randint(int(low), max(int(low), int(high))) if kind == "integer" else
                    chance.choice([low, high, chance.uniform(low, high)]))
        if kind == "array":
            count = chance.randint(schema.get("minItems", 0), min(schema.get("maxItems", 3), 3))
            items = schema.get("items")
            return [self.make(items, depth + 1) if items else self.anything(depth + 1) for _ in range(count)]
        if kind == "object":
            schema = self.merged(schema)
            names = [name for name in schema["properties"]
                     if name in schema["required"] or chance.random() < 0.15]
            made = {name: self.make(schema["properties"][name], depth + 1) for name in names}
            if "additionalProperties" in schema:
                made.update({str(chance.randrange(1000)): self.make(schema["additionalProperties"], depth + 1)
                             for _ in range(chance.randrange(3))})
            return made
        return self.anything(depth)

    def break_one(self, value):
        """The same with one thing changed somewhere."""
        chance = self.chance
        if isinstance(value, dict) and value and chance.random() < 0.85:
            name = chance.choice(sorted(value))
            changed = dict(value)
            if chance.random() < 0.2:
                del changed[name]
            elif chance.random() < 0.1:
                changed[chance.choice(TEXTS)] = self.anything()
            else:
                changed[name] = self.break_one(value[name])
            return changed
        if isinstance(value, list) and value and chance.random() < 0.7:
            at = chance.randrange(len(value))
            return value[:at] + [self.break_one(value[at])] + value[at + 1:]
        return self.anything()

    def check(self, schema, value, where="answer"):
        schema = self.resolve(schema)
        for part in schema.get("allOf", []):
            self.check(part, value, where)
        if "const" in schema:
            assert value == schema["const"], (where, value)
        if "enum" in schema:
            assert value in schema["enum"], (where, value)
        if "anyOf" in schema:
            for part in schema["anyOf"]:
                try:
                    return self.check(part, value, where)
                except AssertionError:
                    pass
            raise AssertionError((where, value))
        kinds = schema.get("type", [])
        kinds = kinds if isinstance(kinds, list) else [kinds]
        types = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float),
                 "boolean": bool, "null": type(None)}
        assert not kinds or any(isinstance(value, types[kind]) for kind in kinds), (where, value)
        if isinstance(value, dict):
            for name in schema.get("required", []):
                assert name in value, (where, name)
            for name, inner in schema.get("properties", {}).items():
                if name in value:
                    self.check(inner, value[name], f"{where}.{name}")
        if isinstance(value, list) and "items" in schema:
            for item in value:
                self.check(schema["items"], item, f"{where}[]")
        return None


LENGTHS = {"/v1/chat/completions": "max_tokens", "/v1/completions": "max_tokens",
           "/v1/responses": "max_output_tokens"}


class Generated(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        print(f"seed {SEED} (repeat with LLCUDA_TEST_SEED={SEED})")

    def schema_of_answer(self, operation, status, kind):
        responses = operation["responses"]
        response = responses.get(str(status), responses.get("default"))
        self.assertIsNotNone(response, f"status {status} is not in the document")
        content = self.schemas.resolve(response).get("content", {})
        self.assertIn(kind, content, f"{status} gives {kind}")
        return content[kind].get("schema")

    def operations(self, document):
        found = []
        for path, item in document["paths"].items():
            for method, operation in item.items():
                body = self.schemas.resolve(operation.get("requestBody", {}))
                schema = body.get("content", {}).get("application/json", {}).get("schema")
                weight = 12 if path.startswith("/v1/") and schema else 3 if schema else 1
                if path != "/admin/models/unload" and path != "/admin/models/sleep":
                    found += [(method.upper(), path, operation, schema)] * weight
        return found

    def body_of(self, path, schema):
        """The bytes of a body, and what was done to it."""
        chance, kind = self.chance, self.chance.random()
        made = self.schemas.make(schema)
        if kind > 0.35:
            for _ in range(self.chance.choice((1, 1, 1, 2, 4))):
                made = self.schemas.break_one(made)
        if isinstance(made, dict) and path in LENGTHS:
            made.setdefault(LENGTHS[path], chance.randint(1, 4))
            if not isinstance(made.get("min_tokens", 0), int) or made.get("min_tokens", 0) > 4:
                made["min_tokens"] = 2
            made.pop("timeout_ms", None)  # time that runs out is 504 by right
            if path == "/v1/chat/completions" and made.get("max_completion_tokens") is not None:
                made.pop("max_tokens", None)
        if isinstance(made, dict):
            made.pop("timeout_ms", None)
        if isinstance(made, dict) and chance.random() < 0.9 and "model" in made:
            made["model"] = chance.choice(("demo", None))
        data = json.dumps(made, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
        if kind > 0.9 and data:
            data = bytearray(data)
            for _ in range(chance.randrange(1, 4)):
                at = chance.randrange(len(data) + 1)
                data[at:at + chance.randrange(3)] = bytes(chance.randrange(256)
                                                          for _ in range(chance.randrange(3)))
            data = bytes(data)
        return data, kind <= 0.35

    def one(self, connection, method, path, operation, schema):
        target = path.replace("{model}", self.chance.choice(("demo", "other", "%64emo", "%00", "a/b", "é")))
        if any(ord(c) > 126 for c in target):
            target = target.encode("unicode_escape").decode()
        headers = {"Authorization": f"Bearer {KEY}", "Host": "localhost"}
        data, good = (None, True) if schema is None else self.body_of(path, schema)
        if data is not None:
            headers["Content-Type"] = "application/json"
        connection.send(method, target, data, headers)
        answer = connection.answer()
        told = (method, target, data, answer.status, answer.body[:300])
        self.assertLess(answer.status, 500, told)
        kind = answer.headers["content-type"].split(";")[0]
        if answer.status == 200 and kind == "text/event-stream":
            self.assertTrue(answer.body.endswith(b"\n\n"), told)
        elif kind == "application/json":
            schema = self.schema_of_answer(operation, answer.status, kind)
            if schema:
                try:
                    self.schemas.check(schema, json.loads(answer.body))
                except AssertionError as error:
                    raise AssertionError((told, error)) from error
        self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
        self.accepted += good and schema is not None and answer.status in (200, 202)
        if answer.headers.get("connection") == "close":
            connection.link.close()
            return self.service.connect()
        return connection

    def test_requests(self):
        self.chance = random.Random(SEED)
        import tempfile
        with tempfile.NamedTemporaryFile("w") as keys:
            keys.write(f"{KEY} admin\n")
            keys.flush()
            os.chmod(keys.name, 0o600)
            self.service = Service("--alias", "demo", "--api-key-file", keys.name)
            document = self.service.request("GET", "/openapi.json").json()
            self.schemas = Schemas(document, self.chance)
            operations = self.operations(document)
            self.statuses, self.accepted = {}, 0
            connection = self.service.connect()
            begin = time.monotonic()
            for _ in range(COUNT):
                connection = self.one(connection, *self.chance.choice(operations))
            taken = time.monotonic() - begin
            connection.link.close()
            print(f"{COUNT} requests in {taken:.0f} s, statuses "
                  f"{', '.join(f'{status}: {self.statuses[status]}' for status in sorted(self.statuses))}")
            self.assertGreater(self.accepted, COUNT / 20, "too few generated requests were good")
            self.assertEqual(self.service.request(
                "GET", "/readyz", headers={"Authorization": f"Bearer {KEY}"}).status, 200)
            self.assertEqual(self.service.close(), 0)


class Slow(unittest.TestCase):
    """Bytes that come too slowly, too many, or both: 4xx, and the connection closes."""

    def trickle(self, service, head, piece, results):
        link = socket.create_connection(("127.0.0.1", service.port), 60)
        link.sendall(head)
        begin = time.monotonic()
        data = b""
        link.settimeout(0.5)
        while time.monotonic() - begin < 40:
            try:
                part = link.recv(4096)
                if not part:
                    break
                data += part
            except TimeoutError:
                try:
                    link.sendall(piece)
                except OSError:
                    break
            except OSError:
                break
        results.append((data[9:12], time.monotonic() - begin))
        link.close()

    def test_slow_clients(self):
        service = Service()
        results = []
        kinds = ((b"GET /livez HTTP/1.1\r\nHost: a", b"a"),
                 (b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                  b"Content-Length: 100\r\n\r\n{", b""),
                 (b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                  b"Transfer-Encoding: chunked\r\n\r\n5", b""))
        threads = [threading.Thread(target=self.trickle, args=(service, *kind, results)) for kind in kinds * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print("slow requests ended with", sorted((status.decode(), round(seconds)) for status, seconds in results))
        self.assertEqual({status for status, _ in results}, {b"408"})
        self.assertLess(max(seconds for _, seconds in results), 30)
        self.assertEqual(service.request("GET", "/livez").status, 200)
        self.assertEqual(service.close(), 0)

    def test_too_much_of_everything(self):
        service = Service()
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        for data, status in (
                (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", b"414"),
                (b"A" * 9000, b"4"),
                (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 9000 + b"\r\n\r\n", b"431"),
                (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 101 + b"\r\n", b"431"),
                (head + b"Content-Length: 18446744073709551616\r\n\r\n", b"4"),
                (head + b"Content-Length: 16777217\r\n\r\n", b"413"),
                (head + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", b"4"),
                (head + b"Transfer-Encoding: chunked\r\n\r\n1000001\r\n", b"413"),
                (head + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 9000 + b"\r\n", b"4"),
                (b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n" * 3 + b"\x00", b"200")):
            with service.connect() as link:
                link.link.sendall(data)
                link.link.settimeout(20)
                got = b""
                while part := link.link.recv(65536):
                    got += part
                self.assertTrue(got[9:12].startswith(status), (data[:60], got[:200]))
        self.assertEqual(service.close(), 0)


if __name__ == "__main__":
    unittest.main()
