"""GPUs from outside: the emulated one computes, and a fake of NVIDIA's libraries is what is wrong."""
import json
import os
import pathlib
import tempfile
import time
import unittest
import unittest.mock

from program import DEMO, ORACLE, run, run_json

FAKE = pathlib.Path(os.environ["FAKE_FOLDER"]).resolve()
STORIES = ORACLE / "models/stories260K-f32.gguf"
MODEL = STORIES if STORIES.exists() else DEMO / "hf"
LAYERS = run_json("plan", MODEL)["layers"]


class Folder(unittest.TestCase):
    """Compiled kernels go to a folder of their own, which all tests share."""
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.cache = pathlib.Path(cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def tell(self, *arguments, **keywords):
        """A few tokens of a story on the emulated GPU."""
        return run("infer", "-m", MODEL, "--device", "emu", "--kernel-cache", self.cache, "-p",
                   "Once upon", "-n", "6", "-c", "64", *arguments, **keywords)


class Layers(Folder):
    def test_the_same_words_wherever_layers_are(self):
        expected = run_json("infer", "-m", MODEL, "--device", "cpu", "-p", "Once upon", "-n", "6",
                            "-c", "64")
        self.assertEqual(expected["device"]["gpu_layers"], 0)
        for layers, on_gpu in (("0", 0), ("1", 1), (str(LAYERS // 2), LAYERS // 2),
                               (str(LAYERS), LAYERS), ("999", LAYERS), ("all", LAYERS)):
            answer = run_json("infer", "-m", MODEL, "--device", "emu", "--kernel-cache", self.cache,
                              "-p", "Once upon", "-n", "6", "-c", "64", "--gpu-layers", layers)
            self.assertEqual(answer["text"], expected["text"], layers)
            self.assertEqual(answer["device"]["gpu_layers"], on_gpu)
            self.assertEqual(answer["device"]["layers"], LAYERS)

    def test_auto_says_what_it_chose(self):
        result = self.tell("--gpu-layers", "auto")
        self.assertIn(f"the GPU computes {LAYERS} of {LAYERS} layers and the logits", result.err)

    def test_what_cannot_be(self):
        for wrong in ("some", "-1", "", "1.5", "4294967297"):
            self.assertIn("--gpu-layers is a number",
                          run("infer", "--gpu-layers=" + wrong, "-p", "x", status=2).err)
        alone = run("infer", "--device", "cpu", "--gpu-layers", "3", "-p", "x", status=1)
        self.assertIn("goes with a GPU", alone.err.replace("go with", "goes with"))


class Types(Folder):
    def test_a_type_without_a_kernel_is_told_once(self):
        file = self.cache / "iq4.gguf"
        run("quantize", DEMO / "hf", file, "iq4_nl")
        result = self.tell("-m", file)
        lines = [line for line in result.err.splitlines() if "iq4_nl" in line]
        self.assertEqual(len(lines), 1, result.err)
        self.assertRegex(lines[0], r"no kernel of the GPU reads iq4_nl: \d+ weights become f16 there, "
                         r"\d+ MB instead of \d+$")
        self.assertNotIn("no kernel", self.tell().err)


class Packs(unittest.TestCase):
    """A pack is made where there is a compiler, but no device is opened."""
    def make(self, status, **environment):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "kernels.pack"
            result = run("kernels", "-m", MODEL, "--arch", "sm_90a", "-o", path, "--cuda-path",
                         FAKE / "full", status=status,
                         environment={"FAKE_CUDA": "13000,90,0,0", **environment})
            return result, path.read_bytes()[:8] if path.exists() else None

    def test_a_pack(self):
        self.assertEqual(self.make(0)[1], b"LLCUDAKP")

    def test_a_compiler_that_fails(self):
        result, pack = self.make(1, FAKE_CUDA_FAIL="nvrtcCompileProgram")
        self.assertIn("cannot compile ", result.err)
        self.assertIn("NVRTC_ERROR_FAKE", result.err)
        self.assertIsNone(pack)


class Plan(Folder):
    def plan(self, *arguments):
        return run_json("plan", MODEL, "--device", "emu", "-c", "64", *arguments)

    def test_one_part_for_a_model_that_fits(self):
        plan = self.plan()
        self.assertTrue(plan["fits"])
        self.assertEqual(plan["gpu_layers_fit"], LAYERS)
        part, = plan["parts"]
        self.assertEqual((part["kind"], part["layer_begin"], part["layer_end"]), ("emu", 0, LAYERS))
        kinds = ("weight_bytes", "kv_bytes", "workspace_bytes", "step_bytes")
        self.assertEqual(part["total_bytes"], sum(part[kind] for kind in kinds))
        self.assertTrue(all(part[kind] > 0 for kind in kinds))
        text = run("plan", MODEL, "--device", "emu", "-c", "64").out
        for row in ("weights", "key-value cache", "workspace", "step data, logits", "driver, graphs",
                    "it fits", f"layers                 1 … {LAYERS} of {LAYERS}, embedding, logits"):
            self.assertIn(row, text)

    def test_a_limit_says_how_many_layers_fit(self):
        whole = self.plan()["parts"][0]["total_bytes"]
        least = self.plan("--gpu-layers", "1")["parts"][1]["total_bytes"]
        limit = str((whole + least) / 2 / 2**30)
        plan = self.plan("--gpu-memory-limit", limit)
        fitting = plan["gpu_layers_fit"]
        self.assertFalse(plan["fits"])
        self.assertTrue(plan["parts"][0]["is_limited"])
        self.assertTrue(0 < fitting < LAYERS)
        text = run("plan", MODEL, "--device", "emu", "-c", "64", "--gpu-memory-limit", limit).out
        self.assertIn(f"{fitting} of {LAYERS} layers would: --gpu-layers {fitting}", text)
        # The advice holds, and one layer more does not fit.
        shared = self.plan("--gpu-memory-limit", limit, "--gpu-layers", str(fitting))
        self.assertTrue(shared["fits"])
        self.assertEqual([part["kind"] for part in shared["parts"]], ["cpu", "emu"])
        self.assertEqual(shared["parts"][0]["layer_end"], shared["parts"][1]["layer_begin"])
        self.assertEqual(self.plan("--gpu-memory-limit", limit, "--gpu-layers", "auto"), {
            **shared, "free_bytes": unittest.mock.ANY, "parts": unittest.mock.ANY})
        more = self.plan("--gpu-memory-limit", limit, "--gpu-layers", str(fitting + 1))
        self.assertFalse(more["fits"])
        self.assertEqual(more["gpu_layers_fit"], fitting)

    def test_a_limit_as_a_share(self):
        part, = self.plan("--gpu-memory-limit", "25%")["parts"]
        self.assertTrue(part["is_limited"])
        self.assertEqual(part["available_bytes"], 2 << 30)
        for wrong in ("0%", "101%", "x", "1 GiB", "-1", "nan", "1%x", "0"):
            self.assertIn("--gpu-memory-limit is a number",
                          run("infer", "--gpu-memory-limit=" + wrong, "-p", "x", status=2).err)

    def test_a_limit_for_nothing(self):
        text = run("plan", MODEL, "--device", "emu", "-c", "64", "--gpu-memory-limit", "0.001").out
        self.assertIn("it does not fit, nor would one layer", text)


class Compiler(Folder):
    def test_a_second_process_needs_no_compiler(self):
        """What the first process compiled is all that the second needs; nothing is in memory."""
        broken = self.cache / "broken"
        broken.mkdir()
        (broken / "c++").write_text("#!/bin/sh\nexit 1\n")
        (broken / "c++").chmod(0o755)
        cache = {"XDG_CACHE_HOME": str(self.cache)}
        arguments = ("infer", "-m", MODEL, "--device", "emu", "-p", "Once upon", "-n", "6", "-c",
                     "64")
        without = run(*arguments, "--cuda-path", broken, environment=cache, status=1)
        self.assertIn("no C++ compiler is on this machine", without.err)
        first = run(*arguments, environment=cache)
        kernels = list((self.cache / "llcuda/kernels").glob("*.kernel"))
        self.assertTrue(kernels)
        second = run(*arguments, "--cuda-path", broken, environment=cache)
        self.assertEqual(second.out, first.out)
        self.assertEqual(sorted((self.cache / "llcuda/kernels").glob("*.kernel")), sorted(kernels))
        # A damaged entry is noticed: it would have to be compiled anew.
        kernels[0].write_bytes(kernels[0].read_bytes()[:-100])
        self.assertIn("compiler", run(*arguments, "--cuda-path", broken, environment=cache,
                                      status=1).err)


class Devices(unittest.TestCase):
    def devices(self, machine, *arguments, **keywords):
        return run("devices", "--device", "cuda", "--cuda-path", FAKE / "full", *arguments,
                   environment={"FAKE_CUDA": machine}, **keywords)

    def test_what_there_is_to_know(self):
        text = self.devices("13000,90,2,8000").out
        for words in ("cuda:0  Fake H200", "cuda:1  Fake H200", "PCI 0000:41:00.0", "driver 580.65.06",
                      "42 % busy", "54 °C", "612 W", "700 W at most", "PCIe 5 x16, 5 NVLinks of "
                      "26.6 GB/s each way: 2 to the GPU 0000:42:00.0, 3 to the switch 0000:a5:00.0",
                      "it answers, no uncorrected memory errors"):
            self.assertIn(words, text)
        first, second = json.loads(self.devices("13000,90,2,8000", "--json").out)
        self.assertEqual((first["index"], second["index"]), (0, 1))
        self.assertEqual(first["capability"], 90)
        self.assertEqual(first["driver"], "580.65.06")
        self.assertEqual(first["utilisation"], 0.42)
        self.assertEqual((first["health"], first["memory_errors"]), ("ok", 0))
        self.assertEqual(first["links"]["nvlinks"], 5)
        self.assertEqual(first["links"]["nvlink_bytes_per_second"], 26562e6)
        self.assertEqual(first["links"]["peers"][1],
                         {"pci_bus_id": "0000:a5:00.0", "kind": "switch", "nvlinks": 3})

    def test_a_device_with_errors(self):
        self.assertIn("7 uncorrected memory errors since the driver was loaded",
                      self.devices("13000,90,1,8000,7").out)
        row, = json.loads(self.devices("13000,90,1,8000,7", "--json").out)
        self.assertEqual((row["health"], row["memory_errors"]), ("memory_errors", 7))

    def test_a_driver_that_does_not_answer(self):
        for command, call, words in (("devices", "cuMemGetInfo_v2", "'memory_info'"),
                                     ("devices", "nvmlDeviceGetTemperature", "'telemetry'"),
                                     ("doctor", "cuDevicePrimaryCtxRetain", "'open'")):
            begin = time.monotonic()
            result = run(command, "--cuda-path", FAKE / "full", status=1, timeout=30, environment={
                "FAKE_CUDA": "13000,90,2,8000", "FAKE_CUDA_HANG": call})
            self.assertIn("the driver of cuda:0 did not answer " + words + " within 5 seconds",
                          result.err)
            self.assertEqual((result.out, result.err.count("\n")), ("", 1))
            self.assertTrue(4.5 < time.monotonic() - begin < 15)

    def test_the_emulated_one_is_shown_to_who_asks(self):
        row, = run_json("devices", "--device", "emu")
        self.assertEqual((row["kind"], row["links"]["nvlinks"]), ("emu", 0))
        self.assertNotIn("emu", [row["kind"] for row in run_json("devices")])


class WhatIsWrong(unittest.TestCase):
    """Each is a sentence that says what to do, exit 1; `auto` goes on with the CPU and says why."""
    CASES = (
        ("no driver", "none", "13000,90,1,8000", "cuda", (),
         "no NVIDIA driver on this machine (libcuda.so.1): install one"),
        ("an old driver", "full", "11080,90,1,8000", "cuda", (),
         "the NVIDIA driver knows CUDA 11.8 only: install version 525"),
        ("no NVRTC", "bare", "13000,90,1,8000", "cuda", (),
         "no NVRTC (libnvrtc.so) to compile kernels with: install it"),
        ("an old GPU", "full", "13000,61,1,8000", "cuda", (),
         "has compute capability 6.1; kernels need 7.0 or newer: use another GPU or --device cpu"),
        ("no such index", "full", "13000,90,2,8000", "cuda:7", (),
         "there is no CUDA device 7: the machine has 2 (`llcuda devices` lists them)"),
        ("no device", "full", "13000,90,0,8000", "cuda", (),
         "there is no CUDA device 0: the machine has 0"),
        ("a small limit", "full", "13000,90,1,8000", "cuda", ("--gpu-memory-limit", "0.001"),
         "are left of the limit: use a smaller --ctx or --batch, a model quantised further"),
        ("little memory", "full", "13000,90,1,70", "cuda", (), "MB are free: use a smaller --ctx"),
        ("no room for a block", "full", "13000,90,1,1", "cuda", ("--ctx", "100000"),
         "use a smaller"),
    )

    def infer(self, folder, machine, device, more, status):
        return run("infer", "-m", MODEL, "-p", "Once upon", "-n", "4", "-c", "64", "--device", device,
                   "--cuda-path", FAKE / folder, *more, status=status,
                   environment={"FAKE_CUDA": machine, "XDG_CACHE_HOME": "/nowhere"})

    def test_each(self):
        expected = run("infer", "-m", MODEL, "-p", "Once upon", "-n", "4", "-c", "64", "--device",
                       "cpu").out
        for what, folder, machine, device, more, sentence in self.CASES:
            with self.subTest(what):
                result = self.infer(folder, machine, device, more, 1)
                self.assertIn(sentence, result.err)
                self.assertEqual((result.out, result.err.count("\n")), ("", 1))
                if device == "cuda":
                    result = self.infer(folder, machine, "auto", more, 0)
                    self.assertEqual(result.out, expected)
                    self.assertIn("the GPU cannot be used, the CPU computes: ", result.err)
                    self.assertIn(sentence, result.err)

    def test_nobody_who_names_no_device_hears_of_gpus_that_are_not_there(self):
        quiet = run("infer", "-p", "x", "-n", "1", "--cuda-path", FAKE / "none")
        self.assertEqual(quiet.err, "")
        for layers, words in (("0", 0), ("3", 1), ("auto", 1)):
            asked = run("infer", "-p", "x", "-n", "1", "--cuda-path", FAKE / "none", "--gpu-layers",
                        layers)
            self.assertEqual(asked.err.count("the GPU cannot be used, the CPU computes: no NVIDIA"),
                             words, layers)
            self.assertEqual(asked.out, quiet.out)
        told = run("infer", "-p", "x", "-n", "1", "--cuda-path", FAKE / "full",
                   environment={"FAKE_CUDA": "11080,90,1"})
        self.assertIn("the NVIDIA driver knows CUDA 11.8 only", told.err)

    def test_a_model_too_large_for_the_limit(self):
        with tempfile.TemporaryDirectory() as cache:
            result = run("infer", "-m", MODEL, "--device", "emu", "-p", "x", "-n", "1", "-c", "64",
                         "--gpu-memory-limit", "0.002", "--kernel-cache", cache, status=1)
        self.assertRegex(result.err, r"the model needs \d+ MB on the GPU \(weights \d+, cache \d+, "
                                     r"workspace \d+, step data \d+\) and \d MB are left of the limit")
        for option in ("--ctx", "--batch", "quantised", "--gpu-layers auto", "--device cpu"):
            self.assertIn(option, result.err)


if __name__ == "__main__":
    unittest.main()
