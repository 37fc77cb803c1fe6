"""Command line, environment and ini -> Settings. The command line wins over the environment, that over the ini."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, cast, get_args

import pytest

from pytest_boobench import BASELINE, HOSTS_FILE, MAX_CELLS, SUITE_FILES

if TYPE_CHECKING:
    from pytest_boobench.gate import Rules
    from pytest_boobench.suite.cell import Disturbed, Policy

SaveMode = Literal["replace", "add"]
POLICIES = ("default", "strict", "literal")
"""As `suite.cell.Policy`, which brings more than a session without ``--boobench`` may import."""
_POLICY_HELP = (
    "what an undecided cell becomes: default (skipped), strict (failed), literal (the measured value decides)"
)
BLOCK_GAP_S = 60.0
QUIET_S = 2.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user asked of this session."""

    patterns: tuple[str, ...]
    hosts_file: Path | None
    only_hosts: tuple[str, ...]
    """Empty: all hosts that the suites name."""
    store_url: str | None
    """None: ``.boobench/store.db`` under the rootdir."""
    baseline: str
    baseline_file: Path | None
    """The file whose baseline takes the place of the store's; None: the store's."""
    save_baseline: SaveMode | None
    rules: Rules
    takeover: bool
    wait_s: float
    quiet_s: float
    load_timeout_s: float | None
    """How long a host may take to load a model; None: the default."""
    duet: str | None
    """The host to compare with, where cells are measured on two hosts in turns."""
    max_time_s: float | None
    """No further block of an undecided cell begins later than this, seconds after the session's start; None: no
    limit."""
    block_gap_s: float
    """Shortest time between two blocks of a cell."""
    max_cells: int
    progress_file: Path | None
    """The file that gets a JSON line at each progress of a cell."""


def add(parser: pytest.Parser) -> None:
    """Declare every option and ini name."""
    group = parser.getgroup("boobench", "LLM throughput as tests (pytest-boobench)")
    group.addoption(
        "--boobench", action="store_true", help="collect and run bench suites; without it no host is contacted"
    )
    group.addoption(
        "--boobench-host",
        action="append",
        default=[],
        metavar="NAME",
        help="run only the cells of this host (can be given several times)",
    )
    group.addoption("--boobench-hosts", metavar="FILE", help=f"the hosts file (default: {HOSTS_FILE} in the rootdir)")
    group.addoption(
        "--boobench-store", metavar="URL", help="the store: an SQLAlchemy URL or a file (default: .boobench/store.db)"
    )
    group.addoption(
        "--boobench-baseline",
        metavar="NAME",
        help="name of the baseline to compare with and to save to (default: main)",
    )
    group.addoption(
        "--boobench-baseline-file",
        metavar="FILE",
        help="compare with the baseline in this file instead of the store's; saved cells go into both",
    )
    for suffix, mode in (("", "replace"), ("=replace", "replace"), ("=add", "add")):
        # As whole option strings, since an option with an optional value would swallow the path that follows it.
        group.addoption(
            f"--boobench-save-baseline{suffix}",
            action="store_const",
            const=mode,
            dest="boobench_save_baseline",
            default=None,
            help="save the cells that pass as the baseline; it replaces the old one"
            if mode == "replace"
            else "add the cells that pass to the baseline",
        )
    group.addoption(
        "--boobench-max-drop",
        metavar="PCT",
        help="how much worse any gated metric may become, whatever the suites say, as in 10%%",
    )
    group.addoption("--boobench-takeover", action="store_true", help="measure on a host even while others use it")
    group.addoption(
        "--boobench-wait",
        metavar="TIME",
        help="how long to wait for a host that is busy or refuses connections, as in 10m (default: 0)",
    )
    group.addoption(
        "--boobench-load-timeout",
        metavar="TIME",
        help="how long a host may take to load a model (default: 5m, or 15m where we ask it to load one)",
    )
    group.addoption(
        "--boobench-policy",
        choices=POLICIES,
        help=_POLICY_HELP,
    )
    group.addoption(
        "--boobench-max-time",
        metavar="TIME",
        help="stop measuring undecided cells again this long after the start, as in 30m (default: no limit)",
    )
    group.addoption(
        "--boobench-duet",
        metavar="HOST",
        help="measure every cell on this host too, in turns, and compare the two hosts; no baseline is used",
    )
    group.addoption(
        "--boobench-progress", metavar="FILE", help="append the progress of the cells to FILE, as JSON lines"
    )
    group.addoption(
        "--boobench-report",
        metavar="FILE.html",
        help="write an HTML page of the session's cells: verdicts, history, samples; it works offline",
    )
    group.addoption(
        "--boobench-summary", metavar="FILE", help="write a summary in Markdown, for a comment on a merge request"
    )
    group.addoption("--boobench-metrics", metavar="FILE", help="write the numbers as OpenMetrics, which GitLab reads")
    group.addoption("--boobench-json", metavar="FILE", help="write all results of the session as one JSON document")
    group.addoption(
        "--boobench-json-samples", action="store_true", help="put the raw samples into the JSON document too"
    )
    parser.addini(
        "boobench_step_summary",
        "append the summary to GitHub's step summary (default: true)",
        type="bool",
        default=True,
    )
    parser.addini(
        "boobench_disturbed", "a cell that other requests disturb becomes: inconclusive (default), judge or fail"
    )
    parser.addini("boobench_policy", _POLICY_HELP)
    parser.addini("boobench_max_time", "stop measuring undecided cells again this long after the start")
    parser.addini("boobench_block_gap", "shortest time between two blocks of an undecided cell (default: 60s)")
    parser.addini("boobench_load_timeout", "how long a host may take to load a model")
    parser.addini("boobench_quiet", "how long a host must be quiet before its first cell (default: 2s)")
    parser.addini("boobench_files", "file patterns of bench suites", type="args", default=list(SUITE_FILES))
    parser.addini("boobench_hosts", "the hosts file, relative to this configuration")
    parser.addini("boobench_store", "the store: an SQLAlchemy URL or a file relative to the rootdir")
    parser.addini("boobench_baseline", "name of the baseline to compare with (default: main)")
    parser.addini("boobench_baseline_file", "the file with the baseline, relative to this configuration")
    parser.addini(
        "boobench_max_drop", "how much worse a gated metric may become where a suite does not say (default: 10%)"
    )
    parser.addini("boobench_max_cells", f"most cells a suite may have (default: {MAX_CELLS})", default=str(MAX_CELLS))


def header(config: pytest.Config) -> str | None:
    """A hint for a user who names a suite and forgets the flag."""
    if config.getoption("boobench"):
        return None
    patterns = config.getini("boobench_files")
    named = [
        arg for arg in config.args if any(fnmatch(Path(arg.partition("::")[0]).name, pattern) for pattern in patterns)
    ]
    return f"boobench: {named[0]} is a bench suite: add --boobench to run it" if named else None


def resolve(config: pytest.Config) -> Settings:
    """The session's settings; UsageError with the option, variable or ini name that is wrong."""
    from pytest_boobench.gate import MAX_DROP, Rules

    return Settings(
        patterns=tuple(config.getini("boobench_files")),
        hosts_file=_hosts_file(config),
        only_hosts=tuple(config.getoption("boobench_host")),
        store_url=_store_url(config),
        baseline=_find_text(config, "baseline") or BASELINE,
        baseline_file=_find_file(config, "baseline_file"),
        save_baseline=config.getoption("boobench_save_baseline"),
        rules=Rules(
            max_drop=_read_percent(_find_typed(config, "max_drop")),
            default_max_drop=_use(_read_percent(_find_standing(config, "max_drop")), MAX_DROP),
            disturbed=_disturbed(config),
            policy=_policy(config),
        ),
        takeover=config.getoption("boobench_takeover"),
        wait_s=_use(_read_duration(_find_typed(config, "wait")), 0.0),
        duet=config.getoption("boobench_duet"),
        max_time_s=_read_duration(_find(config, "max_time")),
        block_gap_s=_use(_read_duration(_find_ini(config, "block_gap")), BLOCK_GAP_S),
        quiet_s=_use(_read_duration(_find_ini(config, "quiet")), QUIET_S),
        load_timeout_s=_read_duration(_find(config, "load_timeout")),
        max_cells=_max_cells(config),
        progress_file=_progress_file(config),
    )


class _Given(NamedTuple):
    """What the user gave for a setting, and where, as messages name it."""

    where: str
    text: str


def _find_typed(config: pytest.Config, name: str) -> _Given | None:
    """What stands on the command line; an empty text there is one, which its reader refuses."""
    typed: str | None = config.getoption(f"boobench_{name}")
    return None if typed is None else _Given(f"--boobench-{name.replace('_', '-')}", typed)


def _find_ini(config: pytest.Config, name: str) -> _Given | None:
    """What the configuration file says; an empty text there says nothing."""
    text = str(config.getini(f"boobench_{name}") or "")
    return _Given(f"boobench_{name}", text) if text else None


def _find_standing(config: pytest.Config, name: str) -> _Given | None:
    """What the environment says, else the configuration file; an empty variable says nothing, as it does in CI."""
    variable = f"BOOBENCH_{name.upper()}"
    text = os.environ.get(variable)
    return _Given(variable, text) if text else _find_ini(config, name)


def _find(config: pytest.Config, name: str) -> _Given | None:
    """The command line wins over the environment, and that over the configuration file."""
    return _find_typed(config, name) or _find_standing(config, name)


def _use(value: float | None, default: float) -> float:
    """The value, which may be zero, or the default where nothing is given."""
    return default if value is None else value


def _find_text(config: pytest.Config, name: str) -> str | None:
    """A name, which an empty text is not."""
    typed = _find_typed(config, name)
    given = typed if typed is not None and typed.text else _find_standing(config, name)
    return given.text if given is not None else None


def _find_file(config: pytest.Config, name: str) -> Path | None:
    """A file, relative to where it was written."""
    typed = config.getoption(f"boobench_{name}") or os.environ.get(f"BOOBENCH_{name.upper()}")
    if typed:
        return config.invocation_params.dir / typed
    if (named := _find_ini(config, name)) is not None:
        return (config.inipath.parent if config.inipath else config.rootpath) / named.text
    return None


def _hosts_file(config: pytest.Config) -> Path | None:
    """An explicit file, else the usual one, if it is there."""
    usual = config.rootpath / HOSTS_FILE
    return _find_file(config, "hosts") or (usual if usual.is_file() else None)


def _store_url(config: pytest.Config) -> str | None:
    """The store's URL or file; a file from the ini is relative to the rootdir, wherever pytest was started.

    No output repeats a password from any of the three places.
    """
    from pytest_boobench.untrusted import learn_url

    typed = config.getoption("boobench_store") or os.environ.get("BOOBENCH_STORE")
    named = str(config.getini("boobench_store") or "")
    for url in (typed or "", os.environ.get("BOOBENCH_STORE", ""), named):
        learn_url(url)
    return typed or (named if not named or "://" in named else str(config.rootpath / named)) or None


def _progress_file(config: pytest.Config) -> Path | None:
    """Relative to where it was typed."""
    typed = config.getoption("boobench_progress")
    return config.invocation_params.dir / typed if typed else None


def _read_percent(given: _Given | None) -> float | None:
    """``10%`` or ``10``, both 0.1; UsageError for anything else."""
    from pytest_boobench.units import parse_percent

    if given is None:
        return None
    try:
        return parse_percent(given.text, bare=True)
    except ValueError as error:
        raise pytest.UsageError(f"{given.where}: {error}") from error


def _max_cells(config: pytest.Config) -> int:
    text = str(config.getini("boobench_max_cells"))
    if not text.isdecimal() or int(text) < 1:
        raise pytest.UsageError(f"boobench_max_cells: expected a whole number from 1, got {text!r}")
    return int(text)


def _read_duration(given: _Given | None) -> float | None:
    """``90``, ``90s``, ``1.5m`` -> seconds; UsageError for anything else."""
    from pytest_boobench.units import parse_duration

    if given is None:
        return None
    try:
        return parse_duration(given.text)
    except ValueError as error:
        raise pytest.UsageError(f"{given.where}: {error}") from error


def _policy(config: pytest.Config) -> Policy:
    word = _find_text(config, "policy") or "default"
    if word not in POLICIES:
        raise pytest.UsageError(f"boobench_policy: expected one of {', '.join(POLICIES)}, got {word!r}")
    return cast("Policy", word)


def _disturbed(config: pytest.Config) -> Disturbed:
    from pytest_boobench.suite.cell import Disturbed

    word = config.getini("boobench_disturbed") or "inconclusive"
    if word not in get_args(Disturbed):
        raise pytest.UsageError(f"boobench_disturbed: expected inconclusive, judge or fail, got {word!r}")
    return cast("Disturbed", word)
