"""A stand-in for a server that becomes slower at a known pace, and a clock whose pauses pass at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from pytest_boobench.cli.ab_sides import AbSide
from pytest_boobench.cli.soak_session import SoakClock
from tests.fault_server import Peer
from tests.paced_server import Paced


@dataclass
class Skipped:
    """A clock whose pauses pass at once; at least so long each, so that a test has few looks."""

    least_s: float = 0.0
    now_s: float = 1_795_000_000.0
    pauses: list[float] = field(default_factory=list)

    def sleep(self, pause_s: float) -> None:
        self.pauses.append(pause_s)
        self.now_s += max(pause_s, self.least_s)

    @property
    def clock(self) -> SoakClock:
        return SoakClock(now=lambda: self.now_s, sleep=self.sleep)


class Tiring(Paced):
    """Slower by a fixed share in each hour of the skipped clock."""

    def __init__(self, an_hour: float, skipped: Skipped, gap_s: float = 0.004) -> None:
        super().__init__()
        self._gap_s = gap_s
        self._an_hour = an_hour
        self._skipped = skipped
        self._began_s = skipped.now_s

    async def stream(self, peer: Peer, tokens: int) -> None:
        gap_s = self._gap_s * (1 + self._an_hour) ** ((self._skipped.now_s - self._began_s) / 3600)
        await peer.head()
        began = asyncio.get_running_loop().time()
        for number in range(tokens):
            await asyncio.sleep(max(0.0, began + 0.01 + number * gap_s - asyncio.get_running_loop().time()))
            await peer.event(self.chunk())


def make_side(url: str) -> AbSide:
    return AbSide("host", "worker", ("worker",), {"server": "openai", "url": url, "shared": False}, name="worker")
