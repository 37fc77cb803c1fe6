"""Room 3: the statistics of metrics that no sample has: of the server's start, and of whole blocks."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_boobench.aggregate import Aggregate, condense
from pytest_boobench.metrics import METRICS
from pytest_boobench.record import CellRecord


def summarize_start(record: CellRecord) -> dict[str, Aggregate]:
    """Metric key -> Aggregate, for the metrics of the server's start that are known: of one number each."""
    values = {key: getattr(record, key) for key, metric in METRICS.items() if metric.of_start}
    found = {key: condense([value]) for key, value in values.items() if value is not None}
    return {key: aggregate for key, aggregate in found.items() if aggregate is not None}


def summarize_blocks(record: CellRecord, blanks: Mapping[str, str]) -> dict[str, Aggregate]:
    """Metric key -> Aggregate, for the metrics of which each block has one number and that are not ``blanks``."""
    keys = [key for key, metric in METRICS.items() if metric.of_block and key not in blanks]
    found = {key: condense(record.of_blocks.get(key, ())) for key in keys}
    return {key: aggregate for key, aggregate in found.items() if aggregate is not None}
