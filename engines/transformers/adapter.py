"""PyTorch with Hugging Face transformers behind the engine protocol of `llcuda bench`
(docs/internals/bench-protocol.md): JSON lines on standard input and output.

Two modes, by the option "mode":
  eager     what most deployments start from: AutoModelForCausalLM, a dynamic cache, one forward
            pass a token from Python. The unoptimised baseline.
  compiled  a static cache and torch.compile of the decoding step, on a GPU as CUDA graphs
            ("reduce-overhead"): what PyTorch itself recommends for speed. Its first pass at each
            number of rows compiles and takes long; the numbers in the option "warm_batches"
            (default [1]) are warmed up while loading.
Requests of a run go through the model together, padded on the left."""
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from protocol import PROTOCOL_VERSION, check_version, serve, tell_done, tell_token  # noqa: E402
from operations import Profile  # noqa: E402


class Engine:
    """The loaded model; torch is imported late, so that its absence is an answer."""

    def __init__(self):
        self.torch = self.model = None
        self.mode, self.eos, self.context = "eager", set(), 2048
        self.graphs, self.caches = False, {}

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
                "profile": True,
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
            self.graphs = self.model.device.type == "cuda"
            self.step = torch.compile(self.model.forward, dynamic=False,
                                      mode="reduce-overhead" if self.graphs else "default")
            for rows in options.get("warm_batches", [1]):
                self.generate([[1, 2, 3, 4]] * rows, [8] * rows, True, lambda *_: None)
        parameters = sum(weight.numel() for weight in self.model.parameters())
        return {"load_ms": (time.monotonic() - begin) * 1e3,
                "details": {"mode": self.mode, "dtype": str(dtype), "device": str(device),
                            "threads": torch.get_num_threads(), "parameters": parameters,
                            "attention": self.model.config._attn_implementation}}

    def cache(self, rows):
        """An empty cache. A static one is kept for each number of rows: its addresses are in the
        captured graphs."""
        from transformers import DynamicCache, StaticCache
        if self.mode == "eager":
            return DynamicCache(config=self.model.config)
        if rows not in self.caches:
            self.caches[rows] = StaticCache(config=self.model.config, max_cache_len=self.context)
        self.caches[rows].reset()
        return self.caches[rows]

    def forward(self, first, **inputs):
        """The most likely next token of each row."""
        if self.mode == "eager" or first:
            return self.model(**inputs).logits[:, -1].argmax(-1)
        if self.graphs:
            # The outputs of the graph's last run are given up; what is kept of them was copied.
            self.torch.compiler.cudagraph_mark_step_begin()
        return self.step(**inputs).logits[:, -1].argmax(-1).clone()

    def generate(self, prompts, limits, ignore_eos, tell):
        """Greedy decoding of a batch; tell(index, token, last) for each token."""
        torch, device = self.torch, self.model.device
        longest = max(map(len, prompts))
        if self.mode == "compiled" and longest + max(limits) > self.context:
            raise ValueError(f"{longest} tokens and {max(limits)} more do not fit into the static "
                             f"cache of {self.context}")
        padded = [[0] * (longest - len(ids)) + ids for ids in prompts]
        mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts],
                            device=device)
        ids = torch.tensor(padded, device=device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        cache = self.cache(len(prompts))
        even = bool(mask.all())
        if self.mode == "compiled":
            # As wide as the cache from the start: a mask that grows would be compiled at every step.
            # What is not written yet is hidden by the positions.
            mask = torch.cat([mask, mask.new_ones(len(prompts), self.context - longest)], -1)
        counts, going = [0] * len(prompts), [True] * len(prompts)
        first = True
        while any(going):
            tokens = self.forward(first, input_ids=ids, attention_mask=None if even else mask,
                                  position_ids=positions, past_key_values=cache, use_cache=True)
            first = False
            for index, token in enumerate(tokens.tolist()):
                if going[index]:
                    counts[index] += 1
                    ended = not ignore_eos and token in self.eos
                    going[index] = not ended and counts[index] < limits[index]
                    tell(index, token, None if going[index] else
                         ("stop" if ended else "length"), counts[index])
            ids = tokens[:, None]
            positions = positions[:, -1:] + 1
            if not even and self.mode == "eager":
                mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], -1)

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

    def profile(self, request):
        if self.model is None:
            raise RuntimeError("profile before load")
        if self.mode == "compiled":
            raise RuntimeError("a compiled step cannot tell: its modules are no more")
        profile = Profile(self.torch, self.model, lambda: self.cache(1))
        return {"tests": [profile.run(test) for test in request["tests"]]}

    def stop(self, _):
        return {}


if __name__ == "__main__":
    serve(Engine())
