"""Installs the official `openai` package into a virtual environment of its own, once. Prints the
environment's Python, or nothing when the package cannot be had: the test is then skipped."""
import pathlib
import subprocess
import sys
import venv

VERSION = "openai>=1.50,<3"


def main():
    folder = pathlib.Path(sys.argv[1])
    python = folder / "bin/python"
    mark = folder / "complete"
    if not mark.exists():
        try:
            venv.create(folder, with_pip=True, clear=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                            "--timeout", "20", "--retries", "1", VERSION], check=True, timeout=600,
                           stdout=sys.stderr)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"the openai package cannot be had: {error}", file=sys.stderr)
            return
        mark.touch()
    print(python)


if __name__ == "__main__":
    main()
