"""Room 7: the data behind one cell's charts: its metrics over time, and its newest measurement in detail."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from pytest_boobench.aggregate import counted, describe_failures, measured
from pytest_boobench.gate.change_points import find_changes
from pytest_boobench.metrics import Sample, find_metric
from pytest_boobench.record import Measurement, Verdict
from pytest_boobench.reports.html.series import RANKS, Series, find_state, find_verdict
from pytest_boobench.reports.sentences import describe_hardware, list_turns, list_versions, sentence
from pytest_boobench.reports.session import find_value
from pytest_boobench.reports.text import clean, show_time
from pytest_boobench.units import change as show_change
from pytest_boobench.units import count, number, percent, quantity

MOST_DOTS = 24
"""Most samples drawn of one measurement; of more, every n-th in ascending order."""
_REASON_LONGEST = 120

Number = int | float | None


class Pool:
    """Values that many points share, each kept once; points refer to them by index."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, name: str | None, entry: Any = None) -> int:
        """The index of a text, or of the entry of that name; -1 for None."""
        if name is None:
            return -1
        if name not in self._places:
            self._places[name] = len(self.entries)
            self.entries.append(clean(name) if entry is None else entry)
        return self._places[name]


def plot_metric(course: Series, key: str) -> dict[str, Any]:
    """One metric over time. ``level``, the baseline's, and ``allowed`` are (index of the first point, value);
    ``changes`` are (first index, last index, level before, level after)."""
    values = [find_value(measurement, key) for measurement in course.measurements]
    verdicts = [find_verdict(measurement, key) for measurement in course.measurements]
    columns: dict[str, Any] = {
        "values": list(map(shorten, values)),
        "level": _merge_equal(shorten(verdict.baseline) if verdict else None for verdict in verdicts),
        "allowed": _merge_equal(shorten(verdict.allowed) if verdict else None for verdict in verdicts),
        "changes": [(one.index, one.last, shorten(one.before), shorten(one.after)) for one in find_changes(values)],
    }
    if any(verdicts):  # p10 and p90 are worth their bytes only where the metric is judged
        found = [measurement.aggregates.get(key) for measurement in course.measurements]
        columns["low"] = [shorten(aggregate.p10, digits=3) if aggregate else None for aggregate in found]
        columns["high"] = [shorten(aggregate.p90, digits=3) if aggregate else None for aggregate in found]
    return columns


def plot_runs(course: Series, runs: Pool, texts: Pool) -> dict[str, Any]:
    """What is known of each point beside its numbers. ``after`` is seconds since its run began; ``runs`` is the index
    of its run less its own index, which is mostly the same for many points."""
    measurements = course.measurements
    places = [runs.place(one.run.uid, _describe_run(one, texts)) for one in measurements]
    reasons = {
        place: texts.place(clean(reason, _REASON_LONGEST))
        for place, measurement in enumerate(measurements)
        if (reason := measurement.error or measurement.spoiled)
    }
    return {
        "runs": _merge_equal(run - place for place, run in enumerate(places)),
        "after": [round(one.started_at - one.run.started_at) for one in measurements],
        "builds": _merge_equal(texts.place(one.engine_build) for one in measurements),
        "states": _merge_equal(RANKS[find_state(one).word] for one in measurements),
        "reasons": reasons,
        "saved": {place: clean(", ".join(one.baselines)) for place, one in enumerate(measurements) if one.baselines},
    }


def shorten(value: float | None, digits: int = 4) -> Number:
    """So many significant digits; None where the value is not finite."""
    if value is None or not math.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() else short


def _describe_run(measurement: Measurement, texts: Pool) -> Mapping[str, Any]:
    run = measurement.run
    commit = f"{run.git_commit[:10]}{' and changes' if run.git_dirty else ''}" if run.git_commit else None
    return {
        "at": round(run.started_at),
        "commit": texts.place(commit),
        "machine": texts.place(run.machine),
        "session": texts.place(run.session[:8]),
    }


def _merge_equal(values: Iterable[Number]) -> list[tuple[int, Number]]:
    """Each run of equal values as (index of the first, value)."""
    grouped = groupby(enumerate(values), key=lambda pair: pair[1])
    return [(next(group)[0], value) for value, group in grouped]


def tell_turn(course: Series) -> str | None:
    """The newest change of the decisive metric in the direction of its verdict; None where there is none."""
    verdict = course.decisive
    if verdict is None or verdict.outcome not in ("regression", "improvement") or not verdict.change:
        return None
    changes = find_changes([find_value(measurement, verdict.metric) for measurement in course.measurements])
    newest = next((change for change in reversed(changes) if change.ratio * verdict.change > 0), None)
    if newest is None:
        return None
    ends = (newest.index if newest.gradual else max(0, newest.index - 1), newest.last)
    first, last = (_describe_point(course.measurements[place]) for place in ends)
    verb = "slid" if newest.gradual else "stepped"
    return f"{find_metric(verdict.metric).title} {verb} by {show_change(newest.ratio)} between {first} and {last}"


def _describe_point(measurement: Measurement) -> str:
    known = ", ".join(list_versions(measurement.run.git_commit, measurement.engine_build))
    return f"{show_time(measurement.started_at)}{f' ({known})' if known else ''}"


def explain(course: Series, samples: Sequence[Sample]) -> list[str]:
    """What the page says of the newest measurement, the most urgent first; ``samples`` are its own."""
    newest = course.newest
    ranked = [(RANKS[verdict.outcome], _tell(verdict)) for verdict in newest.verdicts]
    if newest.error:
        ranked.append((RANKS["not measured"], newest.error))
    if newest.failed:
        failed = [sample for sample in measured(samples) if not sample.ok]
        why = f": {describe_failures(failed)}" if failed else ""
        ranked.append((RANKS["failed requests"], f"{newest.failed} of {newest.samples} requests failed{why}"))
    if newest.cache_break and not any(newest.cache_break in text for _, text in ranked):
        ranked.append((RANKS["pass"], newest.cache_break))
    if newest.spoiled and not any(newest.spoiled in text for _, text in ranked):
        ranked.append((RANKS["inconclusive"], newest.spoiled))
    said = list(dict.fromkeys(text for _, text in sorted(ranked, key=lambda pair: pair[0])))
    turn = tell_turn(course)
    return [clean(text) for text in (*said[:1], *([turn] if turn else ()), *said[1:])]


def _tell(verdict: Verdict) -> str:
    """The verdict's sentence, or only its reason where nothing was compared: all metrics mostly share it."""
    if verdict.change is not None:
        return sentence(verdict)
    said = "; ".join(filter(None, (verdict.reason, verdict.note)))
    return f"{verdict.outcome}: {said}" if said else verdict.outcome


def compare_samples(course: Series, samples: Mapping[int, Sequence[Sample]]) -> dict[str, Any]:
    """Metric key -> box and dots of the newest measurement and, where there is one, of its baseline."""
    sides = {
        key: {
            name: _plot_samples(key, measurement, samples.get(measurement.id, ()))
            for name, measurement in course.compared.items()
            if key in measurement.aggregates
        }
        for key in course.charted
    }
    return {key: found for key, found in sides.items() if found}


def _plot_samples(key: str, measurement: Measurement, samples: Sequence[Sample]) -> dict[str, list[Number]]:
    box = [getattr(measurement.aggregates[key], name) for name in ("n", "p10", "p25", "median", "p75", "p90")]
    values = sorted(value for sample in counted(samples) for value in find_metric(key).values(sample))
    step = max(1, math.ceil(len(values) / MOST_DOTS))
    return {"box": list(map(shorten, box)), "dots": list(map(shorten, values[::step]))}


def split_ttft(course: Series) -> dict[str, list[Number]]:
    """Medians of connect, queue, prompt and TTFT, ms: of the newest measurement, and of its baseline."""
    return {
        name: [shorten(find_value(measurement, key)) for key in ("connect_ms", "queue_ms", "prompt_ms", "ttft_ms")]
        for name, measurement in course.compared.items()
        if "ttft_ms" in measurement.aggregates
    }


def tabulate_turns(course: Series) -> dict[str, dict[str, list[Number]]]:
    """Metric with its unit -> its median in each turn: of the newest measurement, and of its baseline."""
    sides = {}
    for name, measurement in course.compared.items():
        if turns := list_turns(measurement):
            titles = {key: " ".join(filter(None, (find_metric(key).title, find_metric(key).unit))) for key in turns}
            sides[name] = {titles[key]: list(map(shorten, medians)) for key, medians in turns.items()}
    return sides


def list_facts(course: Series) -> list[tuple[str, str]]:
    """(what, value) of everything known beside the numbers; blanks are left out."""
    newest, baseline = course.newest, course.baseline
    facts = [("measured", show_time(newest.started_at)), *_describe_samples(newest), *_describe_host(course)]
    if baseline is not None:
        origin = [show_time(baseline.started_at), *list_versions(baseline.run.git_commit, baseline.engine_build)]
        facts.append((f"baseline {', '.join(baseline.baselines)}", ", ".join(origin)))
    return [(clean(what), clean(value)) for what, value in facts if value]


def _describe_samples(newest: Measurement) -> Iterator[tuple[str, str]]:
    failed = f", {newest.failed} failed" if newest.failed else ""
    yield "samples", f"{newest.samples}{failed}, in {count(newest.blocks, 'block')}"
    yield "why more blocks", newest.extended
    yield "measured again", f"{newest.attempts} times" if newest.attempts > 1 else ""
    yield "stalls", str(newest.stalls) if newest.stalls else ""
    yield "others on the host", str(newest.traffic) if newest.traffic else ""
    yield "clock", newest.clock or ""
    yield "model loaded in", quantity(newest.load_ms, "ms") if newest.load_ms is not None else ""
    yield "context evaluated in", quantity(newest.depth_ms, "ms") if newest.depth_ms is not None else ""


def _describe_host(course: Series) -> Iterator[tuple[str, str]]:
    newest = course.newest
    run, model, canary = newest.run, newest.model, newest.canary
    yield "engine", newest.engine_build or ""
    yield "started by", newest.command or ""
    yield "graphics driver", newest.driver or ""
    yield "hardware", describe_hardware(newest.hardware)
    yield "listed as", newest.identity["model"] if newest.identity["model"] != course.model else ""
    if model is not None:
        size = quantity(model.size_bytes / 1e9, "GB") if model.size_bytes else None
        context = f"{model.n_ctx} tokens of context" if model.n_ctx else None
        slots = count(model.slots, "slot") if model.slots else None
        yield "model", ", ".join(filter(None, (model.quantisation, size, context, slots)))
    yield "duet with", newest.reference_host or ""
    yield "commit", f"{run.git_commit}{' and changes' if run.git_dirty else ''}" if run.git_commit else ""
    yield "imported from", run.imported_from or ""
    yield "measured from", ", ".join(filter(None, (run.machine, run.cpu)))
    if canary is not None:
        busy = "" if canary.busy_share is None else f", others took {percent(canary.busy_share)} of its processors"
        yield "canary", f"copies {number(canary.copy_mb_s)} MB/s, hashes {number(canary.hash_mb_s)} MB/s{busy}"
    yield "CI job", " ".join(filter(None, map(run.ci.get, ("system", "job", "run", "ref"))))
