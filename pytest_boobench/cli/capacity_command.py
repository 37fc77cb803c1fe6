"""Door 2: ``boobench capacity``: the highest rate at which a host keeps an SLO."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from pytest_boobench.cli import show_examples
from pytest_boobench.cli.ab_command import describe_time
from pytest_boobench.cli.ab_sides import Sides
from pytest_boobench.cli.capacity_session import Capacity, CapacitySettings, find_capacity
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
    slo_option,
    store_option,
)
from pytest_boobench.cli.project import find_project
from pytest_boobench.gate.capacity import Knee, Probe
from pytest_boobench.reports.text import render_table
from pytest_boobench.suite.names import list_short_names
from pytest_boobench.units import count, number, percent, quantity
from pytest_boobench.untrusted import clean


@click.command(
    epilog=show_examples(
        ("boobench capacity rack-1 --model qwen3-8b --slo ttft_ms=500 --slo itl_ms=40", "a host of the hosts file"),
        ("boobench capacity 'llama-server -m x.gguf --port {port}' --slo e2e_ms=5s", "a server that is started"),
    )
)
@click.argument("host")
@click.option("--model", metavar="NAME", help="The model (default: the one that the host has).")
@prompt_tokens_option
@output_tokens_option
@prompts_option
@slo_option(required=True)
@click.option(
    "--share",
    default="95%",
    show_default=True,
    callback=read_percent,
    metavar="PCT",
    help="Of the requests that must be within the SLO.",
)
@click.option(
    "--max-rate",
    type=any_rate,
    metavar="N",
    help="The highest rate to try, requests per second.",
)
@click.option(
    "--duration",
    "duration_s",
    metavar="TIME",
    callback=read_duration,
    help="Of a probe (default: 30s, or 40 times the longest limit).",
)
@click.option("--probes", type=positive, default=10, show_default=True, metavar="N", help="The most rates to try.")
@click.option(
    "--load-timeout",
    "load_timeout_s",
    metavar="TIME",
    callback=read_duration,
    help="How long a server may take to start.",
)
@hosts_option
@store_option
@json_option
def command(host: str, hosts_file: Path | None, as_json: bool, **typed: Any) -> int:
    """Search the highest rate at which HOST keeps an SLO.

    The rate is in requests per second, which come in equal gaps. HOST is a host of the hosts file, a URL, or a command
    line with {port} in quotes. Each probe is stored like any cell.

    Exit code 0 where a rate was found that holds and one that does not, 3 where only one of the two was, 2 for what
    cannot be measured.
    """
    if not 0 < typed["share"] < 1:
        raise click.UsageError("--share: expected a percentage between 0 and 100, such as 95%; no number proves 100%")
    refuse_beside("prompts", ["prompt_tokens"], PROMPTS_SAY)
    settings = CapacitySettings(**typed)
    project = find_project(Path.cwd())
    side = Sides(project, hosts_file, Path.cwd()).read(host, "HOST")
    label = side.typed.split("://", 1)[-1].rpartition("@")[2] if side.kind == "URL" else side.typed
    side = replace(side, name=host if side.kind == "host" else next(list_short_names(clean(label)))[:60])

    def tell(probe: Probe) -> None:
        if not as_json:
            click.echo(f"{number(probe.rate)} per second: {_describe(probe)}", err=True)

    found = find_capacity(side, settings, project, tell)
    echo(describe(found) if as_json else render(found, settings))
    if found.error and not as_json:
        click.echo(found.error, err=True)
    return found.exit_code


def describe(found: Capacity) -> dict[str, Any]:
    """The search as plain data; an end of the interval that lies outside all rates is null."""
    plain = {"exit_code": found.exit_code, "found": found.found, **asdict(found)}
    if found.knee is not None:
        ends = {"low": found.knee.low or None, "high": found.knee.high if math.isfinite(found.knee.high) else None}
        plain["knee"] = {"rate": found.knee.rate, **ends}
    return plain


def render(found: Capacity, asked: CapacitySettings) -> Iterator[str]:
    """The probes by their rate, and the highest rate with its interval."""
    limits = ", ".join(f"{key} {quantity(limit, 'ms')}" for key, limit in asked.slo.items())
    yield f"{found.host}  {found.model or ''}".rstrip()
    yield f"SLO: {limits} for {percent(asked.share)} of the requests; alone one takes {quantity(found.alone_ms, 'ms')}"
    if found.probes:
        rows = [
            (
                number(probe.rate),
                count(probe.requests, "request"),
                percent(probe.share),
                "yes" if probe.share >= asked.share else "no",
            )
            for probe in sorted(found.probes, key=lambda probe: probe.rate)
        ]
        yield from render_table(("requests/s", "sent", "within", "holds"), rows, left=(3,))
    if found.knee is not None:
        yield _describe_knee(found, found.knee)
    ended = "; interrupted: so far" if found.interrupted else ""
    yield f"{count(len(found.probes), 'probe')} of {asked.probe_s:g} s, {describe_time(found.took_s)}{ended}"


def _describe(probe: Probe) -> str:
    if not probe.requests:
        return "it cannot keep up"
    return f"{percent(probe.share)} of {count(probe.requests, 'request')} within the SLO"


def _describe_knee(found: Capacity, knee: Knee) -> str:
    if not found.found:
        held = any(probe.share >= found.share for probe in found.probes)
        tried = [probe.rate for probe in found.probes]
        known = f"at least {number(max(tried))}" if held else f"below {number(min(tried))}"
        return f"highest rate: {known} requests per second; no rate was tried that {'fails' if held else 'holds'}"
    low = number(knee.low) if knee.low else "?"
    high = number(knee.high) if math.isfinite(knee.high) else "?"
    return f"highest rate: {number(knee.rate)} requests per second, between {low} and {high}"
