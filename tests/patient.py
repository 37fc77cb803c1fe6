"""What sessions inside tests do not hold against a cell: `be_patient`; as a plugin, for processes of their own.

PYTEST_DONT_REWRITE: pytest would warn that the module is imported already.

Tests run on busy machines, where a late client, a slow machine and one that becomes faster while we measure are the
truth; and tests that run side by side do not wait for each other's locks.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from pytest_boobench import aggregate
from pytest_boobench.facts import Canary
from pytest_boobench.hosts import access
from pytest_boobench.measure import block
from pytest_boobench.servers import chunks, witness


def be_patient(change: Callable[[object, str, object], None], locks: Path | None = None) -> None:
    """Make these changes by ``setattr``, or by a monkeypatch that undoes them; ``locks`` is the folder of all locks."""
    change(aggregate, "TREND_FASTER", 1.0)
    change(aggregate, "BOUND_SHARE", float("inf"))
    change(chunks, "BLUR_MS", float("inf"))
    change(witness, "APART_MS", 60.0)
    change(witness, "CARRIED", 1.0)
    change(block, "listen", lambda takes_s: Canary(copy_mb_s=1000.0, hash_mb_s=1000.0))
    if locks is not None:
        change(access, "_find_folder", lambda: locks)


def pytest_configure() -> None:
    """In a session's own process; where its cache is its test's own, so are its locks."""
    be_patient(setattr, None if "XDG_CACHE_HOME" in os.environ else Path.cwd())
