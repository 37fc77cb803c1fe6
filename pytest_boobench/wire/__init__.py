"""Room 2: the socket. Requests out, bytes back with the kernel's clock on them; the only place that touches a socket.

In the order one request walks:

- ``clients``     where callers come in: one client for requests that are measured, one for all others
- ``control``     the one for all others: whole answers within a time, or none
- ``transport``   one request through all of the below; read this first
- ``http1``       the request as bytes; where header and body lie in the answer's, and where it ends
- ``connection``  a fresh TCP connection, written with the clock in hand; ``tls`` is its cipher where asked
- ``reader``      the thread that reads all connections, whatever the event loop is busy with
- ``inbox``       bytes and stamps of one answer while it runs, and nothing else
- ``clock``       the kernel's stamps on the monotonic clock
- ``exchange``    what came of it: arrival times of every byte; server-sent events with theirs
- ``sse``         bytes -> server-sent events
- ``failures``    what can go wrong, as the sample names it

Once the status line came nothing is raised: ``exchange.failure`` says what cut the answer short. Before it, NoAnswer
is raised. asyncio only.
"""

from pytest_boobench.wire.exchange import (
    ERROR,
    Arrival,
    Event,
    Exchange,
    Failure,
    Message,
    NoAnswer,
    SseDecoder,
    events,
    failure_of,
    stamp_messages,
)
from pytest_boobench.wire.http_clients import (
    MOST_BYTES,
    BadAnswer,
    ControlClient,
    StreamClient,
    control_client,
    tls_context,
)
from pytest_boobench.wire.reader import can_raise_priority

__all__ = [
    "ERROR",
    "MOST_BYTES",
    "Arrival",
    "BadAnswer",
    "ControlClient",
    "Event",
    "Exchange",
    "Failure",
    "Message",
    "NoAnswer",
    "SseDecoder",
    "StreamClient",
    "can_raise_priority",
    "control_client",
    "events",
    "failure_of",
    "stamp_messages",
    "tls_context",
]
