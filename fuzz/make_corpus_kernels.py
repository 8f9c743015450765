#!/usr/bin/env python3
"""Writes the seed corpus of fuzz_kernel_pack: small packs, whole and broken. Deterministic; run it
from anywhere after a change and commit what it wrote."""

import hashlib
import struct
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "corpus" / "kernel_pack"


def row(name, data, offset, size=None):
    key = hashlib.sha256(name).digest()
    size = len(data) if size is None else size
    return (key + hashlib.sha256(data).digest() +
            struct.pack("<QQII", offset, size, 120200, 0) + name.ljust(40, b"\0"))


def pack(items, magic=b"LLCUDAKP", version=1, extra=b"", shift=0, size=None):
    start = 64 + 128 * len(items)
    rows, data = b"", b""
    for name, content in items:
        rows += row(name, content, start + len(data) + shift, size)
        data += content
    total = start + len(data)
    head = magic + struct.pack("<IIQ", version, len(items), total)
    return head + hashlib.sha256(rows).digest() + bytes(8) + rows + data + extra


def main():
    two = [(b"one.cu", b"first binary"), (b"two.cu", b"")]
    whole = pack(two)
    seeds = {
        "empty": b"", "no_items": pack([]), "two_items": whole, "cut_table": whole[:150],
        "cut_data": whole[:-3], "too_long": pack(two, extra=b"more"),
        "magic": pack(two, magic=b"LLCUDAKQ"), "version": pack(two, version=2),
        "outside": pack(two, shift=1 << 40), "wraps": pack(two, size=(1 << 64) - 8),
        "into_table": pack(two, shift=-200), "long_name": pack([(b"n" * 40, b"x")]),
        "damaged_table": whole[:70] + b"\xff" + whole[71:], "damaged_data": whole[:-1] + b"!",
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, data in seeds.items():
        (FOLDER / name).write_bytes(data)


if __name__ == "__main__":
    main()
