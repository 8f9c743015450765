"""PyTorch with Hugging Face transformers behind the engine protocol of `llcuda bench`
(docs/internals/bench-protocol.md): JSON lines on standard input and output.

Two modes, by the option "mode":
  eager     what most deployments start from: AutoModelForCausalLM, a dynamic cache, one forward
            pass a token from Python. The unoptimised baseline.
  compiled  a static cache and torch.compile of the decoding step: what PyTorch itself recommends
            for speed. Its first pass compiles and takes long; it is warmed up while loading.
Requests of a run go through the model together, padded on the left."""
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from protocol import PROTOCOL_VERSION, check_version, serve, tell_done, tell_token  # noqa: E402


class Engine:
    """The loaded model; torch is imported late, so that its absence is an answer."""

    def __init__(self):
        self.torch = self.model = None
        self.mode, self.eos, self.context = "eager", set(), 2048

    def hello(self, request):
        check_version(request)
        try:
            import torch
            import transformers
        except ImportError as error:
            raise RuntimeError(f"not installed: {error} (engines/transformers/setup.sh makes a "
                               "virtual environment; give its python as --python)") from error
        self.torch = torch
        return {"version": PROTOCOL_VERSION, "engine": "transformers", "concurrent": 1,
                "engine_version": f"transformers {transformers.__version__}, "
                                  f"torch {torch.__version__}"}

    def load(self, request):
        from transformers import AutoModelForCausalLM
        torch, options = self.torch, request.get("options") or {}
        begin = time.monotonic()
        if request.get("threads"):
            torch.set_num_threads(int(request["threads"]))
        torch.set_grad_enabled(False)
        device = request.get("device") or "cpu"
        dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[
            options.get("dtype", "f32" if device == "cpu" else "bf16")]
        self.mode = options.get("mode", "eager")
        if self.mode not in ("eager", "compiled"):
            raise ValueError(f"mode '{self.mode}' is neither eager nor compiled")
        self.context = int(request.get("context") or 2048)
        model = AutoModelForCausalLM.from_pretrained(request["model"], dtype=dtype)
        self.model = model.to(device).eval()
        eos = self.model.generation_config.eos_token_id
        self.eos = set(eos if isinstance(eos, list) else [eos])
        if self.mode == "compiled":
            # The step is compiled for a static cache; prompts keep the plain path.
            self.step = torch.compile(self.model.forward, mode="default", dynamic=False)
            self.generate([[1, 2, 3, 4]], [8], True, lambda *_: None)
        parameters = sum(weight.numel() for weight in self.model.parameters())
        return {"load_ms": (time.monotonic() - begin) * 1e3,
                "details": {"mode": self.mode, "dtype": str(dtype), "device": str(device),
                            "threads": torch.get_num_threads(), "parameters": parameters,
                            "attention": self.model.config._attn_implementation}}

    def cache(self, rows):
        from transformers import DynamicCache, StaticCache
        if self.mode == "compiled":
            return StaticCache(config=self.model.config, max_cache_len=self.context)
        return DynamicCache(config=self.model.config)

    def generate(self, prompts, limits, ignore_eos, tell):
        """Greedy decoding of a batch; tell(index, token, last) for each token."""
        torch, device = self.torch, self.model.device
        longest = max(map(len, prompts))
        padded = [[0] * (longest - len(ids)) + ids for ids in prompts]
        mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts],
                            device=device)
        ids = torch.tensor(padded, device=device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        cache = self.cache(len(prompts))
        even = bool(mask.all())
        counts, going = [0] * len(prompts), [True] * len(prompts)
        forward = self.model
        while any(going):
            output = forward(input_ids=ids, attention_mask=None if even else mask,
                             position_ids=positions, past_key_values=cache, use_cache=True)
            tokens = output.logits[:, -1].argmax(-1)
            for index, token in enumerate(tokens.tolist()):
                if going[index]:
                    counts[index] += 1
                    ended = not ignore_eos and token in self.eos
                    going[index] = not ended and counts[index] < limits[index]
                    tell(index, token, None if going[index] else
                         ("stop" if ended else "length"), counts[index])
            ids = tokens[:, None]
            positions = positions[:, -1:] + 1
            if not even:
                mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], -1)
            forward = self.step if self.mode == "compiled" else self.model

    def run(self, request):
        if self.model is None:
            raise RuntimeError("run before load")
        run, items = request["id"], request["requests"]
        prompts = [[int(token) for token in item["prompt_ids"]] for item in items]
        limits = [max(1, int(item.get("max_tokens", 16))) for item in items]
        if not all(prompts):
            raise ValueError("a request has an empty prompt")

        def tell(index, token, finish, count):
            tell_token(run, index, token)
            if finish:
                tell_done(run, index, finish, len(prompts[index]), count)
        self.generate(prompts, limits, request.get("ignore_eos", True), tell)
        return {"id": run}

    def metrics(self, _):
        torch, found = self.torch, {}
        if torch is not None and torch.cuda.is_available():
            found["gpu_memory_peak_bytes"] = torch.cuda.max_memory_allocated()
        return {"metrics": found}

    def stop(self, _):
        return {}


if __name__ == "__main__":
    serve(Engine())
