"""Room 6: the verdicts of a host's sessions -> Alerts: one for a change, not one for each cell and night.

An alert opens when a cell that was fine is judged worse. It takes in all cells of the host that changed in the same
session, the same way. The next session confirms it, and takes in the cells that it finds too: near the limit, noise
decides which session sees which cell. What changes after that opens an alert of its own. An alert closes by itself.

A host of which a session measures no cell has an alert too: opened, confirmed and closed alike.

The same sessions give the same alerts. So the store needs no table of them, and nobody needs to keep what was sent:
what a session told is what it changed.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pytest_boobench.facts import REFERENCE_SUITE
from pytest_boobench.record import Measurement, Outcome, Verdict

Direction = Literal["slower", "faster", "unmeasured"]
Step = Literal["opened", "confirmed", "closed"]
Ending = Literal["fine again", "not confirmed", "no longer measured", "measured again"]

PASSES = 2
"""Passes in a row that make a cell fine, where none of them rules the allowed change out."""
GONE_SESSIONS = 10
"""Sessions of its suite on its host without a verdict on a cell, after which nobody waits for it."""
GONE_S = 14 * 86_400.0
"""The same in time, for suites that are no longer run at all."""
_CHANGED: Mapping[Direction, Outcome] = {"slower": "regression", "faster": "improvement"}
_Signal = tuple[str, str]
"""Cell key and metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertCell:
    """One metric of one cell that changed."""

    measurement: Measurement
    """The newest that judges the metric, as a pass, a regression or an improvement."""
    verdict: Verdict
    still: bool
    """Whether it is still changed, as far as known."""
    since: str
    """The session that found it first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A change of a host, as of the newest session."""

    host: str
    direction: Direction
    opened_in: str
    """The session."""
    opened_at: float
    """When that session's first cell began, seconds since 1970 UTC."""
    steps: Mapping[str, Step]
    """Session -> what it did to the alert, oldest first. A session that changed nothing is not in it."""
    cells: tuple[AlertCell, ...]
    measured: int
    """Cells of the host that the newest session measured, or tried to."""
    troubles: Mapping[str, int] = field(default_factory=dict)
    """Where the host cannot be measured: why not -> number of cells, in the newest session that tried; the first reason
    comes first."""
    ending: Ending | None = None
    """Why it is closed; None while it is open."""

    @property
    def uid(self) -> str:
        """Its name, 12 hex digits, the same in every session."""
        of = "\n".join((self.host, self.direction, self.opened_in))
        return hashlib.sha256(of.encode()).hexdigest()[:12]

    @property
    def state(self) -> Step:
        """The newest step."""
        return list(self.steps.values())[-1]


def follow_alerts(measurements: Sequence[Measurement], baseline: str) -> tuple[Alert, ...]:
    """Return all alerts of these measurements, oldest first, also closed ones.

    Reads verdicts against the baseline of this name, and those that need no baseline.
    """
    of_host: dict[str, list[Measurement]] = defaultdict(list)
    for one in measurements:
        if counts(one):
            of_host[one.run.host].append(one)
    found: list[Alert] = []
    for host, several in of_host.items():
        sessions = [_HostSession.read(each, baseline) for each in _by_session(several)]
        for direction in _CHANGED:
            found += _follow_host(host, direction, sessions)
        found += _follow_failing(host, sessions)
    return tuple(sorted(found, key=lambda alert: (alert.opened_at, alert.host, alert.direction)))


def counts(measurement: Measurement) -> bool:
    """Whether alerts are about it. Duets and results of other tools are no sessions in a row, and the reference of a
    machine is no cell."""
    other = measurement.reference_host is not None or measurement.run.imported_from is not None
    return not other and measurement.run.suite != REFERENCE_SUITE


def _by_session(measurements: Sequence[Measurement]) -> list[list[Measurement]]:
    """The measurements of each session, the session that began first comes first."""
    found: dict[str, list[Measurement]] = defaultdict(list)
    for one in measurements:
        found[one.run.session].append(one)
    return sorted(found.values(), key=lambda several: min(one.started_at for one in several))


@dataclass(frozen=True, slots=True, kw_only=True)
class _HostSession:
    """What one session says of one host."""

    uid: str
    began_at: float
    suites: frozenset[str]
    tried: frozenset[str]
    """Cell keys, also of cells that could not be measured or judged."""
    judged: Mapping[_Signal, tuple[Measurement, Verdict]]
    working: frozenset[str]
    """Suites of which a cell was measured."""
    troubles: Mapping[str, int]
    """Why cells could not be measured -> number of them; the first one's reason comes first."""

    @classmethod
    def read(cls, measurements: Sequence[Measurement], baseline: str) -> _HostSession:
        troubles = [(one, _find_trouble(one)) for one in sorted(measurements, key=lambda one: one.started_at)]
        return cls(
            uid=measurements[0].run.session,
            began_at=min(one.started_at for one in measurements),
            suites=frozenset(one.run.suite for one in measurements),
            tried=frozenset(one.cell_key for one in measurements if _is_tried(one)),
            judged={
                (one.cell_key, verdict.metric): (one, verdict)
                for one in measurements
                for verdict in one.verdicts
                if verdict.baseline_name in (None, baseline)
            },
            working=frozenset(one.run.suite for one, trouble in troubles if not trouble),
            troubles=Counter(trouble for _, trouble in troubles if trouble),
        )


def _find_trouble(measurement: Measurement) -> str:
    """Why the cell could not be measured, or was disturbed too much to be judged, in a line; empty if it was."""
    undecided = bool(measurement.verdicts) and all(one.outcome == "inconclusive" for one in measurement.verdicts)
    return (measurement.error or (undecided and measurement.disturbed) or "").partition("\n")[0].strip()


def _is_tried(measurement: Measurement) -> bool:
    """Whether there is a verdict to come: an error or a doubt is no reason to give the cell up."""
    undecided = any(verdict.outcome == "inconclusive" for verdict in measurement.verdicts)
    return measurement.error is not None or undecided


def _follow_host(host: str, direction: Direction, sessions: Sequence[_HostSession]) -> Iterator[Alert]:
    """All alerts of one host in one direction, in the order in which they close; the open ones come last."""
    running: list[_Course] = []
    for session in sessions:
        for course in running:
            course.take(session)
        yield from (course.show() for course in running if course.ending)
        running = [course for course in running if not course.ending]
        known = {signal for course in running for signal in course.followed}
        new = [
            signal
            for signal, (_, verdict) in session.judged.items()
            if verdict.outcome == _CHANGED[direction] and signal not in known
        ]
        if new:
            young = next((course for course in running if course.is_young(session)), None)
            if young is None:
                young = _Course(host, direction, session, steps={session.uid: "opened"})
                running.append(young)
            young.add(session, new)
    yield from (course.show() for course in running)


@dataclass(slots=True)
class _Followed:
    """One metric of one cell while its alert is open."""

    measurement: Measurement
    verdict: Verdict
    since: str
    seen_at: float
    changed: bool = True
    passes: int = 0
    missed: int = 0
    """Sessions of its suite without it."""

    def take(self, session: _HostSession, signal: _Signal, direction: Direction) -> bool:
        """Follow it through one more session; tells whether that one finds it changed again."""
        found = session.judged.get(signal)
        if found is None or found[1].outcome in ("no baseline", "not comparable", "inconclusive"):
            seen = signal[0] in session.tried
            self.missed = 0 if seen else self.missed + (self.measurement.run.suite in session.suites)
            self.seen_at = session.began_at if seen else self.seen_at
            return False
        self.measurement, self.verdict = found
        self.seen_at, self.missed = session.began_at, 0
        again = self.verdict.outcome == _CHANGED[direction]
        self.passes = 0 if again else self.passes + 1
        sure = self.verdict.outcome != "pass" or self.verdict.proven
        if again:
            self.changed = True
        elif sure or self.passes >= PASSES:
            self.changed = False
        return again

    def is_gone(self, session: _HostSession) -> bool:
        """Whether nobody should wait for it any longer."""
        return self.missed >= GONE_SESSIONS or session.began_at - self.seen_at >= GONE_S


@dataclass(slots=True)
class _Course:
    """An alert while it is followed."""

    host: str
    direction: Direction
    opened: _HostSession
    steps: dict[str, Step]
    followed: dict[_Signal, _Followed] = field(default_factory=dict)
    ending: Ending | None = None
    measured: int = 0

    def add(self, session: _HostSession, signals: Sequence[_Signal]) -> None:
        """Take in what changed in this session."""
        self.measured = _count_cells(session)
        for signal in signals:
            measurement, verdict = session.judged[signal]
            self.followed[signal] = _Followed(measurement, verdict, session.uid, session.began_at)

    def is_young(self, session: _HostSession) -> bool:
        """Whether cells that changed in this session belong to it: it was not confirmed before."""
        confirmed = [uid for uid, step in self.steps.items() if step == "confirmed"]
        return not confirmed or confirmed == [session.uid]

    def take(self, session: _HostSession) -> None:
        """Follow all cells through one more session."""
        self.measured = _count_cells(session)
        again = [one.take(session, signal, self.direction) for signal, one in self.followed.items()]
        if any(again) and "confirmed" not in self.steps.values():
            self.steps[session.uid] = "confirmed"
        waiting = [one for one in self.followed.values() if one.changed]
        if all(one.is_gone(session) for one in waiting):
            confirmed = "confirmed" in self.steps.values()
            self.ending = "no longer measured" if waiting else "fine again" if confirmed else "not confirmed"
            self.steps[session.uid] = "closed"

    def show(self) -> Alert:
        return Alert(
            host=self.host,
            direction=self.direction,
            opened_in=self.opened.uid,
            opened_at=self.opened.began_at,
            steps=dict(self.steps),
            cells=tuple(
                AlertCell(measurement=one.measurement, verdict=one.verdict, still=one.changed, since=one.since)
                for one in self.followed.values()
            ),
            measured=self.measured,
            ending=self.ending,
        )


@dataclass(slots=True)
class _FailingCourse:
    """The alert of a host that cannot be measured, while it is followed.

    It waits for the suites that failed: another suite of the host may work all the time, and a suite with a mistake
    would open and close an alert with each session.
    """

    opened: _HostSession
    newest: _HostSession
    """The newest that could not measure the host."""
    suites: set[str]
    steps: dict[str, Step]
    missed: int = 0
    """Sessions without these suites since then."""
    ending: Ending | None = None

    @classmethod
    def open(cls, session: _HostSession) -> _FailingCourse:
        return cls(session, session, set(session.suites), {session.uid: "opened"})

    def take(self, session: _HostSession) -> None:
        """Follow it through one more session."""
        if not session.working:
            self.newest, self.missed = session, 0
            self.suites |= session.suites
            if "confirmed" not in self.steps.values():
                self.steps[session.uid] = "confirmed"
            return
        self.missed += not self.suites & session.suites
        gone = self.missed >= GONE_SESSIONS or session.began_at - self.newest.began_at >= GONE_S
        if self.suites & session.working:
            self.ending = "measured again"
        elif gone:
            self.ending = "no longer measured"
        if self.ending:
            self.steps[session.uid] = "closed"

    def show(self, host: str) -> Alert:
        return Alert(
            host=host,
            direction="unmeasured",
            opened_in=self.opened.uid,
            opened_at=self.opened.began_at,
            steps=dict(self.steps),
            cells=(),
            measured=sum(self.newest.troubles.values()),
            troubles=dict(self.newest.troubles),
            ending=self.ending,
        )


def _follow_failing(host: str, sessions: Sequence[_HostSession]) -> Iterator[Alert]:
    """The alerts that the host cannot be measured, in their order; at most one is open at a time."""
    course: _FailingCourse | None = None
    for session in sessions:
        if course is not None:
            course.take(session)
            if course.ending:
                yield course.show(host)
                course = None
        elif not session.working:
            course = _FailingCourse.open(session)
    if course is not None:
        yield course.show(host)


def _count_cells(session: _HostSession) -> int:
    return len({key for key, _ in session.judged} | session.tried)
