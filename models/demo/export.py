#!/usr/bin/env python3
"""Writes the trained model as a Hugging Face folder and as a GGUF file.

    python3 export.py --checkpoint checkpoint.pt --hf hf --gguf llcuda-demo-q8_0.gguf

The folder must already hold the tokeniser (make_tokenizer.py).  Weights are
F16 in SafeTensors and Q8_0 in GGUF; norms are F32 in GGUF.
"""

import argparse
import json
import struct
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

import corpus
from make_tokenizer import CHAT_TEMPLATE, write_json
from model import Config

ALIGNMENT = 32
BLOCK = 32                                # weights that share a scale in Q8_0
F32, Q8_0 = 0, 8                          # GGML tensor types
MOSTLY_Q8_0 = 7                           # general.file_type
NORMAL, CONTROL = 1, 3                    # token types
U32, I32, F32_VALUE, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9   # GGUF value types
SCALARS = {U32: "<I", I32: "<i", F32_VALUE: "<f", BOOL: "<?"}

LAYER_NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}


def load_checkpoint(path):
    """The configuration and the weights (float32 numpy) of a checkpoint."""
    saved = torch.load(path)
    return Config(**saved["config"]), {k: v.float().numpy() for k, v in saved["model"].items()}


# --------------------------------------------------------------------------
# Q8_0
# --------------------------------------------------------------------------


def quantise_q8_0(weights):
    """Scales (f16) and integers (int8) of the blocks of 32 weights."""
    blocks = weights.reshape(-1, BLOCK).astype(np.float32)
    scales = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales > 0)
    scaled = blocks * inverse
    integers = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)).astype(np.int8)
    return scales.astype(np.float16), integers


def q8_0_bytes(weights):
    """The stored form: per block the scale and then the integers."""
    scales, integers = quantise_q8_0(weights)
    packed = np.empty((len(scales), 2 + BLOCK), dtype=np.uint8)
    packed[:, :2] = scales.view(np.uint8)
    packed[:, 2:] = integers.view(np.uint8)
    return packed.tobytes()


def through_q8_0(weights):
    """The weights as they come back from Q8_0, to evaluate what is shipped."""
    scales, integers = quantise_q8_0(weights)
    return (scales.astype(np.float32) * integers).reshape(weights.shape)


# --------------------------------------------------------------------------
# GGUF
# --------------------------------------------------------------------------


def interleave_heads(weights, heads):
    """Row order for GGUF's "llama": rotary pairs next to each other in a head,
    where Hugging Face keeps them half a head apart."""
    rows, columns = weights.shape
    halves = weights.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def gguf_tensors(cfg, weights):
    """(name, array) of all tensors in GGUF's naming and layout."""
    yield "token_embd.weight", weights["model.embed_tokens.weight"]
    for layer in range(cfg.num_hidden_layers):
        for source, target in LAYER_NAMES.items():
            array = weights[f"model.layers.{layer}.{source}.weight"]
            if target == "attn_q":
                array = interleave_heads(array, cfg.num_attention_heads)
            elif target == "attn_k":
                array = interleave_heads(array, cfg.num_key_value_heads)
            yield f"blk.{layer}.{target}.weight", array
    yield "output_norm.weight", weights["model.norm.weight"]


def gguf_metadata(cfg, tokenizer):
    """(key, type, value) of the metadata; arrays are (ARRAY, element type)."""
    vocab, merges = tokenizer["model"]["vocab"], tokenizer["model"]["merges"]
    tokens = sorted(vocab, key=vocab.get)
    types = [CONTROL if t in corpus.SPECIAL_TOKENS else NORMAL for t in tokens]
    return [
        ("general.architecture", STRING, "llama"),
        ("general.name", STRING, "llcuda demo"),
        ("general.alignment", U32, ALIGNMENT),
        ("general.file_type", U32, MOSTLY_Q8_0),
        ("general.quantization_version", U32, 2),
        ("llama.context_length", U32, cfg.max_position_embeddings),
        ("llama.embedding_length", U32, cfg.hidden_size),
        ("llama.block_count", U32, cfg.num_hidden_layers),
        ("llama.feed_forward_length", U32, cfg.intermediate_size),
        ("llama.attention.head_count", U32, cfg.num_attention_heads),
        ("llama.attention.head_count_kv", U32, cfg.num_key_value_heads),
        ("llama.attention.layer_norm_rms_epsilon", F32_VALUE, cfg.rms_norm_eps),
        ("llama.rope.dimension_count", U32, cfg.head_dim),
        ("llama.rope.freq_base", F32_VALUE, cfg.rope_theta),
        ("llama.vocab_size", U32, cfg.vocab_size),
        ("tokenizer.ggml.model", STRING, "gpt2"),
        ("tokenizer.ggml.pre", STRING, "qwen2"),
        ("tokenizer.ggml.tokens", (ARRAY, STRING), tokens),
        ("tokenizer.ggml.token_type", (ARRAY, I32), types),
        ("tokenizer.ggml.merges", (ARRAY, STRING), [" ".join(pair) for pair in merges]),
        ("tokenizer.ggml.bos_token_id", U32, vocab[corpus.BOS]),
        ("tokenizer.ggml.eos_token_id", U32, vocab[corpus.EOS]),
        ("tokenizer.ggml.eot_token_id", U32, vocab[corpus.IM_END]),
        ("tokenizer.ggml.add_bos_token", BOOL, True),
        ("tokenizer.ggml.add_eos_token", BOOL, False),
        ("tokenizer.chat_template", STRING, CHAT_TEMPLATE),
    ]


def pack_string(text):
    """A GGUF string: length and UTF-8 bytes."""
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def pack_value(kind, value):
    """One metadata value without its type."""
    return pack_string(value) if kind == STRING else struct.pack(SCALARS[kind], value)


def pack_entry(key, kind, value):
    """One metadata entry."""
    if isinstance(kind, tuple):
        array, element = kind
        body = struct.pack("<IQ", element, len(value)) + b"".join(pack_value(element, v) for v in value)
        return pack_string(key) + struct.pack("<I", array) + body
    return pack_string(key) + struct.pack("<I", kind) + pack_value(kind, value)


def padding(length):
    """Zero bytes up to the next multiple of the alignment."""
    return b"\0" * (-length % ALIGNMENT)


def write_gguf(path, cfg, weights, tokenizer):
    """Writes the GGUF file, version 3."""
    metadata = gguf_metadata(cfg, tokenizer)
    infos, data = [], bytearray()
    for name, array in gguf_tensors(cfg, weights):
        kind, body = (F32, array.astype("<f4").tobytes()) if array.ndim == 1 else (Q8_0, q8_0_bytes(array))
        shape = array.shape[::-1]
        infos.append(pack_string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, len(data)))
        data += body + padding(len(body))
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(infos), len(metadata))
    head += b"".join(pack_entry(*entry) for entry in metadata) + b"".join(infos)
    path.write_bytes(head + padding(len(head)) + data)


# --------------------------------------------------------------------------
# Hugging Face folder
# --------------------------------------------------------------------------


def write_hf(folder, cfg, weights, tokenizer):
    """Writes the weights and the configuration beside the tokeniser."""
    vocab = tokenizer["model"]["vocab"]
    bos, eos, end = (vocab[t] for t in (corpus.BOS, corpus.EOS, corpus.IM_END))
    save_file({k: v.astype(np.float16) for k, v in weights.items()},
              folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float16",
        "vocab_size": cfg.vocab_size, "hidden_size": cfg.hidden_size,
        "intermediate_size": cfg.intermediate_size, "num_hidden_layers": cfg.num_hidden_layers,
        "num_attention_heads": cfg.num_attention_heads,
        "num_key_value_heads": cfg.num_key_value_heads, "head_dim": cfg.head_dim,
        "max_position_embeddings": cfg.max_position_embeddings, "rope_theta": cfg.rope_theta,
        "rope_scaling": None, "rms_norm_eps": cfg.rms_norm_eps, "hidden_act": "silu",
        "attention_bias": False, "attention_dropout": 0.0, "mlp_bias": False,
        "tie_word_embeddings": True, "initializer_range": 0.04, "pretraining_tp": 1,
        "use_cache": True, "bos_token_id": bos, "eos_token_id": eos})
    write_json(folder / "generation_config.json", {
        "bos_token_id": bos, "eos_token_id": [eos, end], "do_sample": False})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoint.pt"))
    parser.add_argument("--hf", type=Path, default=Path("hf"))
    parser.add_argument("--gguf", type=Path, default=Path("llcuda-demo-q8_0.gguf"))
    args = parser.parse_args()
    cfg, weights = load_checkpoint(args.checkpoint)
    tokenizer = json.loads((args.hf / "tokenizer.json").read_text(encoding="utf-8"))
    write_hf(args.hf, cfg, weights, tokenizer)
    write_gguf(args.gguf, cfg, weights, tokenizer)
    count = sum(w.size for w in weights.values())
    print(f"{count} weights; {args.gguf}: {args.gguf.stat().st_size} bytes")


if __name__ == "__main__":
    main()
