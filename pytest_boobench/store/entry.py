"""Room 5: a session's facts on their way into a store that could not be reached, as a line of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pytest_boobench.record import CellRecord, RunFacts, RunStatus, Verdict, from_plain, to_plain
from pytest_boobench.store.baselines import BaselineSave

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
    return json.dumps(plain) + "\n"


def from_line(line: str) -> Entry:
    """The inverse of `to_line`; ValueError, in words for a message, where the line is none of ours."""
    try:
        plain = json.loads(line)
    except ValueError:
        raise ValueError("expected a JSON object, got something else") from None
    if not isinstance(plain, Mapping) or plain.get("boobench") != _FORMAT:
        found = plain.get("boobench") if isinstance(plain, Mapping) else None
        raise ValueError(f"expected an entry of format {_FORMAT}, got {found or 'something else'}")
    try:
        return _make_entry(plain)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"expected an entry of this version of pytest-boobench: {error}") from None


def _make_entry(plain: Mapping[str, Any]) -> Entry:
    return Entry(
        store=plain["store"],
        run=RunFacts(**plain["run"]),
        at=plain["at"],
        record=from_plain(plain["record"]) if plain["record"] else None,
        verdicts=tuple(Verdict(**verdict) for verdict in plain["verdicts"]),
        save_as=BaselineSave(**plain["save_as"]) if plain["save_as"] else None,
        status=plain["status"],
    )
