"""How long the store takes to answer when it is full: ``python -m tests.benchmarks.store``.

1,000,000 samples in 10,000 runs of 10 cells each, 1,000 cells in all, a baseline of three runs for each; beside it a
store of the same cells with a tenth of the runs, which are ten of each cell. SQLite files, or a real PostgreSQL with
``--postgresql``. Medians; what is asked for is as much in both, but for the lines that say otherwise.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, create_engine, func, insert, select

from pytest_boobench.aggregate import condense
from pytest_boobench.record import CellRecord, RunFacts
from pytest_boobench.store import Selection, Store, tables
from pytest_boobench.store.column_types import moment
from pytest_boobench.store.engine import parse_url
from pytest_boobench.suite.cell import Cell
from tests.databases import make_database
from tests.making import make_cell, make_model, make_record, make_sample

HOSTS, SUITES, CELLS_PER_RUN, SAMPLES_PER_CELL = 10, 10, 10, 10
METRICS = ("decode_tok_s", "prefill_tok_s", "ttft_ms", "ttfo_ms", "queue_ms", "prompt_ms", "itl_ms", "e2e_ms")
HOUR_S = 3600.0
T0 = 1_760_000_000.0
ROUNDS = 5
RUNS_AT_ONCE = 100


def list_cells(place: int) -> list[Cell]:
    """The cells of one suite on one host."""
    names = {"suite": f"suite-{place // HOSTS}", "host": f"rack-{place % HOSTS}"}
    return [make_cell(**names, prompt_tokens=64 * (number + 1)) for number in range(CELLS_PER_RUN)]


def fill(url: str, runs: int) -> None:
    """A store with so many runs; every place is measured in turn, a run an hour."""
    Store.open(url).close()
    engine = create_engine(parse_url(url))
    chance = random.Random(1)
    keys = [list_cells(place) for place in range(HOSTS * SUITES)]
    with engine.begin() as connection:
        for table, prefix, number in ((tables.hosts, "rack", HOSTS), (tables.suites, "suite", SUITES)):
            rows = [{"id": n + 1, "name": f"{prefix}-{n}", "first_seen_at": moment(T0)} for n in range(number)]
            connection.execute(insert(table), rows)
    for first in range(0, runs, RUNS_AT_ONCE):
        with engine.begin() as connection:
            insert_runs(connection, range(first, min(first + RUNS_AT_ONCE, runs)), keys, chance)
    with engine.begin() as connection:
        insert_baselines(connection)
        if engine.dialect.name == "postgresql":  # which does not see the ids that were given to it
            for table in (tables.hosts, tables.suites, tables.runs, tables.cells):
                sequence = func.pg_get_serial_sequence(table.name, "id")
                connection.execute(select(func.setval(sequence, select(func.max(table.c.id)).scalar_subquery())))
        connection.exec_driver_sql("ANALYZE")
    engine.dispose()


def insert_runs(connection: Connection, numbers: range, keys: list[list[Cell]], chance: random.Random) -> None:
    """Runs with their cells, samples, aggregates and verdicts."""
    found: dict[Table, list[dict[str, Any]]] = {
        table: [] for table in (tables.runs, tables.cells, tables.samples, tables.aggregates, tables.verdicts)
    }
    for number in numbers:
        place = number % len(keys)
        found[tables.runs].append(make_run_row(number, place))
        for at, cell in enumerate(keys[place]):
            cell_id = number * CELLS_PER_RUN + at + 1
            found[tables.cells].append(make_cell_row(cell_id, number, cell))
            speeds = [chance.gauss(50.0, 1.0) for _ in range(SAMPLES_PER_CELL)]
            found[tables.samples] += (make_sample_row(cell_id, n, speed) for n, speed in enumerate(speeds))
            condensed = asdict(condense(speeds))  # type: ignore[call-overload]
            found[tables.aggregates] += ({"cell_id": cell_id, "metric": metric, **condensed} for metric in METRICS)
            found[tables.verdicts] += (make_verdict_row(cell_id, metric) for metric in METRICS[:2])
    for table, rows in found.items():
        connection.execute(insert(table), rows)


def make_run_row(number: int, place: int) -> dict[str, Any]:
    return {
        "id": number + 1,
        "uid": f"{number:032x}",
        "session": f"{number // HOSTS:032x}",
        "job_type": "bench",
        "host_id": place % HOSTS + 1,
        "suite_id": place // HOSTS + 1,
        "started_at": moment(T0 + number * HOUR_S),
        "git_commit": f"{number // 50:040x}",
        "ci": {},
        "metadata": {},
        "model_facts": {},
        "takeover": False,
        "workers": 1,
        "status": "finished",
    }


def make_cell_row(cell_id: int, number: int, cell: Cell) -> dict[str, Any]:
    identity = {name: value for name, value in cell.identity.items() if name not in ("suite", "host")}
    return {
        **identity,
        "id": cell_id,
        "run_id": number + 1,
        "node_id": f"{cell.suite}.boobench.yaml::{cell.host}::{cell.model}[pp{cell.prompt_tokens}]",
        "cell_key": cell.key,
        "started_at": moment(T0 + number * HOUR_S + cell_id % CELLS_PER_RUN),
        "samples": SAMPLES_PER_CELL,
        "failed": 0,
        "stalls": 0,
        "attempts": 1,
        "blocks": 1,
        "extended": "",
        "canaries": [],
        "clock": "kernel",
        "worker": "main",
        "engine_build": f"b{number // 5000}",
        "model_facts": asdict(make_model()),
    }


def make_sample_row(cell_id: int, index: int, speed: float) -> dict[str, Any]:
    return {
        "cell_id": cell_id,
        "phase": "measure",
        "lane": 0,
        "index": index,
        "block": 1,
        "attempt": 1,
        "reference": False,
        "started_at": moment(T0),
        "offset_ms": index * 300.0,
        "ttft_ms": 40.0,
        "e2e_ms": 300.0,
        "chunk_ms": [40.0, 60.1, 80.2, 100.3, 120.4, 140.5, 160.6, 180.7],
        "prompt_tokens": 64,
        "output_tokens": 8,
        "timings": {"prompt_n": 64, "prompt_ms": 39.1, "predicted_n": 8, "predicted_ms": 140.7},
        "decode_tok_s": speed,
        "prefill_tok_s": speed * 30,
        "blurred_chunks": 0,
        "stalls": 0,
        "clock_step": False,
    }


def make_verdict_row(cell_id: int, metric: str) -> dict[str, Any]:
    said = {"reason": "", "note": "", "proven": True, "judged_at": moment(T0)}
    return {"cell_id": cell_id, "metric": metric, "outcome": "pass", "now": 50.0, "allowed": 0.1, **said}


def insert_baselines(connection: Connection) -> None:
    """For each cell its first three measurements."""
    places = HOSTS * SUITES
    rows = [
        {
            "name": "main",
            "cell_key": cell.key,
            "cell_id": number * CELLS_PER_RUN + at + 1,
            "saved_at": moment(T0 + number * HOUR_S),
            "reason": "",
        }
        for number in range(3 * places)
        for at, cell in enumerate(list_cells(number % places))
    ]
    connection.execute(insert(tables.baselines), rows)


def list_questions(store: Store) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is timed, with the words for it."""
    keys = [cell.key for place in range(HOSTS * SUITES) for cell in list_cells(place)]
    newest = store.measurements(Selection(cell_keys=keys[:1], last=1))[0]
    uids = itertools.count()
    yield "baselines of 1,000 cells (7 and 10 later)", lambda: store.baselines("main")
    yield "baselines of one host's 100 cells (same)", lambda: store.baselines("main", hosts=["rack-1"])
    yield "history: one cell, last 10", lambda: store.measurements(Selection(cell_keys=keys[:1], last=10))
    yield "history: -k, 100 cells, last 10", lambda: store.measurements(Selection(containing="pp64]", last=10))
    yield "one session", lambda: store.measurements(Selection(sessions=[newest.run.session]))
    yield "report: 500 cells, last 10", lambda: store.measurements(Selection(cell_keys=keys[:500], last=10))
    yield "report: 500 cells, last 50 (10 and 50)", lambda: store.measurements(Selection(cell_keys=keys[:500], last=50))
    yield "samples of 100 measurements", lambda: store.samples(range(newest.id, newest.id - 100, -1))
    yield "a cell of 10 samples written", lambda: write_one(store, f"new-{next(uids)}")


def write_one(store: Store, uid: str) -> None:
    """A run with one cell."""
    cell = make_cell(suite="suite-0", host="rack-0")
    samples = [make_sample(index=index, decode_tok_s=50.0) for index in range(SAMPLES_PER_CELL)]
    record: CellRecord = make_record(cell, samples=samples, started_at=T0 + 1e9)
    facts = RunFacts(uid=f"{uid}-{time.time_ns()}", session=uid, suite=cell.suite, host=cell.host, started_at=T0)
    store.record(store.start_run(facts), record)


def time_ms(question: Callable[[], object]) -> float:
    """Median of some rounds, the first left out."""
    question()
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        question()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


def main() -> None:
    """Print a line for each question: ms with a tenth of the runs, with all, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgresql", action="store_true", help="on a real PostgreSQL instead of SQLite files")
    parser.add_argument("--runs", type=int, default=10_000, help="of the full store, from 3,000")
    asked = parser.parse_args()
    if asked.runs < 3_000:
        parser.error("a tenth of that has no three measurements of each cell; expected --runs from 3000")
    with tempfile.TemporaryDirectory() as folder:
        found: list[dict[str, float]] = []
        for runs in (asked.runs // 10, asked.runs):
            url = make_database() if asked.postgresql else str(Path(folder) / f"{runs}.db")
            began = time.perf_counter()
            fill(url, runs)
            with Store.open(url) as store:
                size = store.prune(0.0, dry=True).bytes_before
                samples = runs * CELLS_PER_RUN * SAMPLES_PER_CELL
                print(f"{runs:,} runs, {samples:,} samples, {size / 1e6:,.0f} MB; made in "
                      f"{time.perf_counter() - began:.0f} s", flush=True)  # fmt: skip
                found.append({words: time_ms(question) for words, question in list_questions(store)})
    few, many = found
    print(f"{'':44}{'a tenth':>10}{'all':>10}  ratio   (ms, medians of {ROUNDS})")
    for words, took in many.items():
        print(f"{words:44}{few[words]:10.1f}{took:10.1f}{took / few[words]:7.2f}")


if __name__ == "__main__":
    main()
