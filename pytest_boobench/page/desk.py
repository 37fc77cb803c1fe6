"""Door 3: the project that the page is about: its files, its hosts and its store, each read when it is asked for."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pytest_boobench import HOSTS_FILE
from pytest_boobench.cli.check_command import find_suites
from pytest_boobench.cli.project import Project, read_inventory
from pytest_boobench.environment import FOLDER, make_folder
from pytest_boobench.hosts.inventory import Inventory
from pytest_boobench.record import Measurement
from pytest_boobench.store import Selection, Store

Fingerprint = tuple[tuple[str, int, int], ...]
"""Path, time of change and size of files: other values mean that one has changed."""


def stamp_files(paths: Collection[Path]) -> Fingerprint:
    """The state of these files; one that is missing has none."""
    found = []
    for path in paths:
        try:
            told = path.stat()
        except OSError:
            continue
        found.append((str(path), told.st_mtime_ns, told.st_size))
    return tuple(found)


@dataclass(eq=False)
class Desk:
    """What the page's server knows of its project."""

    project: Project
    places: tuple[Path, ...]
    """Suite files, and folders with suites."""
    hosts_file: Path | None
    store_url: str
    shared_store: bool
    """Whether somebody named the store: then other machines may use it too, and lease hosts in it."""
    environ: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    """Of the children."""
    named: tuple[str, ...] = ()
    """The variables in it that options of the command set."""

    @property
    def root(self) -> Path:
        """pytest's rootdir."""
        return self.project.root

    @property
    def folder(self) -> Path:
        """Where the page keeps its files; private to the user."""
        return make_folder(self.root / FOLDER / "page")

    def find_suites(self) -> list[Path]:
        """All suite files, in order."""
        return [file for place in self.places for file in find_suites(place, self.project.patterns)]

    def stamp(self) -> Fingerprint:
        """The state of all files that a collection depends on."""
        names = ("pytest.toml", ".pytest.toml", "pyproject.toml", "pytest.ini", ".pytest.ini", "tox.ini", "setup.cfg")
        others = [self.root / name for name in (*names, "conftest.py")]
        suites = self.find_suites()
        hosts = [self.hosts_file] if self.hosts_file else [file.with_name(HOSTS_FILE) for file in suites]
        return stamp_files(dict.fromkeys([*suites, *hosts, *others]))

    def read_inventory(self) -> Inventory:
        """The hosts; DocumentError where the file has mistakes."""
        return read_inventory(self.project, self.hosts_file, () if self.hosts_file else self.find_suites())

    @property
    def store_file(self) -> Path | None:
        """The store's file; None where it is in a database server."""
        if self.store_url.startswith("sqlite:///"):
            return Path(self.store_url.removeprefix("sqlite:///").partition("?")[0])
        return None if "://" in self.store_url else Path(self.store_url)

    @contextmanager
    def open_store(self) -> Iterator[Store | None]:
        """The store; None where nothing was ever stored."""
        if self.store_file is not None and not self.store_file.exists():
            yield None
            return
        with Store.open(self.store_url, create=False) as store:
            yield store

    @contextmanager
    def write_store(self) -> Iterator[Store]:
        """The store, made if it is missing."""
        with Store.open(self.store_url, create=True) as store:
            yield store

    def load(self, selection: Selection, metrics: Collection[str] = ()) -> list[Measurement]:
        """The selected measurements, oldest first."""
        with self.open_store() as store:
            return store.measurements(selection, metrics=metrics) if store is not None else []

    def stamp_store(self) -> Fingerprint | None:
        """The state of the store's files; None where it is no file, so that nothing can tell whether it has changed."""
        path = self.store_file
        return None if path is None else stamp_files([path, path.with_name(f"{path.name}-wal")])
