"""Door 1: keeps Python's garbage collector off all that a session imports: walking it takes longer than importing it.

That is half a million objects that live as long as the process, and pytest alone collects five times when it ends.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def set_aside() -> Iterator[None]:
    """No collection in the block, and after it none that looks at what there is by then."""
    if "PYTEST_CURRENT_TEST" in os.environ:  # a session inside a test: the process is not ours
        yield
        return
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


class LateImports:
    """What is imported only when there are cells to measure: the store, and what asks the hosts."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_finish(self) -> Iterator[None]:
        """Around the recorder's, which opens the store."""
        with set_aside():
            yield
