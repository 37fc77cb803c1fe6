"""Door 2: which of the stored measurements a verb is about."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from pytest_boobench.cli.values import read_moment
from pytest_boobench.store import Selection


def _several(name: str, field: str, metavar: str, what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(name, field, multiple=True, metavar=metavar, help=f"Only {what} (may be given again).")


_OPTIONS: Mapping[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "suites": _several("--suite", "suites", "NAME", "cells of this suite"),
    "hosts": _several("--host", "hosts", "NAME", "cells of this host"),
    "models": _several("--model", "models", "NAME", "cells of this model"),
    "containing": click.option(
        "-k", "containing", default="", metavar="TEXT", help="Only cells whose test has this in its name."
    ),
    "runs": _several("--run", "runs", "ID", "this run, one session of one suite on one host; its first digits will do"),
    "sessions": _several("--session", "sessions", "ID", "this pytest session; its first digits will do"),
    "commits": _several("--commit", "commits", "HASH", "this git commit; its first digits will do"),
    "baselines": _several("--baseline", "baselines", "NAME", "what is in force as this baseline"),
    "since": click.option(
        "--since", callback=read_moment, metavar="TIME", help="Only what was measured since: 2026-11-24, or 30d ago."
    ),
    "last": click.option("--last", type=click.IntRange(min=1), metavar="N", help="Only the newest N of each cell."),
}
"""Field of a Selection -> the option that fills it."""


def selection_options(verb: Callable[..., int]) -> Callable[..., int]:
    """Gives a verb the options that choose measurements; it takes them as one ``selection``."""
    return _give(verb, tuple(_OPTIONS))


def measurement_options(verb: Callable[..., int]) -> Callable[..., int]:
    """The same without ``--baseline``, for verbs that are about one baseline anyway."""
    return _give(verb, tuple(field for field in _OPTIONS if field != "baselines"))


def cell_options(verb: Callable[..., int]) -> Callable[..., int]:
    """Gives a verb the options that choose cells, whenever they were measured."""
    return _give(verb, ("suites", "hosts", "models", "containing"))


def _give(verb: Callable[..., int], fields: Sequence[str]) -> Callable[..., int]:
    @functools.wraps(verb)
    def with_selection(**typed: Any) -> int:
        chosen = {name: typed.pop(name) for name in fields}
        return verb(selection=Selection(**chosen), **typed)

    command: Callable[..., int] = with_selection
    for field in reversed(fields):
        command = _OPTIONS[field](command)
    return command
