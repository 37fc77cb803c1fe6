"""Door 2: ``boobench power``: the smallest drop that each stored baseline can prove."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import click

from pytest_boobench import gate
from pytest_boobench.aggregate import median_of
from pytest_boobench.cli import show_examples
from pytest_boobench.cli.parameters import (
    baseline_option,
    echo,
    find_allowed,
    json_option,
    name_cell,
    read_percent,
    store_option,
)
from pytest_boobench.metrics import find_metric
from pytest_boobench.record import Baseline, Measurement
from pytest_boobench.reports.text import render_table
from pytest_boobench.store import Saved, Selection, Store
from pytest_boobench.units import BLANK, count, moment, number, percent, quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a cell's baseline can prove of one gated metric."""

    metric: str
    level: float | None
    """In the metric's unit; None where no run gives it."""
    allowed: float
    """The worsening that fails, a ratio."""
    provable: float | None
    """The smallest worsening that differs from noise, a ratio; infinite where none does, None without a level."""
    remedy: str
    """What would make the allowed worsening provable; empty where it is."""

    @property
    def enough(self) -> bool:
        """Whether the allowed worsening can be proven."""
        return self.provable is not None and self.provable <= self.allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Foundation:
    """What one cell's baseline is made of, and what it can prove."""

    runs: tuple[tuple[Measurement, Saved], ...]
    """In force, oldest first, and how each of them came into force."""
    sessions: int
    """Sessions at least half an hour apart."""
    later: int
    """Measurements since then that passed: they show how much sessions differ."""
    proofs: tuple[Proof, ...]

    @property
    def newest(self) -> Measurement:
        return self.runs[-1][0]


def find_foundations(
    store: Store,
    name: str,
    selection: Selection,
    *,
    hosts: Collection[str] | None = None,
    max_drop: float | None = None,
) -> list[Foundation]:
    """The selected cells of a baseline, in the order of their names.

    ``hosts`` are those whose cells show how much sessions differ, None for all. ``max_drop`` as for `find_allowed`.
    """
    baselines = gate.learn_noise(store.baselines(name, hosts=hosts), store.looks(hosts=hosts))
    saves = {save.measurement_id: save for save in store.saves(name)}
    noise = gate.SuiteNoise(baselines.values())
    of_cell: dict[str, list[Measurement]] = defaultdict(list)
    for measurement in store.measurements(replace(selection, baselines=(name,))):
        of_cell[measurement.cell_key].append(measurement)
    found = []
    for key, measurements in of_cell.items():
        baseline = baselines[key]
        allowed = find_allowed(measurements[-1], max_drop)
        found.append(
            Foundation(
                runs=tuple((one, saves[one.id]) for one in measurements),
                sessions=len(gate.group_sessions(baseline.runs)),
                later=len(baseline.later),
                proofs=tuple(_prove(baseline, allowed, noise.find(baseline.suite, baseline.runs[-1].reference_rates))),
            )
        )
    return sorted(found, key=lambda each: each.newest.node_id)


def _prove(baseline: Baseline, allowed: Mapping[str, float], noise: Mapping[str, float]) -> Iterator[Proof]:
    for metric, limit in allowed.items():
        yield Proof(
            metric=metric,
            level=gate.level(metric, baseline),
            allowed=limit,
            provable=gate.provable_drop(baseline, metric, limit, noise),
            remedy=gate.remedy(baseline, metric, limit, noise),
        )


def render_foundation(foundation: Foundation) -> Iterator[str]:
    """The cell, what it can prove, and a line for each measurement."""
    yield f"{foundation.newest.run.suite}  {name_cell(foundation.newest)}"
    yield from (f"  {_describe_proof(proof)}" for proof in foundation.proofs)
    later = f", {count(foundation.later, 'later run')} that passed" if foundation.later else ""
    yield f"  {count(len(foundation.runs), 'run')}, {count(foundation.sessions, 'session')}{later}"
    metrics = [find_metric(proof.metric) for proof in foundation.proofs]
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
        for one, save in foundation.runs
    ]
    yield from (f"  {line}" for line in render_table(head, rows, left=(0, 1, 2, 3, len(head) - 1)))


def _describe_proof(proof: Proof) -> str:
    """As in ``decode 50.1 tok/s: proves a drop of 10 %``."""
    metric = find_metric(proof.metric)
    if proof.level is None or proof.provable is None:
        return f"{metric.title}: no run gives it"
    worsening = "drop" if metric.better == "higher" else "rise"
    proves = f"a {worsening} of {percent(proof.provable)}" if math.isfinite(proof.provable) else f"no {worsening}"
    remedy = f", {percent(proof.allowed)} allowed; {proof.remedy}" if proof.remedy else ""
    return f"{metric.title} {quantity(proof.level, metric.unit)}: proves {proves}{remedy}"


def foundation_to_plain(foundation: Foundation) -> dict[str, Any]:
    """The foundation as JSON has it; times are seconds since 1970 UTC, changes are ratios."""
    return {
        **foundation.newest.identity,
        "cell_key": foundation.newest.cell_key,
        "node_id": foundation.newest.node_id,
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
            for one, save in foundation.runs
        ],
    }


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
@json_option
@store_option
def command(baseline: str, hosts: Sequence[str], max_drop: float | None, as_json: bool, store_url: str) -> int:
    """Tell the smallest drop that each cell's baseline can prove.

    And what would make the allowed drop provable: more sessions, more samples, longer outputs. A smaller drop is lost
    in the noise between sessions and between samples: its verdict is inconclusive.
    """
    with Store.open(store_url, create=False) as store:
        found = find_foundations(store, baseline, Selection(hosts=hosts), hosts=hosts or None, max_drop=max_drop)
    if not found:
        remedy = "save one: pytest --boobench --boobench-save-baseline"
        raise click.UsageError(f"no baseline {baseline} is stored; {remedy}")
    rows = sorted(((cell, proof) for cell in found for proof in cell.proofs), key=_rank)
    plain = {"baseline": baseline, "cells": [_row_to_plain(*row) for row in rows]}
    echo(plain if as_json else _render(baseline, rows))
    return 0


def _rank(row: tuple[Foundation, Proof]) -> tuple[bool, float, str, str]:
    cell, proof = row
    provable = math.inf if proof.provable is None else proof.provable
    return proof.enough, -provable, name_cell(cell.newest), proof.metric


def _row_to_plain(cell: Foundation, proof: Proof) -> dict[str, Any]:
    """The row as JSON has it, where ``provable`` is null both if it is infinite and if there is no number."""
    return {
        "suite": cell.newest.run.suite,
        "cell": name_cell(cell.newest),
        "metric": proof.metric,
        "sessions": cell.sessions,
        "allowed": proof.allowed,
        "provable": proof.provable,
        "remedy": proof.remedy,
        "enough": proof.enough,
    }


def _render(baseline: str, found: Sequence[tuple[Foundation, Proof]]) -> Iterator[str]:
    head = ("suite", "cell", "metric", "sessions", "allowed", "provable", "what would help")
    rows = [
        (
            cell.newest.run.suite,
            name_cell(cell.newest),
            find_metric(proof.metric).title,
            str(cell.sessions),
            percent(proof.allowed),
            "none" if proof.provable == math.inf else percent(proof.provable),
            proof.remedy,
        )
        for cell, proof in found
    ]
    yield from render_table(head, rows, left=(0, 1, 2, 6))
    enough = sum(proof.enough for _, proof in found)
    yield ""
    yield f"baseline {baseline} can prove what is allowed in {enough} of {count(len(found), 'gated number')}"
