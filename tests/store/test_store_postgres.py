"""Room 5: a store that a team shares, on a real PostgreSQL."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, event

from pytest_boobench.errors import StoreError
from pytest_boobench.record import Verdict
from pytest_boobench.store import BaselineSave, Selection, Store, default_url, revisions, tables
from pytest_boobench.store.engine import parse_url, upgrade_schema
from pytest_boobench.store.replay import SpooledCell
from tests.databases import make_database, postgresql_url, run_as_admin
from tests.making import make_cell
from tests.store.test_store import NEXT_REVISION, cell, run_facts, sample, start_writer
from tests.store.test_store_history import PASS, T0, add, make, make_run

ELSEWHERE = "or name another store with --boobench-store"


@pytest.fixture
def url() -> str:
    return make_database()


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store.open(url) as store:
        yield store


def name_of(url: str) -> str:
    return url.rsplit("/@/", maxsplit=1)[-1].rsplit("@/", maxsplit=1)[-1].partition("?")[0]


def address_of(url: str) -> str:
    return f"postgresql://postgres@/{name_of(url)}"


def refusal(url: str, *, create: bool = True) -> str:
    with pytest.raises(StoreError) as caught:
        Store.open(url, create=create).close()
    return str(caught.value)


# --- the schema


SCHEMA = (
    "SELECT table_name, column_name, data_type, is_nullable, column_default, is_identity "
    "FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2",
    "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
    "WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2",
    "SELECT version_num FROM bench_schema",
)


def test_a_new_store_is_what_all_revisions_make(url: str, store: Store) -> None:
    migrated = make_database()
    engine = create_engine(parse_url(migrated))
    with engine.begin() as connection:
        command.upgrade(revisions.configuration(connection), "head")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": tables.VERSION_TABLE})
        assert compare_metadata(context, tables.metadata) == []
    engine.dispose()
    for question in SCHEMA:
        assert run_as_admin(question, url) == run_as_admin(question, migrated) != []


def install_next_revision(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    migrations = folder / "migrations"
    shutil.copytree(revisions.MIGRATIONS, migrations)
    revision = NEXT_REVISION.replace(', recreate="always"', "")
    (migrations / "versions" / "0005_third.py").write_text(revision)
    monkeypatch.setattr(revisions, "MIGRATIONS", migrations)
    monkeypatch.setattr(revisions, "NEWEST", "0005")


def test_an_old_schema_waits_for_somebody_who_upgrades_it_for_all(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(url) as store:
        add(store, "a", make(), *PASS, save_as="main")
        before = store.baselines("main")
    install_next_revision(tmp_path, monkeypatch)
    for create in (True, False):
        assert refusal(url, create=create) == (
            f"{address_of(url)}: its schema 0004 is older than the 0005 of this pytest-boobench, "
            "upgrade it for the whole team with boobench store upgrade"
        )
    assert upgrade_schema(parse_url(url)) == "0004"
    assert upgrade_schema(parse_url(url)) == "0005"
    with Store.open(url) as store:
        assert store.baselines("main") == before
        add(store, "b", make())


def test_a_newer_schema_is_refused(url: str) -> None:
    Store.open(url).close()
    run_as_admin("UPDATE bench_schema SET version_num = '9999'", url)
    for create in (True, False):
        assert refusal(url, create=create) == (
            f"{address_of(url)}: its schema 9999 is newer than the 0004 of this pytest-boobench, "
            f"upgrade pytest-boobench {ELSEWHERE}"
        )


def test_an_empty_database_is_made_a_store_only_where_asked(url: str) -> None:
    assert refusal(url, create=False) == (
        f"{address_of(url)}: holds no store yet, let pytest --boobench make one {ELSEWHERE}"
    )
    with pytest.raises(StoreError, match="holds no store yet"):
        upgrade_schema(parse_url(url))


# --- many at once


def test_runners_that_open_and_write_at_once_all_succeed(url: str) -> None:
    writers = [start_writer(url, uid, 10) for uid in ("a", "b", "c")]  # type: ignore[arg-type]
    for writer in writers:
        writer.communicate(timeout=120)
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    with Store.open(url) as store:
        assert len(store.baselines("main")) == 30
        assert len(store.baselines("main", hosts=["b"])) == 10
        assert len(store.measurements(Selection())) == 30
    assert run_as_admin("SELECT count(*) FROM bench_samples", url) == [(90,)]
    assert run_as_admin("SELECT count(*) FROM bench_suites", url) == [(1,)]


def test_baselines_are_read_as_they_were_at_one_moment(url: str, store: Store) -> None:
    """Somebody replaces the baseline between the queries that read it."""
    add(store, "old", make(), *PASS)
    old = add(store, "base", make(T0 + 1), *PASS, save_as="main")
    replaced = threading.Event()

    def replace_meanwhile(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if "bench_aggregates" in statement and statement.startswith("SELECT") and not replaced.is_set():
            replaced.set()
            with Store.open(url) as other:
                new = other.record(other.start_run(make_run("new")), make(T0 + 2))
                other.record_verdicts(new, (), save_as=BaselineSave(name="main"))
                run_as_admin(f"DELETE FROM bench_aggregates WHERE cell_id = {old}", url)

    event.listen(Engine, "before_cursor_execute", replace_meanwhile)
    try:
        (found,) = store.baselines("main").values()
    finally:
        event.remove(Engine, "before_cursor_execute", replace_meanwhile)
    assert replaced.is_set()
    assert [run.run_uid for run in found.runs] == ["base"]
    assert found.runs[0].aggregates == make().aggregates


def test_two_that_take_in_one_run_at_once_do_not_double_it(url: str, store: Store) -> None:
    entries = [
        SpooledCell(store="team", run=make_run("a"), at=T0, record=make(T0 + number), verdicts=PASS)
        for number in range(20)
    ]
    store.take_in(entries[:1])
    others = [Store.open(url) for _ in range(4)]
    threads = [threading.Thread(target=other.take_in, args=(entries,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        other.close()
    assert len(store.measurements(Selection())) == 20
    assert run_as_admin("SELECT count(*) FROM bench_verdicts", url) == [(20,)]


# --- trouble


def kill_backends(url: str) -> None:
    run_as_admin(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{name_of(url)}' AND pid <> pg_backend_pid()"
    )


def test_a_connection_that_was_lost_between_two_cells_is_not_noticed(url: str, store: Store) -> None:
    run_id = store.start_run(run_facts())
    store.record(run_id, cell("before"))
    kill_backends(url)
    store.record(run_id, cell("after"))
    kill_backends(url)
    assert [found.cell_key for found in store.measurements(Selection())] == ["before", "after"]


def test_a_connection_that_is_lost_in_the_middle_of_a_cell_loses_that_cell_alone(url: str, store: Store) -> None:
    run_id = store.start_run(run_facts())
    store.record(run_id, cell("before"))

    def lose(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("INSERT INTO bench_samples"):
            kill_backends(url)

    event.listen(Engine, "before_cursor_execute", lose)
    try:
        with pytest.raises(StoreError) as caught:
            store.record(run_id, cell("lost"))
    finally:
        event.remove(Engine, "before_cursor_execute", lose)
    assert str(caught.value) == f"{address_of(url)}: the server ended the connection, see its log {ELSEWHERE}"
    store.record(run_id, cell("after"))
    assert [found.cell_key for found in store.measurements(Selection())] == ["before", "after"]


def test_a_user_who_may_only_read_reads(url: str) -> None:
    with Store.open(url) as store:
        add(store, "a", make(), save_as="main")
    reader = f"reader_{name_of(url)}"
    run_as_admin(f"CREATE ROLE {reader} LOGIN", url)
    run_as_admin(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}", url)
    theirs = postgresql_url(name_of(url), user=reader)
    told = (
        f"postgresql://{reader}@/{name_of(url)}: this user may not do that, "
        f"grant it to use the schema and its tables {ELSEWHERE}"
    )
    assert refusal(theirs) == told
    with Store.open(theirs, create=False) as store:
        assert list(store.baselines("main")) == [make_cell().key]
        with pytest.raises(StoreError) as caught:
            store.start_run(run_facts("b"))
    assert str(caught.value) == told


def test_a_database_that_is_read_only_is_read(url: str) -> None:
    with Store.open(url) as store:
        add(store, "a", make(), save_as="main")
    run_as_admin(f"ALTER DATABASE {name_of(url)} SET default_transaction_read_only = on")
    assert refusal(url) == f"{address_of(url)}: is read-only, name its primary server {ELSEWHERE}"
    with Store.open(url, create=False) as store:
        assert list(store.baselines("main")) == [make_cell().key]


def test_a_server_that_takes_no_more_connections(url: str) -> None:
    Store.open(url).close()
    run_as_admin(f"ALTER DATABASE {name_of(url)} CONNECTION LIMIT 0")
    user = f"user_{name_of(url)}"
    run_as_admin(f"CREATE ROLE {user} LOGIN")
    told = refusal(postgresql_url(name_of(url), user=user), create=False)
    assert told.startswith(f"postgresql://{user}@/{name_of(url)}: ")
    assert "too many connections" in told


def test_what_the_url_says_of_the_connection_stands(url: str) -> None:
    with Store.open(f"{url}&application_name=nightly&connect_timeout=3"):
        pass
    engine = create_engine(parse_url(url))
    engine.dispose()
    with Store.open(f"{url}&application_name=nightly") as store:
        store.baseline_names()
        names = run_as_admin(f"SELECT application_name FROM pg_stat_activity WHERE datname = '{name_of(url)}'")
    assert names == [("nightly",)]


# --- values


def test_values_from_anywhere_are_kept(url: str, store: Store) -> None:
    text = "nul\0half\ud83d'; DROP TABLE bench_cells; -- 🦙 \u202e"
    stored = "nul\ufffdhalf\ufffd'; DROP TABLE bench_cells; -- 🦙 \u202e"
    odd = sample(0, decode_tok_s=float("inf"), prompt_tokens=2**63, failure_text=text, timings={text: [float("nan")]})
    record = replace(cell(samples=(odd,)), error=text)
    facts = run_facts(user=text, host=text, suite=text, ci={text: text})
    cell_id = store.record(store.start_run(facts), record)
    store.record_verdicts(cell_id, [Verdict(metric="m", outcome="pass", reason=text, change=float("nan"))])
    (found,) = store.measurements(Selection(hosts=[stored]))
    assert (found.run.host, found.run.ci, found.error) == (stored, {stored: stored}, stored)
    assert (found.verdicts[0].reason, found.verdicts[0].change) == (stored, None)
    (one,) = store.samples([cell_id])[cell_id]
    assert (one.decode_tok_s, one.prompt_tokens, one.failure_text, one.timings) == (
        None,
        None,
        stored,
        {stored: [None]},
    )


def test_the_usual_store_of_a_project_stays_a_file(tmp_path: Path) -> None:
    assert default_url(tmp_path).startswith("sqlite:////")
