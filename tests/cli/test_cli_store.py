"""``boobench store``: upgrade, import, prune."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pytest_boobench.cli import boobench, main
from pytest_boobench.store import Selection, Store, revisions, spool
from tests.databases import make_database
from tests.store.test_store import change
from tests.store.test_store_history import PASS, add, make, make_run
from tests.store.test_store_intake import SAVE, make_entry
from tests.stored import ONE, add_session


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project that the command stands in."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def store(project: Path) -> Iterator[Store]:
    with Store.open(str(project / ".boobench" / "store.db")) as opened:
        yield opened


def run(*args: str) -> Result:
    return CliRunner().invoke(boobench, ["store", *args], standalone_mode=False)


# --- upgrade


def test_a_store_of_today_is_left_alone(project: Path, store: Store) -> None:
    result = run("upgrade")
    assert result.return_value == 0
    assert result.output == f"{store.address}: has today's schema {revisions.NEWEST}\n"


def test_a_team_s_store_is_upgraded(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = make_database()
    Store.open(url).close()
    monkeypatch.setattr("pytest_boobench.cli.store_command.NEWEST", "0005")
    result = run("upgrade", "--store", url)
    assert re.fullmatch(r"postgresql://postgres@/bench_\d+: upgraded from schema 0004 to 0005\n", result.output)


@pytest.mark.parametrize(
    ("revision", "message"),
    [
        (None, "there is no store, let pytest --boobench make one or name another store with --boobench-store"),
        (
            "9999",
            "its schema 9999 is newer than the 0004 of this pytest-boobench, "
            "upgrade pytest-boobench or name another store with --boobench-store",
        ),
    ],
)
def test_what_cannot_be_upgraded(
    project: Path, capsys: pytest.CaptureFixture[str], revision: str | None, message: str
) -> None:
    path = project / ".boobench" / "store.db"
    if revision:
        Store.open(str(path)).close()
        change(path, f"UPDATE bench_schema SET version_num = '{revision}'")
    assert main(["store", "upgrade"]) == 2
    assert capsys.readouterr().err == f"{path}: {message}\n"
    assert path.exists() == bool(revision)


# --- import


def keep(store: Store, name: str = "a", *, address: str | None = None) -> Path:
    path = Path(store.address).parent / f"spool-{name}.jsonl"
    entry = make_entry(store=address or store.address, run=make_run(name), verdicts=PASS, save_as=SAVE)
    spool.append(path, entry)
    return path


def test_nothing_waits(store: Store) -> None:
    result = run("import")
    assert (result.return_value, result.output) == (0, "nothing waits to be taken in\n")


def test_what_waits_is_taken_in(store: Store) -> None:
    first, second = keep(store, "a"), keep(store, "b")
    add(store, "b", make(), *PASS, save_as="main")
    result = run("import")
    assert result.return_value == 0
    assert result.output.splitlines() == [
        f".boobench/spool-a.jsonl: 1 cell, 1 judged cell, 1 baseline taken into {store.address}; file removed",
        f".boobench/spool-b.jsonl: nothing new taken into {store.address}; file removed",
    ]
    assert not first.exists()
    assert not second.exists()
    assert len(store.measurements(Selection())) == 2


def test_what_waits_for_another_store_is_only_taken_in_where_it_is_named(store: Store) -> None:
    file = keep(store, address="postgresql://rack/bench")
    result = run("import")
    assert result.return_value == 1
    assert result.output == (
        ".boobench/spool-a.jsonl: waits for postgresql://rack/bench; name that store, or the file\n"
    )
    assert file.exists()
    assert run("import", str(file)).return_value == 0
    assert not file.exists()


def test_one_that_fails_does_not_keep_the_others_out(store: Store) -> None:
    keep(store, "b")
    bad = Path(store.address).parent / "spool-a.jsonl"
    bad.write_text("{}\n")
    result = run("import")
    assert result.return_value == 1
    assert result.output.splitlines() == [
        f".boobench/spool-a.jsonl: nothing new taken into {store.address}; file removed",
        ".boobench/spool-a.jsonl: 1 line can never come in, put aside in .boobench/spool-a.rejected.jsonl: "
        "line 1: expected an entry of format 1, got something else",
        f".boobench/spool-b.jsonl: 1 cell, 1 judged cell, 1 baseline taken into {store.address}; file removed",
    ]
    assert run("import").return_value == 0, "told once"


# --- prune


def test_pruning_says_what_it_did(store: Store) -> None:
    for day in (0.0, 1.0, 2.0):
        add_session(store, f"s{day}", (ONE, 50.0), day=day, save_as="main" if day == 1.0 else None)
    day = "2026-11-20"
    dry = run("prune", "--keep-raw", day, "--dry-run")
    assert dry.return_value == 0
    assert re.fullmatch(
        rf"{store.address}: \d+ kB; would drop 20 samples of 1 measurement before {day} 00:00 UTC\n", dry.output
    )
    done = run("prune", "--keep-raw", day)
    first, second = done.output.splitlines()
    assert first == f"{store.address}: dropped 20 samples of 1 measurement before {day} 00:00 UTC"
    assert re.fullmatch(r"\d+ kB before, (\d+ kB now|its free space is used again)", second)
    assert len(store.measurements(Selection())) == 3
    again = run("prune", "--keep-raw", day)
    assert "dropped 0 samples of 0 measurements" in again.output


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "Missing option '--keep-raw'."),
        (("--keep-raw", "soon"), "expected a day such as 2026-11-24, or an age such as 12h, 30d or 8w, got 'soon'"),
    ],
)
def test_pruning_needs_an_age(
    store: Store, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], message: str
) -> None:
    assert main(["store", "prune", *args]) == 2
    assert message in capsys.readouterr().err
