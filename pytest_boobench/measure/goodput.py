"""Room 3: which requests were within the SLO: the share of them, and how many of them per second."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from pytest_boobench.aggregate import CLIENT_LATE, counted, counted_reference
from pytest_boobench.measure.open_loop import find_window_s
from pytest_boobench.metrics import Sample
from pytest_boobench.suite.cell import Cell
from pytest_boobench.suite.objectives import find_time_ms, is_good
from pytest_boobench.units import quantity

GOODPUT = ("slo_share", "goodput_rps")
WAITING = ("ttft_ms", "ttfo_ms", "queue_ms", "headers_ms", "e2e_ms")
"""The times that grow for as long as a host does not keep up."""
GROWING = 0.2
"""A host that answers less than this share below its rate keeps up: its queue is long, but ends."""
MOST_DOUBTFUL = 0.01
"""If the client may have made more than this share of the requests miss the SLO, there is no share."""
_FEWEST = 6
"""Fewer requests show no growth."""


def find_goodput(cell: Cell, samples: Sequence[Sample]) -> dict[str, float]:
    """Return the metrics of one block, from the measured samples of its last attempt; empty without an SLO or if nobody
    can tell of a request.

    The window is the time in which they were planned, or from the first one sent to the end of the last one.
    """
    own = [sample for sample in samples if sample.phase == "measure"]
    good = [is_good(sample, cell.slo) for sample in own]
    if not cell.slo or not own or None in good:
        return {}
    if cell.planned:
        window_ms = find_window_s(cell, len(own)) * 1000
    else:
        begin_ms = min(sample.offset_ms for sample in own)
        window_ms = max(sample.offset_ms + (sample.e2e_ms or 0.0) for sample in own) - begin_ms
    found = {"slo_share": good.count(True) / len(own)}
    return found | ({"goodput_rps": good.count(True) / window_ms * 1000} if window_ms > 0 else {})


def explain_goodput(cell: Cell, samples: Sequence[Sample]) -> dict[str, str]:
    """Return metric -> why it is blank, for those of the SLO and for the times of a host that does not keep up."""
    good, others = counted(samples), counted_reference(samples)
    reason = _explain_unknown(cell, [*good, *others]) if cell.slo else ""
    found = dict.fromkeys(GOODPUT, reason) if reason else {}
    return found | _explain_growth(cell, others, "the other side") | _explain_growth(cell, good, cell.host)


def _explain_unknown(cell: Cell, good: Sequence[Sample]) -> str:
    """Why nobody can tell which requests were within the SLO: a time is not known, or the client was late."""
    for sample in good:
        if is_good(sample, cell.slo) is None:
            key = next(key for key in cell.slo if find_time_ms(sample, key) is None)
            unknown = f"a request has no {key}, so nobody can say whether it was within the SLO"
            return sample.blanks.get(key) or unknown
    late = sum(_is_late_by_client(sample, cell.slo) for sample in good)
    if late <= MOST_DOUBTFUL * len(good):
        return ""
    return f"{CLIENT_LATE}: {late} of {len(good)} requests may have missed the SLO only because it sent or read late"


def _is_late_by_client(sample: Sample, slo: Mapping[str, float]) -> bool:
    """Whether a request that missed the SLO would have been within it without the client's own lateness."""
    if is_good(sample, slo) is not False:
        return False
    times = [(find_time_ms(sample, key) or 0.0, sample.find_client_bound(key), limit) for key, limit in slo.items()]
    return all(time_ms * (1 - min(bound, 1.0)) <= limit_ms for time_ms, bound, limit_ms in times)


def _explain_growth(cell: Cell, good: Sequence[Sample], host: str) -> dict[str, str]:
    """A host that does not keep up with a rate.

    The requests of the last third waited longer than those of the first: by how much in the time between tells the
    share of the requests that the host leaves behind. Such times depend on how long one measures. Of own prompts only
    equal ones can be compared, and a cell always measures the same ones: nothing is found.
    """
    if not cell.rate or cell.prompts:
        return {}
    newest = max(((sample.block, sample.attempt) for sample in good), default=(1, 1))
    times = [sample.e2e_ms for sample in good if (sample.block, sample.attempt) == newest and sample.e2e_ms]
    third = len(times) // 3
    if len(times) < _FEWEST:
        return {}
    first_ms, last_ms = statistics.median(times[:third]), statistics.median(times[-third:])
    between_ms = (len(times) - third) / cell.rate * 1000
    if (last_ms - first_ms) / between_ms <= GROWING:
        return {}
    reason = (
        f"{host} does not keep up with {cell.rate:g} requests per second: the first ones took "
        f"{quantity(first_ms, 'ms')}, the last ones {quantity(last_ms, 'ms')}; lower the rate"
    )
    return dict.fromkeys(WAITING, reason)
