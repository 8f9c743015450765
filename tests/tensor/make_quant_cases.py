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
    "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [], "TQ1_0": [52], "TQ2_0": [64], "IQ3_S": [0],
    "IQ3_XXS": [0], "IQ2_S": [0], "IQ2_XS": [0], "IQ2_XXS": [0], "IQ1_S": [0],
    "IQ1_M": [],
}
VALUES = 768
# Code books: enough for about two thirds of their entries.
MANY = {"IQ3_S": 2048, "IQ3_XXS": 1024, "IQ2_S": 8192, "IQ2_XS": 4096, "IQ2_XXS": 2048,
        "IQ1_S": 16384, "IQ1_M": 4096}


def main(path: str) -> None:
    random = np.random.default_rng(20240229)
    with open(path, "wb") as out:
        for name, halves in TYPES.items():
            kind = gguf.GGMLQuantizationType[name]
            elements, size = gguf.GGML_QUANT_SIZES[kind]
            blocks = random.integers(0, 256, (MANY.get(name, VALUES) // elements, size), dtype=np.uint8)
            for offset in halves:
                top = blocks[:, offset + 1]
                infinite = (top & 0x7C) == 0x7C
                blocks[:, offset + 1] = np.where(infinite, top & 0xBF, top)
            if name == "IQ1_M":  # the top nibble of its last u16 is the top of d
                blocks[:, 55] = np.where((blocks[:, 55] & 0x70) == 0x70, blocks[:, 55] & 0xBF,
                                         blocks[:, 55])
            values = gguf.dequantize(blocks.reshape(1, -1), kind).astype("<f4")
            out.write(struct.pack("<III", kind.value, values.size, blocks.size))
            out.write(blocks.tobytes())
            out.write(values.tobytes())


main(sys.argv[1])
