"""Room 2: the embedded model's vocabulary and weights.

A llama in shape and cost, a table in what it says: every token names the next one. The embedding of a token is one of
256 orthogonal rows of ±1 (Sylvester's Hadamard matrix), the matrices of the layers are zeros, and the output matrix
holds, for each token, the rows of those that lead to it. So the layers cost what any weights of their size cost and
change nothing, and the winner leads by 100 nats: temperature and rounding have no say.

- ``a`` to ``z`` run in a circle, so do ``A`` to ``Z`` and ``0`` to ``9``; all else leads to ``a``, and nothing to a
  blank, which llama.cpp trims where a chat answer begins
- ``.`` ends the text, and leads to ``a`` where the end is forbidden (``ignore_eos``)
- ``?`` leads to a thought, ``<think>``, A to Z, ``</think>``, and then to ``a``
- one printable ASCII character is one token, other text one token a byte of its UTF-8; the chat template adds nothing
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from itertools import pairwise

from pytest_boobench.hosts.gguf_file import F16, F32, IQ3_S, Tensor, Value, pack_f16, pack_f32

CONTEXT_LIMIT_TOKENS = 131072
"""The longest context the file allows; llama.cpp cuts a slot down to it."""

# The vocabulary, in llama.cpp's "SPM" form: numbers of tokens are places in it.

_UNKNOWN, _BEGIN, _END = 0, 1, 2
_FIRST_BYTE = 3
_FIRST_CHARACTER = _FIRST_BYTE + 256
_CHARACTERS = "".join(map(chr, range(0x20, 0x7F)))
_THINK = _FIRST_CHARACTER + len(_CHARACTERS)
_END_THINK = _THINK + 1
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
"""The letters of a thought are byte tokens: they say what the letters of the circle say, and no prompt has them."""


def _token(character: str) -> int:
    return _FIRST_CHARACTER + _CHARACTERS.index(character)


def _successors() -> dict[int, int]:
    """Token -> the token it leads to."""
    following = dict.fromkeys(range(len(_VOCABULARY)), _token("a"))
    for circle in (string.ascii_lowercase, string.ascii_uppercase, string.digits):
        following.update(pairwise(_token(character) for character in circle + circle[0]))
    following.update(pairwise([_token("?"), _THINK, *_THOUGHT, _END_THINK]))
    following[_token(".")] = _END
    return following


# The weights.

_CODES = 256
_HEAD_WIDTH = 64
_MARGIN_NATS = 100.0


def _codes() -> dict[int, int]:
    """Token -> its row: one of its own, but for the bytes that no thought is spelt with, which share what is left."""
    own = [*range(_FIRST_BYTE), *_THOUGHT, *range(_FIRST_CHARACTER, len(_VOCABULARY))]
    codes = {token: code for code, token in enumerate(own)}
    for byte in range(256):
        codes.setdefault(_FIRST_BYTE + byte, len(own) + byte % (_CODES - len(own)))
    return codes


def _row(code: int) -> list[int]:
    return [-1 if (code & column).bit_count() % 2 else 1 for column in range(_CODES)]


def _embedding_rows() -> list[list[int]]:
    codes = _codes()
    return [_row(codes[token]) for token in range(len(_VOCABULARY))]


def _output_rows() -> list[list[int]]:
    """Per token the sum of the rows that lead to it; after a full stop the end outdoes ``a`` by twice the weight."""
    codes = _codes()
    leads = {(codes[token], follower) for token, follower in _successors().items()}
    leads.add((codes[_token(".")], _token("a")))
    rows = [[0] * _CODES for _ in _VOCABULARY]
    for code, follower in leads:
        weight = 2 if follower == _END else 1
        rows[follower] = [so_far + weight * one for so_far, one in zip(rows[follower], _row(code), strict=True)]
    return rows


def lay_out_tensors(layers: int, width: int, feed_forward: int) -> list[Tensor]:
    """All tensors of a model of this shape; width and feed_forward are multiples of 256.

    A row is repeated over the width; ±1 is its own RMS norm; the last norm scales a full match to the margin.
    """
    scale = pack_f32([_MARGIN_NATS / width]) * width
    tensors = [
        _matrix("token_embd.weight", width, _embedding_rows()),
        Tensor("output_norm.weight", F32, (width,), scale),
        _matrix("output.weight", width, _output_rows()),
    ]
    for layer in range(layers):
        tensors += _layer(f"blk.{layer}", width, feed_forward)
    return tensors


def _matrix(name: str, width: int, rows: Sequence[Sequence[int]]) -> Tensor:
    data = b"".join(pack_f16(row) * (width // _CODES) for row in rows)
    return Tensor(name, F16, (width, len(rows)), data)


def _layer(name: str, width: int, feed_forward: int) -> list[Tensor]:
    ones = pack_f32([1.0]) * width
    shapes = {
        "attn_q": (width, width),
        "attn_k": (width, _HEAD_WIDTH),
        "attn_v": (width, _HEAD_WIDTH),
        "attn_output": (width, width),
        "ffn_gate": (width, feed_forward),
        "ffn_up": (width, feed_forward),
        "ffn_down": (feed_forward, width),
    }
    norms = [Tensor(f"{name}.{norm}.weight", F32, (width,), ones) for norm in ("attn_norm", "ffn_norm")]
    return norms + [Tensor(f"{name}.{matrix}.weight", IQ3_S, shape) for matrix, shape in shapes.items()]


def describe(layers: int, width: int, feed_forward: int) -> dict[str, Value]:
    """The metadata of a model of this shape, by llama.cpp's keys.

    One head for keys and values keeps the context's memory small; 26 is llama.cpp's number for a file of IQ3_S.
    """
    return {
        "general.architecture": "llama",
        "general.name": "tiny",
        "general.file_type": 26,
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
        "tokenizer.ggml.unknown_token_id": _UNKNOWN,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.chat_template": _TEMPLATE,
    }
