"""Speed of Hugging Face transformers on the shape that bench_gpu measures: Llama-3.2-1B or
Llama-3.1-8B with random bfloat16 weights, greedy, 128 tokens after a prompt of 32.

    python3 transformers_decode.py [1b|8b] [eager|compiled …]

Prints milliseconds a token and tokens a second, the median of five runs after a warm-up."""
import statistics
import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

SHAPES = {
    "1b": dict(hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
               num_attention_heads=32, num_key_value_heads=8, head_dim=64,
               tie_word_embeddings=True),
    "8b": dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
               num_attention_heads=32, num_key_value_heads=8, head_dim=128,
               tie_word_embeddings=False),
}
PROMPT, TOKENS = 32, 128


def measure(model, name, **options):
    prompt = torch.randint(0, 128000, (1, PROMPT), device="cuda")
    runs = []
    for _ in range(6):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False,
                       max_new_tokens=TOKENS, min_new_tokens=TOKENS, pad_token_id=0, **options)
        torch.cuda.synchronize()
        runs.append(time.perf_counter() - begin)
    seconds = statistics.median(runs[1:])
    print(f"transformers {name}: {seconds / TOKENS * 1e3:.3f} ms a token, "
          f"{TOKENS / seconds:.1f} tok/s", flush=True)


def main():
    arguments = sys.argv[1:] or ["1b"]
    shape = arguments[0]
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=128256, max_position_embeddings=4096, rope_theta=500000.0,
                         **SHAPES[shape])
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = LlamaForCausalLM(config).eval()
    model.generation_config.eos_token_id = None
    with torch.inference_mode():
        for mode in arguments[1:] or ["eager", "compiled"]:
            if mode == "eager":
                measure(model, f"{shape} eager")
            else:
                model.forward = torch.compile(model.forward, mode="reduce-overhead",
                                              fullgraph=True)
                measure(model, f"{shape} compiled, static cache", cache_implementation="static")


main()
