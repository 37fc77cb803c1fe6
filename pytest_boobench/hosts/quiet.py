"""Is the host ours alone now? Waits for it, refuses, or takes over, as the user asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pytest_boobench.errors import HostError
from pytest_boobench.facts import Sighting
from pytest_boobench.units import count

_LOOK_EVERY_S = 0.25
_SHOWN = 3
"""Foreign requests that a refusal names; the rest are counted."""

Look = Callable[[], Awaitable[Sighting]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How to behave on a host that others may use."""

    quiet_s: float = 2.0
    """How long nothing foreign must be in flight before the first cell."""
    wait_s: float = 0.0
    """How long to wait for that before refusing."""
    takeover: bool = False
    """Measure whoever else is there."""


async def require_quiet(host: str, look: Look, manners: Manners, *, quiet_s: float) -> Sighting:
    """Return once the host was quiet for ``quiet_s``; HostError with who is there and the ways on, when it won't be.

    With takeover it is looked at once, and nothing is asked of it.
    """
    sighting = await look()
    if manners.takeover:
        return sighting
    if not sighting.known:
        raise HostError(
            f"{host}: this kind of server cannot tell whether others use it; if nobody does, say 'shared: false' "
            "in the hosts file, or measure all the same with --boobench-takeover"
        )
    began = quiet_since = time.monotonic()
    while True:
        now = time.monotonic()
        if sighting.in_flight:
            quiet_since = now
            if now - began >= manners.wait_s:
                raise HostError(_refusal(host, sighting, manners))
        elif now - quiet_since >= quiet_s:
            return sighting
        await asyncio.sleep(_LOOK_EVERY_S)
        sighting = await look()


def _refusal(host: str, sighting: Sighting, manners: Manners) -> str:
    """Who is there, what was there before, and the two ways on."""
    shown = "; ".join(str(request) for request in sighting.in_flight[:_SHOWN])
    more = len(sighting.in_flight) - _SHOWN
    waited = f" after waiting {manners.wait_s:g} s" if manners.wait_s else ""
    lines = [
        f"{host}: busy{waited}: {count(len(sighting.in_flight), 'foreign request')} in flight: "
        f"{shown}{f'; and {more} more' if more > 0 else ''}"
    ]
    if sighting.recent:
        lines.append(f"ended in the last minute: {'; '.join(sighting.recent[:_SHOWN])}")
    lines.append("wait for it with --boobench-wait 10m, or measure all the same with --boobench-takeover")
    return "\n".join(lines)
