"""The two HTTP clients of a host: a time-stamping one for what is measured, an ordinary one for all other requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal

import httpx

from pytest_boobench import wire
from pytest_boobench.metrics import Sample
from pytest_boobench.suite.cell import Cell, Timeouts

LOADING_S = 300.0
"""How long a control request waits for a model that is being loaded, where nobody says otherwise."""
LOAD_TIMEOUT_S = 900.0
"""How long a host may take to load a model when we tell it to, where nobody says otherwise."""

_WORDS = {"loading": "loading the model", "refused": "waiting for its server, which refuses connections"}


@dataclass(frozen=True, slots=True)
class Waiting:
    """A host that we wait for, at one moment."""

    host: str
    why: Literal["loading", "refused"]
    waited_s: float

    def __str__(self) -> str:
        return f"{self.host}: {_WORDS[self.why]}, {self.waited_s:.0f} s so far"


def tell_nobody(waiting: Waiting) -> None:
    """Nobody needs to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """What the user grants a host."""

    load_s: float | None = None
    """Blank: what is usual, which is more for a load that we ask for."""
    waits: bool = True
    """Whether requests that only ask wait for a model that is being loaded. A load that we ask for always does."""
    refused_s: float = 0.0
    """How long a connection may be refused: the server is about to be started."""
    option: str = "--boobench-load-timeout"
    """The one that gives more time."""
    tell: Callable[[Waiting], None] = tell_nobody
    """Hears of it about once a second."""

    @property
    def loading_s(self) -> float:
        """For a control request."""
        if not self.waits:
            return 0.0
        return LOADING_S if self.load_s is None else self.load_s

    @property
    def explicit_load_s(self) -> float:
        """For a load that we ask for."""
        return LOAD_TIMEOUT_S if self.load_s is None else self.load_s


NONE = Patience(waits=False)
"""For those who only want to know how it is now."""


DEFAULT_WAIT_S = 1.0
"""Where the host does not say how long to wait."""


@dataclass(slots=True)
class Door:
    """Sends measured requests through a host's limit, and knows how many of them it ever let in at once."""

    _stays: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Model -> from when to when each request was inside, monotonic nanoseconds."""

    async def send(self, attempt: Callable[[], Awaitable[ServerAnswer]], cell: Cell) -> ServerAnswer:
        """The first answer that is no 429, or the last 429 when the request's time is up.

        Each try is a request with a clock of its own: waiting is in no sample's times.
        """
        began = time.monotonic()
        turned_away = 0
        while True:
            answer = await attempt()
            wait_s = DEFAULT_WAIT_S if answer.retry_after_s is None else answer.retry_after_s
            refused = answer.status == httpx.codes.TOO_MANY_REQUESTS
            if not refused or time.monotonic() - began + wait_s > cell.plan.timeouts.request_s:
                break
            turned_away += 1
            await asyncio.sleep(wait_s)
        if answer.exchange is not None and not refused:
            stay = (answer.exchange.sent_ns, answer.exchange.end_ns)
            self._stays.setdefault(cell.model, []).append(stay)
        return replace(answer, turned_away=turned_away)

    def count_at_once(self, model: str) -> int:
        """The most requests for a model that were ever inside together."""
        turns = [turn for began, ended in self._stays.get(model, ()) for turn in ((began, 1), (ended, -1))]
        inside = most = 0
        for _, step in sorted(turns):
            inside += step
            most = max(most, inside)
        return most

    def check(self, sample: Sample, answer: ServerAnswer, cell: Cell) -> Sample:
        """The sample, failed where it was turned away and the host never had as many at once as the cell has lanes."""
        refused = answer.turned_away or answer.status == httpx.codes.TOO_MANY_REQUESTS
        at_once = self.count_at_once(cell.model)
        if not refused or not 0 < at_once < cell.concurrency:
            return sample
        text = (
            f"429: the host lets {at_once} requests for {cell.model} in at once, the cell sends {cell.concurrency}; "
            "raise its concurrencyLimit (10 where its configuration does not say), or lower grid.concurrency"
        )
        return replace(sample, failure="status", failure_text=text)


_LONGEST_WAIT_S = 3600.0
"""Whatever a host says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAnswer:
    """What came of one measured request, unread."""

    sent_at: float
    """Seconds since 1970 UTC."""
    sent_ns: int
    """Monotonic clock."""
    status: int | None = None
    exchange: wire.Exchange | None = None
    """Blank where no answer began."""
    failure: wire.Failure | None = None
    """Why the answer is missing or not whole."""
    retry_after_s: float | None = None
    """After which time the host wants to be asked again, where it says so."""
    turned_away: int = 0
    """How often the host refused this request before, since it had too many; each try was a request of its own."""

    @property
    def unanswered(self) -> bool:
        """Whether the host may be dead: no answer began, or it broke off."""
        return self.failure is not None


@dataclass(slots=True)
class Clients:
    """Both clients of a host, sharing address, headers and TLS context."""

    control: wire.ControlClient
    stream: wire.StreamClient
    patience: Patience = field(default_factory=Patience)
    """With a host that is not ready. Whoever has no time left sets another one."""

    async def send(
        self, path: str, body: Mapping[str, Any], timeouts: Timeouts, max_bytes: int | None = None
    ) -> ServerAnswer:
        """Send a measured request and bring the answer, up to ``max_bytes``; never raises for what the host does."""
        asked_at, asked_ns = time.time(), time.monotonic_ns()
        try:
            exchange = await self.stream.post(path, body, timeouts, max_bytes)
        except wire.NoAnswer as error:
            return ServerAnswer(sent_at=asked_at, sent_ns=asked_ns, failure=error.failure)
        return ServerAnswer(
            sent_at=exchange.sent_at,
            sent_ns=exchange.sent_ns,
            status=exchange.status,
            exchange=exchange,
            failure=exchange.failure,
            retry_after_s=read_retry_after(exchange.headers),
        )

    async def close(self) -> None:
        """Close both."""
        await self.control.aclose()
        await self.stream.aclose()


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by the ``Retry-After`` header, which holds a number or a date; None without one."""
    said = headers.get("retry-after", "").strip()
    try:
        wait_s = float(said) if said.isdecimal() else parsedate_to_datetime(said).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0.0, wait_s), _LONGEST_WAIT_S)


def open_clients(
    url: str,
    headers: Mapping[str, str],
    *,
    verify: bool | Path = True,
    proxies_from_env: bool = False,
    patience: Patience | None = None,
) -> Clients:
    """The clients of the host at ``url``; close them."""
    # certificates take 30 ms to load; without TLS nobody looks at them
    context = wire.tls_context(verify if url.startswith("https:") or proxies_from_env else False)
    return Clients(
        control=wire.control_client(url, headers, context, proxies_from_env=proxies_from_env),
        stream=wire.StreamClient(url, headers, context),
        patience=patience or Patience(),
    )
