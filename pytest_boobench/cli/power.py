"""Door 2: ``boobench power``: what the stored baselines can prove, and what would let them prove more."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from pytest_boobench import gate
from pytest_boobench.cli.cells import find_allowed, name_cell
from pytest_boobench.cli.examples import show_examples
from pytest_boobench.cli.plain import to_json
from pytest_boobench.cli.project import find_project
from pytest_boobench.cli.stored import baseline_option, find_baseline, open_store, store_option
from pytest_boobench.cli.values import read_percent
from pytest_boobench.metrics import METRICS
from pytest_boobench.record import Baseline, Measurement
from pytest_boobench.reports.tables import render_table
from pytest_boobench.store import Selection
from pytest_boobench.units import count, percent


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
                sessions=len(gate.looks(baseline)),
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
