"""Room 7: the cells of the page, the most urgent first: each with its measurements, or why it has none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from pytest_boobench.metrics import find_metric, metrics_of
from pytest_boobench.record import Measurement, Verdict
from pytest_boobench.reports.session import ALL_LANES, Unmeasured, find_value

Tone = Literal["bad", "warn", "plain", "good"]
_SAVE = "pytest --boobench --boobench-save-baseline"


@dataclass(frozen=True, slots=True)
class State:
    """What became of a cell."""

    word: str
    sign: str
    """Says the same to those who cannot see the colour."""
    tone: Tone
    advice: str = ""
    """What the reader should do."""
    command: str = ""


# fmt: off
STATES: Mapping[str, State] = {
    state.word: state
    for state in (
        State("regression", "▼", "bad",
              "Open the cell and see at which run, build or commit its course drops. If the slower speed is meant, "
              "make it the baseline:", f"{_SAVE} --boobench-max-drop 100%"),
        State("not measured", "✕", "bad",
              "Nothing was judged here: the host is out of reach, refuses, or does something else than the cell asks "
              "for, or a fixture failed. Fix that, then run the cell again."),
        State("failed requests", "✕", "bad",
              "Some measured requests failed. The suite sets with max_failed how many may fail."),
        State("not comparable", "≠", "warn",
              "Something else is measured than in the baseline. If that is meant, store a new baseline:", _SAVE),
        State("inconclusive", "◆", "warn",
              "Not judged: the host was disturbed or still warming up, or the numbers scatter too much. A quieter "
              "host, more samples, longer outputs or baselines from more sessions help."),
        State("no baseline", "○", "plain",
              "Not judged, so it passed. Store what was measured as the baseline:", _SAVE),
        State("not judged", "–", "plain", "Measured, and no metric of it is gated."),
        State("skipped", "⊘", "plain", "Nothing was measured: a mark, a fixture or a hook skipped it."),
        State("improvement", "▲", "good", "To keep the faster speed from now on, make it the baseline:", _SAVE),
        State("pass", "●", "good"),
    )
}
# fmt: on
"""Every state by its word, the most urgent first."""

RANKS: Mapping[str, int] = {word: rank for rank, word in enumerate(STATES)}


def find_state(measurement: Measurement) -> State:
    """The most urgent state that fits a measurement."""
    words: list[str] = [verdict.outcome for verdict in measurement.verdicts] or ["not judged"]
    if measurement.error is not None:
        words.append("not measured")
    if measurement.failed:
        words.append("failed requests")
    return STATES[min(words, key=RANKS.__getitem__)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A cell and its measurements, oldest first, at least one."""

    measurements: tuple[Measurement, ...]

    @property
    def newest(self) -> Measurement:
        return self.measurements[-1]

    @property
    def state(self) -> State:
        return find_state(self.newest)

    @property
    def name(self) -> str:
        """``model[pp64-tg32-c1]``."""
        return self.newest.node_id.rpartition("::")[2]

    @property
    def suite(self) -> str:
        return self.newest.run.suite

    @property
    def host(self) -> str:
        return self.newest.run.host

    @property
    def model(self) -> str:
        """The model's short name."""
        return self.name.partition("[")[0]

    @property
    def size(self) -> tuple[Any, ...]:
        """Sort key: model, prompt tokens, output tokens, lanes, depth, then the node id."""
        identity = self.newest.identity
        prompt, output, lanes = (identity.get(name) or 0 for name in ("prompt_tokens", "output_tokens", "concurrency"))
        numbers = (prompt, output, lanes, identity.get("depth_tokens", 0))
        return self.model, *numbers, self.newest.node_id

    @property
    def decisive(self) -> Verdict | None:
        """The most urgent verdict of the newest measurement."""
        return min(self.newest.verdicts, key=lambda verdict: RANKS[verdict.outcome], default=None)

    @property
    def baseline(self) -> Measurement | None:
        """The newest measurement, before the last one, of the baseline that judged the last one."""
        name = next((verdict.baseline_name for verdict in self.newest.verdicts if verdict.baseline_name), None)
        saved = [measurement for measurement in self.measurements[:-1] if name in measurement.baselines]
        return saved[-1] if saved else None

    @property
    def compared(self) -> Mapping[str, Measurement]:
        """``now``, the newest measurement, and ``was``, its baseline where there is one."""
        return {"now": self.newest} | ({"was": was} if (was := self.baseline) else {})

    @property
    def charted(self) -> tuple[str, ...]:
        """Keys of the metrics to chart: the judged ones with the decisive one first, the gated ones, a time, and all
        lanes together."""
        kind = self.newest.identity["kind"]
        gated = [metric.key for metric in metrics_of(kind) if metric.gated]
        judged = sorted(self.newest.verdicts, key=lambda verdict: RANKS[verdict.outcome])
        time_key = "e2e_ms" if kind == "embedding" else "ttft_ms"
        wanted = dict.fromkeys([*(verdict.metric for verdict in judged), *gated, time_key, ALL_LANES])
        return tuple(key for key in wanted if any(find_value(one, key) is not None for one in self.measurements))


def find_verdict(measurement: Measurement, key: str) -> Verdict | None:
    """The verdict on a metric; None where it was not judged."""
    return next((verdict for verdict in measurement.verdicts if verdict.metric == key), None)


def follow(measurements: Iterable[Measurement], session: str | None = None) -> list[Series]:
    """The series of all cells; with ``session``, of the cells it measured, up to its own measurements."""
    by_cell: dict[str, list[Measurement]] = defaultdict(list)
    unique = {measurement.id: measurement for measurement in measurements}.values()
    for measurement in sorted(unique, key=lambda one: (one.started_at, one.id)):
        by_cell[measurement.cell_key].append(measurement)
    courses = []
    for found in by_cell.values():
        ends = [place for place, one in enumerate(found, start=1) if session in (None, one.run.session)]
        if ends:
            courses.append(Series(measurements=tuple(found[: ends[-1]])))
    return sorted(courses, key=_order)


def _order(course: Series) -> tuple[Any, ...]:
    """By state, the largest worsening first, then by suite, host, model and size."""
    worst_first, decisive = 0.0, course.decisive
    if decisive is not None and course.state.tone == "bad":
        change = decisive.change or 0.0
        worst_first = change if find_metric(decisive.metric).better == "higher" else -change
    return RANKS[course.state.word], worst_first, course.suite, course.host, *course.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A cell of the session without a measurement."""

    cell: Unmeasured
    state: State
    suite: str
    host: str
    name: str
    model: str


def fill_gaps(courses: Sequence[Series], unmeasured: Iterable[Unmeasured]) -> list[Series | Gap]:
    """The series and, after those of the same state, the cells without a measurement. The suite of such a cell is that
    of other cells of its file, or else the file's name."""
    suites = {course.newest.node_id.partition("::")[0]: course.suite for course in courses}
    gaps = []
    for cell in unmeasured:
        file, _, rest = cell.node_id.partition("::")
        host, name = rest.partition("::")[0], rest.rpartition("::")[2]
        state = STATES["skipped" if cell.outcome == "skipped" else "not measured"]
        suite = suites.get(file) or PurePosixPath(file).name
        gaps.append(Gap(cell=cell, state=state, suite=suite, host=host, name=name, model=name.partition("[")[0]))
    return sorted([*courses, *gaps], key=lambda cell: RANKS[cell.state.word])
