"""The command line and ini names that the plugin adds to pytest: every session loads them, so they import little."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

import pytest

from pytest_boobench import HOSTS_FILE, MAX_CELLS, SUITE_FILES

_POLICY_HELP = (
    "what an undecided cell becomes: default (skipped), strict (failed), literal (the measured value decides)"
)


def add(parser: pytest.Parser) -> None:
    """Declare every option and ini name."""
    group = parser.getgroup("boobench", "LLM throughput as tests (pytest-boobench)")

    def flag(name: str, text: str) -> None:
        group.addoption(name, action="store_true", help=text)

    def value(name: str, metavar: str, text: str) -> None:
        group.addoption(name, metavar=metavar, help=text)

    flag("--boobench", "collect and run bench suites; without it no host is contacted")
    group.addoption(
        "--boobench-host",
        action="append",
        default=[],
        metavar="NAME",
        help="run only the cells of this host (can be given several times)",
    )
    value("--boobench-hosts", "FILE", f"the hosts file (default: {HOSTS_FILE} in the rootdir, else beside the suites)")
    value("--boobench-store", "URL", "the store: an SQLAlchemy URL or a file (default: .boobench/store.db)")
    value("--boobench-baseline", "NAME", "name of the baseline to compare with and to save to (default: main)")
    value(
        "--boobench-baseline-file",
        "FILE",
        "compare with the baseline in this file instead of the store's; saved cells go into both",
    )
    replace = "save the cells that pass as the baseline; it replaces the old one"
    add_to_it = "add the cells that pass to the baseline"
    for suffix, mode, text in (("", "replace", replace), ("=replace", "replace", replace), ("=add", "add", add_to_it)):
        # As whole option strings, since an option with an optional value would swallow the path that follows it.
        group.addoption(
            f"--boobench-save-baseline{suffix}",
            action="store_const",
            const=mode,
            dest="boobench_save_baseline",
            default=None,
            help=text,
        )
    value(
        "--boobench-max-drop", "PCT", "how much worse any gated metric may become, whatever the suites say, as in 10%%"
    )
    flag("--boobench-takeover", "measure on a host even while others use it")
    value(
        "--boobench-wait",
        "TIME",
        "how long to wait for a host that is busy or refuses connections, as in 10m (default: 0)",
    )
    value(
        "--boobench-load-timeout",
        "TIME",
        "how long a host may take to load a model (default: 5m, or 15m where we ask it to load one)",
    )
    group.addoption("--boobench-policy", choices=("default", "strict", "literal"), help=_POLICY_HELP)
    value(
        "--boobench-max-time",
        "TIME",
        "stop measuring undecided cells again this long after the start, as in 30m (default: no limit)",
    )
    value(
        "--boobench-duet",
        "HOST[::MODEL]",
        "measure every cell on this host too, or with another model, in turns, and compare both; no baseline is used",
    )
    value(
        "--boobench-duet-until",
        "PCT",
        "add pairs to a duet until each gated change is known to plus and minus this, as in 1%%",
    )
    flag("--boobench-duet-together", "both servers of a duet may run at once, where we start them")
    value("--boobench-progress", "FILE", "append the progress of the cells to FILE, as JSON lines")
    value(
        "--boobench-report",
        "FILE.html",
        "write an HTML page of the session's cells: verdicts, history, samples; it works offline",
    )
    value("--boobench-summary", "FILE", "write a summary in Markdown, for a comment on a merge request")
    value("--boobench-metrics", "FILE", "write the numbers as OpenMetrics, which GitLab reads")
    value("--boobench-json", "FILE", "write all results of the session as one JSON document")
    value(
        "--boobench-notify", "URL", "send what changed to this webhook: alerts that opened, were confirmed, or closed"
    )
    flag("--boobench-json-samples", "put the raw samples into the JSON document too")
    _add_ini(parser)


def _add_ini(parser: pytest.Parser) -> None:
    step_summary = "append the summary to GitHub's step summary (default: true)"
    parser.addini("boobench_step_summary", step_summary, type="bool", default=True)
    parser.addini(
        "boobench_notify_as", "what --boobench-notify sends: webhook, slack, github or gitlab (default: by URL)"
    )
    parser.addini("boobench_notify_confirmed", "send only confirmed alerts", type="bool", default=False)
    parser.addini(
        "boobench_disturbed", "a cell that other requests disturb becomes: inconclusive (default), judge or fail"
    )
    parser.addini("boobench_policy", _POLICY_HELP)
    parser.addini("boobench_max_time", "stop measuring undecided cells again this long after the start")
    parser.addini("boobench_block_gap", "shortest time between two blocks of an undecided cell (default: 60s)")
    parser.addini("boobench_duet_until", "add pairs to a duet until each gated change is known to plus and minus this")
    parser.addini("boobench_duet_same", "compare a server with itself too", type="bool", default=False)
    parser.addini(
        "boobench_duet_pairs",
        "what pairs of a duet are where we start both servers: starts, requests, or auto (default): starts, but "
        "requests with an embedded host",
    )
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


def is_suite(name: str, patterns: Iterable[str]) -> bool:
    """Whether a file of this name is a suite."""
    return any(fnmatch(name, pattern) for pattern in patterns)


def header(config: pytest.Config) -> str | None:
    """A hint for a user who names a suite and forgets the flag."""
    patterns = config.getini("boobench_files")
    named = [arg for arg in config.args if is_suite(Path(arg.partition("::")[0]).name, patterns)]
    if config.getoption("boobench") or not named:
        return None
    return f"boobench: {named[0]} is a bench suite: add --boobench to run it"
