"""Which cell comes when, and in which process: the order on a host, and batches for pytest-xdist."""

from __future__ import annotations

import asyncio
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest

from pytest_boobench import suite
from pytest_boobench.errors import BoobenchError
from pytest_boobench.hosts.inventory import Host, Inventory
from pytest_boobench.plugin import options
from pytest_boobench.plugin.session_hosts import read_inventory
from pytest_boobench.suite.cell import Cell
from pytest_boobench.suite.names import list_short_names

Loaded = Mapping[str, Collection[str]]
"""Host -> the models that it has loaded."""
Ready = Callable[[Collection[str]], Loaded]
"""Names of hosts, or of none, -> what they have loaded now. It loads none, and leaves out a host that cannot say."""


def cell_of(item: pytest.Item) -> Cell | None:
    """The cell behind a test item, None for everybody else's items."""
    cells = (mark.kwargs.get("cell") for mark in item.own_markers if mark.name == "boobench")
    return next((cell for cell in cells if isinstance(cell, Cell)), None)


@dataclass(frozen=True, slots=True)
class CellPlace:
    """What of a cell decides when it runs."""

    host: str
    model: str
    """By any of its names."""
    embeds: bool


def know_nothing(hosts: Collection[str]) -> Loaded:  # noqa: ARG001
    """The answer where nobody may or can ask the hosts."""
    return {}


def locate(cell: Cell) -> CellPlace:
    """The place of a cell."""
    return CellPlace(cell.host, cell.model, cell.kind == "embedding")


def read_node_id(node_id: str, patterns: Iterable[str]) -> CellPlace | None:
    """The place of the cell that a node id names, None for everybody else's items.

    For xdist's controller, which has node ids only: ``FILE::HOST::MODEL[pp512-tg32-c4]``, the file after one of the
    suites' ``patterns``. Embeddings are the cells without ``tg``.
    """
    file, _, rest = node_id.partition("::")
    host, _, test = rest.partition("::")
    model, _, parameters = test.partition("[")
    name = PurePosixPath(file).name
    if not parameters or not any(fnmatch(name, pattern) for pattern in patterns):
        return None
    return CellPlace(host, model, "-tg" not in parameters)


def order(places: Sequence[CellPlace], loaded: Loaded) -> list[int]:
    """The order to run in, as indices: by host as they come up; there embeddings first, models that are ``loaded``
    next, the others as they come up; inside that, as given."""
    hosts = _ranks(place.host for place in places)
    models = _ranks((place.host, place.model) for place in places)

    def rank(index: int) -> tuple[int, bool, bool, int]:
        place = places[index]
        cold = not any(_names(place.model, ready) for ready in loaded.get(place.host, ()))
        return hosts[place.host], not place.embeds, cold, models[place.host, place.model]

    return sorted(range(len(places)), key=rank)


def find_choices(places: Iterable[CellPlace]) -> set[str]:
    """The hosts whose order depends on what they have loaded: those of which more than one model is used."""
    models = Counter(host for host, _ in {(place.host, place.model) for place in places})
    return {host for host, count in models.items() if count > 1}


def _names(name: str, model: str) -> bool:
    """Whether a node id's name may be that of a model which its host lists."""
    return name == model or name in list_short_names(model)


def _ranks(keys: Iterable[Hashable]) -> dict[Hashable, int]:
    return {key: rank for rank, key in enumerate(dict.fromkeys(keys))}


_PATIENCE_S = 5.0
"""A host that says nothing for so long is left out; its cells will say why."""


def ask_hosts(inventory: Inventory) -> Ready:
    """A question to the hosts of an inventory, all at the same time. Asking loads no model."""

    def ready(names: Collection[str]) -> Loaded:
        hosts = [host for name in names if (host := inventory.hosts[name]).embedded is None]
        return asyncio.run(_ask_all(hosts)) if hosts else {}

    return ready


async def _ask_all(hosts: Sequence[Host]) -> Loaded:
    answers = await asyncio.gather(*map(_ask, hosts))
    return {host.name: models for host, models in zip(hosts, answers, strict=True) if models is not None}


async def _ask(host: Host) -> Sequence[str] | None:
    from pytest_boobench.hosts.open_host import open_host
    from pytest_boobench.servers.clients import NONE
    from pytest_boobench.servers.connect import connect

    try:
        clients = open_host(host, host.base_url, patience=NONE)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                server = await connect(host.name, host.base_url, clients, host.server)
                return await server.ready_models()
        finally:
            await clients.close()
    except (BoobenchError, TimeoutError):
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
) -> list[Batch]:
    """The batches, in the order to begin them: machines with the most cells first, then everybody else's items.

    ``machine_of`` tells what of a host no two cells may use at once, None for a host that is none. Other items are
    grouped as xdist's mode ``dist`` would do it. ``begin`` is called once, with the places of all cells where there are
    any, and says what their hosts have loaded.
    """
    machines: dict[str, list[int]] = defaultdict(list)
    others: dict[str, list[int]] = defaultdict(list)
    places: dict[int, CellPlace] = {}
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


def count_workers(config: pytest.Config) -> int | None:
    """Machines behind the hosts of the session's suites; None, which is xdist's own answer, where there are none.

    Called before pytest is configured. What is wrong with a file is said by those who need it, later.
    """
    settings = options.resolve(config)
    try:
        inventory = read_inventory(config, settings)
    except BoobenchError:
        return None
    names = {
        host
        for arg in config.args
        for host in _find_hosts(config, arg, settings.patterns, inventory)
        if not settings.only_hosts or host in settings.only_hosts
    }
    return len({inventory.get(name).exclusive for name in names}) or None


def _find_hosts(config: pytest.Config, arg: str, patterns: Sequence[str], inventory: Inventory) -> Iterator[str]:
    """The hosts of an argument: a folder, a file, or ``FILE::HOST`` and what may follow it."""
    name, _, rest = arg.partition("::")
    wanted = rest.partition("::")[0]
    for path in _find_suites(config.invocation_params.dir / name, patterns, config.getini("norecursedirs")):
        try:
            found = suite.load(path, display=path.name, known_hosts=inventory.names)
        except BoobenchError:
            continue
        yield from (host for host in found.hosts if wanted in ("", host))


def _find_suites(start: Path, patterns: Sequence[str], left_out: Sequence[str]) -> Iterator[Path]:
    if start.is_file() and _fits(start.name, patterns):
        yield start
    for folder, folders, files in os.walk(start):
        folders[:] = [name for name in folders if not _fits(name, left_out)]
        yield from (Path(folder, name) for name in files if _fits(name, patterns))


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
