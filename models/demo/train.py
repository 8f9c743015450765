#!/usr/bin/env python3
"""Trains the demonstration model on generated text.

    python3 train.py --tokenizer hf/tokenizer.json --out checkpoint.pt

The text of a step depends on the seed and the step alone, so a run that was
stopped continues from its last checkpoint with the text it would have seen.
"""

import argparse
import math
import random
import time
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import corpus
from model import Config, Llama

QUESTION_WEIGHT = 0.03  # loss weight of tokens that are not part of an answer
SHORT_ROW, LONG_ROW = 256, 2048


def answer_weight(length):
    """Loss weight of the tokens of an answer: a short one, where every token has
    to be worked out, must not drown among long ones that mostly copy."""
    return min(2.0, max(0.5, math.sqrt(8 / length)))


def encode(tokenizer, segments, limit):
    """Token ids and loss weights of a document, cut at ``limit`` tokens."""
    ids, weights = [], []
    for text, is_answer in segments:
        part = tokenizer.encode(text, add_special_tokens=False).ids
        ids += part
        weights += [answer_weight(len(part)) if is_answer else QUESTION_WEIGHT] * len(part)
    return ids[:limit], weights[:limit]


def pack(documents, rows, length):
    """Places documents into rows, longest first; what fits nowhere is dropped."""
    used, placed = [0] * rows, [[] for _ in range(rows)]
    for document in sorted(documents, key=lambda d: -len(d[0])):
        row = next((r for r in range(rows) if used[r] + len(document[0]) <= length), None)
        if row is not None:
            placed[row].append(document)
            used[row] += len(document[0])
    return placed


def make_batch(tokenizer, seed, rows, length, draw):
    """Packed rows: ids, positions, document numbers (0: padding) and loss weights."""
    rng = random.Random(seed)
    documents, total = [], 0
    while total < rows * (length + 1):
        documents.append(encode(tokenizer, draw(rng), length + 1))
        total += len(documents[-1][0])
    shape = (rows, length + 1)
    ids, positions = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    numbers, weights = torch.zeros(shape, dtype=torch.long), torch.zeros(shape)
    for r, row in enumerate(pack(documents, rows, length + 1)):
        at = 0
        for number, (tokens, loss_weights) in enumerate(row, 1):
            end = at + len(tokens)
            ids[r, at:end] = torch.tensor(tokens)
            positions[r, at:end] = torch.arange(len(tokens))
            numbers[r, at:end] = number
            weights[r, at + 1:end] = torch.tensor(loss_weights[1:])
            at = end
    return ids, positions.clamp(max=length - 1), numbers, weights


def batch_loss(network, batch):
    """Weighted mean cross-entropy of the next tokens."""
    ids, positions, numbers, weights = batch
    numbers = numbers[:, :-1]
    length = numbers.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    mask = ((numbers[:, :, None] == numbers[:, None, :]) & causal).unsqueeze(1)
    logits = network(ids[:, :-1], positions[:, :-1], mask)
    losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    weights = weights[:, 1:].flatten()
    return (losses * weights).sum() / weights.sum()


def step_kind(step, progress, args):
    """Rows, row length and document source of a step: some steps are long."""
    every = 20 if progress < 0.75 else 8
    if step % every == every - 1:
        return args.batch // LONG_ROW, LONG_ROW, corpus.long_document
    return args.batch // SHORT_ROW, SHORT_ROW, corpus.document


def orthogonalise(g, rounds=5):
    """Brings all singular values of a matrix near one (Newton-Schulz, in float32:
    on processors without matrix units bfloat16 products are the slower ones)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        s = x @ x.T
        x = a * x + (b * s + c * (s @ s)) @ x
    return x.T if g.shape[0] > g.shape[1] else x


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised, scaled to the size of an AdamW update."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.05):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonalise(p.grad.lerp(buffer, group["momentum"]))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(p.shape)))


def make_optimizers(network, args):
    """Muon for the matrices of the layers, AdamW for embedding and norms."""
    matrices = [p for n, p in network.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in network.named_parameters() if p.ndim != 2 or "embed" in n]
    return [Muon(matrices, lr=args.muon_lr),
            torch.optim.AdamW(others, lr=args.adam_lr, betas=(0.9, 0.98), weight_decay=0.0)]


def schedule(step, progress):
    """Learning-rate factor: a short warm-up, then a cosine down to one percent."""
    if step < 100:
        return (step + 1) / 100
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))


def save(path, network, optimizers, step):
    """Writes a checkpoint beside the old one and then replaces it."""
    partial = path.with_suffix(".partial")
    torch.save({"config": asdict(network.cfg), "step": step, "model": network.state_dict(),
                "optimizers": [o.state_dict() for o in optimizers]}, partial)
    partial.rename(path)


def resume(path, network, optimizers):
    """Loads a checkpoint; returns the step to go on with."""
    saved = torch.load(path)
    network.load_state_dict(saved["model"])
    for optimizer, state in zip(optimizers, saved["optimizers"]):
        optimizer.load_state_dict(state)
    return saved["step"]


def train(args):
    """The training loop."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    tokenizer = Tokenizer.from_file(str(args.tokenizer))
    network = Llama(Config(vocab_size=tokenizer.get_vocab_size()))
    optimizers = make_optimizers(network, args)
    first = resume(args.out, network, optimizers) if args.out.exists() else 0
    rates = [[g["lr"] for g in o.param_groups] for o in make_optimizers(network, args)]
    compiled = torch.compile(network, dynamic=False)
    began, tokens, shown = time.time(), 0, []
    for step in range(first, args.steps):
        progress = step / args.steps
        if args.minutes:
            passed = (time.time() - began) / (60 * args.minutes)
            progress = min(1.0, max(progress, first / args.steps + (1 - first / args.steps) * passed))
        rows, length, draw = step_kind(step, progress, args)
        batch = make_batch(tokenizer, args.seed * 10**7 + step, rows, length, draw)
        loss = batch_loss(compiled, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimizer, base in zip(optimizers, rates):
            for group, rate in zip(optimizer.param_groups, base):
                group["lr"] = rate * schedule(step, progress)
            optimizer.step()
            optimizer.zero_grad()
        tokens += rows * length
        shown.append(loss.item())
        if (step + 1) % 50 == 0:
            seconds = time.time() - began
            print(f"step {step + 1} loss {sum(shown) / len(shown):.4f} "
                  f"tokens {tokens} seconds {seconds:.0f} tokens/s {tokens / seconds:.0f}", flush=True)
            shown.clear()
        last = step + 1 == args.steps or progress == 1.0
        if (step + 1) % args.save_every == 0 or last:
            save(args.out, network, optimizers, step + 1)
        if last:
            break


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, default=Path("hf/tokenizer.json"))
    parser.add_argument("--out", type=Path, default=Path("checkpoint.pt"))
    parser.add_argument("--steps", type=int, default=6500)
    parser.add_argument("--minutes", type=float, default=0,
                        help="end within this time: the schedule follows the clock where it is ahead of the steps")
    parser.add_argument("--batch", type=int, default=6144, help="tokens in a step")
    parser.add_argument("--muon-lr", type=float, default=4e-3)
    parser.add_argument("--adam-lr", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save-every", type=int, default=250)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
