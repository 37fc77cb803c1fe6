"""Door 2: ``boobench compare``: two runs, sessions, baselines, commits or hosts, cell by cell."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from pytest_boobench import gate
from pytest_boobench.cli import show_examples
from pytest_boobench.cli.compared_changes import ChangedGroup, group_changes, render_group
from pytest_boobench.cli.compared_sides import NEWEST, Side, find_side, recall
from pytest_boobench.cli.parameters import echo, find_allowed, json_option, name_cell, read_percent, store_option
from pytest_boobench.cli.project import find_project
from pytest_boobench.metrics import find_metric
from pytest_boobench.record import Baseline, CellRecord, Measurement, Outcome, Verdict, make_baseline_run
from pytest_boobench.reports.sentences import sentence
from pytest_boobench.reports.text import render_table
from pytest_boobench.store import Store
from pytest_boobench.suite.cell import Policy
from pytest_boobench.units import change, count, moment, number

RANK: tuple[Outcome, ...] = ("regression", "inconclusive", "not comparable", "improvement", "pass", "no baseline")
"""The order of verdicts in the output: the most urgent first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One gated metric of one cell on both sides."""

    measurement: Measurement
    """The newest one of the second side."""
    verdict: Verdict
    was: float | None
    """The first side's level, also where nothing could be judged."""

    @property
    def cell(self) -> str:
        return name_cell(self.measurement)

    @property
    def change(self) -> float | None:
        """now / was - 1; None where that cannot be divided."""
        now = self.verdict.now
        return None if now is None or not self.was else now / self.was - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedCells:
    """Both sides, cell by cell."""

    pairs: tuple[Pair, ...]
    """Regressions first, each kind of verdict by the size of its change."""
    only_first: tuple[Measurement, ...]
    """The newest measurement of each cell that only the first side has."""
    only_second: tuple[Measurement, ...]
    failed: tuple[Measurement, ...]
    """Cells of the second side that could not be measured, or not to their end."""
    groups: tuple[ChangedGroup, ...]
    """What else changed, by host and model."""
    drifts: tuple[str, ...] = ()
    """What the references of the hosts' machines say, a line each."""


def compare(first: Side, second: Side, *, max_drop: float | None, policy: Policy) -> ComparedCells:
    """Judge the newest measurement of each cell of the second side by all clean ones of the first.

    ``max_drop`` is what is allowed of every gated metric, a ratio; without it, what was allowed at the measuring.
    """
    hosts, other_hosts = ({measurement.run.host for measurement in side.measurements} for side in (first, second))
    across = not hosts & other_hosts
    judged = {measurement.run.session for measurement in second.measurements}
    looks = (look for look in first.looks if look.session not in judged)
    first = replace(first, baselines=gate.learn_noise(first.baselines, looks))
    before, after = _group(first, across=across), _group(second, across=across)
    baselines = {key: _find_baseline(first, some) for key, some in before.items()}
    noise = gate.SuiteNoise(baseline for baseline in baselines.values() if baseline)
    drifts: dict[str, None] = {}
    pairs: list[Pair] = []
    failed: list[Measurement] = []
    circumstances: list[tuple[CellRecord, Baseline]] = []
    for key in after.keys() & before.keys():
        now, baseline = after[key][-1], baselines[key]
        if now.error is not None:
            failed.append(now)
            continue
        record = recall(now, canaries=(now.canary,) if now.canary and not across else ())
        if across:
            record = replace(record, reference_rates=None)
        if baseline is not None:
            circumstances.append((record, baseline))
            drifts[gate.divide_out(record, baseline)[1].summary] = None
        allowed = find_allowed(now, max_drop)
        spread = noise.find(now.run.suite, record.reference_rates)
        for verdict in gate.judge(record, baseline, allowed, gate.Rules(policy=policy), spread):
            was = gate.level(verdict.metric, baseline) if baseline else None
            pairs.append(Pair(measurement=now, verdict=verdict, was=was))
    return ComparedCells(
        pairs=tuple(sorted(pairs, key=_rank)),
        only_first=tuple(some[-1] for key, some in before.items() if key not in after),
        only_second=tuple(some[-1] for key, some in after.items() if key not in before),
        failed=tuple(sorted(failed, key=lambda measurement: measurement.node_id)),
        groups=group_changes(circumstances),
        drifts=tuple(filter(None, drifts)),
    )


def _group(side: Side, *, across: bool) -> Mapping[str, list[Measurement]]:
    """The measurements of each cell, oldest first; across hosts, cells are the same that differ in the host only."""
    found: dict[str, list[Measurement]] = defaultdict(list)
    for measurement in side.measurements:
        identity = sorted((name, value) for name, value in measurement.identity.items() if name != "host")
        found[repr(identity) if across else measurement.cell_key].append(measurement)
    return found


def _find_baseline(side: Side, measurements: Sequence[Measurement]) -> Baseline | None:
    """The stored baseline of a cell, or one made of the clean measurements; None where there are none."""
    key = measurements[-1].cell_key
    if key in side.baselines:
        return side.baselines[key]
    clean = [one for one in measurements if one.error is None and one.spoiled is None]
    if not clean:
        return None
    runs = tuple(make_baseline_run(one.run, one, one.started_at) for one in clean)
    return Baseline(name=side.label, cell_key=key, suite=clean[0].run.suite, runs=runs)


def _rank(pair: Pair) -> tuple[int, float, str, str]:
    size = abs(pair.change) if pair.change is not None and math.isfinite(pair.change) else 0.0
    return RANK.index(pair.verdict.outcome), -size, pair.cell, pair.verdict.metric


def render_text(first: Side, second: Side, found: ComparedCells, *, explain: bool) -> Iterator[str]:
    """Lines for people; ``explain`` adds each verdict's sentence below the table."""
    yield f"A  {_describe_side(first)}"
    yield f"B  {_describe_side(second)}"
    yield ""
    if found.pairs:
        head = ("suite", "cell", "metric", "unit", "A", "B", "change", "verdict")
        yield from render_table(head, [_make_row(pair) for pair in found.pairs], left=(0, 1, 2, 3, 7))
        yield ""
    if explain:
        yield from (f"{pair.cell}: {sentence(pair.verdict)}" for pair in found.pairs)
        yield ""
    for group in found.groups:
        yield from render_group(group)
    yield from found.drifts
    yield from (f"not measured: {name_cell(one)}: {one.error}" for one in found.failed)
    yield from (f"only in A: {name_cell(one)}" for one in found.only_first)
    yield from (f"only in B: {name_cell(one)}" for one in found.only_second)
    counts = Counter(pair.verdict.outcome for pair in found.pairs)
    yield ", ".join(f"{counts[it]} {it}" for it in RANK if counts[it]) or "no cell is on both sides"


def _make_row(pair: Pair) -> tuple[str, ...]:
    metric = find_metric(pair.verdict.metric)
    numbers = (number(pair.was), number(pair.verdict.now), change(pair.change))
    return (pair.measurement.run.suite, pair.cell, metric.title, metric.unit, *numbers, pair.verdict.outcome)


def _describe_side(side: Side) -> str:
    """Label, when it was measured, in how many sessions, with which builds and commits."""
    newest = side.measurements[-1]
    builds = sorted({one.engine_build for one in side.measurements if one.engine_build})
    commits = sorted({one.run.git_commit[:10] for one in side.measurements if one.run.git_commit})
    parts = (
        side.label,
        f"{moment(newest.started_at)} UTC",
        count(len({one.run.session for one in side.measurements}), "session"),
        f"engine {', '.join(builds)}" if builds else "",
        f"commit {', '.join(commits)}" if commits and side.kind != "commit" else "",
    )
    return "  ".join(part for part in parts if part)


def to_plain(first: Side, second: Side, found: ComparedCells) -> dict[str, Any]:
    """The comparison as JSON has it."""
    return {
        "a": _side_to_plain(first),
        "b": _side_to_plain(second),
        "pairs": [
            {
                "suite": pair.measurement.run.suite,
                "cell": pair.cell,
                "node_id": pair.measurement.node_id,
                "measurement": pair.measurement.id,
                "unit": find_metric(pair.verdict.metric).unit,
                "a": pair.was,
                "b": pair.verdict.now,
                "change": pair.change,
                "sentence": sentence(pair.verdict),
                "verdict": asdict(pair.verdict),
            }
            for pair in found.pairs
        ],
        "changes": [asdict(group) for group in found.groups],
        "not_measured": [{"cell": name_cell(one), "error": one.error} for one in found.failed],
        "only_in_a": [name_cell(one) for one in found.only_first],
        "only_in_b": [name_cell(one) for one in found.only_second],
    }


def _side_to_plain(side: Side) -> dict[str, Any]:
    return {"kind": side.kind, "name": side.word, "measurements": [one.id for one in side.measurements]}


@click.command(
    epilog=show_examples(
        ("boobench compare main", "the newest session with the baseline main"),
        ("boobench compare HEAD~1 HEAD", "two commits of this repository"),
        ("boobench compare rack-1 rack-2", "two hosts, by the newest of each cell"),
        ("boobench compare baseline:main commit:0a1b2c3d", "where a word could be two things"),
        ("boobench compare main --fail", "exit code 1 where something regressed: a gate without measuring"),
    )
)
@click.argument("first", metavar="A")
@click.argument("second", metavar="[B]", default=NEWEST)
@click.option(
    "--max-drop", callback=read_percent, metavar="PCT", help="What is allowed, as in 10% (default: as when measured)."
)
@click.option("--literal", is_flag=True, help="Where there is doubt, the median alone decides.")
@click.option("-v", "--verbose", is_flag=True, help="Each verdict's sentence too.")
@json_option
@click.option("--fail", is_flag=True, help="Exit code 1 where something regressed.")
@store_option
def command(  # noqa: PLR0913  # an argument for each option
    first: str,
    second: str,
    *,
    max_drop: float | None,
    literal: bool,
    verbose: bool,
    as_json: bool,
    fail: bool,
    store_url: str,
) -> int:
    """Compare B with A, regressions first. B is the newest session where it is left out.

    A and B are baselines, hosts, git commits, pytest sessions or runs; the store knows which of them has that name, and
    kind:name says which is meant. Of B the newest measurement of each cell is judged, against all clean ones of A, by
    the same gate as in pytest.
    """
    root = find_project(Path.cwd()).root
    with Store.open(store_url, create=False) as store:
        a, b = find_side(store, first, root), find_side(store, second, root)
    found = compare(a, b, max_drop=max_drop, policy="literal" if literal else "default")
    echo(to_plain(a, b, found) if as_json else render_text(a, b, found, explain=verbose))
    regressed = any(pair.verdict.outcome == "regression" for pair in found.pairs)
    return 1 if fail and regressed else 0
