#!/usr/bin/env python3
"""Trains the tokeniser of the demonstration model and writes its HF files.

    python3 make_tokenizer.py --out hf

Byte-level BPE on a sample of the corpus, with the Qwen2 pre-tokeniser, in
which every digit is a token of its own.
"""

import argparse
import json
import random
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import corpus

VOCAB_SIZE = 1024
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")

CHAT_TEMPLATE = """\
{{- bos_token }}
{%- set rest = messages %}
{%- set system = '' %}
{%- if messages and messages[0].role == 'system' %}
    {%- set system = messages[0].content %}
    {%- set rest = messages[1:] %}
{%- endif %}
{%- if system or tools %}
    {{- '<|im_start|>system\\n' + system }}
    {%- if tools %}
        {%- if system %}{{- '\\n\\n' }}{%- endif %}
        {{- 'You can call these tools:\\n' }}
        {%- for tool in tools %}
            {{- tool | tojson }}{{- '\\n' }}
        {%- endfor %}
        {{- 'To call a tool, answer with\\n<tool_call>\\n{"name": NAME, "arguments": OBJECT}\\n</tool_call>' }}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in rest %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.content %}{{- message.content }}{%- endif %}
    {%- if message.tool_calls %}
        {%- for call in message.tool_calls %}
            {%- set function = call.function if call.function else call %}
            {{- '<tool_call>\\n{"name": ' }}{{- function.name | tojson }}{{- ', "arguments": ' }}
            {%- if function.arguments is string %}{{- function.arguments }}{%- else %}{{- function.arguments | tojson }}{%- endif %}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def sample_texts(seed, documents):
    """Rendered documents without the special tokens, which are never merged."""
    rng = random.Random(seed)
    for _ in range(documents):
        text = "".join(part for part, _ in corpus.document(rng))
        for token in corpus.SPECIAL_TOKENS:
            text = text.replace(token, "\n")
        yield text


def train_tokenizer(texts):
    """Byte-level BPE with all 256 bytes and the four special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, show_progress=False,
        special_tokens=[AddedToken(t, special=True, normalized=False) for t in corpus.SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    bos = corpus.BOS
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B:1", special_tokens=[(bos, tokenizer.token_to_id(bos))])
    return tokenizer


def write_json(path, value):
    """Writes indented UTF-8 JSON with a final newline."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_files(tokenizer, out):
    """The tokeniser's part of a Hugging Face model folder."""
    tokenizer.save(str(out / "tokenizer.json"))
    tokens = {"bos_token": corpus.BOS, "eos_token": corpus.EOS}
    write_json(out / "special_tokens_map.json",
               {**tokens, "additional_special_tokens": [corpus.IM_START, corpus.IM_END]})
    added = {str(tokenizer.token_to_id(t)): {
        "content": t, "lstrip": False, "normalized": False, "rstrip": False,
        "single_word": False, "special": True} for t in corpus.SPECIAL_TOKENS}
    write_json(out / "tokenizer_config.json", {
        "add_bos_token": True, "add_eos_token": False, "added_tokens_decoder": added,
        "additional_special_tokens": [corpus.IM_START, corpus.IM_END], **tokens,
        "chat_template": CHAT_TEMPLATE, "clean_up_tokenization_spaces": False,
        "model_max_length": 2048, "tokenizer_class": "PreTrainedTokenizerFast"})
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("hf"))
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--documents", type=int, default=40000)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(sample_texts(args.seed, args.documents))
    write_files(tokenizer, args.out)
    print(f"{tokenizer.get_vocab_size()} tokens written to {args.out}")


if __name__ == "__main__":
    main()
