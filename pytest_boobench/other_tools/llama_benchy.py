"""Room 5: llama-benchy's ``--format json``: lists of each metric's values, a value a request.

https://github.com/eugr/llama-benchy
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_boobench.aggregate import Aggregate, condense
from pytest_boobench.metrics import Sample
from pytest_boobench.other_tools.findings import Fields, Findings
from pytest_boobench.other_tools.result_file import ResultFile
from pytest_boobench.other_tools.tool_cells import Setting, ToolCell, ToolResults

_METRICS = {
    "pp_req_throughput": "prefill_tok_s",
    "tg_req_throughput": "decode_tok_s",
    "e2e_ttft": "ttft_ms",
}
"""Its metric of single requests -> ours."""


def is_ours(first: Mapping[str, Any]) -> bool:
    """Whether a file that is this object is llama-benchy's."""
    return {"benchmarks", "latency_mode"} <= first.keys() or {"benchmarks", "prefix_caching_enabled"} <= first.keys()


def read(file: ResultFile, findings: Findings) -> ToolResults:
    """All benchmarks of a file."""
    (report,) = file.objects(findings)[:1]
    model = report.text("model") or "model"
    cached = report.source.get("prefix_caching_enabled") is True
    started_at = report.date("timestamp", "2026-11-24 09:30:00Z")
    latency_ms = report.number("latency_ms", least=0.0)
    if latency_ms:
        findings.remark(f"took {latency_ms:.3g} ms of latency off each prompt's time: its prefill is without them")
    cells = [_read_cell(run, model, started_at, cached=cached) for run in report.children("benchmarks")]
    return ToolResults(
        version=report.text("version"),
        cells=tuple(cell for cell in cells if cell is not None),
        metadata={
            name: value
            for name, value in (("latency_mode", report.text("latency_mode")), ("latency_ms", latency_ms))
            if value is not None
        },
    )


def _read_cell(run: Fields, model: str, started_at: float | None, *, cached: bool) -> ToolCell | None:
    values = {
        key: run.child(name).numbers("values") for name, key in _METRICS.items() if run.source.get(name) is not None
    }
    requests = max(map(len, values.values()), default=0)
    if not requests:
        run.leave_out("tg_req_throughput, pp_req_throughput and e2e_ttft have no values, expected one for each request")
        return None
    depth, context = run.count("context_size") or 0, run.source.get("is_context_prefill_phase") is True
    settings = {"context_size": Setting("d", depth)} if depth else {}
    if context:
        settings["is_context_prefill_phase"] = Setting("ctx", "")
    elif depth and cached:
        settings["prefix_caching_enabled"] = Setting("prefix", "")
    lanes = run.count("concurrency") or 1
    whole = {key: each for key, each in values.items() if len(each) == requests}
    return ToolCell(
        place=run.where,
        model=model,
        kind="chat",
        prompt_tokens=(depth if context else None) or run.count("prompt_size") or None,
        output_tokens=run.count("response_size") or None,
        concurrency=lanes,
        length="natural",
        settings=settings,
        started_at=started_at,
        samples=_make_samples(whole, requests, lanes, started_at or 0.0),
        aggregates=_condense_rest(run, values, whole, requests),
    )


def _make_samples(values: Mapping[str, list[Any]], requests: int, lanes: int, at: float) -> tuple[Sample, ...]:
    """Requests are sent in rounds of as many as there are lanes, each round after the end of the one before."""
    return tuple(
        Sample(
            phase="measure",
            lane=index % lanes,
            index=index,
            started_at=at,
            offset_ms=0.0,
            rate_source="client",
            **{key: each[index] for key, each in values.items()},
        )
        for index in range(requests)
    )


def _condense_rest(
    run: Fields, values: Mapping[str, list[float | None]], whole: Mapping[str, Any], requests: int
) -> dict[str, Aggregate]:
    """Of lists that lack requests nobody knows which: their values count without the requests they are of."""
    found = {}
    for name, key in _METRICS.items():
        if key not in values or key in whole:
            continue
        aggregate = condense(value for value in values[key] if value is not None)
        if aggregate is not None:
            found[key] = aggregate
        run.findings.remark(
            f"{run.place(name)} has values of {len(values[key])} of {requests} requests: llama-benchy drops the others"
        )
    return found
