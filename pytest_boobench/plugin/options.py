"""Command line, environment and ini -> Settings. The command line wins over the environment, that over the ini."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

import pytest

if TYPE_CHECKING:
    from pytest_boobench.gate import Rules
    from pytest_boobench.suite.cell import Disturbed

HOSTS_FILE = "boobench.hosts.yaml"
PATTERNS = ("*.boobench.yaml", "*.boobench.yml")
MAX_CELLS = 10_000

SaveMode = Literal["replace", "add"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user asked of this session."""

    patterns: tuple[str, ...]
    hosts_file: Path | None
    only_hosts: tuple[str, ...]
    """Empty: all that the suites name."""
    store_url: str | None
    """None: ``.boobench/store.db`` under the rootdir."""
    baseline: str
    save_baseline: SaveMode | None
    rules: Rules
    takeover: bool
    wait_s: float
    quiet_s: float
    max_cells: int
    progress_file: Path | None
    """Where every progress of a cell is appended as a JSON line."""


def add(parser: pytest.Parser) -> None:
    """Declare every option and ini name."""
    group = parser.getgroup("boobench", "LLM throughput as tests (pytest-boobench)")
    group.addoption(
        "--boobench", action="store_true", help="collect bench suites and run them; nothing is contacted without it"
    )
    group.addoption(
        "--boobench-host",
        action="append",
        default=[],
        metavar="NAME",
        help="run only the cells of this host (may be given again)",
    )
    group.addoption("--boobench-hosts", metavar="FILE", help=f"the hosts file (default: {HOSTS_FILE} in the rootdir)")
    group.addoption(
        "--boobench-store", metavar="URL", help="the store: an SQLAlchemy URL or a file (default: .boobench/store.db)"
    )
    group.addoption(
        "--boobench-baseline", metavar="NAME", help="the baseline to compare with and to save as (default: main)"
    )
    for suffix, mode in (("", "replace"), ("=replace", "replace"), ("=add", "add")):
        # As whole option strings, since an option with an optional value would swallow the path that follows it.
        group.addoption(
            f"--boobench-save-baseline{suffix}",
            action="store_const",
            const=mode,
            dest="boobench_save_baseline",
            default=None,
            help="save the cells that pass as the baseline, in place of the old one"
            if mode == "replace"
            else "save the cells that pass beside what the baseline has",
        )
    group.addoption(
        "--boobench-max-drop",
        metavar="PCT",
        help="allowed worsening of every gated metric, whatever the suites say, as in 10%%",
    )
    group.addoption("--boobench-takeover", action="store_true", help="measure on a host even while others use it")
    group.addoption(
        "--boobench-wait",
        metavar="TIME",
        help="wait so long for a busy host before refusing it, as in 10m (default: 0)",
    )
    group.addoption(
        "--boobench-progress", metavar="FILE", help="append how the cells come along to FILE, as JSON lines"
    )
    parser.addini("boobench_disturbed", "a cell that others disturb: inconclusive (default), judge or fail")
    parser.addini("boobench_quiet", "how long a host must be quiet before its first cell (default: 2s)")
    parser.addini("boobench_files", "file patterns of bench suites", type="args", default=list(PATTERNS))
    parser.addini("boobench_hosts", "the hosts file, relative to this configuration")
    parser.addini("boobench_store", "the store: an SQLAlchemy URL or a file relative to the rootdir")
    parser.addini("boobench_baseline", "name of the baseline to compare with")
    parser.addini("boobench_max_drop", "allowed worsening where a suite does not say, as in 10%")
    parser.addini("boobench_max_cells", f"most cells a suite may have (default: {MAX_CELLS})", default=str(MAX_CELLS))


def header(config: pytest.Config) -> str | None:
    """A hint for the one who names a suite and forgets the flag."""
    if config.getoption("boobench"):
        return None
    patterns = config.getini("boobench_files")
    named = [
        arg for arg in config.args if any(fnmatch(Path(arg.partition("::")[0]).name, pattern) for pattern in patterns)
    ]
    return f"boobench: {named[0]} is a bench suite: add --boobench to run it" if named else None


def resolve(config: pytest.Config) -> Settings:
    """The session's settings; UsageError names the option that is wrong."""
    from pytest_boobench.gate import MAX_DROP, Rules

    return Settings(
        patterns=tuple(config.getini("boobench_files")),
        hosts_file=_hosts_file(config),
        only_hosts=tuple(config.getoption("boobench_host")),
        store_url=_lasting(config, "store"),
        baseline=_lasting(config, "baseline") or "main",
        save_baseline=config.getoption("boobench_save_baseline"),
        rules=Rules(
            max_drop=_percent("--boobench-max-drop", config.getoption("boobench_max_drop")),
            default_max_drop=_first_percent(config) or MAX_DROP,
            disturbed=_disturbed(config),
        ),
        takeover=config.getoption("boobench_takeover"),
        wait_s=_duration("--boobench-wait", config.getoption("boobench_wait") or "0"),
        quiet_s=_duration("boobench_quiet", config.getini("boobench_quiet") or "2s"),
        max_cells=_max_cells(config),
        progress_file=_progress_file(config),
    )


def _lasting(config: pytest.Config, name: str) -> str | None:
    value = config.getoption(f"boobench_{name}") or os.environ.get(f"BOOBENCH_{name.upper()}")
    return value or config.getini(f"boobench_{name}") or None


def _hosts_file(config: pytest.Config) -> Path | None:
    """An explicit file, relative to where each was written; else the usual one, if it is there."""
    typed = config.getoption("boobench_hosts") or os.environ.get("BOOBENCH_HOSTS")
    if typed:
        return config.invocation_params.dir / typed
    if named := config.getini("boobench_hosts"):
        return (config.inipath.parent if config.inipath else config.rootpath) / str(named)
    usual = config.rootpath / HOSTS_FILE
    return usual if usual.is_file() else None


def _progress_file(config: pytest.Config) -> Path | None:
    """Relative to where it was typed."""
    typed = config.getoption("boobench_progress")
    return config.invocation_params.dir / typed if typed else None


def _first_percent(config: pytest.Config) -> float | None:
    return _percent("BOOBENCH_MAX_DROP", os.environ.get("BOOBENCH_MAX_DROP")) or _percent(
        "boobench_max_drop", config.getini("boobench_max_drop")
    )


def _percent(name: str, text: str | None) -> float | None:
    """``10%`` or ``10``, both ten per cent."""
    from pytest_boobench.units import parse_percent

    if not text:
        return None
    try:
        return parse_percent(text if text.rstrip().endswith("%") else f"{text}%")
    except ValueError as error:
        raise pytest.UsageError(f"{name}: {error}") from error


def _max_cells(config: pytest.Config) -> int:
    text = str(config.getini("boobench_max_cells"))
    if not text.isdecimal() or int(text) < 1:
        raise pytest.UsageError(f"boobench_max_cells: expected a whole number from 1, got {text!r}")
    return int(text)


def _duration(name: str, text: str) -> float:
    """Seconds."""
    from pytest_boobench.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise pytest.UsageError(f"{name}: {error}") from error


def _disturbed(config: pytest.Config) -> Disturbed:
    from pytest_boobench.suite.cell import Disturbed

    word = config.getini("boobench_disturbed") or "inconclusive"
    if word not in get_args(Disturbed):
        raise pytest.UsageError(f"boobench_disturbed: expected inconclusive, judge or fail, got {word!r}")
    return cast("Disturbed", word)
