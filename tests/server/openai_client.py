"""The official OpenAI package, unmodified, against `llcuda serve`: run by test_openai.py with the
Python of a virtual environment that has it."""
import asyncio
import json
import threading
import unittest

import openai

from service import Service

QUESTION = [{"role": "user", "content": "What is 2+2?"}]
KEY = "secret-key"
TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a city", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]


class Client(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.service = Service("--alias", "demo", environment={"LLCUDA_API_KEY": KEY})
        cls.base = f"http://127.0.0.1:{cls.service.port}/v1"
        cls.client = openai.OpenAI(base_url=cls.base, api_key=KEY, timeout=120)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        assert cls.service.close() == 0

    def test_models(self):
        self.assertEqual([model.id for model in self.client.models.list()], ["demo"])
        self.assertEqual(self.client.models.retrieve("demo").owned_by, "llcuda")
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("other")

    def test_chat(self):
        answer = self.client.chat.completions.create(model="demo", messages=QUESTION, max_tokens=8)
        self.assertEqual(answer.choices[0].message.role, "assistant")
        self.assertTrue(answer.choices[0].message.content)
        self.assertEqual(answer.usage.total_tokens,
                         answer.usage.prompt_tokens + answer.usage.completion_tokens)
        self.assertEqual(answer.usage.prompt_tokens_details.cached_tokens % 16, 0)
        self.assertTrue(answer._request_id)

    def test_stream(self):
        options = {"model": "demo", "messages": QUESTION, "max_tokens": 10, "temperature": 1, "seed": 5}
        whole = self.client.chat.completions.create(**options)
        text, usage = "", None
        for chunk in self.client.chat.completions.create(**options, stream=True,
                                                         stream_options={"include_usage": True}):
            if chunk.choices:
                text += chunk.choices[0].delta.content or ""
            usage = chunk.usage or usage
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(usage.completion_tokens, whole.usage.completion_tokens)

    def test_stream_helper(self):
        with self.client.chat.completions.stream(model="demo", messages=QUESTION, max_tokens=6) as stream:
            for _ in stream:
                pass
            final = stream.get_final_completion()
        self.assertTrue(final.choices[0].message.content)

    def test_completions(self):
        answer = self.client.completions.create(model="demo", prompt=["Once upon", "The"], n=2,
                                                max_tokens=4, temperature=1)
        self.assertEqual([choice.index for choice in answer.choices], [0, 1, 2, 3])
        text = "".join(chunk.choices[0].text for chunk in self.client.completions.create(
            model="demo", prompt="Once upon", max_tokens=4, stream=True))
        self.assertTrue(text)

    def test_logprobs(self):
        chat = self.client.chat.completions.create(model="demo", messages=QUESTION, max_tokens=3,
                                                   logprobs=True, top_logprobs=2)
        content = chat.choices[0].logprobs.content
        self.assertEqual(len(content), chat.usage.completion_tokens)
        self.assertEqual(len(content[0].top_logprobs), 2)
        text = self.client.completions.create(model="demo", prompt="Once", max_tokens=3, logprobs=3)
        self.assertEqual(len(text.choices[0].logprobs.token_logprobs), 3)

    def test_extensions(self):
        answer = self.client.chat.completions.with_raw_response.create(
            model="demo", messages=QUESTION, max_tokens=3, user="me",
            extra_body={"top_k": 1, "min_p": 0.5, "colour": 1})
        self.assertEqual(answer.headers["x-llcuda-unknown-fields"], "colour")
        self.assertEqual(answer.headers["x-llcuda-ignored-fields"], "user")
        self.assertEqual(len(answer.parse().choices), 1)

    def test_errors(self):
        create = self.client.chat.completions.create
        with self.assertRaises(openai.BadRequestError) as caught:
            create(model="demo", messages=QUESTION, temperature=-1)
        self.assertEqual((caught.exception.code, caught.exception.param), ("invalid_value", "temperature"))
        with self.assertRaises(openai.NotFoundError) as caught:
            create(model="gpt-4o", messages=QUESTION)
        self.assertEqual(caught.exception.code, "model_not_found")
        with self.assertRaises(openai.BadRequestError) as caught:
            create(model="demo", messages=QUESTION, max_tokens=10 ** 6)
        self.assertEqual(caught.exception.code, "context_length_exceeded")
        with self.assertRaises(openai.AuthenticationError) as caught:
            self.client.with_options(api_key="wrong").models.list()
        self.assertEqual(caught.exception.code, "invalid_api_key")

    def test_embeddings(self):
        texts = ["The dog runs.", "A dog is running.", "Interest rates rose."]
        answer = self.client.embeddings.create(model="demo", input=texts)
        vectors = [item.embedding for item in answer.data]
        self.assertEqual([item.index for item in answer.data], [0, 1, 2])
        for vector in vectors:
            self.assertAlmostEqual(sum(x * x for x in vector), 1, places=4)
        plain = self.client.embeddings.create(model="demo", input=texts[1], encoding_format="float")
        for x, y in zip(vectors[1], plain.data[0].embedding):
            self.assertAlmostEqual(x, y, places=6)
        mean = self.client.embeddings.create(model="demo", input=texts[1],
                                             extra_body={"pooling": "mean"}).data[0].embedding
        self.assertNotEqual(mean, vectors[1])
        ids = self.client.embeddings.create(model="demo", input=[[5, 6, 7], [5, 6]])
        self.assertEqual(len(ids.data), 2)
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens)
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.embeddings.create(model="demo", input="a", dimensions=3)
        self.assertEqual(caught.exception.param, "dimensions")

    def test_tools(self):
        create = self.client.chat.completions.create
        messages = [{"role": "user", "content": "What is the weather in Paris?"}]
        answer = create(model="demo", messages=messages, tools=TOOLS, max_tokens=60)
        self.assertEqual(answer.choices[0].finish_reason, "tool_calls")
        call = answer.choices[0].message.tool_calls[0]
        self.assertEqual(call.function.name, "get_weather")
        self.assertEqual(json.loads(call.function.arguments), {"city": "Paris"})
        self.assertIsNone(answer.choices[0].message.content)
        with self.client.chat.completions.stream(model="demo", messages=messages, tools=TOOLS,
                                                 max_tokens=60) as stream:
            for _ in stream:
                pass
            streamed = stream.get_final_completion().choices[0].message.tool_calls[0].function
        self.assertEqual((streamed.name, json.loads(streamed.arguments)),
                         ("get_weather", {"city": "Paris"}))
        messages += [answer.choices[0].message.model_dump(exclude_none=True),
                     {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
        after = create(model="demo", messages=messages, tools=TOOLS, max_tokens=20)
        self.assertTrue(after.choices[0].message.content or after.choices[0].message.tool_calls)
        none = create(model="demo", messages=messages[:1], tools=TOOLS, tool_choice="none", max_tokens=9)
        self.assertIsNone(none.choices[0].message.tool_calls)
        with self.assertRaises(openai.BadRequestError) as caught:
            create(model="demo", messages=messages[:1], tools=TOOLS, tool_choice="required")
        self.assertEqual(caught.exception.code, "unsupported_parameter")

    def test_responses(self):
        create = self.client.responses.create
        chat = self.client.chat.completions.create(model="demo", messages=QUESTION, max_tokens=8)
        answer = create(model="demo", input="What is 2+2?", max_output_tokens=8)
        self.assertEqual(answer.output_text, chat.choices[0].message.content)
        self.assertEqual((answer.status, answer.usage.input_tokens), ("completed",
                                                                      chat.usage.prompt_tokens))
        same = create(model="demo", instructions="Be brief.", input=[
            {"role": "user", "content": [{"type": "input_text", "text": "What is 2+2?"}]}],
            max_output_tokens=8)
        self.assertGreater(same.usage.input_tokens, answer.usage.input_tokens)
        cut = create(model="demo", input="Once upon a time", max_output_tokens=3,
                     extra_body={"ignore_eos": True})
        self.assertEqual((cut.status, cut.incomplete_details.reason),
                         ("incomplete", "max_output_tokens"))
        kinds, text = [], ""
        for event in create(model="demo", input="What is 2+2?", max_output_tokens=8, stream=True):
            self.assertEqual(event.sequence_number, len(kinds))
            kinds.append(event.type)
            text += event.delta if event.type == "response.output_text.delta" else ""
        self.assertEqual(text, answer.output_text)
        self.assertEqual(kinds[:4], ["response.created", "response.in_progress",
                                     "response.output_item.added", "response.content_part.added"])
        self.assertEqual(kinds[-4:], ["response.output_text.done", "response.content_part.done",
                                      "response.output_item.done", "response.completed"])
        self.assertEqual(event.response.output_text, text)
        with self.assertRaises(openai.BadRequestError) as caught:
            create(model="demo", input="a", previous_response_id="resp_1")
        self.assertEqual(caught.exception.param, "previous_response_id")

    def test_responses_tools(self):
        tools = [{"type": "function", **TOOLS[0]["function"]}]
        question = [{"role": "user", "content": "What is the weather in Paris?"}]
        answer = self.client.responses.create(model="demo", input=question, tools=tools,
                                              max_output_tokens=60)
        call = answer.output[-1]
        self.assertEqual((call.type, call.name, json.loads(call.arguments)),
                         ("function_call", "get_weather", {"city": "Paris"}))
        with self.client.responses.stream(model="demo", input=question, tools=tools,
                                          max_output_tokens=60) as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_response()
        self.assertIn("response.function_call_arguments.done", kinds)
        self.assertEqual(final.output[-1].arguments, call.arguments)
        after = self.client.responses.create(
            model="demo", tools=tools, max_output_tokens=20,
            input=question + [call.model_dump(exclude_none=True), {
                "type": "function_call_output", "call_id": call.call_id, "output": "sunny"}])
        self.assertTrue(after.output)

    def test_reasoning_in_history(self):
        """What a template sees of earlier reasoning is the template's business; it must not fail."""
        messages = QUESTION + [{"role": "assistant", "content": "4", "reasoning_content": "easy"},
                               {"role": "user", "content": "And 3+3?"}]
        answer = self.client.chat.completions.create(model="demo", messages=messages, max_tokens=5)
        self.assertEqual(answer.usage.completion_tokens_details.reasoning_tokens, 0)

    def test_async(self):
        async def run():
            async with openai.AsyncOpenAI(base_url=self.base, api_key=KEY, timeout=120) as client:
                answers = await asyncio.gather(*(client.chat.completions.create(
                    model="demo", messages=QUESTION, max_tokens=6) for _ in range(8)))
                texts = {answer.choices[0].message.content for answer in answers}
                self.assertEqual(len(texts), 1)
                streamed = ""
                async for chunk in await client.chat.completions.create(
                        model="demo", messages=QUESTION, max_tokens=6, stream=True):
                    streamed += chunk.choices[0].delta.content or ""
                self.assertEqual({streamed}, texts)
                self.assertEqual([model.id async for model in client.models.list()], ["demo"])
                with self.assertRaises(openai.BadRequestError):
                    await client.completions.create(model="demo", prompt="a", n=0)
                vectors = await asyncio.gather(*(client.embeddings.create(
                    model="demo", input=["one", "two"]) for _ in range(4)))
                self.assertEqual(len({tuple(item.data[0].embedding) for item in vectors}), 1)
                said = await client.responses.create(model="demo", input="What is 2+2?",
                                                     max_output_tokens=6)
                self.assertTrue(said.output_text)
                tool = await client.chat.completions.create(
                    model="demo", messages=[{"role": "user", "content": "What is the weather in "
                                             "Paris?"}], tools=TOOLS, max_tokens=60)
                self.assertTrue(tool.choices[0].message.tool_calls)
                text = ""
                async for chunk in await client.completions.create(model="demo", prompt="Once",
                                                                   max_tokens=4, stream=True):
                    text += chunk.choices[0].text
                self.assertTrue(text)
        asyncio.run(run())


class Retries(unittest.TestCase):
    """The package tries again by itself after 429, and heeds Retry-After."""

    def test_full_queue_then_room(self):
        service = Service("--alias", "demo", "--running-max", 40, "--queue-max", 40)
        blocker = service.connect()
        blocker.send("POST", "/v1/completions", {"prompt": "Once", "max_tokens": 1500, "n": 40,
                                                 "ignore_eos": True, "stream": True})
        blocker.head()
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{service.port}/v1", api_key="any",
                               timeout=120)
        create = {"model": "demo", "messages": QUESTION, "max_tokens": 2}
        with self.assertRaises(openai.RateLimitError) as caught:
            client.with_options(max_retries=0).chat.completions.create(**create)
        self.assertEqual(caught.exception.code, "queue_full")
        timer = threading.Timer(0.5, blocker.link.close)
        timer.start()
        answer = client.with_options(max_retries=5).chat.completions.create(**create)
        timer.join()
        self.assertTrue(answer.choices)
        client.close()
        self.assertEqual(service.close(), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
