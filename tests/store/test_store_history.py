"""Room 5: what is read back: measurements and runs as they are selected, and what came after a baseline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Select, create_engine, event, select, update

from pytest_boobench.facts import Canary, ForeignRequest, ServerFacts, Traffic
from pytest_boobench.metrics import Sample
from pytest_boobench.record import CellRecord, Measurement, RunFacts, Verdict
from pytest_boobench.store import BaselineSave, Selection, Store, StoredRun, tables
from pytest_boobench.store.engine import parse_url
from tests.databases import BACKENDS
from tests.making import make_cell, make_model, make_record, make_sample
from tests.stored import add_session, name_uid

T0 = 1_800_000_000.0
DAY = 86_400.0
PASS = (Verdict(metric="decode_tok_s", outcome="pass", allowed=0.1),)


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return BACKENDS[request.param](tmp_path)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store.open(url) as store:
        yield store


def make_run(uid: str, **changed: Any) -> RunFacts:
    fields: dict[str, Any] = {"session": f"s-{uid}", "suite": "smoke", "host": "rack-1", "started_at": T0}
    return RunFacts(uid=uid, **{**fields, **changed})


def make_samples(block: int = 1, speed: float = 100.0) -> list[Sample]:
    return [
        make_sample(block=block, index=index, decode_tok_s=speed + index, ttft_ms=20.0, prompt_ms=15.0, clock="kernel")
        for index in range(3)
    ]


def add(store: Store, uid: str, record: CellRecord, *verdicts: Verdict, save_as: str | None = None, **run: Any) -> int:
    """One run with one measurement; gives back the measurement's id."""
    cell_id = store.record(store.start_run(make_run(uid, **run)), record)
    store.record_verdicts(cell_id, verdicts, save_as=BaselineSave(name=save_as, add=True) if save_as else None)
    return cell_id


def make(at: float = T0, **changed: Any) -> CellRecord:
    cell = changed.pop("cell", None)
    return make_record(cell, started_at=at, **{"samples": make_samples(), **changed})


# --- measurements


def test_a_measurement_comes_back_as_it_was(store: Store) -> None:
    traffic = Traffic(
        in_flight_at_start=1,
        concurrent_foreign_requests=2,
        foreign_tokens=30,
        model_swaps=1,
        requests=(ForeignRequest(id="7", model="qwen", age_s=1.5, queued=True),),
        notes=("counted late",),
    )
    samples = [*make_samples(), make_sample(index=3, failure="status", failure_text="500")]
    record = make(
        samples=samples,
        traffic=traffic,
        total_tok_s=55.5,
        load_ms=1200.0,
        canaries=(Canary(copy_mb_s=9000.0, hash_mb_s=500.0), Canary(copy_mb_s=7000.0, hash_mb_s=400.0)),
        extended="block 2: decode",
        reference_host="rack-2",
        reference=ServerFacts(kind="llama-server", url="http://10.0.0.6:8080"),
    )
    run = make_run(
        "a", user="ann", machine="desk", cpu="Z80", git_commit="c0ffee", git_dirty=True, ci={"system": "gitlab"},
        workers=2, plugin_version="1", metadata={"driver": 560},
    )  # fmt: skip
    cell_id = store.record(store.start_run(run), record)
    store.record_verdicts(cell_id, PASS, save_as=BaselineSave(name="main"))
    store.record_verdicts(cell_id, (), save_as=BaselineSave(name="also"))
    assert record.spoiled is not None
    assert store.measurements(Selection()) == [
        Measurement(
            id=cell_id,
            run=run,
            node_id=record.node_id,
            cell_key=record.cell_key,
            identity=record.identity,
            started_at=T0,
            aggregates=record.aggregates,
            verdicts=PASS,
            total_tok_s=55.5,
            model=make_model(),
            engine_build="b11549",
            samples=4,
            failed=1,
            extended="block 2: decode",
            load_ms=1200.0,
            clock="kernel",
            canary=Canary(copy_mb_s=8000.0, hash_mb_s=450.0),
            traffic=traffic,
            reference_host="rack-2",
            spoiled=record.spoiled,
            baselines=("also", "main"),
        )
    ]


def test_what_is_not_known_stays_blank(store: Store) -> None:
    add(store, "a", make(samples=(), server=None, model=None, error="rack-1: gone"))
    (found,) = store.measurements(Selection())
    assert (found.error, found.spoiled, found.samples, found.aggregates) == ("rack-1: gone", "rack-1: gone", 0, {})
    assert (found.model, found.engine_build, found.traffic, found.canary, found.verdicts) == (
        None,
        None,
        None,
        None,
        (),
    )


def test_only_the_named_metrics_are_read(store: Store) -> None:
    add(store, "a", make())
    (found,) = store.measurements(Selection(), metrics=["ttft_ms"])
    assert list(found.aggregates) == ["ttft_ms"]


FOUR = make_cell(concurrency=4, id="pp64-tg8-c4")
OTHER = make_cell(suite="night_ly", host="rack-2", model="llama", id="100%")


@pytest.fixture
def years(store: Store) -> dict[str, int]:
    """Name -> measurement: two cells on three days, another suite, host and model on the last of them."""
    found = {}
    for day in range(3):
        run = {"git_commit": f"{day}c0ffee", "session": f"s{day}"}
        build = ServerFacts(kind="llama-server", url="", engine_build=f"b{day}")
        for name, cell in (("one", make_cell()), ("four", FOUR)):
            record = make(T0 + day * DAY, cell=cell, server=build)
            found[f"{name}-{day}"] = add(store, f"{name}{day}", record, save_as="main" if day == 1 else None, **run)
    run = {"session": "s2", "suite": "night_ly", "host": "rack-2"}
    found["other"] = add(store, "other", make(T0 + 2 * DAY + 60, cell=OTHER), **run)
    return found


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        (Selection(), "one-0 four-0 one-1 four-1 one-2 four-2 other"),
        (Selection(suites=["smoke"], last=1), "one-2 four-2"),
        (Selection(suites=["night_ly"]), "other"),
        (Selection(hosts=["rack-2", "rack-9"]), "other"),
        (Selection(models=["llama"]), "other"),
        (Selection(cell_keys=[FOUR.key]), "four-0 four-1 four-2"),
        (Selection(cell_keys=[FOUR.key], last=2), "four-1 four-2"),
        (Selection(runs=["one"]), "one-0 one-1 one-2"),
        (Selection(runs=["one1", "other"]), "one-1 other"),
        (Selection(sessions=["s1"]), "one-1 four-1"),
        (Selection(commits=["1c0"]), "one-1 four-1"),
        (Selection(builds=["b0"]), "one-0 four-0"),
        (Selection(baselines=["main"]), "one-1 four-1"),
        (Selection(baselines=["main"], cell_keys=[FOUR.key], last=5), "four-1"),
        (Selection(containing="C4]"), "four-0 four-1 four-2"),
        (Selection(containing="100%"), "other"),
        (Selection(containing="%"), "other"),
        (Selection(suites=["night%"]), ""),
        (Selection(runs=["o_e"]), ""),
        (Selection(since=T0 + DAY), "one-1 four-1 one-2 four-2 other"),
        (Selection(until=T0 + DAY), "one-0 four-0"),
        (Selection(until=T0 + 2 * DAY, last=1), "one-1 four-1"),
        (Selection(commits=["0c0", "1c0"], last=1), "one-1 four-1"),
        (Selection(last=1), "one-2 four-2 other"),
        (Selection(last=9), "one-0 four-0 one-1 four-1 one-2 four-2 other"),
    ],
    ids=str,
)
def test_selections(store: Store, years: dict[str, int], selection: Selection, names: str) -> None:
    name_of = {cell_id: name for name, cell_id in years.items()}
    assert [name_of[found.id] for found in store.measurements(selection)] == names.split()


def test_the_newest_are_counted_where_several_began_in_one_moment(store: Store) -> None:
    ids = [add(store, str(number), make()) for number in range(5)]
    assert [found.id for found in store.measurements(Selection(last=2))] == ids[-2:]


def test_runs_with_what_they_came_to(store: Store) -> None:
    first = store.start_run(make_run("a"))
    store.record(first, make())
    store.record(first, make(cell=FOUR, error="rack-1: gone"))
    store.finish_run(first, "finished")
    store.finish_run(first, "interrupted")
    second = store.start_run(make_run("b", started_at=T0 - DAY))
    store.record(second, make(server=None))
    store.start_run(make_run("without cells"))
    found = store.runs(Selection())
    assert [run.facts for run in found] == [make_run("b", started_at=T0 - DAY), make_run("a")]
    assert found[0] == StoredRun(
        facts=make_run("b", started_at=T0 - DAY),
        status="running",
        finished_at=None,
        engine_build=None,
        cells=1,
        errors=0,
    )
    ended = found[1]
    assert (ended.status, ended.engine_build, ended.cells, ended.errors) == ("finished", "b11549", 2, 1)
    assert ended.finished_at is not None
    assert [run.facts.uid for run in store.runs(Selection(cell_keys=[FOUR.key]))] == ["a"]


def test_samples_come_back_as_they_were(store: Store) -> None:
    samples = (
        make_sample(phase="warmup", chunk_ms=(1.5, 2.5)),
        make_sample(
            block=2,
            attempt=2,
            reference=True,
            timings={"a": [1, None]},
            failure="status",
            failure_text="500",
            status=500,
        ),
    )
    one = add(store, "a", make(samples=samples))
    two = add(store, "b", make(samples=()))
    three = add(store, "c", make())
    assert store.samples([one, two, three]) == {one: samples, three: tuple(make_samples())}
    assert store.samples([]) == {}


# --- cells that blocks are added to


def rows(url: str, query: Select[Any]) -> list[tuple[Any, ...]]:
    engine = create_engine(parse_url(url))
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(query)]
    engine.dispose()
    return found


def test_a_cell_is_extended_by_its_new_blocks(url: str, store: Store) -> None:
    first = make(samples=make_samples(1))
    cell_id = add(store, "a", first, *PASS)
    both = make(
        samples=[*make_samples(1), *make_samples(2, speed=50.0)],
        extended="block 2: decode",
        canaries=(Canary(copy_mb_s=1.0, hash_mb_s=2.0),),
        traffic=Traffic(concurrent_foreign_requests=1),
    )
    store.extend(cell_id, both)
    (found,) = store.measurements(Selection())
    assert (found.blocks, found.samples, found.extended) == (2, 6, "block 2: decode")
    assert (found.aggregates, found.verdicts) == (both.aggregates, ()), "verdicts were on less"
    assert (found.canary, found.spoiled) == (Canary(copy_mb_s=1.0, hash_mb_s=2.0), both.spoiled)
    assert store.samples([cell_id]) == {cell_id: both.samples}
    store.extend(cell_id, both)
    assert store.samples([cell_id]) == {cell_id: both.samples}
    (run,) = rows(url, select(tables.runs.c.concurrent_foreign_requests))
    assert run == (1,), "counted once, however often the cell is extended"


def test_another_attempt_at_a_block_is_new_too(store: Store) -> None:
    cell_id = add(store, "a", make(samples=make_samples(1)))
    again = [replace(sample, attempt=2) for sample in make_samples(1)]
    store.extend(cell_id, make(samples=[*make_samples(1), *again], error="rack-1: died"))
    (found,) = store.measurements(Selection())
    assert (found.samples, found.attempts, found.error) == (3, 2, "rack-1: died")
    assert len(store.samples([cell_id])[cell_id]) == 6


# --- what came after a baseline


def later_of(store: Store) -> list[str]:
    (baseline,) = store.baselines("main").values()
    return [run.run_uid for run in baseline.later]


def test_later_runs_that_passed_come_with_a_baseline(store: Store) -> None:
    add(store, "before", make(T0 - DAY), *PASS)
    add(store, "old", make(T0), *PASS, save_as="main")
    add(store, "newest", make(T0 + DAY), *PASS, save_as="main")
    better = Verdict(metric="prefill_tok_s", outcome="improvement")
    add(store, "passed", make(T0 + 2 * DAY), *PASS, better)
    add(store, "regressed", make(T0 + 3 * DAY), *PASS, Verdict(metric="prefill_tok_s", outcome="regression"))
    add(store, "unjudged", make(T0 + 4 * DAY))
    add(store, "doubtful", make(T0 + 5 * DAY), Verdict(metric="decode_tok_s", outcome="inconclusive"))
    add(store, "another cell", make(T0 + 6 * DAY, cell=FOUR), *PASS)
    add(store, "disturbed", make(T0 + 7 * DAY, traffic=Traffic(model_swaps=1)), *PASS)
    add(store, "failed", make(T0 + 8 * DAY, error="rack-1: gone"), *PASS)
    add(store, "passed too", make(T0 + 9 * DAY), *PASS)
    (baseline,) = store.baselines("main").values()
    assert [run.run_uid for run in baseline.runs] == ["old", "newest"]
    assert later_of(store) == ["passed", "passed too"]
    newest = baseline.later[-1]
    assert (newest.measured_at, newest.saved_at) == (T0 + 9 * DAY, T0 + 9 * DAY)
    assert newest.aggregates == {"decode_tok_s": make().aggregates["decode_tok_s"]}, "what was judged"


@pytest.mark.parametrize(
    ("baseline", "after", "taught"),
    [
        ({}, {}, True),
        ({}, {"server": ServerFacts(kind="llama-server", url="", engine_build="b2")}, False),
        ({"server": None}, {"server": None}, False),
        ({}, {"model": make_model(quantisation="Q4_0")}, False),
        ({"command": "s -b 1"}, {"command": "s -b 2"}, False),
        ({"command": "s -b 1"}, {"command": "s -b 1"}, True),
        ({"command": "s -b 1"}, {}, True),
        ({"driver": "nvidia 550.1"}, {"driver": "nvidia 560.2"}, False),
        ({}, {"model": make_model(path="/elsewhere/model.gguf")}, True),
        ({}, {"model": None}, True),
        ({"model": None}, {}, True),
    ],
    ids=str,
)
def test_later_runs_are_of_the_same_build_model_file_flags_and_driver(
    store: Store, baseline: dict[str, Any], after: dict[str, Any], taught: bool
) -> None:
    add(store, "base", make(T0, **baseline), *PASS, save_as="main")
    add(store, "after", make(T0 + DAY, **after), *PASS)
    assert later_of(store) == (["after"] if taught else [])


def test_later_runs_are_half_an_hour_apart_and_ten_at_most(store: Store) -> None:
    add(store, "base", make(T0), *PASS, save_as="main")
    for number in range(40):
        add(store, str(number), make(T0 + 1000.0 * (number + 1)), *PASS)
    assert later_of(store) == [str(number) for number in range(21, 40, 2)]


def test_the_newest_thirty_are_all_that_is_looked_at(store: Store) -> None:
    add(store, "base", make(T0), *PASS, save_as="main")
    for number in range(33):
        good = number in (2, 30)
        outcome = PASS if good else (Verdict(metric="decode_tok_s", outcome="regression"),)
        add(store, str(number), make(T0 + DAY * (number + 1)), *outcome)
    assert later_of(store) == ["30"]


# --- what reading costs


def count_queries(store: Store, read: Any) -> int:
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        read()
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    return sum(statement.startswith(("SELECT", "WITH")) for statement in seen)


def test_reading_costs_a_handful_of_queries_however_much_there_is(store: Store) -> None:
    costs = []
    for size in (1, 12):
        for number in range(size):
            add(store, f"{size}/{number}", make(T0 + number * DAY), *PASS, save_as="main")
            add(store, f"{size}/{number} later", make(T0 + (100 + number) * DAY), *PASS)
        costs.append(
            (
                count_queries(store, lambda: store.baselines("main")),
                count_queries(store, lambda: store.measurements(Selection(last=50))),
                count_queries(store, lambda: store.samples(range(1, 50))),
            )
        )
    assert costs[0] == costs[1] == (5, 4, 1)


@pytest.mark.parametrize("size", [5, 12])
def test_ids_are_asked_for_in_as_many_statements_as_databases_need(
    store: Store, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("pytest_boobench.store.reads._IDS_AT_ONCE", 5)
    ids = [add(store, str(number), make()) for number in range(size)]
    assert sorted(store.samples(ids)) == ids
    assert all(found.aggregates for found in store.measurements(Selection()))


def test_model_facts_of_a_newer_version_are_read(url: str, store: Store) -> None:
    add(store, "a", make(traffic=Traffic(requests=(ForeignRequest(id="7"),))), save_as="main")
    engine = create_engine(parse_url(url))
    with engine.begin() as connection:
        newer = {"model_facts": {"name": "x", "rope": 1}, "foreign_requests": [{"id": "8", "tls": True}]}
        connection.execute(update(tables.cells).values(newer))
    engine.dispose()
    (found,) = store.measurements(Selection())
    assert found.model is not None
    assert found.traffic is not None
    assert (found.model.name, found.traffic.requests[0].id) == ("x", "8")


def test_looks_are_undisturbed_and_of_other_sessions(store: Store) -> None:
    cell = make_cell()
    good, bad = Verdict(metric="decode_tok_s", outcome="pass"), Verdict(metric="decode_tok_s", outcome="regression")
    add_session(store, "first", (cell, 50.0), day=0, verdicts=(good,), driver="550")
    add_session(store, "red", (cell, 40.0), day=1, verdicts=(bad,), driver="550")
    add_session(store, "other build", (cell, 60.0), day=2, verdicts=(good,), driver="560")
    add_session(store, "failed", (cell, 50.0), day=3, verdicts=(good,), error="no answer")
    add_session(store, "not judged", (cell, 50.0), day=4)
    add_session(store, "this one", (cell, 70.0), day=5, verdicts=(good,), driver="560")
    looks = store.looks(but_session=name_uid("session this one"))
    assert [look.session for look in looks] == [name_uid(f"session {name}") for name in ("other build", "red", "first")]
    assert [look.medians["decode_tok_s"] for look in looks] == pytest.approx([60.0, 40.0, 50.0])
    assert [look.settled for look in looks] == [True, False, True]
    assert looks[0].series != looks[1].series == looks[2].series
    assert {look.host for look in looks} == {cell.host}
    assert store.looks(hosts={"elsewhere"}) == []
