"""Room 2: what can go wrong on the wire, in the words of a sample's failure."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from pytest_boobench.metrics import FailureKind


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request has no whole answer; ``text`` is "where: what is wrong, what would be right"."""

    kind: FailureKind
    text: str


class NoAnswer(Exception):  # noqa: N818  # what came of a request, not an error of ours
    """A request that got no status line; ``failure`` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


_KINDS: tuple[tuple[type[httpx.RequestError], FailureKind], ...] = (
    (httpx.ConnectTimeout, "connect"),  # before TimeoutException, its parent
    (httpx.PoolTimeout, "connect"),
    (httpx.ReadTimeout, "stalled"),
    (httpx.WriteTimeout, "stalled"),
    (httpx.TimeoutException, "timeout"),
    (httpx.ReadError, "truncated"),
    (httpx.CloseError, "truncated"),
    (httpx.NetworkError, "connect"),
    (httpx.ProxyError, "connect"),
    (httpx.UnsupportedProtocol, "connect"),
)


def failure_of(error: httpx.RequestError) -> Failure:
    """The failure that an error of httpx stands for."""
    kind: FailureKind = next((kind for known, kind in _KINDS if isinstance(error, known)), "protocol")
    return Failure(kind, str(error) or type(error).__name__)
