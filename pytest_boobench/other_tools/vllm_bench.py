"""Room 5: ``vllm bench serve --save-result``, best with ``--save-detailed``; with ``--append-result`` of several runs.

https://docs.vllm.ai/en/latest/benchmarking/cli.html
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pytest_boobench.aggregate import Aggregate, summarize
from pytest_boobench.metrics import Kind
from pytest_boobench.other_tools.findings import Fields, Findings
from pytest_boobench.other_tools.requests import ToolRequest, make_samples
from pytest_boobench.other_tools.result_file import ResultFile
from pytest_boobench.other_tools.tool_cells import Setting, ToolCell, ToolResults
from pytest_boobench.plain import list_facts
from pytest_boobench.untrusted import clean

_SUMMED = {"ttft": "ttft_ms", "e2el": "e2e_ms"}
"""Its name of a metric -> ours, for statistics without the requests; of its ITL it does not say how many there are."""
_STATISTICS = {"min": "p0", "max": "p100"}
"""A statistic that it gives under another name."""
_ALL = "--metric-percentiles 0,10,25,50,75,90,95,99,100"
_FACTS = ("backend", "label", "tokenizer_id", "burstiness", "request_throughput", "total_token_throughput")
_LONGEST_MS = 1e12
"""No run takes thirty years."""
_KINDS: tuple[tuple[str, Kind], ...] = (("embedding", "embedding"), ("pooling", "embedding"), ("chat", "chat"))


def is_ours(first: Mapping[str, Any]) -> bool:
    """Whether a file that begins with this object is vLLM's."""
    return {"model_id", "num_prompts", "duration"} <= first.keys()


def read(file: ResultFile, findings: Findings) -> ToolResults:
    """A cell for each run of the file."""
    runs = file.objects(findings)
    cells = tuple(cell for run in runs if (cell := _read_run(run)) is not None)
    first = runs[0].source if runs else {}
    metadata = {name: first[name] for name in _FACTS if isinstance(first.get(name), str | int | float)}
    return ToolResults(
        cells=cells, metadata={name: clean(one) if isinstance(one, str) else one for name, one in metadata.items()}
    )


def _read_run(run: Fields) -> ToolCell | None:
    backend = run.text("backend") or run.text("endpoint_type") or ""
    kind: Kind = next((kind for word, kind in _KINDS if word in backend), "completion")
    began_at = _read_time(run)
    lanes = run.count("max_concurrency") or run.count("num_prompts") or 1
    samples = make_samples(_read_requests(run, began_at or 0.0), lanes, kind)
    aggregates = _read_summaries(run, given=summarize(samples, kind))
    completed = run.count("completed")
    total = run.number("total_token_throughput" if kind == "embedding" else "output_throughput")
    if not completed:
        run.leave_out("completed is 0 or missing, expected the number of good requests")
        return None
    means = {
        axis: max(1, round(tokens / completed))
        for axis, side in (("prompt_tokens", "input"), ("output_tokens", "output"))
        if (tokens := run.count(f"total_{side}_tokens"))
    }
    return ToolCell(
        place=run.where,
        model=run.text("model_id") or "model",
        kind=kind,
        prompt_tokens=None,
        output_tokens=None,
        means=means,
        generates=kind != "embedding",
        concurrency=lanes,
        length=None if any(sample.output_tokens for sample in samples) else "natural",
        settings=_read_settings(run),
        started_at=began_at,
        samples=samples,
        aggregates=aggregates,
        total_tok_s=total,
    )


def _read_settings(run: Fields) -> Mapping[str, Setting]:
    """The rate at which requests are sent, where they do not wait for each other alone."""
    if run.source.get("request_rate") in (None, "inf"):
        return {}
    rate = run.number("request_rate")
    return {} if rate is None or math.isinf(rate) else {"request_rate": Setting("rate", rate)}


def _read_requests(run: Fields, at: float) -> list[ToolRequest]:
    """Where the file has them: with ``--save-detailed``, and newer versions at least the time of each."""
    lists: dict[str, Sequence[Any]] = {
        "ttft": run.numbers("ttfts", least=0.0),
        "e2e": run.numbers("latencies", least=0.0),
        "start": run.numbers("start_times", least=0.0),
        "prompt": run.numbers("input_lens", least=0.0),
        "output": run.numbers("output_lens", least=0.0),
        "gaps": run.rows("itls", least=0.0),
        "error": run.items("errors"),
    }
    known = {name: each for name, each in lists.items() if each}
    count = max((len(each) for each in known.values()), default=0)
    if any(len(each) != count for each in known.values()):
        lengths = ", ".join(f"{len(each)} of {name}" for name, each in known.items())
        run.leave_out(
            f"ttfts, itls and the other lists differ in length ({lengths}), expected one item for each request"
        )
        return []
    starts = [start for start in lists["start"] if start is not None]
    first = min(starts, default=0.0)
    return [_read_request({name: each[index] for name, each in known.items()}, first, at) for index in range(count)]


def _read_request(found: Mapping[str, Any], first: float, at: float) -> ToolRequest:
    """Seconds -> milliseconds; the clock of ``start_times`` begins anywhere."""
    error = found.get("error")
    failed = (isinstance(error, str) and error != "") or (
        "output" in found and not found["output"] and not found.get("ttft")
    )
    gaps = [gap * 1000 for gap in found.get("gaps") or () if gap is not None]
    ttft, e2e = (found.get(name) for name in ("ttft", "e2e"))
    if e2e is None and ttft and gaps:
        decode_ms: float | None = sum(gaps)
    else:
        decode_ms = None
    offset_ms = min(((found.get("start") or first) - first) * 1000, _LONGEST_MS)
    return ToolRequest(
        started_at=at + offset_ms / 1000,
        offset_ms=offset_ms,
        ttft_ms=ttft * 1000 if ttft else None,
        e2e_ms=e2e * 1000 if e2e else None,
        decode_ms=decode_ms,
        prompt_tokens=int(found["prompt"]) if found.get("prompt") else None,
        output_tokens=int(found["output"]) if found.get("output") else None,
        gaps_ms=gaps,
        failure=(clean(error) if isinstance(error, str) and error else "no token came") if failed else None,
    )


def _read_summaries(run: Fields, given: Collection[str]) -> dict[str, Aggregate]:
    """Metrics of which the file has all statistics, beside those that its requests give."""
    found = {}
    for name, key in _SUMMED.items():
        if key in given or f"mean_{name}_ms" not in run.source:
            continue
        aggregate = _read_summary(run, name)
        if aggregate is not None:
            found[key] = aggregate
        else:
            run.findings.remark(
                f"{run.place(f'mean_{name}_ms')} stands without the percentiles that a comparison needs: {key} is left "
                f"out; vllm bench serve --save-detailed keeps each request, {_ALL} all percentiles"
            )
    return found


def _read_summary(run: Fields, name: str) -> Aggregate | None:
    facts = list_facts(Aggregate)
    keys = {
        fact: f"{'std' if fact == 'stdev' else _STATISTICS.get(fact, fact)}_{name}_ms" for fact in facts if fact != "n"
    }
    if not keys.keys() - {"stdev"} <= {fact for fact, key in keys.items() if key in run.source}:
        return None
    values = {fact: run.number(key, least=0.0) for fact, key in keys.items()}
    count = run.count("completed")
    if not count or any(value is None for fact, value in values.items() if fact != "stdev"):
        return None
    deviation = values["stdev"]
    # numpy's std has n in the denominator
    values["stdev"] = deviation * math.sqrt(count / (count - 1)) if deviation is not None and count > 1 else None
    return Aggregate(n=count, **values)  # type: ignore[arg-type]  # none of the others is blank


def _read_time(run: Fields) -> float | None:
    """``20261124-093000``, by the clock of the machine that measured; taken for UTC."""
    text = run.text("date")
    if text is None:
        return None
    try:
        return datetime.strptime(text, "%Y%m%d-%H%M%S").replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        run.leave_out(f"date is {text}, expected a time such as 20261124-093000")
        return None
