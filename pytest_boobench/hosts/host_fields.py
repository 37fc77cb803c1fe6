"""Room 2: the fields of a hosts file, and the checks that need more than one of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any

from pydantic import Field

from pytest_boobench.documents.validation import FileModel, Named, choice, flag, text, whole
from pytest_boobench.documents.yaml_tree import Problems
from pytest_boobench.hosts.addresses import arena_template, base_url, ca_file, is_loopback, name_address, variable
from pytest_boobench.hosts.embedded import EmbeddedSettings, find_problems
from pytest_boobench.hosts.start_fields import StartFields, check_start
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


def is_embedded(name: str, row: HostFields) -> bool:
    """Whether it is an embedded host, by its name or its kind."""
    return EMBEDDED in (name, row.server)


def is_ours(name: str, row: HostFields) -> bool:
    """Whether we start its server."""
    return row.start is not None or is_embedded(name, row)


def find_machines(rows: Mapping[str, HostFields]) -> dict[str, str | None]:
    """Return host -> the name of its machine: its own, or the only one that other ports of its address have.

    The second is not for loopback: behind it may be tunnels to other machines.
    """
    names: dict[str, set[str]] = defaultdict(set)
    for row in rows.values():
        if row.url and row.machine and not is_loopback(row.url):
            names[name_address(row.url)].add(row.machine)
    found: dict[str, str | None] = {}
    for name, row in rows.items():
        others = names.get(name_address(row.url), set()) if row.url else set()
        found[name] = row.machine or (min(others) if len(others) == 1 else None)
    return found


def check_hosts(rows: Mapping[str, HostFields], problems: Problems) -> None:
    """Note fields that do not fit the kind of server, and references that are not one for each machine."""
    for name, row in rows.items():
        _check(name, row, problems)
    _check_references(rows, problems)


def _check_references(rows: Mapping[str, HostFields], problems: Problems) -> None:
    """Note a second reference of one machine, and one of which the model is not known."""
    machines, first = find_machines(rows), dict[str, str]()
    for name, row in rows.items():
        models = [model for model, one in row.models.items() if one.reference]
        if not row.reference and not models:
            continue
        node = row.node.child("reference") if row.reference else row.node.child("models")
        if row.start is not None and not models:
            problems.add(node, "expected the model to start; write models: {NAME: {reference: true}}")
        if len(models) > 1 or (row.reference and models):
            problems.add(node, "a host has one reference; name it once, under models or for the whole host")
        machine = machines[name] or (name_address(row.url) if row.url else THIS_MACHINE)
        if (other := first.setdefault(machine, name)) != name:
            problems.add(node, f"the reference of this machine is {other}; a machine has one")


def find_reference_model(row: HostFields) -> str | None:
    """Return the model that is the reference; empty for the host's only one, None if it has none."""
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
    if not is_embedded(name, row):
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
    for key, problem in find_problems(read_settings(row)).items():
        problems.add(row.node.child(key), problem)


def _check_started(name: str, row: HostFields, start: StartFields, problems: Problems) -> None:
    """Note fields that do not fit a host with a start command."""
    if is_embedded(name, row):
        problems.add(row.node.child("start"), "the embedded server is started by us as it is; leave it out")
    for key in (key for key in ("url", "proxy", "verify", *_SETTINGS) if key in row.model_fields_set):
        problems.add(row.node.child(key), "the plugin starts this host and knows its address; leave it out")
    check_start(start, row.files, problems)


def read_settings(row: HostFields) -> dict[str, Any]:
    """Return the size of an embedded server."""
    return {name: getattr(row, name) for name in _SETTINGS}
