"""Room 2: the hosts file: which servers exist. The only place that knows a URL or where a key comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pytest_boobench import HOSTS_FILE
from pytest_boobench.documents.validation import read_as, write_json_schema
from pytest_boobench.documents.yaml_source import read
from pytest_boobench.documents.yaml_tree import Problems, suggest
from pytest_boobench.errors import HostError
from pytest_boobench.hosts.addresses import LOOPBACK, Secret, find_address, find_key, is_loopback, is_own
from pytest_boobench.hosts.embedded import EmbeddedSettings
from pytest_boobench.hosts.host_fields import (
    EMBEDDED,
    THIS_MACHINE,
    HostFields,
    InventoryFields,
    check_hosts,
    find_machines,
    find_reference_model,
    is_embedded,
    is_ours,
    read_settings,
)
from pytest_boobench.hosts.start_fields import Start
from pytest_boobench.suite.launching import StartNeeds

_DEFAULTS = EmbeddedSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A named server."""

    name: str
    server: str | None = None
    """One of SERVERS; None: detect it."""
    base_url: str = ""
    """No slash or /v1 at its end, host in lower case, no default port. Empty for an embedded host."""
    proxy: bool = False
    shared: bool | None = None
    machine: str | None = None
    """The machine's name from the file; None: the address tells."""
    beside_ours: bool = False
    """Whether the file puts it on one machine with a host that we start."""
    reference: str | None = None
    """The model that is the reference of its machine; empty: its only one. None: it has no reference."""
    restore: bool = True
    """Whether to load the models again, after the session, that were ready before it."""
    verify: bool | Path = True
    """Whether to check TLS certificates, or the file of the CAs to check them with."""
    start: Start | None = None
    """How we start it; None if others start it, and for embedded hosts."""
    embedded: EmbeddedSettings | None = None
    """The size of the embedded server; None for all other hosts."""
    key_variable: str | None = None
    _key: Secret | None = None

    @property
    def ours(self) -> bool:
        """Whether we start its server, on this machine."""
        return self.embedded is not None or self.start is not None

    @property
    def exclusive(self) -> str:
        """What only one cell at a time may use: the machine, by its name in the file or its address without the port.
        Hosts may share it. Loopback and what we start ourselves are this machine."""
        if self.machine is not None:
            return f"machine {self.machine}"
        if self.ours or is_own(address := find_address(self.base_url)):
            return THIS_MACHINE
        return address

    @property
    def lock_name(self) -> str:
        """The same as a file name, for the lock that all sessions on this machine take."""
        return f"{hashlib.sha256(self.exclusive.encode()).hexdigest()[:32]}.lock"

    def exclusive_among_machines(self, machine: str | None) -> str | None:
        """The same among several machines; ``machine`` is the name of this one, because loopback is local to each.

        None for hosts that we start ourselves, which no other machine can reach, unless the file names the machine.
        """
        if self.machine is not None:
            return self.exclusive
        if self.ours:
            return None
        address = find_address(self.base_url)
        return f"{THIS_MACHINE} on {machine}" if address == LOOPBACK else address

    @property
    def local(self) -> bool:
        """Whether its server runs on this machine: we start it, or its address is loopback."""
        return self.ours or is_loopback(self.base_url)

    @property
    def here(self) -> bool:
        """Whether its machine is this one, also where another of its addresses or the file tells."""
        if self.local or self.beside_ours:
            return True
        return self.machine is None and is_own(find_address(self.base_url))

    def require_key(self) -> str | None:
        """Return the API key, None if the host needs none. Raises HostError if the environment does not have it."""
        if self.key_variable is None:
            return None
        if self._key is None:
            raise HostError(f"{self.name}: api_key: the environment variable {self.key_variable} is not set; set it")
        if not self._key.fits_header():
            raise HostError(f"{self.name}: api_key: {self.key_variable} holds a character that no key can have")
        return self._key.reveal()

    def require_verify(self) -> bool | Path:
        """Return what to check TLS certificates with. Raises HostError if the file of the CAs is missing."""
        if isinstance(self.verify, Path) and not self.verify.is_file():
            raise HostError(f"{self.name}: verify: no file {self.verify}; expected CA certificates in PEM")
        return self.verify


@dataclass(frozen=True, slots=True)
class Inventory:
    """All hosts by name; ``embedded`` is always one of them."""

    hosts: Mapping[str, Host]
    display: str | None
    """The file's name in messages; None without a file."""
    arena: str | None = None
    """An address with {a}, {b} and {prompt}, for the hand-over of an exchange."""

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts' names, in the file's order."""
        return tuple(self.hosts)

    @property
    def starts(self) -> Mapping[str, StartNeeds]:
        """What the hosts with a start command need from a suite's ``launch``."""
        return {name: host.start.needs for name, host in self.hosts.items() if host.start is not None}

    def get(self, name: str) -> Host:
        """Return the host of that name. Raises HostError, with the most similar name, if there is none."""
        if name not in self.hosts:
            where = f"in {self.display}" if self.display else "without a hosts file"
            raise HostError(f"no host {name!r} {where}; {suggest(name, self.hosts)}")
        return self.hosts[name]

    def find_reference(self, name: str) -> Host | None:
        """Return the reference of a host's machine, the first of the file; None if it has none, or is unknown."""
        references = [host for host in self.hosts.values() if host.reference is not None]
        if name not in self.hosts or not references:
            return None
        machine = self.hosts[name].exclusive
        return next((host for host in references if host.exclusive == machine), None)

    def is_same(self, name: str, other: str) -> bool:
        """Whether two names mean one server. Raises HostError for an unknown name."""
        host, second = self.get(name), self.get(other)
        return host == second or (not host.ours and host.base_url == second.base_url)


def load(path: Path | None, *, display: str | None = None, env: Mapping[str, str]) -> Inventory:
    """Load a hosts file, or none. Raises DocumentError with every problem of the file.

    ``display`` is the file's name in messages. Keys come from ``env``. A missing key is no problem until its host is
    used, so that people with different keys can share a file.
    """
    built_in = {EMBEDDED: Host(name=EMBEDDED, server=EMBEDDED, embedded=_DEFAULTS)}
    if path is None:
        return Inventory(MappingProxyType(built_in), None)
    problems = Problems(display or path.name)
    written = read_as(InventoryFields, read(path, problems), problems)
    check_hosts(written.hosts, problems)
    problems.raise_any()
    machines = find_machines(written.hosts)
    with_ours = {machines[name] for name, row in written.hosts.items() if is_ours(name, row)} - {None}
    hosts = {
        name: replace(
            _make_host(name, row, path, display or path.name, env),
            machine=machines[name],
            beside_ours=machines[name] in with_ours,
            reference=find_reference_model(row),
        )
        for name, row in written.hosts.items()
    }
    return Inventory(MappingProxyType(built_in | hosts), display or path.name, written.arena)


def find_beside(suites: Iterable[Path]) -> Path | None:
    """Return the hosts file in the folders of suite files, None if there is none. Raises HostError if there are two."""
    found = sorted(file for folder in {suite.parent for suite in suites} if (file := folder / HOSTS_FILE).is_file())
    if len(found) > 1:
        raise HostError(f"{found[0]} and {found[1]}: two hosts files beside the suites, expected one")
    return found[0] if found else None


def _make_host(name: str, row: HostFields, path: Path, display: str, env: Mapping[str, str]) -> Host:
    if is_embedded(name, row):
        settings = EmbeddedSettings(**read_settings(row))
        return Host(name=name, server=EMBEDDED, shared=row.shared, embedded=settings)
    return Host(
        name=name,
        server=row.server,
        base_url=row.url or "",
        start=_make_start(row, path, display),
        proxy=row.proxy,
        shared=row.shared,
        restore=row.restore,
        verify=path.parent / row.verify if isinstance(row.verify, str) else row.verify,
        key_variable=row.api_key,
        _key=find_key(row.api_key, env),
    )


def _make_start(row: HostFields, path: Path, display: str) -> Start | None:
    if row.start is None:
        return None
    return Start(
        commands=row.start.read_commands(Problems(display)),
        env=row.start.env,
        ready_s=row.start.ready_s,
        folder=path.resolve().parent / (row.start.folder or ""),
        files=row.files,
        place=f"{display}:{row.start.node.child('command').line}",
    )


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a hosts file."""
    return write_json_schema(InventoryFields, "pytest-boobench hosts")
