"""Room 5: stores that older versions left are brought to today's schema, with all that is in them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pytest_boobench.store import Selection, Store, revisions
from tests.schemas import ENTRIES, FOLDER
from tests.store.test_store import rows, schema_of

FILES = sorted(FOLDER.glob("*.sql"))


def restore(file: Path, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(file.read_text(encoding="utf-8"))


def test_each_revision_has_its_file() -> None:
    assert [file.stem for file in FILES] == sorted(revisions.revisions())


def test_the_newest_file_is_of_today(tmp_path: Path) -> None:
    restore(FILES[-1], tmp_path / "kept.db")
    Store.open(str(tmp_path / "new.db")).close()
    assert schema_of(tmp_path / "kept.db") == schema_of(tmp_path / "new.db"), (
        "the schema changed: where it is released already that needs a revision of its own, "
        "else write its file anew with python -m tests.schemas"
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_is_in_an_old_store_stays(tmp_path: Path, file: Path) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    restore(file, old)
    with Store.open(str(old)) as upgraded, Store.open(str(new)) as today:
        today.take_in(ENTRIES)
        assert upgraded.measurements(Selection()) == today.measurements(Selection())
        assert upgraded.samples([1, 2]) == today.samples([1, 2])
        assert upgraded.baselines("main") == today.baselines("main")
        assert upgraded.saves("main") == today.saves("main")
        assert upgraded.runs(Selection()) == today.runs(Selection())
        upgraded.take_in(ENTRIES)
        assert len(upgraded.measurements(Selection())) == 2
    assert rows(old, "SELECT version_num FROM bench_schema") == [(revisions.NEWEST,)]
    assert rows(old, "PRAGMA integrity_check") == [("ok",)]
    assert rows(old, "PRAGMA foreign_key_check") == []
