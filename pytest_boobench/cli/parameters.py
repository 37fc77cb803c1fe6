"""Door 2: what several verbs share: options, values as they are typed, names of cells, JSON."""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from pytest_boobench import BASELINE, HOSTS_FILE, gate
from pytest_boobench.cli.project import find_project
from pytest_boobench.metrics import find_load, gated_metrics
from pytest_boobench.record import Measurement
from pytest_boobench.reports.text import without_nan
from pytest_boobench.servers.clients import Patience, Waiting
from pytest_boobench.suite.objectives import OBJECTIVES, parse_limit_ms
from pytest_boobench.units import parse_duration, parse_percent

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_AGE = re.compile(r"(\d+)\s*([hdw])")
_AGE_S = {"h": 3600, "d": 86_400, "w": 7 * 86_400}
_EVERY_S = 10.0
"""Time between two messages about one host that is waited for."""


def to_json(value: Any, *, indent: int | None = 2) -> str:
    """The value as JSON, without secrets; infinite numbers and NaN become null."""
    return json.dumps(without_nan(value), indent=indent, ensure_ascii=False, allow_nan=False)


def echo(output: Mapping[str, Any] | Iterable[str]) -> None:
    """Print plain data as JSON, or lines as they are."""
    click.echo(to_json(output) if isinstance(output, Mapping) else "\n".join(output))


def name_cell(measurement: Measurement) -> str:
    """The cell's name in all output, as in ``rack-1::qwen3-8b[pp512-tg32-c4]``."""
    return "::".join(measurement.node_id.split("::")[-2:])


def find_allowed(measurement: Measurement, max_drop: float | None) -> Mapping[str, float]:
    """Metric -> allowed worsening, a ratio: ``max_drop``, or what was allowed at the measuring, or the default."""
    compared = [verdict for verdict in measurement.verdicts if verdict.allowed is not None]
    judged: dict[str, float | None] = {verdict.metric: verdict.allowed for verdict in compared}
    if not judged and measurement.run.imported_from is not None:
        judged = dict.fromkeys(_list_imported(measurement))
    identity = measurement.identity
    load = find_load(identity.get("rate"), identity.get("slo"), identity.get("arrival"))
    return gate.limits(
        identity["kind"],
        judged or None,
        gate.Rules(max_drop=max_drop),
        lanes=identity["concurrency"],
        turns=identity.get("turns", 1),
        load=load,
    )


def _list_imported(measurement: Measurement) -> list[str]:
    """What is judged of another tool's results: the usual metrics where the tool gives them, or else the first time."""
    identity, given = measurement.identity, measurement.aggregates
    usual = gated_metrics(identity["kind"], identity["concurrency"], identity.get("length", "exact"))
    times = [key for key in ("ttft_ms", "e2e_ms") if key in given]
    return [key for key in usual if key in given] or times[:1]


def _read_with(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """A callback for an option's value; the text of a ValueError becomes the message."""

    def read(context: click.Context, option: click.Parameter, text: str | None) -> Any:
        try:
            return None if text is None else parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error), context, option) from None

    return read


def _parse_moment(text: str) -> float:
    if age := _AGE.fullmatch(text.strip()):
        return time.time() - int(age[1]) * _AGE_S[age[2]]
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        wanted = "expected a day such as 2026-11-24, or an age such as 12h, 30d or 8w"
        raise ValueError(f"{wanted}, got {text!r}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


read_moment = _read_with(_parse_moment)
"""A day, a time or an age as seconds since 1970 UTC. A time without a time zone is UTC."""
read_percent = _read_with(functools.partial(parse_percent, bare=True))
"""``10%`` or ``10`` as the ratio 0.1."""
read_duration = _read_with(parse_duration)
"""``90``, ``90s`` or ``1.5m`` as seconds."""


def _grant_patience(text: str) -> Patience:
    """With a message for each host that is waited for: at once, and every ten seconds."""
    told_s: dict[str, float] = {}

    def tell(waiting: Waiting) -> None:
        last_s = told_s.get(waiting.host)
        if last_s is None or not last_s <= waiting.waited_s < last_s + _EVERY_S:
            told_s[waiting.host] = waiting.waited_s
            click.echo(str(waiting), err=True)

    return Patience(load_s=parse_duration(text), option="--load-timeout", tell=tell)


def _read_slo(context: click.Context, option: click.Parameter, typed: tuple[str, ...]) -> dict[str, float]:
    """``ttft_ms=500`` and its like."""
    found = {}
    for text in typed:
        key, _, limit = text.partition("=")
        if key not in OBJECTIVES:
            raise click.BadParameter(
                f"expected one of {', '.join(OBJECTIVES)} and its limit, as in ttft_ms=500", context, option
            )
        try:
            found[key] = parse_limit_ms(float(limit) if limit.replace(".", "", 1).isdigit() else limit)
        except ValueError as error:
            raise click.BadParameter(f"{key}: {error}", context, option) from None
    return found


positive = click.IntRange(min=1)
any_rate = click.FloatRange(min=0, max=10_000, min_open=True)
"""Requests per second."""
prompt_tokens_option = click.option(
    "--prompt-tokens", type=positive, default=512, show_default=True, metavar="N", help="Of a prompt."
)
output_tokens_option = click.option(
    "--output-tokens", type=positive, default=128, show_default=True, metavar="N", help="Of an answer."
)
prompts_option = click.option(
    "--prompts",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE.jsonl",
    help="Own prompts instead of made-up ones, each line as often as the others.",
)


def slo_option(*, required: bool) -> Decorator:
    """The limits of a request."""
    return click.option(
        "--slo",
        multiple=True,
        required=required,
        callback=_read_slo,
        metavar="METRIC=LIMIT",
        help="Most that a time of a request may be, in ms or with a unit; may be repeated.",
    )


def refuse_beside(option: str, others: Iterable[str], why: str) -> None:
    """A usage error if one of the other options of the verb is typed beside this one. All are names of parameters."""
    context = click.get_current_context()
    typed = [name for name in others if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if typed and context.get_parameter_source(option) is ParameterSource.COMMANDLINE:
        raise click.UsageError(f"{_dash(option)}: {why}; leave {_dash(typed[0])} out")


def require_beside(option: str, needed: str, why: str) -> None:
    """A usage error if an option is typed without the one that it needs."""
    context = click.get_current_context()
    typed = [context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in (option, needed)]
    if typed == [True, False]:
        raise click.UsageError(f"{_dash(option)}: {why}; add {_dash(needed)}, or leave it out")


def _dash(name: str) -> str:
    return f"--{name.replace('_', '-')}"


PROMPTS_SAY = "its lines say what is sent and how much"
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
hosts_option = click.option(
    "--hosts",
    "hosts_file",
    envvar="BOOBENCH_HOSTS",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help=f"The hosts file (default: {HOSTS_FILE} beside pytest's configuration).",
)
load_timeout_option = click.option(
    "--load-timeout",
    "patience",
    metavar="TIME",
    default="5m",
    envvar="BOOBENCH_LOAD_TIMEOUT",
    callback=_read_with(_grant_patience),
    help="How long a server may take to load its model (default: 5m).",
)
store_option = click.option(
    "--store",
    "store_url",
    envvar="BOOBENCH_STORE",
    metavar="URL",
    callback=lambda _context, _option, typed: typed or find_project(Path.cwd()).store_url,
    help="The store: an SQLAlchemy URL or a file (default: what pytest --boobench uses here).",
)
baseline_option = click.option(
    "--baseline",
    envvar="BOOBENCH_BASELINE",
    metavar="NAME",
    callback=lambda _context, _option, typed: typed or find_project(Path.cwd()).baseline,
    help=f"Which baseline (default: what pytest --boobench uses here, else {BASELINE}).",
)


def _several(field: str, metavar: str, what: str) -> Decorator:
    name = f"--{field.removesuffix('s')}"
    return click.option(name, field, multiple=True, metavar=metavar, help=f"Only {what} (may be given again).")


_SELECTING: Mapping[str, Decorator] = {
    "suites": _several("suites", "NAME", "cells of this suite"),
    "hosts": _several("hosts", "NAME", "cells of this host"),
    "models": _several("models", "NAME", "cells of this model"),
    "containing": click.option(
        "-k", "containing", default="", metavar="TEXT", help="Only cells whose test has this in its name."
    ),
    "runs": _several("runs", "ID", "this run, one session of one suite on one host; its first digits will do"),
    "sessions": _several("sessions", "ID", "this pytest session; its first digits will do"),
    "commits": _several("commits", "HASH", "this git commit; its first digits will do"),
    "baselines": _several("baselines", "NAME", "what is in force as this baseline"),
    "since": click.option(
        "--since", callback=read_moment, metavar="TIME", help="Only what was measured since: 2026-11-24, or 30d ago."
    ),
    "last": click.option("--last", type=click.IntRange(min=1), metavar="N", help="Only the newest N of each cell."),
}
"""Field of a Selection -> the option that fills it."""


def _select_by(*fields: str) -> Decorator:
    """A decorator that gives a verb these options; the verb gets their values as one ``selection``."""

    def decorate(verb: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(verb)
        def with_selection(**typed: Any) -> Any:
            from pytest_boobench.store import Selection  # noqa: PLC0415  # SQLAlchemy: not for verbs without a store

            chosen = {name: typed.pop(name) for name in fields}
            return verb(selection=Selection(**chosen), **typed)

        command: Callable[..., Any] = with_selection
        for field in reversed(fields):
            command = _SELECTING[field](command)
        return command

    return decorate


selection_options = _select_by(*_SELECTING)
"""Options that choose measurements."""
measurement_options = _select_by(*(field for field in _SELECTING if field != "baselines"))
"""The same without ``--baseline``, for verbs about one baseline."""
cell_options = _select_by("suites", "hosts", "models", "containing")
"""Options that choose cells, whenever they were measured."""
