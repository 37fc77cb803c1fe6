"""Door 2: ``boobench soak``: whether a server that is not restarted becomes slower, or its memory grows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from pytest_boobench.cli import show_examples
from pytest_boobench.cli.ab_sides import AbSide, Sides
from pytest_boobench.cli.parameters import echo, hosts_option, json_option, read_percent, store_option
from pytest_boobench.cli.project import find_project
from pytest_boobench.cli.soak_session import Soak, SoakCourse, SoakLook, SoakSettings, run_soak
from pytest_boobench.reports.text import render_table
from pytest_boobench.suite.names import list_short_names
from pytest_boobench.units import BLANK, change, count, number, percent, quantity
from pytest_boobench.untrusted import clean

_POSITIVE = click.IntRange(min=1)
_WORSE = {"higher": "slower", "lower": "grows"}


@click.command(
    epilog=show_examples(
        ("boobench soak rack-1 --hours 8 --model qwen3-8b", "over night"),
        ("boobench soak http://localhost:8080 --max-drift 1%", "a server that runs; only a larger drift counts"),
        ("boobench history --suite soak", "its looks, measurement by measurement"),
    )
)
@click.argument("host")
@click.option("--model", metavar="NAME", help="The model (default: the one that the host has).")
@click.option(
    "--hours",
    type=click.FloatRange(min=0, min_open=True),
    default=8.0,
    show_default=True,
    metavar="N",
    help="How long.",
)
@click.option("--prompt-tokens", type=_POSITIVE, default=128, show_default=True, metavar="N", help="Of a prompt.")
@click.option("--output-tokens", type=_POSITIVE, default=64, show_default=True, metavar="N", help="Of an answer.")
@click.option("--samples", type=_POSITIVE, default=3, show_default=True, metavar="N", help="Requests of a look.")
@click.option(
    "--share",
    default="5%",
    show_default=True,
    callback=read_percent,
    metavar="PCT",
    help="Most of the host's time that looks may take.",
)
@click.option(
    "--max-drift",
    default="0.25%",
    show_default=True,
    callback=read_percent,
    metavar="PCT",
    help="How much slower, or how much more memory, each hour may bring.",
)
@hosts_option
@store_option
@json_option
def command(host: str, hosts_file: Path | None, as_json: bool, **typed: Any) -> int:
    """Tell how speed and memory of a running server drift.

    HOST is a URL or a host of the hosts file, of a server that runs. Each look is a few small requests, stored like any
    cell in the suite soak. Ctrl-C ends it with the result so far.

    Exit code 0 where no drift is larger than --max-drift, 1 where one is, 3 where that cannot be told, 2 where nothing
    could be measured.
    """
    if not 0 < typed["share"] <= 1:
        raise click.UsageError("--share: expected a percentage above 0 and up to 100, such as 5%")
    project = find_project(Path.cwd())
    side = _name(Sides(project, hosts_file, Path.cwd()).read(host, "HOST"))

    def tell(look: SoakLook) -> None:
        if look.error and not as_json:
            click.echo(f"hour {look.hour:.2f}: {look.error}", err=True)

    found = run_soak(side, SoakSettings(**typed), project, tell)
    echo(describe_soak(found) if as_json else render_soak(found))
    if found.error and not as_json:
        click.echo(found.error, err=True)
    return found.exit_code


def _name(side: AbSide) -> AbSide:
    """The side with a name; a usage error for a server that would be started for each look."""
    if side.kind == "command" or "start" in side.row or side.row.get("server") == "embedded":
        raise click.UsageError("HOST: a soak needs a server that runs and is not restarted; start it, and give its URL")
    label = side.typed.split("://", 1)[-1].rpartition("@")[2]
    return replace(side, name=side.typed if side.kind == "host" else next(list_short_names(clean(label)))[:60])


def describe_soak(found: Soak) -> dict[str, Any]:
    """The soak as plain data; slopes are ratios per hour, times hours since the beginning."""
    return {
        "exit_code": found.exit_code,
        "host": found.host,
        "model": found.model,
        "error": found.error,
        "interrupted": found.interrupted,
        "took_s": found.took_s,
        "share": found.share,
        "restarts": found.restarts,
        "metrics": [_describe_course(course) for course in found.courses],
        "looks": [{"hour": look.hour, "took_s": look.took_s, "error": look.error, **look.values}
                  for look in found.looks],
    }  # fmt: skip


def _describe_course(course: SoakCourse) -> dict[str, Any]:
    drift = course.drift
    slopes = (None, None, None) if drift is None else (drift.slope, drift.low, drift.high)
    slope, low, high = (None if log is None else math.expm1(log) for log in slopes)
    return {
        "metric": course.metric.key,
        "unit": course.metric.unit,
        "first": course.first,
        "last": course.last,
        "per_hour": slope,
        "low": low,
        "high": high,
        "trend": course.trend,
        "changes": [
            {"from_hour": begin, "to_hour": end, **asdict(one), "ratio": one.ratio}
            for begin, end, one in course.changes
        ],
    }


def render_soak(found: Soak) -> Iterator[str]:
    """A line for each metric, the hours in which it changed, and how it was reached."""
    yield f"{found.host}  {found.model or ''}".rstrip()
    if courses := found.courses:
        head = ("", "first", "last", "", "per hour", "verdict")
        rows = [_make_row(course, found) for course in courses]
        yield from render_table(head, rows, left=(0, 3, 4, 5))
        for course in courses:
            yield from _tell_changes(course)
    if hours := found.restarts:
        shown = ", ".join(f"{hour:.2f}" for hour in hours[:5])
        yield f"the server was restarted, or its model loaded anew: hour {shown}; so this is not one server's course"
    failed = len(found.looks) - len(found.good)
    lost = f", {failed} failed" if failed else ""
    ended = "; interrupted: so far" if found.interrupted else ""
    yield (
        f"{count(len(found.looks), 'look')}{lost} in {found.took_s / 3600:.2f} hours, {percent(found.share)} of the "
        f"host's time{ended}"
    )


def _make_row(course: SoakCourse, found: Soak) -> tuple[str, ...]:
    drift = course.drift
    per_hour = BLANK if drift is None else change(*map(math.expm1, (drift.slope, drift.low, drift.high)))
    allowed = f"{found.asked.max_drift * 100:g} % an hour allowed"
    words = {
        "worse": f"{_WORSE[course.metric.better]} ({allowed})",
        "steady": f"steady ({allowed})",
        "undecided": "undecided: too few looks" if drift is None else f"undecided ({allowed})",
    }
    return (
        course.metric.title,
        number(course.first),
        number(course.last),
        course.metric.unit,
        per_hour,
        words[course.trend],
    )


def _tell_changes(course: SoakCourse) -> Iterator[str]:
    for begin, end, one in course.changes:
        when = f"from hour {begin:.2f} to {end:.2f}" if one.gradual else f"at hour {begin:.2f}"
        levels = f"{number(one.before)} to {quantity(one.after, course.metric.unit)}"
        yield f"{course.metric.title}: {'slide' if one.gradual else 'step'} {change(one.ratio)} {when}: {levels}"
