"""Room 5: a session's facts on their way into a store that could not be reached, as a line of JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from pytest_boobench.record import CellRecord, RunFacts, RunStatus, Verdict, to_plain
from pytest_boobench.store.baselines import BaselineSave
from pytest_boobench.store.columns import moment
from pytest_boobench.store.typed import make
from pytest_boobench.untrusted import hide_in, show

_FORMAT = 1
"""Goes up when a field changes its meaning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A measured cell, or the end of a run, with all that a store must know to take it in: also twice, also late."""

    store: str
    """Address of the store that did not take it."""
    run: RunFacts
    at: float
    """When the verdicts were given, the baseline was saved, the run ended; seconds since 1970 UTC."""
    record: CellRecord | None = None
    verdicts: tuple[Verdict, ...] = ()
    save_as: BaselineSave | None = None
    status: RunStatus | None = None
    """How the run ended; blank while it goes on."""


def to_line(entry: Entry) -> str:
    """One line of JSON, its end of line included."""
    plain = {
        "boobench": _FORMAT,
        "store": entry.store,
        "run": asdict(entry.run),
        "at": entry.at,
        "record": to_plain(entry.record) if entry.record else None,
        "verdicts": [asdict(verdict) for verdict in entry.verdicts],
        "save_as": asdict(entry.save_as) if entry.save_as else None,
        "status": entry.status,
    }
    # the address never holds a password, and later sessions look the entry up by it
    return json.dumps({**hide_in(plain), "store": entry.store}, default=str) + "\n"


def from_line(line: str) -> Entry:
    """The inverse of `to_line`; ValueError, in words for a message, where the line is none of ours.

    Total: whatever the line is, there is an entry that a store can take, or a ValueError.
    """
    try:
        plain = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("expected a JSON object, got something else") from None
    if not isinstance(plain, dict) or plain.get("boobench") != _FORMAT:
        found = plain.get("boobench") if isinstance(plain, dict) else None
        raise ValueError(f"expected an entry of format {_FORMAT}, got {show(found) if found else 'something else'}")
    del plain["boobench"]
    try:
        entry = make(Entry, plain, "entry")
        _require_times(entry)
    except RecursionError:
        raise ValueError("expected an entry, got one that is nested too deep") from None
    return entry


def _require_times(entry: Entry) -> None:
    """Numbers of seconds that are no time pass for numbers."""
    times = {"entry.at": entry.at, "entry.run.started_at": entry.run.started_at}
    if entry.record is not None:
        times["entry.record.started_at"] = entry.record.started_at
        times |= {
            f"entry.record.samples[{place}].started_at": sample.started_at
            for place, sample in enumerate(entry.record.samples)
        }
    for where, seconds in times.items():
        try:
            moment(seconds)
        except (ArithmeticError, OSError, ValueError):
            raise ValueError(f"{where} is {show(seconds)}, expected seconds since 1970") from None
