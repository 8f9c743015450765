"""The program against the oracle folder: real models, vocabularies and templates with right answers.
Skipped, with a message, where the folder is not there."""
import json
import pathlib
import tempfile
import unittest

from program import ORACLE, run


@unittest.skipUnless(ORACLE.is_dir(), f"no oracle folder at {ORACLE}")
class Oracle(unittest.TestCase):
    def test_stories_to_the_letter(self):
        expected = (ORACLE / "models/stories260K-expected.txt").read_text()
        for model in ("stories260K-f32.gguf", "stories260K-hf"):
            text = run("infer", "-m", ORACLE / "models" / model, "-p", "", "--temp", "0", "-n",
                       "198").out
            self.assertTrue(expected.startswith(text.lstrip()) or text.lstrip() == expected, text)
            self.assertGreater(len(text), 400)

    def test_tokenizers(self):
        groups = json.loads((ORACLE / "tokenizer/expected.json").read_text())
        self.assertTrue(groups)
        for group in groups:
            cases = [case for case in group["cases"] if case["text"]]
            for file in group["files"]:
                # One run for each of a few texts: the library's own test covers all of them.
                for case in cases[::9] + cases[-1:]:
                    with tempfile.NamedTemporaryFile("wb") as text:
                        text.write(case["text"].encode())
                        text.flush()
                        out = run("tokenize", "-m", ORACLE / "tokenizer" / file, "--no-bos", "-f",
                                  text.name).out
                        self.assertEqual([int(i) for i in out.split()], case["ids"], file)

    def test_templates(self):
        rows = json.loads((ORACLE / "templates/expected.json").read_text())
        self.assertTrue(rows)
        with tempfile.TemporaryDirectory() as folder:
            conversation = pathlib.Path(folder) / "c.json"
            for row in rows:
                conversation.write_text(json.dumps(row))
                arguments = ("template", "--template", ORACLE / "templates" / row["template"],
                             "--input", conversation)
                if "error" in row:
                    self.assertEqual(run(*arguments, status=1).out, "")
                else:
                    self.assertEqual(run(*arguments).out, row["expected"],
                                     (row["template"], row["case"]))


if __name__ == "__main__":
    unittest.main()
