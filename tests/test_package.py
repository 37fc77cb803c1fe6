"""What importing costs, and that the house is built as its plan says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, BenchFolder

HEAVY = ("httpx", "sqlalchemy", "yaml", "pydantic", "alembic", "xllamacpp", "h11", "filelock")

SPY = """
    import sys

    def pytest_unconfigure(config):
        print("loaded:", *sorted(name for name in {heavy!r} if name in sys.modules))
"""


def loaded(bench: BenchFolder, *args: str) -> set[str]:
    result = bench.pytester.runpytest_subprocess(*args)
    (line,) = [line for line in result.outlines if line.startswith("loaded:")]
    return set(line.split()[1:])


def test_a_session_without_us_pays_nothing(bench: BenchFolder) -> None:
    bench.pytester.makeconftest(SPY.format(heavy=HEAVY))
    bench.write_suite()
    bench.pytester.makepyfile("def test_ordinary(): pass")
    assert loaded(bench) == set()


def test_collecting_needs_neither_http_nor_a_database(bench: BenchFolder) -> None:
    bench.pytester.makeconftest(SPY.format(heavy=HEAVY))
    bench.write_suite()
    assert loaded(bench, "--boobench", "--collect-only") == {"pydantic", "yaml"}


def test_a_plugin_of_the_machine_has_no_part_in_a_session_inside_a_test(
    bench: BenchFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.pytester.makepyfile(unknown="raise RuntimeError('an unknown plugin was loaded')")
    installed = bench.path / "unknown-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: unknown\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[pytest11]\nunknown = unknown\n")
    bench.pytester.syspathinsert()
    bench.write_suite()
    assert bench.run_fresh("--collect-only").ret == 0
    monkeypatch.delenv("PYTEST_ADDOPTS")
    result = bench.pytester.runpytest_subprocess("--collect-only")
    assert result.ret != 0
    assert "an unknown plugin was loaded" in result.stdout.str() + result.stderr.str()


def test_the_package_imports_nothing() -> None:
    code = "import sys; before = set(sys.modules); import pytest_boobench; print(set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'pytest_boobench'}"


SOURCES = sorted((CHECKOUT / "pytest_boobench").rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(CHECKOUT).as_posix())
def test_no_private_pytest(path: Path) -> None:
    assert not re.search(r"\b_pytest\b", path.read_text(encoding="utf-8"))


def test_every_room_is_in_the_tour() -> None:
    tour = (CHECKOUT / "pytest_boobench" / "__init__.py").read_text(encoding="utf-8")
    rooms = {
        path.stem
        for path in (CHECKOUT / "pytest_boobench").iterdir()
        if path.name != "__init__.py" and (path.suffix == ".py" or (path / "__init__.py").exists())
    }
    assert {room for room in rooms if f"``{room}``" not in tour} == set()
