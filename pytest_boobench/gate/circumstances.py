"""Room 6: what differs from the baseline's measurement: what forbids a comparison, and what is only noted."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from pytest_boobench.facts import DECISIVE, Canary, Hardware
from pytest_boobench.gate.flags import MODEL_FLAGS, PROGRAM, FlagChange, compare_commands
from pytest_boobench.record import Baseline, BaselineRun, CellRecord
from pytest_boobench.units import count, number, percent

CANARY = 0.95
"""A canary below this share of the baseline's speed can explain a slower server."""
EXPLAINED = 7.0
"""Greatest loss that a slow canary explains, in multiples of its own loss, as logarithms: unchanged servers have lost
6.6 times what the canary did."""
SHOWN_FLAGS = 8
"""How many flags a line names; it counts the rest."""
BUSIER = 0.10
"""If other programs use this much more of the machine's processors, that explains any loss."""
CLOCK = 0.98
"""A GPU's clock below this share of the baseline's is lower: clocks of an unchanged GPU differ by steps of 1 %."""
CLOCK_EXPLAINED = 1.25
"""Greatest loss that a lower clock explains, in multiples of its own, as logarithms. A program cannot lose more than
the clock that all of it depends on; the rest is for the error of both medians."""
HARD_LIMITS = frozenset({"hardware slowdown", "hardware thermal slowdown", "power brake", "thermal slowdown"})
"""If one of these limits holds a GPU down that did not with the baseline, that explains any loss. A power cap does not:
at full load it holds most GPUs down always, and what it costs is seen in their clock."""


@dataclass(frozen=True, slots=True)
class SlowMachine:
    """This machine itself is slower, or busier, than when the baseline was measured."""

    words: str
    """A clause with numbers, for the end of a sentence."""
    explains: float = math.inf
    """The greatest loss of a server that it explains, as a logarithm."""


def keep_comparable(record: CellRecord, baseline: Baseline) -> tuple[Baseline, str]:
    """Return the baseline with only the runs that the record may be compared with, and why if there are none."""
    reasons = [_find_obstacle(record, run) for run in baseline.runs]
    if not any(reasons):
        return baseline, ""
    kept = tuple(run for run, reason in zip(baseline.runs, reasons, strict=True) if not reason)
    if not kept:
        return baseline, reasons[-1]
    later = tuple(run for run in baseline.later if not _find_obstacle(record, run))
    return replace(baseline, runs=kept, later=later), ""


def _find_obstacle(record: CellRecord, run: BaselineRun) -> str:
    """Why a run measured something else: another model file, other settings, or another processor of a local host."""
    if record.model is not None and run.model is not None and (found := record.model.differences(run.model)):
        return f"another model: {'; '.join(found)}"
    now, was = record.client.cpu, run.client.cpu
    if record.canaries and now is not None and was is not None and now != was:
        return f"another processor: {now}, was {was}"
    return ""


_FACTS: Mapping[str, str] = {
    "engine": "engine_build",
    "flags": "command",
    "driver": "driver",
    "GPU clock": "hardware.gpu_clock_mhz",
    "memory clock": "hardware.memory_clock_mhz",
    "power limit": "hardware.power_limit_w",
    "model file": "model.path",
    **{title: f"model.{key}" for key, title in DECISIVE},
    "KV type": "model.kv_type",
    "speculative decoding": "model.speculative",
    "percent on the GPU": "model.gpu_percent",
    "processor": "client.cpu",
    "client": "client.machine",
    "workers": "client.workers",
    "clock": "clock",
    "answer": "text_digest",
}
"""Name of a circumstance -> its path in record and baseline."""
_UNITS: Mapping[str, str] = {"GPU clock": "MHz", "memory clock": "MHz", "power limit": "W"}
"""Circumstances that are measured numbers: those that differ by less than `CLOCK` are the same."""
_OBSTACLES = frozenset({"processor", *(title for _, title in DECISIVE)})
_KNOWN: Mapping[str, Sequence[str]] = {
    "build": ("engine_build",),
    "flags": ("command",),
    "driver": ("driver",),
    "model": ("model.path", *(f"model.{key}" for key, _ in DECISIVE)),
}
"""Word for the sentence "nothing has changed" -> the facts behind it; one known fact is enough."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A circumstance that is known on both sides and differs. A flag may be missing on one side."""

    what: str
    was: str | None
    now: str | None
    words: str
    """The difference as a clause."""
    is_flag: bool = False
    """Whether it is one of several flags, which share a clause."""


def list_differences(record: CellRecord, runs: Sequence[BaselineRun]) -> list[Difference]:
    """Return what changed since the newest run that knows it. A fact unknown on one side counts as unchanged."""
    pairs = {what: _find_pair(record, runs, fact) for what, fact in _FACTS.items()}
    differ = {what: pair for what, pair in pairs.items() if pair is not None and _differs(what, *pair)}
    if not record.canaries:  # the host is another machine
        differ.pop("processor", None)
    found: list[Difference] = []
    for what, (was, now) in differ.items():
        if what == "flags":
            told = MODEL_FLAGS if "model file" in differ else frozenset()
            found += [_name_flag(one) for one in compare_commands(was, now) if one.name not in told]
        elif what == "answer":
            words = "the model says something else to the same prompt"
            found.append(Difference(what, "as it was", "another text to the same prompt", words))
        else:
            then, today = (_write(what, value) for value in (was, now))
            found.append(Difference(what, then, today, f"{what} {today}, was {then}"))
    return found


def _differs(what: str, was: Any, now: Any) -> bool:
    return bool(min(was, now) < CLOCK * max(was, now) if what in _UNITS else was != now)


def _write(what: str, value: Any) -> str:
    return f"{number(value)} {_UNITS[what]}" if what in _UNITS else str(value)


def _name_flag(change: FlagChange) -> Difference:
    if change.name == PROGRAM:
        return Difference(PROGRAM, change.was, change.now, str(change))
    return Difference(f"flag {change.name}", change.was, change.now, str(change), is_flag=True)


def _find_pair(record: CellRecord, runs: Sequence[BaselineRun], fact: str) -> tuple[Any, Any] | None:
    """Return (then, now) of a fact that both sides know."""
    known = [found for run in runs if (found := _read(run, fact)) is not None]
    now = _read(record, fact)
    return (known[-1], now) if known and now is not None else None


def _read(source: object, fact: str) -> Any:
    """Return a fact by its path; None if a part of it is None."""
    for name in fact.split("."):
        source = getattr(source, name, None)
    return source


def describe_differences(changes: Sequence[Difference], *, comparable: bool = True) -> list[str]:
    """Return a clause for each, and one for all flags together. Not ``comparable``: omit the obstacles."""
    left = [change for change in changes if comparable or change.what not in _OBSTACLES]
    named = [change.words for change in left if change.is_flag]
    more = [f"and {count(len(named) - SHOWN_FLAGS, 'more flag')}"] if len(named) > SHOWN_FLAGS else []
    flags = f"flags: {', '.join([*named[:SHOWN_FLAGS], *more])}"
    return list(dict.fromkeys(flags if change.is_flag else change.words for change in left))


def describe_sameness(record: CellRecord, runs: Sequence[BaselineRun]) -> str:
    """Say that nothing known has changed, and what both sides know; empty if build or model are unknown."""
    same = [word for word, facts in _KNOWN.items() if any(_find_pair(record, runs, fact) for fact in facts)]
    if not {"build", "model"} <= set(same):
        return ""
    return f"nothing known has changed: same {', '.join(same[:-1])} and {same[-1]}"


def find_slow_machine(record: CellRecord, runs: Sequence[BaselineRun]) -> SlowMachine | None:
    """What explains the greatest loss: this machine's canary, or the GPU's clock and limits; None if nothing does."""
    found = (_find_slow_canary(record, runs), _find_slow_gpu(record, runs))
    return max((slow for slow in found if slow is not None), key=lambda slow: slow.explains, default=None)


def _find_slow_gpu(record: CellRecord, runs: Sequence[BaselineRun]) -> SlowMachine | None:
    """Compare the GPU's clocks and limits, as far as both sides know them; median over the runs. None for another
    machine."""
    now, known = record.hardware, [run.hardware for run in runs if run.hardware is not None]
    if not record.canaries or now is None or not known:
        return None
    if limits := HARD_LIMITS & _list_limits(now) - frozenset[str]().union(*map(_list_limits, known)):
        clock = "" if now.gpu_clock_mhz is None else f" at {now.gpu_clock_mhz:.0f} MHz"
        return SlowMachine(f"the GPU{clock} was throttled ({', '.join(sorted(limits))}), and not with the baseline")
    found = []
    for title, fact in (("GPU", "gpu_clock_mhz"), ("GPU memory", "memory_clock_mhz")):
        clocks = [clock for clock in map(attrgetter(fact), known) if clock is not None]
        clock, then = getattr(now, fact), statistics.median(clocks) if clocks else None
        if clock and then and clock < CLOCK * then:
            why = f" ({now.throttled})" if now.throttled else ""
            words = f"{title} at {clock:.0f} MHz{why}, {then:.0f} with the baseline"
            found.append(SlowMachine(words, explains=CLOCK_EXPLAINED * math.log(then / clock)))
    return max(found, key=lambda slow: slow.explains, default=None)


def _list_limits(hardware: Hardware) -> frozenset[str]:
    return frozenset((hardware.throttled or "").split(", ")) - {""}


def find_other_sensor(record: CellRecord, runs: Sequence[BaselineRun]) -> str:
    """Why no energy can be compared: other sensors reported it; empty if the same did, or one side does not know."""
    pair = _find_pair(record, runs, "hardware.source")
    return f"energy by {pair[1]}, was by {pair[0]}" if pair is not None and pair[0] != pair[1] else ""


def _find_slow_canary(record: CellRecord, runs: Sequence[BaselineRun]) -> SlowMachine | None:
    """Compare this machine's canary: median over the blocks with median over the runs.
    None if the machine is as fast and as free as then, or if the host is another machine."""
    known = [run.canary for run in runs if run.canary is not None]
    if not record.canaries or not known:
        return None
    busy, before = _find_busy_share(record.canaries), _find_busy_share(known)
    if busy is not None and before is not None and busy > before + BUSIER:
        return SlowMachine(f"other programs take {percent(busy)} of this machine's processors (then {percent(before)})")
    found = []
    for verb, fact in (("copies memory", "copy_mb_s"), ("hashes", "hash_mb_s")):
        now, was = (statistics.median(map(attrgetter(fact), canaries)) for canaries in (record.canaries, known))
        if now < CANARY * was:
            words = f"this machine {verb} {percent(1 - now / was)} slower than then ({now:.0f} MB/s, was {was:.0f})"
            found.append(SlowMachine(words, explains=EXPLAINED * math.log(was / now)))
    return max(found, key=lambda slow: slow.explains, default=None)


def _find_busy_share(canaries: Iterable[Canary]) -> float | None:
    shares = [canary.busy_share for canary in canaries if canary.busy_share is not None]
    return statistics.median(shares) if shares else None
