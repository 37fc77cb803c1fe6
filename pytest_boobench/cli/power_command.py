"""Door 2: ``boobench power``: what the stored baselines can prove, and what would let them prove more."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from pytest_boobench import gate
from pytest_boobench.aggregate import median_of
from pytest_boobench.cli.output import show_examples, to_json
from pytest_boobench.cli.parameters import find_allowed, name_cell, read_percent
from pytest_boobench.cli.project import baseline_option, find_baseline, find_project, open_store, store_option
from pytest_boobench.metrics import METRICS
from pytest_boobench.record import Baseline, Measurement
from pytest_boobench.reports.text import render_table
from pytest_boobench.store import Saved, Selection, Store
from pytest_boobench.units import BLANK, count, moment, number, percent, quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the baseline says of one gated metric."""

    metric: str
    level: float | None
    """In the metric's unit; None where no run gives it."""
    allowed: float
    """The worsening that fails, a ratio."""
    provable: float | None
    """The smallest worsening told from noise; None where none is."""
    remedy: str
    """What would bring it to the allowed one; empty where it is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foundation:
    """One cell of a baseline."""

    measurements: tuple[Measurement, ...]
    """In force, oldest first."""
    saves: tuple[Saved, ...]
    """How each of them came into force."""
    sessions: int
    """Looks at the host, half an hour apart at least."""
    later: int
    """Measurements since then that passed: they teach how much sessions differ."""
    proofs: tuple[Proof, ...]


def find_foundations(store: Store, name: str, selection: Selection) -> list[Foundation]:
    """What the selected cells of a baseline rest on, in the order of their names."""
    baselines, saves = store.baselines(name), {save.measurement_id: save for save in store.saves(name)}
    spread = gate.measure_spread(baselines.values())
    of_cell: dict[str, list[Measurement]] = defaultdict(list)
    for measurement in store.measurements(replace(selection, baselines=(name,))):
        of_cell[measurement.cell_key].append(measurement)
    found = []
    for key, measurements in of_cell.items():
        baseline = baselines[key]
        proofs = (
            Proof(
                metric=metric,
                level=gate.level(metric, baseline),
                allowed=allowed,
                provable=_finite(gate.provable_drop(baseline, metric, allowed, spread.get(baseline.suite, {}))),
                remedy=gate.remedy(baseline, metric, allowed, spread.get(baseline.suite, {})),
            )
            for metric, allowed in find_allowed(measurements[-1], None).items()
        )
        found.append(
            Foundation(
                measurements=tuple(measurements),
                saves=tuple(saves[measurement.id] for measurement in measurements),
                sessions=len(gate.group_sessions(baseline.runs)),
                later=len(baseline.later),
                proofs=tuple(proofs),
            )
        )
    return sorted(found, key=lambda each: each.measurements[-1].node_id)


def render(foundation: Foundation) -> Iterator[str]:
    """The cell, what it can prove, and a line for each measurement."""
    newest = foundation.measurements[-1]
    yield f"{newest.run.suite}  {name_cell(newest)}"
    for proof in foundation.proofs:
        yield f"  {_describe_proof(proof)}"
    later = f", {count(foundation.later, 'later run')} that passed" if foundation.later else ""
    yield f"  {count(len(foundation.measurements), 'run')}, {count(foundation.sessions, 'session')}{later}"
    metrics = [METRICS[proof.metric] for proof in foundation.proofs]
    head = ("measured (UTC)", "session", "commit", "build", *(metric.title for metric in metrics), "saved (UTC)", "")
    rows = [
        (
            moment(one.started_at),
            one.run.session[:8],
            (one.run.git_commit or BLANK)[:10],
            one.engine_build or BLANK,
            *(number(median_of(one.aggregates, metric.key)) for metric in metrics),
            moment(save.saved_at),
            save.reason,
        )
        for one, save in zip(foundation.measurements, foundation.saves, strict=True)
    ]
    yield from (f"  {line}" for line in render_table(head, rows, left=(0, 1, 2, 3, len(head) - 1)))


def to_plain(foundation: Foundation) -> dict[str, Any]:
    """As JSON has it; times are seconds since 1970 UTC, changes are ratios."""
    newest = foundation.measurements[-1]
    return {
        **newest.identity,
        "cell_key": newest.cell_key,
        "node_id": newest.node_id,
        "sessions": foundation.sessions,
        "later": foundation.later,
        "metrics": [asdict(proof) for proof in foundation.proofs],
        "runs": [
            {
                "run": one.run.uid,
                "session": one.run.session,
                "measured_at": one.started_at,
                "saved_at": save.saved_at,
                "reason": save.reason,
                "git_commit": one.run.git_commit,
                "engine_build": one.engine_build,
                "machine": one.run.machine,
                "medians": {metric: aggregate.median for metric, aggregate in one.aggregates.items()},
            }
            for one, save in zip(foundation.measurements, foundation.saves, strict=True)
        ],
    }


def _describe_proof(proof: Proof) -> str:
    """As in ``decode 50.1 tok/s: proves a drop of 10 %``."""
    metric = METRICS[proof.metric]
    if proof.level is None:
        return f"{metric.title}: no run gives it"
    worsening = "drop" if metric.better == "higher" else "rise"
    proves = (
        f"proves no {worsening}" if proof.provable is None else f"proves a {worsening} of {percent(proof.provable)}"
    )
    remedy = f", {percent(proof.allowed)} allowed; {proof.remedy}" if proof.remedy else ""
    return f"{metric.title} {quantity(proof.level, metric.unit)}: {proves}{remedy}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """What one cell's baseline can prove of one metric."""

    suite: str
    cell: str
    metric: str
    sessions: int
    """Looks at the host, half an hour apart at least."""
    allowed: float
    """The worsening that fails, a ratio."""
    provable: float | None
    """The smallest worsening that is told from noise; infinite where none is, None where the metric has no number."""
    remedy: str
    """What would bring it down to the allowed one; empty where it is there."""

    @property
    def enough(self) -> bool:
        """Whether the allowed worsening can be proven."""
        return self.provable is not None and self.provable <= self.allowed


@click.command(
    epilog=show_examples(
        ("boobench power", "every cell of the baseline main, the weakest first"),
        ("boobench power --baseline release --host rack-1", "another baseline, one host"),
        ("boobench power --json | jq '.cells[] | select(.enough | not)'", "what to measure again"),
    )
)
@baseline_option
@click.option("--host", "hosts", multiple=True, metavar="NAME", help="Only cells of this host (may be given again).")
@click.option("--max-drop", callback=read_percent, metavar="PCT", help="To be proven, as in 10% (default: as judged).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_option
def command(
    baseline: str | None, hosts: Sequence[str], max_drop: float | None, as_json: bool, store_url: str | None
) -> int:
    """Tell the smallest drop that each cell's baseline can prove.

    And what would bring it to the allowed one: more sessions, more samples, longer outputs. A smaller drop is lost in
    the noise between sessions and between samples: it comes out inconclusive.
    """
    project = find_project(Path.cwd())
    name = find_baseline(project, baseline)
    with open_store(project, store_url) as store:
        baselines = store.baselines(name, hosts=hosts or None)
        stored = store.measurements(Selection(baselines=(name,), hosts=hosts, last=1))
    if not baselines:
        raise click.UsageError(f"no baseline {name} is stored; save one: pytest --boobench --boobench-save-baseline")
    found = sorted(_weigh(baselines, stored, max_drop), key=_rank)
    if as_json:
        click.echo(to_json({"baseline": name, "cells": [_to_plain(each) for each in found]}))
    else:
        click.echo("\n".join(_render(name, found)))
    return 0


def _weigh(baselines: Mapping[str, Baseline], stored: Sequence[Measurement], max_drop: float | None) -> Iterator[Power]:
    spread = gate.measure_spread(baselines.values())
    for measurement in stored:
        baseline = baselines[measurement.cell_key]
        noise = spread.get(baseline.suite, {})
        for metric, allowed in find_allowed(measurement, max_drop).items():
            yield Power(
                suite=baseline.suite,
                cell=name_cell(measurement),
                metric=metric,
                sessions=len(gate.group_sessions(baseline.runs)),
                allowed=allowed,
                provable=gate.provable_drop(baseline, metric, allowed, noise),
                remedy=gate.remedy(baseline, metric, allowed, noise),
            )


def _rank(power: Power) -> tuple[bool, float, str, str]:
    provable = math.inf if power.provable is None else power.provable
    return power.enough, -provable, power.cell, power.metric


def _render(name: str, found: Sequence[Power]) -> Iterator[str]:
    head = ("suite", "cell", "metric", "sessions", "allowed", "provable", "what would help")
    rows = [
        (
            each.suite,
            each.cell,
            METRICS[each.metric].title,
            str(each.sessions),
            percent(each.allowed),
            "none" if each.provable == math.inf else percent(each.provable),
            each.remedy,
        )
        for each in found
    ]
    yield from render_table(head, rows, left=(0, 1, 2, 6))
    poor = sum(not each.enough for each in found)
    yield ""
    yield f"baseline {name} can prove what is allowed in {len(found) - poor} of {count(len(found), 'gated number')}"


def _to_plain(power: Power) -> dict[str, Any]:
    """As JSON has it, which knows no infinity: there ``provable`` is null, as where there is no number."""
    return {**asdict(power), "enough": power.enough}
