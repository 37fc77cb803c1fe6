"""Collected node ids -> batches for pytest-xdist: all cells of one machine are one, over all files and hosts of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence

from pytest_boobench.plugin.order import Loaded, Place, order, read_node_id

Batch = Sequence[int]
"""Indices of items that run one after the other, in this order, never two at once."""


def plan(
    node_ids: Sequence[str],
    dist: str,
    *,
    machine_of: Callable[[str], str | None],
    patterns: Sequence[str],
    begin: Callable[[Collection[Place]], Loaded],
) -> list[Batch]:
    """The batches, in the order to begin them: machines with the most cells first, then everybody else's items.

    ``machine_of`` tells what of a host no two cells may use at once, None for a host that is none. Other items are
    grouped as xdist's mode ``dist`` would do it. ``begin`` is called once, with the places of all cells where there are
    any, and says what their hosts have loaded.
    """
    machines: dict[str, list[int]] = defaultdict(list)
    others: dict[str, list[int]] = defaultdict(list)
    places: dict[int, Place] = {}
    for index, node_id in enumerate(node_ids):
        place = read_node_id(node_id, patterns)
        if place is not None and (machine := machine_of(place.host)) is not None:
            places[index] = place
            machines[machine].append(index)
        else:
            others[_scope(node_id, index, dist)].append(index)
    loaded = begin(places.values()) if places else {}
    ordered = [
        [batch[position] for position in order([places[index] for index in batch], loaded)]
        for batch in machines.values()
    ]
    return [*sorted(ordered, key=len, reverse=True), *others.values()]


def _scope(node_id: str, index: int, dist: str) -> str:
    """What keeps items that are no cells together: each stands alone, but in the modes that promise more."""
    if dist == "loadfile":
        return node_id.partition("::")[0]
    if dist == "loadscope":
        return node_id.rpartition("::")[0]
    if dist == "loadgroup" and "@" in node_id[node_id.rfind("]") + 1 :]:
        return node_id.rpartition("@")[2]
    return str(index)
