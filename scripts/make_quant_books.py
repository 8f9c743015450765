#!/usr/bin/env python3
"""Writes src/tensor/quant_books.c: the code books of the IQ types, which are facts of the GGUF format.
They come from the tables of the PyPI package `gguf` (MIT licence), the published reference:

    python3 -m venv venv && venv/bin/pip install gguf
    venv/bin/python scripts/make_quant_books.py > src/tensor/quant_books.c
"""
import gguf.quants as quants
import numpy as np

# name, class, values an entry, bits a value
BOOKS = [
    ("iq2_xxs", "IQ2_XXS", 8, 2), ("iq2_xs", "IQ2_XS", 8, 2), ("iq2_s", "IQ2_S", 8, 2),
    ("iq3_xxs", "IQ3_XXS", 4, 3), ("iq3_s", "IQ3_S", 4, 3), ("iq1", "IQ1_S", 8, 2),
]
A_LINE = 12

print("""/* Owns the code books of the IQ types: facts of the GGUF format, written by
 * scripts/make_quant_books.py from the published tables. An entry holds the indices of its values,
 * the first in the lowest bits; quant_books.h says what they index. */
#include "tensor/quant_books.h"

/* clang-format off */""")
for name, kind, values, bits in BOOKS:
    book = getattr(quants, kind)
    book.init_grid()
    grid = book.grid.reshape(book.grid_shape)
    steps = list(book.grid_map)
    entries = []
    for row in grid:
        entry = 0
        for i, value in enumerate(row):
            entry |= steps.index(int(value)) << (bits * i)
        entries.append(entry)
    assert grid.shape[1] == values and max(entries) < 65536
    print(f"const uint16_t quant_book_{name}[{len(entries)}] = {{")
    for i in range(0, len(entries), A_LINE):
        print("    " + " ".join(f"{e}," for e in entries[i:i + A_LINE]))
    print("};\n")
print("/* clang-format on */")
