"""Door 2: a comparison as a table with a summary, or as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from pytest_boobench.cli.cells import name_cell
from pytest_boobench.cli.comparison.pairs import RANK, Comparison, Pair
from pytest_boobench.cli.comparison.sides import Side
from pytest_boobench.metrics import METRICS
from pytest_boobench.record import Verdict
from pytest_boobench.reports.sentences import sentence
from pytest_boobench.reports.tables import render_table
from pytest_boobench.units import change, count, moment, number

_HEAD = ("suite", "cell", "metric", "unit", "A", "B", "change", "verdict")


def render_text(first: Side, second: Side, found: Comparison, *, explain: bool) -> Iterator[str]:
    """Lines for people; ``explain`` adds each verdict's sentence below the table."""
    yield f"A  {_describe_side(first)}"
    yield f"B  {_describe_side(second)}"
    yield ""
    if found.pairs:
        yield from render_table(_HEAD, [_row(pair) for pair in found.pairs], left=(0, 1, 2, 3, 7))
        yield ""
    if explain:
        yield from (f"{pair.cell}: {sentence(pair.verdict)}" for pair in found.pairs)
        yield ""
    yield from (f"not measured: {name_cell(each)}: {each.error}" for each in found.failed)
    yield from (f"only in A: {name_cell(each)}" for each in found.only_first)
    yield from (f"only in B: {name_cell(each)}" for each in found.only_second)
    yield _sum_up(found)


def _row(pair: Pair) -> tuple[str, ...]:
    metric = METRICS[pair.verdict.metric]
    numbers = (number(pair.was), number(pair.verdict.now), change(pair.change))
    return (pair.measurement.run.suite, pair.cell, metric.title, metric.unit, *numbers, pair.verdict.outcome)


def _describe_side(side: Side) -> str:
    """Label, when it was measured, in how many sessions, by which builds and commits."""
    newest = side.measurements[-1]
    runs = {each.run.uid: each.run for each in side.measurements}
    builds = sorted({each.engine_build for each in side.measurements if each.engine_build})
    commits = sorted({run.git_commit[:10] for run in runs.values() if run.git_commit})
    parts = (
        side.label,
        f"{moment(newest.started_at)} UTC",
        count(len({run.session for run in runs.values()}), "session"),
        f"engine {', '.join(builds)}" if builds else "",
        f"commit {', '.join(commits)}" if commits and side.kind != "commit" else "",
    )
    return "  ".join(part for part in parts if part)


def _sum_up(found: Comparison) -> str:
    counts = Counter(pair.verdict.outcome for pair in found.pairs)
    words = [f"{counts[outcome]} {outcome}" for outcome in RANK if counts[outcome]]
    return ", ".join(words) or "no cell is on both sides"


def to_plain(first: Side, second: Side, found: Comparison) -> dict[str, Any]:
    """The same as JSON has it."""
    return {
        "a": _plain_side(first),
        "b": _plain_side(second),
        "pairs": [_plain_pair(pair) for pair in found.pairs],
        "not_measured": [{"cell": name_cell(each), "error": each.error} for each in found.failed],
        "only_in_a": [name_cell(each) for each in found.only_first],
        "only_in_b": [name_cell(each) for each in found.only_second],
    }


def _plain_side(side: Side) -> dict[str, Any]:
    return {"kind": side.kind, "name": side.word, "measurements": [each.id for each in side.measurements]}


def _plain_pair(pair: Pair) -> dict[str, Any]:
    verdict: Verdict = pair.verdict
    return {
        "suite": pair.measurement.run.suite,
        "cell": pair.cell,
        "node_id": pair.measurement.node_id,
        "measurement": pair.measurement.id,
        "unit": METRICS[verdict.metric].unit,
        "a": pair.was,
        "b": verdict.now,
        "change": pair.change,
        "sentence": sentence(verdict),
        "verdict": asdict(verdict),
    }
