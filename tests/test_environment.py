"""Room 0: where a user's folders are."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from pytest_boobench.environment import find_cache


def test_a_user_without_a_home_has_a_folder_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a container: no HOME and no entry for the user, so that ``~`` stays as it is."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: Path("~/.cache", name))
    assert find_cache() == tmp_path / f"pytest-boobench-{os.getuid()}"


def test_the_cache_is_where_the_system_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert find_cache() == tmp_path / "pytest-boobench"
