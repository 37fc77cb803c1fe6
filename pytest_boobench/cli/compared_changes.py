"""Door 2: what else differs between the sides of ``boobench compare``, once for each host and model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pytest_boobench import gate
from pytest_boobench.record import Baseline, CellRecord
from pytest_boobench.reports.text import clean
from pytest_boobench.units import count

_ABSENT = "(not there)"
_ALONE = "(no value)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedFact:
    """One circumstance that differs."""

    what: str
    before: str | None
    """Blank for a flag that was not there, empty for one without a value."""
    after: str | None
    cells: int
    """Of how many of the group's cells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedGroup:
    """The cells of one model on one host that both sides have."""

    host: str
    model: str
    cells: int
    changed: tuple[ChangedFact, ...]
    same: str
    """That nothing known has changed, where the sides know enough to say so; else empty."""


def group_changes(compared: Iterable[tuple[CellRecord, Baseline]]) -> tuple[ChangedGroup, ...]:
    """What changed for these cells, by host and model; each change once, in the order in which the gate names them."""
    groups: dict[tuple[str, str], list[tuple[CellRecord, Baseline]]] = defaultdict(list)
    for record, baseline in compared:
        groups[record.host, record.identity["model"]].append((record, baseline))
    return tuple(_describe(*names, groups[names]) for names in sorted(groups))


def _describe(host: str, model: str, cells: list[tuple[CellRecord, Baseline]]) -> ChangedGroup:
    found = [gate.list_differences(record, baseline.runs) for record, baseline in cells]
    counts = Counter((each.what, each.was, each.now) for changes in found for each in changes)
    same = {gate.describe_sameness(record, baseline.runs) for record, baseline in cells}
    return ChangedGroup(
        host=host,
        model=model,
        cells=len(cells),
        changed=tuple(
            ChangedFact(what=what, before=was, after=now, cells=number) for (what, was, now), number in counts.items()
        ),
        same=same.pop() if not counts and len(same) == 1 else "",
    )


def render_group(group: ChangedGroup) -> Iterator[str]:
    """Its changes below each other, or one line where there are none; nothing where too little is known."""
    name = clean(f"{group.host} {group.model}")
    if group.same:
        yield f"{name}: {group.same}"
    if not group.changed:
        return
    yield f"{name}: what changed"
    width = max(len(fact.what) for fact in group.changed)
    for fact in group.changed:
        some = f"  (in {fact.cells} of {count(group.cells, 'cell')})" if fact.cells < group.cells else ""
        yield clean(f"  {fact.what:<{width}}  {_show(fact.before)} -> {_show(fact.after)}{some}")
    yield ""


def _show(value: str | None) -> str:
    return _ABSENT if value is None else value or _ALONE
