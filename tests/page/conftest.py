"""A page's server for the tests: a real one on a free port, in a thread of the test's process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_boobench.hosts.embedded import EmbeddedServer
from tests.conftest import CHECKOUT, PLUGINS, name_plugins
from tests.page.serving import ServedPage, serve


@pytest.fixture
def folder(tmp_path: Path, llama: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two cells on the tests' own server; its locks are its own, and the children load our plugins."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nboobench_block_gap = 0s\nboobench_quiet = 0s\n")
    (tmp_path / "boobench.hosts.yaml").write_text(
        f"hosts:\n  llama: {{server: llama-server, url: '{llama.url}', shared: false}}\n"
        "  dead: {server: llama-server, url: 'http://127.0.0.1:9', shared: false, machine: elsewhere}\n"
        "arena: 'https://arena.example/?models={a},{b}&q={prompt}'\n"
    )
    write_suite(tmp_path, "smoke", samples=2)
    monkeypatch.setenv("PYTEST_ADDOPTS", f"{name_plugins(*PLUGINS)} -p tests.patient")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_suite(folder: Path, name: str, *, samples: int, host: str = "llama", output_tokens: int = 4) -> None:
    """Two cells."""
    (folder / f"{name}.boobench.yaml").write_text(
        f"suite: {name}\ndescription: Two cells.\nhosts: [{host}]\nmodels: [tiny-chat]\n"
        f"grid: {{prompt_tokens: [24, 32], output_tokens: [{output_tokens}]}}\n"
        f"warmup: 1\nwarmup_max: 1\nsamples: {samples}\n"
    )


@pytest.fixture
def page(folder: Path) -> Iterator[ServedPage]:
    """The server, with a client that has its cookie."""
    with serve(folder) as served:
        yield served
