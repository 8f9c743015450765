"""Load on a running program: each kind prints its figures and fails where one misses its target.
    LLCUDA_PROGRAM=build/release/src/cli/llcuda python3 tests/server/load.py KIND [SECONDS or COUNT]
kinds: streams, connections, overload, cancels, signals, cost, and quick, a little of the counted ones.
The program computes on one thread, so that on two cores the client has one of them to itself."""
import asyncio
import json
import os
import pathlib
import random
import subprocess
import sys
import time

from service import Service

CLIENT = os.environ.get("LLCUDA_LOAD_CLIENT") or str(
    pathlib.Path(__file__).parents[2] / "build/release/tests/server/load_client")
DONE = b"data: [DONE]\n\n"


def request_bytes(body, close=True):
    data = json.dumps(body).encode()
    return (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"%sContent-Length: %d\r\n\r\n" % (b"Connection: close\r\n" if close else b"", len(data))
            ) + data


def memory_kib(process):
    """Memory that no file backs, resident or swapped."""
    text = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines()
               if line.startswith(("RssAnon", "VmSwap")))


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


class Answer(asyncio.Protocol):
    """One request on its own connection. What is kept: the status, the times of the first byte and of
    the end, the last bytes, and how many events there were."""

    def __init__(self, data):
        self.data = data
        self.done = asyncio.get_running_loop().create_future()
        self.first = self.end = self.status = None
        self.tail = b""
        self.events = 0

    def connection_made(self, transport):
        self.transport = transport
        self.begin = time.monotonic()
        transport.write(self.data)

    def data_received(self, data):
        if self.first is None:
            self.first = time.monotonic()
            self.status = int(data[9:12])
        self.events += data.count(b"\ndata: ")
        self.tail = (self.tail + data)[-400:]

    def connection_lost(self, _):
        self.end = time.monotonic()
        if not self.done.done():
            self.done.set_result(self)

    def whole(self):
        """A stream that ended as it should."""
        return self.status == 200 and DONE in self.tail and b'"error"' not in self.tail


async def ask(port, data):
    loop = asyncio.get_running_loop()
    _, answer = await loop.create_connection(lambda: Answer(data), "127.0.0.1", port)
    return await answer.done


def start_client(service, *arguments):
    """load_client, see there: a client in C, where this one would be what is measured."""
    return subprocess.Popen([CLIENT, str(service.port), *map(str, arguments)], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE)


def load(service, *arguments, data):
    told, _ = start_client(service, *arguments).communicate(data)
    return json.loads(told)


def check(name, value, limit, at_most=True):
    good = value <= limit if at_most else value >= limit
    print(f"{'ok  ' if good else 'MISS'} {name}: {value:.6g} ({'at most' if at_most else 'at least'} {limit:g})",
          flush=True)
    return good


# -------------------------------------------------------------- 1,000 streams

async def keep_streams(service, count, seconds, samples):
    end = time.monotonic() + seconds
    results = {"whole": 0, "lost": 0}
    data = request_bytes({"prompt": "Once upon a time", "max_tokens": 100, "ignore_eos": True,
                          "stream": True})

    async def client():
        while time.monotonic() < end:
            try:
                answer = await ask(service.port, data)
                results["whole" if answer.whole() else "lost"] += 1
            except OSError:
                results["lost"] += 1

    async def watch():
        while time.monotonic() < end:
            samples.append((time.monotonic(), memory_kib(service.process)))
            await asyncio.sleep(1)
    await asyncio.gather(watch(), *(client() for _ in range(count)))
    return results


def streams(seconds=60, count=1000, timed=True):
    service = Service("--queue-max", 2 * count, "--connection-max", 4 * count)
    samples = []
    tokens = service.metric("llcuda_generation_tokens_total")
    begin = time.monotonic()
    results = asyncio.run(keep_streams(service, count, seconds, samples))
    taken = time.monotonic() - begin
    tokens = service.metric("llcuda_generation_tokens_total") - tokens
    idle = service.wait_for("llcuda_kv_cache_blocks_used", 0)
    half = [kib for at, kib in samples if at > begin + 0.5 * seconds]
    print(f"{count} streams at a time for {taken:.0f} s: {results['whole']} whole, {results['lost']} lost, "
          f"{tokens / taken:.0f} tokens/s, memory {samples[0][1] / 1024:.1f} MiB at first, "
          f"{half[0] / 1024:.1f} at half time, {half[-1] / 1024:.1f} at the end")
    good = check("streams lost", results["lost"], 0)
    if timed:
        good &= check("memory grown in the second half, KiB", half[-1] - half[0], 2048)
    good &= check("blocks in use afterwards", 0 if idle else 1, 0)
    return service.close() == 0 and good


# -------------------------------------------------------------- 10,000 connections

async def ask_beside(service, data, seconds):
    """How long requests take, one after the other with pauses; each has to be whole."""
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        answer = await ask(service.port, data)
        assert answer.whole(), answer.tail
        times.append(answer.end - answer.begin)
        await asyncio.sleep(0.005)
    return times


def connections(count=10000, seconds=6, timed=True):
    """Half of the connections are idle, half send a byte of a header each half second."""
    service = Service("--connection-max", count + 1000)
    data = request_bytes({"prompt": "Once", "max_tokens": 4, "ignore_eos": True, "stream": True})
    base = asyncio.run(ask_beside(service, data, seconds / 4))
    before = memory_kib(service.process)
    held = start_client(service, "hold", count, seconds + 2)
    assert json.loads(held.stdout.readline())["held"] == count
    beside = asyncio.run(ask_beside(service, data, seconds))
    grown = memory_kib(service.process) - before
    open_now = service.metric("llcuda_http_connections")
    lost = json.loads(held.stdout.readline())["lost"]
    held.wait()
    print(f"{count} connections, half idle, half inside a header: {grown / count:.2f} KiB each; {len(beside)} "
          f"requests of 4 tokens p50 {percentile(base, .5) * 1e3:.2f} ms and p99 "
          f"{percentile(base, .99) * 1e3:.2f} alone, {percentile(beside, .5) * 1e3:.2f} and "
          f"{percentile(beside, .99) * 1e3:.2f} beside them")
    good = check("connections held", open_now, count, at_most=False)
    good &= check("connections lost", lost, 0)
    good &= check("connections left", 0 if service.wait_for("llcuda_http_connections", 1) else 1, 0)
    if timed:
        good &= check("KiB a connection", grown / count, 32)
        good &= check("p99 of other requests, ms", percentile(beside, .99) * 1e3, 100)
    return service.close() == 0 and good


# -------------------------------------------------------------- 4 × overload

async def closed_loop(service, data, clients, seconds):
    end = time.monotonic() + seconds
    done = []

    async def client():
        while time.monotonic() < end:
            answer = await ask(service.port, data)
            if answer.status == 200 and answer.end <= end:
                done.append(answer)
    await asyncio.gather(*(client() for _ in range(clients)))
    return len(done) / seconds


def tell_load(name, result, peak):
    print(f"{name}: {result['good']} answered, {result['refused']} refused, goodput {result['goodput']:.1f}/s = "
          f"{result['goodput'] / peak:.3f} of the peak, answers p50 {result['whole_p50_ms']:.0f} ms, refusals p50 "
          f"{result['refusal_p50_ms']:.2f} ms and p99 {result['refusal_p99_ms']:.2f}, load average "
          f"{os.getloadavg()[0]:.0f}", flush=True)


def overload(seconds=6, rounds=3):
    """The peak is the best goodput at any load that was tried. What ends in the first two seconds of a
    load does not count, neither here nor there. A machine that has other work can only take away from
    a figure, so that each is the best of some rounds."""
    tokens, peak, best, late, wrong = 128, 0, 0, [], 0
    service = Service("--queue-max", 128, "--connection-max", 20000)
    data = request_bytes({"prompt": "Once upon a time", "max_tokens": tokens, "ignore_eos": True})
    for at in range(rounds):
        for clients in (32, 64, 96):
            result = load(service, "closed", clients, seconds, 2, data=data)
            peak = max(peak, result["goodput"])
            tell_load(f"{clients} clients", result, peak)
        for factor in (1, 2, 4) if at == 0 else (4,):
            result = load(service, "open", factor * peak, seconds, 2, data=data)
            wrong += result["lost"] + result["other"]
            peak = max(peak, result["goodput"])
            tell_load(f"{factor} x the peak of {peak:.1f} answers of {tokens} tokens a second", result, peak)
        best = max(best, result["goodput"])
        late.append(result["refusal_p99_ms"])
    good = check("goodput at 4 x, share of the peak", best / peak, 0.9, at_most=False)
    good &= check("p99 of refusals at 4 x, ms, the worst round", max(late), 50)
    good &= check("neither answered nor refused", wrong, 0)
    return service.close() == 0 and good


# -------------------------------------------------------------- 10,000 cancels

async def leave_early(service, count):
    gate = asyncio.Semaphore(100)

    async def one():
        data = request_bytes({"prompt": "Once upon a time", "max_tokens": 400, "ignore_eos": True,
                              "stream": random.random() < 0.5, "n": random.choice((1, 1, 2))})
        async with gate:
            if random.random() < 0.1:
                data = data[:random.randrange(1, len(data))]
            loop = asyncio.get_running_loop()
            transport, answer = await loop.create_connection(lambda: Answer(data), "127.0.0.1",
                                                             service.port)
            await asyncio.sleep(random.random() * 0.05)
            transport.abort() if random.random() < 0.5 else transport.close()
            await answer.done
    await asyncio.gather(*(one() for _ in range(count)))


def cancels(count=10000, timed=True):
    service = Service("--connection-max", 20000)
    memory = []
    begin = time.monotonic()
    for _ in range(4):  # the first quarter is what the allocator needs to get to work
        asyncio.run(leave_early(service, count // 4))
        idle = (service.wait_for("llcuda_kv_cache_blocks_used", 0) and
                service.wait_for("llcuda_http_connections", 1) and
                service.wait_for("llcuda_admitted_tokens", 0))
        memory.append(memory_kib(service.process))
    print(f"{count} requests left at random moments in {time.monotonic() - begin:.1f} s; memory after each "
          f"quarter {', '.join(f'{kib / 1024:.1f}' for kib in memory)} MiB")
    good = check("blocks, connections or admitted tokens left", 0 if idle else 1, 0)
    if not timed:
        return service.close() == 0 and good
    good &= check("memory grown from the first to the last quarter, bytes a request",
                  (memory[-1] - memory[0]) * 1024 / (count * 3 / 4), 64)
    return service.close() == 0 and good


# -------------------------------------------------------------- 100 signals

async def streams_until_the_end(service, count, delay):
    data = request_bytes({"prompt": "Once upon a time", "max_tokens": 1500, "ignore_eos": True,
                          "stream": True})
    loop = asyncio.get_running_loop()
    answers = [(await loop.create_connection(lambda: Answer(data), "127.0.0.1", service.port))[1]
               for _ in range(count)]
    await asyncio.sleep(delay)
    service.stop()
    await asyncio.wait_for(asyncio.gather(*(answer.done for answer in answers)), 60)
    return answers


def signals(count=100):
    silent = told = whole = wrong = 0
    slowest = 0
    for _ in range(count):
        limit = random.random() * 0.5
        service = Service("--drain-timeout", f"{limit:.3f}")
        answers = asyncio.run(streams_until_the_end(service, 20, random.random() * 0.4))
        begin = time.monotonic()
        wrong += service.close() != 0
        slowest = max(slowest, time.monotonic() - begin)
        for answer in answers:
            ended = DONE in answer.tail or answer.status == 503
            silent += not ended
            told += ended and not answer.whole()
            whole += answer.whole()
    print(f"{count} SIGTERMs under 20 streams: {whole} whole, {told} told of the end, {silent} cut silently, "
          f"slowest end after the last stream {slowest:.2f} s")
    good = check("silent cuts", silent, 0)
    return check("exit statuses other than 0", wrong, 0) and good


# -------------------------------------------------------------- the server's own cost

def thread_seconds(process, *names):
    total = 0
    for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir():
        if (task / "comm").read_text().strip() in names:
            total += int((task / "schedstat").read_text().split()[0]) / 1e9
    return total


def cost(seconds=10):
    service = Service()
    data = request_bytes({"prompt": "Once upon a time", "max_tokens": 1, "ignore_eos": True,
                          "stream": True})
    asyncio.run(closed_loop(service, data, 1, 1))

    async def one_after_the_other():
        firsts = []
        for _ in range(1000):
            answer = await ask(service.port, data)
            firsts.append(answer.first - answer.begin)
        return firsts
    firsts = asyncio.run(one_after_the_other())
    work = lambda: (thread_seconds(service.process, "llcuda-net", "llcuda-prepare"),
                    service.metric("llcuda_generation_tokens_total"), time.monotonic())
    rows = []
    for clients in (1, 64):
        data = request_bytes({"prompt": "Once upon a time", "max_tokens": 400, "ignore_eos": True,
                              "stream": True})
        before = work()
        asyncio.run(closed_loop(service, data, clients, seconds))
        after = work()
        used, tokens, taken = (b - a for a, b in zip(before, after))
        rows.append((clients, used / tokens * 1e6))
        print(f"{clients} streams of 400 tokens: {tokens / taken:.0f} tokens/s, network threads "
              f"{used / tokens * 1e6:.2f} us of processor a token")
    print(f"first byte of 1,000 requests, one after the other: p50 {percentile(firsts, .5) * 1e3:.2f} ms, "
          f"p99 {percentile(firsts, .99) * 1e3:.2f} ms")
    good = all([check(f"us a token, {clients} streams", us, 20) for clients, us in rows])
    good &= check("first byte p50, ms", percentile(firsts, .5) * 1e3, 2)
    good &= check("first byte p99, ms", percentile(firsts, .99) * 1e3, 2)
    return service.close() == 0 and good


def quick():
    """What takes seconds, for every check: what is lost counts, times and memory do not."""
    return all([streams(3, 150, timed=False), connections(1000, 2, timed=False),
                cancels(800, timed=False), signals(4)])


if __name__ == "__main__":
    kinds = {"streams": streams, "connections": connections, "overload": overload, "cancels": cancels,
             "signals": signals, "cost": cost, "quick": quick}
    chosen = kinds[sys.argv[1]]
    sys.exit(0 if chosen(*map(int, sys.argv[2:])) else 1)
