"""Door 2: a stored cell, as verbs name it and as it is judged."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_boobench import gate
from pytest_boobench.record import Measurement


def name_cell(measurement: Measurement) -> str:
    """As in ``rack-1::qwen3-8b[pp512-tg32-c4]``."""
    return "::".join(measurement.node_id.split("::")[-2:])


def find_allowed(measurement: Measurement, max_drop: float | None) -> Mapping[str, float]:
    """Metric -> allowed worsening, a ratio: what was allowed when it was measured, else the usual.

    ``max_drop`` is allowed of all of them instead.
    """
    judged = {verdict.metric: verdict.allowed for verdict in measurement.verdicts}
    lanes = measurement.identity["concurrency"]
    return gate.limits(measurement.identity["kind"], judged or None, gate.Rules(max_drop=max_drop), lanes=lanes)
