#!/usr/bin/env python3
"""Makes the models that tests/model/test_logits.c compares with: tiny, random, one for each family
and odd feature, computed by PyTorch and transformers.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python make_models.py            # writes data/NAME/, a second run changes no byte
    venv/bin/python make_models.py --seeds    # writes smaller ones still, ../../fuzz/corpus/model

data/NAME/ is a Hugging Face folder (config.json, model.safetensors) with model.gguf beside it, the
same weights under GGUF's names and layout, tokens.npy (int32 [n]) and logits.npy (float32 [n, V]).
The GGUF side is written from the published names, not from our reader.

All weights are rounded to values that both bfloat16 and float16 hold exactly, so that a folder may
be stored in one of them, its GGUF in the other, and both must give the logits of the float32 model.
"""

import json
import math
import pathlib
import shutil
import sys

import gguf
import numpy
import torch
import transformers

HERE = pathlib.Path(__file__).parent
TOKENS = 48
VOCABULARY = 96


def base(**changes):
    """The size of all models; a feature that matters is named by the model itself."""
    config = dict(vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                  num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
                  rms_norm_eps=1e-5, attn_implementation="eager", bos_token_id=1, eos_token_id=2,
                  pad_token_id=None, tie_word_embeddings=False)
    config.update(changes)
    return config


def rope(kind, theta=10000.0, **parameters):
    return dict(rope_type=kind, rope_theta=theta, **parameters)


LLAMA3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=24)

# name: (configuration class, configuration, how files are written)
MODELS = {
    "llama": ("LlamaConfig", base(), {"hf": "F32", "gguf": "F32"}),
    "llama-rope3": ("LlamaConfig", base(
        head_dim=16, rope_parameters=rope("llama3", 500000.0, **LLAMA3)),
        {"hf": "BF16", "gguf": "F16", "spelling": "rope_type"}),
    "llama-linear-bias": ("LlamaConfig", base(
        attention_bias=True, mlp_bias=True, tie_word_embeddings=True,
        rope_parameters=rope("linear", factor=4.0)),
        {"hf": "F16", "gguf": "BF16", "spelling": "type"}),
    "llama-yarn": ("LlamaConfig", base(
        head_dim=16, rope_parameters=rope("yarn", factor=4.0,
                                          original_max_position_embeddings=64)),
        {"hf": "BF16", "gguf": "F16"}),
    "mistral-window": ("MistralConfig", base(head_dim=16, sliding_window=9),
                       {"hf": "BF16", "gguf": "F16", "arch": "llama"}),
    "qwen2": ("Qwen2Config", base(tie_word_embeddings=True, rms_norm_eps=1e-6,
                                  rope_parameters=rope("default", 1000000.0)),
              {"hf": "BF16", "gguf": "F16", "spelling": "type"}),
    "qwen2-window": ("Qwen2Config", base(use_sliding_window=True, sliding_window=7,
                                         max_window_layers=1),
                     {"hf": "BF16", "gguf": "F16"}),
    "qwen3": ("Qwen3Config", base(head_dim=16), {"hf": "BF16", "gguf": "F16"}),
    "gemma": ("GemmaConfig", base(head_dim=16, num_key_value_heads=1, tie_word_embeddings=True),
              {"hf": "BF16", "gguf": "F16"}),
    "gemma2": ("Gemma2Config", base(head_dim=16, query_pre_attn_scalar=16, sliding_window=6,
                                    num_hidden_layers=3, attn_logit_softcapping=5.0,
                                    final_logit_softcapping=15.0, tie_word_embeddings=True),
               {"hf": "BF16", "gguf": "F16"}),
    "gemma3": ("Gemma3TextConfig", base(
        head_dim=16, query_pre_attn_scalar=16, sliding_window=6, num_hidden_layers=3,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        tie_word_embeddings=True,
        rope_parameters={"full_attention": rope("linear", 1000000.0, factor=8.0),
                         "sliding_attention": rope("default", 10000.0)}),
        {"hf": "BF16", "gguf": "F16"}),
    "phi3": ("Phi3Config", base(sliding_window=11, original_max_position_embeddings=256),
             {"hf": "BF16", "gguf": "F16"}),
    "phi3-longrope": ("Phi3Config", base(
        hidden_size=64, num_attention_heads=4, original_max_position_embeddings=64,
        rope_parameters=dict(
            rope("longrope", short_factor=[1.0, 1.1, 1.3, 1.8], long_factor=[1.0, 2.0, 4.0, 8.0]),
            partial_rotary_factor=0.5)),
        {"hf": "BF16", "gguf": "F16"}),
    "mixtral": ("MixtralConfig", base(num_local_experts=4, num_experts_per_tok=2, head_dim=16),
                {"hf": "BF16", "gguf": "F16", "arch": "llama"}),
    "qwen2moe": ("Qwen2MoeConfig", base(
        num_experts=6, num_experts_per_tok=3, moe_intermediate_size=24,
        shared_expert_intermediate_size=40, norm_topk_prob=False),
        {"hf": "BF16", "gguf": "F16", "arch": "qwen2moe"}),
    "qwen3moe": ("Qwen3MoeConfig", base(
        head_dim=16, num_experts=8, num_experts_per_tok=3, moe_intermediate_size=24,
        norm_topk_prob=True, num_hidden_layers=3, mlp_only_layers=[1]),
        {"hf": "BF16", "gguf": "F16", "arch": "qwen3moe"}),
    "gpt-oss": ("GptOssConfig", base(
        head_dim=16, num_local_experts=4, num_experts_per_tok=2, sliding_window=9,
        layer_types=["sliding_attention", "full_attention"],
        rope_parameters=rope("yarn", 150000.0, factor=4.0, beta_fast=32.0, beta_slow=1.0,
                             original_max_position_embeddings=64, truncate=False)),
        {"gguf": "F16", "arch": "gpt-oss"}),
}


def randomise(model, seed):
    """Weights large enough for peaked attention, norms and biases far from 1 and 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("bias"):
                value = 0.5 * noise
            elif parameter.dim() == 1:
                centre = 0.0 if "gemma" in model.config.model_type else 1.0
                value = centre + 0.3 * noise
            elif "embed" in name:
                value = noise
            else:
                value = noise * (1.6 / math.sqrt(parameter.shape[-1]))
            value = value.bfloat16().float()
            value[value.abs() < 2.0 ** -14] = 0.0
            parameter.copy_(value)


def write_config(folder, spelling):
    """save_pretrained writes the newest spelling; files on the hub have older ones."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.pop("transformers_version", None)
    if config["model_type"] == "qwen3_moe":
        config["num_experts"] = config.pop("num_local_experts")
    if spelling:
        parameters = config.pop("rope_parameters")
        config["rope_theta"] = parameters.pop("rope_theta")
        kind = parameters.pop("rope_type")
        config["rope_scaling"] = None if kind == "default" else {spelling: kind, **parameters}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


TENSOR_NAMES = {
    "embed_tokens.weight": "token_embd.weight",
    "norm.weight": "output_norm.weight",
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate": "ffn_gate_inp",
    "mlp.router": "ffn_gate_inp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def gguf_name(name, sandwiched):
    if name == "lm_head.weight":
        return "output.weight"
    name = name.removeprefix("model.")
    if not name.startswith("layers."):
        return TENSOR_NAMES[name]
    _, layer, rest = name.split(".", 2)
    stem, end = rest.rsplit(".", 1)
    if end == "sinks":
        return f"blk.{layer}.attn_sinks.weight"
    if "_exps" in stem:
        return f"blk.{layer}.{stem.removeprefix('mlp.')}.{end}"
    if stem == "input_layernorm":
        return f"blk.{layer}.attn_norm.weight"
    if stem == "post_attention_layernorm":
        return f"blk.{layer}." + ("post_attention_norm" if sandwiched else "ffn_norm") + ".weight"
    return f"blk.{layer}.{TENSOR_NAMES[stem]}.{end}"


def interleave(array, heads):
    """Halves of each head, [2, D/2], become pairs, [D/2, 2]."""
    size = array.shape[0] // heads
    shaped = array.reshape(heads, 2, size // 2, *array.shape[1:])
    return numpy.ascontiguousarray(shaped.swapaxes(1, 2).reshape(array.shape))


def llama3_divisors(size, parameters):
    divisors = []
    original = parameters["original_max_position_embeddings"]
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    for i in range(0, size, 2):
        wavelength = 2 * math.pi * parameters["rope_theta"] ** (i / size)
        if wavelength < original / high:
            divisors.append(1.0)
        elif wavelength > original / low:
            divisors.append(parameters["factor"])
        else:
            smooth = (original / wavelength - low) / (high - low)
            divisors.append(1 / ((1 - smooth) / parameters["factor"] + smooth))
    return numpy.array(divisors, dtype=numpy.float32)


def write_rope(writer, config, arch):
    parameters = config.rope_parameters
    if "full_attention" in parameters:
        local = parameters["sliding_attention"]["rope_theta"]
        writer.add_float32(f"{arch}.rope.freq_base_swa", local)
        parameters = parameters["full_attention"]
    size = config.hidden_size // config.num_attention_heads
    size = getattr(config, "head_dim", None) or size
    size = int(size * (parameters.get("partial_rotary_factor") or 1.0))
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(parameters["rope_theta"])
    kind = parameters["rope_type"]
    if kind == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_divisors(size, parameters))
    elif kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(parameters["factor"])
        if kind == "yarn":
            writer.add_rope_scaling_orig_ctx_len(parameters["original_max_position_embeddings"])
    elif kind == "longrope":
        original = config.original_max_position_embeddings
        factor = config.max_position_embeddings / original
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(factor) / math.log(original)))
        for which in ("long", "short"):
            writer.add_tensor(f"rope_factors_{which}.weight",
                              numpy.array(parameters[f"{which}_factor"], dtype=numpy.float32))


def split_experts(state, arch):
    """What transformers keeps as one array of gates and ups, [experts, 2 F, E], apart. gpt-oss has
    them in turn, and its matrices the other way round."""
    split = {}
    for name, value in state.items():
        if arch == "gpt-oss" and "mlp.experts." in name:
            stem, part = name.split("mlp.experts.")
            end = ".bias" if part.endswith("_bias") else ".weight"
            value = value if end == ".bias" else value.transpose(1, 2)
            if part.startswith("gate_up"):
                split[stem + "mlp.ffn_gate_exps" + end] = value[:, ::2].contiguous()
                split[stem + "mlp.ffn_up_exps" + end] = value[:, 1::2].contiguous()
            else:
                split[stem + "mlp.ffn_down_exps" + end] = value.contiguous()
            continue
        if name.endswith("experts.gate_up_proj"):
            stem = name.removesuffix("experts.gate_up_proj")
            gate, up = value.chunk(2, dim=1)
            split[stem + "ffn_gate_exps.weight"] = gate
            split[stem + "ffn_up_exps.weight"] = up
        elif name.endswith("experts.down_proj"):
            split[name.removesuffix("experts.down_proj") + "ffn_down_exps.weight"] = value
        else:
            split[name] = value
    return split


def write_experts(writer, config, arch):
    count = getattr(config, "num_experts", None) or getattr(config, "num_local_experts", None)
    if count:
        writer.add_expert_count(count)
        writer.add_expert_used_count(config.num_experts_per_tok)
        if arch != "llama":
            writer.add_expert_feed_forward_length(
                getattr(config, "moe_intermediate_size", config.intermediate_size))
        if arch == "qwen2moe":
            writer.add_expert_shared_feed_forward_length(config.shared_expert_intermediate_size)


def write_gguf(path, model, arch, kind):
    config = model.config
    writer = gguf.GGUFWriter(str(path), arch)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if getattr(config, "head_dim", None):
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    if getattr(config, "sliding_window", None):
        writer.add_sliding_window(config.sliding_window)
        if arch in ("qwen2", "gemma3"):
            writer.add_sliding_window_pattern(
                [kind == "sliding_attention" for kind in config.layer_types])
    if arch == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    write_rope(writer, config, arch)
    write_experts(writer, config, arch)
    state = split_experts(model.state_dict(), arch)
    for name in sorted(state):
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = state[name].float().numpy()
        if arch == "llama" and ".q_proj." in name:
            array = interleave(array, config.num_attention_heads)
        elif arch == "llama" and ".k_proj." in name:
            array = interleave(array, config.num_key_value_heads)
        elif arch.startswith("gemma") and name.endswith("norm.weight"):
            array = array + numpy.float32(1)
        target = gguf_name(name, arch in ("gemma2", "gemma3", "gpt-oss"))
        if name.endswith("shared_expert_gate.weight"):
            array = array.reshape(-1)
        if array.ndim == 1 or kind == "F32" or ".mlp.gate." in name or name.endswith(".bias"):
            writer.add_tensor(target, array)
        elif kind == "F16":
            writer.add_tensor(target, array.astype(numpy.float16))
        else:
            data = gguf.quantize(array, gguf.GGMLQuantizationType.BF16)
            writer.add_tensor(target, data, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def choose_tokens(model, seed):
    """The first random sequence at whose every position the best token leads clearly: comparing
    greedy tokens must not hang on the last bits."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        tokens = torch.randint(VOCABULARY, (1, TOKENS), generator=generator)
        with torch.no_grad():
            logits = model(tokens).logits[0]
        best = logits.topk(2, dim=1).values
        if (best[:, 0] - best[:, 1]).min() > 0.02 * logits.std():
            return tokens, logits


def build(name, seed, changes=None):
    class_name, fields, files = MODELS[name]
    config = getattr(transformers, class_name)(**{**fields, **(changes or {})})
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.eval()
    randomise(model, seed)
    arch = files.get("arch", config.model_type.removesuffix("_text"))
    return model, arch


def make_seed(name, seed):
    """One layer of width 16: what fuzz_model begins with."""
    changes = dict(vocab_size=4, hidden_size=16, intermediate_size=4, num_hidden_layers=1,
                   num_attention_heads=1, num_key_value_heads=1)
    if "layer_types" in MODELS[name][1]:
        changes["layer_types"] = ["sliding_attention"]
    model, arch = build(name, seed, changes)
    folder = HERE.parent.parent / "fuzz" / "corpus" / "model"
    folder.mkdir(parents=True, exist_ok=True)
    write_gguf(folder / f"{name}.gguf", model, arch, "F16")


def make(name, seed):
    files = MODELS[name][2]
    model, arch = build(name, seed)
    tokens, logits = choose_tokens(model, seed + 1000)
    folder = HERE / "data" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    numpy.save(folder / "tokens.npy", tokens[0].numpy().astype(numpy.int32))
    numpy.save(folder / "logits.npy", logits.numpy())
    write_gguf(folder / "model.gguf", model, arch, files["gguf"])
    if "hf" in files:
        kind = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}[files["hf"]]
        model.to(kind).save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        write_config(folder, files.get("spelling"))
    spread = logits.std().item()
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{name:20} logits deviate by {spread:.3f}, {size} bytes")


def main():
    torch.set_num_threads(1)
    seeds = sys.argv[1:] == ["--seeds"]
    names = list(MODELS) if seeds else sys.argv[1:] or list(MODELS)
    for name in names:
        (make_seed if seeds else make)(name, 1 + list(MODELS).index(name))


if __name__ == "__main__":
    main()
