"""A server as a program that is slower than another by a known part: ``python -m tests.braked_server --brake 1.15``.

It keeps a pace by the clock and not by its processor, so that the truth is known on a busy machine too.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import threading
import time
from pathlib import Path
from typing import Any

from tests.fault_server import FaultServer, Peer
from tests.paced_server import Paced

TTFT_S, GAP_S = 0.02, 0.004
"""Without a brake."""


class Braked(Paced):
    """A llama-server whose times are all as many times as long."""

    timings = True

    def __init__(self, brake: float, build: str) -> None:
        super().__init__()
        self._brake = brake
        self._build = build
        self._took = (0.0, 0.0)

    def pages(self) -> Any:
        settings = {"default_generation_settings": {"n_ctx": 4096}, "total_slots": 4, "build_info": self._build}

        async def tell(peer: Peer, fields: dict[str, Any]) -> None:
            await peer.answer("200 OK", settings)

        return {**super().pages(), "/props": tell}

    async def stream(self, peer: Peer, tokens: int) -> None:
        """A token after another; late ones are part of the truth."""
        await peer.head()
        began = time.monotonic()
        await asyncio.sleep(TTFT_S * self._brake)
        first = time.monotonic()
        await self._send(peer)
        for place in range(1, tokens):
            await asyncio.sleep(max(0.0, first + place * GAP_S * self._brake - time.monotonic()))
            await self._send(peer)
        self._took = first - began, time.monotonic() - first

    async def _send(self, peer: Peer) -> None:
        event = self.event(self.chunk())
        peer.writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        await peer.writer.drain()

    def claim(self, prompt: int, tokens: int) -> dict[str, Any]:
        """As it was."""
        first_s, rest_s = self._took
        return {
            "cache_n": 0,
            "prompt_n": prompt,
            "prompt_ms": first_s * 1000,
            "predicted_n": tokens,
            "predicted_ms": rest_s * 1000,
        }


class _Server(FaultServer):
    def _choose(self, request: Any) -> str:
        return "stand-in"


def main() -> None:
    """Serve until a signal ends it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--brake", type=float, default=1.0)
    parser.add_argument("--brake-file", help="a file that has it")
    parser.add_argument("--build", default="b1")
    asked = parser.parse_args()
    brake = float(Path(asked.brake_file).read_text()) if asked.brake_file else asked.brake
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    with _Server({"stand-in": Braked(brake, asked.build)}, port=asked.port):
        over.wait()


if __name__ == "__main__":
    main()
