"""Door 2: options that several verbs have, and values as they are typed."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from pytest_boobench import gate
from pytest_boobench.record import Measurement
from pytest_boobench.store import Selection
from pytest_boobench.units import parse_duration, parse_percent

_AGE = re.compile(r"(\d+)\s*([hdw])")
_AGE_S = {"h": 3600, "d": 86_400, "w": 7 * 86_400}


def read_moment(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """A day, a time, or an age -> seconds since 1970 UTC. What names no time zone is UTC."""
    if text is None:
        return None
    if age := _AGE.fullmatch(text.strip()):
        return time.time() - int(age[1]) * _AGE_S[age[2]]
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        wanted = "expected a day such as 2026-11-24, or an age such as 12h, 30d or 8w"
        raise click.BadParameter(f"{wanted}, got {text!r}", context, option) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def read_percent(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """``10%`` or ``10``, both 0.1."""
    if text is None:
        return None
    try:
        return parse_percent(text, bare=True)
    except ValueError as error:
        raise click.BadParameter(str(error), context, option) from None


def read_span(context: click.Context, option: click.Parameter, text: str) -> float:
    """``90s``, ``5m`` -> seconds."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error), context, option) from None


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


def name_cell(measurement: Measurement) -> str:
    """As in ``rack-1::qwen3-8b[pp512-tg32-c4]``."""
    return "::".join(measurement.node_id.split("::")[-2:])


def find_allowed(measurement: Measurement, max_drop: float | None) -> Mapping[str, float]:
    """Metric -> allowed worsening, a ratio: what was allowed when it was measured, else the usual.

    ``max_drop`` is allowed of all of them instead.
    """
    judged = {verdict.metric: verdict.allowed for verdict in measurement.verdicts}
    lanes = measurement.identity["concurrency"]
    return gate.limits(measurement.identity["kind"], judged or None, gate.Rules(max_drop=max_drop), lanes=lanes)
