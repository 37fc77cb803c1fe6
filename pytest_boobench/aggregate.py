"""Room 4: a cell's samples, condensed per metric; its failures, condensed to a line."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_boobench.metrics import Kind, Sample, metrics_of
from pytest_boobench.units import percent, quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """One metric over a cell's good measured samples, in the metric's unit; ``n`` is at least 1."""

    n: int
    mean: float
    median: float
    stdev: float | None
    """Sample standard deviation, n - 1 in the denominator; blank for one sample."""
    min: float
    max: float
    p50: float
    p90: float
    p95: float
    p99: float


def percentile(ordered: Sequence[float], q: float) -> float:
    """The q-th quantile (0 to 1) of ascending values, linear between neighbours (Hyndman and Fan 1996, type 7)."""
    position = (len(ordered) - 1) * q
    low = math.floor(position)
    high = math.ceil(position)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def condense(values: Iterable[float]) -> Aggregate | None:
    """Finite values -> Aggregate; None where there are none."""
    ordered = sorted(value for value in values if math.isfinite(value))
    if not ordered:
        return None
    return Aggregate(
        n=len(ordered),
        mean=statistics.fmean(ordered),
        median=statistics.median(ordered),
        stdev=statistics.stdev(ordered) if len(ordered) > 1 else None,
        min=ordered[0],
        max=ordered[-1],
        p50=percentile(ordered, 0.50),
        p90=percentile(ordered, 0.90),
        p95=percentile(ordered, 0.95),
        p99=percentile(ordered, 0.99),
    )


def measured(samples: Iterable[Sample]) -> list[Sample]:
    """The samples that count, failed ones included: those of the cell's last measuring."""
    found = [sample for sample in samples if sample.phase == "measure"]
    last = max((sample.attempt for sample in found), default=1)
    return [sample for sample in found if sample.attempt == last]


def counted(samples: Iterable[Sample]) -> list[Sample]:
    """The samples that statistics are made of: measured, not failed."""
    return [sample for sample in measured(samples) if sample.ok]


def summarize(samples: Iterable[Sample], kind: Kind) -> Mapping[str, Aggregate]:
    """Metric key -> Aggregate, for the metrics of this kind of cell that have at least one value."""
    good = counted(samples)
    condensed = {
        metric.key: condense(value for sample in good for value in metric.values(sample)) for metric in metrics_of(kind)
    }
    return {key: aggregate for key, aggregate in condensed.items() if aggregate is not None}


def total_tok_s(samples: Iterable[Sample], kind: Kind) -> float | None:
    """All lanes together: tokens per second over the wall, first request sent to last answer ended.

    Generated tokens for chat and completion, prompt tokens for embeddings. Blank where nothing can be divided.
    """
    good = [sample for sample in counted(samples) if sample.e2e_ms is not None]
    tokens = sum((sample.prompt_tokens if kind == "embedding" else sample.output_tokens) or 0 for sample in good)
    if not good or not tokens:
        return None
    begin = min(sample.offset_ms for sample in good)
    end = max(sample.offset_ms + (sample.e2e_ms or 0.0) for sample in good)
    return tokens / (end - begin) * 1000 if end > begin else None


def describe_failures(failed: Iterable[Sample]) -> str:
    """Failed samples by kind, most frequent first, each with the words of its first: ``3 × status: 500: no slot``."""
    first: dict[str | None, str | None] = {}
    counts: Counter[str | None] = Counter()
    for sample in failed:
        counts[sample.failure] += 1
        first.setdefault(sample.failure, sample.failure_text)
    return "; ".join(f"{count} × {kind}: {first[kind]}" for kind, count in counts.most_common())


BLURRED_SHARE = 0.05
"""Of a cell's token stamps, how many may be blurred by a late client before its times are not believed."""


def find_client_limit(samples: Iterable[Sample]) -> str | None:
    """Why the client was the bottleneck of these samples, None where it was not."""
    good = counted(samples)
    chunks = sum(len(sample.chunk_ms) for sample in good)
    blurred = sum(sample.blurred_chunks for sample in good)
    if not chunks or blurred <= BLURRED_SHARE * chunks:
        return None
    lag_ms = max((sample.client_lag_ms for sample in good if sample.client_lag_ms is not None), default=None)
    return (
        f"the client was the bottleneck: {percent(blurred / chunks)} of the tokens were read late and at once "
        f"(up to {quantity(lag_ms, 'ms')}); fewer lanes or a less busy client"
    )
