"""Load on a running program, to be run by hand; prints figures, fails on a lost stream or a leak.
    LLCUDA_PROGRAM=build/release/src/cli/llcuda python3 tests/server/load.py [streams] [cancels]"""
import asyncio
import json
import random
import sys
import time

from service import Service


def request(body):
    data = json.dumps(body).encode()
    return (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(data)) + data


def memory_kib(process):
    """Resident memory that no file backs."""
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))


async def stream(port, body, leave_after=None):
    """One stream: seconds to the first byte, and whether it was whole; or leaves early."""
    begin = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(body))
    try:
        if leave_after is not None:
            try:
                await asyncio.wait_for(reader.read(), leave_after)
            except TimeoutError:
                pass
            return 0, True
        first = await reader.read(1)
        seconds = time.monotonic() - begin
        rest = await reader.read()
        return seconds, bool(first) and b"data: [DONE]" in rest and b'"error"' not in rest
    finally:
        writer.close()


async def many_streams(service, count):
    body = {"prompt": "Once upon a time", "max_tokens": 20, "ignore_eos": True, "stream": True}
    begin = time.monotonic()
    results = await asyncio.gather(*(stream(service.port, body) for _ in range(count)))
    seconds = time.monotonic() - begin
    lost = sum(not whole for _, whole in results)
    firsts = sorted(first for first, _ in results)
    print(f"{count} streams of 20 tokens at once: {seconds:.2f} s, {count * 20 / seconds:.0f} tokens/s, "
          f"lost {lost}, first byte p50 {firsts[count // 2] * 1e3:.0f} ms, "
          f"p99 {firsts[count * 99 // 100] * 1e3:.0f} ms")
    return lost


async def cancels(service, count):
    gate = asyncio.Semaphore(100)

    async def one():
        async with gate:
            await stream(service.port, {"prompt": "Once upon a time", "max_tokens": 400,
                                        "ignore_eos": True, "stream": random.random() < 0.5},
                         random.random() * 0.05)
    begin = time.monotonic()
    await asyncio.gather(*(one() for _ in range(count)))
    print(f"{count} requests left at random moments: {time.monotonic() - begin:.1f} s")


def main():
    streams = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 10000
    service = Service("--queue-max", max(1024, streams), "--connection-max", 20000)
    lost = asyncio.run(many_streams(service, streams))
    before = memory_kib(service.process)
    lost += asyncio.run(many_streams(service, streams))
    asyncio.run(cancels(service, count))
    idle = service.wait_for("llcuda_kv_cache_blocks_used", 0) and service.wait_for(
        "llcuda_http_connections", 1)
    print(f"blocks in use {service.metric('llcuda_kv_cache_blocks_used'):.0f}, connections "
          f"{service.metric('llcuda_http_connections'):.0f} (this one), memory "
          f"{before / 1024:.1f} -> {memory_kib(service.process) / 1024:.1f} MiB")
    status = service.close()
    print("failed" if lost or not idle or status else "passed")
    return 1 if lost or not idle or status else 0


if __name__ == "__main__":
    sys.exit(main())
