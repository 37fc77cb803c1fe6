"""A store with a history, for the tests of the verbs that read one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from pytest_boobench.metrics import Sample
from pytest_boobench.record import RunFacts, Verdict
from pytest_boobench.store import BaselineSave, Store
from pytest_boobench.suite.cell import Cell
from tests.making import make_cell, make_record, make_sample

DAY_S = 86_400.0
BEGAN_AT = 1_795_000_000.0
"""2026-11-18 11:06:40 UTC."""
_SCATTER = (0.0, 0.01, -0.01, 0.005, -0.005, 0.002, -0.002, 0.008, -0.008, 0.0)


def name_uid(text: str) -> str:
    """32 hex digits that a text always gives."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def make_samples(decode_tok_s: float, *, blocks: int = 2, prefill_tok_s: float = 2000.0) -> list[Sample]:
    """Ten samples a block, closely around a speed."""
    return [
        make_sample(
            block=block,
            index=index,
            decode_tok_s=decode_tok_s * (1 + off),
            prefill_tok_s=prefill_tok_s * (1 + off),
            ttft_ms=40.0 * (1 - off),
            e2e_ms=300.0 * (1 - off),
            prompt_tokens=64,
            output_tokens=8,
            clock="kernel",
            rate_source="server",
            chunk_ms=(40.0, 41.5, 43.0),
        )
        for block in range(1, blocks + 1)
        for index, off in enumerate(_SCATTER)
    ]


def add_session(
    store: Store,
    name: str,
    *speeds: tuple[Cell, float],
    day: float = 0.0,
    blocks: int = 2,
    save_as: str | None = None,
    verdicts: tuple[Verdict, ...] = (),
    run: Mapping[str, Any] | None = None,
    **record: Any,
) -> str:
    """One pytest session that measured each cell at a speed; gives back its uid. ``name`` makes uids and commit."""
    session = name_uid(f"session {name}")
    started_at = BEGAN_AT + day * DAY_S
    runs: dict[tuple[str, str], int] = {}
    for number, (cell, speed) in enumerate(speeds):
        fields: dict[str, Any] = {
            "uid": name_uid(f"run {name} {cell.host} {cell.suite}"),
            "session": session,
            "suite": cell.suite,
            "host": cell.host,
            "started_at": started_at,
            "machine": "bench",
            "git_commit": hashlib.sha1(name.encode()).hexdigest(),
        }
        facts = RunFacts(**{**fields, **(run or {})})
        if (cell.host, cell.suite) not in runs:
            runs[cell.host, cell.suite] = store.start_run(facts)
        measured = make_record(
            cell, **{"samples": make_samples(speed, blocks=blocks), "started_at": started_at + number, **record}
        )
        cell_id = store.record(runs[cell.host, cell.suite], measured)
        store.record_verdicts(cell_id, verdicts, save_as=BaselineSave(name=save_as, add=True) if save_as else None)
    for run_id in runs.values():
        store.finish_run(run_id, "finished")
    return session


ONE = make_cell()
FOUR = make_cell(concurrency=4, id="pp64-tg8-c4")
ELSEWHERE = make_cell(host="rack-2")
