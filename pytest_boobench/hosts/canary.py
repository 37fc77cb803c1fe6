"""How fast this machine is right now: the canary of hosts that run on it.

An unchanged server on this machine decodes slower in another hour, mostly since others use the memory that they share
with it, which no guest can see. Copying memory follows that, hashing follows the clock of the processor.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable

from pytest_boobench.facts import Canary

_COPY_BYTES = 32 * 2**20
"""Far more than a cache holds."""
_HASH_BYTES = 2**20
_TAKES_S = 0.25


def listen(*, takes_s: float = _TAKES_S) -> Canary:
    """Copy memory and hash for ``takes_s`` seconds each, in this thread; medians over the repetitions."""
    source = bytes(_COPY_BYTES)
    target = bytearray(_COPY_BYTES)
    block = source[:_HASH_BYTES]

    def copy() -> None:
        target[:] = source

    return Canary(
        copy_mb_s=_rate(copy, _COPY_BYTES, takes_s),
        hash_mb_s=_rate(lambda: hashlib.sha256(block).digest(), _HASH_BYTES, takes_s),
    )


def _rate(work: Callable[[], object], size: int, takes_s: float) -> float:
    """Megabytes a second of the median repetition; the first one, which pays for fresh pages, is left out."""
    work()
    took_s: list[float] = []
    end = time.monotonic() + takes_s
    while time.monotonic() < end or len(took_s) < 3:
        began = time.monotonic()
        work()
        took_s.append(time.monotonic() - began)
    return size / statistics.median(took_s) / 1e6
