"""llama.cpp in process, behind the engine protocol of `llcuda bench`
(docs/internals/bench-protocol.md), through the C interface that the package llama-cpp-python
exposes. Its server is measured over HTTP instead by the engine `llama_cpp_server`.
Requests of a run share one batch, a sequence each: prompts in chunks, then a row a sequence a step.
Options: "gpu_layers", "flash_attention" (default: llama.cpp's own choice), "batch" (rows)."""
import ctypes
import importlib.metadata
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from protocol import PROTOCOL_VERSION, check_version, serve, tell_done, tell_token  # noqa: E402


class Engine:
    def __init__(self):
        self.api = self.model = self.context = self.vocabulary = None
        self.rows, self.sequences = 512, 1

    def hello(self, request):
        check_version(request)
        try:
            import numpy
            import llama_cpp
        except ImportError as error:
            raise RuntimeError(f"not installed: {error} (pip install llama-cpp-python numpy)") from error
        self.numpy, self.api = numpy, llama_cpp
        llama_cpp.llama_backend_init()
        try:
            version = importlib.metadata.version("llama-cpp-python")
        except importlib.metadata.PackageNotFoundError:
            version = getattr(llama_cpp, "__version__", "unknown")
        information = llama_cpp.llama_print_system_info().decode()
        return {"version": PROTOCOL_VERSION, "engine": "llama.cpp", "concurrent": 1,
                "engine_version": f"llama-cpp-python {version}",
                "details": {"system": information}}

    def load(self, request):
        api, options = self.api, request.get("options") or {}
        begin = time.monotonic()
        model = api.llama_model_default_params()
        model.n_gpu_layers = int(options.get("gpu_layers",
                                             0 if request.get("device", "cpu") == "cpu" else 999))
        self.model = api.llama_model_load_from_file(request["model"].encode(), model)
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot read '{request['model']}'")
        self.sequences = max(1, int(request.get("parallel") or 1))
        self.rows = int(options.get("batch", 512))
        settings = api.llama_context_default_params()
        settings.n_ctx = int(request.get("context") or 2048) * self.sequences
        settings.n_seq_max = self.sequences
        settings.n_batch = settings.n_ubatch = self.rows
        if hasattr(settings, "kv_unified"):
            settings.kv_unified = True
        if request.get("threads"):
            settings.n_threads = settings.n_threads_batch = int(request["threads"])
        self.context = api.llama_init_from_model(self.model, settings)
        if not self.context:
            raise RuntimeError("llama.cpp cannot make a context of this size")
        self.vocabulary = api.llama_model_get_vocab(self.model)
        self.width = api.llama_vocab_n_tokens(self.vocabulary)
        self.batch = api.llama_batch_init(self.rows, 0, 1)
        text = ctypes.create_string_buffer(256)
        api.llama_model_desc(self.model, text, 256)
        # The cache keeps keys and values as halves, whatever the weights are.
        kv_token = (4 * api.llama_model_n_layer(self.model) * api.llama_model_n_head_kv(self.model)
                    * (api.llama_model_n_embd(self.model) // api.llama_model_n_head(self.model)))
        return {"load_ms": (time.monotonic() - begin) * 1e3,
                "details": {"kv_bytes_per_token": kv_token, "kv_bytes": kv_token * settings.n_ctx,
                            "description": text.value.decode(), "threads": settings.n_threads,
                            "parallel": self.sequences, "batch": self.rows,
                            "parameters": api.llama_model_n_params(self.model),
                            "weight_bytes": api.llama_model_size(self.model)}}

    def add(self, token, position, sequence, wanted):
        batch, row = self.batch, self.batch.n_tokens
        batch.token[row], batch.pos[row] = token, position
        batch.n_seq_id[row], batch.seq_id[row][0], batch.logits[row] = 1, sequence, wanted
        batch.n_tokens += 1
        return row

    def decode(self):
        result = self.api.llama_decode(self.context, self.batch)
        if result:
            raise RuntimeError(f"llama_decode failed with {result}")

    def greedy(self, row):
        logits = self.api.llama_get_logits_ith(self.context, row)
        return int(self.numpy.ctypeslib.as_array(logits, shape=(self.width,)).argmax())

    def forget(self):
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), False)

    def prefill(self, prompts, tell):
        """All prompts in chunks; tell(sequence, token) as each prompt's last row comes out."""
        work = [(token, position, sequence, position == len(prompt) - 1)
                for sequence, prompt in enumerate(prompts)
                for position, token in enumerate(prompt)]
        for begin in range(0, len(work), self.rows):
            self.batch.n_tokens = 0
            wanted = []
            for token, position, sequence, last in work[begin:begin + self.rows]:
                row = self.add(token, position, sequence, last)
                if last:
                    wanted.append((sequence, row))
            self.decode()
            for sequence, row in wanted:
                tell(sequence, self.greedy(row))

    def generate(self, prompts, limits, ignore_eos, tell):
        counts, last, going = [0] * len(prompts), [0] * len(prompts), [True] * len(prompts)

        def take(sequence, token):
            counts[sequence] += 1
            last[sequence] = token
            ended = not ignore_eos and self.api.llama_vocab_is_eog(self.vocabulary, token)
            going[sequence] = not ended and counts[sequence] < limits[sequence]
            tell(sequence, token, None if going[sequence] else "stop" if ended else "length",
                 counts[sequence])
        self.forget()
        self.prefill(prompts, take)
        while any(going):
            self.batch.n_tokens = 0
            wanted = [(sequence, self.add(last[sequence],
                                          len(prompts[sequence]) + counts[sequence] - 1,
                                          sequence, True))
                      for sequence in range(len(prompts)) if going[sequence]]
            self.decode()
            for sequence, row in wanted:
                take(sequence, self.greedy(row))

    def run(self, request):
        if self.context is None:
            raise RuntimeError("run before load")
        run, items = request["id"], request["requests"]
        prompts = [[int(token) for token in item["prompt_ids"]] for item in items]
        limits = [max(1, int(item.get("max_tokens", 16))) for item in items]
        if not all(prompts):
            raise ValueError("a request has an empty prompt")
        for begin in range(0, len(prompts), self.sequences):
            part = slice(begin, begin + self.sequences)

            def tell(sequence, token, finish, count, begin=begin):
                index = begin + sequence
                tell_token(run, index, token)
                if finish:
                    tell_done(run, index, finish, len(prompts[index]), count)
            self.generate(prompts[part], limits[part], request.get("ignore_eos", True), tell)
        return {"id": run}

    def metrics(self, _):
        return {"metrics": {}}

    def stop(self, _):
        return {}


if __name__ == "__main__":
    serve(Engine())
