"""Runs openai_client.py where the official package can be had, and skips with a message otherwise."""
import pathlib
import subprocess
import unittest

from set_up_python import python_with

HERE = pathlib.Path(__file__).parent


class OfficialPackage(unittest.TestCase):
    def test_openai_package(self):
        python = python_with("openai-venv", "openai>=1.66,<3")
        if not python:
            self.skipTest("the openai package cannot be had")
        result = subprocess.run([python, HERE / "openai_client.py"], cwd=HERE, check=False,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        print(result.stdout)
        self.assertEqual(result.returncode, 0, result.stdout[-3000:])


if __name__ == "__main__":
    unittest.main()
