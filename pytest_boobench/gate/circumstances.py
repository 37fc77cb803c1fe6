"""Room 6: what differs from when the baseline was measured: what forbids a comparison, and what is only noted."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from pytest_boobench.facts import Canary
from pytest_boobench.record import Baseline, BaselineRun, CellRecord
from pytest_boobench.units import percent

CANARY = 0.95
"""A slower server is explained by a machine whose canary runs at less than this share of the baseline's speed."""
EXPLAINED = 7.0
"""Greatest loss that a slow canary explains, in multiples of its own loss, as logarithms: unchanged servers have lost
6.6 times what the canary did."""
BUSIER = 0.10
"""Any loss is explained by other programs that take this much more of the machine's processors."""


@dataclass(frozen=True, slots=True)
class SlowMachine:
    """This machine itself is slower, or busier, than when the baseline was measured."""

    words: str
    """With numbers, to go on a sentence."""
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
    """What changed since the newest run that knows it: engine build, client machine, workers, clock, the answer."""
    facts = {"engine": "engine_build", "client": "client.machine", "workers": "client.workers", "clock": "clock"}
    changes = {word: _find_change(record, runs, fact) for word, fact in facts.items()}
    found = [f"{word} {change[0]}, was {change[1]}" for word, change in changes.items() if change]
    if _find_change(record, runs, "text_digest"):
        found.append("the model says something else to the same prompt")
    return found


def _find_change(record: CellRecord, runs: Sequence[BaselineRun], fact: str) -> tuple[object, object] | None:
    """(now, then) of a fact that both know and that differs."""
    read = attrgetter(fact)
    now, was = read(record), next((read(run) for run in reversed(runs) if read(run) is not None), None)
    return (now, was) if now is not None and was is not None and now != was else None


def find_slow_machine(record: CellRecord, runs: Sequence[BaselineRun]) -> SlowMachine | None:
    """What this machine's canary shows, median over the blocks against median over the runs; None where the machine is
    as fast and as free as then, or where the host is another one."""
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
