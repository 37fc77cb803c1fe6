"""Door 2: the same cell on both sides, judged."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_boobench import gate
from pytest_boobench.cli.cells import find_allowed, name_cell
from pytest_boobench.cli.comparison.past import make_baseline, recall
from pytest_boobench.cli.comparison.sides import Side
from pytest_boobench.record import Baseline, Measurement, Outcome, Verdict
from pytest_boobench.suite.cell import Policy

RANK: tuple[Outcome, ...] = ("regression", "inconclusive", "not comparable", "improvement", "pass", "no baseline")
"""Which verdicts ask most of the reader."""

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One gated metric of one cell on both sides."""

    measurement: Measurement
    """The newest one of the second side."""
    verdict: Verdict
    was: float | None
    """The first side's level, also where nothing could be judged."""

    @property
    def cell(self) -> str:
        """As in ``rack-1::qwen3-8b[pp512-tg32-c4]``."""
        return name_cell(self.measurement)

    @property
    def change(self) -> float | None:
        """now / was - 1; None where that cannot be divided."""
        now = self.verdict.now
        return None if now is None or not self.was else now / self.was - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Both sides, cell by cell."""

    pairs: tuple[Pair, ...]
    """Regressions first, each kind of verdict by the size of its change."""
    only_first: tuple[Measurement, ...]
    only_second: tuple[Measurement, ...]
    """The newest measurement of each cell that only one side has."""
    failed: tuple[Measurement, ...]
    """Cells of the second side that could not be measured, or not to their end."""


def compare(first: Side, second: Side, *, max_drop: float | None, policy: Policy) -> Comparison:
    """Hold the newest measurement of each cell of the second side against all clean ones of the first.

    ``max_drop`` is what is allowed of every gated metric, a ratio; without it, what was when the cell was measured.
    """
    across = not _hosts(first) & _hosts(second)
    before, after = _group(first, across=across), _group(second, across=across)
    baselines = {key: _find_baseline(first, some) for key, some in before.items()}
    spread = gate.measure_spread(baseline for baseline in baselines.values() if baseline)
    pairs: list[Pair] = []
    failed: list[Measurement] = []
    for key in after.keys() & before.keys():
        now, baseline = after[key][-1], baselines[key]
        if now.error is not None:
            failed.append(now)
            continue
        record = recall(now, canaries=(now.canary,) if now.canary and not across else ())
        allowed = find_allowed(now, max_drop)
        judged = gate.judge(record, baseline, allowed, policy=policy, spread=spread.get(now.run.suite, {}))
        pairs += (Pair(measurement=now, verdict=verdict, was=_level(verdict.metric, baseline)) for verdict in judged)
    return Comparison(
        pairs=tuple(sorted(pairs, key=_rank)),
        only_first=_list_others(before, after),
        only_second=_list_others(after, before),
        failed=tuple(sorted(failed, key=lambda measurement: measurement.node_id)),
    )


def _hosts(side: Side) -> set[str]:
    return {measurement.run.host for measurement in side.measurements}


def _group(side: Side, *, across: bool) -> Mapping[Key, list[Measurement]]:
    """Cells of a side, oldest measurement first. Across hosts a cell is all that it is but for its host."""
    found: dict[Key, list[Measurement]] = defaultdict(list)
    for measurement in side.measurements:
        identity = {name: value for name, value in measurement.identity.items() if name != "host"}
        key = (repr(sorted(identity.items())),) if across else (measurement.cell_key,)
        found[key].append(measurement)
    return found


def _find_baseline(side: Side, measurements: Sequence[Measurement]) -> Baseline | None:
    """The stored one, or one made of the clean measurements; None where there are none."""
    key = measurements[-1].cell_key
    if key in side.baselines:
        return side.baselines[key]
    clean = [each for each in measurements if each.error is None and each.spoiled is None]
    return make_baseline(side.label, key, clean) if clean else None


def _level(metric: str, baseline: Baseline | None) -> float | None:
    return gate.level(metric, baseline) if baseline else None


def _list_others(side: Mapping[Key, Sequence[Measurement]], other: Mapping[Key, object]) -> tuple[Measurement, ...]:
    return tuple(some[-1] for key, some in side.items() if key not in other)


def _rank(pair: Pair) -> tuple[int, float, str, str]:
    size = abs(pair.change) if pair.change is not None else 0.0
    return RANK.index(pair.verdict.outcome), -size if math.isfinite(size) else 0.0, pair.cell, pair.verdict.metric
