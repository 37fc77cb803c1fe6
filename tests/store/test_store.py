"""Room 5, on SQLite files as users have them."""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, event, make_url, select
from sqlalchemy.exc import OperationalError, StatementError

from pytest_boobench.aggregate import Aggregate, condense
from pytest_boobench.errors import MissingExtra, StoreError
from pytest_boobench.facts import ModelFacts, ServerFacts, Traffic
from pytest_boobench.metrics import Sample
from pytest_boobench.record import CellRecord, RunFacts, Verdict
from pytest_boobench.store import BaselineSave, Store, database_errors, default_url, revisions, tables
from pytest_boobench.store import engine as store_open
from pytest_boobench.store.column_types import moment
from pytest_boobench.store.database_errors import explained
from pytest_boobench.store.engine import describe, open_engine, parse_url
from pytest_boobench.store.revisions import migrating, reading, writing
from tests.making import make_cell, make_model, make_record

ELSEWHERE = "or name another store with --boobench-store"
NAN, INF = math.nan, math.inf

SAMPLE = Sample(
    phase="measure",
    lane=1,
    index=3,
    started_at=1_800_000_000.25,
    offset_ms=12.5,
    connect_ms=0.5,
    headers_ms=8.0,
    ttft_ms=20.0,
    ttfo_ms=21.0,
    e2e_ms=120.0,
    chunk_ms=(20.0, 70.0, 119.5),
    prompt_tokens=64,
    cached_tokens=0,
    output_tokens=32,
    prompt_ms=15.0,
    predicted_ms=100.0,
    timings={"predicted_per_second": 310.0, "new_field": [1, None, "x"]},
    decode_tok_s=310.0,
    prefill_tok_s=4266.0,
    embed_tok_s=1.0,
    rate_source="server",
    finish_reason="length",
    status=200,
    clock="kernel",
    client_lag_ms=0.1,
    clock_step=True,
    failure="truncated",
    failure_text="the stream ended without its end",
)
MODEL = make_model(name="tiny-chat")
SERVER = ServerFacts(kind="llama-server", url="http://127.0.0.1:9", engine_build="b1-abc", extra={"slots": 4})


def run_facts(uid: str = "a" * 32, **changes: Any) -> RunFacts:
    return replace(RunFacts(uid=uid, session="s", suite="chat", host="rack-1", started_at=1_800_000_000.0), **changes)


def sample(index: int, *, phase: str = "measure", **changes: Any) -> Sample:
    good = replace(SAMPLE, failure=None, failure_text=None, decode_tok_s=100.0 + index)
    return replace(good, phase=phase, index=index, **changes)  # type: ignore[arg-type]


def cell(key: str = "k", **changes: Any) -> CellRecord:
    samples = (sample(0, phase="warmup"), sample(0), sample(1))
    record = make_record(
        make_cell(suite="chat", model="tiny-chat", sampling={"temperature": 0.0, "seed": 42}),
        started_at=1_800_000_001.5,
        samples=samples,
        total_tok_s=198.5,
        server=SERVER,
        model=MODEL,
    )
    return replace(record, cell_key=key, **changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.open(str(path)) as store:
        yield store


def rows(path: Path, query: str) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    try:
        for statement in statements:
            connection.execute(statement)
    finally:
        connection.close()


def save(store: Store, run_id: int, record: CellRecord, **wish: Any) -> int:
    cell_id = store.record(run_id, record)
    store.record_verdicts(cell_id, (), save_as=BaselineSave(**{"name": "main", **wish}))
    return cell_id


# --- the schema


@pytest.mark.parametrize(
    ("table", "names"),
    [
        (tables.samples, {field.name for field in fields(Sample)} | {"queue_ms"}),
        (tables.aggregates, {field.name for field in fields(Aggregate)}),
        (tables.verdicts, {field.name for field in fields(Verdict)}),
        (tables.runs, {field.name for field in fields(RunFacts)} - {"suite", "host"}),
        (tables.cells, set(cell().identity) - {"suite", "host"}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_every_fact_has_its_column(table: Any, names: set[str]) -> None:
    assert names - set(table.columns.keys()) == set()


def schema_of(path: Path) -> dict[str, list[str]]:
    """Name -> the parts of its SQL, in an order of their own: columns and constraints may stand in any."""
    found = rows(path, "SELECT name, sql FROM sqlite_master WHERE sql NOTNULL")
    return {name: sorted(_parts(sql)) for name, sql in found}


def _parts(sql: str) -> list[str]:
    """A definition without its brackets, cut at the commas that stand in none."""
    flat = " ".join(sql.replace('"', "").split())
    head, _, body = flat.partition("(")
    return [head.strip(), *(part.strip() for part in re.split(r",(?![^(]*\))", body.removesuffix(")")))]


def test_a_new_store_is_what_all_revisions_make(path: Path, tmp_path: Path) -> None:
    Store.open(str(path)).close()
    migrated = tmp_path / "migrated.db"
    engine = create_engine(f"sqlite:///{migrated}")
    with engine.begin() as connection:
        command.upgrade(revisions.configuration(connection), "head")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": tables.VERSION_TABLE})
        assert compare_metadata(context, tables.metadata) == []
    engine.dispose()
    assert schema_of(path) == schema_of(migrated)
    versions = "SELECT version_num FROM bench_schema"
    assert rows(path, versions) == rows(migrated, versions) == [(revisions.NEWEST,)]


def test_a_store_of_today_needs_neither_alembic_nor_another_dialect(path: Path) -> None:
    script = (
        "import sys; from pytest_boobench.store import Store\n"
        "for _ in range(2): Store.open(sys.argv[1]).close()\n"
        "print({'alembic', 'sqlalchemy.dialects.postgresql'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_every_enum_is_checked(store: Store, path: Path) -> None:
    cell_id = store.record(store.start_run(run_facts()), cell())
    store.record_verdicts(cell_id, [Verdict(metric="decode_tok_s", outcome="pass")])
    for table, column in (
        ("bench_runs", "job_type"),
        ("bench_runs", "status"),
        ("bench_samples", "phase"),
        ("bench_verdicts", "outcome"),
    ):
        with pytest.raises(sqlite3.IntegrityError, match=f"ck_{table}_{column}"):
            change(path, f"UPDATE {table} SET {column} = 'other'")


NEXT_REVISION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "0005", "0004"


def upgrade():
    with op.batch_alter_table("bench_cells", recreate="always") as cells:
        cells.add_column(sa.Column("novelty", sa.BigInteger()))
"""


@pytest.fixture
def with_next_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def install() -> None:
        folder = tmp_path / "100% new" / "migrations"
        shutil.copytree(revisions.MIGRATIONS, folder)
        (folder / "versions" / "0005_third.py").write_text(NEXT_REVISION)
        monkeypatch.setattr(revisions, "MIGRATIONS", folder)
        monkeypatch.setattr(revisions, "NEWEST", "0005")

    return install


@pytest.mark.parametrize("create", [True, False])
def test_an_old_schema_is_upgraded_with_its_data(
    path: Path, with_next_revision: Callable[[], None], create: bool
) -> None:
    with Store.open(str(path)) as store:
        save(store, store.start_run(run_facts()), cell())
        before = store.baselines("main")
    with_next_revision()
    with Store.open(str(path), create=create) as store:
        assert store.baselines("main") == before
        store.record(store.start_run(run_facts("b")), cell())
    assert rows(path, "SELECT count(novelty), count(*) FROM bench_cells") == [(0, 2)]
    assert rows(path, "SELECT count(*) FROM bench_samples") == [(6,)]
    assert rows(path, "SELECT version_num FROM bench_schema") == [("0005",)]


def test_an_old_schema_of_a_team_is_left_alone(path: Path, with_next_revision: Callable[[], None]) -> None:
    engine = open_engine(parse_url(str(path)), create=True)
    with_next_revision()
    with reading(engine) as connection, pytest.raises(StoreError) as caught:
        revisions.bring_to_newest(connection, "postgresql://rack/bench", create=True, upgrade_old=False)
    engine.dispose()
    assert str(caught.value) == (
        "postgresql://rack/bench: its schema 0004 is older than the 0005 of this pytest-boobench, "
        "upgrade it for the whole team with boobench store upgrade"
    )


def test_the_newest_revision_is_the_last_migration() -> None:
    assert revisions.revisions()[0] == revisions.NEWEST


def test_the_next_revision_can_be_generated(
    path: Path, with_next_revision: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_next_revision()
    engine = open_engine(parse_url(str(path)), create=True)
    with migrating(engine) as connection:
        connection.exec_driver_sql("ALTER TABLE bench_cells DROP COLUMN total_tok_s")
        command.revision(revisions.configuration(connection), "what changes", rev_id="0006", autogenerate=True)
    engine.dispose()
    (file,) = revisions.MIGRATIONS.glob("versions/0006*.py")
    text = file.read_text()
    assert text.startswith('"""Room 5: what changes.')
    assert "revision = '0006'\ndown_revision = '0005'\n" in text
    assert "batch_op.add_column(sa.Column('total_tok_s', sa.Double(), nullable=True))" in text
    monkeypatch.setattr(revisions, "NEWEST", "0006")
    Store.open(str(path)).close()
    assert rows(path, "SELECT total_tok_s FROM bench_cells") == []


@pytest.mark.parametrize("create", [True, False])
def test_a_newer_schema_is_refused(path: Path, create: bool) -> None:
    Store.open(str(path)).close()
    change(path, "UPDATE bench_schema SET version_num = '9999'")
    with pytest.raises(StoreError) as caught:
        Store.open(str(path), create=create)
    assert str(caught.value) == (
        f"{path}: its schema 9999 is newer than the 0004 of this pytest-boobench, upgrade pytest-boobench {ELSEWHERE}"
    )
    assert rows(path, "SELECT version_num FROM bench_schema") == [("9999",)]


# --- opening


@pytest.mark.parametrize("name", ["project", "a?b c#d", "100%20", "naïve @ home"])
def test_the_default_store_ignores_itself_in_git(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    root.mkdir()
    with Store.open(default_url(root)) as store:
        assert store.address == str(root / ".boobench" / "store.db")
    assert (root / ".boobench" / ".gitignore").read_text() == "*\n"
    assert sorted(file.name for file in (root / ".boobench").iterdir()) == [".gitignore", "store.db"]


def test_the_default_store_is_a_url() -> None:
    assert default_url(Path("/srv/bench")) == "sqlite:////srv/bench/.boobench/store.db"


def test_another_folder_is_made_and_stays_as_it_is(tmp_path: Path) -> None:
    Store.open(str(tmp_path / "cache" / "bench" / "store.db")).close()
    assert [file.name for file in (tmp_path / "cache" / "bench").iterdir()] == ["store.db"]


def test_a_gitignore_of_the_users_own_is_kept(tmp_path: Path) -> None:
    (tmp_path / ".boobench").mkdir()
    (tmp_path / ".boobench" / ".gitignore").write_text("!store.db\n")
    Store.open(default_url(tmp_path)).close()
    assert (tmp_path / ".boobench" / ".gitignore").read_text() == "!store.db\n"


def test_sqlite_is_set_for_one_writer_and_many_readers(path: Path) -> None:
    engine = open_engine(parse_url(str(path)), create=True)
    wanted = {"journal_mode": "wal", "busy_timeout": 30_000, "foreign_keys": 1, "synchronous": 1}
    with reading(engine) as connection:
        assert {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in wanted} == wanted
    engine.dispose()


def test_a_store_in_memory_works() -> None:
    with Store.open("sqlite://") as store:
        save(store, store.start_run(run_facts()), cell())
        assert list(store.baselines("main")) == ["k"]
        assert store.address == "store in memory"


@pytest.mark.parametrize(
    ("text", "address", "driver"),
    [
        ("some/store.db", "some/store.db", "sqlite"),
        ("sqlite:///some/store.db", "some/store.db", "sqlite"),
        ("sqlite+aiosqlite:///some/store.db", "some/store.db", "sqlite"),
        ("postgresql://me:s3cret@db/bench?sslpassword=s3cret", "postgresql://me:***@db/bench", "postgresql+psycopg"),
        ("postgresql+psycopg2://me:p%40ss@db/bench", "postgresql://me:***@db/bench", "postgresql+psycopg"),
        ("postgres://db:5433/bench", "postgresql://db:5433/bench", "postgresql+psycopg"),
    ],
)
def test_an_address_shows_no_password(text: str, address: str, driver: str) -> None:
    url = parse_url(text)
    assert (describe(url), url.drivername) == (address, driver)


RIGHT_URL = "expected a path, sqlite:///path/to/store.db or postgresql://user:password@host/name"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("postgresql://me:s3cret@db:port/bench", f"store URL: cannot be read, {RIGHT_URL}"),
        ("://me:s3cret", f"store URL: cannot be read, {RIGHT_URL}"),
        ("mysql://me:s3cret@db/bench", f"store URL: mysql is no database for a store, {RIGHT_URL}"),
        (
            "postgresql://me:s3@cret@db/bench",
            "store URL: more than one @, expected %40 for one in a user name or password",
        ),
        (
            "postgresql://me:s3@cr/et@db/bench",
            "store URL: more than one @, expected %40 for one in a user name or password",
        ),
    ],
)
def test_a_bad_url_says_what_would_be_right(text: str, message: str) -> None:
    with pytest.raises(StoreError) as caught:
        Store.open(text)
    assert str(caught.value) == message


def test_a_dead_postgresql_is_one_line_without_password() -> None:
    with pytest.raises(StoreError) as caught:
        Store.open("postgresql://me:s3cret@127.0.0.1:1/bench?connect_timeout=2")
    message = str(caught.value)
    assert message.startswith("postgresql://me:***@127.0.0.1:1/bench: connection ")
    assert "refused" in message
    assert "s3cret" not in message
    assert "\n" not in message


def test_postgresql_without_its_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra) as caught:
        Store.open("postgresql://me:s3cret@db/bench")
    assert str(caught.value) == (
        "a PostgreSQL store needs the extra 'postgres': pip install 'pytest-boobench[postgres]'"
    )


# --- trouble


def refusal(url: str | Path, *, create: bool = True) -> str:
    with pytest.raises(StoreError) as caught:
        Store.open(str(url), create=create)
    return str(caught.value)


def test_a_file_of_another_kind_is_refused(path: Path) -> None:
    path.write_text("not a database, but a text that is long enough to be taken for one" * 20)
    for create in (True, False):
        assert refusal(path, create=create) == f"{path}: is not an SQLite database, move it away {ELSEWHERE}"


@pytest.mark.parametrize("content", [b"x", b"hello, I am a text\n", bytes(5000)])
def test_a_short_or_empty_looking_file_of_another_kind_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert refusal(path) == f"{path}: is not an SQLite database, move it away {ELSEWHERE}"
    assert path.read_bytes() == content


FOREIGN = {
    "tables": ("CREATE TABLE notes (x); CREATE TABLE tags (y)", " (its tables: notes, tags)"),
    "many tables": (
        "CREATE TABLE a (x); CREATE TABLE b (x); CREATE TABLE c (x); CREATE TABLE d (x)",
        " (its tables: a, b, c, …)",
    ),
    "application": ("PRAGMA application_id = 252006674", ""),
    "a schema without our tables": (
        "CREATE TABLE bench_schema (version_num VARCHAR(32))",
        " (its tables: bench_schema)",
    ),
    "a schema of another make": (
        "CREATE TABLE bench_schema (major INT, minor INT); CREATE TABLE bench_hosts (id INT)",
        " (its tables: bench_hosts, bench_schema)",
    ),
    "a schema without a version": (
        "CREATE TABLE bench_schema (version_num VARCHAR(32)); CREATE TABLE bench_hosts (id INT)",
        " (its tables: bench_hosts, bench_schema)",
    ),
}


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_of_another_program_is_refused_and_left_as_it_is(path: Path, kind: str, create: bool) -> None:
    script, named = FOREIGN[kind]
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()
    before = path.read_bytes()
    told = f"{path}: belongs to another program{named}, name another store with --boobench-store"
    assert refusal(path, create=create) == told
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_a_new_store_is_for_its_owner_only(tmp_path: Path) -> None:
    with Store.open(default_url(tmp_path)) as store:
        store.start_run(run_facts())
        folder = tmp_path / ".boobench"
        modes = {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()}
    assert modes == dict.fromkeys((".gitignore", "store.db", "store.db-wal", "store.db-shm"), 0o600)
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_the_mode_of_a_store_that_is_there_is_its_owner_s_business(path: Path) -> None:
    Store.open(str(path)).close()
    path.chmod(0o664)
    Store.open(str(path)).close()
    assert path.stat().st_mode & 0o777 == 0o664


def test_a_damaged_file_is_refused(path: Path) -> None:
    Store.open(str(path)).close()
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    assert refusal(path) == f"{path}: is damaged, put a copy of it back, move it away {ELSEWHERE}"


def test_a_folder_in_the_place_of_the_file_is_refused(path: Path) -> None:
    path.mkdir()
    assert refusal(path) == f"{path}: cannot be opened, give this user a file and folder to read and write {ELSEWHERE}"


def test_a_file_in_the_place_of_the_folder_is_refused(path: Path) -> None:
    path.write_text("")
    assert refusal(path / "store.db") == (
        f"{path}: cannot be used (file exists), let this user write there {ELSEWHERE}"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no fcntl")
def test_a_file_system_without_locks_is_said_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite would take it for busy, and blame another process after half a minute."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    Store.open(str(path)).close()
    monkeypatch.setattr("fcntl.lockf", refuse)
    for create in (True, False):
        with pytest.raises(StoreError) as caught:
            Store.open(str(path), create=create)
        assert str(caught.value) == (
            f"{path}: its file system has no working locks, put the store on a local disk "
            "or name another store with --boobench-store"
        )


@pytest.mark.parametrize("name", ["SQLITE_PROTOCOL", "SQLITE_IOERR_LOCK", "SQLITE_IOERR_SHMLOCK"])
def test_locks_that_fail_later_are_said_too(path: Path, name: str) -> None:
    cause = sqlite3.OperationalError("disk I/O error")
    cause.sqlite_errorname = name
    with pytest.raises(StoreError, match="no working locks"), explained(str(path)):
        raise OperationalError("select 1", {}, cause)


def test_a_missing_store_is_made_only_where_asked(path: Path) -> None:
    assert refusal(path, create=False) == f"{path}: there is no store, let pytest --boobench make one {ELSEWHERE}"
    path.touch()
    assert refusal(path, create=False) == f"{path}: holds no store yet, let pytest --boobench make one {ELSEWHERE}"
    assert path.read_bytes() == b""


def test_a_read_only_store_is_read_but_refused_for_a_run(path: Path) -> None:
    with Store.open(str(path)) as store:
        save(store, store.start_run(run_facts()), cell())
    url = f"sqlite:///file:{path}?mode=ro&uri=true"
    advice = f"is read-only, let this user write to the file and its folder {ELSEWHERE}"
    assert refusal(url) == f"file:{path}: {advice}"
    with Store.open(url, create=False) as store:
        assert list(store.baselines("main")) == ["k"]
        with pytest.raises(StoreError) as caught:
            store.start_run(run_facts("b"))
    assert str(caught.value) == f"file:{path}: {advice}"


def test_a_full_disk_loses_one_cell_and_no_other(path: Path) -> None:
    with Store.open(str(path)) as store:
        run_id = store.start_run(run_facts())
        store.record(run_id, cell("before"))

    def leave_no_room(connection: sqlite3.Connection, _entry: Any) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # SQLite takes the present size for the least

    event.listen(Engine, "connect", leave_no_room)
    try:
        with Store.open(str(path)) as store, pytest.raises(StoreError) as caught:
            store.record(run_id, cell("after", samples=tuple(sample(index) for index in range(500))))
    finally:
        event.remove(Engine, "connect", leave_no_room)
    assert str(caught.value) == f"{path}: the disk is full, free some space {ELSEWHERE}"
    assert rows(path, "SELECT cell_key FROM bench_cells") == [("before",)]
    assert rows(path, "SELECT count(*) FROM bench_samples") == [(3,)]


@pytest.mark.parametrize(
    ("journal_mode", "lock"), [("WAL", "EXCLUSIVE"), ("DELETE", "EXCLUSIVE"), ("DELETE", "IMMEDIATE")]
)
def test_a_locked_store_says_by_whom_after_waiting(
    path: Path, monkeypatch: pytest.MonkeyPatch, journal_mode: str, lock: str
) -> None:
    Store.open(str(path)).close()
    monkeypatch.setattr(store_open, "BUSY_TIMEOUT_S", 0.2)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), journal_mode, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdout.readline()
    told = refusal(path)
    monkeypatch.setattr(database_errors, "_PROC", path.parent / "nowhere")
    elsewhere = refusal(path)
    holder.communicate()
    name = Path(sys.executable).name
    assert re.fullmatch(
        rf"{path}: is locked by {name[:15]} \(process {holder.pid}\), end that process {ELSEWHERE}", told
    )
    assert elsewhere == f"{path}: is locked by another process, end that process {ELSEWHERE}"
    Store.open(str(path)).close()


HOLDER = """
import sqlite3, sys
path, journal_mode, lock = sys.argv[1:]
holder = sqlite3.connect(path, isolation_level=None)
holder.execute(f"PRAGMA journal_mode = {journal_mode}")
holder.execute(f"BEGIN {lock}")
print(flush=True)
sys.stdin.read()
"""


def test_holders_are_told_as_far_as_linux_knows_them(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.touch()
    place = next(database_errors._place(path))
    monkeypatch.setattr(database_errors, "_PROC", tmp_path)
    (tmp_path / "locks").write_text(
        f"1: POSIX  ADVISORY  WRITE 11 {place} 0 EOF\n"
        f"1: -> POSIX  ADVISORY  WRITE 12 {place} 0 EOF\n"
        f"2: POSIX  ADVISORY  READ 13 {place} 0 EOF\n"
        "3: POSIX  ADVISORY  WRITE 14 00:00:1 0 EOF\n"
        f"4: POSIX  ADVISORY  WRITE 15 {place} 0 EOF\n"
    )
    (tmp_path / "15").mkdir()
    (tmp_path / "15" / "comm").write_text("pytest\n")
    assert database_errors.find_holders(path) == ["a program (process 11)", "pytest (process 15)"]


NO_ROOM = """
import resource, sys
sys.path.insert(0, {root!r})
from pytest_boobench.errors import StoreError
from pytest_boobench.store import Store
from tests.store.test_store import cell, run_facts, sample

with Store.open(sys.argv[1]) as store:
    run_id = store.start_run(run_facts())
    store.record(run_id, cell("before"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    try:
        store.record(run_id, cell("after", samples=tuple(sample(index) for index in range(3000))))
    except StoreError as error:
        print(error)
    store.record(run_id, cell("small"))
"""


def test_a_disk_that_fills_up_under_a_run_loses_one_cell_and_no_other(path: Path) -> None:
    script = NO_ROOM.format(root=str(Path(__file__).parents[2]))
    limit = str(600_000)  # of each file; Python leaves the signal that comes with it ignored
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), limit], capture_output=True, text=True, check=True, timeout=60
    )
    assert re.fullmatch(rf"{path}: the disk (is full|fails to read or write), .* {ELSEWHERE}\n", done.stdout)
    assert rows(path, "SELECT cell_key FROM bench_cells ORDER BY id") == [("before",), ("small",)]
    assert rows(path, "SELECT count(*) FROM bench_samples") == [(6,)]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize(
    ("act", "cause"),
    [
        (lambda store: store.record(99, cell()), "FOREIGN KEY constraint failed"),
        (lambda store: store.start_run(run_facts()), "UNIQUE constraint failed: bench_runs.uid"),
        (
            lambda store: store.record_verdicts(99, (), save_as=BaselineSave(name="main")),
            "No row was found when one was required",
        ),
        (
            lambda store: store.record(1, cell(identity={**cell().identity, "sampling": {"x": object()}})),
            "Object of type object is not JSON serializable",
        ),
    ],
)
def test_any_other_error_is_one_line_without_sql(
    store: Store, path: Path, act: Callable[[Store], object], cause: str
) -> None:
    store.start_run(run_facts())
    with pytest.raises(StoreError) as caught:
        act(store)
    assert str(caught.value) == f"{path}: {cause}"


# --- what is written


def test_a_run_is_stored_as_it_was(store: Store, path: Path) -> None:
    facts = run_facts(
        user="sam", machine="desk", git_commit="c0ffee", git_dirty=True, ci={"provider": "gitlab"}, workers=3,
        plugin_version="0.1.0",
    )  # fmt: skip
    run_id = store.start_run(facts)
    store.record(run_id, cell())
    other = replace(MODEL, name="other")
    identity = {**cell().identity, "model": "other"}
    store.record(run_id, cell("k2", model=other, identity=identity, server=replace(SERVER, engine_build=None)))
    store.record(run_id, cell("k3", model=None, server=None, samples=(), aggregates={}, error="host is gone"))
    assert rows(path, "SELECT status, finished_at FROM bench_runs") == [("running", None)]
    store.finish_run(run_id, "interrupted")

    engine = open_engine(parse_url(str(path)), create=False)
    with reading(engine) as connection:
        query = select(tables.runs, tables.hosts.c.name.label("host"), tables.suites.c.name.label("suite"))
        row = connection.execute(query.join(tables.hosts).join(tables.suites)).mappings().one()
    engine.dispose()
    stored = {name: row[name] for name in asdict(facts)}
    assert stored == {**asdict(facts), "started_at": moment(facts.started_at)}
    assert (row["engine_build"], row["status"]) == ("b1-abc", "interrupted")
    assert row["server_facts"] == {**asdict(SERVER), "engine_build": None}
    assert row["model_facts"] == {"tiny-chat": asdict(MODEL), "other": asdict(other)}
    assert row["finished_at"] > row["started_at"].replace(year=2020)
    assert rows(path, "SELECT cell_key, error FROM bench_cells WHERE error IS NOT NULL") == [("k3", "host is gone")]


def test_others_on_the_host_are_entered_in_the_run(store: Store, path: Path) -> None:
    run_id = store.start_run(run_facts())
    found = "SELECT takeover, in_flight_at_start, concurrent_foreign_requests FROM bench_runs"
    for traffic, takeover, stored in (
        (None, False, (0, None, None)),
        (Traffic(), False, (0, None, None)),
        (Traffic(in_flight_at_start=2, concurrent_foreign_requests=3), True, (1, 2, 3)),
        (Traffic(in_flight_at_start=0, concurrent_foreign_requests=1), False, (1, 2, 4)),
        (Traffic(in_flight_at_start=0), False, (1, 2, 4)),
    ):
        store.record(run_id, cell(traffic=traffic, takeover=takeover))
        assert rows(path, found) == [stored]


def test_hosts_and_suites_are_entered_once(store: Store, path: Path) -> None:
    for uid in "abc":
        store.start_run(run_facts(uid))
    assert rows(path, "SELECT name FROM bench_hosts") == [("rack-1",)]
    assert rows(path, "SELECT name FROM bench_suites") == [("chat",)]


def test_a_cell_is_stored_as_it_was(store: Store, path: Path) -> None:
    aggregates = {"ttft_ms": condense([1.0, 2.0, 4.0]), "decode_tok_s": condense([5.0])}
    record = cell(samples=(SAMPLE,), aggregates=aggregates)
    store.record(store.start_run(run_facts()), record)
    engine = open_engine(parse_url(str(path)), create=False)
    with reading(engine) as connection:
        found = connection.execute(select(tables.cells)).mappings().one()
        one = connection.execute(select(tables.samples)).mappings().one()
        condensed = {row["metric"]: row for row in connection.execute(select(tables.aggregates)).mappings()}
    engine.dispose()
    identity = {name: value for name, value in record.identity.items() if name not in {"suite", "host"}}
    assert {name: found[name] for name in identity} == identity
    assert (found["total_tok_s"], found["worker"], found["engine_build"]) == (198.5, "main", "b1-abc")
    assert (found["model_facts"], found["started_at"]) == (asdict(MODEL), moment(record.started_at))
    wanted = {
        **asdict(SAMPLE),
        "chunk_ms": list(SAMPLE.chunk_ms),
        "chunk_tokens": [],
        "started_at": moment(SAMPLE.started_at),
    }
    assert {name: one[name] for name in wanted} == wanted
    assert one["queue_ms"] == SAMPLE.queue_ms == 5.0
    for metric, aggregate in aggregates.items():
        assert aggregate is not None
        assert {name: condensed[metric][name] for name in asdict(aggregate)} == asdict(aggregate)


def test_numbers_that_are_none_are_blank(store: Store, path: Path) -> None:
    odd = replace(
        SAMPLE, ttft_ms=NAN, decode_tok_s=INF, prefill_tok_s=-INF, prompt_tokens=2**63, output_tokens=2**63 - 1,
        chunk_ms=(1.0, NAN), timings={"a": [INF, {"b": NAN}]},
    )  # fmt: skip
    broken = replace(condense([1.0, 2.0]), mean=NAN)  # type: ignore[type-var]
    identity = {**cell().identity, "sampling": {"temperature": NAN}}
    record = cell(samples=(odd,), aggregates={"ttft_ms": broken}, total_tok_s=NAN, identity=identity)
    store.record(store.start_run(run_facts()), record)
    query = """SELECT ttft_ms, queue_ms, decode_tok_s, prefill_tok_s, s.prompt_tokens, s.output_tokens, chunk_ms,
                      timings, sampling, total_tok_s FROM bench_samples s JOIN bench_cells c ON c.id = s.cell_id"""
    assert rows(path, query) == [
        (None, None, None, None, None, 2**63 - 1, "[1.0, null]", '{"a": [null, {"b": null}]}',
         '{"temperature": null}', None)
    ]  # fmt: skip
    assert rows(path, "SELECT * FROM bench_aggregates") == []


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("'; DROP TABLE bench_cells; --", "'; DROP TABLE bench_cells; --"),
        ('"quoted" % %s :name {x} \\', '"quoted" % %s :name {x} \\'),
        ("🦙 naïve 日本 \u202e\x1b[31m\r\n", "🦙 naïve 日本 \u202e\x1b[31m\r\n"),
        ("nul\0half\ud83d", "nul\ufffdhalf\ufffd"),
    ],
)
def test_text_from_anywhere_is_kept(store: Store, path: Path, text: str, stored: str) -> None:
    facts = run_facts(user=text, host=text, suite=text, ci={text: text})
    failed = replace(SAMPLE, failure_text=text, timings={text: [text]})
    record = cell(samples=(failed,), error=text, model=replace(MODEL, name=text, path=text))
    cell_id = store.record(store.start_run(facts), record)
    store.record_verdicts(
        cell_id, [Verdict(metric="m", outcome="pass", reason=text)], save_as=BaselineSave(name=text, reason=text)
    )
    assert rows(path, "SELECT failure_text, error FROM bench_samples JOIN bench_cells") == [(stored, stored)]
    (baseline,) = store.baselines(text, hosts=[text]).values()
    assert baseline.runs[0].model == replace(MODEL, name=stored, path=stored)


def test_verdicts_are_stored_as_they_were(store: Store, path: Path) -> None:
    cell_id = store.record(store.start_run(run_facts()), cell())
    verdicts = [
        Verdict(metric="decode_tok_s", outcome="regression", now=41.2, baseline=49.8, change=-0.173, allowed=0.1,
                baseline_name="main"),
        Verdict(metric="ttft_ms", outcome="not comparable", change=NAN, reason="parameters 2, was 1"),
    ]  # fmt: skip
    store.record_verdicts(cell_id, verdicts)
    query = "SELECT metric, outcome, now, baseline, change, allowed, baseline_name, reason FROM bench_verdicts"
    assert rows(path, query) == [
        ("decode_tok_s", "regression", 41.2, 49.8, -0.173, 0.1, "main", ""),
        ("ttft_ms", "not comparable", None, None, None, None, None, "parameters 2, was 1"),
    ]
    assert store.baselines("main") == {}


def test_times_are_utc_and_never_naive(path: Path) -> None:
    east = datetime(2026, 11, 5, 14, 30, tzinfo=timezone(timedelta(hours=2)))
    engine = open_engine(parse_url(str(path)), create=True)
    with writing(engine) as connection:
        connection.execute(tables.hosts.insert(), {"name": "h", "first_seen_at": east})
        back = connection.execute(select(tables.hosts.c.first_seen_at)).scalar_one()
        with pytest.raises(StatementError, match="expected a time with its time zone, got 2026-11-05T14:30:00"):
            connection.execute(tables.hosts.insert(), {"name": "i", "first_seen_at": east.replace(tzinfo=None)})
    engine.dispose()
    assert (back, back.tzinfo) == (east, UTC)


def test_a_time_that_a_database_gives_back_elsewhere_is_utc_too() -> None:
    east = datetime(2026, 11, 5, 14, 30, tzinfo=timezone(timedelta(hours=2)))
    column: Any = tables.runs.c.finished_at.type
    dialect = make_url("sqlite://").get_dialect()()
    assert column.process_result_value(east, dialect).isoformat() == "2026-11-05T12:30:00+00:00"
    assert column.process_result_value(None, dialect) is None
    assert column.process_bind_param(None, dialect) is None


# --- baselines


def test_a_baseline_carries_its_provenance(store: Store, path: Path) -> None:
    run_id = store.start_run(run_facts(git_commit="c0ffee", workers=2))
    save(store, run_id, cell(), reason="first build with flash attention")
    (baseline,) = store.baselines("main").values()
    (run,) = baseline.runs
    assert (baseline.name, baseline.cell_key) == ("main", "k")
    assert (run.run_uid, run.session, run.measured_at) == ("a" * 32, "s", 1_800_000_001.5)
    assert (run.model, run.engine_build, run.git_commit) == (MODEL, "b1-abc", "c0ffee")
    assert run.aggregates == cell().aggregates
    assert rows(path, "SELECT reason, replaced_at FROM bench_baselines") == [("first build with flash attention", None)]


def test_saving_replaces_and_keeps_what_it_replaced(store: Store, path: Path) -> None:
    for number, uid in enumerate("abc"):
        save(store, store.start_run(run_facts(uid)), cell(started_at=1_800_000_000.0 + number))
    save(store, store.start_run(run_facts("d")), cell("other"))
    save(store, store.start_run(run_facts("e")), cell(), name="nightly")
    assert [run.run_uid for run in store.baselines("main")["k"].runs] == ["c"]
    assert rows(path, "SELECT name, count(*), count(replaced_at) FROM bench_baselines GROUP BY name ORDER BY name") == [
        ("main", 4, 2),
        ("nightly", 1, 0),
    ]


def test_adding_keeps_the_others_in_force_oldest_measurement_first(store: Store) -> None:
    for number, uid in ((2, "a"), (0, "b"), (1, "c")):
        save(store, store.start_run(run_facts(uid)), cell(started_at=1_800_000_000.0 + number), add=True)
    assert [run.run_uid for run in store.baselines("main")["k"].runs] == ["b", "c", "a"]


def test_one_measurement_counts_once(store: Store, path: Path) -> None:
    cell_id = save(store, store.start_run(run_facts()), cell())
    with pytest.raises(StoreError, match="UNIQUE constraint failed"):
        store.record_verdicts(
            cell_id, [Verdict(metric="m", outcome="pass")], save_as=BaselineSave(name="main", add=True)
        )
    assert rows(path, "SELECT * FROM bench_verdicts") == []


def test_hosts_narrow_the_baselines(store: Store) -> None:
    for host in ("rack-1", "rack-2", "rack-3"):
        save(store, store.start_run(run_facts(host, host=host)), cell(host))
    assert set(store.baselines("main")) == {"rack-1", "rack-2", "rack-3"}
    assert set(store.baselines("main", hosts=["rack-1", "rack-3", "unknown"])) == {"rack-1", "rack-3"}
    assert store.baselines("main", hosts=[]) == {}


def test_baselines_outlive_their_samples_and_hold_their_run(store: Store, path: Path) -> None:
    save(store, store.start_run(run_facts("a")), cell())
    store.record(store.start_run(run_facts("b")), cell())
    before = store.baselines("main")
    change(path, "DELETE FROM bench_samples")
    assert store.baselines("main") == before
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        change(path, "DELETE FROM bench_runs WHERE uid = 'a'")
    change(path, "DELETE FROM bench_runs WHERE uid = 'b'")
    assert rows(path, "SELECT count(*) FROM bench_cells") == [(1,)]


def test_model_facts_of_a_newer_version_are_read(store: Store, path: Path) -> None:
    save(store, store.start_run(run_facts()), cell())
    save(store, store.start_run(run_facts("b")), cell("k2", model=None, server=None, engine_build=None))
    change(path, """UPDATE bench_cells SET model_facts = '{"name": "x", "rope": 1}' WHERE cell_key = 'k'""")
    found = store.baselines("main")
    assert found["k"].runs[0].model == ModelFacts(name="x")
    assert (found["k2"].runs[0].model, found["k2"].runs[0].engine_build) == (None, None)


def test_looking_up_is_by_index(store: Store, path: Path) -> None:
    run_id = store.start_run(run_facts())
    for number in range(30):
        save(store, run_id, cell(f"k{number}"))
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        assert len(store.baselines("main", hosts=["rack-1"])) == 30
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    plans = [
        [row[3] for row in rows(path, f"EXPLAIN QUERY PLAN {re.sub(r'[?]', chr(39) + 'x' + chr(39), statement)}")]
        for statement in seen
        if statement.startswith("SELECT")
    ]
    assert any("uq_bench_baselines_in_force" in step for step in plans[0]), plans[0]
    assert any("ix_bench_cells_cell_key_engine_build_started_at" in step for step in plans[1]), plans[1]
    for plan in plans:
        assert not any(step.startswith("SCAN") for step in plan), plan


# --- many processes, and dying ones

WRITER = """
import sys
sys.path.insert(0, {root!r})
from tests.store.test_store import cell, run_facts, save
from pytest_boobench.store import Store

path, uid, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
with Store.open(path) as store:
    run_id = store.start_run(run_facts(uid, host=uid))
    for number in range(count):
        save(store, run_id, cell(f"{{uid}}-{{number}}"))
        print(number, flush=True)
"""


def start_writer(path: Path, uid: str, count: int) -> subprocess.Popen[str]:
    script = WRITER.format(root=str(Path(__file__).parents[2]))
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path), uid, str(count)], stdout=subprocess.PIPE, text=True
    )


def test_processes_that_open_and_write_at_once_all_succeed(tmp_path: Path) -> None:
    path = tmp_path / ".boobench" / "store.db"
    writers = [start_writer(path, uid, 15) for uid in ("a", "b", "c")]
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    with Store.open(str(path)) as store:
        assert len(store.baselines("main")) == 45
        assert len(store.baselines("main", hosts=["b"])) == 15
    assert rows(path, "SELECT count(*) FROM bench_samples") == [(135,)]
    assert rows(path, "SELECT count(*) FROM bench_suites") == [(1,)]


def test_cells_recorded_before_a_kill_are_whole(path: Path) -> None:
    writer = start_writer(path, "a", 100_000)
    assert writer.stdout is not None
    for _ in range(5):
        writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    writer.communicate(timeout=30)
    with Store.open(str(path)) as store:
        found = len(store.baselines("main"))
        assert found >= 5
        store.record(store.start_run(run_facts("b")), cell("next"))
    per_cell = "SELECT (SELECT count(*) FROM bench_samples WHERE cell_id = c.id) FROM bench_cells c"
    assert set(rows(path, per_cell)) == {(3,)}
    assert rows(path, "SELECT status FROM bench_runs WHERE uid = 'a'") == [("running",)]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
