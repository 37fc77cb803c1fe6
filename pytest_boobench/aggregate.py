"""Room 4: a cell's samples -> statistics per metric, its failures in one line, and its trends."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

from pytest_boobench.conversations import list_conversations
from pytest_boobench.metrics import OF_TURNS, Kind, Metric, Sample, find_metric, metrics_of, name_of_turn
from pytest_boobench.units import percent, quantity

BOUND_SHARE = 0.5
"""A metric is None if a late client may have moved it by more than this share of the allowed worsening."""
USUALLY_ALLOWED = 0.10
"""The default of the allowed worsening."""
LEAST_ALLOWED = 0.01
"""Smaller allowed changes, such as 0 %, count as this one: the gate treats smaller changes as noise."""
CLIENT_LATE = "the client was the bottleneck"
"""The start of the reason why such a metric is None."""
TREND_FASTER = 0.05
"""By how much the newest warm-up round, or the last third of a block, must be faster to be still warming up."""
TREND_Z = 2.326
"""One-sided 1 % of the normal distribution."""
_TREND_MIN = 6
"""Fewer samples cannot show a trend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """The statistics of one metric over a cell's good measured samples, in the metric's unit; ``n`` is at least 1."""

    n: int
    mean: float
    median: float
    stdev: float | None
    """Sample standard deviation, n - 1 in the denominator; None for one sample."""
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
    """Return the q-th quantile (0 to 1) of ascending values, linear interpolation (Hyndman and Fan 1996, type 7)."""
    position = (len(ordered) - 1) * q
    low = math.floor(position)
    high = math.ceil(position)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def condense(values: Iterable[float]) -> Aggregate | None:
    """Return the statistics of the finite values; None if there are none."""
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
        **{f"p{q}": percentile(ordered, q / 100) for q in (10, 25, 50, 75, 90, 95, 99)},
    )


def median_of(aggregates: Mapping[str, Aggregate], metric: str) -> float | None:
    """Return a metric's median; None if no sample has it."""
    return aggregates[metric].median if metric in aggregates else None


def measured(samples: Iterable[Sample]) -> list[Sample]:
    """Return the samples of each block's last attempt, including failed ones."""
    found = [sample for sample in samples if sample.phase == "measure" and not sample.reference]
    last = dict(sorted((sample.block, sample.attempt) for sample in found))
    return [sample for sample in found if sample.attempt == last[sample.block]]


def counted(samples: Iterable[Sample]) -> list[Sample]:
    """Return the measured samples that did not fail. Statistics use only these."""
    return [sample for sample in measured(samples) if sample.ok]


def counted_reference(samples: Iterable[Sample]) -> list[Sample]:
    """The same of the other host of a duet, of all attempts: each has the attempt of its partner."""
    return [sample for sample in samples if sample.reference and sample.phase == "measure" and sample.ok]


def summarize(samples: Iterable[Sample], kind: Kind) -> Mapping[str, Aggregate]:
    """Return metric key -> Aggregate, for the metrics of this kind of cell that have at least one value.

    Conversations have some of them for each turn too.
    """
    good, found = counted(samples), {}
    turns = sorted({sample.turn for sample in good} - {0})
    of_turns = [find_metric(name_of_turn(key, turn)) for turn in turns for key in OF_TURNS]
    for metric in (*metrics_of(kind), *of_turns):
        aggregate = condense(value for sample in good for value in metric.values(sample))
        if aggregate is not None:
            found[metric.key] = aggregate
    return found


def total_tok_s(samples: Iterable[Sample], kind: Kind) -> float | None:
    """Return tokens per second of all lanes together, from the first request sent to the end of the last answer.

    Generated tokens for chat and completion, prompt tokens for embeddings. None if there is nothing to divide.
    """
    spans = [_find_span(sample, kind) for sample in counted(samples) if sample.e2e_ms is not None]
    tokens = sum(span.tokens for span in spans)
    if not tokens:
        return None
    begin, end = min(span.begin_ms for span in spans), max(span.end_ms for span in spans)
    return tokens / (end - begin) * 1000 if end > begin else None


def describe_failures(failed: Iterable[Sample]) -> str:
    """Count failed samples by kind, most frequent first, each with its first message: ``3 × status: 500: no slot``."""
    first: dict[str | None, str | None] = {}
    counts: Counter[str | None] = Counter()
    for sample in failed:
        counts[sample.failure] += 1
        first.setdefault(sample.failure, sample.failure_text)
    return "; ".join(f"{count} × {kind}: {first[kind]}" for kind, count in counts.most_common())


def find_blanks(samples: Iterable[Sample], kind: Kind, allowed: Mapping[str, float | None]) -> dict[str, str]:
    """Return metric -> why it is None: the client read too late, or the most frequent reason of the samples.

    ``allowed`` is metric -> allowed worsening as a ratio. None or a missing metric means the default.
    """
    everything = list(samples)
    good = [*counted(everything), *counted_reference(everything)]
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
    """The message that the client read too late for this metric; empty if it did not."""
    bound = statistics.median(sample.find_client_bound(metric) for sample in samples)
    if bound <= limit:
        return ""
    sent_ms = max((sample.send_lag_ms or 0.0 for sample in samples), default=0.0)
    read_ms = max((sample.client_lag_ms for sample in samples if sample.client_lag_ms is not None), default=None)
    sent = f"sent up to {quantity(sent_ms, 'ms')} and " if sent_ms else ""
    return (
        f"{CLIENT_LATE}: it {sent}read up to {quantity(read_ms, 'ms')} late, which may change this by "
        f"{percent(bound)}, more than the tolerated {percent(limit)}; use fewer lanes or a less busy client"
    )


def find_contradiction(samples: Iterable[Sample]) -> str | None:
    """Return the first contradiction between server and client's clock, if at least half of the samples have one."""
    good = counted(samples)
    found = [sample.contradiction for sample in good if sample.contradiction]
    return found[0] if found and 2 * len(found) >= len(good) else None


def find_rate_sources(samples: Iterable[Sample]) -> str | None:
    """Return whose clock the samples' rates come from: ``server``, ``client`` or ``mixed``; None without rates."""
    sources = {sample.rate_source for sample in counted(samples) if sample.rate_source}
    return "mixed" if len(sources) > 1 else next(iter(sources), None)


def add_totals(samples: Sequence[Sample], kind: Kind) -> list[Sample]:
    """Return the samples of one phase, each with the tokens per second of all lanes together while it ran.

    Assumes that a request makes tokens evenly from its first token to its end, an embedding from its start. Failed
    requests make none.
    """
    good = sorted((s for s in samples if s.ok and s.e2e_ms), key=lambda sample: sample.offset_ms)
    spans = [_find_span(sample, kind) for sample in good]
    totals: dict[int, float] = {}
    for sample, own in zip(good, spans, strict=True):
        tokens = 0.0
        for other in spans:
            if other.begin_ms >= own.end_ms:
                break
            shared_ms = min(own.end_ms, other.end_ms) - max(own.begin_ms, other.first_ms)
            if shared_ms > 0 and other.end_ms > other.first_ms:
                tokens += other.tokens * shared_ms / (other.end_ms - other.first_ms)
        if tokens:
            totals[sample.index] = tokens / (own.end_ms - own.begin_ms) * 1000
    return [replace(sample, lanes_tok_s=totals.get(sample.index)) if sample.ok else sample for sample in samples]


class _Span(NamedTuple):
    """When a request ran and made its tokens, from ``first_ms`` on; milliseconds of its phase."""

    begin_ms: float
    first_ms: float
    end_ms: float
    tokens: int


def _find_span(sample: Sample, kind: Kind) -> _Span:
    embeds, begin_ms = kind == "embedding", sample.offset_ms
    first_ms = 0.0 if embeds else sample.ttft_ms or sample.ttfo_ms or 0.0
    tokens = (sample.prompt_tokens if embeds else sample.output_tokens) or 0
    return _Span(begin_ms, begin_ms + first_ms, begin_ms + (sample.e2e_ms or 0.0), tokens)


def is_settled(rounds: Sequence[Sequence[Sample]]) -> bool:
    """Whether the newest round of requests was at most 5 % faster than the previous one.

    A round is one request per lane; its time is the median of their end-to-end times. Failed rounds, and fewer than
    two, count as settled.
    """
    times = [[sample.e2e_ms for sample in samples if sample.ok and sample.e2e_ms] for samples in rounds[-2:]]
    if len(times) < 2 or not all(times):
        return True
    before, newest = map(statistics.median, times)
    return newest >= before * (1 - TREND_FASTER)


def find_trend(samples: Sequence[Sample]) -> str | None:
    """Return the message that requests became faster and faster; None if they did not.

    With several lanes, the last round is ignored, because it ends beside fewer and fewer other requests. At a rate
    nothing is found: how long a request waits depends on how many came shortly before. Of own prompts, those of the
    last pass are compared with the same ones of the first.
    """
    if any(sample.send_lag_ms is not None for sample in samples):
        return None
    if any(sample.prompt_line for sample in samples):
        shorter = _find_fall_of_lines(samples)
        return _describe_trend(shorter, "than the same ones of the first") if shorter else None
    rounds = _times_of_rounds(samples)
    times = [rounds[number] for number in sorted(rounds)]
    faster = _find_fall(times[:-1] if _count_lanes(samples) > 1 else times)
    return _describe_trend(faster, "than its first") if faster else None


def find_trend_of_pairs(samples: Sequence[Sample]) -> str | None:
    """Return the message that one host of a duet became faster, also relative to the other; None if neither did.

    ``samples`` are those of one block, of both hosts. A change that makes both hosts faster does not count. At a rate
    nothing is found, as by `find_trend`.
    """
    if any(sample.send_lag_ms is not None for sample in samples):
        return None
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


def list_lines(samples: Iterable[Sample]) -> list[list[Sample]]:
    """Return the samples of each own prompt, in their order; leaves out samples whose prompts were made."""
    found: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.prompt_line:
            found[sample.prompt_line].append(sample)
    return list(found.values())


def _find_fall_of_lines(samples: Sequence[Sample]) -> float | None:
    """By how much own prompts fell from the first to the last of their passes, as a share; None if they did not.

    The median of their ratios, and a sign test, so that noise alone is none (normal approximation, continuity
    correction).
    """
    times = [[sample.e2e_ms for sample in line if sample.ok and sample.e2e_ms] for line in list_lines(samples)]
    ratios = [line[-1] / line[0] for line in times if len(line) > 1]
    if len(ratios) < _TREND_MIN:
        return None
    fell = 1 - statistics.median(ratios)
    falls = sum((ratio < 1) - (ratio > 1) for ratio in ratios)
    return fell if fell > TREND_FASTER and (falls - 1) / math.sqrt(len(ratios)) > TREND_Z else None


class OwnPrompts(NamedTuple):
    """How own prompts of different lengths are judged: by what the same prompt differs from pass to pass."""

    lines: int
    scatter: float
    """Interquartile range of the logarithms of one prompt's values around their median."""


def find_own_prompts(samples: Iterable[Sample], metric: Metric) -> OwnPrompts | None:
    """Return how much a metric of the same own prompt differs; None for made-up prompts and after a single pass.

    Values around a median of n values differ less than around the true one, by sqrt(1 - 1 / n).
    """
    lines = [
        [math.log(middle) for sample in line if (middle := statistics.median(metric.values(sample) or (0.0,))) > 0]
        for line in list_lines(counted(samples))
    ]
    apart = sorted(
        (value - statistics.median(logs)) * math.sqrt(len(logs) / (len(logs) - 1))
        for logs in lines
        if len(logs) > 1
        for value in logs
    )
    return OwnPrompts(len(lines), percentile(apart, 0.75) - percentile(apart, 0.25)) if apart else None


def _times_of_rounds(samples: Sequence[Sample]) -> dict[int, float]:
    """Number of a round -> the median of its end-to-end times; a round is one request or conversation per lane."""
    lanes, times = _count_lanes(samples), defaultdict[int, list[float]](list)
    conversations = list_conversations(samples)
    most = max(map(len, conversations), default=0)
    for place, conversation in enumerate(conversations):
        own = [sample.e2e_ms for sample in conversation if sample.ok and sample.e2e_ms]
        if len(own) == most:  # a shorter one failed
            times[place // lanes].append(sum(own))
    for sample in () if conversations else samples:
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
    """By how much values fell, as a share; None if they did not.

    There are two conditions, so that noise alone does not meet them: Mann's test of trend on the values in their order
    (Mann 1945, Kendall 1975; normal approximation with continuity correction), and the medians of first and last third.
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
