"""Finished facts for the tests of the pure rooms: what a test does not name is ordinary."""

from __future__ import annotations

from typing import Any

from pytest_boobench.aggregate import Aggregate, condense, summarize
from pytest_boobench.facts import ModelFacts, ServerFacts
from pytest_boobench.metrics import Sample
from pytest_boobench.record import Baseline, BaselineRun, CellRecord, identify
from pytest_boobench.suite.cell import Cell, Plan


def make_cell(**changed: Any) -> Cell:
    fields: dict[str, Any] = {
        "suite": "smoke",
        "host": "rack-1",
        "model": "qwen",
        "kind": "chat",
        "prompt_tokens": 64,
        "output_tokens": 8,
        "concurrency": 1,
        "sampling": {},
        "request": {},
        "cache": "cold",
        "plan": Plan(),
        "id": "pp64-tg8-c1",
        "line": 1,
    }
    return Cell(**{**fields, **changed})


def make_sample(**changed: Any) -> Sample:
    fields: dict[str, Any] = {
        "phase": "measure",
        "lane": 0,
        "index": 0,
        "started_at": 1_795_500_000.0,
        "offset_ms": 0.0,
    }
    return Sample(**{**fields, **changed})


def make_model(**changed: Any) -> ModelFacts:
    return ModelFacts(
        **{"name": "qwen", "n_params": 8_000_000, "size_bytes": 16_000_000, "quantisation": "Q8_0", **changed}
    )


def make_record(cell: Cell | None = None, **changed: Any) -> CellRecord:
    cell = cell or make_cell()
    samples = changed.pop("samples", ())
    fields: dict[str, Any] = {
        "started_at": 1_795_500_000.0,
        "samples": tuple(samples),
        "aggregates": summarize(samples, cell.kind),
        "server": ServerFacts(kind="llama-server", url="http://10.0.0.5:8080", engine_build="b11549"),
        "model": make_model(),
    }
    return identify(cell, f"chat.boobench.yaml::{cell.host}::{cell.model}[{cell.id}]", **{**fields, **changed})


def aggregate_of(*values: float) -> Aggregate:
    found = condense(values)
    assert found is not None
    return found


def make_baseline(*medians: float, metric: str = "decode_tok_s", **changed: Any) -> Baseline:
    fields: dict[str, Any] = {"model": make_model(), "engine_build": "b11000", "git_commit": "0123456789abcdef"}
    runs = tuple(
        BaselineRun(
            run_uid=f"run-{number}",
            session="session-1",
            measured_at=1_795_400_000.0 + number,
            saved_at=1_795_400_000.0 + number,
            aggregates={metric: aggregate_of(median)},
            **{**fields, **changed},
        )
        for number, median in enumerate(medians)
    )
    return Baseline(name="main", cell_key=make_cell().key, suite="smoke", runs=runs)
