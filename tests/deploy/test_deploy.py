"""What deploy/ holds, checked by the tools that it is made for. A tool that cannot be had skips its test
with a message; what has never been run at all is named in deploy/README.md."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import unittest

sys.path.append(str(pathlib.Path(__file__).parents[1] / "server"))
from service import PROGRAM, Service  # noqa: E402
from set_up_python import python_with  # noqa: E402

DEPLOY = pathlib.Path(__file__).parents[2] / "deploy"
VALIDATE = """
import sys, yaml, kubernetes_validate
count = 0
for document in yaml.safe_load_all(sys.stdin):
    if document and not document["apiVersion"].startswith("monitoring.coreos.com"):
        kubernetes_validate.validate(document, "1.28", strict=True)
        count += 1
print(count)
"""


def run(*command, **more):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300,
                          check=False, **more)


def metric_names(text):
    return set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))


def used_names(text):
    """Names of metrics in expressions, histograms' suffixes taken off."""
    return {re.sub("_(bucket|sum|count)$", "", name)
            for name in re.findall(r"\b((?:llcuda|process)_[a-z0-9_]+)", text)}


# Only served where there is an accelerator; the table of names in the program is looked at instead.
def device_names():
    source = (DEPLOY.parent / "src/server/metrics.c").read_text()
    return set(re.findall(r'"(llcuda_device_[a-z_]+)"', source))


class Metrics(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        service = Service("--metrics-compat", "vllm")
        service.post("/v1/completions", {"prompt": "a", "max_tokens": 2})
        service.request("GET", "/v1/completions")
        cls.text = service.request("GET", "/metrics").body.decode()
        assert service.close() == 0

    def test_exposition(self):
        if not shutil.which("promtool"):
            self.skipTest("there is no promtool (Debian package prometheus)")
        done = run("promtool", "check", "metrics", input=self.text)
        # vLLM's names have colons, which promtool notes; anything else is a mistake.
        notes = [line for line in (done.stdout + done.stderr).splitlines()
                 if line and "vllm:" not in line]
        self.assertEqual(notes, [])

    def test_rules(self):
        names = metric_names(self.text) | device_names()
        used = used_names((DEPLOY / "prometheus/llcuda-alerts.yaml").read_text())
        self.assertGreater(len(used), 6)
        self.assertEqual(used - names, set())
        if not shutil.which("promtool"):
            self.skipTest("there is no promtool (Debian package prometheus)")
        for command in (("check", "rules", "llcuda-alerts.yaml"),
                        ("test", "rules", "llcuda-alerts.test.yaml")):
            done = run("promtool", *command, cwd=DEPLOY / "prometheus")
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_dashboard(self):
        dashboard = json.loads((DEPLOY / "grafana/llcuda.json").read_text())
        expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
        self.assertGreater(len(expressions), 20)
        used = used_names("\n".join(expressions))
        self.assertEqual(used - metric_names(self.text) - device_names(), set())
        self.assertEqual(len({panel["id"] for panel in dashboard["panels"]}), len(dashboard["panels"]))
        boxes = [panel["gridPos"] for panel in dashboard["panels"]]
        for one in boxes:
            self.assertLessEqual(one["x"] + one["w"], 24)
            for other in boxes:
                apart = (one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"] or
                         one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"])
                self.assertTrue(one is other or apart, (one, other))
        if shutil.which("promtool"):
            rules = {"groups": [{"name": "dashboard", "rules": [
                {"record": f"panel:{i}", "expr": re.sub(r"\$__rate_interval", "1m", expression)
                 .replace("$instance", ".*").replace("$model", ".*")}
                for i, expression in enumerate(expressions)]}]}
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                json.dump(rules, file)
                file.flush()
                done = run("promtool", "check", "rules", file.name)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class Systemd(unittest.TestCase):
    def test_unit(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("there is no systemd-analyze")
        unit = (DEPLOY / "systemd/llcuda.service").read_text()
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "llcuda.service")
            path.write_text(unit.replace("/usr/bin/llcuda", PROGRAM))
            done = run("systemd-analyze", "verify", path)
            self.assertEqual((done.returncode, done.stderr.strip()), (0, ""))
            path.write_text(unit.replace("/usr/bin/llcuda", PROGRAM).replace("Type=notify", "Type=nonsense"))
            self.assertIn("nonsense", run("systemd-analyze", "verify", path).stderr, "the tool sees mistakes")

    def test_configuration(self):
        """Everything in it is an option; only the model is not there."""
        done = run(PROGRAM, "serve", "--config", DEPLOY / "systemd/llcuda.yaml", "--no-key")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("/var/lib/llcuda/model.gguf", done.stderr)
        told = run(PROGRAM, "serve", "--help").stdout
        unit = (DEPLOY / "systemd/llcuda.service").read_text()
        for option in re.findall(r"--[a-z-]+", re.search("^ExecStart=(.*)$", unit, re.MULTILINE)[1]):
            self.assertIn(option, told)


class Containers(unittest.TestCase):
    def test_files(self):
        """They are not built here; packages and options in them must at least exist."""
        listed = (DEPLOY.parent / "scripts/install-packages").read_text()
        for name in ("Containerfile", "Containerfile.cuda"):
            text = (DEPLOY / "container" / name).read_text()
            for package in re.findall(r"\blib\w+-dev\b", text):
                self.assertIn(package, listed, name)
            self.assertRegex(text, r"(?m)^USER 10001$")
            self.assertEqual(text.count("\nFROM ") + text.startswith("FROM "), 2)
        told = (DEPLOY.parent / "docs/options.md").read_text()
        for variable in re.findall(r"LLCUDA_([A-Z_]+)=", text):
            self.assertIn(f"`--{variable.lower().replace('_', '-')} ", told)


class Kubernetes(unittest.TestCase):
    def validate(self, text):
        python = python_with("kubernetes-venv", "kubernetes-validate", "PyYAML")
        if not python:
            self.skipTest("kubernetes-validate cannot be had")
        done = run(python, "-c", VALIDATE, input=text)
        self.assertEqual(done.returncode, 0, done.stderr[-1500:])
        return int(done.stdout)

    def test_manifests(self):
        text = (DEPLOY / "kubernetes/llcuda.yaml").read_text()
        self.assertEqual(self.validate(text), 5)
        with self.assertRaises(AssertionError, msg="the tool sees mistakes"):
            self.validate(text.replace("failureThreshold: 360", "failureTreshold: 360"))

    # Of the cluster that is pretended; a helm that was built without its release's flags knows 1.20.
    version = ("--kube-version", "1.28.0")

    def helm(self, *options):
        built = DEPLOY.parent / "build/tools/helm"  # by scripts/install-deploy-tools
        program = os.environ.get("LLCUDA_HELM") or (built if built.exists() else shutil.which("helm"))
        if not program:
            self.skipTest("there is no helm: the chart's templates have not been run")
        return run(program, *options)

    def check_configuration(self, rendered):
        """The program takes the chart's configuration; only the model is not there."""
        files = re.findall(r"^  (\w+\.yaml): \|\n((?:    .*\n)+)", rendered, re.MULTILINE)
        self.assertIn("llcuda.yaml", dict(files))
        with tempfile.TemporaryDirectory() as folder:
            options = ["--config", f"{folder}/llcuda.yaml"]
            for name, text in files:
                pathlib.Path(folder, name).write_text(textwrap.dedent(text).replace("8090", "0"))
            if "models.yaml" in dict(files):
                options += ["--models", f"{folder}/models.yaml"]
            done = run(PROGRAM, "serve", *options, "--no-key")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, r"/models/\w+\.gguf")

    def test_chart(self):
        done = self.helm("lint", "--strict", DEPLOY / "helm/llcuda")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        full = ["--set", "gpu.count=2", "--set", "keysSecret=keys", "--set", "ingress.enabled=true",
                "--set", "ingress.className=nginx", "--set", "ingress.tlsSecret=tls",
                "--set", "serviceMonitor.enabled=true", "--set", "autoscaling.enabled=true",
                "--set", "models.small.model=/models/a.gguf", "--set", "models.large.model=/models/b.gguf",
                "--set", "gpu.runtimeClassName=nvidia", "--set", "modelsVolume.storageClass=fast"]
        for options, least, secret, key in (([], 7, "test-keys", True), (["--set", "open=true"], 6, None, False),
                                            (full, 8, "keys", True)):
            done = self.helm("template", "test", DEPLOY / "helm/llcuda", *self.version, *options)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertGreaterEqual(self.validate(done.stdout), least)
            self.check_configuration(done.stdout)
            # Nobody is served without a key unless that was asked for.
            self.assertEqual("--api-key-file" in done.stdout, key)
            self.assertEqual("--no-key" in done.stdout, not key)
            self.assertEqual(f"secretName: {secret}," in done.stdout, key)
            self.assertEqual("kind: Secret" in done.stdout, secret == "test-keys")
        self.assertIn("nvidia.com/gpu: \"2\"", done.stdout)
        self.assertIn("--models", done.stdout)
        bad = self.helm("template", "test", DEPLOY / "helm/llcuda", *self.version, "--set", "replicas=none")
        self.assertNotEqual(bad.returncode, 0, "the schema of the values is heeded")
        self.assertIn("replicas", bad.stderr)


if __name__ == "__main__":
    unittest.main()
