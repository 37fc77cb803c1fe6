"""Door 2: the findings of ``boobench doctor`` on installed packages, this machine, files and folders."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, entry_points, requires, version
from pathlib import Path
from typing import Literal

from pytest_boobench import PACKAGE, find_version, wire
from pytest_boobench.cli.project import Project, show_path
from pytest_boobench.environment import FOLDER, find_cache, read_ci
from pytest_boobench.errors import BoobenchError, HostError, explain_os_error
from pytest_boobench.hosts.inventory import Inventory
from pytest_boobench.hosts.sensors import explain_nothing, find_sensors
from pytest_boobench.store import Store
from pytest_boobench.store.revisions import NEWEST
from pytest_boobench.store.spool import find_waiting
from pytest_boobench.units import count, number, quantity, size


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One finding: its topic, its state, and what would help where it is not ok."""

    state: Literal["ok", "warn", "fail"]
    topic: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.state:<4}  {self.topic}: {self.text}{f'; {self.remedy}' if self.remedy else ''}"


_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?:\[[^]]*\])?[^;]*(?:;.*extra == ['\"](?P<extra>[\w-]+)['\"])?")
_EXTRAS: Mapping[str, str] = {
    "embedded": "the embedded host",
    "postgres": "a PostgreSQL store",
    "report": "HTML reports",
}
"""Extras that users install -> what needs them."""
_CLASHES: Mapping[str, tuple[str, str]] = {
    "pytest-parallel": ("runs cells of one host at once", "-p no:parallel with --boobench; -n does the same by host"),
    "pytest-random-order": (
        "may shuffle cells, which swaps models back and forth",
        "no --random-order with --boobench",
    ),
    "pytest-randomly": ("shuffles cells, which swaps models back and forth", "-p no:randomly with --boobench"),
    "pytest-run-parallel": ("can run cells of one host at once", "no --parallel-threads with --boobench"),
    "pytest-timeout": ("a time limit ends a cell in its middle", "--timeout=0 with --boobench; suites have timeouts"),
}
"""Package of a plugin -> what it does to a bench, and what helps."""


def look_around(project: Project, store_url: str) -> Iterator[Diagnosis]:
    """All findings but those on hosts. To find the clock, a request is sent to this process over loopback."""
    yield from _look_at_installed()
    yield _look_at_load()
    yield _look_at_clock()
    yield _look_at_priority()
    yield _look_at_sensors()
    ci = ", ".join(f"{key} {value}" for key, value in read_ci(os.environ).items())
    yield Diagnosis("ok", "ci", ci or "none that is known")
    yield _look_at_store(store_url)
    cache = find_cache()
    yield _look_at_folder("cache", cache, str(cache))
    folders = (project.root / FOLDER, Path(tempfile.gettempdir()))
    if files := [file for folder in folders for file in find_waiting(folder)]:
        text = f"{count(len(files), 'file')} to be stored: {', '.join(map(show_path, files))}"
        yield Diagnosis("warn", "spool", text, "boobench store import")
    else:
        yield Diagnosis("ok", "spool", "nothing waits to be stored")


def _look_at_installed() -> Iterator[Diagnosis]:
    yield Diagnosis("ok", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield Diagnosis("ok", PACKAGE, find_version())
    needed: dict[str, list[str]] = defaultdict(list)
    for requirement in requires(PACKAGE) or ():
        if found := _REQUIREMENT.match(requirement):
            needed[found["extra"] or ""].append(found["name"])
    names = sorted(needed[""])
    installed = ", ".join(f"{name} {_find_version(name)}" for name in names)
    yield _look_at_packages("packages", names, installed, f"pip install {PACKAGE}", "fail")
    for extra, purpose in _EXTRAS.items():
        if names := needed[extra]:
            remedy = f"needed for {purpose} only: pip install '{PACKAGE}[{extra}]'"
            yield _look_at_packages(f"extra {extra}", names, f"installed, for {purpose}", remedy, "warn")
    # Installed pytest plugins are loaded, unless an option says otherwise.
    plugins = {point.dist.name.lower() for point in entry_points(group="pytest11") if point.dist is not None}
    for package, (effect, remedy) in _CLASHES.items():
        if package in plugins:
            yield Diagnosis("warn", package, effect, remedy)


def _look_at_packages(
    topic: str, names: Sequence[str], text: str, remedy: str, otherwise: Literal["warn", "fail"]
) -> Diagnosis:
    if missing := [name for name in names if _find_version(name) is None]:
        return Diagnosis(otherwise, topic, f"{', '.join(missing)} not installed", remedy)
    return Diagnosis("ok", topic, text)


def _find_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


def _look_at_load() -> Diagnosis:
    cores = os.cpu_count() or 1
    try:
        load = os.getloadavg()[0]
    except (OSError, AttributeError):  # not on every system
        return Diagnosis("ok", "machine", count(cores, "core"))
    text = f"{count(cores, 'core')}, load {number(load)}"
    if load > cores:
        return Diagnosis("warn", "machine", text, "a busy client makes time stamps inexact; measure when it is idle")
    return Diagnosis("ok", "machine", text)


def _look_at_clock() -> Diagnosis:
    try:
        exchange = asyncio.run(_ask_ourselves())
    except (OSError, wire.NoAnswer) as error:
        text = f"a request to this process over 127.0.0.1 failed: {error}"
        return Diagnosis("fail", "clock", text, "let this user open sockets")
    if exchange.clock == "kernel":
        late = quantity(exchange.client_lag_ms, "ms")
        return Diagnosis("ok", "clock", f"the kernel takes the time stamps; Python read the answer {late} later")
    remedy = "on Linux the kernel takes them; elsewhere keep concurrency low and the client idle"
    return Diagnosis("warn", "clock", "Python takes the time stamps, late when this machine is busy", remedy)


def _look_at_priority() -> Diagnosis:
    if wire.can_raise_priority():
        text = "the thread that reads answers has priority: it hardly waits on a busy machine"
        return Diagnosis("ok", "priority", text)
    text = "the thread that reads answers has no priority: it reads late on a busy machine, and cells say so"
    remedy = "Linux gives it priority with 'nice -10' for this user in limits.conf, or LimitNICE=-10 in a systemd unit"
    return Diagnosis("ok", "priority", text, remedy)


def _look_at_sensors() -> Diagnosis:
    """Who reports the power of servers on this machine; that nobody does is no fault."""
    found = find_sensors()
    told = [f"{sensor.name} ({sensor.source})" for one in found for sensor in one.sensors]
    for one in found:
        for sensor in one.sensors:
            sensor.close()
    reasons = [one.reason for one in found if one.reason]
    return Diagnosis("ok", "sensors", "; ".join([", ".join(told), *reasons] if told else [explain_nothing(found)]))


async def _ask_ourselves() -> wire.Exchange:
    """One request through the wire that measures, to a server of this process."""
    async with await asyncio.start_server(_answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with wire.StreamClient(f"http://127.0.0.1:{port}") as client:
            return await client.post("/", {})


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(_ANSWER)
    await writer.drain()
    writer.close()


def _look_at_store(url: str) -> Diagnosis:
    """Whether there is a store, of which schema and size, and whether its folder can be written."""
    file: Path | None = None
    if "://" not in url:
        file = Path(url).expanduser()
    elif url.startswith("sqlite:///"):
        file = Path(url.removeprefix("sqlite:///"))
    if file is not None and not file.exists():
        return _look_at_folder("store", file.parent, f"none yet at {show_path(file)}, pytest --boobench makes it")
    try:
        with Store.open(url, create=False) as store:
            address = store.address
    except BoobenchError as error:
        return Diagnosis("fail", "store", str(error))
    if file is None:
        return Diagnosis("ok", "store", f"{address}, schema {NEWEST}")
    # SQLite keeps parts of the database in files beside it.
    parts = (file, *(file.with_name(f"{file.name}{suffix}") for suffix in ("-wal", "-shm")))
    size_bytes = sum(part.stat().st_size for part in parts if part.exists())
    return _look_at_folder("store", file.parent, f"{show_path(file)}, schema {NEWEST}, {size(size_bytes)}")


def look_at_inventory(inventory: Inventory) -> Iterator[Diagnosis]:
    """Which hosts there are, and whether their keys are in the environment."""
    text = f"{count(len(inventory.names), 'host')}: {', '.join(inventory.names)}"
    yield Diagnosis("ok", "hosts file", f"{inventory.display or 'none'}, {text}")
    for host in inventory.hosts.values():
        try:
            host.require_key()
            host.require_verify()
        except HostError as error:
            yield Diagnosis("warn", f"host {host.name}", str(error).removeprefix(f"{host.name}: "))


def _look_at_folder(topic: str, folder: Path, text: str) -> Diagnosis:
    """Whether a folder can be written, or made, tried in the nearest folder that exists."""
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            return Diagnosis("ok", topic, text)
    except OSError as error:
        reason = explain_os_error(error)
        return Diagnosis("fail", topic, f"{text}; {nearest} cannot be written ({reason})", "let this user write there")
