"""Room 6: a baseline's runs as looks at the host.

Runs differ more than the samples in a run, and runs close in time resemble each other: K counts looks, not runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from pytest_boobench.record import APART_S, Baseline, BaselineRun

Look = tuple[BaselineRun, ...]


def looks(baseline: Baseline) -> list[Look]:
    """The runs by look, oldest first. Runs of one session are one look, and so are sessions less than half an hour
    apart: from the end of one to the begin of the next."""
    return group(baseline.runs)


def group(runs: Iterable[BaselineRun]) -> list[Look]:
    """As `looks`, of any runs of one cell."""
    sessions: dict[str, list[BaselineRun]] = {}
    for run in sorted(runs, key=lambda run: run.measured_at):
        sessions.setdefault(run.session, []).append(run)
    found: list[Look] = []
    ended = -math.inf
    for session in sessions.values():
        if session[0].measured_at - ended < APART_S:
            found[-1] += tuple(session)
        else:
            found.append(tuple(session))
        ended = max(ended, session[-1].measured_at)
    return found
