"""The garbage collector of a session that benches walks what the session made, not what it imported."""

from __future__ import annotations

import gc
import sys
import types
import weakref

import pytest

from pytest_boobench.plugin import set_aside
from tests.conftest import BenchFolder

TELL = """
    import gc

    def pytest_runtestloop(session):
        print(f"collector: {gc.isenabled()}, {gc.get_freeze_count() > 10_000}")
        return True
"""


@pytest.mark.parametrize("was_on", [True, False])
def test_what_there_is_is_set_aside(monkeypatch: pytest.MonkeyPatch, was_on: bool) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    try:
        if not was_on:
            gc.disable()
        with set_aside():
            assert not gc.isenabled()
            monkeypatch.setitem(sys.modules, "imported_in_the_block", types.ModuleType("imported_in_the_block"))
        assert gc.isenabled() == was_on
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.enable()
        gc.unfreeze()


def test_the_garbage_of_a_session_before_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """`boobench soak` has hundreds of sessions in one process, and each leaves cycles."""
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    cycle = types.ModuleType("cycle")
    cycle.__dict__["itself"] = cycle
    gone = weakref.ref(cycle)
    before = gc.get_freeze_count()
    with set_aside():
        del cycle
    gc.collect()
    assert (gone(), gc.get_freeze_count()) == (None, before)


def test_a_session_inside_a_test_leaves_the_collector_alone() -> None:
    before = gc.get_freeze_count()
    with set_aside():
        assert gc.isenabled()
    assert gc.get_freeze_count() == before


@pytest.mark.parametrize(("args", "frozen"), [(["--boobench"], True), ([], False)])
def test_only_a_session_that_benches_sets_its_imports_aside(
    bench: BenchFolder, monkeypatch: pytest.MonkeyPatch, args: list[str], frozen: bool
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    bench.pytester.makeconftest(TELL)
    bench.pytester.makepyfile("def test_ordinary(): pass")
    result = bench.pytester.runpytest_subprocess("-s", *args)
    result.stdout.fnmatch_lines([f"*collector: True, {frozen}*"])
