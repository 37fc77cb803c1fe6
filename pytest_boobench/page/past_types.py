"""Door 3: the answers about what is stored: courses, sessions, comparisons, votes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricAnswer:
    """A metric that somebody may look at."""

    key: str
    title: str
    unit: str
    better: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterAnswer:
    """What the store has something of."""

    suites: tuple[str, ...]
    hosts: tuple[str, ...]
    models: tuple[str, ...]
    metrics: tuple[MetricAnswer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PointSave:
    """That a measurement is or was a baseline."""

    name: str
    saved_at: float
    reason: str
    ended_at: float | None
    """None while it is in force."""
    ended_reason: str | None
    """Why somebody took it out of force; None where another baseline replaced it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoursePoint:
    """One measurement of a cell; low and high are the percentiles 10 and 90 of its samples."""

    measurement: int
    at: float
    session: str
    run: str
    value: float | None
    low: float | None
    high: float | None
    outcome: str | None
    flag: str | None
    reason: str | None
    level: float | None
    """The baseline's then."""
    limit: float | None
    """The gate's then."""
    engine_build: str | None
    git_commit: str | None
    machine: str | None
    baselines: tuple[str, ...]
    """Names under which it is in force."""
    saves: tuple[PointSave, ...]
    """Oldest first."""
    command: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CourseChange:
    """A step or a slide of a course; first and last are places in its points."""

    first: int
    last: int
    before: float
    after: float
    at: float
    ratio: float
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CourseBaseline:
    """The baseline in force, and what the gate allows of it."""

    name: str
    level: float
    limit: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CourseAnswer:
    """One metric of one cell over time, oldest measurement first."""

    key: str
    node_id: str
    suite: str
    host: str
    model: str
    cell: str
    metric: str
    unit: str
    better: str
    points: tuple[CoursePoint, ...]
    baseline: CourseBaseline | None
    changes: tuple[CourseChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryAnswer:
    """The courses of the selected cells."""

    filters: FilterAnswer
    courses: tuple[CourseAnswer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionAnswer:
    """One pytest session."""

    session: str
    started_at: float
    runs: tuple[str, ...]
    cells: int
    regressions: int
    improvements: int
    errors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionsAnswer:
    """The newest first."""

    sessions: tuple[SessionAnswer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRow:
    """One gated metric of one cell in both sessions."""

    node_id: str
    metric: str
    title: str
    unit: str
    was: float | None
    now: float | None
    change: float | None
    low: float | None
    high: float | None
    outcome: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedFact:
    """A circumstance that differs."""

    what: str
    was: str | None
    now: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonAnswer:
    """Session b against session a, the regressions first."""

    a: str
    b: str
    rows: tuple[ComparedRow, ...]
    changes: tuple[ComparedFact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineAnswer:
    """How many measurements came into force, and went out of it."""

    came: int
    went: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """All votes on a pair. ``share`` is a's part of the decided ones, low and high its Wilson interval (95 %)."""

    a: str
    b: str
    a_wins: int
    b_wins: int
    ties: int
    both_bad: int
    n: int
    share: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TallyList:
    """All pairs with a vote."""

    tallies: tuple[Tally, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSide:
    """One side of a comparison."""

    host: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteAnswer:
    """Who the sides were, and the votes so far."""

    sides: tuple[NamedSide, ...]
    tally: Tally
    tallies: tuple[Tally, ...]
