"""Where the time of a transformers model goes, in the words of the engine protocol's `profile`
(docs/internals/bench-protocol.md).

The forward functions of the model's modules are wrapped while a pass is watched; the time from one
border between them to the next belongs to the innermost that runs. What the wrappers do themselves
lies between two readings of the clock and counts for nobody; what is left, the call of a Python
function, is below a microsecond. The whole of a test is timed in other passes without wrappers.

On a GPU the borders are CUDA events. The stream is held up by a kernel that waits until the host has
queued the pass, so that the time between two events is the GPU's own work and not the host's; what
the whole takes beyond that is `other`."""
import contextlib
import sys
import time

# Modules by the last part of their names. A layer's additions to its residual stream follow its
# attention and its feed-forward network, and belong to their last products.
NAMES = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "qkv_proj": "qkv", "o_proj": "output",
         "gate_proj": "gate_up", "up_proj": "gate_up", "gate_up_proj": "gate_up",
         "down_proj": "down", "act_fn": "activation", "self_attn": "attention",
         "mlp": "activation", "rotary_emb": "rotary"}
AFTER = {"attention": "output", "activation": "down", "norm": "other"}
REQUIRED = ("qkv", "attention", "output", "gate_up", "activation", "down")
QUEUE_CYCLES = 200_000_000  # a tenth of a second at 2 GHz: the host queues a pass within it
PASSES = 4  # the first one warms up; the fastest counts


class Clock:
    """The host's time, for models that compute in the calling thread."""

    now = staticmethod(time.perf_counter_ns)

    def again(self, _):
        """The time at which what follows a border begins."""
        return time.perf_counter_ns()

    def begin(self):
        pass

    def between(self, borders):
        return [end - begin for begin, end in borders]


class EventClock:
    """CUDA events, behind a kernel that waits."""

    def __init__(self, torch):
        self.torch = torch

    def now(self):
        event = self.torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def again(self, border):
        return border  # nothing of the wrappers' own is on the stream

    def begin(self):
        self.torch.cuda.synchronize()
        self.torch.cuda._sleep(QUEUE_CYCLES)

    def between(self, borders):
        self.torch.cuda.synchronize()
        return [begin.elapsed_time(end) * 1e6 for begin, end in borders]


class Watch:
    """Notes which operation ran from when to when."""

    def __init__(self, clock):
        self.clock, self.spans, self.times = clock, [], {}
        self.current, self.since = "other", None

    def begin(self):
        self.clock.begin()
        self.spans, self.times = [], {}
        self.current, self.since = "other", self.clock.now()

    def change(self, operation):
        """From here on it is this one."""
        border = self.clock.now()
        self.spans.append((self.current, self.since, border))
        self.current, self.since = operation, self.clock.again(border)

    def wrapped(self, function, operation, within_layer=False):
        """`function`, whose time is that of the operation."""
        after = AFTER.get(operation) if within_layer else None

        def call(*arguments, **named):
            outer = self.current
            self.times[operation] = self.times.get(operation, 0) + 1
            self.change(operation)
            try:
                return function(*arguments, **named)
            finally:
                self.change(after or outer)
        return call

    def sums(self):
        """Nanoseconds of each operation since begin()."""
        self.change("other")
        sums = {}
        durations = self.clock.between([(begin, end) for _, begin, end in self.spans])
        for (operation, _, _), ns in zip(self.spans, durations):
            sums[operation] = sums.get(operation, 0) + ns
        return sums


def operation_of(name, module, model):
    """The word for a module, or None for one that only calls others."""
    if module is model.get_input_embeddings():
        return "embed"
    if module is model.get_output_embeddings():
        return "logits"
    if "norm" in type(module).__name__.lower():
        return "norm"
    last = name.rsplit(".", 1)[-1]
    # A layer is nobody's work; it is wrapped so that what follows its last product ends with it.
    return "other" if last.isdigit() else NAMES.get(last)


@contextlib.contextmanager
def watched(model, watch):
    """The model with its modules wrapped, and the function that rotates queries and keys."""
    wrapped, functions, found = [], [], set()
    for name, module in model.named_modules():
        operation = operation_of(name, module, model)
        if operation:
            found.add(operation)
            parent = name.rsplit(".", 1)[0] if "." in name else ""
            within_layer = parent.rsplit(".", 1)[-1].isdigit()
            wrapped.append(module)
            module.forward = watch.wrapped(module.forward, operation, within_layer)
        if operation == "attention":
            home = sys.modules[type(module).__module__]
            rotate = getattr(home, "apply_rotary_pos_emb", None)
            if rotate and not functions:
                functions.append((home, rotate))
                home.apply_rotary_pos_emb = watch.wrapped(rotate, "rotary")
    try:
        missing = [operation for operation in REQUIRED if operation not in found]
        if missing:
            raise ValueError("the modules of this model are not known: there is none for "
                             + ", ".join(missing))
        yield bool(functions)
    finally:
        for module in wrapped:
            del module.forward  # the class has it
        for home, rotate in functions:
            home.apply_rotary_pos_emb = rotate


class Profile:
    """The tests of one request on a loaded model."""

    def __init__(self, torch, model, new_cache):
        self.torch, self.model, self.new_cache = torch, model, new_cache
        self.on_gpu = model.device.type == "cuda"
        self.watch = Watch(EventClock(torch) if self.on_gpu else Clock())

    def tokens(self, count, seed):
        generator = self.torch.Generator().manual_seed(seed)
        ids = self.torch.randint(0, self.model.config.vocab_size, (1, count), generator=generator)
        return ids.to(self.model.device)

    def step(self, ids, position, cache, choose):
        """One forward pass, as the adapter does it for requests."""
        positions = self.torch.arange(position, position + ids.shape[1],
                                      device=self.model.device)[None]
        logits = self.model(input_ids=ids, attention_mask=None, position_ids=positions,
                            past_key_values=cache, use_cache=True).logits
        return choose(logits)

    def one(self, test, is_watched):
        """One pass of a test: nanoseconds of the whole, or of each operation."""
        depth, prompt, generate = test["depth"], test["prompt_tokens"], test["generate"]
        cache, sums = self.new_cache(), {}

        def choose(logits):
            return logits[:, -1].argmax(-1)
        if depth:
            self.step(self.tokens(depth, 1), 0, cache, choose)
        if is_watched:
            cache.update = self.watch.wrapped(cache.update, "cache")
            choose = self.watch.wrapped(choose, "sampling")
        if self.on_gpu:
            self.torch.cuda.synchronize()
        begin, tokens = time.perf_counter_ns(), self.tokens(prompt or 1, 2)
        for index in range(generate or 1):
            if is_watched:
                self.watch.begin()
            token = self.step(tokens, depth + index, cache, choose)
            if is_watched:
                for operation, ns in self.watch.sums().items():
                    sums[operation] = sums.get(operation, 0) + ns
                for operation, times in self.watch.times.items():
                    self.times[operation] = self.times.get(operation, 0) + times
            token.tolist()  # the host wants it before it goes on
            tokens = token[:, None]
        return sums if is_watched else time.perf_counter_ns() - begin

    def run(self, test):
        whole = min(self.one(test, False) for _ in range(PASSES))
        best = None
        with watched(self.model, self.watch) as knows_rotary:
            for _ in range(PASSES):
                self.times = {}
                sums = self.one(test, True)
                if best is None or sum(sums.values()) < sum(best.values()):
                    best = sums
        operations = [{"operation": operation, "ns": ns, "times": self.times[operation]}
                      for operation, ns in best.items() if operation != "other"]
        for row in operations:
            if row["operation"] == "attention" and not knows_rotary:
                row["with"] = ["rotary"]
        return {"name": test["name"], "tokens": test["prompt_tokens"] or test["generate"],
                "ns": max(whole, sum(row["ns"] for row in operations)), "operations": operations}
