"""Door 2: which stored measurements can be a baseline."""

from __future__ import annotations

from pytest_boobench.record import Measurement


def find_flaw(measurement: Measurement, *, spoiled: bool) -> str:
    """Why a measurement cannot be a baseline; empty where it can."""
    if measurement.error:
        return measurement.error
    if measurement.reference_host:
        return f"measured in turns with {measurement.reference_host}, which another session cannot repeat"
    if measurement.verdicts and all(verdict.now is None for verdict in measurement.verdicts):
        return "none of its judged metrics has a number"
    return "" if spoiled else measurement.spoiled or ""
