"""Room 2: whether others use a host: wait until nobody does, or refuse, naming who it is and what the user can do."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from pytest_boobench.errors import HostError
from pytest_boobench.facts import Sighting
from pytest_boobench.units import count

_LOOK_EVERY_S = 0.25
_SHOWN = 3
"""How many foreign requests a refusal names; it counts the rest."""

Look = Callable[[], Awaitable[Sighting]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """Rules for hosts that others may use."""

    quiet_s: float = 2.0
    """How long the host must have no foreign request before the first cell."""
    wait_s: float = 0.0
    """How long to wait for that before refusing."""
    takeover: bool = False
    """Measure even if others use the host."""


async def require_quiet(host: str, look: Look, manners: Manners, *, quiet_s: float, grace_s: float = 0.0) -> Sighting:
    """Return once the host was quiet for ``quiet_s``, else raise HostError: who uses it, and what the user can do.

    Never raises before ``grace_s`` is over. With takeover, looks once and accepts what it sees.
    """
    sighting = await look()
    if manners.takeover:
        return sighting
    began = quiet_since = time.monotonic()
    passed: list[str] = []
    while True:
        now = time.monotonic()
        if not sighting.known:
            why = sighting.why or "this kind of server cannot tell whether others use it"
            raise HostError(
                f"{host}: {why}; if nobody does, say 'shared: false' in the hosts file, or "
                "measure all the same with --boobench-takeover"
            )
        if sighting.in_flight or passed:
            quiet_since = now
            if now - began >= max(manners.wait_s, grace_s):
                raise HostError(_refusal(host, sighting, passed, manners))
        elif now - quiet_since >= quiet_s:
            return sighting
        await asyncio.sleep(_LOOK_EVERY_S)
        before, sighting = sighting, await look()
        passed = list((Counter(sighting.recent) - Counter(before.recent)).elements())


def _refusal(host: str, sighting: Sighting, passed: Sequence[str], manners: Manners) -> str:
    waited = f" after waiting {manners.wait_s:g} s" if manners.wait_s else ""
    requests = list(map(str, sighting.in_flight))
    if requests:
        lines = [f"{host}: busy{waited}: {count(len(requests), 'foreign request')} in flight: {_name(requests)}"]
        if sighting.recent:
            lines.append(f"ended in the last minute: {'; '.join(sighting.recent[:_SHOWN])}")
    else:
        lines = [f"{host}: not quiet{waited}: a request came and went while we looked: {_name(passed)}"]
    lines.append("wait for it with --boobench-wait 10m, or measure all the same with --boobench-takeover")
    return "\n".join(lines)


def _name(requests: Sequence[str]) -> str:
    more = len(requests) - _SHOWN
    return f"{'; '.join(requests[:_SHOWN])}{f'; and {more} more' if more > 0 else ''}"
