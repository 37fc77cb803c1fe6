"""Room 2: the clocks. The kernel stamps bytes by the wall clock; all other times are by the monotonic clock."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_boobench.metrics import ClockKind

Ancillary = Sequence[tuple[int, int, bytes]]
"""What ``recvmsg`` returns with the bytes: level, type, data."""

ANCILLARY_BYTES = 64
"""Enough for one time stamp of either layout."""

_LAYOUTS = {
    64: struct.Struct("=qq"),  # SO_TIMESTAMPNS_NEW, Linux 5.1: 64 bits everywhere
    35: struct.Struct("@ll"),  # SO_TIMESTAMPNS
}
"""Linux's socket option, also the type of its message -> layout of (seconds, nanoseconds). Python names neither."""

_PAIRED_READINGS = 5
_STEP_NS = 1_000_000


class Reads:
    """What one connection received, in columns; evaluated only when the request has ended."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.lengths = array("q")
        """Of ``data`` after each read."""
        self.ancillary: list[Ancillary] = []
        """Of each read, with the kernel's stamp in it."""
        self.read_ns = array("q")
        """The monotonic clock right after each read."""

    def add(self, part: bytes, ancillary: Ancillary, read_ns: int) -> int:
        """Keep one read; the number of bytes of all reads so far."""
        self.data += part
        length = len(self.data)
        self.lengths.append(length)
        self.ancillary.append(ancillary)
        self.read_ns.append(read_ns)
        return length

    def __len__(self) -> int:
        return len(self.read_ns)  # the last to grow, as another thread may see it


@dataclass(frozen=True, slots=True)
class Stamps:
    """When each read arrived, nanoseconds of the monotonic clock; one source for all of them."""

    clock: ClockKind
    arrival_ns: tuple[int, ...]
    lag_ns: tuple[int, ...]
    """Of each read: from the kernel's stamp until Python had the bytes; zeros without kernel stamps."""
    client_lag_ms: float | None
    """The longest of these lags; blank without kernel stamps."""
    clock_step: bool
    """Whether the wall clock was set between the reads."""


def ask_for_kernel_stamps(sock: socket.socket) -> bool:
    """Make the kernel stamp what this socket receives; False where it cannot."""
    if sys.platform != "linux":
        return False
    for option in _LAYOUTS:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
            return True
    return False


def hold_kernel_stamps() -> socket.socket:
    """A socket that keeps the kernel's stamping on while it is open.

    Linux starts stamping a little after the first socket asks and stops with the last socket, so that the first bytes
    of a single connection would have no stamp.
    """
    keeper = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ask_for_kernel_stamps(keeper)
    return keeper


def kernel_ns(ancillary: Ancillary) -> int | None:
    """The kernel's stamp on a read, nanoseconds of the wall clock; None where there is none."""
    for level, kind, data in ancillary:
        layout = _LAYOUTS.get(kind)
        if level == socket.SOL_SOCKET and layout is not None and len(data) == layout.size:
            seconds, nanoseconds = layout.unpack(data)
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return None


def wall_offset_ns() -> int:
    """How far the wall clock is ahead of the monotonic one, by the fastest of a few paired readings."""
    readings = []
    for _ in range(_PAIRED_READINGS):
        before_ns = time.monotonic_ns()
        wall_ns = time.time_ns()
        after_ns = time.monotonic_ns()
        readings.append((after_ns - before_ns, wall_ns - (before_ns + after_ns) // 2))
    return min(readings)[1]


def stamp(reads: Reads, offset_before_ns: int, offset_after_ns: int) -> Stamps:
    """The arrivals of reads: by the kernel where it stamped all of them and nobody set the wall clock meanwhile.

    Otherwise by the time when Python had them: late, but all by one clock, and no clock step moves them.
    """
    clock_step = abs(offset_after_ns - offset_before_ns) > _STEP_NS
    kernel = [kernel_ns(ancillary) for ancillary in reads.ancillary]
    if clock_step or not reads or None in kernel:
        return Stamps("user", tuple(reads.read_ns), (0,) * len(reads), None, clock_step)
    arrival_ns = [wall_ns - offset_before_ns for wall_ns in kernel if wall_ns is not None]
    lag_ns = [max(read_ns - came_ns, 0) for read_ns, came_ns in zip(reads.read_ns, arrival_ns, strict=True)]
    return Stamps("kernel", tuple(arrival_ns), tuple(lag_ns), max(lag_ns) / 1e6, clock_step)
