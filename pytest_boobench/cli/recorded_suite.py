"""Door 2: the suite that ``boobench record --suite`` writes beside a recording: it replays the recording."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
import yaml

from pytest_boobench.cli.project import show_path
from pytest_boobench.cli.recording_file import Origin
from pytest_boobench.errors import BoobenchError, explain_os_error
from pytest_boobench.suite.names import make_bearable
from pytest_boobench.untrusted import clean

_HEAD = (
    "# The replay of a recording, written by boobench record. Add slo and gate as you like: boobench manual prompts\n"
)


def check_suite_path(path: Path, patterns: Sequence[str]) -> None:
    """A usage error if no new suite can be written there: told before a day is recorded."""
    if not any(fnmatch(path.name, pattern) for pattern in patterns):
        wanted = " or ".join(patterns) or "by boobench_files, which is empty"
        raise click.UsageError(f"--suite: expected a file named {wanted}, got {clean(path.name)!r}")
    if not path.absolute().parent.is_dir():
        raise click.UsageError(f"--suite: no folder {show_path(path.parent)}; make it, or name another one")
    if path.exists():
        raise click.UsageError(
            f"--suite: {show_path(path)} is there, and is never overwritten; leave --suite out, or name a new file"
        )


def write_suite(path: Path, recording: Path, origin: Origin) -> None:
    """Write the suite. Raises BoobenchError where there is a file by now, or the disk does not take it."""
    text = _HEAD + yaml.safe_dump(_make_suite(path, recording, origin), sort_keys=False, allow_unicode=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise BoobenchError(f"{show_path(path)}: cannot be written: {explain_os_error(error)}") from error


def _make_suite(path: Path, recording: Path, origin: Origin) -> dict[str, Any]:
    """``origin`` has the model as its host lists it."""
    beside = Path(os.path.relpath(recording.absolute(), path.absolute().parent))
    return {
        "suite": make_bearable(path.name.partition(".")[0]),
        "description": f"Replays {recording.name}.",
        "hosts": [origin.host],
        "models": [origin.model],
        "prompts": beside.as_posix(),
        "grid": {},
        "arrival": "recorded",
    }
