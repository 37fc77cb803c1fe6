"""Room 0: what was measured on, as the server tells it. Facts travel beside samples and decide what is comparable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A model file as its server describes it; blanks are facts the server does not give."""

    name: str
    path: str | None = None
    n_params: int | None = None
    size_bytes: int | None = None
    quantisation: str | None = None
    """llama.cpp's file type, as in ``Q4_K - Medium``."""
    n_ctx: int | None = None
    """Context of one slot, tokens."""
    n_ctx_train: int | None = None
    n_embd: int | None = None
    n_vocab: int | None = None
    slots: int | None = None
    """Requests the server works on at once for this model."""

    def differences(self, other: ModelFacts) -> tuple[str, ...]:
        """Which facts of the model file differ, as ``quantisation Q4_0, was Q8_0``; a blank differs from nothing."""
        found = []
        for key, title in (("n_params", "parameters"), ("size_bytes", "file size"), ("quantisation", "quantisation")):
            now, was = getattr(self, key), getattr(other, key)
            if now is not None and was is not None and now != was:
                found.append(f"{title} {now}, was {was}")
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """A host's server as it describes itself. ``url`` never carries a key or a password."""

    kind: str
    url: str
    engine_build: str | None = None
    """The engine's own words for its build, as in ``b11549-abc1234``."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Other facts worth keeping, plain JSON."""
