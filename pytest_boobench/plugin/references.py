"""The references of the machines that this process measures on: when they are measured, and which cells they speak for.

A look is due before the machine's first cell, before a further block of a cell that has had none since its last block,
ten minutes after the last one, and after the machine's last cell.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from pytest_boobench.errors import BoobenchError
from pytest_boobench.facts import REFERENCE_RATES, ReferenceRates
from pytest_boobench.hosts.inventory import Host, Inventory
from pytest_boobench.record import CellRecord
from pytest_boobench.units import percent
from pytest_boobench.untrusted import hide_in

REFRESH_S = 600.0
"""A look older than this says little of now."""
CHANGED = 3.0
"""First and last look differ by more than noise from so many standard errors on."""
NAMES = ("node_id", "cell_key", "suite", "host", "identity")
"""What others look a record up by: the user's own words, in which nothing is hidden."""
Deliver = Callable[[Mapping[str, Any]], None]
"""Takes a ``record`` of a reference, and a ``note`` for the end of the session, to the process that reports."""


def write_plain(record: CellRecord) -> dict[str, Any]:
    """Return a record as plain data for another process, without secrets."""
    plain = asdict(record)
    return {**hide_in(plain), **{name: plain[name] for name in NAMES}}


@dataclass(slots=True)
class _Looks:
    """The looks at one machine's reference in this process."""

    host: Host
    first: ReferenceRates | None = None
    latest: ReferenceRates | None = None
    spoken_for: bool = False
    """Whether a block was measured since the latest look."""

    def is_due(self, resumed: ReferenceRates | None) -> bool:
        if self.latest is None or time.time() - self.latest.measured_at > REFRESH_S:
            return True
        return not self.latest.trouble and resumed is not None and resumed.measured_at >= self.latest.measured_at


class MachineReferences:
    """Looks at references when it is time, and attaches what they say to records. ``measure`` does one look."""

    def __init__(self, inventory: Inventory, measure: Callable[[Host], CellRecord], deliver: Deliver) -> None:
        self._inventory = inventory
        self._measure = measure
        self._deliver = deliver
        self._looks: dict[str, _Looks] = {}
        """Machine -> its looks."""

    def find(self, host: str, resumed: CellRecord | None) -> Host | None:
        """The reference to look at before a block on this host; None where it has none, or no look is due."""
        reference = self._inventory.find_reference(host)
        if reference is None:
            return None
        looks = self._looks.setdefault(reference.exclusive, _Looks(reference))
        before = resumed.reference_rates if resumed is not None else None
        return reference if looks.is_due(before) else None

    def look(self, reference: Host) -> None:
        """Measure a reference; whatever goes wrong is said with the cells, which are judged without it."""
        from pytest_boobench.measure.reference_cell import read_rates

        looks = self._looks[reference.exclusive]
        try:
            record = self._measure(reference)
        except BoobenchError as error:
            shown = f"{reference.name}::{reference.reference}" if reference.reference else reference.name
            reason = str(error).partition("\n")[0]
            rates, told = ReferenceRates(name=shown, measured_at=time.time(), trouble=reason), None
        else:
            rates, told = read_rates(record), write_plain(record)
        known = looks.latest is not None and looks.latest.trouble == rates.trouble
        if told is not None or (rates.trouble and not known):
            note = f"judged without the reference {rates.name}: {rates.trouble}" if rates.trouble and not known else ""
            self._deliver({"record": told, "note": note})
        looks.latest, looks.spoken_for = rates, False
        looks.first = looks.first or (None if rates.trouble else rates)

    def attach(self, record: CellRecord) -> CellRecord:
        """The record with what the reference said around its blocks. The reference does not speak for itself."""
        reference = self._inventory.find_reference(record.host)
        looks = self._looks.get(reference.exclusive) if reference is not None else None
        if looks is None or looks.latest is None or looks.latest.name == f"{record.host}::{record.identity['model']}":
            return record
        looks.spoken_for = True
        before = record.reference_rates
        return replace(record, reference_rates=looks.latest if before is None else before.join(looks.latest))

    def close(self) -> None:
        """Look once more at each reference that cells were measured after, and say where its host has changed."""
        for looks in self._looks.values():
            if looks.first is None or looks.latest is None or not looks.spoken_for or looks.latest.trouble:
                continue
            self.look(looks.host)
            if note := _describe_change(looks.first, looks.latest):
                self._deliver({"record": None, "note": note})


def _describe_change(first: ReferenceRates, last: ReferenceRates) -> str:
    """One sentence where a host became faster or slower during a session; empty where it did not."""
    for rate in REFERENCE_RATES:
        before, after = first.find_rate(rate), last.find_rate(rate)
        if before is None or after is None:
            continue
        gain = math.log(after[0] / before[0])
        if abs(gain) > CHANGED * math.hypot(before[1], after[1]):
            verb = "slower" if gain < 0 else "faster"
            change = f"{percent(abs(math.expm1(gain)))} {verb}"
            return f"{last.name}: the host changed during the session: {rate} of its reference is {change} at the end"
    return ""
