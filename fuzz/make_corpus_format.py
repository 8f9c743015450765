#!/usr/bin/env python3
"""Writes the seed corpora of fuzz_gguf, fuzz_safetensors and fuzz_hf_config: small valid files of
every kind, and one file for each rule and each known way of lying. Deterministic; run it from
anywhere after a change and commit what it wrote. Inputs that fuzzing found are kept beside the
seeds under names that begin with "found-"."""

import json
import struct
from pathlib import Path

CORPUS = Path(__file__).resolve().parent / "corpus"
U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
PACK = {U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f", BOOL: "<B",
        U64: "<Q", I64: "<q", F64: "<d"}


def write(folder, name, data):
    path = CORPUS / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def scalar(kind, value):
    return text(value) if kind == STRING else struct.pack(PACK[kind], value)


def entry(key, kind, value):
    return text(key) + struct.pack("<I", kind) + scalar(kind, value)


def array(key, kind, values, count=None):
    head = struct.pack("<IIQ", ARRAY, kind, len(values) if count is None else count)
    return text(key) + head + b"".join(scalar(kind, value) for value in values)


def tensor(name, shape, kind, offset):
    """`shape` innermost first, as the file has it."""
    return (text(name) + struct.pack("<I", len(shape)) +
            b"".join(struct.pack("<Q", n) for n in shape) + struct.pack("<IQ", kind, offset))


def gguf(entries=(), tensors=(), data=b"", version=3, align=32, counts=None):
    n_tensors, n_entries = counts or (len(tensors), len(entries))
    head = b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_entries)
    head += b"".join(entries) + b"".join(tensors)
    if tensors:
        head += b"\0" * (-len(head) % align)
    return head + data


def make_gguf():
    arch = entry("general.architecture", STRING, "llama")
    scalars = [entry(f"s{kind}", kind, "text" if kind == STRING else 1)
               for kind in range(13) if kind != ARRAY]
    arrays = [array(f"a{kind}", kind, ["x", "", "yz"] if kind == STRING else [1, 0, 1])
              for kind in range(13) if kind != ARRAY]
    weights = [tensor("blk.0.w", (8, 2), 0, 0), tensor("norm", (8,), 1, 64),
               tensor("q", (32, 1, 2), 8, 96), tensor("scalar", (), 30, 192)]
    good = {
        "empty": gguf(),
        "scalars": gguf(scalars),
        "arrays": gguf(arrays),
        "version_2": gguf([arch], version=2),
        "tensors": gguf([arch], weights, bytes(range(194))),
        "tensors_backwards": gguf([arch], [tensor("b", (4,), 0, 32), tensor("a", (4,), 0, 0)],
                                  b"\1" * 48),
        "alignment_1": gguf([entry("general.alignment", U32, 1)],
                            [tensor("a", (3,), 1, 0), tensor("b", (1,), 1, 6)], b"12345678", 3, 1),
        "alignment_big": gguf([entry("general.alignment", U32, 4096)],
                              [tensor("a", (4,), 0, 0)], b"x" * 16, 3, 4096),
        "k_blocks": gguf([arch], [tensor(f"t{kind}", (256,), kind, 320 * i)
                                  for i, kind in enumerate(range(10, 15))], b"\7" * 1600),
        "old_blocks": gguf([arch], [tensor(f"t{kind}", (32,), kind, 64 * i)
                                    for i, kind in enumerate((2, 3, 6, 7, 8))], b"\7" * 320),
        "vocabulary": gguf([arch, entry("llama.block_count", U32, 2),
                            array("tokenizer.ggml.tokens", STRING, ["<s>", "a", b"\xff", "ab"]),
                            array("tokenizer.ggml.scores", F32, [0, -1, -2, -3]),
                            array("tokenizer.ggml.token_type", I32, [3, 1, 6, 1])]),
    }
    bad = {
        "magic": b"GGML" + gguf()[4:],
        "version_1": gguf(version=1),
        "big_endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
        "count_tensors": gguf(counts=(1 << 63, 0)),
        "count_entries": gguf(counts=(0, (1 << 64) - 1)),
        "array_length": gguf([array("k", U8, [], 1 << 63)]),
        "array_strings": gguf([array("k", STRING, [], 1 << 61)]),
        "array_of_arrays": gguf([text("k") + struct.pack("<IIQ", ARRAY, ARRAY, 0)]),
        "string_length": gguf([text("k") + struct.pack("<IQ", STRING, (1 << 64) - 1)]),
        "key_length": gguf([struct.pack("<Q", (1 << 64) - 8) + b"k" * 20], counts=(0, 1)),
        "key_twice": gguf([entry("k", U8, 1), entry("k", U8, 2)]),
        "kind": gguf([text("k") + struct.pack("<IB", 13, 0)]),
        "bool": gguf([entry("k", BOOL, 2)]),
        "alignment_type": gguf([entry("general.alignment", STRING, "32")]),
        "alignment_zero": gguf([entry("general.alignment", U32, 0)]),
        "alignment_huge": gguf([entry("general.alignment", U32, 1 << 31)]),
        "rank": gguf([], [tensor("w", (1,) * 5, 0, 0)], b"1234"),
        "dimension_zero": gguf([], [tensor("w", (4, 0), 0, 0)], b"1234"),
        "product_wraps": gguf([], [tensor("w", (1 << 32, 1 << 32), 0, 0)], b"1234"),
        "bytes_wrap": gguf([], [tensor("w", (1 << 62,), 0, 0)], b"1234"),
        "offset_wraps": gguf([], [tensor("w", (1,), 0, (1 << 64) - 32)], b"1234"),
        "offset_odd": gguf([], [tensor("w", (1,), 0, 4)], b"12345678"),
        "past_end": gguf([], [tensor("w", (2,), 0, 0)], b"1234567"),
        "overlap": gguf([], [tensor("a", (9,), 0, 0), tensor("b", (1,), 0, 32)], b"x" * 64),
        "name_twice": gguf([], [tensor("a", (1,), 0, 0), tensor("a", (1,), 0, 32)], b"x" * 64),
        "type_negative": gguf([], [tensor("w", (1,), 0xFFFFFFFF, 0)], b"1234"),
        "type_nvfp4": gguf([], [tensor("w", (64,), 40, 0)], b"x" * 36),
        "half_block": gguf([], [tensor("w", (16,), 2, 0)], b"x" * 18),
    }
    for name, data in good.items():
        write("gguf", f"good-{name}", data)
    for name, data in bad.items():
        write("gguf", f"bad-{name}", data)


def safetensors(header, data=b"", length=None):
    raw = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def description(kind, shape, begin, end):
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}


def make_safetensors():
    good = {
        "empty": safetensors("{}      "),
        "metadata": safetensors('{"__metadata__":{"format":"pt","\\u00e9":"\\n"}}'),
        "one": safetensors(json.dumps({"w": description("F32", [2, 2], 0, 16)}), b"x" * 16),
        "scalar": safetensors(json.dumps({"w": description("I32", [], 0, 4)}), b"1234"),
        "zero_sized": safetensors(json.dumps({"w": description("I32", [2, 0], 0, 0)})),
        "order": safetensors(json.dumps({"b": description("BF16", [3], 4, 10),
                                         "z": description("U8", [0], 4, 4),
                                         "a": description("F16", [2], 0, 4)}), b"0123456789"),
        "escaped": safetensors('{"\\u0061\\"":{"dtype":"F8_E4M3","shape":[1],"data_offsets":'
                               '[0,1],"more":[{"x":null}]}}  ', b"1"),
        "half_bytes": safetensors(json.dumps({"w": description("F4", [2, 3], 0, 3)}), b"123"),
    }
    f32 = '{"w":{"dtype":"F32","shape":%s,"data_offsets":%s}}'
    bad = {
        "short": b"\1\0\0",
        "length": safetensors("{}", length=1 << 63),
        "length_wraps": safetensors("{}", length=(1 << 64) - 8),
        "no_brace": safetensors(" {}"),
        "not_utf8": safetensors(b'{"\xff":1}'),
        "not_json": safetensors("{"),
        "padding": safetensors("{}\n"),
        "metadata_number": safetensors('{"__metadata__":{"a":1}}'),
        "metadata_twice": safetensors('{"__metadata__":{},"__metadata__":{}}'),
        "name_twice": safetensors(
            '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
            '"\\u0061":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}', b"12"),
        "key_twice": safetensors('{"a":{"dtype":"U8","shape":[1],"shape":[1],'
                                 '"data_offsets":[0,1]}}', b"1"),
        "overlap": safetensors(json.dumps({str(i): description("U8", [4], 0, 4)
                                           for i in range(8)}), b"1234"),
        "hole": safetensors(f32 % ("[1]", "[4,8]"), b"x" * 8),
        "incomplete": safetensors(f32 % ("[1]", "[0,4]"), b"x" * 5),
        "backwards": safetensors(f32 % ("[1]", "[4,0]"), b"x" * 4),
        "overflow": safetensors(f32 % ("[2,18446744073709551614]", "[0,16]"), b"x" * 16),
        "product": safetensors(f32 % ("[900000000000000000,90000000]", "[0,16]"), b"x" * 16),
        "fraction": safetensors(f32 % ("[1.0]", "[0,4]"), b"x" * 4),
        "negative": safetensors(f32 % ("[-1]", "[0,4]"), b"x" * 4),
        "rank": safetensors(f32 % ("[1,1,1,1,1]", "[0,4]"), b"x" * 4),
        "type": safetensors('{"w":{"dtype":"Q4","shape":[1],"data_offsets":[0,1]}}', b"1"),
        "deep": safetensors('{"w":' + "[" * 200 + "]" * 200 + "}"),
    }
    for name, data in good.items():
        write("safetensors", f"good-{name}", data)
    for name, data in bad.items():
        write("safetensors", f"bad-{name}", data)


def make_hf_config():
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"],
              "num_hidden_layers": 2, "rope_theta": 500000.0, "tie_word_embeddings": True,
              "rope_scaling": {"factor": 8.0, "rope_type": "llama3"}, "a": {"b": {"c": 3}},
              "head_dim": None, "eos_token_id": [1, 2]}
    shards = {"metadata": {"total_size": 8},
              "weight_map": {"a": "model-00001-of-00002.safetensors",
                             "b": "model-00002-of-00002.safetensors"}}
    inputs = {
        "config": json.dumps(config, indent=1),
        "index": json.dumps(shards, indent=1) + "\n",
        "both": json.dumps(config | shards),
        "wrong_types": '{"model_type":1,"num_hidden_layers":"2","rope_theta":true,'
                       '"tie_word_embeddings":0,"rope_scaling":[1],"a":{"b":null}}',
        "ranges": '{"num_hidden_layers":-1,"rope_theta":1e400,"a":9223372036854775808}',
        "keys_twice": '{"num_hidden_layers":1,"num_hidden_layers":2}',
        "escapes": '{"weight_map":{"\\u0061\\ud83d\\ude00":"x\\u002esafetensors"}}',
        "path_up": '{"weight_map":{"a":"../x.safetensors"}}',
        "path_escaped": '{"weight_map":{"a":"..\\/x.safetensors"}}',
        "path_nul": '{"weight_map":{"a":"x\\u0000.safetensors"}}',
        "map_empty": '{"weight_map":{}}',
        "map_twice": '{"weight_map":{"a":"x.safetensors"},"weight_map":{"a":"y.safetensors"}}',
        "map_array": '{"weight_map":["x.safetensors"]}',
        "trailing": '{"weight_map":{"a":"x.safetensors"}} {}',
        "array": "[]",
        "nothing": "",
        "truncated": '{"weight_map":{"a":"x.safe',
        "deep": '{"a":' * 150 + "1" + "}" * 150,
    }
    for name, data in inputs.items():
        write("hf_config", f"{name}.json", data)


if __name__ == "__main__":
    make_gguf()
    make_safetensors()
    make_hf_config()
