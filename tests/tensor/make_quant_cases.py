#!/usr/bin/env python3
"""Writes quant_cases.bin: random blocks of every quantised type and the values that the published
reference (the numpy dequantisers of the PyPI package `gguf`) gives for them.

    python3 -m venv venv && venv/bin/pip install gguf
    venv/bin/python tests/tensor/make_quant_cases.py tests/tensor/quant_cases.bin

Layout, little-endian, repeated to the end of the file: u32 GGUF type id, u32 elements, u32 bytes,
the block bytes, the values as float32.
"""
import struct
import sys

import gguf
import numpy as np

# Byte offsets of the f16 fields of a block: random bits there are made finite, because the payload
# of a NaN is no part of any definition.
TYPES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}
VALUES = 768


def main(path: str) -> None:
    random = np.random.default_rng(20240229)
    with open(path, "wb") as out:
        for name, halves in TYPES.items():
            kind = gguf.GGMLQuantizationType[name]
            elements, size = gguf.GGML_QUANT_SIZES[kind]
            blocks = random.integers(0, 256, (VALUES // elements, size), dtype=np.uint8)
            for offset in halves:
                top = blocks[:, offset + 1]
                infinite = (top & 0x7C) == 0x7C
                blocks[:, offset + 1] = np.where(infinite, top & 0xBF, top)
            values = gguf.dequantize(blocks.reshape(1, -1), kind).astype("<f4")
            out.write(struct.pack("<III", kind.value, values.size, blocks.size))
            out.write(blocks.tobytes())
            out.write(values.tobytes())


main(sys.argv[1])
