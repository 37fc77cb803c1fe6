"""Room 6: what is allowed, and how far the gate goes to find out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_boobench.metrics import METRICS, Kind, Length, gated_metrics
from pytest_boobench.suite.cell import Disturbed, Policy

MAX_DROP = 0.10
"""Allowed worsening where neither suite nor session says otherwise: the owner's rule."""
IMPROVEMENT = 0.05
"""Above this a better number is worth a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a session says of judging; a suite may say otherwise, but for ``max_drop`` and ``policy``."""

    max_drop: float | None = None
    """Allowed worsening of every gated metric, whatever the suites say."""
    default_max_drop: float = MAX_DROP
    """Allowed worsening where a suite does not say."""
    disturbed: Disturbed = "inconclusive"
    """What becomes of a cell that others disturbed, where its suite does not say."""
    policy: Policy = "default"


def limits(
    kind: Kind,
    gate: Mapping[str, float | None] | None,
    rules: Rules,
    *,
    lanes: int = 1,
    length: Length = "exact",
) -> dict[str, float]:
    """Metric key -> allowed worsening as a ratio, for the metrics that are judged in a cell of this kind.

    A time that is judged though the suite does not say so may rise by what a drop of the rate comes to.
    """
    if gate is None:
        allowed = rules.default_max_drop if rules.max_drop is None else rules.max_drop
        found: dict[str, float] = {}
        for key in gated_metrics(kind, lanes, length):
            if METRICS[key].better == "higher":
                found[key] = allowed
            elif allowed < 1:
                found[key] = 1 / (1 - allowed) - 1
        return found
    if rules.max_drop is not None:
        return dict.fromkeys(gate, rules.max_drop)
    return {key: rules.default_max_drop if allowed is None else allowed for key, allowed in gate.items()}
