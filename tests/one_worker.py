"""A stand-in for a server with one worker that takes as long for every request: its knee is known.

Requests wait in the order in which they come. At more than ``1 / SERVICE_S`` per second the queue grows for ever.
"""

from __future__ import annotations

import asyncio

from tests.fault_server import Peer
from tests.paced_server import Paced

SERVICE_S = 0.05


class OneWorker(Paced):
    """Answers one request after the other."""

    def __init__(self) -> None:
        super().__init__()
        self._free_at_s = 0.0

    async def stream(self, peer: Peer, tokens: int) -> None:
        """All tokens at the end of the request's own time, which begins when the one before ends."""
        await peer.head()
        now_s = asyncio.get_running_loop().time()
        self._free_at_s = max(now_s, self._free_at_s) + SERVICE_S
        await asyncio.sleep(self._free_at_s - now_s)
        for _ in range(tokens):
            await peer.event(self.chunk())
