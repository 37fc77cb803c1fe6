"""Is the host ours alone now? Waits for it, refuses, or takes over, as the user asked."""

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
"""Foreign requests that a refusal names; the rest are counted."""
_BLIND_KIND = "this kind of server cannot tell whether others use it"

Look = Callable[[], Awaitable[Sighting]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How to behave on a host that others may use."""

    quiet_s: float = 2.0
    """How long nothing foreign must be in flight, nor come and go, before the first cell."""
    wait_s: float = 0.0
    """How long to wait for that before refusing."""
    takeover: bool = False
    """Measure whoever else is there."""


async def require_quiet(host: str, look: Look, manners: Manners, *, quiet_s: float, grace_s: float = 0.0) -> Sighting:
    """Return once the host was quiet for ``quiet_s``; HostError with who is there and the ways on, when it won't be.

    Nobody is refused before ``grace_s`` is over. With takeover the host is looked at once, and nothing is asked of it.
    """
    sighting = await look()
    if manners.takeover:
        return sighting
    began = quiet_since = time.monotonic()
    passed: Sequence[str] = ()
    while True:
        now = time.monotonic()
        if not sighting.known:
            raise HostError(
                f"{host}: {sighting.why or _BLIND_KIND}; if nobody does, say 'shared: false' in the hosts file, or "
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
        passed = _find_passed(before, sighting)


def _find_passed(before: Sighting, now: Sighting) -> Sequence[str]:
    """What ended between two looks."""
    return list((Counter(now.recent) - Counter(before.recent)).elements())


def _refusal(host: str, sighting: Sighting, passed: Sequence[str], manners: Manners) -> str:
    """Who is there, what was there before, and the two ways on."""
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
