"""Room 1: what a suite comes to. A Suite is one file, a Cell is one combination of its axes = one test item."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pytest_boobench.metrics import Kind, Length

Cache = Literal["cold", "warm"]
Disturbed = Literal["inconclusive", "judge", "fail"]
"""What becomes of a cell that others disturbed twice: not judged, judged all the same, or failed."""

Policy = Literal["default", "strict", "literal"]
"""What becomes of doubt: its own outcome, a failure, or the point alone decides."""
BLOCKS = 4
"""Blocks of a cell at most, where its suite does not say."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A pytest mark as the suite asks for it; the plugin turns it into the real one."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait, seconds: for a connection, for the first byte of the answer, between bytes, for all of it."""

    connect_s: float = 10.0
    first_byte_s: float = 300.0
    stall_s: float = 60.0
    request_s: float = 900.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How a cell is measured and judged; nothing in it changes what is measured."""

    warmup: int = 2
    """Requests per lane before the measured ones, never counted."""
    warmup_max: int = 5
    """Requests per lane at most, while the newest one is still faster than the one before."""
    warmup_s: float | None = None
    """Warm up for at least so long instead, seconds."""
    samples: int = 10
    """Measured requests per block, over all lanes; a cell has one block, and more where the first leaves doubt."""
    max_samples: int | None = None
    """Measured requests of all blocks at most; None: four blocks."""
    max_failed: int = 0
    """How many measured requests may fail before the cell does."""
    gate: Mapping[str, float | None] | None = None
    """Metric key -> allowed worsening as a ratio, None where the session's default holds; None: the default metrics."""
    disturbed: Disturbed | None = None
    """None where the session's default holds."""
    policy: Policy | None = None
    """None where the session's default holds."""
    output_canary: bool = False
    """Whether one more request asks whether the model still says the same."""
    timeouts: Timeouts = Timeouts()

    @property
    def blocks(self) -> int:
        """How many blocks a cell may have."""
        return BLOCKS if self.max_samples is None else max(1, self.max_samples // self.samples)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One combination of a suite's axes on one host and model."""

    suite: str
    host: str
    model: str
    kind: Kind
    prompt_tokens: int
    output_tokens: int | None
    """Blank for embeddings; the most of them where ``length`` is natural."""
    concurrency: int
    sampling: Mapping[str, Any]
    """Sent as written: only what the suite names, with the types it was written in."""
    request: Mapping[str, Any]
    """Further fields of the request's body, sent as written."""
    cache: Cache
    plan: Plan
    id: str
    """The bracketed part of the node id, as in ``pp512-tg32-c4``."""
    line: int
    """Where in the file this cell's model or grid stands, from 1."""
    marks: tuple[Mark, ...] = ()
    length: Length = "exact"

    @property
    def identity(self) -> dict[str, Any]:
        """All that makes two measurements comparable by name, as plain JSON.

        The length is named where it is natural only: cells that were measured before it could be are what they were.
        """
        natural = {} if self.length == "exact" else {"length": self.length}
        return {
            "suite": self.suite,
            "host": self.host,
            "model": self.model,
            "kind": self.kind,
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens,
            "concurrency": self.concurrency,
            "sampling": dict(self.sampling),
            "request": dict(self.request),
            "cache": self.cache,
            **natural,
        }

    @property
    def key(self) -> str:
        """The cell's stable name in the store."""
        return make_key(self.identity)


def make_key(identity: Mapping[str, Any]) -> str:
    """The stable name of a cell: SHA-256 of its identity as canonical JSON, 64 hex digits."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One suite file, checked. ``cells`` are grouped by host, then model, in the file's order."""

    name: str
    path: Path
    description: str
    hosts: tuple[str, ...]
    models: tuple[str, ...]
    fixtures: tuple[str, ...]
    """Names from ``usefixtures``."""
    cells: tuple[Cell, ...]
