"""Every schema that was released, as SQL with data in it: ``NNNN.sql``, made with ``python -m tests.schemas``.

The file of a released revision never changes. That of the newest one is made anew until it is released.
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from pytest_boobench.facts import Canary, ForeignRequest, ServerFacts, Traffic
from pytest_boobench.record import RunFacts, Verdict
from pytest_boobench.store import BaselineSave, Store, revisions
from pytest_boobench.store.replay import SpooledCell
from tests.making import make_cell, make_record, make_sample

FOLDER = Path(__file__).parent
T0 = 1_790_000_000.0
RUN = RunFacts(
    uid="a" * 32, session="b" * 32, suite="smoke", host="rack-1", started_at=T0, user="ann", machine="desk", cpu="Z80",
    git_commit="c" * 40, git_dirty=True, ci={"system": "gitlab"}, workers=2, plugin_version="0.1.0",
)  # fmt: skip
ENTRIES = [
    SpooledCell(
        store="",
        run=RUN,
        at=T0 + 60,
        record=make_record(
            make_cell(concurrency=lanes, sampling={"temperature": 0.5}, request={"a": [1]}),
            started_at=T0 + lanes,
            samples=[
                make_sample(phase="warmup", started_at=T0),
                *(
                    make_sample(index=n, started_at=T0 + n, decode_tok_s=50.0 + n, ttft_ms=20.5, chunk_ms=(20.5, 40.0))
                    for n in range(3)
                ),
            ],
            traffic=Traffic(in_flight_at_start=1, requests=(ForeignRequest(id="7"),), notes=("late",)),
            canaries=(Canary(copy_mb_s=9000.0, hash_mb_s=500.0),),
            server=ServerFacts(kind="llama-server", url="http://10.0.0.5:8080", engine_build="b1"),
            total_tok_s=12.5,
            load_ms=900.0,
        ),
        verdicts=(Verdict(metric="decode_tok_s", outcome="pass", now=51.0, baseline=50.0, change=0.02, allowed=0.1),),
        save_as=BaselineSave(name="main", reason="first"),
        status="finished",
    )
    for lanes in (1, 4)
]


def main() -> None:
    """Write the file of the newest revision."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        with Store.open(str(path)) as store:
            store.take_in(ENTRIES)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE bench_hosts SET first_seen_at = '2026-01-01 00:00:00.000000'")
            connection.execute("UPDATE bench_suites SET first_seen_at = '2026-01-01 00:00:00.000000'")
            lines = "\n".join(connection.iterdump())
    (FOLDER / f"{revisions.NEWEST}.sql").write_text(f"{lines}\n", encoding="utf-8")
