"""Door 2: a session of pytest over one suite that a verb makes, apart from the user's own sessions and settings."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_boobench import HOSTS_FILE
from pytest_boobench.cli.project import Project

_KEPT_SETTINGS = ("boobench_quiet", "boobench_disturbed", "boobench_load_timeout")
"""Of the project's configuration, what holds for such a session too."""
_NOT_FOR_US = (
    *("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_XDIST_WORKER", "BOOBENCH_BASELINE", "BOOBENCH_BASELINE_FILE"),
    *("BOOBENCH_MAX_DROP", "BOOBENCH_POLICY", "BOOBENCH_MAX_TIME", "BOOBENCH_HOSTS", "BOOBENCH_STORE"),
    "BOOBENCH_NOTIFY",
)
"""Variables that speak to the user's own sessions."""
_PLUGINS = ("--disable-plugin-autoload", "-pboobench", "-pno:cacheprovider", "-pno:faulthandler", "--noconftest", "-s")


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeSession:
    """Where such sessions run, one after the other."""

    folder: Path
    """A folder of their own, with the hosts file."""
    project: Project
    store_url: str
    load_timeout_s: float | None = None

    def run(
        self,
        suite: Mapping[str, Any],
        *,
        options: Sequence[str] = (),
        ini: Sequence[str] = (),
        plugins: Sequence[object] = (),
    ) -> MadeResult:
        """Run pytest over the suite, with more options, lines of an ini file and plugins."""
        path = self.folder / f"{suite['suite']}.boobench.yaml"
        path.write_text(yaml.safe_dump(suite, sort_keys=False, allow_unicode=True), encoding="utf-8")
        lines = ["[pytest]", "boobench_step_summary = false", *ini, *self._list_kept_settings(), ""]
        (self.folder / "pytest.ini").write_text("\n".join(lines), encoding="utf-8")
        document = self.folder / f"{suite['suite']}.json"
        document.unlink(missing_ok=True)
        said = io.StringIO()
        with _own_environment(), redirect_stdout(said), redirect_stderr(said):
            code = int(pytest.main([*self._list_arguments(path, document), *options], plugins=list(plugins)))
        return MadeResult(
            interrupted=code == pytest.ExitCode.INTERRUPTED,
            document=json.loads(document.read_text(encoding="utf-8")) if document.is_file() else None,
            said=said.getvalue(),
        )

    def _list_kept_settings(self) -> list[str]:
        ini = self.project.ini
        return [f"{name} = {ini[name]}" for name in _KEPT_SETTINGS if isinstance(ini.get(name), str)]

    def _list_arguments(self, suite: Path, document: Path) -> Iterator[str]:
        yield from ("--boobench", str(suite), "-c", str(self.folder / "pytest.ini"), f"--rootdir={self.project.root}")
        yield from _PLUGINS
        yield from ("--boobench-hosts", str(self.folder / HOSTS_FILE), "--boobench-store", self.store_url)
        yield f"--boobench-json={document}"
        if self.load_timeout_s:
            yield f"--boobench-load-timeout={self.load_timeout_s:g}s"


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeResult:
    """How such a session ended."""

    interrupted: bool
    document: Mapping[str, Any] | None
    """The session's JSON document; None if it wrote none."""
    said: str
    """Its output."""

    @property
    def last_words(self) -> str:
        """Why pytest ended without a result."""
        lines = [line.strip() for line in self.said.splitlines() if line.strip()]
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        return "; ".join(errors or lines[-3:]) or "pytest ended without a word"


@contextmanager
def _own_environment() -> Iterator[None]:
    """Without the variables of the user's own sessions."""
    taken = {name: os.environ.pop(name) for name in _NOT_FOR_US if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(taken)
