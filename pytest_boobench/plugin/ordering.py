"""Which cell comes when, and in which process: the order on a host, and batches for pytest-xdist."""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import pytest

from pytest_boobench import suite
from pytest_boobench.errors import BoobenchError
from pytest_boobench.hosts.inventory import Host, Inventory
from pytest_boobench.plugin.options import is_suite
from pytest_boobench.plugin.settings import Settings, find_suites, read_inventory, resolve
from pytest_boobench.suite.cell import Cell
from pytest_boobench.suite.names import list_short_names

_DEPTH = re.compile(r"-d(\d+)(?=[-\]])")
Loaded = Mapping[str, Collection[str]]
"""Host -> the models that it has loaded."""
Ready = Callable[[Collection[str]], Loaded]
"""Names of hosts -> what they have loaded now; a host that cannot say is left out."""


def cell_of(item: pytest.Item) -> Cell | None:
    """The cell that a test item runs, None for items of others."""
    cells = (mark.kwargs.get("cell") for mark in item.own_markers if mark.name == "boobench")
    return next((cell for cell in cells if isinstance(cell, Cell)), None)


@dataclass(frozen=True, slots=True)
class CellPlace:
    """The facts of a cell that decide when it runs."""

    host: str
    model: str
    """By any of its names."""
    embeds: bool
    start: Hashable = None
    """Where we start the host by a command: what it is started with, as far as is known; blank for all others."""
    depth_tokens: int = 0


def locate(cell: Cell, inventory: Inventory) -> CellPlace:
    """The place of a cell."""
    host = inventory.hosts.get(cell.host)
    start = (cell.model, *sorted(cell.launch.items())) if host is not None and host.start is not None else None
    return CellPlace(cell.host, cell.model, cell.kind == "embedding", start, cell.depth_tokens)


def read_node_id(node_id: str, patterns: Iterable[str]) -> CellPlace | None:
    """The place of the cell that a node id names, None for items of others.

    For xdist's controller, which has node ids only: ``FILE::HOST::MODEL[pp512-tg32-c4]``, the file after one of the
    suites' ``patterns``. Embeddings are the cells without ``tg``; a depth is ``d`` and its tokens.
    """
    file, _, rest = node_id.partition("::")
    host, _, test = rest.partition("::")
    model, _, parameters = test.partition("[")
    if not parameters or not is_suite(PurePosixPath(file).name, patterns):
        return None
    depth = _DEPTH.search(parameters)
    return CellPlace(host, model, "-tg" not in parameters, depth_tokens=int(depth[1]) if depth else 0)


def order(places: Sequence[CellPlace], loaded: Loaded) -> list[int]:
    """The order to run in, as indices: hosts as they first occur; on a host embeddings, then models that are
    ``loaded``, then the others as they first occur; cells of a model by depth, the shallow ones first, since those of
    one depth find their contexts in the cache, and else as given. A host that we start runs all cells of one start
    before the next."""
    hosts = _ranks(place.host for place in places)
    starts = _ranks((place.host, place.start) for place in places)
    models = _ranks((place.host, place.model) for place in places)

    def rank(index: int) -> tuple[int, bool, bool, int, int]:
        place = places[index]
        if place.start is not None:
            return hosts[place.host], False, False, starts[place.host, place.start], place.depth_tokens
        ready = loaded.get(place.host, ())
        cold = not any(place.model == name or place.model in list_short_names(name) for name in ready)
        return hosts[place.host], not place.embeds, cold, models[place.host, place.model], place.depth_tokens

    return sorted(range(len(places)), key=rank)


def find_choices(places: Iterable[CellPlace]) -> set[str]:
    """The hosts whose order depends on what they have loaded: those of which more than one model is used."""
    models = Counter(host for host, _ in {(place.host, place.model) for place in places if place.start is None})
    return {host for host, count in models.items() if count > 1}


def _ranks(keys: Iterable[Hashable]) -> dict[Hashable, int]:
    return {key: rank for rank, key in enumerate(dict.fromkeys(keys))}


def ask_hosts(inventory: Inventory, names: Collection[str]) -> Loaded:
    """Ask hosts what they have loaded, all at the same time; that makes none of them load a model."""
    hosts = [host for name in names if not (host := inventory.hosts[name]).ours]

    async def ask_all() -> list[Sequence[str] | None]:
        return await asyncio.gather(*map(_ask, hosts))

    answers = asyncio.run(ask_all()) if hosts else []
    return {host.name: models for host, models in zip(hosts, answers, strict=True) if models is not None}


async def _ask(host: Host) -> Sequence[str] | None:
    from pytest_boobench.hosts.open_host import open_host
    from pytest_boobench.servers.clients import NONE
    from pytest_boobench.servers.connect import connect

    try:
        clients = open_host(host, host.base_url, patience=NONE)
        try:
            async with asyncio.timeout(5.0):
                server = await connect(host.name, host.base_url, clients, host.server)
                return await server.ready_models()
        finally:
            await clients.close()
    except (BoobenchError, TimeoutError):  # its cells will say why
        return None


Batch = Sequence[int]
"""Indices of items that run one after the other, in this order, never two at once."""


def plan(
    node_ids: Sequence[str],
    dist: str,
    *,
    machine_of: Callable[[str], str | None],
    patterns: Sequence[str],
    begin: Callable[[Collection[CellPlace]], Loaded],
    is_started: Callable[[str], bool] = lambda _: False,
) -> list[Batch]:
    """The batches, in the order to begin them: machines with the most cells first, then the items of others.

    ``machine_of`` names what no two cells of a host may use at once, None for an unknown host. Other items are grouped
    as xdist's mode ``dist`` does. ``begin`` is called once, with the places of all cells if there are any, and says
    what their hosts have loaded. Cells of a host that ``is_started`` by us stay in the workers' order: a node id does
    not tell what its host is started with.
    """
    machines: dict[str, list[int]] = defaultdict(list)
    others: dict[str, list[int]] = defaultdict(list)
    places: dict[int, CellPlace] = {}
    for index, node_id in enumerate(node_ids):
        place = read_node_id(node_id, patterns)
        if place is not None and (machine := machine_of(place.host)) is not None:
            as_collected = replace(place, start="as collected", depth_tokens=0)
            places[index] = as_collected if is_started(place.host) else place
            machines[machine].append(index)
        else:
            others[_scope(node_id, index, dist)].append(index)
    loaded = begin(places.values()) if places else {}
    batches = [
        [batch[position] for position in order([places[index] for index in batch], loaded)]
        for batch in machines.values()
    ]
    return [*sorted(batches, key=len, reverse=True), *others.values()]


def _scope(node_id: str, index: int, dist: str) -> str:
    """The name of the group of an item that is no cell: its own, but in the modes that keep items together."""
    if dist == "loadfile":
        return node_id.partition("::")[0]
    if dist == "loadscope":
        return node_id.rpartition("::")[0]
    if dist == "loadgroup" and "@" in node_id[node_id.rfind("]") + 1 :]:
        return node_id.rpartition("@")[2]
    return str(index)


def count_workers(config: pytest.Config) -> int | None:
    """How many machines the suites of the session use; None, which leaves it to xdist, where they use none.

    Called before pytest is configured: a file with an error is left out here, and reported later by its readers.
    """
    settings = resolve(config)
    try:
        inventory = read_inventory(config, settings)
    except BoobenchError:
        return None
    names = {host for arg in config.args for host in _find_hosts(config, arg, settings, inventory)}
    return len({inventory.get(name).exclusive for name in names}) or None


def _find_hosts(config: pytest.Config, arg: str, settings: Settings, inventory: Inventory) -> Iterator[str]:
    """The hosts that an argument may use: of a folder, a file, or ``FILE::HOST`` and what may follow it."""
    typed = arg.partition("::")[2].partition("::")[0]
    wanted = settings.only_hosts
    for path in find_suites(config, settings, arg):
        known = suite.accept_hosts(path, inventory.names, wanted)
        if known is None:
            continue
        try:
            found = suite.load(path, display=path.name, known_hosts=known, starts=inventory.starts)
        except BoobenchError:
            continue
        yield from (host for host in found.hosts if typed in ("", host) and (not wanted or host in wanted))
