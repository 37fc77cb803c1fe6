"""Room 3: the machine of a host during a block: its hardware, its GPU memory, and the energy of a token."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pytest_boobench.facts import Hardware
from pytest_boobench.hosts.access import Grant
from pytest_boobench.hosts.sensor_windows import Observed
from pytest_boobench.metrics import Kind, Sample
from pytest_boobench.record import CellRecord

ENERGY = "joule_per_token"
_OF_BLOCKS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "gpu_clock_mhz": statistics.median,
    "memory_clock_mhz": statistics.median,
    "power_w": statistics.median,
    "gpu_temperature_c": max,
    "kv_usage_share": max,
}
"""Numbers of the hardware that each block keeps -> that of a cell with several blocks."""


@dataclass(slots=True)
class MachineWindow:
    """What was seen of a host's machine, from before the first request until after the last answer."""

    observed: Observed = field(default_factory=Observed)
    span_s: float = 0.0

    def add_report(self, reported: Hardware | None) -> None:
        """Add what the server itself reported; this machine's sensors know better."""
        own = self.observed
        if reported is None:
            return
        if own.hardware is not None:
            hardware = replace(own.hardware, kv_usage_share=reported.kv_usage_share)
            self.observed = replace(own, hardware=hardware)
            return
        energy_j = None if reported.power_w is None else reported.power_w * self.span_s
        no_energy = own.no_energy if energy_j is None else ""
        self.observed = replace(own, hardware=reported, energy_j=energy_j, no_energy=no_energy)


@contextmanager
def watch_machine(grant: Grant) -> Iterator[MachineWindow]:
    """Read this machine's sensors, if the host is on it, as long as a ``with`` lasts."""
    window, sensors = MachineWindow(), grant.sensors
    if sensors is not None:
        sensors.begin()
    began_s = time.monotonic()
    try:
        yield window
    finally:
        window.span_s = time.monotonic() - began_s
        if sensors is not None:
            window.observed = sensors.end()
        else:
            elsewhere = f"{grant.host} runs on another machine, and does not report its power: measure there"
            window.observed = Observed(no_energy=elsewhere)


def count_tokens(samples: Sequence[Sample], kind: Kind) -> int | None:
    """The generated tokens of all requests, of embeddings the prompt tokens; None if one is not known."""
    counts = [sample.prompt_tokens if kind == "embedding" else sample.output_tokens for sample in samples]
    known = [count for sample, count in zip(samples, counts, strict=True) if sample.ok and count is not None]
    return sum(known) if len(known) == len(samples) else None


def list_machine_facts(
    record: CellRecord, window: MachineWindow, samples: Sequence[Sample], kind: Kind
) -> tuple[dict[str, Any], str]:
    """The facts of a record after one more block, and why it has no energy of a token; empty where it has."""
    seen, tokens = window.observed, count_tokens(samples, kind)
    told = {name: value for name in _OF_BLOCKS if (value := getattr(seen.hardware, name, None)) is not None}
    why = seen.no_energy
    if seen.energy_j is not None and tokens:
        told[ENERGY] = seen.energy_j / tokens
    elif not why:
        why = "a request failed, and its tokens are not known" if tokens is None else "no token was generated"
    of_blocks = {**record.of_blocks, **{name: (*record.of_blocks.get(name, ()), told[name]) for name in told}}
    found: dict[str, Any] = {"of_blocks": of_blocks, "hardware": _merge(record.hardware, seen.hardware, of_blocks)}
    if seen.vram_mb is not None:
        found["vram_peak_mb"] = max(seen.vram_mb, record.vram_peak_mb or 0.0)
    return found, why


def _merge(earlier: Hardware | None, now: Hardware | None, of_blocks: Mapping[str, Sequence[float]]) -> Hardware | None:
    """Medians or peaks of all blocks, all limits that held in any of them, and the rest of the last one."""
    if earlier is None or now is None:
        return now or earlier
    limits = [limit for one in (earlier, now) for limit in (one.throttled or "").split(", ") if limit]
    known = {name: summarize(of_blocks[name]) for name, summarize in _OF_BLOCKS.items() if of_blocks.get(name)}
    told = {name: value for name, value in asdict(now).items() if value is not None}
    return replace(earlier, **{**told, **known, "throttled": ", ".join(sorted(set(limits))) or None})
