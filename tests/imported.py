"""Imports the package, and what it imports late.

In-process pytester forgets the modules that were first imported inside of it: the next session pays for them again, and
the classes of two copies are not each other's.
"""

from __future__ import annotations

import pkgutil
import re
from importlib import import_module

import anyio._backends._asyncio  # noqa: F401
import httpcore  # noqa: F401

import pytest_boobench

for module in pkgutil.walk_packages(pytest_boobench.__path__, "pytest_boobench."):
    if not re.search(r"\.(__main__|serve|migrations)\b", module.name):
        import_module(module.name)
