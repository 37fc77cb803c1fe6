"""What llama-swap's event stream says, event by event: requests in flight, states of models.

How much it says depends on its version, and is told by the shape of its ``inflight`` events alone:
none before v192, a total from v192 on, a list from v235 on, and from v240 on each request with its headers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_boobench.facts import ForeignRequest
from pytest_boobench.hosts.watching.interface import RUN_HEADER

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
            envelope = json.loads(message)
            kind, payload = str(envelope["type"]), json.loads(envelope["data"])
            if kind == "inflight":
                self._take_inflight(payload)
            elif kind == "modelStatus":
                self._take_states(payload)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        return kind

    def _take_inflight(self, payload: Mapping[str, Any]) -> None:
        operation = payload.get("operation")
        if operation == "upsert":
            entry = _read(payload["request"])
            self.live[entry.id] = entry
        elif operation == "remove":
            self.live.pop(str(payload.get("id")), None)
        else:
            # A snapshot; its list is missing where it is empty. Lists without headers, and totals, are always whole.
            self.live = {entry.id: entry for entry in map(_read, payload.get("requests") or ())}
        if "total" in payload:
            self.detail, self.total = "totals", int(payload["total"])
        else:
            self.detail, self.total = "callers" if operation else "requests", len(self.live)
        self._remember()

    def _remember(self) -> None:
        self.seen |= {f"{self.streams}/{id}": entry for id, entry in self.live.items()}

    def _take_states(self, models: list[Mapping[str, Any]]) -> None:
        for model in models:
            state = str(model.get("state"))
            for name in (str(model.get("id")), *(model.get("aliases") or ())):
                if self.states.get(name) == "ready" and state != "ready":
                    self.falls[name] = self.falls.get(name, 0) + 1
                self.states[name] = state


def _read(request: Mapping[str, Any]) -> Entry:
    """One entry of an ``inflight`` event. Names of headers come in any case."""
    headers = {name.lower(): value for name, value in (request.get("req_headers") or {}).items()}
    elapsed_ms = request.get("elapsed_ms")
    answered = request.get("resp_headers")
    return Entry(
        id=str(request["id"]),
        method=request.get("method"),
        model=request.get("model"),
        path=request.get("req_path"),
        user_agent=headers.get("user-agent"),
        run_uid=headers.get(RUN_HEADER.lower()),
        address=request.get("remote_ip"),
        queued=None if answered is None else not answered,
        began_at=None if elapsed_ms is None else time.monotonic() - elapsed_ms / 1000,
    )
