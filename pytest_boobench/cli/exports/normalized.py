"""Door 2: measurements in inference-doctor's ``normalized`` form, schema_version 1: a file each, a folder for a cell.

Its ``compare-runs`` takes two folders of one benchmark's repetitions: export one side by ``--commit`` or ``--session``
into one folder, the other side into another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_boobench.aggregate import Aggregate
from pytest_boobench.cli.plain import to_json
from pytest_boobench.record import Measurement

_NO_NAME = re.compile(r"[^\w.-]+")


def write_normalized(measurements: Iterable[Measurement], folder: Path) -> tuple[int, int]:
    """Write them below a folder; gives back how many, and how many were left out: not measured, or spoiled."""
    written = left_out = 0
    for measurement in measurements:
        if measurement.error is not None or measurement.spoiled is not None:
            left_out += 1
            continue
        path = folder / name_file(measurement)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_json(normalize(measurement)) + "\n", encoding="utf-8")
        written += 1
    return written, left_out


def name_file(measurement: Measurement) -> Path:
    """``suite-host-model-pp512-tg32-c4-0a1b2c3d/20261124T101112-17.normalized.json``."""
    words = f"{measurement.run.suite}-{'-'.join(measurement.node_id.split('::')[-2:])}"
    at = datetime.fromtimestamp(measurement.started_at, UTC)
    cell = f"{_NO_NAME.sub('-', words).strip('-.')}-{measurement.cell_key[:8]}"
    return Path(cell, f"{at:%Y%m%dT%H%M%S}-{measurement.id}.normalized.json")


def normalize(measurement: Measurement) -> dict[str, Any]:
    """The document. Where it has a word for GPUs only, the host stands; the engine's build stands as vLLM's version."""
    identity = measurement.identity
    requests_s = _requests_per_second(measurement)
    embeds = identity["kind"] == "embedding"
    decode = measurement.aggregates.get("decode_tok_s")
    return {
        "schema_version": "1",
        "environment": {
            "gpu": measurement.run.host,
            "vllm_version": measurement.engine_build,
            "model": identity["model"],
            "image": None,
        },
        "benchmark_parameters": {
            "tool": "pytest-boobench",
            **{name: value for name, value in identity.items() if name not in ("host", "model")},
        },
        "metrics": {
            "ttft_ms": _latency(measurement.aggregates.get("ttft_ms")),
            # one over the other turns a median into a median, and a mean into no mean
            "tpot_ms": {"median": 1000 / decode.median} if decode and decode.median > 0 else {},
            "itl_ms": _latency(measurement.aggregates.get("itl_ms")),
            "e2el_ms": _latency(measurement.aggregates.get("e2e_ms")),
            "output_token_throughput": None if embeds else measurement.total_tok_s,
            "request_throughput": requests_s,
            "texts_per_second": requests_s if embeds else None,
            "total_token_throughput": _total_tokens_per_second(identity, requests_s),
            "requests": {"successful": measurement.samples - measurement.failed, "failed": measurement.failed},
        },
    }


def _latency(aggregate: Aggregate | None) -> dict[str, float]:
    if aggregate is None:
        return {}
    return {name: getattr(aggregate, name) for name in ("mean", "median", "p95", "p99")}


def _requests_per_second(measurement: Measurement) -> float | None:
    """All lanes together: every request has the same tokens, so tokens per second tell requests per second."""
    identity = measurement.identity
    tokens = identity["prompt_tokens"] if identity["kind"] == "embedding" else identity["output_tokens"]
    return measurement.total_tok_s / tokens if measurement.total_tok_s and tokens else None


def _total_tokens_per_second(identity: Mapping[str, Any], requests_s: float | None) -> float | None:
    if requests_s is None:
        return None
    return float(requests_s * (identity["prompt_tokens"] + (identity["output_tokens"] or 0)))
