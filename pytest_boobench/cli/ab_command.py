"""Door 2: ``boobench ab``: two servers in turns, and by how much the new one is slower or faster."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from pytest_boobench.cli import show_examples
from pytest_boobench.cli.ab_session import Ab, AbChange, AbSettings, run_ab
from pytest_boobench.cli.ab_sides import Sides, name_sides
from pytest_boobench.cli.parameters import (
    PROMPTS_SAY,
    any_rate,
    echo,
    hosts_option,
    json_option,
    output_tokens_option,
    positive,
    prompt_tokens_option,
    prompts_option,
    read_duration,
    read_percent,
    refuse_beside,
    require_beside,
    slo_option,
    store_option,
)
from pytest_boobench.cli.project import find_project
from pytest_boobench.metrics import find_metric
from pytest_boobench.plain import list_facts
from pytest_boobench.reports.text import render_table
from pytest_boobench.units import change, count, number
from pytest_boobench.units import percent as show_percent

_OPTIONS = (
    click.option("--model", metavar="NAME", help="The model (default: the one that each side has)."),
    click.option("--old-model", metavar="NAME", help="What the old side calls it, where that is another name."),
    prompt_tokens_option,
    output_tokens_option,
    prompts_option,
    click.option(
        "--depth-tokens", type=click.IntRange(min=0), default=0, metavar="N", help="Of context before the prompt."
    ),
    click.option("--concurrency", type=positive, default=1, show_default=True, metavar="N", help="Requests at once."),
    click.option("--turns", type=positive, default=1, show_default=True, metavar="N", help="Of a conversation."),
    click.option("--turn-tokens", type=positive, metavar="N", help="Of each text after the first (default: 64)."),
    click.option("--rate", type=any_rate, metavar="N", help="Requests per second, instead of lanes."),
    slo_option(required=False),
    click.option(
        "--samples", type=positive, metavar="N", help="Requests of a turn of starts (default: 10), or a window."
    ),
    click.option(
        "--max-drop",
        default="10%",
        show_default=True,
        callback=read_percent,
        metavar="PCT",
        help="How much slower the new side may be.",
    ),
    click.option("--together", is_flag=True, help="Both servers fit side by side: start each once, not for each turn."),
    click.option("--load-timeout", metavar="TIME", callback=read_duration, help="How long a server may take to start."),
    hosts_option,
    store_option,
)


def max_time_option(usual: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """How long a comparison may take."""
    return click.option(
        "--max-time",
        "max_time_s",
        default=usual,
        show_default=True,
        callback=read_duration,
        metavar="TIME",
        help="Begin no further pairs of a comparison after this time.",
    )


def ab_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """What `boobench ab` and `boobench bisect` share; the verb gets it as ``settings`` and ``hosts_file``."""

    @functools.wraps(verb)
    def with_settings(**typed: Any) -> Any:
        _refuse_conflicts()
        load_s = typed.pop("load_timeout")
        names = [name for name in list_facts(AbSettings) if name in typed]
        taken = {name: typed.pop(name) for name in names}
        return verb(settings=AbSettings(load_timeout_s=load_s, **taken), **typed)

    command: Callable[..., Any] = with_settings
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(
    epilog=show_examples(
        ("boobench ab 'old/llama-server -m x.gguf --port {port}' 'new/llama-server -m x.gguf --port {port}'", "builds"),
        ("boobench ab http://localhost:8080 http://localhost:8081", "two servers that run"),
        ("boobench ab rack-1 rack-2 --model qwen3-8b", "two hosts of the hosts file"),
    )
)
@click.argument("old")
@click.argument("new")
@ab_options
@max_time_option("10m")
@click.option(
    "--until",
    default="1%",
    show_default=True,
    callback=read_percent,
    metavar="PCT",
    help="Measure until each interval is at most this wide to each side.",
)
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.html", help="Write an HTML page."
)
@json_option
def command(old: str, new: str, settings: AbSettings, hosts_file: Path | None, as_json: bool) -> int:
    """Measure by how much NEW is slower or faster than OLD.

    OLD and NEW are each a command line with {port} (in quotes; no shell reads it), a URL, or a host of the hosts file.
    What is started is ended. The order is A B B A, and the result has a 95 % interval.

    Exit code 0 where it is proven that NEW is not slower by more than --max-drop, 1 where it is, 3 where that cannot be
    told, 2 for what cannot be compared.
    """
    project = find_project(Path.cwd())
    sides = Sides(project, hosts_file, Path.cwd())
    first, second = name_sides(sides.read(old, "OLD"), sides.read(new, "NEW"))
    found = run_ab(first, second, settings, project)
    echo(describe(found) if as_json else render(found))
    if found.error and not as_json:
        click.echo(found.error, err=True)
    return found.exit_code


def _refuse_conflicts() -> None:
    """A usage error for options that do not go together."""
    refuse_beside("prompts", ("prompt_tokens", "depth_tokens", "samples", "turns", "turn_tokens"), PROMPTS_SAY)
    refuse_beside("turns", ("depth_tokens",), "a conversation makes its own context")
    refuse_beside("turns", ("rate",), "a turn starts when the one before has ended")
    refuse_beside("rate", ("concurrency", "depth_tokens"), "it decides how many requests are in flight")
    require_beside("turn_tokens", "turns", "there are no later turns")
    require_beside("slo", "rate", "it is judged at a rate")


def describe(found: Ab) -> dict[str, Any]:
    """The comparison as plain data."""
    return {"exit_code": found.exit_code, **asdict(found)}


def render(found: Ab) -> Iterator[str]:
    """The sides, a line for each metric, and how it was reached."""
    for role, name, build in zip(("old", "new"), (found.old, found.new), found.builds, strict=True):
        shown = name if name.startswith(f"{role} ") else f"{role} {name}"
        yield "  ".join(filter(None, (shown, build)))
    if not found.changes:
        return
    head = ("", "old", "new", "", "change", "verdict")
    yield from render_table(head, [_make_row(each) for each in found.changes], left=(0, 3, 4, 5))
    yield describe_way(found)


def _make_row(found: AbChange) -> tuple[str, ...]:
    metric = find_metric(found.metric)
    return (
        metric.title,
        number(found.old),
        number(found.new),
        metric.unit,
        change(found.change, found.low, found.high),
        _describe_verdict(found),
    )


def _describe_verdict(found: AbChange) -> str:
    allowed = f"{show_percent(found.allowed)} allowed" if found.allowed is not None else ""
    if found.outcome == "regression":
        return f"slower ({allowed})"
    if found.outcome == "improvement":
        return "faster"
    if found.outcome == "pass":
        return f"not slower ({allowed})" if found.proven else f"not proven ({allowed})"
    return f"undecided: {found.reason}" if found.reason else found.outcome


def describe_way(found: Ab) -> str:
    """How the result was reached, as in ``24 pairs of starts, A B B A, 3 min 12 s``."""
    pairs = max((each.pairs or 0 for each in found.changes), default=0)
    ended = "; interrupted: so far" if found.interrupted else ""
    return f"{count(pairs, 'pair')} of {found.pairing}, A B B A, {describe_time(found.took_s)}{ended}"


def describe_time(seconds: float) -> str:
    """``3 min 12 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
