"""Which cell comes when on a host: embeddings first, then model by model, so that the least is loaded and evicted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import PurePosixPath

from pytest_boobench.suite.cell import Cell
from pytest_boobench.suite.names import list_short_names

Loaded = Mapping[str, Collection[str]]
"""Host -> the models that it has loaded."""
Ready = Callable[[Collection[str]], Loaded]
"""Names of hosts, or of none, -> what they have loaded now. It loads none, and leaves out a host that cannot say."""


@dataclass(frozen=True, slots=True)
class Place:
    """What of a cell decides when it runs."""

    host: str
    model: str
    """By any of its names."""
    embeds: bool


def know_nothing(hosts: Collection[str]) -> Loaded:  # noqa: ARG001
    """The answer where nobody may or can ask the hosts."""
    return {}


def locate(cell: Cell) -> Place:
    """The place of a cell."""
    return Place(cell.host, cell.model, cell.kind == "embedding")


def read_node_id(node_id: str, patterns: Iterable[str]) -> Place | None:
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
    return Place(host, model, "-tg" not in parameters)


def order(places: Sequence[Place], loaded: Loaded) -> list[int]:
    """The order to run in, as indices: by host as they come up; there embeddings first, models that are ``loaded``
    next, the others as they come up; inside that, as given."""
    hosts = _ranks(place.host for place in places)
    models = _ranks((place.host, place.model) for place in places)

    def rank(index: int) -> tuple[int, bool, bool, int]:
        place = places[index]
        cold = not any(_names(place.model, ready) for ready in loaded.get(place.host, ()))
        return hosts[place.host], not place.embeds, cold, models[place.host, place.model]

    return sorted(range(len(places)), key=rank)


def find_choices(places: Iterable[Place]) -> set[str]:
    """The hosts whose order depends on what they have loaded: those of which more than one model is used."""
    models = Counter(host for host, _ in {(place.host, place.model) for place in places})
    return {host for host, count in models.items() if count > 1}


def _names(name: str, model: str) -> bool:
    """Whether a node id's name may be that of a model which its host lists."""
    return name == model or name in list_short_names(model)


def _ranks(keys: Iterable[Hashable]) -> dict[Hashable, int]:
    return {key: rank for rank, key in enumerate(dict.fromkeys(keys))}
