"""The two HTTP clients of a host: a time-stamping one for what is measured, an ordinary one for all other requests."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from pytest_boobench import wire
from pytest_boobench.servers.patience import Patience
from pytest_boobench.suite.cell import Timeouts

_LONGEST_WAIT_S = 3600.0
"""Whatever a host says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
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
    ) -> Answer:
        """Send a measured request and bring the answer, up to ``max_bytes``; never raises for what the host does."""
        asked_at, asked_ns = time.time(), time.monotonic_ns()
        try:
            exchange = await self.stream.post(path, body, timeouts, max_bytes)
        except wire.NoAnswer as error:
            return Answer(sent_at=asked_at, sent_ns=asked_ns, failure=error.failure)
        return Answer(
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
