"""Room 2: what all watchers of a host share: their methods, recently ended requests, Prometheus counters."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx

from pytest_boobench.facts import ForeignRequest, Hardware, OwnTraffic, Sighting, Traffic
from pytest_boobench.servers.speculation import Drafts
from pytest_boobench.units import count
from pytest_boobench.untrusted import MAX_COUNT

RUN_HEADER = "X-Boobench-Run"
"""Names the run that sends a request, to tell our own requests from foreign ones."""
_RECENT_S = 60.0
_MOST_REQUESTS = 10_000
"""A higher count of requests in flight cannot be right."""


@dataclass(frozen=True, slots=True)
class OwnMarks:
    """How a watcher recognizes our requests while they run."""

    run_uid: str
    """Value of the header ``X-Boobench-Run``."""
    seeds: frozenset[int] = frozenset()
    """Seeds of our requests."""


class Watcher:
    """Watches one host. Windows follow each other and never overlap.

    Methods never raise for what the host does: what cannot be seen is a note in the Traffic, or unknown. This class is
    for servers that tell nothing about other requests: Ollama, LM Studio, plain OpenAI-compatible ones.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        """The model that the next window is for."""
        self.hardware: Hardware | None = None
        """What the server itself reported of its machine in the last window."""
        self.drafts: Drafts | str | None = None
        """Draft tokens of our requests in the last window, or why they are not known; None if answers tell it, or
        nothing speculates."""

    async def look(self) -> Sighting:
        """Return what is in flight now. Never loads a model."""
        return Sighting(known=False)

    async def begin(self, marks: OwnMarks) -> None:
        """Open a window, right before the first request of a cell."""

    async def end(self, own: OwnTraffic) -> Traffic:  # noqa: ARG002  # the others need it
        """Close the window, right after the last answer. Returns the traffic in it that is not ours."""
        return Traffic(notes=("this kind of server does not show foreign requests",))

    async def close(self) -> None:
        """Stop watching."""


class RecentlyEnded:
    """Foreign requests that ended in the last minute, found by comparing each look with the one before it.

    Times are seconds since 1970 UTC.
    """

    def __init__(self) -> None:
        self._ended: dict[str, set[int]] = {}
        self._totals: dict[str, int] = {}
        self._lines: deque[tuple[float, str]] = deque()

    def see_tasks(self, name: str, ended: set[int], now_s: float) -> None:
        """Add the tasks of idle slots: a slot shows its last task until the next one begins."""
        for task in sorted(ended - self._ended.get(name, ended)):
            self._add(f"{name}, task {task}", now_s)
        self._ended[name] = ended

    def see_total(self, name: str, total: int, noun: str, now_s: float) -> None:
        """Add a counter that grows with each request that ends, or with its tokens."""
        more = total - self._totals.get(name, total)
        if more > 0:
            self._add(f"{name}, {count(more, noun)}", now_s)
        self._totals[name] = total

    def tell(self, now_s: float) -> tuple[str, ...]:
        """Return one line for each, the latest first; always the same line for the same request."""
        while self._lines and now_s - self._lines[0][0] > _RECENT_S:
            self._lines.popleft()
        return tuple(line for _, line in reversed(self._lines))

    def forget(self) -> None:
        """Start over: what ends from now on may be ours."""
        self._ended.clear()
        self._totals.clear()

    def _add(self, line: str, now_s: float) -> None:
        self._lines.append((now_s, f"{line} (ended {datetime.fromtimestamp(now_s, UTC):%H:%M:%S} UTC)"))


def number_requests(running: int, waiting: int, model: str) -> tuple[ForeignRequest, ...]:
    """Return requests of which only the number is known."""
    return tuple(
        ForeignRequest(id=f"request {number}", model=model, queued=number > running)
        for number in range(1, min(running + waiting, _MOST_REQUESTS) + 1)
    )


def read_text(response: httpx.Response) -> str:
    """Return the body as UTF-8, whatever charset it declares."""
    return response.content.decode("utf-8", "replace")


def sum_metrics(text: str) -> Mapping[str, float]:
    """Return metric name -> the sum of its values over all labels. Skips lines without a finite number.

    A line is ``name{labels} value [time stamp]``; a label's value may hold blanks and braces, a metric's name neither.
    Format: prometheus.io/docs/instrumenting/exposition_formats.
    """
    sums: dict[str, float] = defaultdict(float)
    for line in text.split("\n"):  # not splitlines: a label may hold other Unicode line ends
        name, brace, labelled = line.partition("{")
        if brace:
            words = labelled.rpartition("}")[2].split()
        else:
            name, *words = line.split() or [""]
        if not name or name.startswith("#"):
            continue
        with suppress(IndexError, ValueError):
            value = float(words[0])
            if math.isfinite(value):
                sums[name.strip()] += value
    return {name: value for name, value in sums.items() if math.isfinite(value)}


def take_whole(values: Mapping[str, float], name: str, otherwise: int | None = None) -> int:
    """Return a counter's value. Raises KeyError if it is missing, or is no count that a server could reach."""
    value = values.get(name, otherwise)
    if value is None or not 0 <= value <= MAX_COUNT:
        raise KeyError(name)
    return int(value)
