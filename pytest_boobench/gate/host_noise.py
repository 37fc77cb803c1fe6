"""Room 6: how much the sessions of an unchanged host differ, learnt from all that it measured: of any suite and build.

One cell's baseline says little of it while it is young, and a machine that we cannot look into has no canary. But cells
of one host share its state, so that what other cells and other builds have shown holds for a new cell too. Each build
is compared with itself only.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from pytest_boobench.gate.change_points import find_changes
from pytest_boobench.gate.reference import group_sessions, usable
from pytest_boobench.record import Baseline, HostLook, HostNoise

LEAST_SESSIONS = 5
"""A host with fewer sessions has not shown its noise."""
NEWEST_LOOKS = 20
"""Of each cell and build, only so many of the newest measurements count: else an old, long history would hide how the
host is now."""
OUTLIER = 4.0
"""A deviation beyond this many (robust) standard deviations of its host counts as this many: one bad night must not
blind the gate for weeks."""
_NORMAL_MAD = 1.4826
"""Standard deviation of normal values in units of their median absolute deviation (Hampel 1974)."""


def learn_noise(baselines: Mapping[str, Baseline], looks: Iterable[HostLook]) -> dict[str, Baseline]:
    """Return the baselines, key -> baseline, each with what the looks say about the noise of its host.

    Noise that a baseline already has, from its file, stays if it was learnt from more sessions.
    """
    learnt = measure_hosts(looks)
    return {
        key: replace(baseline, host_noise=choose_noise(baseline.host_noise, learnt.get(baseline.host)))
        for key, baseline in baselines.items()
    }


def measure_hosts(looks: Iterable[HostLook]) -> dict[str, HostNoise]:
    """Return host -> its noise, for hosts with enough sessions."""
    by_host: dict[str, list[HostLook]] = defaultdict(list)
    for look in looks:
        by_host[look.host].append(look)
    measured = {host: measure_host_noise(found) for host, found in by_host.items()}
    return {host: noise for host, noise in measured.items() if noise is not None}


def add_noise(
    file_noise: Mapping[str, HostNoise], looks: Iterable[HostLook], hosts: Iterable[str]
) -> dict[str, HostNoise]:
    """Return host -> noise for a baseline file: what it has, or what the looks say if they are of more sessions."""
    learnt = measure_hosts(looks)
    chosen = {host: choose_noise(file_noise.get(host), learnt.get(host)) for host in hosts}
    return {host: noise for host, noise in chosen.items() if noise is not None}


def choose_noise(one: HostNoise | None, other: HostNoise | None) -> HostNoise | None:
    """Return the one that was learnt from more sessions; of equals the second."""
    known = [noise for noise in (one, other) if noise is not None]
    return max(reversed(known), key=lambda noise: noise.sessions, default=None)


def measure_host_noise(looks: Iterable[HostLook]) -> HostNoise | None:
    """Return a host's noise between sessions by metric; None if it has fewer than five sessions.

    The pooled variance of all series: their squared deviations from their own medians, over the degrees of freedom. A
    step in a series that stayed is a change, not noise: each side of it is a series of its own. So is a fall that
    nothing has recovered from yet.
    """
    found = list(looks)
    sessions = len(group_sessions(found))
    if sessions < LEAST_SESSIONS:
        return None
    series: dict[str, list[HostLook]] = defaultdict(list)
    for look in sorted(found, key=lambda look: look.measured_at):
        series[look.series].append(look)
    deviations: dict[str, list[float]] = defaultdict(list)
    freedom: dict[str, int] = defaultdict(int)
    for several in series.values():
        kept = _drop_unsettled_end(several)[-NEWEST_LOOKS:]
        for metric in {metric for look in kept for metric in look.medians}:
            for levels in _split_at_steps(_list_levels(kept, metric)):
                middle = statistics.median(levels)  # the mean would follow an outlier
                deviations[metric] += [level - middle for level in levels]
                freedom[metric] += len(levels) - 1
    known = {
        metric: math.sqrt(math.fsum(value**2 for value in _pull_in(deviations[metric])) / free)
        for metric, free in freedom.items()
        if free >= LEAST_SESSIONS - 1
    }
    return HostNoise(sessions=sessions, by_metric=known) if known else None


def _drop_unsettled_end(looks: Sequence[HostLook]) -> Sequence[HostLook]:
    """Leave out the newest looks that are worse and that no good one followed: they may be the change itself."""
    good = [place for place, look in enumerate(looks) if look.settled]
    return looks[: good[-1] + 1] if good else ()


def _list_levels(looks: Sequence[HostLook], metric: str) -> list[float]:
    """The logarithm of the metric in each session: of several measurements in one session the median."""
    known = [look for look in looks if usable(look.medians.get(metric, 0.0))]
    return [math.log(statistics.median(look.medians[metric] for look in session)) for session in group_sessions(known)]


def _split_at_steps(levels: Sequence[float]) -> Iterator[Sequence[float]]:
    """Cut where the level changed for good."""
    steps = [change.index for change in find_changes([math.exp(level) for level in levels]) if not change.gradual]
    for begin, end in zip([0, *steps], [*steps, len(levels)], strict=True):
        if end - begin > 1:
            yield levels[begin:end]


def _pull_in(deviations: Sequence[float]) -> list[float]:
    """Limit outliers."""
    most = OUTLIER * _NORMAL_MAD * statistics.median(map(abs, deviations))
    return [max(-most, min(most, value)) for value in deviations] if most else list(deviations)
