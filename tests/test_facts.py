"""One fact, one place: an axis, a sample's fact, a metric and a circumstance are a line each, and a migration.

The package is copied, the four lines are added to the copy, and a process of its own takes one measurement all the way.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
from typing_extensions import Doc

from pytest_boobench.plain import Since, list_facts, make, rebuild
from tests.conftest import CHECKOUT

AXIS = """\
    warp_tokens: Annotated[
        int, whole(0), Axis("Tokens before the prompt.", sign="d", in_grid=True, absent=0), Since("0005")
    ] = 0
"""
FACT = '    draft_ms: Annotated[float | None, Since("0005")] = None\n'
METRIC = '        Metric("draft_ms", "draft", "ms", "lower", "the server\'s own time for its drafts"),\n'
CIRCUMSTANCE = '    firmware: Annotated[str | None, Doc("The firmware."), Since("0005")] = None\n'
MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "0005", "0004"


def upgrade() -> None:
    with op.batch_alter_table("bench_cells") as cells:
        cells.add_column(sa.Column("warp_tokens", sa.BigInteger()))
        cells.add_column(sa.Column("firmware", sa.Text()))
    with op.batch_alter_table("bench_samples") as samples:
        samples.add_column(sa.Column("draft_ms", sa.Double()))
"""
ADDED = {
    "suite/cell.py": ("    sampling: Annotated[", AXIS),
    "metrics.py": ("    finish_reason:", FACT),
    "record.py": ("    text_digest: Annotated[", CIRCUMSTANCE),
}
JOURNEY = """
import json, pathlib
from pytest_boobench import baseline_file, suite
from pytest_boobench.aggregate import summarize
from pytest_boobench.cli.export_command import NUMBER_COLUMNS, list_measurements, list_numbers, list_samples
from pytest_boobench.record import identify
from pytest_boobench.store import BaselineSave, Selection, Store
from pytest_boobench.record import RunFacts
from tests.making import make_sample

(cell,) = suite.load(pathlib.Path("deep.yaml"), display="deep.yaml", known_hosts=None).cells
samples = (make_sample(draft_ms=4.5),)
record = identify(
    cell, "node", started_at=1e9, samples=samples, firmware="595.10", aggregates=summarize(samples, cell.kind)
)
run = RunFacts(uid="0" * 32, session="s", suite=cell.suite, host=cell.host, started_at=1e9)
with Store.open("store.db") as store:
    run_id = store.start_run(run)
    store.record_verdicts(store.record(run_id, record), (), save_as=BaselineSave(name="main"))
    (stored,) = store.measurements(Selection())
    (baseline,) = store.baselines("main").values()
    file = store.export_baseline("main", Selection())
    rows = [next(iter(one(store, Selection()))) for one in (list_measurements, list_numbers, list_samples)]
    numbers = list(list_numbers(store, Selection()))
pathlib.Path("baseline.yaml").write_text(baseline_file.render(file))
again = baseline_file.read(pathlib.Path("baseline.yaml"), "baseline.yaml").runs[0].record
print(json.dumps({
    "store": [stored.identity["warp_tokens"], stored.cell_key == cell.key, stored.firmware,
              stored.aggregates["draft_ms"].median, baseline.runs[0].firmware],
    "file": [again.identity["warp_tokens"], again.firmware, again.aggregates["draft_ms"].median],
    "export": [rows[0]["warp_tokens"], rows[0]["firmware"], NUMBER_COLUMNS[-1], rows[2]["draft_ms"],
               [row["median"] for row in numbers if row["metric"] == "draft_ms"]],
}))
"""


def test_a_fact_is_declared_once(tmp_path: Path) -> None:
    package = tmp_path / "pytest_boobench"
    shutil.copytree(CHECKOUT / "pytest_boobench", package, ignore=shutil.ignore_patterns("__pycache__", "manual"))
    for name, (before, line) in ADDED.items():
        head, mark, tail = (package / name).read_text(encoding="utf-8").partition(before)
        assert mark, f"{name} has no {before!r} any more"
        (package / name).write_text(head + line + mark + tail, encoding="utf-8")
    metrics = package / "metrics.py"
    head, mark, tail = metrics.read_text(encoding="utf-8").partition('        Metric("itl_ms"')
    metrics.write_text(head + METRIC + mark + tail, encoding="utf-8")
    (package / "store" / "migrations" / "versions" / "0005_new.py").write_text(MIGRATION)
    shutil.copytree(CHECKOUT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__", "real*"))
    (tmp_path / "deep.yaml").write_text(
        "suite: deep\nhosts: [a]\nmodels: [m]\nkind: chat\n"
        "grid: {prompt_tokens: 64, output_tokens: 32, concurrency: 1, warp_tokens: 4096}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", JOURNEY], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "store": [4096, True, "595.10", 4.5, "595.10"],
        "file": [4096, "595.10", 4.5],
        "export": [4096, "595.10", "warp_tokens", 4.5, [4.5]],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    at: float
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    kind: Literal["a", "b"]
    new: Annotated[int | None, Doc("A new one."), Since("0002")] = None
    part: Part | None = None


def test_what_a_field_says() -> None:
    facts = list_facts(Whole)
    assert list(facts) == ["kind", "part", "new"], "those of later revisions come last"
    assert (facts["new"].since, facts["new"].optional, facts["new"].doc, facts["new"].type) == (
        "0002", True, "A new one.", int,
    )  # fmt: skip
    assert facts["kind"].required
    assert not facts["part"].required


def test_there_and_back() -> None:
    plain = {"kind": "a", "new": 3, "part": {"at": 1, "names": ["x", "y"]}}
    whole = Whole(kind="a", new=3, part=Part(at=1.0, names=("x", "y")))
    assert make(Whole, plain, "it") == rebuild(Whole, plain) == whole


@pytest.mark.parametrize(
    ("plain", "text"),
    [
        ([], "it is a list, expected an object"),
        ({}, "it.kind is missing"),
        ({"kind": "c"}, "it.kind is c, expected one of a, b"),
        ({"kind": "a", "new": True}, "it.new is true, expected a whole number"),
        ({"kind": "a", "part": {"at": "x"}}, "it.part.at is x, expected a number"),
        ({"kind": "a", "part": {"at": 1, "names": [1]}}, "it.part.names[0] is 1, expected a text"),
        ({"kind": "a", "old": 1}, "it.old is no field of this version of pytest-boobench"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(plain: object, text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the text is compared
        make(Whole, plain, "it")
    assert str(caught.value) == text
