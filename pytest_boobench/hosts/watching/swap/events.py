"""What llama-swap's event stream says, event by event: requests in flight, states of models.

How much it says depends on its version, and is told by the shape of its ``inflight`` events alone:
none before v192, a total from v192 on, a list from v235 on, and from v240 on each request with its headers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_boobench.facts import ForeignRequest
from pytest_boobench.hosts.watching.interface import RUN_HEADER
from pytest_boobench.servers.control import list_names
from pytest_boobench.untrusted import (
    Fault,
    get_count,
    get_list,
    get_object,
    get_text,
    parse_json,
    show,
    to_number,
    to_object,
    to_text,
)

Detail = Literal["nothing", "totals", "requests", "callers"]
"""How much a llama-swap tells of what is in flight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A request that llama-swap has in flight; blanks are facts that its version does not give."""

    id: str
    method: str | None = None
    model: str | None = None
    path: str | None = None
    user_agent: str | None = None
    run_uid: str | None = None
    """Value of our header, whichever run of ours sent it."""
    address: str | None = None
    queued: bool | None = None
    began_at: float | None = None
    """By our monotonic clock, seconds."""

    def describe(self) -> ForeignRequest:
        """The request for those who are not its caller."""
        return ForeignRequest(
            id=self.id,
            model=self.model,
            path=self.path,
            user_agent=self.user_agent if self.run_uid is None else "another boobench run",
            address=self.address,
            age_s=None if self.began_at is None else time.monotonic() - self.began_at,
            queued=self.queued,
        )


@dataclass(slots=True)
class Scene:
    """The host as its events paint it, and what came to pass since `mark`."""

    detail: Detail = "nothing"
    live: dict[str, Entry] = field(default_factory=dict)
    """In flight now, by id; empty where only a total is told."""
    total: int = 0
    """How many are in flight now."""
    seen: dict[str, Entry] = field(default_factory=dict)
    """All that were in flight at some time since the mark. Ids begin anew with each stream, so keys have its number."""
    states: dict[str, str] = field(default_factory=dict)
    """Model or alias -> its state, as in ``ready``."""
    falls: dict[str, int] = field(default_factory=dict)
    """Model or alias -> how often it left the state ready since the mark."""
    streams: int = 1

    def mark(self) -> None:
        """Begin a new window: what is in flight now belongs to it."""
        self.falls.clear()
        self.seen.clear()
        self._remember()

    def forget_live(self) -> None:
        """A new stream begins: what the old one said of requests no longer holds."""
        self.live, self.total = {}, 0
        self.streams += 1

    def take(self, message: str) -> str | None:
        """Take in one event's data; the type of event it was, None where it is not what it should be."""
        try:
            envelope = to_object(parse_json(message))
            kind = get_text(envelope, "type")
            payload = parse_json(get_text(envelope, "data") or "")
            if kind == "inflight":
                self._take_inflight(_require(payload, Mapping))
            elif kind == "modelStatus":
                self._take_states([_require(model, Mapping) for model in _require(payload, list)])
        except Fault:
            return None
        return kind

    def _take_inflight(self, payload: Mapping[str, Any]) -> None:
        operation, total = payload.get("operation"), get_count(payload, "total")
        if operation == "upsert":
            entry = _read(get_object(payload, "request"))
            self.live[entry.id] = entry
        elif operation == "remove":
            self.live.pop(show(payload.get("id")), None)
        else:
            # A snapshot; its list is missing where it is empty. Lists without headers, and totals, are always whole.
            requests = get_list(payload, "requests")
            self.live = {entry.id: entry for entry in (_read(_require(request, Mapping)) for request in requests)}
        if total is not None:
            self.detail, self.total = "totals", total
        else:
            self.detail, self.total = "callers" if operation else "requests", len(self.live)
        self._remember()

    def _remember(self) -> None:
        self.seen |= {f"{self.streams}/{id}": entry for id, entry in self.live.items()}

    def _take_states(self, models: list[Mapping[str, Any]]) -> None:
        for model in models:
            state = str(model.get("state"))
            for name in list_names(model):
                if self.states.get(name) == "ready" and state != "ready":
                    self.falls[name] = self.falls.get(name, 0) + 1
                self.states[name] = state


def _require(value: Any, of: type) -> Any:
    if not isinstance(value, of):
        raise Fault(f"data is {show(value)}")
    return value


def _read(request: Mapping[str, Any]) -> Entry:
    """One entry of an ``inflight`` event. Names of headers come in any case."""
    headers = {name.lower(): value for name, value in to_object(request.get("req_headers")).items()}
    elapsed_ms = to_number(request.get("elapsed_ms"))
    answered = request.get("resp_headers")
    if request.get("id") is None:
        raise Fault("request.id is missing")
    return Entry(
        id=show(request["id"]),
        method=to_text(request.get("method")),
        model=to_text(request.get("model")),
        path=to_text(request.get("req_path")),
        user_agent=to_text(headers.get("user-agent")),
        run_uid=to_text(headers.get(RUN_HEADER.lower())),
        address=to_text(request.get("remote_ip")),
        queued=None if answered is None else not answered,
        began_at=None if elapsed_ms is None else time.monotonic() - elapsed_ms / 1000,
    )
