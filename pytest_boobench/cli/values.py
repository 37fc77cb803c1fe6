"""Door 2: values as they are typed on the command line, read by click's callbacks."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import click

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
