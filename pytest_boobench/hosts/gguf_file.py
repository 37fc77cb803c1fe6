"""Room 2: GGUF files, written with the standard library alone.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3, little endian.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import IO

ALIGNMENT_BYTES = 32
"""Every tensor starts at a multiple of this, the format's default."""

Scalar = bool | int | float | str
Value = Scalar | Sequence[int] | Sequence[float] | Sequence[str]


@dataclass(frozen=True, slots=True)
class ElementType:
    """How ggml stores numbers: its own code for the type, and how many elements share a block of how many bytes."""

    code: int
    block_elements: int
    block_bytes: int


F32 = ElementType(0, 1, 4)
F16 = ElementType(1, 1, 2)
IQ3_S = ElementType(21, 256, 110)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One named array; ``shape`` counts the fastest running dimension first. What ``data`` leaves out is zero bytes."""

    name: str
    element: ElementType
    shape: tuple[int, ...]
    data: bytes = b""

    @property
    def size_bytes(self) -> int:
        """Bytes of all its elements."""
        return prod(self.shape) // self.element.block_elements * self.element.block_bytes


def pack_f32(values: Sequence[float]) -> bytes:
    """Numbers as the bytes of an F32 tensor."""
    return struct.pack(f"<{len(values)}f", *values)


def pack_f16(values: Sequence[float]) -> bytes:
    """Numbers as the bytes of an F16 tensor, rounded to nearest; whole numbers to ±2048 stay exact."""
    return struct.pack(f"<{len(values)}e", *values)


def write(file: IO[bytes], metadata: Mapping[str, Value], tensors: Sequence[Tensor]) -> None:
    """Write a whole file from its start, everything in the order given; the same arguments make the same bytes.

    Zeros are skipped over, not written: large empty tensors cost neither time nor, on most file systems, space.
    """
    head = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    head += [_text(key) + _typed(value) for key, value in metadata.items()]
    offsets = []
    end = 0
    for tensor in tensors:
        offsets.append(end)
        head.append(_describe(tensor, end))
        end += _aligned(tensor.size_bytes)
    header = b"".join(head)
    start = _aligned(len(header))
    file.write(header)
    for tensor, offset in zip(tensors, offsets, strict=True):
        file.seek(start + offset)
        file.write(tensor.data)
    file.truncate(start + end)


def _describe(tensor: Tensor, offset: int) -> bytes:
    dimensions = len(tensor.shape)
    layout = struct.pack(f"<I{dimensions}QIQ", dimensions, *tensor.shape, tensor.element.code, offset)
    return _text(tensor.name) + layout


def _aligned(position: int) -> int:
    return -(-position // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _typed(value: Value) -> bytes:
    if isinstance(value, Scalar):
        code, data = _scalar(value)
        return struct.pack("<I", code) + data
    items = [_item(item) for item in value]
    return struct.pack("<IIQ", 9, items[0][0], len(items)) + b"".join(data for _, data in items)


def _scalar(value: Scalar) -> tuple[int, bytes]:
    """The format's code for the type of a value, and the value; a bool is an int to Python and is asked for first."""
    if isinstance(value, bool):
        return 7, struct.pack("<?", value)
    if isinstance(value, int):
        return 4, struct.pack("<I", value)
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    return 8, _text(value)


def _item(value: Scalar) -> tuple[int, bytes]:
    """As `_scalar`, but signed: llama.cpp reads whole numbers that way in arrays, and unsigned alone."""
    return (5, struct.pack("<i", value)) if isinstance(value, int) else _scalar(value)
