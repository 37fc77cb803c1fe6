"""A store that fails in the middle of a session: nothing that was measured is lost, and all of it comes in later."""

from __future__ import annotations

import errno
import json
import os
import resource
import tempfile
from pathlib import Path

import pytest

from pytest_boobench.cli import main
from pytest_boobench.errors import StoreError
from pytest_boobench.plugin.session_store import SessionSpool, take_in_waiting
from pytest_boobench.store import Selection, Store, spool
from tests.conftest import BenchFolder
from tests.databases import make_database
from tests.store.test_store_history import make_run
from tests.store.test_store_intake import make_entry

UNRELIABLE = """
from pytest_boobench.errors import StoreError
from pytest_boobench.store import Store

left = {times!r}
real = {{name: getattr(Store, name) for name in left}}


def fail(name):
    def call(store, *args, **named):
        if left[name]:
            left[name] -= 1
            raise StoreError(f"{{store.address}}: {{name}} fails")
        return real[name](store, *args, **named)
    return call


def pytest_configure():
    for name in real:
        setattr(Store, name, fail(name))


def pytest_unconfigure():
    for name in real:
        setattr(Store, name, real[name])
"""
ALWAYS = 99
SPOILED = """
import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_logreport(report):
    facts = getattr(report, "boobench", {})
    if "record" in facts:
        facts["record"]["samples"][0]["finish_reason"] = {"text": "stop"}
    return (yield)
"""
"""A record comes along that no store can hold."""


def make_unreliable(bench: BenchFolder, **times: int) -> None:
    """The named methods of the store fail so often."""
    bench.pytester.makeconftest(UNRELIABLE.format(times=times))


def spools(bench: BenchFolder) -> list[Path]:
    return spool.find_waiting(bench.path / ".boobench")


def stored(bench: BenchFolder) -> list[tuple[int, list[str], str]]:
    """Prompt tokens, outcomes and the run's status of all measurements."""
    with Store.open(str(bench.path / ".boobench" / "store.db")) as store:
        status = {run.facts.uid: run.status for run in store.runs(Selection())}
        return [
            (
                found.identity["prompt_tokens"],
                [verdict.outcome for verdict in found.verdicts],
                status[found.run.uid],
            )
            for found in store.measurements(Selection())
        ]


WHOLE = [(16, ["no baseline"] * 2, "finished"), (32, ["no baseline"] * 2, "finished")]


@pytest.mark.parametrize(
    "times",
    [
        {"start_run": 1},
        {"start_run": ALWAYS, "take_in": 0},
        {"record": 1},
        {"record": 2},
        {"record_verdicts": 1},
        {"finish_run": 1},
        {"record": 1, "record_verdicts": 1, "finish_run": 1},
    ],
    ids=str,
)
def test_what_failed_in_between_comes_in_at_the_end(bench: BenchFolder, times: dict[str, int]) -> None:
    bench.write_suite()
    make_unreliable(bench, **times)
    result = bench.run()
    assert result.ret == pytest.ExitCode.OK
    result.stdout.re_match_lines(
        [r"the store failed: .*store\.db: \w+ fails; \d cells? waited in a file and came in at the end"]
    )
    assert stored(bench) == WHOLE
    assert spools(bench) == []


def test_what_fails_to_the_end_is_taken_in_by_the_next_run(bench: BenchFolder) -> None:
    bench.write_suite()
    make_unreliable(bench, record=ALWAYS, finish_run=ALWAYS, take_in=ALWAYS)
    result = bench.run()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.re_match_lines(
        [
            r"the store failed: .*store\.db: finish_run fails; 2 cells kept in .*spool-\w+\.jsonl: "
            "the next run takes them in, or boobench store import"
        ]
    )
    assert stored(bench) == []
    (file,) = spools(bench)

    bench.pytester.makeconftest("")
    result = bench.run("-k", "pp16")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines([f"2 cells of an earlier session taken in from {file.name}"])
    assert sorted(stored(bench))[:1] + sorted(stored(bench))[-1:] == WHOLE
    assert spools(bench) == []


def test_the_command_takes_it_in_too(
    bench: BenchFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.write_suite()
    make_unreliable(bench, record=ALWAYS, take_in=ALWAYS)
    assert bench.run("--boobench-save-baseline").ret == pytest.ExitCode.TESTS_FAILED
    (file,) = spools(bench)
    monkeypatch.chdir(bench.path)
    capsys.readouterr()
    assert main(["store", "import"]) == 0
    assert capsys.readouterr().out == (
        f".boobench/{file.name}: 2 cells, 2 judged cells, 2 baselines taken into "
        f"{bench.path}/.boobench/store.db; file removed\n"
    )
    assert stored(bench) == WHOLE
    with Store.open(str(bench.path / ".boobench" / "store.db")) as store:
        assert len(store.baselines("main")) == 2


def test_a_killed_connection_of_a_team_s_store(bench: BenchFolder) -> None:
    """A real PostgreSQL ends the connection in the middle of a cell, and is there again for the next one."""
    url = make_database()
    bench.write_suite()
    bench.pytester.makeconftest(
        """
        from sqlalchemy import Engine, event, text

        seen = []

        @event.listens_for(Engine, "before_cursor_execute")
        def lose(connection, cursor, statement, *rest):
            if statement.startswith("INSERT INTO bench_samples") and not seen:
                seen.append(statement)
                other = connection.engine.connect()
                pid = cursor.connection.info.backend_pid
                other.execute(text(f"SELECT pg_terminate_backend({pid})"))
                other.close()

        def pytest_unconfigure():
            event.remove(Engine, "before_cursor_execute", lose)
        """
    )
    result = bench.run("--boobench-store", url)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.re_match_lines(
        [
            "the store failed: postgresql://.*: the server ended the connection, see its log .*; "
            "1 cell waited in a file and came in at the end"
        ]
    )
    with Store.open(url) as store:
        found = store.measurements(Selection())
        assert [one.identity["prompt_tokens"] for one in found] == [16, 32]
        assert all(one.verdicts for one in found)
    assert spools(bench) == []


def test_a_store_that_is_not_this_one_gets_nothing(bench: BenchFolder) -> None:
    """What was meant for the team's store does not end up in a file beside the project."""
    folder = bench.path / ".boobench"
    folder.mkdir()
    file = folder / "spool-team.jsonl"
    spool.append(file, make_entry(store="postgresql://rack/bench"))
    bench.write_suite()
    bench.run().assert_outcomes(passed=2)
    assert spools(bench) == [file]
    assert stored(bench) == WHOLE


def test_what_can_never_come_in_is_put_aside_and_told_once(bench: BenchFolder) -> None:
    folder = bench.path / ".boobench"
    folder.mkdir()
    address = str(folder / "store.db")
    (folder / "spool-a.jsonl").write_text("no json\n")
    spool.append(folder / "spool-b.jsonl", make_entry(store=address))
    bench.write_suite()
    result = bench.run()
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.OK
    sentence = (
        f"{folder}/spool-a.jsonl: 1 line can never come in, put aside in {folder}/spool-a.rejected.jsonl: "
        "line 1: expected a JSON object, got something else"
    )
    assert [line for line in result.outlines if "spool-" in line] == [
        sentence,
        "1 cell of an earlier session taken in from spool-b.jsonl",
    ]
    assert spools(bench) == []
    assert (folder / "spool-a.rejected.jsonl").read_text() == "no json\n"
    again = bench.run("-k", "pp16")
    assert not [line for line in again.outlines if "spool-" in line], "told once"


def test_a_cell_that_no_store_can_hold_is_put_aside_by_its_own_session(bench: BenchFolder) -> None:
    """It is told by a red end, and by no later session."""
    bench.write_suite(grid={"prompt_tokens": [16], "output_tokens": [4]})
    bench.pytester.makeconftest(SPOILED)
    result = bench.run()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    (aside,) = (bench.path / ".boobench").glob("spool-*")
    assert aside.name.endswith(".rejected.jsonl")
    result.stdout.fnmatch_lines(
        [
            f"the store failed: *; 2 lines can never come in, put aside in {aside}: line 1: "
            "entry.record.samples[[]0[]].finish_reason is an object, expected a text"
        ]
    )
    bench.pytester.makeconftest("")
    again = bench.run()
    assert again.ret == pytest.ExitCode.OK
    assert not [line for line in again.outlines if "spool" in line]


def test_a_store_that_is_merely_gone_puts_nothing_aside(bench: BenchFolder) -> None:
    folder = bench.path / ".boobench"
    folder.mkdir()
    file = folder / "spool-a.jsonl"
    spool.append(file, make_entry(store=str(folder / "store.db")))
    file.write_text(f"no json\n{file.read_text()}")
    make_unreliable(bench, take_in=ALWAYS)
    bench.write_suite()
    result = bench.run()
    result.stdout.fnmatch_lines([f"{file}: waits to be taken in: *: take_in fails"])
    assert [path.name for path in folder.glob("spool-*")] == ["spool-a.jsonl"]


# --- where the file goes


def test_a_folder_that_cannot_be_written_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "tmp"
    for folder in (project, elsewhere):
        folder.mkdir()
    (project / ".boobench").write_text("not a folder")
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    kept = SessionSpool(project, "a")
    kept.keep(make_entry(), StoreError("team: gone"))
    kept.keep(make_entry(record=None, status="finished"), StoreError("team: still gone"))
    file = elsewhere / "spool-a.jsonl"
    assert kept.is_waiting
    assert kept.describe() == (
        f"the store failed: team: still gone; 1 cell kept in {file}: boobench store import FILE takes them in"
    )
    assert [json.loads(line)["status"] for line in file.read_text().splitlines()] == [None, "finished"]


@pytest.mark.skipif(os.name != "posix", reason="no /dev/null to be in the way")
def test_where_no_file_can_be_written_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".boobench").write_text("not a folder")
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null")
    lost = SessionSpool(tmp_path, "a")
    lost.keep(make_entry(), StoreError("team: gone"))
    assert lost.is_waiting
    assert lost.describe() == "the store failed: team: gone; no file took all of the cells either"


def test_nothing_waits_in_a_new_project(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "store.db")) as store:
        assert list(take_in_waiting(store, tmp_path)) == []
        unused = SessionSpool(tmp_path, "a")
        unused.empty_into(store)
        assert not unused.is_waiting


def test_a_store_that_the_ini_names_is_found_from_everywhere(
    bench: BenchFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.pytester.makeini("[pytest]\nboobench_store = team.db\n")
    bench.write_suite(file="suites/smoke.boobench.yaml")
    monkeypatch.chdir(bench.path / "suites")
    bench.run().assert_outcomes(passed=2)
    assert (bench.path / "team.db").exists()
    assert not (bench.path / "suites" / "team.db").exists()


def test_a_disk_that_is_full_for_a_while_spoils_no_line(tmp_path: Path) -> None:
    """Half a line is taken back, so that the next one comes after a whole one."""
    file = tmp_path / "spool-a.jsonl"
    spool.append(file, make_entry(run=make_run("1")))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 100, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            spool.append(file, make_entry(run=make_run("2")))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    spool.append(file, make_entry(run=make_run("3")))
    assert [line.entry and line.entry.run.uid for line in spool.read(file)] == ["1", "3"]


def test_both_files_are_named_where_the_first_folder_was_full_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "tmp"
    for folder in (project, elsewhere):
        folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    real = spool.append

    def append(path: Path, entry: spool.SpooledCell) -> None:
        if path.is_relative_to(project) and entry.run.uid == "2":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, entry)

    monkeypatch.setattr(spool, "append", append)
    kept = SessionSpool(project, "a")
    for number in "12":
        kept.keep(make_entry(run=make_run(number)), StoreError("team: gone"))
    assert kept.describe() == (
        f"the store failed: team: gone; 1 cell kept in {project}/.boobench/spool-a.jsonl: the next run takes them in, "
        f"or boobench store import and in {elsewhere}/spool-a.jsonl: boobench store import FILE takes them in"
    )
    with Store.open(str(tmp_path / "store.db")) as store:
        kept.empty_into(store)
        assert len(store.runs(Selection())) == 2
    assert not kept.is_waiting
