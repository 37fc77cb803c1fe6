"""What came of a server's trial, as Markdown."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tests.real.trying import Session, Step

_METRICS = ("prefill_tok_s", "decode_tok_s", "ttft_ms", "itl_ms", "e2e_ms")
_HEAD = ("cell", "session", "good", "prefill tok/s", "decode tok/s", "TTFT ms", "ITL ms", "e2e ms", "rates", "stands")


def tell(lines: Iterable[str]) -> None:
    """Print lines as they come: a program takes minutes."""
    for line in lines:
        print(line, flush=True)


def show_place(versions: Mapping[str, str]) -> Iterator[str]:
    """When and where, and what of."""
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    yield f"{datetime.now(UTC):%Y-%m-%d}, {packages}, Python {platform.python_version()}, {os.cpu_count()} cores"
    yield f"load {os.getloadavg()[0]:.1f}"
    yield ""


def show_step(step: Step, lines: int = 40) -> Iterator[str]:
    """A command with what it printed."""
    yield f"`{step.command}`: exit code {step.exit_code}"
    yield "```text"
    yield from step.output.strip().splitlines()[-lines:]
    yield "```"
    yield ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    yield from ("| " + " | ".join(row) + " |" for row in rows)
    yield ""


def show_sessions(sessions: Mapping[str, Session]) -> Iterator[str]:
    """A row for each cell of each session, then every sentence that was said."""
    yield from table(_HEAD, [_row(name, cell) for name, session in sessions.items() for cell in session.cells])
    for name, session in sessions.items():
        yield f"- {name}: exit code {session.step.exit_code}"
        for cell in session.cells:
            yield from (f"  - {cell['suite']} {_short(cell)}: {text}" for text in _say(cell))
        yield from (f"  - {cell['node_id']}: {cell['outcome']}: {cell['reason']}" for cell in session.unmeasured)
    yield ""


def median(cell: Mapping[str, Any], metric: str) -> float | None:
    """A cell's median."""
    found = cell["aggregates"].get(metric)
    return None if found is None else found["median"]


def number(value: float | None) -> str:
    """Four figures."""
    return "–" if value is None else f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def ratio(ours: float | None, theirs: float | None) -> str:
    """How far ours is from theirs, in per cent."""
    return f"{(ours / theirs - 1) * 100:+.1f} %" if ours and theirs else "–"


def middle(values: Sequence[float | None]) -> float | None:
    """The median of those that are known."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def sources(cell: Mapping[str, Any]) -> str:
    """Whose clock the rates come from."""
    found = {sample.get("rate_source") for sample in cell.get("samples", ()) if sample["phase"] == "measure"}
    return "/".join(sorted(source or "none" for source in found))


def _short(cell: Mapping[str, Any]) -> str:
    name: str = cell["node_id"].partition("[")[2].removesuffix("]")
    return name


def _row(name: str, cell: Mapping[str, Any]) -> list[str]:
    values = [number(median(cell, metric)) for metric in _METRICS]
    good = f"{cell['measured'] - cell['failed']}/{cell['measured']}"
    stands = cell["standing"] + (", saved" if cell["saved"] else "")
    return [f"{cell['suite']} {_short(cell)}", name, good, *values, sources(cell), stands]


def _say(cell: Mapping[str, Any]) -> Iterator[str]:
    if cell["error"]:
        yield f"error: {cell['error']}"
    if cell["spoiled"]:
        yield f"spoiled: {cell['spoiled']}"
    yield from (f"{verdict['outcome']}: {verdict['sentence']}" for verdict in cell["verdicts"])
    failed = {sample["failure_text"] for sample in cell.get("samples", ()) if sample["failure"]}
    yield from (f"failed sample: {text}" for text in sorted(failed))
