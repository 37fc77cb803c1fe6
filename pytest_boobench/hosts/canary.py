"""Room 2: the canary: how fast this machine is right now, for hosts that run on it.

An unchanged server on this machine may decode slower an hour later. Mostly, other guests use the same memory, which no
guest can see. Copying into fresh memory shows that; hashing shows the processor's clock. Both are too short for a busy
system to delay them, so the load of the processors is measured too.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pytest_boobench.facts import Canary

_COPY_BYTES = 32 * 2**20
"""Larger than a cache."""
_HASH_BYTES = 2**20
_STAT = Path("/proc/stat")
"""Linux's counters of processor time, proc(5)."""


def listen(*, takes_s: float = 0.25) -> Canary:
    """Copy memory and hash for ``takes_s`` seconds each, in this thread; return medians over the repetitions."""
    source = bytes(_COPY_BYTES)
    target = bytearray(_COPY_BYTES)
    block = source[:_HASH_BYTES]

    def copy() -> None:
        target[:] = source  # Python copies through fresh memory; the recordings were made with exactly this statement

    began = _look_at_processors()
    copy_mb_s = _rate(copy, _COPY_BYTES, takes_s)
    hash_mb_s = _rate(lambda: hashlib.sha256(block).digest(), _HASH_BYTES, takes_s)
    return Canary(copy_mb_s=copy_mb_s, hash_mb_s=hash_mb_s, busy_share=_find_busy_share(began, _look_at_processors()))


@dataclass(frozen=True, slots=True)
class _Processors:
    """Counters in seconds, each with a start of its own."""

    at: float
    busy: float
    """Of all processors together, including time that a hypervisor took."""
    ours: float
    """Of this process."""
    count: int


def _look_at_processors() -> _Processors | None:
    """Return None if the system does not have these counters."""
    try:
        lines = [line.split() for line in _STAT.read_text().splitlines() if line.startswith("cpu")]
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, lines[0][1:9])
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return _Processors(time.monotonic(), busy, time.process_time(), len(lines) - 1)


def _find_busy_share(began: _Processors | None, ended: _Processors | None) -> float | None:
    """Share of all processors that other processes used between two readings; the system counts in steps of 10 ms."""
    if began is None or ended is None or ended.at <= began.at:
        return None
    others_s = (ended.busy - began.busy) - (ended.ours - began.ours)
    return min(1.0, max(0.0, others_s / ((ended.at - began.at) * ended.count)))


def _rate(work: Callable[[], object], size: int, takes_s: float) -> float:
    """Megabytes per second of the median repetition, without the first one, which allocates the pages."""
    work()
    took_s: list[float] = []
    end = time.monotonic() + takes_s
    while time.monotonic() < end or len(took_s) < 3:
        began = time.monotonic()
        work()
        took_s.append(time.monotonic() - began)
    return size / statistics.median(took_s) / 1e6
