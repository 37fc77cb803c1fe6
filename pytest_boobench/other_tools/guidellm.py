"""Room 5: GuideLLM's ``benchmarks.json``: a benchmark for each strategy, with its requests or without.

https://github.com/vllm-project/guidellm
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pytest_boobench.aggregate import Aggregate
from pytest_boobench.metrics import Kind
from pytest_boobench.other_tools.findings import Fields, Findings
from pytest_boobench.other_tools.requests import ToolRequest, make_samples
from pytest_boobench.other_tools.result_file import ResultFile
from pytest_boobench.other_tools.tool_cells import Setting, ToolCell, ToolResults
from pytest_boobench.untrusted import to_natural, to_object, to_objects, to_text

_SUMMED = {"time_to_first_token_ms": ("ttft_ms", 1.0), "request_latency": ("e2e_ms", 1000.0)}
"""Its metric -> ours, and the factor to our unit."""
_PERCENTILES = ("p10", "p25", "p50", "p75", "p90", "p95", "p99")
_LISTS = {"successful": None, "errored": "failed", "incomplete": "was not complete at the end"}
"""Its lists of requests -> what is said of a request in it that says nothing itself."""


def is_ours(first: Mapping[str, Any]) -> bool:
    """Whether a file that is this object is GuideLLM's."""
    benchmarks = to_objects(first.get("benchmarks"))
    return "guidellm_version" in to_object(first.get("metadata")) or any("scheduler_state" in one for one in benchmarks)


def read(file: ResultFile, findings: Findings) -> ToolResults:
    """All benchmarks of a file."""
    (report,) = file.objects(findings)[:1]
    spec = report.child("config").child("spec") if report.source.get("config") is not None else report.child("args")
    cells = [_read_benchmark(one, spec) for one in report.children("benchmarks")]
    backend = to_object(spec.source.get("backend"))
    target = to_text(backend.get("target")) or to_text(spec.source.get("target"))
    return ToolResults(
        version=report.child("metadata").text("guidellm_version"),
        cells=tuple(cell for cell in cells if cell is not None),
        metadata={"url": target} if target and "@" not in target else {},
    )


def _read_benchmark(benchmark: Fields, spec: Fields) -> ToolCell | None:
    strategy = benchmark.child("config" if "config" in benchmark.source else "args").child("strategy")
    requests, complete = _read_requests(benchmark)
    lanes = strategy.count("streams") or strategy.count("max_concurrency") or 1
    samples = make_samples(requests, lanes, _find_kind(spec))
    aggregates = {} if complete else _read_summaries(benchmark.child("metrics"))
    if not samples and not aggregates:
        benchmark.leave_out("requests and metrics hold nothing, expected requests, or metrics with their percentiles")
        return None
    rate = strategy.number("rate") if strategy.source.get("type_") in ("constant", "poisson") else None
    prompt, output = _find_asked(spec)
    total = benchmark.child("metrics").child("output_tokens_per_second").child("successful")
    return ToolCell(
        place=benchmark.where,
        model=_find_model(benchmark, spec),
        kind=_find_kind(spec),
        prompt_tokens=prompt,
        output_tokens=output,
        means=_read_means(benchmark),
        concurrency=lanes,
        length=None if samples else "natural",
        settings=_name_strategy(strategy, rate),
        started_at=benchmark.moment("start_time"),
        samples=samples,
        aggregates=aggregates,
        total_tok_s=total.number("mean"),
    )


def _name_strategy(strategy: Fields, rate: float | None) -> dict[str, Setting]:
    """Closed loops are lanes; what sends requests at a rate, or all at once, is something else."""
    kind = strategy.text("type_") or ""
    if kind in ("", "synchronous", "concurrent"):
        return {}
    return {"strategy": Setting("", kind), **({"rate": Setting("rate", rate)} if rate else {})}


def _read_requests(benchmark: Fields) -> tuple[list[ToolRequest], bool]:
    """The requests, and whether these are all of the good ones."""
    lists = benchmark.child("requests")
    found = [
        request
        for name, flaw in _LISTS.items()
        for entry in lists.children(name)
        if (request := _read_request(entry, flaw)) is not None
    ]
    first = min((request.started_at for request in found), default=0.0)
    moved = [_move(request, first) for request in found]
    good = benchmark.child("metrics").child("request_totals").count("successful")
    listed = sum(request.failure is None for request in found)
    if good is not None and 0 < listed < good:
        benchmark.findings.remark(f"{lists.where} has {listed} of {good} requests: statistics are those of the file")
    return moved, bool(listed) and (good is None or listed >= good)


def _move(request: ToolRequest, first: float) -> ToolRequest:
    return replace(request, offset_ms=(request.started_at - first) * 1000)


def _read_request(entry: Fields, flaw: str | None) -> ToolRequest | None:
    info = to_object(entry.source.get("info"))
    at = entry.moment("request_start_time") or entry.moment("start_time")
    if at is None:
        entry.leave_out("request_start_time is missing, expected seconds since 1970")
        return None
    latency_s, output = entry.number("request_latency"), entry.count("output_tokens")
    gap_ms = entry.number("inter_token_latency_ms", least=0.0)
    error = to_text(info.get("error")) or to_text(entry.source.get("error")) or flaw
    return ToolRequest(
        started_at=at,
        ttft_ms=entry.number("time_to_first_token_ms"),
        ttfo_ms=entry.number("time_to_first_output_token_ms"),
        e2e_ms=latency_s * 1000 if latency_s is not None else None,
        # its mean gap is (last token - first token) / (tokens - 1)
        decode_ms=gap_ms * (output - 1) if gap_ms is not None and output else None,
        prompt_tokens=entry.count("prompt_tokens") or None,
        cached_tokens=entry.count("cached_tokens"),
        output_tokens=output or None,
        failure=error if flaw is not None else None,
    )


def _read_summaries(metrics: Fields) -> dict[str, Aggregate]:
    found = {}
    for name, (key, factor) in _SUMMED.items():
        if metrics.source.get(name) is None:
            continue
        aggregate = _read_summary(metrics.child(name).child("successful"), factor)
        if aggregate is not None:
            found[key] = aggregate
    return found


def _read_summary(summary: Fields, factor: float) -> Aggregate | None:
    count, percentiles = summary.count("count"), summary.child("percentiles")
    if not count:
        return None
    values = {name: percentiles.number(name) for name in _PERCENTILES}
    values |= {name: summary.number(name) for name in ("mean", "median", "min", "max")}
    if missing := [name for name, value in values.items() if value is None]:
        summary.findings.remark(f"{summary.where} stands without {', '.join(missing)}: a comparison needs them all")
        return None
    deviation = summary.number("std_dev", least=0.0)
    known = {name: value * factor for name, value in values.items() if value is not None}
    # its deviation has n in the denominator
    spread = deviation * factor * math.sqrt(count / (count - 1)) if deviation is not None and count > 1 else None
    return Aggregate(n=count, stdev=spread, **known)


def _read_means(benchmark: Fields) -> dict[str, int]:
    metrics = benchmark.child("metrics")
    names = {"prompt_tokens": "prompt_token_count", "output_tokens": "output_token_count"}
    means = {axis: metrics.child(name).child("successful").number("mean", least=0.0) for axis, name in names.items()}
    return {axis: max(1, round(mean)) for axis, mean in means.items() if mean and mean > 0}


def _find_asked(spec: Fields) -> tuple[int | None, int | None]:
    """Lengths of synthetic prompts and answers."""
    data = to_objects(spec.source.get("data"))
    first = data[0] if data else {}
    return to_natural(first.get("prompt_tokens")), to_natural(first.get("output_tokens"))


def _find_model(benchmark: Fields, spec: Fields) -> str:
    old = to_object(to_object(benchmark.source.get("benchmarker")).get("backend"))
    found = (to_object(spec.source.get("backend")).get("model"), spec.source.get("model"), old.get("model"))
    return next((name for each in found if (name := to_text(each))), "")


def _find_kind(spec: Fields) -> Kind:
    backend = to_object(spec.source.get("backend"))
    path = to_text(backend.get("request_format")) or to_text(spec.source.get("request_type")) or "chat"
    return "chat" if "chat" in path or "responses" in path else "embedding" if "embedding" in path else "completion"
