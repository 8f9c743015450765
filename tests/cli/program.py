"""Running the program under test."""
import json
import os
import pathlib
import subprocess

PROGRAM = os.environ["LLCUDA_PROGRAM"]
SOURCE = pathlib.Path(os.environ["LLCUDA_SOURCE"])
ORACLE = pathlib.Path(os.environ.get("LLCUDA_ORACLE", SOURCE / "../shared/oracle"))
DEMO = SOURCE / "models/demo"


def run(*arguments, stdin="", status=0, environment=None, timeout=240):
    """Runs llcuda and checks its exit status; returns the finished process with text streams."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("LLCUDA_")}
    result = subprocess.run([PROGRAM, *map(str, arguments)], input=stdin.encode(), check=False,
                            capture_output=True, timeout=timeout, env={**clean, **(environment or {})})
    out, err = result.stdout.decode(), result.stderr.decode()
    if status is not None and result.returncode != status:
        raise AssertionError(f"{arguments}: exit {result.returncode}, expected {status}\n{out}\n{err}")
    result.out, result.err = out, err
    return result


def run_json(*arguments, **keywords):
    """The one JSON document that the program prints."""
    return json.loads(run(*arguments, "--json", **keywords).out)
