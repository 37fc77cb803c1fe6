"""What a client saw of a stream beside what the truth server sent: errors. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True, slots=True)
class Trace:
    """One stream that came whole; monotonic nanoseconds of one machine, hence one clock for client and server."""

    began_ns: int
    """Where the client's TTFT begins to count."""
    seen_ns: Sequence[int]
    """The client's stamp on each event that carried tokens."""
    ended_ns: int
    """The client's stamp on the end."""
    sent_ns: Sequence[int]
    """The server's clock before it sent those events."""
    end_sent_ns: int
    asked_ns: int
    """Arrival of the request's last byte at the server, by the kernel."""
    read_ns: int
    """When the server's Python had it."""
    late_ns: int
    """The furthest that the server was behind its schedule."""

    def chunk_errors_ms(self) -> list[float]:
        """Each event's stamp less its send."""
        return [(seen - sent) / 1e6 for seen, sent in zip(self.seen_ns, self.sent_ns, strict=True)]

    def itl_errors_ms(self) -> list[float]:
        """Each gap as seen less the gap as sent."""
        return [after - before for before, after in pairwise(self.chunk_errors_ms())]

    def ttft_error_ms(self, *, from_read: bool = False) -> float:
        """TTFT as the client has it less the time from the request's arrival to the first send.

        ``from_read`` counts from the server's read instead, and so charges the server's receive lag to the client.
        """
        truth_ns = self.sent_ns[0] - (self.read_ns if from_read else self.asked_ns)
        return (self.seen_ns[0] - self.began_ns - truth_ns) / 1e6

    def e2e_error_ms(self) -> float:
        """The whole request as the client has it less the time from its arrival to the last send."""
        return (self.ended_ns - self.began_ns - self.end_sent_ns + self.asked_ns) / 1e6


def trace(began_ns: int, events: Sequence[tuple[int, Mapping[str, Any]]], ended_ns: int) -> Trace:
    """A trace of an answer's events with the client's stamps; ValueError where the stream is not whole."""
    tokens = [(stamp, event) for stamp, event in events if carries_tokens(event)]
    end = events[-1][1] if events else {}
    counted = sum(len(event["choices"][0]["delta"]["content"]) for _, event in tokens)
    if "asked_ns" not in end or counted != end["usage"]["completion_tokens"]:
        ended = "did" if "asked_ns" in end else "did not"
        raise ValueError(f"a stream that is not whole: {counted} tokens came, and its end {ended}")
    return Trace(
        began_ns=began_ns,
        seen_ns=[stamp for stamp, _ in tokens],
        ended_ns=ended_ns,
        sent_ns=[event["sent_ns"] for _, event in tokens],
        end_sent_ns=end["sent_ns"],
        asked_ns=end["asked_ns"],
        read_ns=end["read_ns"],
        late_ns=end["late_ns"],
    )


def carries_tokens(event: Mapping[str, Any]) -> bool:
    """Whether an event brought text; the role-only one does not."""
    return any(choice["delta"].get("content") for choice in event["choices"])


@dataclass(frozen=True, slots=True)
class Spread:
    """Sizes of errors, whichever way they go."""

    p50: float
    p99: float
    max: float

    def __str__(self) -> str:
        return " / ".join(round_to_two_digits(value) for value in (self.p50, self.p99, self.max))


def spread(errors: Iterable[float]) -> Spread:
    """p50, p99 (nearest rank) and the largest of the errors' sizes; NaN where there are none."""
    sizes = sorted(abs(error) for error in errors)
    if not sizes:
        return Spread(math.nan, math.nan, math.nan)
    p50, p99 = (sizes[math.ceil(len(sizes) * share) - 1] for share in (0.5, 0.99))
    return Spread(p50, p99, sizes[-1])


def round_to_two_digits(value: float) -> str:
    """``0.0213 -> 0.021``, ``623.7 -> 624``."""
    if not math.isfinite(value) or value == 0:
        return "–" if not math.isfinite(value) else "0"
    return f"{value:.{max(0, 1 - math.floor(math.log10(abs(value))))}f}"
