"""Room 5: NVIDIA AIPerf: ``profile_export_aiperf.json``, its summary, and ``profile_export.jsonl``, its requests.

https://github.com/ai-dynamo/aiperf
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pytest_boobench.aggregate import Aggregate
from pytest_boobench.metrics import Kind, Length
from pytest_boobench.other_tools.findings import Fields, Findings
from pytest_boobench.other_tools.requests import ToolRequest, count_lanes, make_samples
from pytest_boobench.other_tools.result_file import ResultFile
from pytest_boobench.other_tools.tool_cells import Setting, ToolCell, ToolResults
from pytest_boobench.untrusted import clean, show, to_number, to_object, to_objects, to_text

_SUMMED = {
    "output_token_throughput_per_user": "decode_tok_s",
    "prefill_throughput_per_user": "prefill_tok_s",
    "time_to_first_token": "ttft_ms",
    "time_to_first_output_token": "ttfo_ms",
    "inter_chunk_latency": "itl_ms",
    "request_latency": "e2e_ms",
}
"""Its metric -> ours."""
_PERCENTILES = ("min", "max", "p10", "p25", "p50", "p75", "p90", "p95", "p99")
_TO_MS = {"ms": 1.0, "s": 1000.0, "sec": 1000.0, "us": 0.001, "ns": 1e-6}
_LATEST_NS = 4_102_444_800_000_000_000
"""The year 2100."""
_UNITS = {"tokens": 1.0, "tokens/sec": 1.0, "tokens/sec/user": 1.0}


def is_ours(first: Mapping[str, Any]) -> bool:
    """Whether a file that begins with this object is AIPerf's: a summary, or a request."""
    return _is_request(first) or "aiperf_version" in first or {"input_config", "request_throughput"} <= first.keys()


def _is_request(first: Mapping[str, Any]) -> bool:
    return "request_start_ns" in to_object(first.get("metadata")) and "metrics" in first


def find_companion(name: str) -> str | None:
    """The file with the requests of this summary, or with the summary of these requests; None for other names."""
    if name.endswith("_aiperf.json"):
        return f"{name.removesuffix('_aiperf.json')}.jsonl"
    return f"{name.removesuffix('.jsonl')}_aiperf.json" if name.endswith(".jsonl") else None


def read(file: ResultFile, findings: Findings) -> ToolResults:
    """One cell: of the requests where the file has them or stands beside them, else of the summary."""
    both = (file, file.companion) if file.companion is not None else (file,)
    requests = [entry for each in both if _is_request(each.first()) for entry in each.objects(findings)]
    summary = next((each.objects(findings)[0] for each in both if not _is_request(each.first())), None)
    if summary is None:
        summary = Fields({}, "", findings)
    cell = _make_cell(summary, [_read_request(entry) for entry in requests])
    if summary.source.get("was_cancelled") is True:
        findings.remark("the run was cancelled before its end")
    told = {"benchmark_id": summary.text("benchmark_id"), "url": _find_url(summary)}
    return ToolResults(
        version=summary.text("aiperf_version"),
        cells=(cell,) if cell.samples or cell.aggregates else (),
        metadata={name: value for name, value in told.items() if value},
    )


def _make_cell(summary: Fields, requests: list[ToolRequest | None]) -> ToolCell:
    config, good = summary.child("input_config"), [request for request in requests if request is not None]
    phase, prompts = _find_phase(config), _find_prompts(config)
    lanes = phase.count("concurrency") or count_lanes(request for request in good if request.phase == "measure") or 1
    kind = _find_kind(config)
    samples = make_samples(_move_to_begin(good), lanes, kind)
    throughput = summary.child("output_token_throughput" if kind != "embedding" else "total_token_throughput")
    rate = phase.number("rate") or phase.number("request_rate")
    return ToolCell(
        place="",
        model=_find_model(config) or "",
        kind=kind,
        prompt_tokens=prompts["isl"],
        output_tokens=prompts["osl"],
        means=_read_means(summary),
        generates=kind != "embedding",
        concurrency=lanes,
        length=None if samples else _find_length(summary, prompts["osl"]),
        settings={"request_rate": Setting("rate", rate)} if rate else {},
        started_at=min(
            (sample.started_at for sample in samples), default=summary.date("start_time", "2026-11-24T09:30:00")
        ),
        samples=samples,
        aggregates={} if samples else _read_summaries(summary),
        total_tok_s=throughput.number("avg"),
    )


# --- requests


def _read_request(entry: Fields) -> ToolRequest | None:
    about, metrics = entry.child("metadata"), entry.child("metrics")
    begin_ns = about.source.get("request_start_ns")
    # larger than the whole numbers that a float holds exactly
    if not isinstance(begin_ns, int) or isinstance(begin_ns, bool) or not 0 < begin_ns < _LATEST_NS:
        about.leave_out(f"request_start_ns is {show(begin_ns)}, expected nanoseconds since 1970")
        return None
    error = to_object(entry.source.get("error"))
    failure = (to_text(error.get("message")) or to_text(error.get("type")) or "failed") if error else None
    prompt, output, cached = (
        _read_count(metrics, name)
        for name in ("input_sequence_length", "output_sequence_length", "usage_prompt_cache_read_tokens")
    )
    return ToolRequest(
        started_at=begin_ns / 1e9,
        offset_ms=begin_ns / 1e6,
        phase="warmup" if about.source.get("benchmark_phase") == "warmup" else "measure",
        ttft_ms=_read_value(metrics, "time_to_first_token", _TO_MS),
        ttfo_ms=_read_value(metrics, "time_to_first_output_token", _TO_MS),
        e2e_ms=_read_value(metrics, "request_latency", _TO_MS),
        prompt_tokens=prompt or None,
        cached_tokens=cached,
        output_tokens=output or None,
        gaps_ms=[gap for gap in metrics.child("inter_chunk_latency").numbers("value", least=0.0) if gap is not None]
        if metrics.source.get("inter_chunk_latency") is not None
        else (),
        failure=clean(failure) if failure else "was cancelled" if about.source.get("was_cancelled") is True else None,
    )


def _move_to_begin(requests: list[ToolRequest]) -> list[ToolRequest]:
    """With offsets from the first request of each phase, instead of from 1970."""
    first = {
        phase: min((request.offset_ms for request in requests if request.phase == phase), default=0.0)
        for phase in ("warmup", "measure")
    }
    return [replace(request, offset_ms=request.offset_ms - first[request.phase]) for request in requests]


def _read_value(metrics: Fields, name: str, units: Mapping[str, float]) -> float | None:
    """A metric's value in our unit; None where it is missing, or its unit is none that we know."""
    if metrics.source.get(name) is None:
        return None
    found = metrics.child(name)
    factor, value = _find_factor(found, units), found.number("value")
    return None if factor is None or value is None else value * factor


def _find_factor(found: Fields, units: Mapping[str, float]) -> float | None:
    unit = found.source.get("unit")
    factor = units.get(unit) if isinstance(unit, str) else None
    if factor is None:
        found.leave_out(f"unit is {show(unit)}, expected {' or '.join(units)}")
    return factor


def _read_count(metrics: Fields, name: str) -> int | None:
    return None if metrics.source.get(name) is None else metrics.child(name).count("value")


# --- the summary


def _read_summaries(summary: Fields) -> dict[str, Aggregate]:
    found = {}
    for name, key in _SUMMED.items():
        if summary.source.get(name) is None:
            continue
        metric = summary.child(name)
        if key == "itl_ms" and not _has_token_a_chunk(summary, metric):
            summary.findings.remark(f"{name} is left out: its chunks have several tokens, or their number is not known")
            continue
        aggregate = _read_summary(metric, _TO_MS if key.endswith("_ms") else _UNITS)
        if aggregate is not None:
            found[key] = aggregate
    return found


def _has_token_a_chunk(summary: Fields, gaps: Fields) -> bool:
    """Whether there are as many gaps as tokens but the first of each answer."""
    lengths = to_object(summary.source.get("output_sequence_length"))
    tokens, answers = to_number(lengths.get("sum")), to_number(lengths.get("count"))
    return tokens is not None and answers is not None and tokens - answers == to_number(gaps.source.get("count"))


def _read_summary(metric: Fields, units: Mapping[str, float]) -> Aggregate | None:
    factor = _find_factor(metric, units)
    if missing := [name for name in ("count", "avg", *_PERCENTILES) if metric.source.get(name) is None]:
        metric.findings.remark(f"{metric.where} stands without {', '.join(missing)}: a comparison needs them all")
        return None
    count = metric.count("count")
    values = {name: metric.number(name, least=0.0) for name in ("avg", *_PERCENTILES)}
    if factor is None or not count or any(value is None for value in values.values()):
        return None
    known = {name: value * factor for name, value in values.items() if value is not None}
    deviation = metric.number("std", least=0.0)
    return Aggregate(
        n=count,
        mean=known.pop("avg"),
        median=known["p50"],
        # its deviation has n in the denominator
        stdev=deviation * factor * math.sqrt(count / (count - 1)) if deviation is not None and count > 1 else None,
        **known,
    )


def _read_means(summary: Fields) -> dict[str, int]:
    names = {"prompt_tokens": "input_sequence_length", "output_tokens": "output_sequence_length"}
    means = {axis: summary.child(name).number("avg") for axis, name in names.items() if name in summary.source}
    return {axis: max(1, round(mean)) for axis, mean in means.items() if mean}


def _find_length(summary: Fields, asked: int | None) -> Length:
    """Exact where shortest and longest answer are as long as was asked for."""
    found = to_object(summary.source.get("output_sequence_length"))
    return "exact" if asked and found.get("min") == found.get("max") == asked else "natural"


# --- what was asked for: under ``models``, ``phases`` and ``datasets``, in versions before 0.9 under other names


def _find_model(config: Fields) -> str | None:
    items = to_objects(to_object(config.source.get("models")).get("items"))
    names = to_object(config.source.get("endpoint")).get("model_names")
    found = items[0].get("name") if items else names[0] if isinstance(names, list) and names else None
    return to_text(found)


def _find_kind(config: Fields) -> Kind:
    named = config.child("endpoint").text("type") or ""
    return (
        "embedding"
        if "embedding" in named
        else "completion"
        if "completion" in named and "chat" not in named
        else "chat"
    )


def _find_url(summary: Fields) -> str | None:
    urls = to_object(to_object(summary.source.get("input_config")).get("endpoint")).get("urls")
    found = to_text(urls[0]) if isinstance(urls, list) and urls else None
    return found if found and "@" not in found else None


def _find_phase(config: Fields) -> Fields:
    """The phase that was measured."""
    phases = [phase for phase in config.children("phases") if phase.source.get("kind") != "warmup"]
    return phases[0] if phases else config.child("loadgen")


def _find_prompts(config: Fields) -> dict[str, int | None]:
    """Tokens that were asked for; blank where their number varies."""
    sets = to_objects(config.source.get("datasets"))
    now = to_object(sets[0].get("prompts")) if sets else {}
    old = to_object(to_object(config.source.get("input")).get("prompt"))
    found: dict[str, int | None] = {}
    for name, former in (("isl", "input_tokens"), ("osl", "output_tokens")):
        asked = to_object(now.get(name) or old.get(former))
        mean = to_number(asked.get("mean"))
        found[name] = max(1, round(mean)) if mean and mean > 0 else None
    return found
