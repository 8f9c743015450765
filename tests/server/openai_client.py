"""The official OpenAI package, unmodified, against `llcuda serve`: run by test_openai.py with the
Python of a virtual environment that has it."""
import asyncio
import threading
import unittest

import openai

from service import Service

QUESTION = [{"role": "user", "content": "What is 2+2?"}]
KEY = "secret-key"


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
