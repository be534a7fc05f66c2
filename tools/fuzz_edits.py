"""How `tools/fuzz.py` damages files: edits of bytes, documents, arrays and weights, by a random generator."""

from __future__ import annotations

import io
import json
import random
import re
from copy import deepcopy
from typing import Any

import numpy as np

_NUMBER = re.compile(rb"(?<![\w.])-?\d+(?:\.\d+)?")
_WORD = re.compile(rb"[^\s,\"]+")
EXTREMES = (
    b"0 -1 1 2 3 99999 2147483647 -2147483648 2147483648 9223372036854775807 9223372036854775808 1e308 1e999 "
    b"-1e999 nan inf 9999.999 1e-320 0x10 1_0 68.844(5) 17A A000 **** ? . -- 1.2.3"
).split()
PIECES = [
    *(b"", b"\n", b"\r", b" ", b"\t", b"\0", b"\xff\xfe", b"'", b'"', b"\n;", b"#", b",", b"=", b">", b"%00"),
    *(
        b"\nloop_\n",
        b"\ndata_y\n",
        b"_atom_site.id\n",
        b"\nMODEL 2\n",
        b"\nEND\n",
        b"\nTER\n",
        b"\nATOM",
        b"\nHETATM",
        b"*" * 8,
        b"99999999999",
        b"{}",
    ),
    *(b"NaN", b"null", b"[]", b"PK", b"-", b"%2F", b"../", b"true"),
]
_VALUES = [
    *(None, True, False, 0, 1, -1, 2, 3, 7, 0.5, -0.5, 1e-9, 1e9, 2**24, 2**31, 2**40, 2**63, 10**30, 5000),
    *(
        "",
        "x",
        "vq",
        "fsq",
        "../x",
        "\0",
        "a" * 100_000,
        [],
        {},
        [1],
        [[]],
        {"a": 1},
        float("nan"),
        float("inf"),
    ),
]


def edit(data: bytes, rng: random.Random) -> bytes:
    """Some edits of the bytes."""
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(len(data) + 1)
        way = rng.randrange(8)
        if way == 0:
            data = data[:at] + rng.choice(PIECES) + data[at + rng.choice((0, 0, 1, 2, 7, 80, 500)) :]
        elif way == 1:
            data = data[:at] + rng.randbytes(rng.randint(1, 4)) + data[at + rng.randint(0, 4) :]
        elif way == 2 and data:
            data = data[: at - 1] + bytes([data[at - 1] ^ 1 << rng.randrange(8)]) + data[at or len(data) :]
        elif way == 3:
            data = _replace(data, _NUMBER, rng, rng.choice(EXTREMES))
        elif way == 4:
            data = _replace(
                data, _WORD, rng, rng.choice((b"", b"x", b"A,B", b"\xc3\xa9", rng.choice(EXTREMES)))
            )
        elif way == 5:
            data = _lines(data, rng)
        elif way == 6 and rng.random() < 0.3:
            data = _replace(data, _WORD, rng, b"A" * rng.choice((100, 3_000, 1_000_000)))
        elif way == 7 and rng.random() < 0.3:
            data = data[:at]
    return data


def _replace(data: bytes, pattern: re.Pattern[bytes], rng: random.Random, word: bytes) -> bytes:
    """Put a word in the place of one of the next that fit a pattern."""
    match = pattern.search(data, rng.randrange(len(data) + 1))
    return data if match is None else data[: match.start()] + word + data[match.end() :]


def _lines(data: bytes, rng: random.Random) -> bytes:
    """Remove, repeat or swap lines."""
    lines = data.splitlines(keepends=True)
    if not lines:
        return data
    i, j = sorted((rng.randrange(len(lines)), rng.randrange(len(lines))))
    way = rng.randrange(3)
    if way == 0:
        del lines[i : i + rng.choice((1, 2, 10))]
    elif way == 1:
        lines[i:i] = lines[i : i + rng.choice((1, 5))] * rng.choice((1, 2, 300))
    else:
        lines[i], lines[j] = lines[j], lines[i]
    return b"".join(lines)


def edit_json(data: bytes, rng: random.Random) -> bytes:
    return json.dumps(_edit_tree(json.loads(data), rng)).encode()


def edit_messages(data: bytes, rng: random.Random) -> bytes:
    """Change values of BinaryCIF, which hold bytes too."""
    import msgpack

    return msgpack.packb(_edit_tree(msgpack.unpackb(data), rng), default=str) or b""


def _edit_tree(document: Any, rng: random.Random) -> Any:
    """Change, remove or add values of nested dictionaries and lists, at any depth."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        node, deeper = document, True
        while deeper and node:
            key = rng.choice([*node]) if isinstance(node, dict) else rng.randrange(len(node))
            value, way = node[key], rng.random()
            deeper = isinstance(value, dict | list) and way < 0.9
            if deeper:
                node = value
            elif way < 0.07:
                del node[key]
            elif way < 0.15 and isinstance(node, dict):
                node["surplus"] = deepcopy(rng.choice(_VALUES))
            elif isinstance(value, bytes) and way < 0.9:
                node[key] = edit(value, rng)
            elif isinstance(value, str) and way < 0.5:
                node[key] = edit(value.encode(), rng).decode("utf-8", "replace")
            else:
                node[key] = deepcopy(rng.choice(_VALUES))
    return document


def edit_tensors(data: bytes, rng: random.Random) -> bytes:
    """Change, remove or add weights of a model."""
    from safetensors.numpy import load as unpack
    from safetensors.numpy import save as pack

    state = dict(sorted(unpack(data).items()))  # which come in any order
    name = rng.choice([*state])
    array = state[name].copy()
    way = rng.randrange(6)
    if way == 0:
        del state[name]
    elif way == 1:
        state["surplus"] = np.zeros(rng.choice((1, 10**6)), np.float32)
    elif way == 2:
        state[name] = np.ascontiguousarray(array[..., None] if rng.random() < 0.5 else array.ravel()[:1])
    elif way == 3:
        state[name] = array.astype(rng.choice(("f2", "f8", "i4", "u1", "?")))
    elif array.size:
        array.flat[rng.randrange(array.size)] = rng.choice((np.nan, np.inf, -np.inf, 60, 0, -1))
        state[name] = array
    return pack(state)


def edit_arrays(data: bytes, rng: random.Random) -> bytes:
    """Change, remove or add arrays of an npz file."""
    with np.load(io.BytesIO(data)) as held:
        arrays = {name: held[name] for name in held.files}
    name = rng.choice([*arrays])
    array = arrays[name]
    way = rng.randrange(8)
    if way == 0:
        del arrays[name]
    elif way == 1:
        arrays["surplus"] = np.zeros(10**6)
    elif way == 2:
        arrays[name] = array.reshape(array.shape + (1,))
    elif way == 3:
        arrays[name] = array[:-1] if array.ndim else np.array([array, array])
    elif way == 4:
        arrays[name] = (
            array.astype(rng.choice(("S3", "U9", "f4", "u1", "?", "c8", "M8[s]")), casting="unsafe")
            if (array.dtype.kind in "iuf")
            else np.zeros(array.shape, rng.choice(("i8", "f4", "S1")))
        )
    elif array.dtype.kind in "iuf" and array.size:
        array = array.copy()
        limits = np.iinfo(array.dtype) if array.dtype.kind in "iu" else None
        high, low = (limits.max, limits.min) if limits else (np.inf, np.nan)
        array.flat[rng.randrange(array.size)] = rng.choice((0, 1, 19, 20, high, low, 10**6 % 127))
        arrays[name] = array
    else:
        arrays[name] = np.full(array.shape, rng.choice(("", "x", "\0", "../x@1", "a" * 3000)))
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()
