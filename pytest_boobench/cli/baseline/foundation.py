"""Door 2: what the baseline of a cell rests on: its measurements, and what they can prove together."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from pytest_boobench import gate
from pytest_boobench.aggregate import median_of
from pytest_boobench.cli.cells import find_allowed, name_cell
from pytest_boobench.metrics import METRICS
from pytest_boobench.record import Measurement
from pytest_boobench.reports.tables import render_table
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
                sessions=len(gate.looks(baseline)),
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
    proves = f"proves a {worsening} of {percent(proof.provable)}" if proof.provable else f"proves no {worsening}"
    remedy = f", {percent(proof.allowed)} allowed; {proof.remedy}" if proof.remedy else ""
    return f"{metric.title} {quantity(proof.level, metric.unit)}: {proves}{remedy}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
