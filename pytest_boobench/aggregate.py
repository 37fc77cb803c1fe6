"""Room 4: a cell's samples, condensed per metric; its failures, condensed to a line."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

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
    p10: float
    p25: float
    p50: float
    p75: float
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
        p10=percentile(ordered, 0.10),
        p25=percentile(ordered, 0.25),
        p50=percentile(ordered, 0.50),
        p75=percentile(ordered, 0.75),
        p90=percentile(ordered, 0.90),
        p95=percentile(ordered, 0.95),
        p99=percentile(ordered, 0.99),
    )


def median_of(aggregates: Mapping[str, Aggregate], metric: str) -> float | None:
    """A metric's median; None where no sample gave it."""
    condensed = aggregates.get(metric)
    return condensed.median if condensed else None


def measured(samples: Iterable[Sample]) -> list[Sample]:
    """The samples that count, failed ones included: those of each block's last measuring."""
    found = [sample for sample in samples if sample.phase == "measure" and not sample.reference]
    last: dict[int, int] = {}
    for sample in found:
        last[sample.block] = max(last.get(sample.block, 1), sample.attempt)
    return [sample for sample in found if sample.attempt == last[sample.block]]


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


BOUND_SHARE = 0.5
"""A metric that a late client may have moved by more than this share of what is allowed is blank: what it did was to
the median of the requests at most as much, and mostly far less."""
USUALLY_ALLOWED = 0.10
"""Worsening of a metric that nobody says anything of."""
LEAST_ALLOWED = 0.01
"""Where less is allowed, 0 % among it, this counts: the gate takes no smaller change for more than noise."""


def find_blanks(samples: Iterable[Sample], kind: Kind, allowed: Mapping[str, float | None]) -> dict[str, str]:
    """Metric -> why these samples cannot carry it: too late a client, or what most of them say of themselves.

    ``allowed`` is metric -> allowed worsening as a ratio, blank where nothing special is.
    """
    everything = list(samples)
    good = [*counted(everything), *(s for s in everything if s.reference and s.phase == "measure" and s.ok)]
    found = {}
    for metric in metrics_of(kind):
        having = [sample for sample in good if metric.values(sample)]
        reasons = Counter(text for sample in good if (text := sample.blanks.get(metric.key)))
        asked = allowed.get(metric.key)
        limit = BOUND_SHARE * (USUALLY_ALLOWED if asked is None else max(asked, LEAST_ALLOWED))
        if having and (text := _find_lateness(having, metric.key, limit)):
            found[metric.key] = text
        elif not having and reasons:
            found[metric.key] = reasons.most_common(1)[0][0]
    return found


def _find_lateness(samples: Sequence[Sample], metric: str, limit: float) -> str:
    """That the client read too late for this metric, in words; empty where it did not."""
    bound = statistics.median(sample.find_client_bound(metric) for sample in samples)
    if bound <= limit:
        return ""
    lag_ms = max((sample.client_lag_ms for sample in samples if sample.client_lag_ms is not None), default=None)
    return (
        f"{CLIENT_LATE}: it read up to {quantity(lag_ms, 'ms')} late, which may move this by {percent(bound)}, and "
        f"{percent(limit)} are believed; fewer lanes or a less busy client"
    )


CLIENT_LATE = "the client was the bottleneck"
"""How such a reason begins."""


def find_contradiction(samples: Iterable[Sample]) -> str | None:
    """What the server says and the client's clock rules out, in the words of the first of these samples, where at least
    half of them do; None where they do not."""
    good = counted(samples)
    found = [sample.contradiction for sample in good if sample.contradiction]
    return found[0] if found and 2 * len(found) >= len(good) else None


def find_rate_sources(samples: Iterable[Sample]) -> str | None:
    """Whose clock the rates of these samples are by: ``server``, ``client`` or ``mixed``; None where there are none."""
    sources = {sample.rate_source for sample in counted(samples) if sample.rate_source}
    return None if not sources else sources.pop() if len(sources) == 1 else "mixed"


def add_totals(samples: Sequence[Sample], kind: Kind) -> list[Sample]:
    """The samples of one phase, each with the tokens per second of all lanes together while it ran.

    A request makes its tokens evenly from its first token on, an embedding's are spread over all of it. Failed requests
    make none.
    """
    good = sorted((s for s in samples if s.ok and s.e2e_ms), key=lambda sample: sample.offset_ms)
    spans = [_find_span(sample, kind) for sample in good]
    totals: dict[int, float] = {}
    for sample in good:
        begin, end = sample.offset_ms, sample.offset_ms + (sample.e2e_ms or 0.0)
        tokens = 0.0
        for from_ms, to_ms, made in spans:
            if from_ms < end and to_ms > begin and to_ms > from_ms:
                tokens += made * (min(end, to_ms) - max(begin, from_ms)) / (to_ms - from_ms)
        if tokens:
            totals[sample.index] = tokens / (end - begin) * 1000
    return [replace(sample, lanes_tok_s=totals.get(sample.index)) if sample.ok else sample for sample in samples]


def _find_span(sample: Sample, kind: Kind) -> tuple[float, float, int]:
    """(from, to, tokens): when a request makes its tokens, milliseconds of its phase."""
    first_ms = 0.0 if kind == "embedding" else sample.ttft_ms or sample.ttfo_ms or 0.0
    tokens = (sample.prompt_tokens if kind == "embedding" else sample.output_tokens) or 0
    return sample.offset_ms + first_ms, sample.offset_ms + (sample.e2e_ms or 0.0), tokens


TREND_FASTER = 0.05
"""By how much the newest warm-up request, or the last third of a block, must be faster to be still warming up."""
TREND_Z = 2.326
"""One-sided 1 % of the normal distribution."""
_TREND_MIN = 6
"""Fewer samples show no trend that chance would not."""


def is_settled(rounds: Sequence[Sequence[Sample]]) -> bool:
    """Whether the newest of several rounds of requests was no more than 5 % faster than the one before.

    A round is one request down each lane; its time is the median of their end-to-end times. Rounds that failed, and
    less than two of them, say nothing: settled.
    """
    times = [[sample.e2e_ms for sample in samples if sample.ok and sample.e2e_ms] for samples in rounds[-2:]]
    if len(times) < 2 or not all(times):
        return True
    before, newest = map(statistics.median, times)
    return newest >= before * (1 - TREND_FASTER)


def find_trend(samples: Sequence[Sample]) -> str | None:
    """That requests became faster and faster, in words; None where they did not.

    With several lanes rounds are compared, and the last one is left out: it ends beside fewer and fewer others.
    """
    rounds = _times_of_rounds(samples)
    times = [rounds[number] for number in sorted(rounds)]
    faster = _find_fall(times[:-1] if _count_lanes(samples) > 1 else times)
    return _describe_trend(faster, "than its first") if faster else None


def find_trend_of_pairs(samples: Sequence[Sample]) -> str | None:
    """That one host of a duet became faster and faster, also beside the other, in words; None where neither did.

    ``samples`` are those of one block, of both hosts. What makes both faster is in both halves of a pair, and says
    nothing.
    """
    own = measured(samples)
    attempts = {sample.attempt for sample in own}
    reference = [s for s in samples if s.reference and s.phase == "measure" and s.attempt in attempts]
    ours, theirs = _times_of_rounds(own), _times_of_rounds(reference)
    pairs = [(ours[number], theirs[number]) for number in sorted(ours.keys() & theirs.keys())]
    if _find_fall([our for our, _ in pairs]) and (faster := _find_fall([our / their for our, their in pairs])):
        return _describe_trend(faster, "than its first, beside those of the reference")
    if _find_fall([their for _, their in pairs]) and (faster := _find_fall([their / our for our, their in pairs])):
        return _describe_trend(faster, "than its first on the reference, beside ours")
    return None


def _times_of_rounds(samples: Sequence[Sample]) -> dict[int, float]:
    """Number of a round -> the median of its end-to-end times; a round is one request down each lane."""
    lanes, times = _count_lanes(samples), defaultdict[int, list[float]](list)
    for sample in samples:
        if sample.ok and sample.e2e_ms:
            times[sample.index // lanes].append(sample.e2e_ms)
    return {number: statistics.median(found) for number, found in times.items()}


def _count_lanes(samples: Iterable[Sample]) -> int:
    return max((sample.lane for sample in samples), default=0) + 1


def _describe_trend(faster: float, than: str) -> str:
    return (
        f"still warming up: the last requests of the block were {percent(faster)} faster {than}; "
        "more warm-up, with warmup or warmup_time"
    )


def _find_fall(values: Sequence[float]) -> float | None:
    """By how much values fell, as a share; None where they did not.

    Two keys, so that noise alone does not turn them: Mann's test of trend on the values in their order (Mann 1945,
    Kendall 1975; normal approximation with correction for continuity), and the medians of the first and the last third.
    """
    n = len(values)
    if n < _TREND_MIN:
        return None
    third = n // 3
    fell = 1 - statistics.median(values[-third:]) / statistics.median(values[:third])
    if fell <= TREND_FASTER:
        return None
    falls = sum((earlier > later) - (earlier < later) for earlier, later in combinations(values, 2))
    if (falls - 1) / math.sqrt(n * (n - 1) * (2 * n + 5) / 18) <= TREND_Z:
        return None
    return fell
