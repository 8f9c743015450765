"""Runs openai_client.py where the official package can be had, and skips with a message otherwise."""
import os
import pathlib
import subprocess
import sys
import unittest

HERE = pathlib.Path(__file__).parent


class OfficialPackage(unittest.TestCase):
    def test_openai_package(self):
        set_up = subprocess.run([sys.executable, HERE / "set_up_openai.py", os.environ["LLCUDA_VENV"]],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        python = set_up.stdout.strip()
        if set_up.returncode or not pathlib.Path(python).is_file():
            said = (set_up.stderr + set_up.stdout).strip().splitlines()
            self.skipTest(said[-1] if said else "the openai package cannot be had")
        result = subprocess.run([python, HERE / "openai_client.py"], cwd=HERE, check=False,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        print(result.stdout)
        self.assertEqual(result.returncode, 0, result.stdout[-3000:])


if __name__ == "__main__":
    unittest.main()
