"""What the CPU's kernels round, on the built-in model in every type of weight that can be written: logits
against the scalar level on the same weights in float32, with a cache of float32, and perplexity. For that
the text must be long, and the float32 kernels stand in for the scalar level once they have given the same."""
import array
import math
import os
import struct
import tempfile
import unittest

from program import DEMO, run, run_json

QUICK = ["q8_0", "q4_k_m", "bf16"]
ALL = QUICK + ["f32", "f16", "q6_k", "q5_k_m", "q5_k_s", "q5_0", "q5_1", "q4_k_s", "q4_0", "q4_1", "iq4_nl",
               "iq4_xs", "mxfp4", "q3_k_l", "q3_k_m", "q3_k_s", "q2_k", "q2_k_s", "tq2_0", "tq1_0"]
LOGITS_LIMIT = 2e-2
PERPLEXITY_LIMIT = 5e-3
BEST = ["--device", "cpu"]
FLOAT = ["--device", "cpu", "--cache-type", "f32"]
REFERENCE = [*FLOAT, "--cpu-level", "scalar"]


def floats(path):
    """The values of a float32 .npy file."""
    data = path_bytes(path)
    values = array.array("f")
    values.frombytes(data[10 + struct.unpack("<H", data[8:10])[0]:])
    return values


def path_bytes(path):
    with open(path, "rb") as stream:
        return stream.read()


def text():
    """What the model was trained on: sums with their answers."""
    return " ".join(f"What is {a}+{b}? {a + b}" for a in range(2, 90, 4) for b in range(3, 99, 3))


class Quality(unittest.TestCase):
    """One folder of quantised models a test."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.text = os.path.join(folder.name, "text")
        with open(self.text, "w", encoding="utf-8") as stream:
            stream.write(text())
        self.ids = " ".join(run("tokenize", "-f", self.text).out.split()[:120])

    def logits(self, model, options):
        path = os.path.join(self.folder, "logits.npy")
        run("eval", "-m", model, "--ids", self.ids, "--logits", path, *options)
        return floats(path)

    def perplexity(self, model, options):
        return run_json("perplexity", "-m", model, "-f", self.text, *options)["perplexity"]

    def check(self, kind, best):
        weights = os.path.join(self.folder, kind + ".gguf")
        plain = os.path.join(self.folder, kind + "-f32.gguf")
        run("quantize", DEMO / "llcuda-demo-q8_0.gguf", weights, kind)
        run("quantize", weights, plain, "f32")
        actual, expected = self.logits(weights, best), self.logits(plain, REFERENCE)
        self.assertEqual(len(actual), len(expected))
        error = math.sqrt(sum((a - b) ** 2 for a, b in zip(actual, expected)))
        norm = math.sqrt(sum(b * b for b in expected))
        self.assertGreater(norm, 0)
        self.assertLess(error / norm, LOGITS_LIMIT)
        actual, expected = self.perplexity(weights, best), self.perplexity(plain, FLOAT)
        self.assertLess(abs(actual / expected - 1), PERPLEXITY_LIMIT)

    def test_float_kernels(self):
        short = os.path.join(self.folder, "short")
        with open(short, "w", encoding="utf-8") as stream:
            stream.write(text()[:1500])
        self.text = short
        weights = os.path.join(self.folder, "f32.gguf")
        run("quantize", DEMO / "llcuda-demo-q8_0.gguf", weights, "f32")
        expected = self.perplexity(weights, REFERENCE)
        self.assertLess(abs(self.perplexity(weights, FLOAT) / expected - 1), 1e-5)

    def test_types(self):
        for kind in ALL if os.environ.get("TEST_LONG") else QUICK:
            with self.subTest(kind):
                self.check(kind, BEST)

    def test_asked_for_by_name(self):
        """Where the CPU lacks what is asked for, this is the level below."""
        for level in ["avx512-bf16", "amx"]:
            with self.subTest(level):
                self.check("bf16", [*BEST, "--cpu-level", level])


if __name__ == "__main__":
    unittest.main()
