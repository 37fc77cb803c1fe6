"""Room 3: whether a model still says the same: a fingerprint of its answer to a constant prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pytest_boobench.servers.clients import Server
from pytest_boobench.servers.prompts import make_nonce
from pytest_boobench.suite.cell import Cell

_PROMPT_TOKENS, _OUTPUT_TOKENS = 64, 32
"""Where the cell's own prompts have lengths of their own."""
_GREEDY: Mapping[str, Any] = {"temperature": 0.0, "seed": 42}


async def digest_text(server: Server, cell: Cell) -> str | None:
    """A fingerprint of the answer to a constant prompt, at temperature 0 and with a fixed seed.

    16 hex digits of SHA-256; None where there is no text, as in an embedding.
    """
    if cell.kind == "embedding":
        return None
    greedy = replace(
        cell,
        sampling={**cell.sampling, **_GREEDY},
        depth_tokens=0,
        prompt_tokens=cell.prompt_tokens or _PROMPT_TOKENS,
        output_tokens=cell.output_tokens or _OUTPUT_TOKENS,
    )
    (prompt,) = await server.make_prompts(greedy, [make_nonce(cell.key, 0)])
    answer = await server.send(server.call(greedy, prompt), greedy)
    text = server.read_text(answer)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16] if text else None
