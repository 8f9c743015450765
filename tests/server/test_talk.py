"""What depends on a chat template: formats of tool calls, reasoning, and the events of /v1/responses."""
import json
import os
import pathlib
import tempfile
import unittest

from service import Service

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
QUESTION = [{"role": "user", "content": "What is 2+2?"}]
TOOL = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
WEATHER = [{"role": "user", "content": "What is the weather in Paris?"}]
ORACLE = pathlib.Path(os.environ.get("LLCUDA_ORACLE", pathlib.Path(__file__).parents[2] / "../shared/oracle"))


class Templates(unittest.TestCase):
    def format_of(self, template):
        service = Service("--alias", "demo", "--template", template)
        try:
            meta = service.request("GET", "/v1/models/demo").json()["meta"]
            answer = service.post(CHAT, {"messages": WEATHER, "tools": [TOOL], "max_tokens": 3})
            return meta["tool_calls"], answer
        finally:
            self.assertEqual(service.close(), 0)

    def test_formats_of_known_models(self):
        folder = ORACLE / "templates"
        if not folder.is_dir():
            self.skipTest("there is no folder of oracle templates")
        for name, expected in (("Qwen-Qwen2.5-7B-Instruct", "tagged"),
                               ("meta-llama-Llama-3.1-8B-Instruct", "llama"),
                               ("meta-llama-Llama-3.2-3B-Instruct", "llama"),
                               ("mistralai-Mistral-Nemo-Instruct-2407", "mistral"),
                               ("microsoft-Phi-3.5-mini-instruct", "none"),
                               ("google-gemma-2-2b-it", "none")):
            found, answer = self.format_of(folder / f"{name}.jinja")
            self.assertEqual(found, expected, name)
            if expected == "none":
                self.assertEqual((answer.status, answer.error()["code"], answer.error()["param"]),
                                 (400, "unsupported_parameter", "tools"))
            else:
                self.assertEqual(answer.status, 200, answer.body)

    def test_unknown_formats_are_refused(self):
        with tempfile.NamedTemporaryFile("w", suffix=".jinja") as file:
            file.write("{% for t in tools or [] %}{{ t.function.name }}{% endfor %}"
                       "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}"
                       "CALL({{ c.function.name }}){% endfor %}{% endfor %}")
            file.flush()
            found, answer = self.format_of(file.name)
        self.assertEqual(found, "unknown")
        self.assertEqual((answer.status, answer.error()["param"]), (400, "tools"))

    def test_history_with_calls(self):
        """Arguments come as text and reach the template as an object; other members do not."""
        service = Service()
        messages = WEATHER + [
            {"role": "assistant", "content": None, "tool_calls": [{
                "id": "call_1", "type": "function",
                "function": {"name": "get_weather", "arguments": "{\"city\": \"Paris\"}"}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}]
        prompt = service.post("/apply-template", {"messages": messages, "tools": [TOOL]}).json()["prompt"]
        self.assertIn("sunny", prompt)
        self.assertIn('"get_weather"', prompt)
        self.assertNotIn('\\"city\\"', prompt)
        none = service.post("/apply-template", {"messages": WEATHER, "tools": [TOOL],
                                                "tool_choice": "none"}).json()["prompt"]
        self.assertNotIn("get_weather", none)
        self.assertEqual(service.close(), 0)


class Reasoning(unittest.TestCase):
    """A template that opens the reasoning; the model never closes it, so all of it is reasoning."""

    @classmethod
    def setUpClass(cls):
        cls.file = tempfile.NamedTemporaryFile("w", suffix=".jinja")
        cls.file.write("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
                       "{% endfor %}<|im_start|>assistant\n<think>\n")
        cls.file.flush()
        cls.service = Service("--template", cls.file.name)

    @classmethod
    def tearDownClass(cls):
        cls.file.close()
        assert cls.service.close() == 0

    def test_its_own_field(self):
        body = {"messages": QUESTION, "max_tokens": 12, "ignore_eos": True}
        whole = self.service.post(CHAT, body).json()
        message = whole["choices"][0]["message"]
        self.assertEqual(message["content"], "")
        self.assertTrue(message["reasoning_content"])
        self.assertEqual(whole["usage"]["completion_tokens_details"]["reasoning_tokens"], 12)
        chunks = self.service.post(CHAT, {**body, "stream": True}).chunks()
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        self.assertEqual("".join(delta.get("reasoning_content", "") for delta in deltas),
                         message["reasoning_content"])
        self.assertEqual("".join(delta.get("content", "") for delta in deltas), "")
        together = self.service.post(CHAT, {**body, "separate_reasoning": False}).json()
        self.assertEqual(together["choices"][0]["message"]["content"].strip(),
                         message["reasoning_content"].strip())
        self.assertNotIn("reasoning_content", together["choices"][0]["message"])

    def test_in_responses(self):
        body = {"input": "What is 2+2?", "max_output_tokens": 6, "ignore_eos": True}
        output = self.service.post(RESPONSES, body).json()["output"]
        self.assertEqual([item["type"] for item in output], ["reasoning"])
        events = self.service.post(RESPONSES, {**body, "stream": True}).body.decode()
        self.assertIn("event: response.reasoning_text.delta\n", events)
        self.assertIn("event: response.reasoning_text.done\n", events)


def events_of(answer):
    """Names and data of a stream's events, which must agree."""
    found = []
    for part in answer.body.decode().split("\n\n"):
        if part.startswith("event: "):
            name, data = part.split("\n", 1)
            found.append(json.loads(data.removeprefix("data: ")))
            assert found[-1]["type"] == name.removeprefix("event: ")
    return found


class Responses(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.service = Service("--alias", "demo", "--drain-timeout", "0.2")

    @classmethod
    def tearDownClass(cls):
        assert cls.service.close() == 0

    def test_events(self):
        events = events_of(self.service.post(RESPONSES, {
            "input": WEATHER, "tools": [{"type": "function", **TOOL["function"]}], "stream": True,
            "max_output_tokens": 60}))
        self.assertEqual([event["sequence_number"] for event in events], list(range(len(events))))
        self.assertEqual(events[0]["response"]["status"], "in_progress")
        done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
        self.assertEqual(events[-1]["response"]["output"], done)
        call = done[-1]
        self.assertEqual(call["type"], "function_call")
        pieces = [event["delta"] for event in events
                  if event["type"] == "response.function_call_arguments.delta"]
        self.assertEqual("".join(pieces), call["arguments"])
        again = self.service.post(RESPONSES, {"input": [
            *WEATHER, call, {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}],
            "max_output_tokens": 5})
        self.assertEqual(again.status, 200, again.body)

    def test_input_forms_agree(self):
        forms = ("What is 2+2?", QUESTION, [{"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "What is "}, {"type": "input_text", "text": "2+2?"}]}])
        answers = [self.service.post(RESPONSES, {"input": form, "max_output_tokens": 6}).json()
                   for form in forms]
        texts = {answer["output"][0]["content"][0]["text"] for answer in answers}
        self.assertEqual(len(texts), 1)

    def test_refusals(self):
        for body, code, param in (
                ({}, "missing_required_parameter", "input"),
                ({"input": []}, "invalid_value", "input"),
                ({"input": [{"type": "image"}]}, "unsupported_parameter", "input"),
                ({"input": [{"role": "user"}]}, "invalid_value", "input"),
                ({"input": [{"type": "function_call", "call_id": "a"}]}, "invalid_value", "input"),
                ({"input": [{"type": "function_call_output", "output": "a"}]}, "invalid_value", "input"),
                ({"input": "a", "instructions": 3}, "invalid_value", "instructions"),
                ({"input": "a", "conversation": "c"}, "unsupported_parameter", "conversation"),
                ({"input": "a", "background": True}, "unsupported_parameter", "background"),
                ({"input": "a", "truncation": "auto"}, "unsupported_parameter", "truncation"),
                ({"input": "a", "text": {"format": {"type": "json_schema"}}}, "unsupported_parameter", "text"),
                ({"input": "a", "tools": [{"type": "web_search"}]}, "unsupported_parameter", "tools"),
                ({"input": "a", "tool_choice": {"type": "function", "name": "f"}}, "unsupported_parameter",
                 "tool_choice")):
            answer = self.service.post(RESPONSES, body)
            self.assertEqual((answer.status, answer.error()["code"], answer.error()["param"]),
                             (400, code, param), body)
        ignored = self.service.post(RESPONSES, {"input": "a", "store": True, "max_output_tokens": 1,
                                                "reasoning": {"effort": "low"}})
        self.assertEqual(ignored.headers["x-llcuda-ignored-fields"], "store,reasoning")

    def test_a_stream_that_is_cut_says_so(self):
        service = Service("--drain-timeout", "0.2")
        with service.connect() as link:
            link.send("POST", RESPONSES, {"input": "Once", "stream": True, "ignore_eos": True,
                                          "max_output_tokens": 1500, "temperature": 1})
            link.head()
            rest = link.chunk()
            service.stop()
            while data := link.chunk():
                rest += data
        self.assertIn(b"event: error\n", rest)
        last = rest.decode().rstrip().split("\n\n")[-1]
        self.assertTrue(last.startswith("event: response.failed\n"), last[:100])
        self.assertEqual(json.loads(last.split("data: ", 1)[1])["response"]["status"], "failed")
        self.assertEqual(service.close(), 0)


class Embeddings(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.service = Service()

    @classmethod
    def tearDownClass(cls):
        assert cls.service.close() == 0

    def test_vectors(self):
        import base64
        import struct
        post = lambda **body: self.service.post("/v1/embeddings", body)
        numbers = post(input=["The dog runs.", "Rates rose."]).json()
        text = post(input="The dog runs.", encoding_format="base64").json()["data"][0]["embedding"]
        data = base64.b64decode(text)
        self.assertEqual(list(struct.unpack(f"<{len(data) // 4}f", data)),
                         [struct.unpack("<f", struct.pack("<f", x))[0] for x in
                          numbers["data"][0]["embedding"]])
        mean, last, own = (post(input="The dog runs.", **more).json()["data"][0]["embedding"]
                           for more in ({"pooling": "mean"}, {"pooling": "last"}, {}))
        self.assertNotEqual(mean, last)
        self.assertEqual(last, own)
        self.assertEqual(numbers["usage"]["prompt_tokens"], numbers["usage"]["total_tokens"])
        # Beside generation and among others the vector is the same.
        with self.service.connect() as link:
            link.send("POST", CHAT, {"messages": QUESTION, "max_tokens": 300, "stream": True})
            again = post(input=["x", "The dog runs.", "y"], pooling="mean").json()["data"][1]["embedding"]
        self.assertEqual(again, mean)

    def test_refusals(self):
        for body, param in (({}, "input"), ({"input": []}, "input"), ({"input": [-1]}, "input"),
                            ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
                            ({"input": "a", "pooling": "max"}, "pooling"),
                            ({"input": "a", "dimensions": 3}, "dimensions"),
                            ({"input": "word " * 5000}, "input")):
            answer = self.service.post("/v1/embeddings", body)
            self.assertEqual((answer.status, answer.error()["param"]), (400, param), body)


if __name__ == "__main__":
    unittest.main()
