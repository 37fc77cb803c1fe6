"""Room 2: the embedded model: its vocabulary, its weights, and the GGUF file that holds them.

It has the shape and cost of a llama model, but every token predicts one fixed next token. The embedding of a token is
one of 256 orthogonal rows of ±1 (Sylvester's Hadamard matrix). The layer matrices are zeros. The output matrix holds,
for each token, the rows of its predecessors. So the layers cost as much as any of their size but change nothing, and
the next token leads by 100 nats: temperature and rounding have no influence.

- ``a`` to ``z`` run in a circle, so do ``A`` to ``Z`` and ``0`` to ``9``; all else leads to ``a``, and nothing to a
  blank, which llama.cpp trims at the start of a chat answer
- ``.`` ends the text, or leads to ``a`` if the end is forbidden (``ignore_eos``)
- ``?`` leads to a thought: ``<think>``, A to Z, ``</think>``, and then to ``a``
- one printable ASCII character is one token, other text one token per byte of its UTF-8; the chat template adds nothing

Layout of the file: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3, little endian.
"""

from __future__ import annotations

import string
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import IO

CONTEXT_LIMIT_TOKENS = 131072
"""The longest context that the file allows."""

Scalar = bool | int | float | str
Value = Scalar | Sequence[int] | Sequence[float] | Sequence[str]


@dataclass(frozen=True, slots=True)
class ElementType:
    """How ggml stores numbers: in blocks, with a fixed number of elements and bytes. ``code`` is ggml's type number."""

    code: int
    block_elements: int
    block_bytes: int


F32 = ElementType(0, 1, 4)
F16 = ElementType(1, 1, 2)
IQ3_S = ElementType(21, 256, 110)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named array. ``shape`` begins with the fastest dimension. Bytes after the end of ``data`` are zero."""

    name: str
    element: ElementType
    shape: tuple[int, ...]
    data: bytes = b""


def pack_f32(values: Sequence[float]) -> bytes:
    """Return numbers as the bytes of an F32 tensor."""
    return struct.pack(f"<{len(values)}f", *values)


def pack_f16(values: Sequence[float]) -> bytes:
    """Return numbers as the bytes of an F16 tensor, rounded to nearest; whole numbers to ±2048 stay exact."""
    return struct.pack(f"<{len(values)}e", *values)


def write(file: IO[bytes], metadata: Mapping[str, Value], tensors: Sequence[Tensor]) -> None:
    """Write a whole GGUF file; the same arguments give the same bytes.

    Zeros are skipped: large empty tensors take no time and, on most file systems, no space.
    """
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(_pack_text(key) + _pack(value) for key, value in metadata.items())
    offsets = []
    end = 0
    for tensor in tensors:
        offsets.append(end)
        dimensions = len(tensor.shape)
        layout = struct.pack(f"<I{dimensions}QIQ", dimensions, *tensor.shape, tensor.element.code, end)
        head += _pack_text(tensor.name) + layout
        end += _align(prod(tensor.shape) // tensor.element.block_elements * tensor.element.block_bytes)
    start = _align(len(head))
    file.write(head)
    for tensor, offset in zip(tensors, offsets, strict=True):
        file.seek(start + offset)
        file.write(tensor.data)
    file.truncate(start + end)


def _align(position: int) -> int:
    """The next multiple of 32 bytes, where each tensor begins."""
    return -(-position // 32) * 32


def _pack_text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _pack(value: Value) -> bytes:
    if isinstance(value, Scalar):
        code, data = _pack_scalar(value)
        return struct.pack("<I", code) + data
    # llama.cpp reads whole numbers in arrays as signed, and single ones as unsigned
    items = [(5, struct.pack("<i", item)) if isinstance(item, int) else _pack_scalar(item) for item in value]
    return struct.pack("<IIQ", 9, items[0][0], len(items)) + b"".join(data for _, data in items)


def _pack_scalar(value: Scalar) -> tuple[int, bytes]:
    """Return the type's code in the format, and the value's bytes."""
    if isinstance(value, bool):
        return 7, struct.pack("<?", value)
    if isinstance(value, int):
        return 4, struct.pack("<I", value)
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    return 8, _pack_text(value)


# The vocabulary, in llama.cpp's "SPM" form. A token's id is its position.

_BEGIN, _END = 1, 2
_FIRST_BYTE = 3
_FIRST_CHARACTER = _FIRST_BYTE + 256
_CHARACTERS = "".join(map(chr, range(0x20, 0x7F)))
_THINK = _FIRST_CHARACTER + len(_CHARACTERS)
_VOCABULARY = (
    *("<unk>", "<s>", "</s>"),
    *(f"<0x{byte:02X}>" for byte in range(256)),
    *_CHARACTERS.replace(" ", "\u2581"),
    *("<think>", "</think>"),
)
_KINDS = (2, 3, 3, *[6] * 256, *[1] * len(_CHARACTERS), 4, 4)  # unknown, control, byte, normal, user-defined
_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message.reasoning_content -%}<think>{{ message.reasoning_content }}</think>{%- endif -%}"
    "{{ message.content }}"
    "{%- endfor -%}"
)
_THOUGHT = [_FIRST_BYTE + ord(letter) for letter in string.ascii_uppercase]
"""A thought's letters are byte tokens: they look like the letters of the circle, but no prompt contains them."""


def _token(character: str) -> int:
    return _FIRST_CHARACTER + _CHARACTERS.index(character)


def _successors() -> dict[int, int]:
    """Token -> the token that follows it."""
    following = dict.fromkeys(range(len(_VOCABULARY)), _token("a"))
    for circle in (string.ascii_lowercase, string.ascii_uppercase, string.digits):
        following.update(pairwise(_token(character) for character in circle + circle[0]))
    following.update(pairwise([_token("?"), _THINK, *_THOUGHT, _THINK + 1]))
    following[_token(".")] = _END
    return following


_CODES = 256
_HEAD_WIDTH = 64


def _codes() -> dict[int, int]:
    """Token -> its row of the matrix. Rows left over are shared by bytes that no thought contains."""
    own = [*range(_FIRST_BYTE), *_THOUGHT, *range(_FIRST_CHARACTER, len(_VOCABULARY))]
    codes = {token: code for code, token in enumerate(own)}
    for byte in range(256):
        codes.setdefault(_FIRST_BYTE + byte, len(own) + byte % (_CODES - len(own)))
    return codes


def _row(code: int) -> list[int]:
    return [-1 if (code & column).bit_count() % 2 else 1 for column in range(_CODES)]


def _output_rows(codes: Mapping[int, int]) -> list[list[int]]:
    """Per token the sum of its predecessors' rows. After a full stop, the end has twice the weight of ``a``."""
    leads = {(codes[token], follower) for token, follower in _successors().items()}
    leads.add((codes[_token(".")], _token("a")))
    rows = [[0] * _CODES for _ in _VOCABULARY]
    for code, follower in leads:
        weight = 2 if follower == _END else 1
        rows[follower] = [so_far + weight * one for so_far, one in zip(rows[follower], _row(code), strict=True)]
    return rows


def lay_out_tensors(layers: int, width: int, feed_forward: int) -> list[Tensor]:
    """Return all tensors of a model of this shape; width and feed_forward are multiples of 256.

    A row is repeated over the width. The RMS norm of ±1 is ±1; the last norm scales a full match to 100 nats.
    """
    codes = _codes()
    tensors = [
        _matrix("token_embd.weight", width, [_row(codes[token]) for token in range(len(_VOCABULARY))]),
        Tensor("output_norm.weight", F32, (width,), pack_f32([100.0 / width]) * width),
        _matrix("output.weight", width, _output_rows(codes)),
    ]
    shapes = {
        "attn_q": (width, width),
        "attn_k": (width, _HEAD_WIDTH),
        "attn_v": (width, _HEAD_WIDTH),
        "attn_output": (width, width),
        "ffn_gate": (width, feed_forward),
        "ffn_up": (width, feed_forward),
        "ffn_down": (feed_forward, width),
    }
    ones = pack_f32([1.0]) * width
    for name in (f"blk.{layer}" for layer in range(layers)):
        tensors += [Tensor(f"{name}.{norm}.weight", F32, (width,), ones) for norm in ("attn_norm", "ffn_norm")]
        tensors += [Tensor(f"{name}.{matrix}.weight", IQ3_S, shape) for matrix, shape in shapes.items()]
    return tensors


def _matrix(name: str, width: int, rows: Sequence[Sequence[int]]) -> Tensor:
    data = b"".join(pack_f16(row) * (width // _CODES) for row in rows)
    return Tensor(name, F16, (width, len(rows)), data)


def describe(layers: int, width: int, feed_forward: int) -> dict[str, Value]:
    """Return the metadata of a model of this shape, by llama.cpp's keys. One head keeps the context's memory small."""
    return {
        "general.architecture": "llama",
        "general.name": "tiny",
        "general.file_type": 26,  # IQ3_S
        "llama.context_length": CONTEXT_LIMIT_TOKENS,
        "llama.embedding_length": width,
        "llama.block_count": layers,
        "llama.feed_forward_length": feed_forward,
        "llama.attention.head_count": width // _HEAD_WIDTH,
        "llama.attention.head_count_kv": 1,
        "llama.attention.layer_norm_rms_epsilon": 1e-6,
        "llama.rope.dimension_count": _HEAD_WIDTH,
        "llama.vocab_size": len(_VOCABULARY),
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": _VOCABULARY,
        "tokenizer.ggml.scores": [0.0] * len(_VOCABULARY),
        "tokenizer.ggml.token_type": _KINDS,
        "tokenizer.ggml.bos_token_id": _BEGIN,
        "tokenizer.ggml.eos_token_id": _END,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.chat_template": _TEMPLATE,
    }
