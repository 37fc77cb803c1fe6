"""The counts as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tests.benchmarks.gate_power.campaign import DROPS, GATE, Count, Counts, Tally
from tests.benchmarks.gate_power.hosts import Host

_FOUND = [f"−{drop:.0%}".replace("%", " %") for drop in DROPS[1:]]


def share(count: int, of: int) -> str:
    """A share in per cent; where there were none, what it is below with 95 % (Clopper and Pearson 1934)."""
    if not of:
        return "–"
    if not count:
        return f"< {_digits(100 * (1 - 0.05 ** (1 / of)))} %"
    return f"{_digits(100 * count / of)} %"


def _digits(per_cent: float) -> str:
    """Two digits below ten, three above, and as many as it takes near a hundred."""
    if per_cent >= 99:
        return f"{per_cent:.2f}".rstrip("0").rstrip(".")
    return f"{per_cent:.3g}" if per_cent >= 10 else f"{per_cent:.2g}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Its lines, an empty one at the end."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def found(by_drop: Mapping[float, Tally]) -> list[str]:
    """How many of the cells that are slowed by each drop failed."""
    return [_found(by_drop[drop]) if drop in by_drop else "–" for drop in DROPS[1:]]


def _found(tally: Tally) -> str:
    return f"{_digits(100 * tally.red / tally.cells)} %"


HEAD = ["host", "K", "red cells", "red suites of 50", "undecided", *_FOUND, "proven at −15 %", "samples at 0 / −15 %"]


def row_of_gate(host: Host, sessions: int, count: Count) -> list[str]:
    """One host with baselines of so many sessions."""
    unchanged, slowed = count.of(0.0), count.of(0.15)
    return [
        f"{host.name} ({host.about})",
        str(sessions),
        share(unchanged.red, unchanged.cells),
        share(count.red_suites, count.suites),
        share(unchanged.undecided, unchanged.cells),
        *found(count.by_drop),
        share(slowed.proven, slowed.cells),
        f"{unchanged.samples_a_cell:.1f} / {slowed.samples_a_cell:.1f}",
    ]


HEAD_OF_OTHERS = ["host", "rule", "red cells", "red suites of 50", *_FOUND]


def rows_of_others(host: Host, counts: Counts) -> Iterator[list[str]]:
    """What each rule makes of the same cells, this gate's last."""
    for name in (*(name for name in counts if name != GATE), GATE):
        count = counts[name]
        unchanged = count.of(0.0)
        if unchanged.cells:
            red = [share(unchanged.red, unchanged.cells), share(count.red_suites, count.suites)]
            yield [host.name, name, *red, *found(count.by_drop)]


HEAD_OF_DUETS = ["two hosts like", "red cells", "undecided", *_FOUND, "proven at −15 %", "pairs at 0 / −15 %"]


def row_of_duets(host: Host, by_drop: Mapping[float, Tally]) -> list[str]:
    """One host against its twin."""
    unchanged, slowed = by_drop[0.0], by_drop[0.15]
    return [
        host.name,
        share(unchanged.red, unchanged.cells),
        share(unchanged.undecided, unchanged.cells),
        *found(by_drop),
        share(slowed.proven, slowed.cells),
        f"{unchanged.samples_a_cell:.1f} / {slowed.samples_a_cell:.1f}",
    ]


HEAD_OF_REPLAY = ["baseline, judged in", "cells", "rule", "red", "undecided", *_FOUND, "proven at −15 %"]


def row_of_replay(title: str, kind: str, rule: str, by_drop: Mapping[float, Tally]) -> list[str]:
    """One kind of cell of some recordings under one rule."""
    unchanged, slowed = by_drop[0.0], by_drop[0.15]
    ours = rule == GATE
    return [
        title,
        kind,
        rule,
        share(unchanged.red, unchanged.cells),
        share(unchanged.undecided, unchanged.cells) if ours else "–",
        *found(by_drop),
        share(slowed.proven, slowed.cells) if ours else "–",
    ]
