"""Door 2: the looks of a soak at a server that is not restarted, each a session of pytest with a suite made for it."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pytest_boobench import HOSTS_FILE
from pytest_boobench.cli.ab_session import IMPOSSIBLE, INTERRUPTED, UNDECIDED, AbSettings, find_models
from pytest_boobench.cli.ab_sides import AbSide, write_hosts_file
from pytest_boobench.cli.made_session import MadeSession
from pytest_boobench.cli.project import Project
from pytest_boobench.errors import BoobenchError
from pytest_boobench.gate.change_points import Change, find_changes
from pytest_boobench.gate.drift import MAX_DRIFT, Drift, find_drift
from pytest_boobench.hosts.addresses import DEFAULT_PORTS, find_address, is_own
from pytest_boobench.hosts.server_memory import find_gpu_mb, find_resident_mb
from pytest_boobench.hosts.server_process import ElsewhereError, find_listening

SOAK_SUITE = "soak"
MOST_LOOKS = 360
"""Over the whole time: more would tell little more, and the history has a limit."""
MOST_FAILURES = 10
"""Looks in a row that fail, after which nobody is there."""
CHANGE_WORTH = 0.01
"""A smaller change of the course is not told."""
Trend = Literal["worse", "steady", "undecided"]


@dataclass(frozen=True, slots=True)
class SoakMetric:
    """What is followed, look by look."""

    key: str
    title: str
    unit: str
    better: Literal["higher", "lower"]


SOAK_METRICS = (
    SoakMetric("decode_tok_s", "decode", "tok/s", "higher"),
    SoakMetric("prefill_tok_s", "prefill", "tok/s", "higher"),
    SoakMetric("resident_mb", "memory", "MB", "lower"),
    SoakMetric("gpu_mb", "GPU memory", "MB", "lower"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakSettings:
    """What is asked of a soak."""

    model: str | None = None
    """None: the one model that the host has."""
    prompt_tokens: int = 128
    output_tokens: int = 64
    samples: int = 3
    """Requests of a look, after one that warms up."""
    hours: float = 8.0
    share: float = 0.05
    """Of the host's time that looks may take."""
    max_drift: float = MAX_DRIFT
    """Per hour, a ratio."""
    store_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakLook:
    """One session's result."""

    hour: float
    """Since the beginning."""
    values: Mapping[str, float]
    """Key of a `SoakMetric` -> its number, for those that are known."""
    processes: frozenset[int] = frozenset()
    loaded: bool = False
    """Whether the host loaded the model for it."""
    took_s: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakCourse:
    """One metric over the whole time."""

    metric: SoakMetric
    first: float
    last: float
    drift: Drift | None
    """Of the logarithms, per hour; None where there are too few looks."""
    trend: Trend
    changes: tuple[tuple[float, float, Change], ...]
    """First and last hour of each change, and the change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakClock:
    """The time, and how to wait; tests have another one."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class Soak:
    """A soak, finished or not."""

    host: str
    asked: SoakSettings
    model: str | None = None
    looks: tuple[SoakLook, ...] = ()
    took_s: float = 0.0
    error: str = ""
    interrupted: bool = False

    @property
    def good(self) -> list[SoakLook]:
        """The looks that measured something."""
        return [look for look in self.looks if not look.error]

    @property
    def courses(self) -> list[SoakCourse]:
        """Each metric that most looks have."""
        return [course for metric in SOAK_METRICS if (course := _follow(metric, self)) is not None]

    @property
    def restarts(self) -> list[float]:
        """The hours in which the server was found restarted, or its model loaded anew."""
        pairs = zip(self.good, self.good[1:], strict=False)
        return [
            after.hour
            for before, after in pairs
            if after.loaded or (before.processes and after.processes and before.processes.isdisjoint(after.processes))
        ]

    @property
    def share(self) -> float:
        """Of the host's time that the looks took, at most."""
        return sum(look.took_s for look in self.looks) / self.took_s if self.took_s else 0.0

    @property
    def exit_code(self) -> int:
        """As `boobench soak` ends: 0 steady, 1 worse, 2 nothing measured, 3 undecided, 130 interrupted."""
        if self.interrupted:
            return INTERRUPTED
        if not self.good:
            return IMPOSSIBLE
        trends = {course.trend for course in self.courses}
        if "worse" in trends:
            return 1
        return 0 if trends == {"steady"} and not self.restarts and not self.error else UNDECIDED


def _follow(metric: SoakMetric, soak: Soak) -> SoakCourse | None:
    known = [(look.hour, look.values[metric.key]) for look in soak.good if look.values.get(metric.key, 0.0) > 0]
    if not known or len(known) < len(soak.good) / 2:
        return None
    hours, values = [hour for hour, _ in known], [value for _, value in known]
    drift = find_drift(hours, [math.log(value) for value in values])
    changes = tuple((hours[one.index], hours[one.last], one) for one in find_changes(values, CHANGE_WORTH))
    return SoakCourse(
        metric=metric,
        first=values[0],
        last=values[-1],
        drift=drift,
        trend=_judge(metric, drift, soak.asked.max_drift),
        changes=changes,
    )


def _judge(metric: SoakMetric, drift: Drift | None, allowed: float) -> Trend:
    if drift is None:
        return "undecided"
    if metric.better == "higher":
        limit = math.log1p(-allowed)
        return "worse" if drift.falls and drift.slope < limit else "steady" if drift.low > limit else "undecided"
    limit = math.log1p(allowed)
    return "worse" if drift.rises and drift.slope > limit else "steady" if drift.high < limit else "undecided"


def run_soak(
    side: AbSide,
    asked: SoakSettings,
    project: Project,
    tell: Callable[[SoakLook], None],
    clock: SoakClock | None = None,
) -> Soak:
    """Look at a named side until the time is over. What the user must mend comes as ``error``; Ctrl-C ends it early."""
    clock = clock or SoakClock()
    began = clock.now()
    found = Soak(host=side.name, asked=asked)
    with tempfile.TemporaryDirectory(prefix="boobench-soak-") as name:
        folder = Path(name)
        try:
            write_hosts_file(folder / HOSTS_FILE, (side,))
            chosen = AbSettings(model=asked.model, store_url=asked.store_url)
            asked = replace(asked, model=find_models(folder / HOSTS_FILE, side, side, chosen).model)
            found = replace(found, model=asked.model)
            made = MadeSession(folder=folder, project=project, store_url=asked.store_url)
            for look in _look_again(_Looker(made, side, asked), clock, began):
                found = replace(found, looks=(*found.looks, look), took_s=clock.now() - began)
                tell(look)
                if not found.good:
                    raise BoobenchError(look.error)
                if all(each.error for each in found.looks[-MOST_FAILURES:]) and len(found.looks) > MOST_FAILURES:
                    raise BoobenchError(f"{MOST_FAILURES} looks in a row failed: {look.error}")
        except BoobenchError as error:
            found = replace(found, error=str(error))
        except KeyboardInterrupt:
            found = replace(found, interrupted=True)
    return replace(found, took_s=clock.now() - began)


def _look_again(looker: _Looker, clock: SoakClock, began: float) -> Iterator[SoakLook]:
    """A look, a pause, and so on; the pauses keep the looks within their share of the time."""
    asked = looker.asked
    whole_s, spent_s = asked.hours * 3600, 0.0
    while True:
        look_began = clock.now()
        look = looker.look((look_began - began) / 3600)
        took_s = clock.now() - look_began
        yield replace(look, took_s=took_s)
        spent_s += took_s
        # so long that all looks, with one more like the last one, keep to their share
        enough_s = (spent_s + took_s) / asked.share - took_s - (clock.now() - began)
        pause_s = max(enough_s, whole_s / MOST_LOOKS - took_s, 0.0)
        if clock.now() + pause_s > began + whole_s:
            return
        clock.sleep(pause_s)


@dataclass(frozen=True, slots=True)
class _Looker:
    """Runs pytest over the soak's one cell."""

    made: MadeSession
    side: AbSide
    asked: SoakSettings

    def look(self, hour: float) -> SoakLook:
        """Measure once, and read the memory of a server on this machine."""
        result = self.made.run(self._make_suite())
        if result.interrupted:
            raise KeyboardInterrupt
        told = result.document or {}
        if not told.get("cells"):
            reasons = [each["reason"] for each in told.get("unmeasured", ())]
            return SoakLook(hour=hour, values={}, error="; ".join(reasons) or result.last_words)
        (cell,) = told["cells"]
        if error := cell["error"] or cell["spoiled"]:
            return SoakLook(hour=hour, values={}, error=error)
        processes = _find_processes(self.side)
        speeds = {key: found["median"] for key, found in cell["aggregates"].items() if found["median"]}
        return SoakLook(
            hour=hour, values={**speeds, **_read_memory(processes)}, processes=processes, loaded=bool(cell["load_ms"])
        )

    def _make_suite(self) -> dict[str, Any]:
        asked = self.asked
        return {
            "suite": SOAK_SUITE,
            "description": "boobench soak",
            "hosts": [self.side.name],
            "models": [asked.model],
            "grid": {"prompt_tokens": [asked.prompt_tokens], "output_tokens": [asked.output_tokens]},
            "sampling": {"temperature": 0.0, "seed": 42},
            "warmup": 1,
            "samples": asked.samples,
            "max_samples": asked.samples,
            "gate": {},
        }


def _find_processes(side: AbSide) -> frozenset[int]:
    """The server's processes, where it runs on this machine and is no tunnel."""
    parts = urlsplit(str(side.row.get("url", "")))
    if parts.hostname is None or not is_own(find_address(str(side.row["url"]))):
        return frozenset()
    try:
        return find_listening(parts.port or DEFAULT_PORTS.get(parts.scheme, 0))
    except ElsewhereError:
        return frozenset()


def _read_memory(processes: frozenset[int]) -> dict[str, float]:
    if not processes:
        return {}
    found = {"resident_mb": find_resident_mb(processes), "gpu_mb": find_gpu_mb(processes)}
    return {key: size for key, size in found.items() if size is not None}
