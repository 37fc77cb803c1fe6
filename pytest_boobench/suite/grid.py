"""Room 1: the axes of a suite, how many cells they span, and their points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_boobench.suite.spec import SuiteFields

_SHORT = {"prompt_tokens": "pp", "output_tokens": "tg", "concurrency": "c"}
"""How an id calls an axis; sampling axes stand there by their names."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One thing that varies over the cells of a host and model."""

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """One combination of the axes, the same for every host and model."""

    id: str
    at: Mapping[str, Any]
    """Axis -> value."""
    sampling: Mapping[str, Any]


def list_axes(written: SuiteFields) -> tuple[Axis, ...]:
    """The grid's axes, the outermost first, then the sampling fields that are lists, as the file orders them."""
    grid = written.grid
    lengths = [Axis("prompt_tokens", grid.prompt_tokens)]
    if written.kind != "embedding":
        lengths.append(Axis("output_tokens", grid.output_tokens))
    sampling = (Axis(name, value) for name, value in written.sampling.items() if isinstance(value, tuple))
    return (*lengths, Axis("concurrency", grid.concurrency), *sampling)


def count_cells(written: SuiteFields) -> tuple[int, str]:
    """How many cells a suite has, and the sum as in ``12 x 10 x 200 x 1 host x 1 model = 24,000 cells``."""
    lengths = [len(axis.values) for axis in list_axes(written)]
    hosts, models = len(written.hosts), len(written.models)
    cells = math.prod(lengths) * hosts * models
    factors = [*map(str, lengths), _plural(hosts, "host"), _plural(models, "model")]
    return cells, f"{' x '.join(factors)} = {_plural(cells, 'cell')}"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def list_points(written: SuiteFields) -> Iterator[Point]:
    """All combinations of the axes, the last axis fastest; equal sampling is one shared mapping."""
    axes = list_axes(written)
    names = [axis.name for axis in axes]
    shared: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for values in itertools.product(*(axis.values for axis in axes)):
        at = dict(zip(names, values, strict=True))
        chosen = tuple(at.get(name, value) for name, value in written.sampling.items())
        sampling = shared.setdefault(chosen, dict(zip(written.sampling, chosen, strict=True)))
        yield Point("-".join(f"{_SHORT.get(name, name)}{value}" for name, value in at.items()), at, sampling)
