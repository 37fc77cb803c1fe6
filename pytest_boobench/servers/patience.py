"""How long a host may take to become ready, and who hears of it meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

LOADING_S = 300.0
"""How long a control request waits for a model that is being loaded, where nobody says otherwise."""
LOAD_TIMEOUT_S = 900.0
"""How long a host may take to load a model when we tell it to, where nobody says otherwise."""

_WORDS = {"loading": "loading the model", "refused": "waiting for its server, which refuses connections"}


@dataclass(frozen=True, slots=True)
class Waiting:
    """A host that we wait for, at one moment."""

    host: str
    why: Literal["loading", "refused"]
    waited_s: float

    def __str__(self) -> str:
        return f"{self.host}: {_WORDS[self.why]}, {self.waited_s:.0f} s so far"


def tell_nobody(waiting: Waiting) -> None:
    """Nobody needs to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """What the user grants a host."""

    load_s: float | None = None
    """Blank: what is usual, which is more for a load that we ask for."""
    waits: bool = True
    """Whether requests that only ask wait for a model that is being loaded. A load that we ask for always does."""
    refused_s: float = 0.0
    """How long a connection may be refused: the server is about to be started."""
    option: str = "--boobench-load-timeout"
    """The one that gives more time."""
    tell: Callable[[Waiting], None] = tell_nobody
    """Hears of it about once a second."""

    @property
    def loading_s(self) -> float:
        """For a control request."""
        if not self.waits:
            return 0.0
        return LOADING_S if self.load_s is None else self.load_s

    @property
    def explicit_load_s(self) -> float:
        """For a load that we ask for."""
        return LOAD_TIMEOUT_S if self.load_s is None else self.load_s


NONE = Patience(waits=False)
"""For those who only want to know how it is now."""
