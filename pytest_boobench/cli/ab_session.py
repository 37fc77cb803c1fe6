"""Door 2: one comparison of two sides, as a session of pytest with a suite and a hosts file that are made for it."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from pytest_boobench import HOSTS_FILE
from pytest_boobench.cli.ab_sides import AbSide, write_hosts_file
from pytest_boobench.cli.made_session import MadeSession
from pytest_boobench.cli.project import Project
from pytest_boobench.errors import BoobenchError
from pytest_boobench.gate.comparison import find_gain
from pytest_boobench.hosts.access import Hosts
from pytest_boobench.hosts.inventory import load
from pytest_boobench.hosts.quiet import Manners
from pytest_boobench.metrics import find_metric, name_of_turn
from pytest_boobench.record import Outcome, Pairing
from pytest_boobench.servers.clients import Patience
from pytest_boobench.servers.control import show_names
from pytest_boobench.suite.names import list_short_names
from pytest_boobench.suite.prompt_file import PromptFile, read_prompts
from pytest_boobench.untrusted import clean, clean_lines

NOT_SLOWER, SLOWER, IMPOSSIBLE, UNDECIDED, INTERRUPTED = 0, 1, 2, 3, 130
SUITE = "ab"
USUAL_SAMPLES = 10
"""Requests of a turn, where both servers are started for each turn."""
WINDOW_S, LEAST_OF_WINDOW = 10.0, 20
"""A window at a rate takes so long, and has so many requests at least."""
CACHED = "cached_share"
_MODEL_FLAGS = ("-m", "--model", "-hf", "--hf-repo", "-a", "--alias")
_NAMELESS = "model"
_OWN_FILE = re.compile(rf"\A\S*{re.escape(HOSTS_FILE)}:\d+: ")
"""How messages begin that speak of the hosts file which was made here: nobody can look into it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AbSettings:
    """What is asked of a comparison."""

    model: str | None = None
    """None: the one model that each side has."""
    old_model: str | None = None
    """Where the old side calls it otherwise."""
    prompt_tokens: int = 512
    output_tokens: int = 128
    prompts: Path | None = None
    """Own prompts instead of made-up ones; ``output_tokens`` is for its lines that name none."""
    depth_tokens: int = 0
    concurrency: int = 1
    turns: int = 1
    """Of a conversation."""
    turn_tokens: int | None = None
    """Of each text after the first; None: as in suites."""
    rate: float | None = None
    """Requests per second, instead of lanes."""
    slo: Mapping[str, float] = field(default_factory=dict)
    """Metric of a request at a rate -> the most that it may be, ms."""
    samples: int | None = None
    """Requests of a turn, where both servers are started for each turn, and of a window; None: the usual."""
    until: float | None = 0.01
    """Half the width of the interval to measure for, a ratio."""
    max_time_s: float = 600.0
    max_drop: float = 0.1
    metric: str | None = None
    """The only one to judge and to measure for; None: those that the gate judges by default."""
    together: bool = False
    """Whether both servers may run at the same time."""
    store_url: str
    report: Path | None = None
    load_timeout_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AbChange:
    """One metric of the new side against the old one."""

    metric: str
    outcome: Outcome
    old: float | None = None
    new: float | None = None
    """Medians, in the metric's unit."""
    change: float | None = None
    low: float | None = None
    high: float | None = None
    """new / old - 1 with its 95 % interval."""
    allowed: float | None = None
    proven: bool = False
    pairs: int | None = None
    reason: str = ""

    @property
    def gains(self) -> tuple[float, float, float] | None:
        """The gain, and the lower and upper end of its interval, as logarithms; None without an interval."""
        if self.change is None or self.low is None or self.high is None:
            return None
        metric = find_metric(self.metric)
        if min(self.change, self.low, self.high) <= -1:
            return None
        gain, one, other = (find_gain(metric, 1 + change, 1.0) for change in (self.change, self.low, self.high))
        return gain, min(one, other), max(one, other)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ab:
    """A comparison, finished or not."""

    old: str
    new: str
    """The sides' names."""
    changes: tuple[AbChange, ...] = ()
    pairing: Pairing = "requests"
    took_s: float = 0.0
    session: str | None = None
    """The pytest session, as in ``bench_runs.session``."""
    builds: tuple[str | None, str | None] = (None, None)
    error: str = ""
    """Why nothing could be compared, or not to the end."""
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """As `boobench ab` ends."""
        if self.interrupted:
            return INTERRUPTED
        if self.error or not self.changes:
            return IMPOSSIBLE
        outcomes = {change.outcome for change in self.changes}
        if "regression" in outcomes:
            return SLOWER
        settled = all(change.outcome == "improvement" or change.proven for change in self.changes)
        return NOT_SLOWER if settled else UNDECIDED

    @property
    def old_failed(self) -> bool:
        """Whether the error is the old side's."""
        return self.error.startswith((f"{self.old}:", f"{self.old} did not start"))


def run_ab(old: AbSide, new: AbSide, asked: AbSettings, project: Project) -> Ab:
    """Compare two named sides. What the user must mend comes as ``Ab.error``; Ctrl-C ends it with what there is."""
    began = time.monotonic()
    found = Ab(old=old.name, new=new.name)
    with tempfile.TemporaryDirectory(prefix="boobench-ab-") as name:
        folder = Path(name)
        hosts_file = folder / HOSTS_FILE
        try:
            write_hosts_file(hosts_file, (old, new), asked.load_timeout_s)
            asked = find_models(hosts_file, old, new, asked)
            found = _measure(folder, old, new, asked, project)
        except BoobenchError as error:
            found = replace(found, error=str(error))
        except KeyboardInterrupt:
            found = replace(found, interrupted=True)
    return replace(found, took_s=time.monotonic() - began, error=_OWN_FILE.sub("", found.error))


def find_models(hosts_file: Path, old: AbSide, new: AbSide, asked: AbSettings) -> AbSettings:
    """The settings with a model for each side; HostError where a side is out of reach, BoobenchError for no choice.

    A server that is started here may call its only model as it likes.
    """
    if asked.model is not None:
        return asked
    running = [side for side in (old, new) if "start" not in side.row]
    listed = asyncio.run(_ask_models(hosts_file, running, Patience(load_s=asked.load_timeout_s)))
    for name, models in listed.items():
        if len(models) != 1:
            raise BoobenchError(f"{name}: which model? say --model; it lists {_show(models)}")
    ours, theirs = (listed[side.name][0] if side.name in listed else find_model_name(side) for side in (old, new)[::-1])
    ours = ours or theirs or _NAMELESS
    return replace(asked, model=ours, old_model=asked.old_model or (theirs if old.name in listed else None))


def find_model_name(side: AbSide) -> str | None:
    """What to call the model of a server that is started: as the hosts file does, else as its file is called."""
    files = side.row.get("files") or {}
    if files:
        return next(iter(files)) if len(files) == 1 else None
    words = side.words
    flags = _MODEL_FLAGS if not Path(words[0]).name.startswith("python") else _MODEL_FLAGS[1:]  # python -m is a module
    named = (words[place + 1] for place, word in enumerate(words[:-1]) if word in flags)
    return next((next(list_short_names(clean(name))) for name in named), None)


def _show(names: Sequence[str]) -> str:
    return show_names(tuple(names)) if names else "none"


async def _ask_models(hosts_file: Path, sides: Sequence[AbSide], patience: Patience) -> dict[str, tuple[str, ...]]:
    """Name of a side -> its models; one server at a time."""
    listed = {}
    for side in sides:
        inventory = load(hosts_file, env=os.environ)
        async with Hosts(inventory, uuid.uuid4().hex, Manners(takeover=True), patience=patience) as hosts:
            grant = await hosts.grant(side.name, "bench")
            try:
                listed[side.name] = tuple(await grant.server.models())
            finally:
                grant.release()
    return listed


def _make_suite(new: AbSide, asked: AbSettings) -> dict[str, Any]:
    """A suite of one cell for the new side."""
    judged = list_judged(asked)
    return {
        "suite": SUITE,
        "description": "boobench ab",
        "hosts": [new.name],
        "models": [asked.model],
        "sampling": {"temperature": 0.0, "seed": 42},
        **_list_load(asked),
        **({"gate": {key: _allow(key, asked.max_drop) for key in judged}} if judged else {}),
    }


def list_judged(asked: AbSettings) -> tuple[str, ...]:
    """The metrics that are judged; empty: those that the gate judges by default.

    Of conversations each turn has its time, so that what a turn lost is found there.
    """
    if asked.metric is not None:
        return (asked.metric,)
    if asked.turns == 1:
        return ()
    time_of_turn = "ttft_ms" if asked.concurrency == 1 else "e2e_ms"
    turns = (name_of_turn(time_of_turn, turn) for turn in range(1, asked.turns + 1))
    return ("decode_tok_s", *turns, CACHED)


def _list_load(asked: AbSettings) -> dict[str, Any]:
    """What a suite says of the requests. DocumentError for a file of prompts that cannot be sent."""
    if asked.prompts is not None:
        found = list_own_prompts(
            asked.prompts, read_prompts(asked.prompts, str(asked.prompts), "chat"), asked.output_tokens
        )
    else:
        found = {"grid": {"prompt_tokens": [asked.prompt_tokens], "output_tokens": [asked.output_tokens]}}
    grid, samples = found["grid"], asked.samples
    if asked.rate is not None:
        found |= {"rate": asked.rate, "slo": dict(asked.slo)} if asked.slo else {"rate": asked.rate}
        samples = samples or max(LEAST_OF_WINDOW, round(WINDOW_S * asked.rate))
    else:
        grid["concurrency"] = [asked.concurrency]
    if asked.turns > 1:
        found |= {"turns": asked.turns, **({"turn_tokens": asked.turn_tokens} if asked.turn_tokens else {})}
    elif asked.rate is None and asked.prompts is None:
        grid["depth_tokens"] = [asked.depth_tokens]
        samples = samples or USUAL_SAMPLES
    return {**found, **({"samples": samples} if samples and asked.prompts is None else {})}


def list_own_prompts(path: Path, own: PromptFile, output_tokens: int) -> dict[str, Any]:
    """What a suite says of own prompts, with the output tokens of lines that name none."""
    lacking = any(line.output_tokens is None for line in own.lines)
    return {"prompts": str(path.absolute()), "grid": {"output_tokens": [output_tokens]} if lacking else {}}


def _allow(metric: str, drop: float) -> dict[str, str]:
    """What a suite says to allow a drop; a time may rise by as much as the drop of a rate makes it rise."""
    if find_metric(metric).better == "higher":
        return {"max_drop": f"{drop:.4%}"}
    return {"max_rise": f"{drop / (1 - drop):.4%}"}


def _list_options(old: AbSide, asked: AbSettings) -> Iterator[str]:
    """What the command line of pytest says of the comparison."""
    reference = old.name if asked.old_model in (None, asked.model) else f"{old.name}::{asked.old_model}"
    yield from ("--boobench-duet", reference, f"--boobench-max-time={asked.max_time_s:g}s")
    if asked.until is not None:
        yield f"--boobench-duet-until={asked.until:.4%}"
    if asked.together:
        yield "--boobench-duet-together"
    if not list_judged(asked):
        yield f"--boobench-max-drop={asked.max_drop:.4%}"
    if asked.report is not None:
        yield f"--boobench-report={asked.report.absolute()}"


class _ProgressLine:
    """Shows on a terminal what the session does."""

    def pytest_boobench_progress(self, progress: Any) -> None:
        """As a hook of the plugin."""
        share = f" {progress.done}/{progress.total}" if progress.total else ""
        text = f"{progress.state}{share}{f': {progress.note}' if progress.note else ''}"
        sys.__stderr__.write(f"\r\x1b[K{clean_lines(text).splitlines()[0]}") if sys.__stderr__ else None


def _measure(folder: Path, old: AbSide, new: AbSide, asked: AbSettings, project: Project) -> Ab:
    session = MadeSession(
        folder=folder, project=project, store_url=asked.store_url, load_timeout_s=asked.load_timeout_s
    )
    shows = sys.__stderr__ is not None and sys.__stderr__.isatty()
    result = session.run(
        _make_suite(new, asked),
        options=list(_list_options(old, asked)),
        ini=["boobench_duet_same = true"],
        plugins=[_ProgressLine()] if shows else [],
    )
    if shows:
        click.echo("\r\x1b[K", err=True, nl=False)
    found = Ab(old=old.name, new=new.name, interrupted=result.interrupted)
    if result.document is None:
        return found if found.interrupted else replace(found, error=result.last_words)
    found = _leave_uncounted_out(read_result(result.document, found), asked)
    silent = not (found.changes or found.error or found.interrupted)
    return replace(found, error=result.last_words) if silent else found


def _leave_uncounted_out(found: Ab, asked: AbSettings) -> Ab:
    """Without the cached share that nobody asked for, if the servers do not count it: it leaves nothing undecided."""
    kept = tuple(each for each in found.changes if asked.metric or each.metric != CACHED or each.change is not None)
    return replace(found, changes=kept)


def read_result(document: Mapping[str, Any], found: Ab) -> Ab:
    """What the session's JSON document says of its one cell."""
    found = replace(found, session=document["session"])
    if not document["cells"]:
        reasons = [each["reason"] for each in document["unmeasured"]]
        return found if found.interrupted else replace(found, error="; ".join(reasons))
    (cell,) = document["cells"]
    return replace(
        found,
        changes=tuple(_read_change(verdict) for verdict in cell["verdicts"]),
        pairing=cell["pairing"] or "requests",
        builds=(_read_build(cell["reference"]), _read_build(cell["server"])),
        error=cell["error"] or "",
    )


def _read_build(server: Mapping[str, Any] | None) -> str | None:
    return None if server is None else server["engine_build"]


def _read_change(verdict: Mapping[str, Any]) -> AbChange:
    return AbChange(
        metric=verdict["metric"],
        outcome=verdict["outcome"],
        old=verdict["baseline"],
        new=verdict["now"],
        change=verdict["change"],
        low=verdict["change_low"],
        high=verdict["change_high"],
        allowed=verdict["allowed"],
        proven=verdict["proven"],
        pairs=verdict["samples"],
        reason=verdict["reason"],
    )
