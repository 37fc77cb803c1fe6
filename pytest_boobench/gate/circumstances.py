"""Room 6: what is different from when the baseline was measured: what forbids a comparison, and what is only said."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from pytest_boobench.facts import Canary
from pytest_boobench.gate.reference import ENOUGH_LOOKS, Reference
from pytest_boobench.record import Baseline, BaselineRun, CellRecord
from pytest_boobench.units import percent

T = TypeVar("T")

CANARY = 0.95
"""A machine that does what its canary does at less than this share of the baseline's speed explains a slower server."""
EXPLAINED = 7.0
"""But not a server that lost more than so many times as much, in logarithms: unchanged ones have lost 6.6 times what
the canary did."""
BUSIER = 0.10
"""A machine of whose processors other programs take this much more explains whatever a server loses."""
_SPEEDS: Mapping[str, Callable[[Canary], float]] = {
    "copies memory": lambda canary: canary.copy_mb_s,
    "hashes": lambda canary: canary.hash_mb_s,
}


@dataclass(frozen=True, slots=True)
class SlowMachine:
    """That this machine itself is slower, or busier, than when the baseline was measured."""

    words: str
    """With numbers, for a sentence that goes on."""
    explains: float = math.inf
    """The greatest loss of a server that comes from it, as a logarithm."""


def keep_comparable(record: CellRecord, baseline: Baseline) -> tuple[Baseline, str]:
    """The baseline with only the runs that the record may be compared with, and why not where there are none."""
    reasons = [_find_obstacle(record, run) for run in baseline.runs]
    if not any(reasons):
        return baseline, ""
    kept = tuple(run for run, reason in zip(baseline.runs, reasons, strict=True) if not reason)
    if not kept:
        return baseline, reasons[-1]
    later = tuple(run for run in baseline.later if not _find_obstacle(record, run))
    return replace(baseline, runs=kept, later=later), ""


def _find_obstacle(record: CellRecord, run: BaselineRun) -> str:
    """Why a run measured something else: another model file, other settings, or the other processor of a local host."""
    if record.model is not None and run.model is not None and (found := record.model.differences(run.model)):
        return f"another model: {'; '.join(found)}"
    now, was = record.client.cpu, run.client.cpu
    if record.canaries and now is not None and was is not None and now != was:
        return f"another processor: {now}, was {was}"
    return ""


def describe_changes(record: CellRecord, runs: Sequence[BaselineRun]) -> list[str]:
    """What changed since the newest run that knows it: engine build, client machine, workers, clock."""
    build = record.server.engine_build if record.server is not None else None
    client = record.client
    pairs = (
        ("engine", build, _newest(runs, lambda run: run.engine_build)),
        ("client", client.machine, _newest(runs, lambda run: run.client.machine)),
        ("workers", client.workers, _newest(runs, lambda run: run.client.workers)),
        ("clock", record.clock, _newest(runs, lambda run: run.clock)),
    )
    found = [
        f"{word} {now}, was {was}" for word, now, was in pairs if now is not None and was is not None and now != was
    ]
    text = _newest(runs, lambda run: run.text_digest)
    if text is not None and record.text_digest not in (None, text):
        found.append("the model says something else to the same prompt")
    return found


def describe_assumption(was: Reference) -> list[str]:
    """That the noise is not measured yet."""
    return [f"noise assumed: {was.known_looks} of {ENOUGH_LOOKS} sessions"] if was.assumed else []


def find_slow_machine(record: CellRecord, runs: Sequence[BaselineRun]) -> SlowMachine | None:
    """What this machine's canary says: the median over the blocks against that over the runs. None where it is as fast
    and as free as then, or where the host is another machine."""
    known = [run.canary for run in runs if run.canary is not None]
    if not record.canaries or not known:
        return None
    busy, before = _find_busy_share(record.canaries), _find_busy_share(known)
    if busy is not None and before is not None and busy > before + BUSIER:
        return SlowMachine(f"other programs take {percent(busy)} of this machine's processors (then {percent(before)})")
    found = [_compare_speeds(word, record.canaries, known) for word in _SPEEDS]
    return max(filter(None, found), key=lambda slow: slow.explains, default=None)


def _compare_speeds(word: str, canaries: Iterable[Canary], known: Iterable[Canary]) -> SlowMachine | None:
    now, was = (statistics.median(map(_SPEEDS[word], some)) for some in (canaries, known))
    if now >= CANARY * was:
        return None
    return SlowMachine(
        f"this machine {word} {percent(1 - now / was)} slower than then ({now:.0f} MB/s, was {was:.0f})",
        explains=EXPLAINED * math.log(was / now),
    )


def _find_busy_share(canaries: Iterable[Canary]) -> float | None:
    shares = [canary.busy_share for canary in canaries if canary.busy_share is not None]
    return statistics.median(shares) if shares else None


def _newest(runs: Sequence[BaselineRun], read: Callable[[BaselineRun], T | None]) -> T | None:
    found: Iterator[T] = (value for run in reversed(runs) if (value := read(run)) is not None)
    return next(found, None)
