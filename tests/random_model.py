"""A model of random weights, as GGUF in several quantisations: what it says is soft enough to change.

The embedded model leads by 100 nats whatever is done to it. This one has its vocabulary and template, and says
printable characters, each as likely as its random weights make it: the last columns of its width are the same for
every token and position, and the output matrix takes them to prefer printable ones.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pytest_boobench.hosts import embedded_model
from pytest_boobench.hosts.embedded_model import F16, F32, ElementType, Tensor, describe, pack_f16, pack_f32, write

_WIDTH, _FEED_FORWARD, _HEAD = 256, 256, 64
_BLOCK = 32
_RANDOM = _WIDTH - _BLOCK
"""The columns before those that are always the same."""
Q8_0 = ElementType(8, _BLOCK, 34)
Q4_0 = ElementType(2, _BLOCK, 18)


def pack_q8_0(values: Sequence[float]) -> bytes:
    """Blocks of 32 weights: a scale in half precision, and 32 signed bytes."""
    packed = []
    for at in range(0, len(values), _BLOCK):
        block = values[at : at + _BLOCK]
        scale = max(map(abs, block)) / 127
        packed.append(struct.pack("<e32b", scale, *(round(value / (scale or 1.0)) for value in block)))
    return b"".join(packed)


def pack_q4_0(values: Sequence[float]) -> bytes:
    """Blocks of 32 weights: a scale in half precision, and 32 numbers of four bits, 8 standing for zero.

    The weight that is farthest from zero becomes -8. The first 16 are in the low halves of the bytes.
    """
    packed = []
    for at in range(0, len(values), _BLOCK):
        block = values[at : at + _BLOCK]
        scale = max(block, key=abs) / -8
        levels = [min(15, int(value / (scale or 1.0) + 8.5)) for value in block]
        packed.append(struct.pack("<e16B", scale, *(levels[n] | levels[n + 16] << 4 for n in range(16))))
    return b"".join(packed)


_FORMATS: Mapping[str, tuple[int, ElementType, Callable[[Sequence[float]], bytes]]] = {
    "F16": (1, F16, pack_f16),
    "Q8_0": (7, Q8_0, pack_q8_0),
    "Q4_0": (2, Q4_0, pack_q4_0),
}
"""Name -> llama.cpp's number of the file type, the type of the matrices, and how to pack them."""


def write_random_model(path: Path, quantisation: str, *, layers: int = 2, seed: int = 1) -> Path:
    """Write the model of this seed; it has the same weights in each quantisation. Returns the path."""
    file_type, element, pack = _FORMATS[quantisation]
    chance = random.Random(seed)
    metadata = {**describe(layers, _WIDTH, _FEED_FORWARD), "general.file_type": file_type}

    def matrix(name: str, rows: Sequence[Sequence[float]]) -> Tensor:
        packed = b"".join(map(pack, rows))
        return Tensor(name, element, (len(rows[0]), len(rows)), packed)

    def draw(columns: int, deviation: float) -> list[float]:
        return [chance.gauss(0.0, deviation) for _ in range(columns)]

    def layer_matrix(name: str, columns: int, rows: int, *, writes: bool = False) -> Tensor:
        """``writes``: its result is added to the width, whose last columns must stay the same."""
        drawn = (draw(columns, _WIDTH**-0.5) for _ in range(rows))
        return matrix(name, [[0.0] * columns if writes and row >= _RANDOM else it for row, it in enumerate(drawn)])

    vocabulary = range(len(embedded_model._VOCABULARY))
    first = embedded_model._FIRST_CHARACTER
    printable = range(first, first + len(embedded_model._CHARACTERS))
    lift = {token: [0.25 if token in printable else -0.25] * _BLOCK for token in vocabulary}
    tensors = [
        matrix("token_embd.weight", [[*draw(_RANDOM, 1.0), *[1.0] * _BLOCK] for _ in vocabulary]),
        Tensor("output_norm.weight", F32, (_WIDTH,), pack_f32([1.0] * _WIDTH)),
        matrix("output.weight", [[*draw(_RANDOM, 2 * _WIDTH**-0.5), *lift[token]] for token in vocabulary]),
    ]
    for name in (f"blk.{layer}" for layer in range(layers)):
        for norm in ("attn_norm", "ffn_norm"):
            tensors.append(Tensor(f"{name}.{norm}.weight", F32, (_WIDTH,), pack_f32([1.0] * _WIDTH)))
        tensors += [
            layer_matrix(f"{name}.attn_q.weight", _WIDTH, _WIDTH),
            layer_matrix(f"{name}.attn_k.weight", _WIDTH, _HEAD),
            layer_matrix(f"{name}.attn_v.weight", _WIDTH, _HEAD),
            layer_matrix(f"{name}.attn_output.weight", _WIDTH, _WIDTH, writes=True),
            layer_matrix(f"{name}.ffn_gate.weight", _WIDTH, _FEED_FORWARD),
            layer_matrix(f"{name}.ffn_up.weight", _WIDTH, _FEED_FORWARD),
            layer_matrix(f"{name}.ffn_down.weight", _FEED_FORWARD, _WIDTH, writes=True),
        ]
    with path.open("wb") as file:
        write(file, metadata, tensors)
    return path
