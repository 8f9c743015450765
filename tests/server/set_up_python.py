"""A virtual environment with packages that only tests need, made once under the build folder."""
import os
import pathlib
import subprocess
import sys
import venv


def python_with(name, *packages):
    """The Python of an environment that has the packages; None where they cannot be had."""
    folder = pathlib.Path(os.environ["LLCUDA_BUILD"], name)
    python = folder / "bin/python"
    mark = folder / "complete"
    if not mark.exists():
        try:
            venv.create(folder, with_pip=True, clear=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                            "--timeout", "20", "--retries", "1", *packages], check=True, timeout=600,
                           stdout=sys.stderr)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"{', '.join(packages)} cannot be had: {error}", file=sys.stderr)
            return None
        mark.touch()
    return python
