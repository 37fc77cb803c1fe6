"""Room 7: what a session did to the alerts, read from a store's history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pytest_boobench.gate.alerts import Alert, Step, counts, follow_alerts
from pytest_boobench.record import Measurement

_FIRST_LOOK = 64
"""Newest measurements of each cell that are read at first; more where an alert began before them."""


class AskStore(Protocol):
    """Reads measurements from a store, oldest first; the names are those of a `Selection`."""

    def __call__(
        self,
        *,
        sessions: Sequence[str] = (),
        hosts: Sequence[str] = (),
        until: float | None = None,
        last: int | None = None,
    ) -> Sequence[Measurement]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one session did to one alert."""

    alert: Alert
    session: str
    step: Step
    over: bool = False
    """Whether a later session has closed the alert."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertReport:
    """The alerts of a session's hosts, as they were at its end."""

    session: str
    alerts: tuple[Alert, ...]
    over: frozenset[str] = frozenset()
    """Names of those that later sessions have closed."""

    @property
    def open(self) -> list[Alert]:
        """Those that are not closed."""
        return [alert for alert in self.alerts if alert.ending is None]

    def list_told(self, *, confirmed: bool = False, faster: bool = False) -> list[Told]:
        """What the session opened, confirmed or closed, oldest alert first.

        ``confirmed``: only alerts that a second session confirmed. ``faster``: also what became faster.
        """
        return [
            Told(alert=one, session=self.session, step=one.steps[self.session], over=one.uid in self.over)
            for one in self.alerts
            if self.session in one.steps
            and (faster or one.direction != "faster")
            and (not confirmed or "confirmed" in one.steps.values())
        ]


def find_newest_session(ask: AskStore) -> str | None:
    """The session that judged cells last, or tried to; None where there is none. Duets, imports and looks of a soak are
    no sessions in a row."""
    for last in (1, _FIRST_LOOK):
        own = [one for one in ask(last=last) if counts(one) and (one.verdicts or one.error)]
        if own:
            return max(own, key=lambda one: one.started_at).run.session
    return None


def gather_alerts(ask: AskStore, session: str, baseline: str, *, everywhere: bool = False) -> AlertReport:
    """Follow the alerts of the session's hosts up to this session: later ones change nothing of what it told.

    ``everywhere``: those of all hosts.
    """
    own = ask(sessions=(session,))
    if not own:
        return AlertReport(session=session, alerts=())
    hosts = () if everywhere else sorted({one.run.host for one in own})
    until = max(one.started_at for one in own) + 1e-3
    alerts = _follow(ask, hosts, until, baseline)
    over: frozenset[str] = frozenset()
    if any(session in one.steps for one in alerts) and any(one.started_at > until for one in ask(hosts=hosts, last=1)):
        still = {one.uid for one in alerts if one.ending is None}
        over = frozenset(one.uid for one in _follow(ask, hosts, None, baseline) if one.ending and one.uid in still)
    return AlertReport(session=session, alerts=alerts, over=over)


def _follow(ask: AskStore, hosts: Sequence[str], until: float | None, baseline: str) -> tuple[Alert, ...]:
    last = _FIRST_LOOK
    while True:
        read = ask(hosts=hosts, until=until, last=last)
        alerts = follow_alerts(read, baseline)
        if not _is_cut(alerts, read, last):
            return alerts
        last *= 2


def _is_cut(alerts: Sequence[Alert], read: Sequence[Measurement], last: int) -> bool:
    """Whether an alert may have begun before what was read: its name comes from the session that opened it."""
    cut = {key for key, many in Counter(one.cell_key for one in read).items() if many >= last}
    first: dict[str, str] = {}
    for one in read:
        if one.cell_key in cut:
            first.setdefault(one.cell_key, one.run.session)
    early = set(first.values())
    return any(alert.opened_in in early for alert in alerts)
