"""For pytest's own run over this checkout: the tests drive pytest itself, and never touch a user's real store."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import pytest

_WITH_TESTS = "_hypothesis_pytestplugin"
"""Comes with the extra ``test`` only."""
pytest_plugins = ["pytester", *([_WITH_TESTS] if find_spec(_WITH_TESTS) else [])]

# Without compiled files each process that a test starts compiles the whole package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(optionalhook=True, trylast=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object | None:
    """As ``--dist worksteal``: a worker has a row of neighbours, so that most fixtures of a module are made once."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None
