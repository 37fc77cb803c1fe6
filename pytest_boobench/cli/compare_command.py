"""Door 2: ``boobench compare``: two runs, sessions, baselines, commits or hosts, cell by cell."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from pytest_boobench import gate
from pytest_boobench.cli.compared_sides import NEWEST, Side, find_side, make_baseline, recall
from pytest_boobench.cli.output import show_examples, to_json
from pytest_boobench.cli.parameters import find_allowed, name_cell, read_percent
from pytest_boobench.cli.project import find_project, open_store, store_option
from pytest_boobench.metrics import METRICS
from pytest_boobench.record import Baseline, Measurement, Outcome, Verdict
from pytest_boobench.reports.sentences import sentence
from pytest_boobench.reports.text import render_table
from pytest_boobench.suite.cell import Policy
from pytest_boobench.units import change, count, moment, number

RANK: tuple[Outcome, ...] = ("regression", "inconclusive", "not comparable", "improvement", "pass", "no baseline")
"""Which verdicts ask most of the reader."""

Key = tuple[str, ...]


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
        """As in ``rack-1::qwen3-8b[pp512-tg32-c4]``."""
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
    only_second: tuple[Measurement, ...]
    """The newest measurement of each cell that only one side has."""
    failed: tuple[Measurement, ...]
    """Cells of the second side that could not be measured, or not to their end."""


def compare(first: Side, second: Side, *, max_drop: float | None, policy: Policy) -> ComparedCells:
    """Hold the newest measurement of each cell of the second side against all clean ones of the first.

    ``max_drop`` is what is allowed of every gated metric, a ratio; without it, what was when the cell was measured.
    """
    across = not _hosts(first) & _hosts(second)
    before, after = _group(first, across=across), _group(second, across=across)
    baselines = {key: _find_baseline(first, some) for key, some in before.items()}
    spread = gate.measure_spread(baseline for baseline in baselines.values() if baseline)
    pairs: list[Pair] = []
    failed: list[Measurement] = []
    for key in after.keys() & before.keys():
        now, baseline = after[key][-1], baselines[key]
        if now.error is not None:
            failed.append(now)
            continue
        record = recall(now, canaries=(now.canary,) if now.canary and not across else ())
        allowed = find_allowed(now, max_drop)
        judged = gate.judge(record, baseline, allowed, gate.Rules(policy=policy), spread.get(now.run.suite, {}))
        pairs += (Pair(measurement=now, verdict=verdict, was=_level(verdict.metric, baseline)) for verdict in judged)
    return ComparedCells(
        pairs=tuple(sorted(pairs, key=_rank)),
        only_first=_list_others(before, after),
        only_second=_list_others(after, before),
        failed=tuple(sorted(failed, key=lambda measurement: measurement.node_id)),
    )


def _hosts(side: Side) -> set[str]:
    return {measurement.run.host for measurement in side.measurements}


def _group(side: Side, *, across: bool) -> Mapping[Key, list[Measurement]]:
    """Cells of a side, oldest measurement first. Across hosts a cell is all that it is but for its host."""
    found: dict[Key, list[Measurement]] = defaultdict(list)
    for measurement in side.measurements:
        identity = {name: value for name, value in measurement.identity.items() if name != "host"}
        key = (repr(sorted(identity.items())),) if across else (measurement.cell_key,)
        found[key].append(measurement)
    return found


def _find_baseline(side: Side, measurements: Sequence[Measurement]) -> Baseline | None:
    """The stored one, or one made of the clean measurements; None where there are none."""
    key = measurements[-1].cell_key
    if key in side.baselines:
        return side.baselines[key]
    clean = [each for each in measurements if each.error is None and each.spoiled is None]
    return make_baseline(side.label, key, clean) if clean else None


def _level(metric: str, baseline: Baseline | None) -> float | None:
    return gate.level(metric, baseline) if baseline else None


def _list_others(side: Mapping[Key, Sequence[Measurement]], other: Mapping[Key, object]) -> tuple[Measurement, ...]:
    return tuple(some[-1] for key, some in side.items() if key not in other)


def _rank(pair: Pair) -> tuple[int, float, str, str]:
    size = abs(pair.change) if pair.change is not None else 0.0
    return RANK.index(pair.verdict.outcome), -size if math.isfinite(size) else 0.0, pair.cell, pair.verdict.metric


_HEAD = ("suite", "cell", "metric", "unit", "A", "B", "change", "verdict")


def render_text(first: Side, second: Side, found: ComparedCells, *, explain: bool) -> Iterator[str]:
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


def _sum_up(found: ComparedCells) -> str:
    counts = Counter(pair.verdict.outcome for pair in found.pairs)
    words = [f"{counts[outcome]} {outcome}" for outcome in RANK if counts[outcome]]
    return ", ".join(words) or "no cell is on both sides"


def to_plain(first: Side, second: Side, found: ComparedCells) -> dict[str, Any]:
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
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
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
    store_url: str | None,
) -> int:
    """Hold B against A, regressions first. B is the newest session where it is left out.

    A and B are baselines, hosts, git commits, pytest sessions or runs, told apart by what the store has of that name;
    kind:name says it outright. Of B the newest measurement of each cell is judged, against all clean ones of A, by the
    same gate as in pytest.
    """
    project = find_project(Path.cwd())
    with open_store(project, store_url) as store:
        a, b = find_side(store, first, project.root), find_side(store, second, project.root)
    found = compare(a, b, max_drop=max_drop, policy="literal" if literal else "default")
    if as_json:
        click.echo(to_json(to_plain(a, b, found)))
    else:
        click.echo("\n".join(render_text(a, b, found, explain=verbose)))
    regressed = any(pair.verdict.outcome == "regression" for pair in found.pairs)
    return 1 if fail and regressed else 0
