"""The C and C++ files of the repository, tracked or about to be, for the style checks."""
import pathlib
import subprocess


def listed(root, *patterns):
    """Paths relative to `root`: from git where there is a checkout, otherwise from the folders."""
    command = ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard", *patterns]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode == 0 and result.stdout:
        names = result.stdout.splitlines()
    else:
        folders = ("src", "include", "tests", "fuzz", "examples")
        names = [str(path.relative_to(root)) for folder in folders for pattern in patterns
                 for path in (pathlib.Path(root) / folder).rglob(pattern)]
    return [name for name in names if (pathlib.Path(root) / name).is_file()]
