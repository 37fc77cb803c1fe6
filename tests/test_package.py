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
