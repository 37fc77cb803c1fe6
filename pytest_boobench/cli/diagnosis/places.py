"""Door 2: files and folders: the store, the cache, what waits to be taken in, the hosts file and its keys."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from pytest_boobench.cli.diagnosis.finding import Finding
from pytest_boobench.cli.project import Project, show_path
from pytest_boobench.cli.stored import find_store_file, find_store_url
from pytest_boobench.errors import BoobenchError, HostError, explain_os_error
from pytest_boobench.hosts.inventory import Inventory
from pytest_boobench.store import Store
from pytest_boobench.store.open import FOLDER
from pytest_boobench.store.schema import NEWEST
from pytest_boobench.store.spool import find_waiting
from pytest_boobench.units import count, size
from pytest_boobench.usual import PACKAGE


def look_at_store(project: Project, typed: str | None) -> Iterator[Finding]:
    """Whether there is a store, of which schema and size, and whether its folder can be written."""
    url = find_store_url(project, typed)
    file = find_store_file(url)
    if file is not None and not file.exists():
        yield _look_at_folder("store", file.parent, f"none yet at {show_path(file)}, pytest --boobench makes it")
        return
    try:
        with Store.open(url, create=False) as store:
            address = store.address
    except BoobenchError as error:
        yield Finding("fail", "store", str(error))
        return
    if file is None:
        yield Finding("ok", "store", f"{address}, schema {NEWEST}")
    else:
        yield _look_at_folder("store", file.parent, f"{show_path(file)}, schema {NEWEST}, {size(_measure(file))}")


def look_at_cache() -> Iterator[Finding]:
    """Where locks and the embedded host's model go."""
    folder = platformdirs.user_cache_path(PACKAGE)
    yield _look_at_folder("cache", folder, str(folder))


def look_at_spool(project: Project) -> Iterator[Finding]:
    """What sessions could not store, and left in files."""
    folders = (project.root / FOLDER, Path(tempfile.gettempdir()))
    files = [file for folder in folders for file in find_waiting(folder)]
    if not files:
        yield Finding("ok", "spool", "nothing waits to be stored")
        return
    names = ", ".join(map(show_path, files))
    yield Finding("warn", "spool", f"{count(len(files), 'file')} to be stored: {names}", "boobench store import")


def look_at_inventory(inventory: Inventory) -> Iterator[Finding]:
    """Which hosts there are, and whether their keys are in the environment."""
    text = f"{count(len(inventory.names), 'host')}: {', '.join(inventory.names)}"
    if inventory.display is None:
        yield Finding("ok", "hosts file", f"none, {text}")
    else:
        yield Finding("ok", "hosts file", f"{inventory.display}, {text}")
    for host in inventory.hosts.values():
        try:
            host.require_key()
            host.require_verify()
        except HostError as error:
            yield Finding("warn", f"host {host.name}", str(error).removeprefix(f"{host.name}: "))


def _look_at_folder(topic: str, folder: Path, text: str) -> Finding:
    """Whether a folder can be written, or made; by trying it in the nearest one that is there."""
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            return Finding("ok", topic, text)
    except OSError as error:
        reason = explain_os_error(error)
        return Finding("fail", topic, f"{text}; {nearest} cannot be written ({reason})", "let this user write there")


def _measure(file: Path) -> int:
    """Bytes of a SQLite database with what it keeps beside it."""
    parts = (file, *(file.with_name(f"{file.name}{suffix}") for suffix in ("-wal", "-shm")))
    return sum(part.stat().st_size for part in parts if part.exists())
