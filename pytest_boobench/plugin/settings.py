"""Command line, environment and ini -> Settings. The command line wins over the environment, that over the ini."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, cast, get_args

import pytest

from pytest_boobench import BASELINE, HOSTS_FILE
from pytest_boobench.documents.yaml_tree import suggest
from pytest_boobench.errors import BoobenchError
from pytest_boobench.gate import MAX_DROP, Rules
from pytest_boobench.hosts.inventory import Inventory, find_beside, load
from pytest_boobench.plugin.options import is_suite
from pytest_boobench.record import Pairing
from pytest_boobench.suite.cell import Disturbed, Policy
from pytest_boobench.units import parse_duration, parse_percent
from pytest_boobench.untrusted import learn_url

SaveMode = Literal["replace", "add"]
_Default = TypeVar("_Default", float, None)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user asked of this session."""

    patterns: tuple[str, ...]
    hosts_file: Path | None
    """The one that the user names; None: the rootdir's, else the one beside the suites."""
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
    duet_model: str | None
    """The model to compare with on that host; None: the cell's own."""
    duet_until: float | None
    """How narrow the intervals of a duet are to be, plus and minus, as a ratio; None: until the verdict is clear."""
    duet_together: bool
    """Whether two servers that we start may run at once."""
    duet_same: bool
    """Whether a server may be compared with itself."""
    duet_pairs: Pairing | None
    """What the pairs of a duet are where we start both servers; None: starts, but requests with an embedded one."""
    max_time_s: float | None
    """Seconds after the session's start from which no further block of an undecided cell begins; None: no limit."""
    block_gap_s: float
    """Shortest time between two blocks of a cell."""
    max_cells: int
    progress_file: Path | None
    """The file that gets a JSON line at each progress of a cell."""
    notify_url: str | None = field(repr=False)
    """Where alerts are sent, which may be a secret; None: nowhere."""


def resolve(config: pytest.Config) -> Settings:
    """The session's settings; UsageError with the option, variable or ini name that is wrong."""
    percent = partial(parse_percent, bare=True)
    progress: str | None = config.getoption("boobench_progress")
    duet, duet_model = _duet(config)
    return Settings(
        patterns=tuple(config.getini("boobench_files")),
        hosts_file=_find_file(config, "hosts"),
        only_hosts=tuple(config.getoption("boobench_host")),
        store_url=_store_url(config),
        baseline=_find_text(config, "baseline") or BASELINE,
        baseline_file=_find_file(config, "baseline_file"),
        save_baseline=config.getoption("boobench_save_baseline"),
        rules=Rules(
            max_drop=_read(_find_typed(config, "max_drop"), percent, None),
            default_max_drop=_read(_find_standing(config, "max_drop"), percent, MAX_DROP),
            disturbed=_disturbed(config),
            policy=_policy(config),
        ),
        takeover=config.getoption("boobench_takeover"),
        wait_s=_read(_find_typed(config, "wait"), parse_duration, 0.0),
        duet=duet,
        duet_model=duet_model,
        duet_until=_duet_until(config),
        duet_together=config.getoption("boobench_duet_together"),
        duet_same=config.getini("boobench_duet_same"),
        duet_pairs=_duet_pairs(config),
        max_time_s=_read(_find(config, "max_time"), parse_duration, None),
        block_gap_s=_read(_find_ini(config, "block_gap"), parse_duration, 60.0),
        quiet_s=_read(_find_ini(config, "quiet"), parse_duration, 2.0),
        load_timeout_s=_read(_find(config, "load_timeout"), parse_duration, None),
        max_cells=_max_cells(config),
        progress_file=config.invocation_params.dir / progress if progress else None,
        notify_url=_notify_url(config),
    )


def read_inventory(config: pytest.Config, settings: Settings) -> Inventory:
    """The session's hosts; DocumentError for a bad hosts file, UsageError for a host that is not in it."""
    path = _find_hosts_file(config, settings)
    if path is not None and not path.is_file():
        raise pytest.UsageError(f"boobench: no hosts file {path}; see --boobench-hosts")
    display = os.path.relpath(path, config.invocation_params.dir) if path is not None else None
    inventory = load(path, display=display, env=os.environ)
    for name in settings.only_hosts:
        if name not in inventory.names:
            where = f"in {display}" if display else "without a hosts file"
            raise pytest.UsageError(f"--boobench-host: no host {name!r} {where}; {suggest(name, inventory.names)}")
    return inventory


def _find_hosts_file(config: pytest.Config, settings: Settings) -> Path | None:
    """The file that the user names, else the rootdir's, else the one beside the suites."""
    if settings.hosts_file is not None:
        return settings.hosts_file
    usual = config.rootpath / HOSTS_FILE
    if usual.is_file():
        return usual
    try:
        return find_beside(path for arg in config.args for path in find_suites(config, settings, arg))
    except BoobenchError as error:
        raise pytest.UsageError(f"{error}; name one with --boobench-hosts") from error


def find_suites(config: pytest.Config, settings: Settings, arg: str) -> Iterator[Path]:
    """The suite files of an argument of pytest: of a folder, or of ``FILE`` and what may follow it after ``::``."""
    start = config.invocation_params.dir / arg.partition("::")[0]
    if start.is_file() and is_suite(start.name, settings.patterns):
        yield start
    left_out: list[str] = config.getini("norecursedirs")
    for folder, folders, files in os.walk(start):
        folders[:] = [name for name in folders if not any(fnmatch(name, pattern) for pattern in left_out)]
        yield from (Path(folder, name) for name in files if is_suite(name, settings.patterns))


class _Given(NamedTuple):
    """What the user gave for a setting, and where, as messages name it."""

    where: str
    text: str


def _find_typed(config: pytest.Config, name: str) -> _Given | None:
    """The value on the command line. An empty text is a value too, which its reader refuses."""
    typed: str | None = config.getoption(f"boobench_{name}")
    return None if typed is None else _Given(f"--boobench-{name.replace('_', '-')}", typed)


def _find_ini(config: pytest.Config, name: str) -> _Given | None:
    """The value in the configuration file; an empty text is none."""
    text = str(config.getini(f"boobench_{name}") or "")
    return _Given(f"boobench_{name}", text) if text else None


def _find_standing(config: pytest.Config, name: str) -> _Given | None:
    """The value in the environment, else in the configuration file; an empty variable is none, as CI systems set it."""
    variable = f"BOOBENCH_{name.upper()}"
    text = os.environ.get(variable)
    return _Given(variable, text) if text else _find_ini(config, name)


def _find(config: pytest.Config, name: str) -> _Given | None:
    return _find_typed(config, name) or _find_standing(config, name)


def _find_text(config: pytest.Config, name: str) -> str | None:
    """As `_find`, for a name: there an empty text on the command line is none."""
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


def _store_url(config: pytest.Config) -> str | None:
    """The store's URL or file; a file from the ini is relative to the rootdir, wherever pytest was started.

    No output repeats a password from any of the three places.
    """
    typed = config.getoption("boobench_store") or os.environ.get("BOOBENCH_STORE")
    named = str(config.getini("boobench_store") or "")
    for url in (typed or "", os.environ.get("BOOBENCH_STORE", ""), named):
        learn_url(url)
    return typed or (named if not named or "://" in named else str(config.rootpath / named)) or None


def _notify_url(config: pytest.Config) -> str | None:
    """Where alerts are sent. No ini name: a secret does not belong into a file of the project."""
    typed: str | None = config.getoption("boobench_notify")
    return typed if typed is not None else os.environ.get("BOOBENCH_NOTIFY") or None


def _read(given: _Given | None, parse: Callable[[str], float], default: _Default) -> float | _Default:
    """A number, which may be zero, or the default where nothing is given; UsageError where the text is no number."""
    if given is None:
        return default
    try:
        return parse(given.text)
    except ValueError as error:
        raise pytest.UsageError(f"{given.where}: {error}") from error


def _duet(config: pytest.Config) -> tuple[str | None, str | None]:
    """The other side's host and model; a model's name may hold ``/`` and ``:``."""
    text: str | None = config.getoption("boobench_duet")
    if text is None:
        for name in ("until", "together"):
            if config.getoption(f"boobench_duet_{name}"):
                option = f"--boobench-duet-{name}"
                raise pytest.UsageError(f"{option}: there is no duet; name its other side with --boobench-duet HOST")
        return None, None
    host, colons, model = text.partition("::")  # no host's name has colons
    if not host or (colons and not model):
        raise pytest.UsageError(f"--boobench-duet: expected HOST or HOST::MODEL, got {text!r}")
    return host, model or None


def _duet_until(config: pytest.Config) -> float | None:
    given = _find(config, "duet_until")
    until = _read(given, partial(parse_percent, bare=True), None)
    if given is not None and until == 0:
        raise pytest.UsageError(f"{given.where}: expected more than 0 %, got {given.text!r}")
    return until


def _duet_pairs(config: pytest.Config) -> Pairing | None:
    given = _find_standing(config, "duet_pairs")
    if given is None or given.text == "auto":
        return None
    if given.text not in ("requests", "starts"):
        raise pytest.UsageError(f"{given.where}: expected auto, requests or starts, got {given.text!r}")
    return cast("Pairing", given.text)


def _max_cells(config: pytest.Config) -> int:
    text = str(config.getini("boobench_max_cells"))
    if not text.isdecimal() or int(text) < 1:
        raise pytest.UsageError(f"boobench_max_cells: expected a whole number from 1, got {text!r}")
    return int(text)


def _policy(config: pytest.Config) -> Policy:
    word = _find_text(config, "policy") or "default"
    if word not in get_args(Policy):
        raise pytest.UsageError(f"boobench_policy: expected one of {', '.join(get_args(Policy))}, got {word!r}")
    return cast("Policy", word)


def _disturbed(config: pytest.Config) -> Disturbed:
    word = config.getini("boobench_disturbed") or "inconclusive"
    if word not in get_args(Disturbed):
        raise pytest.UsageError(f"boobench_disturbed: expected inconclusive, judge or fail, got {word!r}")
    return cast("Disturbed", word)
