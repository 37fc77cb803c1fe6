"""Room 2: the GPUs of llama-swap's machine, by the samples that it takes itself every five seconds or more.

They are asked for at the ends of a window only, so that nothing is added to what llama-swap does anyway. llama-swap
tells power and temperature of each GPU, but no clock and no limit; each version since v220 may, unless its
configuration turns ``performance`` off.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import httpx

from pytest_boobench.facts import Hardware
from pytest_boobench.hosts.readings import scale
from pytest_boobench.hosts.sensor_windows import BUSY
from pytest_boobench.untrusted import Fault, parse_json, to_object, to_objects, to_text

LEAST_SAMPLES = 3
"""Fewer in a window, of any GPU, tell nothing of it."""
_BUSY_PERCENT = 20.0

Samples = Mapping[datetime, list[Mapping[str, Any]]]
"""When a sample was taken, by llama-swap's clock -> an entry for each GPU."""


async def fetch_samples(client: httpx.AsyncClient) -> Samples:
    """All samples that llama-swap keeps; none where it takes none, or does not answer."""
    try:
        response = await client.get("/api/performance")
        told = to_object(parse_json(response.content)) if response.status_code == httpx.codes.OK else {}
    except (httpx.TransportError, Fault):
        return {}
    found: dict[datetime, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in to_objects(told.get("gpu_stats")):
        if (at := _read_time(entry.get("timestamp"))) is not None:
            found[at].append(entry)
    return found


def summarize_samples(earlier: Samples, now: Samples) -> Hardware | None:
    """The GPUs that worked since the newest of the earlier samples; None without enough samples, or any such GPU."""
    since = max(earlier, default=None)
    of_gpu: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for at in sorted(now):
        if since is None or at > since:
            for entry in now[at]:
                of_gpu[str(entry.get("uuid") or entry.get("id"))].append(entry)
    used = [entries for entries in of_gpu.values() if len(entries) >= LEAST_SAMPLES and _is_at_work(entries)]
    if not used:
        return None
    powers = [_mean(entry.get("power_draw_w") for entry in entries) for entries in used]
    degrees = [degree for entries in used for entry in entries if (degree := scale(entry.get("temp_c")))]
    return Hardware(
        power_w=sum(power or 0.0 for power in powers) if None not in powers else None,
        gpu_temperature_c=max(degrees, default=None),
        source="llama-swap",
    )


def _is_at_work(entries: Iterable[Mapping[str, Any]]) -> bool:
    loads = [scale(entry.get("gpu_util_pct")) or 0.0 for entry in entries]
    return sum(load >= _BUSY_PERCENT for load in loads) >= BUSY * len(loads)


def _mean(told: Iterable[Any]) -> float | None:
    """None if one is missing; llama-swap has zero for what it does not know."""
    values = [scale(value) for value in told]
    return statistics.fmean(value or 0.0 for value in values) if all(values) else None


def _read_time(told: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(to_text(told) or "")
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
