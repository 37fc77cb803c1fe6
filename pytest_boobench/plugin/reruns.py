"""Items that another plugin runs again because they failed, and what a report says of its end."""

from __future__ import annotations

import pytest


def is_rerun(report: pytest.TestReport) -> bool:
    """Whether a report is of an attempt that failed and is no outcome: pytest-rerunfailures runs the item again."""
    outcome: str = report.outcome
    return outcome == "rerun"


def explain(report: pytest.TestReport) -> str:
    """What a report says of its end, without a traceback."""
    told = report.longrepr
    if isinstance(told, tuple):
        return str(told[2]).removeprefix("Skipped: ")
    crash = getattr(told, "reprcrash", None)
    # Not longreprtext: with pytest-xdist it begins with the worker.
    return str(crash.message if crash else told).removeprefix("Failed: ")
