"""Door 2: the sessions of pytest that a baseline is measured with, hours apart: what is done, what comes next.

What is done stands in the store only: each measurement comes into force with a reason that names the plan and the
session's number. So a plan that was interrupted goes on, also on another machine, and there is no second file to lose.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_boobench.aggregate import median_of
from pytest_boobench.cli.baseline_flaws import find_flaw
from pytest_boobench.cli.parameters import name_cell
from pytest_boobench.cli.power_command import Foundation, find_foundations
from pytest_boobench.metrics import find_metric
from pytest_boobench.record import Measurement
from pytest_boobench.store import Saved, Selection, Store
from pytest_boobench.units import count, percent

OURS = ("--boobench-store", "--boobench-baseline", "--boobench-save-baseline", "--boobench-duet", "--boobench-json")
"""Options of pytest that such a session sets itself, or cannot have."""
_NOT_FOR_CHILDREN = ("BOOBENCH_NOTIFY", "BOOBENCH_BASELINE_FILE", "BOOBENCH_MAX_DROP", "BOOBENCH_POLICY")
_ANY_DROP = "--boobench-max-drop=99%"
"""It is not judged against what was in force before."""
_TAG = re.compile(r" \(session (\d+) of plan ([0-9a-f]{8})\)\Z")
_SHOWN = 3
"""Cells that are named in a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPlan:
    """What is to be measured, and how often."""

    baseline: str
    arguments: tuple[str, ...]
    """Of pytest."""
    reason: str
    sessions: int
    every_s: float
    """From the start of a session to the start of the next."""
    store_url: str

    @property
    def uid(self) -> str:
        """8 hex digits, from what makes it another baseline: its name, the arguments and the reason."""
        return hashlib.sha256(json.dumps([self.baseline, self.arguments, self.reason]).encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True, kw_only=True)
class DoneSessions:
    """What the store has of a plan."""

    began_at: tuple[float, ...]
    """When each session began, oldest first; seconds since 1970 UTC."""
    cell_keys: frozenset[str]
    """Cells whose earlier baseline is replaced already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """How one session of pytest went."""

    code: int
    session: str | None
    flaws: tuple[str, ...]
    """Why it is no session for a baseline, a text for each cell; empty if it is."""
    clean: tuple[Measurement, ...] = ()

    @property
    def hopeless(self) -> bool:
        """Whether another attempt would end in the same way: suites with mistakes, wrong use, or no tests."""
        ends = (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED)
        return self.code in ends


def find_done(store: Store, plan: SessionPlan) -> DoneSessions:
    """Read from the store what is in force by this plan."""
    numbers: dict[int, int] = {}
    keys = set()
    for save in store.saves(plan.baseline):
        tag = _TAG.search(save.reason)
        if tag is not None and tag[2] == plan.uid:
            numbers[save.measurement_id] = int(tag[1])
            keys.add(save.cell_key)
    began: dict[int, float] = defaultdict(lambda: math.inf)
    for one in store.measurements(Selection(ids=numbers), metrics=("decode_tok_s",)) if numbers else ():
        began[numbers[one.id]] = min(began[numbers[one.id]], one.started_at)
    return DoneSessions(began_at=tuple(began[number] for number in sorted(began)), cell_keys=frozenset(keys))


def attempt(plan: SessionPlan) -> Attempt:
    """Run one session of pytest, whose output goes where ours goes, and look at what it measured."""
    with tempfile.TemporaryDirectory(prefix="boobench-baseline-") as folder:
        document = Path(folder) / "session.json"
        code = run_child(["--boobench", _ANY_DROP, *plan.arguments, f"--boobench-json={document}"], _environ(plan))
        told: dict[str, Any] = json.loads(document.read_text(encoding="utf-8")) if document.is_file() else {}
    session = told.get("session")
    lost = [each["reason"] for each in told.get("unmeasured", ()) if each["outcome"] == "failed"]
    if session is None or not told.get("cells"):
        return Attempt(code=code, session=session, flaws=tuple(lost or [f"pytest ended with exit code {code}"]))
    with Store.open(plan.store_url, create=False) as store:
        measured = store.measurements(Selection(sessions=(session,)))
    flaws = {one.id: find_flaw(one, spoiled=False) for one in measured}
    flawed = [f"{name_cell(one)}: {flaws[one.id]}" for one in measured if flaws[one.id]]
    missing = [] if len(measured) == len(told["cells"]) else ["the store did not take everything"]
    return Attempt(
        code=code,
        session=session,
        flaws=(*flawed, *lost, *missing),
        clean=tuple(one for one in measured if not flaws[one.id]),
    )


def run_child(arguments: Sequence[str], env: dict[str, str]) -> int:
    """Run pytest in a process of its own; its exit code."""
    command = [sys.executable, "-m", "pytest", *arguments]
    with subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL) as child:  # noqa: S603  # the user's own pytest
        try:
            return child.wait()
        except KeyboardInterrupt:  # Ctrl-C went to both: the child ends its session in good order
            child.wait()
            raise


def _environ(plan: SessionPlan) -> dict[str, str]:
    """Others can see a command line, so the store's URL is in the environment."""
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_CHILDREN}
    return {**kept, "BOOBENCH_STORE": plan.store_url, "BOOBENCH_BASELINE": plan.baseline}


def put_in_force(plan: SessionPlan, number: int, clean: Sequence[Measurement], done: DoneSessions) -> None:
    """Make the measurements of a session part of the baseline. The first one of each cell replaces what was there."""
    reason = f"{plan.reason} (session {number} of plan {plan.uid})"
    saves = [Saved(measurement_id=one.id, cell_key=one.cell_key, saved_at=time.time(), reason=reason) for one in clean]
    with Store.open(plan.store_url, create=False) as store:
        for add in (False, True):
            chosen = [save for save in saves if (save.cell_key in done.cell_keys) == add]
            if chosen:
                store.put_in_force(plan.baseline, chosen, add=add)


def describe_flaws(flaws: Sequence[str]) -> str:
    """The first of them, and how many there are."""
    more = f" and {len(flaws) - _SHOWN} more" if len(flaws) > _SHOWN else ""
    return f"{'; '.join(flaws[:_SHOWN])}{more}"


def describe_progress(store: Store, plan: SessionPlan, clean: Sequence[Measurement]) -> list[str]:
    """A line for each host: its cells, how much sessions differ so far, and what the baseline can prove now."""
    lines = []
    for host in dict.fromkeys(one.run.host for one in clean):
        keys = {one.cell_key for one in clean if one.run.host == host}
        found = [
            each
            for each in find_foundations(store, plan.baseline, Selection(hosts=(host,)), hosts=(host,))
            if each.newest.cell_key in keys
        ]
        lines.append(f"{host}: {count(len(keys), 'cell')} added; {_describe_spread(found)}; {_describe_power(found)}")
    return lines


def _describe_spread(found: Sequence[Foundation]) -> str:
    """How much the medians of sessions differ, over all gated numbers: usually, and at worst."""
    spreads = [
        spread
        for cell in found
        for proof in cell.proofs
        if (spread := _measure_spread([median_of(one.aggregates, proof.metric) for one, _ in cell.runs])) is not None
    ]
    if not spreads:
        return "one session yet"
    return f"sessions differ by {percent(statistics.median(spreads))}, at worst {percent(max(spreads))}"


def _measure_spread(medians: Sequence[float | None]) -> float | None:
    """Standard deviation of the logarithms; None for fewer than two numbers."""
    logs = [math.log(median) for median in medians if median is not None and median > 0]
    return statistics.stdev(logs) if len(logs) > 1 else None


def _describe_power(found: Sequence[Foundation]) -> str:
    """As in ``proves what is allowed in 3 of 4 numbers; weakest: prefill 14.2 %, 10 % allowed: 2 more sessions …``."""
    proofs = [proof for cell in found for proof in cell.proofs if proof.provable is not None]
    if not proofs:
        return "nothing is gated"
    enough = sum(proof.enough for proof in proofs)
    text = f"proves what is allowed in {enough} of {count(len(proofs), 'gated number')}"
    weakest = max(proofs, key=lambda proof: proof.provable or 0.0)
    if weakest.enough:
        return text
    proves = percent(weakest.provable) if math.isfinite(weakest.provable or 0.0) else "nothing"
    title = find_metric(weakest.metric).title
    return f"{text}; weakest: {title} proves {proves}, {percent(weakest.allowed)} allowed; {weakest.remedy}"
