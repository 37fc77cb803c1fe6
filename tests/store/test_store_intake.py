"""Room 5: what comes into a store late: from spool files and baseline files; and what goes: old raw samples."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, select

from pytest_boobench.errors import StoreError, UnstorableError
from pytest_boobench.facts import Canary, ForeignRequest, ServerFacts, Traffic
from pytest_boobench.record import RunFacts, Verdict
from pytest_boobench.store import BaselineChange, BaselineSave, Saved, Selection, Store, spool, tables
from pytest_boobench.store.engine import parse_url
from pytest_boobench.store.replay import Replayed, SpooledCell, from_line, to_line
from tests.databases import BACKENDS
from tests.making import make_cell, make_record, make_sample
from tests.store.test_store_history import DAY, FOUR, PASS, T0, add, make, make_run, make_samples

SAVE = BaselineSave(name="main", reason="first")


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return BACKENDS[request.param](tmp_path)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store.open(url) as store:
        yield store


def make_entry(**changed: Any) -> SpooledCell:
    fields: dict[str, Any] = {"store": "team", "run": make_run("a"), "at": T0 + 60, "record": make()}
    return SpooledCell(**{**fields, **changed})


# --- entries


FULL = make_entry(
    run=make_run("a", ci={"job": "x"}, git_dirty=False, metadata={"driver": 560}),
    record=make(
        samples=[*make_samples(), make_sample(chunk_ms=(1.0, 2.5), timings={"n": [1]}, reference=True)],
        traffic=Traffic(requests=(ForeignRequest(id="7"),), notes=("late",)),
        canaries=(Canary(copy_mb_s=1.0, hash_mb_s=2.0),),
        reference=ServerFacts(kind="vllm", url="http://x"),
        error="half a surrogate \ud83d and \u2028",
    ),
    verdicts=(Verdict(metric="decode_tok_s", outcome="pass", change=float("-inf")),),
    save_as=SAVE,
    status="interrupted",
)


@pytest.mark.parametrize("entry", [FULL, make_entry(record=None, status="finished"), make_entry()])
def test_an_entry_survives_its_line(entry: SpooledCell) -> None:
    line = to_line(entry)
    assert line.count("\n") == 1
    assert from_line(line) == entry


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "expected a JSON object, got something else"),
        ("[1]", "expected an entry of format 1, got something else"),
        ("{}", "expected an entry of format 1, got something else"),
        ('{"boobench": 2}', "expected an entry of format 1, got 2"),
        ('{"boobench": 1e400}', "expected an entry of format 1, got inf"),
        ('{"boobench": "' + "\\u001b[31m" + '"}', "expected an entry of format 1, got an empty text"),
        ("[" * 100_000, "expected a JSON object, got something else"),
        ("9" * 10_000, "expected a JSON object, got something else"),
        ('{"boobench": 1}', "entry.store is missing"),
    ],
)
def test_a_line_of_something_else_is_refused(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"expected |missing") as caught:
        from_line(line)
    assert str(caught.value) == message


def spoil(path: str, value: Any) -> str:
    """The line of a full entry with one of its values replaced; the path is as in messages."""
    plain = json.loads(to_line(FULL))
    *way, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
    place = plain
    for part in way:
        place = place[part]
    place[last] = value
    return json.dumps(plain) + "\n"


WRONG = {
    "record.samples.0.finish_reason": ({"text": "stop"}, "is an object, expected a text"),
    "record.samples.0.ttft_ms": ([1.0], "is a list, expected a number"),
    "record.samples.0.prompt_tokens": ("16", "is 16, expected a whole number"),
    "record.samples.0.output_tokens": (10**400, "is a number of more than 64 bits"),
    "record.samples.0.prompt_ms": (10**400, "is a number of more than 60 digits, expected a number"),
    "record.samples.0.lane": (True, "is true, expected a whole number"),
    "record.samples.0.phase": ("cool-down", "is cool-down, expected one of warmup, measure"),
    "record.samples.0.started_at": (float("nan"), "is nan, expected seconds since 1970"),
    "record.samples.0.chunk_ms": (None, "is null, expected a list"),
    "record.samples": ({}, "is an object, expected a list"),
    "record.started_at": (1e30, "is 1e+30, expected seconds since 1970"),
    "record.server": ("b1", "is b1, expected an object"),
    "record.aggregates": ([], "is a list, expected an object"),
    "record.identity": (None, "is null, expected an object"),
    "run.started_at": (float("inf"), "is inf, expected seconds since 1970"),
    "run.colour": ("red", "is no field of this version of pytest-boobench"),
    "verdicts.0.outcome": ("splendid", "is splendid, expected one of pass, regression, improvement, inconclusive, "
                           "no baseline, not comparable"),
    "at": ("now", "is now, expected a number"),
    "status": ("asleep", "is asleep, expected one of running, finished, interrupted"),
    "store": (7, "is 7, expected a text"),
}  # fmt: skip


@pytest.mark.parametrize("path", WRONG)
def test_a_value_that_no_store_can_hold_is_named(path: str) -> None:
    value, wrong = WRONG[path]
    with pytest.raises(ValueError, match=r".") as caught:
        from_line(spoil(path, value))
    place = re.sub(r"\.(\d+)", r"[\1]", path)
    assert str(caught.value) == f"entry.{place} {wrong}"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.sampled_from(sorted(WRONG)), _JSON)
def test_reading_a_line_is_total(path: str, value: Any) -> None:
    try:
        assert isinstance(from_line(spoil(path, value)), SpooledCell)
    except ValueError as error:
        assert str(error).startswith("entry.")


UNSTORABLE = {
    "record.identity": {},
    "record.identity.prompt_tokens": "many",
    "record.identity.model": {"name": "m"},
    "record.server.extra": json.loads('{"a":' * 800 + "1" + "}" * 800),
}
"""What is plain JSON in its place and still nothing for a store."""


@pytest.mark.parametrize("path", UNSTORABLE)
def test_what_only_the_store_finds_out_is_told_apart_too(store: Store, path: str) -> None:
    entry = from_line(spoil(path, UNSTORABLE[path]))
    with pytest.raises(UnstorableError):
        store.take_in([entry])
    assert store.measurements(Selection()) == []
    store.take_in([FULL])
    assert len(store.measurements(Selection())) == 1


# --- taking them in


def snapshot(url: str) -> dict[str, list[dict[str, Any]]]:
    """All rows of a store, but for the moments when hosts and suites were first seen."""
    engine = create_engine(parse_url(url))
    with engine.connect() as connection:
        found = {
            name: [dict(row) for row in connection.execute(select(table)).mappings()]
            for name, table in tables.metadata.tables.items()
        }
    engine.dispose()
    for row in (*found["bench_hosts"], *found["bench_suites"]):
        del row["first_seen_at"]
    return found


def test_what_is_taken_in_is_as_if_it_had_been_recorded(url: str, store: Store, tmp_path: Path) -> None:
    store.take_in([FULL])
    straight = str(tmp_path / "straight.db")
    with Store.open(straight) as other:
        assert FULL.record is not None
        run_id = other.start_run(FULL.run)
        cell_id = other.record(run_id, FULL.record)
        other.record_verdicts(cell_id, FULL.verdicts, save_as=SAVE)
        other.finish_run(run_id, "interrupted")
    taken, recorded = snapshot(url), snapshot(straight)
    late = {"bench_verdicts": "judged_at", "bench_baselines": "saved_at", "bench_runs": "finished_at"}
    for name, column in late.items():
        assert [row.pop(column).timestamp() for row in taken[name]] == [T0 + 60]
        recorded[name][0].pop(column)
    assert taken == recorded


def test_a_second_time_changes_nothing(url: str, store: Store) -> None:
    entries = [make_entry(), make_entry(verdicts=PASS, save_as=SAVE), make_entry(record=None, status="finished")]
    assert store.take_in(entries) == Replayed(cells=1, verdicts=1, baselines=1)
    once = snapshot(url)
    assert store.take_in(entries) == Replayed()
    assert snapshot(url) == once


def test_what_the_store_has_already_is_not_doubled(store: Store) -> None:
    add(store, "a", make(), *PASS, save_as="main")
    assert store.take_in([make_entry(verdicts=PASS, save_as=SAVE, status="finished")]) == Replayed()
    (run,) = store.runs(Selection())
    assert (run.status, run.finished_at) == ("finished", T0 + 60)
    assert store.take_in([make_entry(save_as=BaselineSave(name="other"))]) == Replayed(baselines=1)


def test_a_cell_whose_verdicts_alone_were_lost(store: Store) -> None:
    store.record(store.start_run(make_run("a")), make())
    assert store.take_in([make_entry(verdicts=PASS)]) == Replayed(verdicts=1)


def test_an_item_that_was_measured_again_is_another_measurement(store: Store) -> None:
    assert store.take_in([make_entry(), make_entry(record=make(T0 + 1))]) == Replayed(cells=2)


def test_blocks_that_the_store_lacks_are_added(store: Store) -> None:
    add(store, "a", make(samples=make_samples(1)), *PASS)
    whole = make(samples=[*make_samples(1), *make_samples(2)], extended="block 2: decode")
    first_only = make_entry()
    assert store.take_in([make_entry(record=whole, verdicts=PASS)]) == Replayed(cells=1, verdicts=1)
    assert store.take_in([first_only]) == Replayed(), "what is known already is never taken back"
    (found,) = store.measurements(Selection())
    assert (found.blocks, found.samples, found.verdicts) == (2, 6, PASS)


def test_an_error_in_a_later_block_is_added(store: Store) -> None:
    add(store, "a", make())
    assert store.take_in([make_entry(record=make(error="rack-1: died"))]) == Replayed(cells=1)
    (found,) = store.measurements(Selection())
    assert found.error == "rack-1: died"


def test_a_baseline_that_comes_late_does_not_replace_a_newer_one(store: Store) -> None:
    add(store, "newer", make(T0 + DAY), save_as="main")
    assert store.take_in([make_entry(at=60.0, save_as=SAVE)]) == Replayed(cells=1, baselines=1)
    assert [run.run_uid for run in store.baselines("main")[make_cell().key].runs] == ["newer"]
    late = make_entry(run=make_run("b"), record=make(T0 + 5), at=70.0, save_as=replace(SAVE, add=True))
    store.take_in([late])
    assert [run.run_uid for run in store.baselines("main")[make_cell().key].runs] == ["b", "newer"]


def test_a_baseline_that_comes_late_replaces_an_older_one(store: Store) -> None:
    store.take_in([make_entry(save_as=SAVE)])
    newer = make_entry(run=make_run("b"), record=make(T0 + 5), at=T0 + 90, save_as=SAVE)
    store.take_in([newer])
    assert [run.run_uid for run in store.baselines("main")[make_cell().key].runs] == ["b"]


# --- spool files


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "spool-a.jsonl"


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Store]:
    with Store.open(str(tmp_path / "team.db")) as store:
        yield store


def test_a_spool_file_is_taken_in_and_removed(team: Store, file: Path) -> None:
    spool.append(file, make_entry())
    spool.append(file, make_entry(verdicts=PASS))
    assert file.stat().st_mode & 0o777 == 0o600
    assert spool.find_waiting(file.parent) == [file]
    assert spool.take_in(team, file) == spool.TakenIn(Replayed(cells=1, verdicts=1))
    assert spool.find_waiting(file.parent) == []
    assert len(team.measurements(Selection())) == 1


def test_a_line_that_was_cut_off_is_left_out(team: Store, file: Path) -> None:
    spool.append(file, make_entry())
    with file.open("a") as end:
        end.write(to_line(make_entry(run=make_run("b")))[:100])
    assert spool.take_in(team, file) == spool.TakenIn(Replayed(cells=1))


def test_lines_that_can_never_come_in_are_put_aside_and_stop_no_other(team: Store, file: Path) -> None:
    bad = ["x\n", spoil("record.identity.prompt_tokens", "many"), "[]\n"]
    file.write_text(f"{bad[0]}{to_line(make_entry())}{bad[1]}{to_line(make_entry(run=make_run('b')))}{bad[2]}")
    done = spool.take_in(team, file)
    aside = file.with_name("spool-a.rejected.jsonl")
    assert done.new == Replayed(cells=2)
    assert [line.number for line in done.rejected] == [1, 3, 5]
    assert done.describe_rejected(lambda path: path.name) == (
        "3 lines can never come in, put aside in spool-a.rejected.jsonl: "
        "line 1: expected a JSON object, got something else"
    )
    assert aside.read_text() == "".join(bad)
    assert aside.stat().st_mode & 0o777 == 0o600
    assert spool.find_waiting(file.parent) == []

    again = spool.take_in(team, aside)
    assert (again.new, len(again.rejected), again.aside) == (Replayed(), 3, aside), "a newer version may know them"
    assert aside.read_text() == "".join(bad)


class Failing:
    """A store that fails while a session goes on: it spools another cell meanwhile."""

    def __init__(self, file: Path, goes_on: bool) -> None:
        self._file = file
        self._goes_on = goes_on

    def take_in(self, entries: object) -> Replayed:
        if self._goes_on:
            spool.append(self._file, make_entry(run=make_run("meanwhile")))
        raise StoreError("team: gone")


@pytest.mark.parametrize("goes_on", [False, True])
def test_nothing_is_lost_where_taking_in_fails(team: Store, file: Path, goes_on: bool) -> None:
    spool.append(file, make_entry())
    file.write_text(f"x\n{file.read_text()}")
    with pytest.raises(StoreError, match="team: gone"):
        spool.take_in(Failing(file, goes_on), file)  # type: ignore[arg-type]
    waiting = spool.find_waiting(file.parent)
    assert len(waiting) == 1 + goes_on
    assert not file.with_name("spool-a.rejected.jsonl").exists()
    assert file in waiting
    assert sum(spool.take_in(team, path).new.cells for path in waiting) == 1 + goes_on
    assert spool.find_waiting(file.parent) == []


# --- baselines by hand, and from files


def force(store: Store, name: str = "main") -> list[int]:
    return [save.measurement_id for save in store.saves(name)]


def test_measurements_are_put_in_force_and_taken_out(store: Store) -> None:
    one, two = add(store, "a", make(), save_as="main"), add(store, "b", make(T0 + DAY))
    four = add(store, "c", make(T0 + DAY, cell=FOUR), save_as="main")
    saves = [Saved(measurement_id=two, cell_key=make_cell().key, saved_at=60.0, reason="accepted")]
    assert store.put_in_force("main", saves, add=True) == BaselineChange(came=1, went=0)
    assert store.put_in_force("main", saves) == BaselineChange(came=0, went=1)
    assert store.put_in_force("main", saves) == BaselineChange(came=0, went=0)
    assert store.saves("main") == [saves[0], *[save for save in store.saves("main") if save.measurement_id == four]]
    (names,) = store.baseline_names()
    assert (names.name, names.cells, names.runs, names.replaced) == ("main", 2, 2, 1)
    assert store.put_in_force("other", []) == BaselineChange(came=0, went=0)
    assert store.clear_baseline("main", [FOUR.key]) == 1
    assert store.clear_baseline("main", [FOUR.key]) == 0
    assert force(store) == [two]
    assert {found.id for found in store.measurements(Selection())} == {one, two, four}
    back = Saved(measurement_id=one, cell_key=make_cell().key, saved_at=T0 + DAY, reason="back")
    assert store.put_in_force("main", [back]) == BaselineChange(came=1, went=1)
    assert force(store) == [one]


def test_a_baseline_goes_from_store_to_store(store: Store, tmp_path: Path) -> None:
    add(store, "a", make(), *PASS, save_as="main")
    add(store, "b", make(T0 + DAY), *PASS, save_as="main")
    add(store, "c", make(T0 + DAY, cell=FOUR), save_as="main")
    add(store, "d", make(T0 + DAY, cell=FOUR), save_as="other")
    file = store.export_baseline("main", Selection())
    assert [saved.run.uid for saved in file.runs] == ["a", "b", "c"]
    assert [saved.run.uid for saved in store.export_baseline("main", Selection(containing="c4")).runs] == ["c"]
    with Store.open(str(tmp_path / "other.db")) as other:
        add(other, "old", make(T0 - DAY), save_as="main")
        assert other.import_baseline(file) == BaselineChange(came=3, went=1)
        assert other.import_baseline(file) == BaselineChange(came=0, went=0)
        assert other.export_baseline("main", Selection()) == file
        baselines = store.baselines("main")
        assert other.baselines("main") == {key: replace(found, later=()) for key, found in baselines.items()}
        add(other, "new", make(T0 + 2 * DAY), save_as="main")
        assert other.import_baseline(file, add=True) == BaselineChange(came=0, went=0)
        assert {run.status for run in other.runs(Selection(baselines=["main"])) if run.facts.uid != "new"} == {
            "finished"
        }


# --- pruning


def test_old_raw_samples_are_dropped_and_all_else_stays(
    url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_boobench.store.prune._CELLS_AT_ONCE", 2)
    many = [replace(sample, index=index) for index in range(200) for sample in make_samples()[:1]]
    old = [add(store, f"old{number}", make(T0 + number, samples=many), *PASS) for number in range(5)]
    replaced = add(store, "replaced", make(T0 + 10))
    store.record_verdicts(replaced, (), save_as=BaselineSave(name="main"))
    base = add(store, "base", make(T0 + 11))
    store.record_verdicts(base, (), save_as=BaselineSave(name="main"))
    new = add(store, "new", make(T0 + DAY))
    before = store.measurements(Selection()), store.baselines("main")

    would = store.prune(T0 + DAY, dry=True)
    assert (would.measurements, would.samples) == (6, 1003)
    assert would.bytes_before == would.bytes_after > 10_000
    assert len(store.samples(old)) == 5

    done = store.prune(T0 + DAY)
    assert (done.measurements, done.samples) == (6, 1003)
    assert done.bytes_after < done.bytes_before or "postgresql" in url, "which keeps the room for itself"
    assert set(store.samples([*old, replaced, base, new])) == {base, new}
    assert (store.measurements(Selection()), store.baselines("main")) == before
    again = store.prune(T0 + DAY)
    assert (again.measurements, again.samples) == (0, 0)


def test_a_pruned_measurement_is_exported_as_a_summary(store: Store, tmp_path: Path) -> None:
    one = add(store, "a", make())
    store.prune(T0 + DAY)
    store.put_in_force("main", [Saved(measurement_id=one, cell_key=make_cell().key, saved_at=T0, reason="")])
    (saved,) = store.export_baseline("main", Selection()).runs
    assert (saved.record.samples, saved.record.aggregates) == ((), make().aggregates)


def test_record_of_a_run_that_began_elsewhere(store: Store) -> None:
    """The same run's cells may be partly here, partly in the file."""
    facts: RunFacts = make_run("a")
    store.record(store.start_run(facts), make_record(FOUR, started_at=T0))
    store.take_in([make_entry(run=facts)])
    (run,) = store.runs(Selection())
    assert run.cells == 2
