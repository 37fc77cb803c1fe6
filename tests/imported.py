"""What sessions in one process have in common, so that only the first one pays for it: imports, what is installed, and
compiled SQL.

In-process pytester forgets the modules that were first imported inside of it: the next session pays for them again, and
the classes of two copies are not each other's. So all of the package is imported here.
"""

from __future__ import annotations

import pkgutil
import re
import sys
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any

import anyio._backends._asyncio  # noqa: F401
import httpcore  # noqa: F401
from sqlalchemy import URL, Engine, create_engine

import pytest_boobench
from pytest_boobench.store import engine

if find_spec("sniffio") is None:  # httpcore asks for it at each request, and Python searches its whole path each time
    sys.modules["sniffio"] = None  # type: ignore[assignment]
for module in pkgutil.walk_packages(pytest_boobench.__path__, "pytest_boobench."):
    if not re.search(r"\.(__main__|serve|migrations)\b", module.name):
        import_module(module.name)


class _Installed:
    """A distribution whose entry points are read once: pytest reads those of all for each ``-p``."""

    def __init__(self, found: metadata.Distribution) -> None:
        self._found = found
        self.entry_points = found.entry_points

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found, name)


KNOWN = [_Installed(found) for found in metadata.distributions()]
_FIRST = create_engine("sqlite://")
_FIRST.connect().close()  # which asks what this SQLite can do


def _create_engine(url: URL, **how: Any) -> Engine:
    """SQLAlchemy's, but statements for SQLite are compiled once for all engines: half of what a small store takes."""
    made = create_engine(url, **how)
    if made.dialect.name == _FIRST.dialect.name:
        made.dialect, made._compiled_cache = _FIRST.dialect, _FIRST._compiled_cache
    return made


engine.create_engine = _create_engine
