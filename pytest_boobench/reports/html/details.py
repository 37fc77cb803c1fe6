"""Room 7: a cell's newest measurement from near: its samples beside the baseline's, where its TTFT goes, its facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_boobench.aggregate import Aggregate, counted, describe_failures, measured
from pytest_boobench.metrics import METRICS, Sample
from pytest_boobench.record import Measurement, Verdict
from pytest_boobench.reports.html.chart_points import Number, shorten, tell_turn
from pytest_boobench.reports.html.series import ALL_LANES, Series
from pytest_boobench.reports.html.states import RANKS
from pytest_boobench.reports.sentences import sentence
from pytest_boobench.reports.text import clean, show_time
from pytest_boobench.units import count, number, percent, quantity

MOST_DOTS = 24
"""Samples of one strip that are drawn; of more, every so many-th in the order of size."""
_SPLIT = ("connect_ms", "queue_ms", "prompt_ms", "ttft_ms")
_BOX = ("n", "p10", "p25", "median", "p75", "p90")


def explain(course: Series, samples: Sequence[Sample]) -> list[str]:
    """Everything there is to say of the newest measurement, what asks most of the reader first."""
    newest = course.newest
    ranked = [(RANKS[verdict.outcome], _tell(verdict)) for verdict in newest.verdicts]
    if newest.error:
        ranked.append((RANKS["not measured"], newest.error))
    if newest.failed:
        failed = [sample for sample in measured(samples) if not sample.ok]
        why = f": {describe_failures(failed)}" if failed else ""
        ranked.append((RANKS["failed requests"], f"{newest.failed} of {newest.samples} requests failed{why}"))
    if newest.spoiled and not any(newest.spoiled in text for _, text in ranked):
        ranked.append((RANKS["inconclusive"], newest.spoiled))
    said = list(dict.fromkeys(text for _, text in sorted(ranked, key=lambda pair: pair[0])))
    turn = tell_turn(course)
    return [clean(text) for text in (*said[:1], *((turn,) if turn else ()), *said[1:])]


def _tell(verdict: Verdict) -> str:
    """A verdict's sentence; where nothing was compared, the reason alone, which is mostly that of all metrics."""
    if verdict.change is not None:
        return sentence(verdict)
    return f"{verdict.outcome}: {verdict.reason}" if verdict.reason else verdict.outcome


def compare_samples(course: Series, samples: Mapping[int, Sequence[Sample]]) -> dict[str, Any]:
    """Metric key -> the newest measurement's box and dots and, where there is one, the baseline's."""
    pairs = [("now", course.newest), ("was", course.baseline)]
    sides = {
        key: {
            name: {"box": _box(measurement.aggregates[key]), "dots": _dots(key, samples.get(measurement.id, ()))}
            for name, measurement in pairs
            if measurement is not None and key in measurement.aggregates
        }
        for key in course.charted
        if key != ALL_LANES
    }
    return {key: found for key, found in sides.items() if found}


def split_ttft(course: Series) -> dict[str, list[Number]]:
    """Medians of connect, queue, prompt and TTFT, ms: of the newest measurement, and of the baseline's."""
    pairs = [("now", course.newest), ("was", course.baseline)]
    return {
        name: [_median(measurement, key) for key in _SPLIT]
        for name, measurement in pairs
        if measurement is not None and "ttft_ms" in measurement.aggregates
    }


def list_facts(course: Series) -> list[tuple[str, str]]:
    """(what, value) of everything that was noted beside the numbers; blanks are left out."""
    newest, baseline = course.newest, course.baseline
    facts = [("measured", show_time(newest.started_at)), *_describe_samples(newest), *_describe_host(newest)]
    if baseline is not None:
        facts.append((f"baseline {', '.join(baseline.baselines)}", _provenance(baseline)))
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


def _describe_host(newest: Measurement) -> Iterator[tuple[str, str]]:
    run, model, canary = newest.run, newest.model, newest.canary
    yield "engine", newest.engine_build or ""
    short = newest.node_id.rpartition("::")[2].partition("[")[0]
    yield "listed as", newest.identity["model"] if newest.identity["model"] != short else ""
    if model is not None:
        size = quantity(model.size_bytes / 1e9, "GB") if model.size_bytes else None
        context = f"{model.n_ctx} tokens of context" if model.n_ctx else None
        slots = count(model.slots, "slot") if model.slots else None
        yield "model", ", ".join(part for part in (model.quantisation, size, context, slots) if part)
    yield "duet with", newest.reference_host or ""
    yield "commit", f"{run.git_commit}{' and changes' if run.git_dirty else ''}" if run.git_commit else ""
    yield "measured from", ", ".join(part for part in (run.machine, run.cpu) if part)
    if canary is not None:
        busy = "" if canary.busy_share is None else f", others took {percent(canary.busy_share)} of its processors"
        yield "canary", f"copies {number(canary.copy_mb_s)} MB/s, hashes {number(canary.hash_mb_s)} MB/s{busy}"
    yield "CI job", " ".join(str(part) for part in map(run.ci.get, ("system", "job", "run", "ref")) if part)


def _provenance(baseline: Measurement) -> str:
    commit = f"commit {baseline.run.git_commit[:10]}" if baseline.run.git_commit else None
    engine = f"engine {baseline.engine_build}" if baseline.engine_build else None
    return ", ".join(part for part in (show_time(baseline.started_at), commit, engine) if part)


def _box(aggregate: Aggregate) -> list[Number]:
    return [shorten(getattr(aggregate, name)) for name in _BOX]


def _dots(key: str, samples: Sequence[Sample]) -> list[Number]:
    values = sorted(value for sample in counted(samples) for value in METRICS[key].values(sample))
    step = max(1, -(-len(values) // MOST_DOTS))
    return [shorten(value) for value in values[::step]]


def _median(measurement: Measurement, key: str) -> Number:
    aggregate = measurement.aggregates.get(key)
    return shorten(aggregate.median) if aggregate else None
