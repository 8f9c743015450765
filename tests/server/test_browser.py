"""The web page in a real browser: what a person does with it. Skipped where there is no Chromium."""
import json
import os
import pathlib
import struct
import tempfile
import unittest

import browser
from service import Service

SHOTS = pathlib.Path(os.environ["LLCUDA_BUILD"], "browser")
ANSWERS = "[...document.querySelectorAll('#messages article.assistant > div')].map(a => a.textContent)"
IDLE = "document.querySelector('#stop').disabled"


@unittest.skipUnless(browser.program(), "there is no Chromium: apt-get install chromium")
class Page(unittest.TestCase):
    def setUp(self):
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.service = None
        self.browser = browser.Browser(self.profile.name)

    def tearDown(self):
        self.browser.close()
        self.profile.cleanup()
        if self.service:
            self.assertEqual(self.service.close(), 0)

    def open(self, *options, environment=None):
        self.service = Service("--alias", "demo", *options, environment=environment)
        self.browser.go(f"http://127.0.0.1:{self.service.port}/")

    def ask(self, text, expected=1):
        page = self.browser
        page.type_text("#input", text)
        page.press("Enter", 13)
        self.assertTrue(page.until(f"{IDLE} && {ANSWERS}.length === {expected}"))
        return page.run(ANSWERS)[-1]

    def shot(self, name):
        """A screenshot that is kept; it must be a picture with something on it."""
        data = self.browser.screenshot(SHOTS / f"{name}.png")
        self.assertEqual(data[:8], b"\x89PNG\r\n\x1a\n")
        self.assertGreaterEqual(struct.unpack(">I", data[16:20])[0], 1000)
        self.assertGreater(len(data), 5000)

    def test_a_conversation(self):
        page = self.browser
        self.open()
        self.assertTrue(page.until("document.querySelector('#model').textContent === 'demo'"))
        answer = self.ask("What is 2+2?")
        body = {"messages": [{"role": "user", "content": "What is 2+2?"}]}
        self.assertEqual(answer.strip(), self.service.post("/v1/chat/completions", body).json()
                         ["choices"][0]["message"]["content"].strip())
        self.assertRegex(page.run("document.querySelector('#status').textContent"), r"^\d+ \+ \d+ tokens")
        second = self.ask("And 3+4?", 2)
        self.assertTrue(second)
        self.shot("chat-light")
        # Regenerate gives the same, since the model is greedy.
        page.click("#again")
        self.assertTrue(page.until(f"{IDLE} && {ANSWERS}.length === 2"))
        self.assertEqual(page.run(ANSWERS)[1], second)
        # It is still there after a reload, and in the list.
        page.call("Page.reload")
        self.assertTrue(page.until(f"document.readyState === 'complete' && {ANSWERS}.length === 2"))
        self.assertEqual(page.run("document.querySelector('#list').textContent"), "What is 2+2?")
        page.click("#new")
        self.assertEqual(page.run(ANSWERS), [])
        self.assertEqual(page.run("document.querySelectorAll('#list li').length"), 2)
        self.assertEqual(page.problems, [])

    def test_streaming_and_stop(self):
        page = self.browser
        self.open()
        self.assertTrue(page.until("document.querySelector('#model').textContent === 'demo'"))
        # Bias against the end tokens, so that the answer goes on until it is stopped.
        page.run("""window.realFetch = fetch; window.fetch = (url, options) => {
            if (options?.body) options = {...options, body: JSON.stringify({...JSON.parse(options.body),
                ignore_eos: true, temperature: 1})};
            return realFetch(url, options); }; 0""")
        page.type_text("#input", "Tell me a story.")
        page.press("Enter", 13)
        self.assertTrue(page.until(f"{ANSWERS}[0]?.length > 20"))
        first = len(page.run(ANSWERS)[0])
        self.assertTrue(page.until(f"{ANSWERS}[0].length > {first}"), "the answer grows while it is made")
        page.press("Escape", 27)
        self.assertTrue(page.until(IDLE))
        self.assertEqual(page.run("document.querySelector('#status').textContent"), "Stopped.")
        self.assertTrue(self.service.wait_for("llcuda_requests_running", 0, 3))
        self.assertTrue(page.run(ANSWERS)[0])

    def test_dark_and_live(self):
        page = self.browser
        self.open()
        self.ask("What is 2+2?")
        colour = "getComputedStyle(document.body).backgroundColor"
        before = page.run(colour)
        page.click("#theme")
        after = page.run(colour)
        self.assertNotEqual(before, after)
        self.shot("chat-dark" if page.run("document.documentElement.dataset.theme") == "dark" else
                  "chat-light-again")
        page.call("Page.reload")
        self.assertTrue(page.until(f"document.readyState === 'complete' && {colour} === {after!r}"))
        page.click("#show-live")
        self.assertTrue(page.until("document.querySelectorAll('#figures dt').length > 8"))
        names = page.run("[...document.querySelectorAll('#figures dt')].map(n => n.textContent)")
        for name in ("Tokens a second", "Running", "Waiting", "Rows a step", "Cache in use",
                     "Memory of the models"):
            self.assertIn(name, names)
        values = page.run("[...document.querySelectorAll('#figures dd')].map(n => n.textContent)")
        self.assertFalse([value for value in values if "NaN" in value or "undefined" in value], values)
        self.shot("live")
        self.assertEqual(page.problems, [])

    def test_live_devices(self):
        page = self.browser
        self.open()
        lines = ['llcuda_device_utilization_ratio{device="0",name="NVIDIA H200"} 0.42',
                 'llcuda_device_temperature_celsius{device="0",name="NVIDIA H200"} 54',
                 'llcuda_device_power_watts{device="0",name="NVIDIA H200"} 612.5',
                 'llcuda_device_memory_used_bytes{device="0",name="NVIDIA H200"} 1048576',
                 'llcuda_device_memory_bytes{device="0",name="NVIDIA H200"} 3145728',
                 'llcuda_device_temperature_celsius{device="1",name="a } \\"b\\""} 30']
        page.run(f"window.fetch = async () => new Response({json.dumps(chr(10).join(lines) + chr(10))}); 0")
        page.click("#show-live")
        self.assertTrue(page.until("document.querySelectorAll('#figures dt').length > 8"))
        rows = page.run("Object.fromEntries([...document.querySelectorAll('#figures dt')]"
                        ".map(n => [n.textContent, n.nextElementSibling.textContent])"
                        ".filter(([name]) => name.startsWith('GPU')))")
        self.assertEqual(rows, {"GPU 0 in use": "42 %", "GPU 0 temperature": "54 °C", "GPU 0 power": "613 W",
                                "GPU 0 memory": "1 MiB of 3 MiB", "GPU 1 temperature": "30 °C"})
        self.assertEqual(page.problems, [])

    def test_model_text_is_no_markup(self):
        page = self.browser
        self.open()
        self.assertTrue(page.until("document.querySelector('#model').textContent === 'demo'"))
        hostile = ("<img src=x onerror='window.bad=1'> **bold** `code` [a](javascript:alert(1)) "
                   "[b](https://example.org)\n\n```\n<b>x</b>\n```\n- one\n- two\n")
        chunk = {"choices": [{"delta": {"content": hostile, "reasoning_content": "<i>hm</i>"}}]}
        stream = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"
        page.run(f"window.fetch = async () => new Response({json.dumps(stream)}); 0")
        page.type_text("#input", "<script>window.bad=1</script>")
        page.press("Enter", 13)
        self.assertTrue(page.until(f"{IDLE} && {ANSWERS}.length === 1"))
        self.assertIsNone(page.run("window.bad ?? null"))
        inside = "#messages article.assistant > div"
        self.assertEqual(page.run(f"document.querySelectorAll('{inside} img, {inside} b, #messages script')"
                                  ".length"), 0)
        self.assertEqual(page.run(f"[...document.querySelectorAll('{inside} a')].map(a => a.href)"),
                         ["https://example.org/"])
        self.assertEqual(page.run(f"document.querySelector('{inside} strong').textContent"), "bold")
        self.assertEqual(page.run(f"document.querySelector('{inside} pre').textContent"), "<b>x</b>\n")
        self.assertEqual(page.run(f"document.querySelectorAll('{inside} li').length"), 2)
        self.assertEqual(page.run("document.querySelector('#messages details div').textContent"), "<i>hm</i>")
        self.shot("markdown")

    def test_with_a_key(self):
        page = self.browser
        self.open(environment={"LLCUDA_API_KEY": "secret"})
        self.assertTrue(page.until("document.querySelector('#model').textContent.includes('key')"))
        page.run("""(() => { const key = document.querySelector('#key'); key.value = 'secret';
                 key.dispatchEvent(new Event('change')); })()""")
        self.assertTrue(page.until("document.querySelector('#model').textContent === 'demo'"))
        self.assertTrue(self.ask("What is 2+2?"))
        self.assertNotIn("secret", page.run("JSON.stringify({...localStorage})"))

    def test_for_keyboards_and_screen_readers(self):
        page = self.browser
        self.open()
        nameless = page.run("""[...document.querySelectorAll('button, input, textarea, select')].filter(
            (one) => !one.textContent.trim() && !one.labels?.length && !one.ariaLabel).length""")
        self.assertEqual(nameless, 0, "every control has a name")
        self.assertEqual(page.run("document.documentElement.lang"), "en")
        self.assertEqual(page.run("document.querySelectorAll('[role=log][aria-live]').length"), 1)
        page.run("document.body.focus()")
        seen = set()
        for _ in range(12):
            page.press("Tab", 9)
            seen.add(page.run("document.activeElement.id || document.activeElement.className"))
        self.assertTrue({"skip", "show-chat", "theme", "new", "input"} <= seen | {""}, seen)


if __name__ == "__main__":
    unittest.main()
