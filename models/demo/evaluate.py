#!/usr/bin/env python3
"""Greedy evaluation of the demonstration model, with exact counts.

    python3 evaluate.py --checkpoint checkpoint.pt          # PyTorch, weights through Q8_0
    python3 evaluate.py --llcuda ./llcuda --model llcuda-demo-q8_0.gguf

Every problem has one right answer, compared as text (JSON as a value with its
key order).  Arithmetic and JSON forms come from the held-out side of
corpus.py; the other tasks are drawn afresh, with a seed training never uses.
"""

import argparse
import collections
import json
import random
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import corpus

SEED = 20_000_000_017  # training draws from seed * 10**7 + step


@dataclass
class Case:
    """One problem: either a prompt or messages, and the answer expected."""

    group: str
    expected: str
    prompt: str | None = None
    messages: list | None = None
    max_tokens: int = 16

    def right(self, text):
        """Whether a continuation is the answer and nothing else."""
        text = text.lstrip()
        if not self.expected.startswith("{"):
            return text == self.expected
        try:
            return json.dumps(json.loads(text)) == json.dumps(json.loads(self.expected))
        except json.JSONDecodeError:
            return False


def chat(group, question, answer, max_tokens=16):
    """A single-turn chat case."""
    return Case(group, answer, messages=[{"role": "user", "content": question}], max_tokens=max_tokens)


# --------------------------------------------------------------------------
# The problems
# --------------------------------------------------------------------------


def distinct(rng, count, draw):
    """``count`` different (question, answer) pairs."""
    pairs = {}
    while len(pairs) < count:
        question, answer = draw(rng)
        pairs[question] = answer
    return pairs.items()


def arithmetic_cases(rng, count):
    """Held-out arithmetic in all wordings, each problem as chat and as raw text."""
    for question, answer in distinct(rng, count, lambda r: corpus.arithmetic(r, held_out=True, ops="+-*")):
        yield chat("held-out arithmetic, chat", question, answer)
        yield Case("held-out arithmetic, raw", answer, prompt=question)


def all_held_out_sums():
    """Every held-out sum and difference of 0..99 in its plainest wording."""
    for op, word in (("+", "sums"), ("-", "differences")):
        for a in range(100):
            for b in range(100):
                if corpus.held_out_pair(a, op, b):
                    question, answer = f"What is {a} {op} {b}?", str(corpus.result(a, op, b))
                    sign = "" if op == "+" else " below 0" if a < b else " from 0 up"
                    yield chat(f"all held-out {word}{sign}, chat", question, answer)
                    yield Case(f"all held-out {word}{sign}, raw", answer, prompt=question)


def smoke_cases():
    """The first thing anybody types."""
    for question in ("What is 2+2?", "What is 2 + 2?", "what is 2+2", "what is 2 + 2?", "2+2=", "2 + 2 =",
                     "What's 2+2?", "How much is 2+2?", "What is 2 plus 2?"):
        yield chat("2+2, chat", question, "4")
        yield Case("2+2, raw", "4", prompt=question)


def drawn_cases(rng, group, count, draw, max_tokens):
    """Chat cases of one task."""
    for question, answer in distinct(rng, count, draw):
        yield chat(group, question, answer, max_tokens)


def tool_cases(rng, count):
    """The last assistant turn of conversations with tools."""
    for _ in range(count):
        messages, tools = corpus.tool_conversation(rng)
        system = None
        if messages[0]["role"] == "system":
            system, messages = messages[0]["content"], messages[1:]
        turns = [{"role": "system", "content": corpus.system_text(system, tools)}, *messages]
        yield Case("tool calls", turns[-1]["content"], messages=turns[:-1], max_tokens=120)


def token_count(tokenizer, messages):
    """Length of a rendered conversation."""
    text = "".join(part for part, _ in corpus.chat_segments(messages))
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


def long_chat_cases(rng, tokenizer, count):
    """Held-out arithmetic at the end of conversations of about 1,900 tokens."""
    for _ in range(count):
        messages = corpus.turn(*corpus.greeting(rng))
        while token_count(tokenizer, messages) < 1850:
            task = rng.choices(corpus.TASK_LIST, corpus.TASK_WEIGHTS)[0]
            messages += corpus.turn(*task(rng))
        while token_count(tokenizer, messages) > 1980:
            messages = messages[2:]
        question, answer = corpus.arithmetic(rng, held_out=True, ops="+-*")
        yield Case("held-out arithmetic at position ~1,900", answer,
                   messages=[*messages, {"role": "user", "content": question}])


def all_cases(tokenizer):
    """The whole evaluation; each group has its own seed."""
    def seeded(offset):
        return random.Random(SEED + offset)

    yield from smoke_cases()
    yield from arithmetic_cases(seeded(1), 1000)
    yield from all_held_out_sums()
    yield from drawn_cases(seeded(2), "held-out JSON forms", 500,
                           lambda r: corpus.json_form(r, held_out=True), 200)
    yield from drawn_cases(seeded(3), "unit conversions", 300, corpus.conversion, 24)
    yield from drawn_cases(seeded(4), "questions over facts", 300, corpus.facts, 32)
    yield from drawn_cases(seeded(5), "repeating and counting", 200, corpus.repeat, 100)
    yield from drawn_cases(seeded(6), "not knowing", 100, corpus.unknown, 100)
    yield from drawn_cases(seeded(7), "small talk", 40, corpus.greeting, 100)
    yield from tool_cases(seeded(8), 200)
    yield from long_chat_cases(seeded(9), tokenizer, 100)


# --------------------------------------------------------------------------
# Backends: cases in, texts out
# --------------------------------------------------------------------------


class TorchBackend:
    """The PyTorch model; matrices go through Q8_0 and back."""

    def __init__(self, checkpoint, tokenizer, threads):
        import torch

        from export import load_checkpoint, through_q8_0
        from model import Llama

        torch.set_num_threads(threads)
        cfg, weights = load_checkpoint(checkpoint)
        self.torch, self.tokenizer, self.network = torch, tokenizer, Llama(cfg)
        self.network.load_state_dict({k: torch.from_numpy(through_q8_0(w) if w.ndim == 2 else w)
                                      for k, w in weights.items()})
        self.stops = [tokenizer.token_to_id(t) for t in (corpus.EOS, corpus.IM_END)]

    def encode(self, case):
        """Prompt tokens: raw text behind the BOS token, or the rendered chat."""
        if case.prompt is not None:
            text = corpus.BOS + case.prompt
        else:
            text = "".join(part for part, _ in corpus.chat_segments(case.messages))
            text += f"{corpus.IM_START}assistant\n"
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def texts(self, cases):
        """Continuations; prompts of equal length share a batch, so none is padded."""
        groups = collections.defaultdict(list)
        for i, case in enumerate(cases):
            groups[len(self.encode(case))].append(i)
        texts = [None] * len(cases)
        for members in groups.values():
            for start in range(0, len(members), 64):
                part = members[start:start + 64]
                for i, text in zip(part, self.generate([cases[i] for i in part])):
                    texts[i] = text
        return texts

    def generate(self, cases):
        """Greedy decoding of one batch with a key/value cache."""
        torch = self.torch
        ids = torch.tensor([self.encode(case) for case in cases])
        caches = [[] for _ in self.network.model.layers]
        mask = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
        position, outputs = 0, []
        finished = torch.zeros(len(cases), dtype=torch.bool)
        with torch.no_grad():
            for _ in range(max(case.max_tokens for case in cases)):
                positions = torch.arange(position, position + ids.shape[1]).expand(len(cases), -1)
                logits = self.network(ids, positions, mask, caches)
                position, mask = position + ids.shape[1], None
                ids = logits[:, -1].argmax(dim=-1, keepdim=True)
                outputs.append(ids)
                finished |= torch.isin(ids[:, 0], torch.tensor(self.stops))
                if finished.all():
                    break
        return [self.decode(row[:case.max_tokens])
                for row, case in zip(torch.cat(outputs, dim=1).tolist(), cases)]

    def decode(self, ids):
        """Text up to the first stop token."""
        end = next((i for i, t in enumerate(ids) if t in self.stops), len(ids))
        return self.tokenizer.decode(ids[:end], skip_special_tokens=False)


class LlcudaBackend:
    """The llcuda program in batch mode."""

    def __init__(self, program, model):
        self.program, self.model = program, model

    def texts(self, cases):
        """Continuations by way of two JSON-lines files."""
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "in.jsonl", Path(folder) / "out.jsonl"
            source.write_text("".join(self.line(i, case) for i, case in enumerate(cases)), encoding="utf-8")
            subprocess.run([self.program, "batch", "-m", self.model, "-i", source, "-o", target], check=True)
            rows = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
        found = {str(row["id"]): row["text"] for row in rows}
        return [found[str(i)] for i in range(len(cases))]

    @staticmethod
    def line(number, case):
        """One request."""
        kind, value = ("messages", case.messages) if case.prompt is None else ("prompt", case.prompt)
        request = {"id": str(number), kind: value, "max_tokens": case.max_tokens, "temperature": 0}
        return json.dumps(request, ensure_ascii=False) + "\n"


# --------------------------------------------------------------------------


def report(cases, texts, show):
    """Prints the table and, if asked for, some wrong answers of each group."""
    right, total, wrong = collections.Counter(), collections.Counter(), collections.defaultdict(list)
    for case, text in zip(cases, texts):
        total[case.group] += 1
        if case.right(text):
            right[case.group] += 1
        else:
            wrong[case.group].append((case, text))
    print("| task | right | of | % |\n| --- | ---: | ---: | ---: |")
    for group, count in total.items():
        print(f"| {group} | {right[group]} | {count} | {100 * right[group] / count:.1f} |")
    for group, items in wrong.items():
        for case, text in items[:show]:
            question = case.prompt if case.prompt is not None else case.messages[-1]["content"]
            print(f"\n{group}: {question!r}\n  expected {case.expected!r}\n  answered {text!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoint.pt"))
    parser.add_argument("--tokenizer", type=Path, default=Path(__file__).parent / "hf/tokenizer.json")
    parser.add_argument("--llcuda", help="evaluate this program instead of PyTorch")
    parser.add_argument("--model", type=Path, default=Path(__file__).parent / "llcuda-demo-q8_0.gguf")
    parser.add_argument("--only", default="", help="only groups whose name contains this text")
    parser.add_argument("--show", type=int, default=0, help="wrong answers to show of each group")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(args.tokenizer))
    cases = [case for case in all_cases(tokenizer) if args.only in case.group]
    if args.llcuda:
        backend = LlcudaBackend(args.llcuda, args.model)
    else:
        backend = TorchBackend(args.checkpoint, tokenizer, args.threads)
    report(cases, backend.texts(cases), args.show)


if __name__ == "__main__":
    main()
