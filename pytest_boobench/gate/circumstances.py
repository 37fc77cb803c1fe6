"""Room 6: what differs from when the baseline was measured: what forbids a comparison, and what is only noted."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from pytest_boobench.facts import DECISIVE, Canary
from pytest_boobench.gate.flags import MODEL_FLAGS, PROGRAM, FlagChange, compare_commands
from pytest_boobench.record import Baseline, BaselineRun, CellRecord
from pytest_boobench.units import count, percent

CANARY = 0.95
"""A slower server is explained by a machine whose canary runs at less than this share of the baseline's speed."""
EXPLAINED = 7.0
"""Greatest loss that a slow canary explains, in multiples of its own loss, as logarithms: unchanged servers have lost
6.6 times what the canary did."""
SHOWN_FLAGS = 8
"""Flags that a line names; the rest are counted."""
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


_FACTS: Mapping[str, str] = {
    "engine": "engine_build",
    "flags": "command",
    "driver": "driver",
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
"""What a circumstance is called -> where record and baseline have it."""
_OBSTACLES = frozenset({"processor", *(title for _, title in DECISIVE)})
_KNOWN: Mapping[str, Sequence[str]] = {
    "build": ("engine_build",),
    "flags": ("command",),
    "driver": ("driver",),
    "model": ("model.path", *(f"model.{key}" for key, _ in DECISIVE)),
}
"""What a cell without changes has in common with its baseline -> the facts of which it takes one."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One circumstance that is known of now and of then, and differs; a flag may be missing on one side."""

    what: str
    was: str | None
    now: str | None
    words: str
    """The same as a clause."""
    is_flag: bool = False
    """Whether it is one of several flags, which share a clause."""


def list_differences(record: CellRecord, runs: Sequence[BaselineRun]) -> list[Difference]:
    """What changed since the newest run that knows it. What one side does not know has not changed."""
    pairs = {what: _find_pair(record, runs, fact) for what, fact in _FACTS.items()}
    differ = {what: pair for what, pair in pairs.items() if pair is not None and pair[0] != pair[1]}
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
            found.append(Difference(what, str(was), str(now), f"{what} {now}, was {was}"))
    return found


def _name_flag(change: FlagChange) -> Difference:
    if change.name == PROGRAM:
        return Difference(PROGRAM, change.was, change.now, str(change))
    return Difference(f"flag {change.name}", change.was, change.now, str(change), is_flag=True)


def _find_pair(record: CellRecord, runs: Sequence[BaselineRun], fact: str) -> tuple[Any, Any] | None:
    """(then, now) of a fact that both know."""
    known = [found for run in runs if (found := _read(run, fact)) is not None]
    now = _read(record, fact)
    return (known[-1], now) if known and now is not None else None


def _read(source: object, fact: str) -> Any:
    """A fact by its path; None where a part of it is blank."""
    for name in fact.split("."):
        source = getattr(source, name, None)
    return source


def describe_differences(changes: Sequence[Difference], *, comparable: bool = True) -> list[str]:
    """A clause for each, and one for all flags together; where nothing can be compared, without what forbids it."""
    left = [change for change in changes if comparable or change.what not in _OBSTACLES]
    named = [change.words for change in left if change.is_flag]
    more = [f"and {count(len(named) - SHOWN_FLAGS, 'more flag')}"] if len(named) > SHOWN_FLAGS else []
    flags = f"flags: {', '.join([*named[:SHOWN_FLAGS], *more])}"
    return list(dict.fromkeys(flags if change.is_flag else change.words for change in left))


def describe_sameness(record: CellRecord, runs: Sequence[BaselineRun]) -> str:
    """That nothing known has changed, and what is known of both sides; empty where build or model are not."""
    same = [word for word, facts in _KNOWN.items() if any(_find_pair(record, runs, fact) for fact in facts)]
    if not {"build", "model"} <= set(same):
        return ""
    return f"nothing known has changed: same {', '.join(same[:-1])} and {same[-1]}"


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
