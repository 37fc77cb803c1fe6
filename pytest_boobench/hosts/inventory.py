"""Room 2: the hosts file: which servers exist. The only place that knows a URL or where a key comes from."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import Field

from pytest_boobench.documents.validation import FileModel, Named, choice, flag, read_as, text, whole, write_json_schema
from pytest_boobench.documents.yaml_source import read
from pytest_boobench.documents.yaml_tree import Problems, suggest
from pytest_boobench.errors import HostError
from pytest_boobench.hosts.addresses import (
    LOOPBACK,
    Secret,
    arena_template,
    base_url,
    ca_file,
    find_address,
    find_key,
    is_loopback,
    is_own,
    name_address,
    variable,
)
from pytest_boobench.hosts.embedded import EmbeddedSettings, find_problems
from pytest_boobench.hosts.start_fields import Start, StartFields, check_start
from pytest_boobench.suite.launching import StartNeeds
from pytest_boobench.suite.names import model_name, node_name

EMBEDDED = "embedded"
"""The name and the kind of server of the host that always exists."""
THIS_MACHINE = "this machine"
SERVERS = (EMBEDDED, "llama-server", "llama-swap", "openai", "vllm", "ollama", "lmstudio")

_DEFAULTS = EmbeddedSettings()
_SETTINGS = tuple(setting.name for setting in fields(EmbeddedSettings))
_NOT_FOR_EMBEDDED = ("url", "api_key", "proxy", "verify")


class HostModelFields(FileModel):
    """One model of a host, as the file writes it."""

    reference: Annotated[bool, flag()] = False
    """Whether this model never changes and is the reference of the host's machine."""


class HostFields(FileModel):
    """One host, as the file writes it."""

    server: Annotated[str | None, choice(*SERVERS)] = None
    """Kind of server; default: detect it."""
    url: Annotated[str | None, base_url()] = None
    """Where it listens, without /v1."""
    api_key: Annotated[str | None, variable()] = None
    """${NAME}: the environment variable that holds the key."""
    proxy: Annotated[bool, flag()] = False
    """Use the proxies that the environment names."""
    shared: Annotated[bool | None, flag()] = None
    """Whether others use the host too; default: watch and see."""
    machine: Annotated[str | None, node_name()] = None
    """Which machine it is; hosts on one machine are never measured at once. Default: from the address."""
    reference: Annotated[bool, flag()] = False
    """Whether this host never changes and is the reference of its machine; it has one model."""
    models: Annotated[
        dict[str, HostModelFields], Named(model_name(), HostModelFields, "a mapping of names to models")
    ] = Field(default_factory=dict)
    """Model -> what is special about it."""
    restore: Annotated[bool, flag()] = True
    """Afterwards, load the model again that was ready before."""
    verify: Annotated[bool | str, ca_file()] = True
    """Check the TLS certificate: true, false, or a file of CAs."""
    start: StartFields | None = None
    """How the plugin starts it, for the cells that use it."""
    files: Annotated[dict[str, str], Named(model_name(), text(), "a mapping of models to their files")] = Field(
        default_factory=dict
    )
    """Model -> its file, for {model_file} in the command."""
    layers: Annotated[int, whole(1)] = _DEFAULTS.layers
    """Embedded: layers of the model."""
    width: Annotated[int, whole(1)] = _DEFAULTS.width
    """Embedded: width of a layer."""
    feed_forward: Annotated[int, whole(1)] = _DEFAULTS.feed_forward
    """Embedded: inner width of a layer."""
    threads: Annotated[int, whole(1)] = _DEFAULTS.threads
    """Embedded: CPU threads."""
    slots: Annotated[int, whole(1)] = _DEFAULTS.slots
    """Embedded: requests at once."""
    context_tokens: Annotated[int, whole(1)] = _DEFAULTS.context_tokens
    """Embedded: context of a request, tokens."""


class InventoryFields(FileModel):
    """A whole hosts file."""

    hosts: Annotated[dict[str, HostFields], Named(node_name(), HostFields, "a mapping of names to hosts")]
    """Name -> host."""
    arena: Annotated[str | None, arena_template()] = None
    """Where the page hands an exchange to: an address with {a}, {b} and {prompt}."""


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
    for name, row in written.hosts.items():
        _check(name, row, problems)
    _name_machines(written.hosts)
    _check_references(written.hosts, problems)
    problems.raise_any()
    started = {row.machine for name, row in written.hosts.items() if _is_ours(name, row)} - {None}
    hosts = {
        name: replace(_make_host(name, row, path, display or path.name, env), beside_ours=row.machine in started)
        for name, row in written.hosts.items()
    }
    return Inventory(MappingProxyType(built_in | hosts), display or path.name, written.arena)


def _is_embedded(name: str, row: HostFields) -> bool:
    return EMBEDDED in (name, row.server)


def _is_ours(name: str, row: HostFields) -> bool:
    return row.start is not None or _is_embedded(name, row)


def _name_machines(rows: Mapping[str, HostFields]) -> None:
    """Give a host without a machine's name that of the other ports of its address, if they have one name.

    Not for loopback: behind it may be tunnels to other machines.
    """
    names: dict[str, set[str]] = defaultdict(set)
    for row in rows.values():
        if row.url and row.machine and not is_loopback(row.url):
            names[name_address(row.url)].add(row.machine)
    for row in rows.values():
        found = names.get(name_address(row.url), set()) if row.url else set()
        if row.machine is None and len(found) == 1:
            row.machine = next(iter(found))


def _check_references(rows: Mapping[str, HostFields], problems: Problems) -> None:
    """Note a second reference of one machine, and one of which the model is not known."""
    first: dict[str, str] = {}
    for name, row in rows.items():
        models = [model for model, one in row.models.items() if one.reference]
        if not row.reference and not models:
            continue
        node = row.node.child("reference") if row.reference else row.node.child("models")
        if row.start is not None and not models:
            problems.add(
                node, "expected the model with which to start the host; write models: {NAME: {reference: true}}"
            )
        if len(models) > 1 or (row.reference and models):
            problems.add(node, "a host has one reference; name it once, under models or for the whole host")
        machine = row.machine or (name_address(row.url) if row.url else THIS_MACHINE)
        if (other := first.setdefault(machine, name)) != name:
            problems.add(node, f"the reference of this machine is {other}; a machine has one")


def _find_reference(row: HostFields) -> str | None:
    named = (model for model, one in row.models.items() if one.reference)
    return next(named, "" if row.reference else None)


def _check(name: str, row: HostFields, problems: Problems) -> None:
    """Note fields that do not fit the kind of server."""
    if row.start is not None:
        _check_started(name, row, row.start, problems)
        return
    if row.files:
        problems.add(
            row.node.child("files"), "only a host that the plugin starts has files; add a start, or leave it out"
        )
    if not _is_embedded(name, row):
        if row.node.child("url").missing:
            problems.add(row.node.child("url"), f"is missing; expected {base_url().words}")
        for key in (setting for setting in _SETTINGS if setting in row.model_fields_set):
            problems.add(
                row.node.child(key), f"only the embedded server has it; leave it out, or write server: {EMBEDDED}"
            )
        return
    if row.server not in (None, EMBEDDED):
        problems.add(row.node.child("server"), f"the host {name!r} is the built-in one; give this one another name")
    for key in (key for key in _NOT_FOR_EMBEDDED if key in row.model_fields_set):
        problems.add(row.node.child(key), "the embedded server is started by us, on this machine; leave it out")
    for key, problem in find_problems(_settings_in(row)).items():
        problems.add(row.node.child(key), problem)


def _check_started(name: str, row: HostFields, start: StartFields, problems: Problems) -> None:
    """Note fields that do not fit a host with a start command."""
    if _is_embedded(name, row):
        problems.add(row.node.child("start"), "the embedded server is started by us as it is; leave it out")
    for key in (key for key in ("url", "proxy", "verify", *_SETTINGS) if key in row.model_fields_set):
        problems.add(row.node.child(key), "the plugin starts this host and knows its address; leave it out")
    check_start(start, row.files, problems)


def _settings_in(row: HostFields) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _SETTINGS}


def _make_host(name: str, row: HostFields, path: Path, display: str, env: Mapping[str, str]) -> Host:
    if _is_embedded(name, row):
        settings = EmbeddedSettings(**_settings_in(row))
        return Host(
            name=name,
            server=EMBEDDED,
            shared=row.shared,
            machine=row.machine,
            reference=_find_reference(row),
            embedded=settings,
        )
    return Host(
        name=name,
        server=row.server,
        base_url=row.url or "",
        start=_make_start(row, path, display),
        proxy=row.proxy,
        shared=row.shared,
        machine=row.machine,
        reference=_find_reference(row),
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
