"""Room 2: the only place that touches a socket: requests out, bytes back, each with the kernel's time of arrival.

- ``transport``     one request through all of the modules below; read this first
- ``http_clients``  the client for measured requests, and the httpx client for all others
- ``http1``         a request as bytes; where header and body lie in an answer's bytes, and where it ends
- ``connection``    a fresh TCP connection for each request, with TLS where asked
- ``reader``        the thread that reads all connections, however busy the event loop is
- ``sender``        the thread that writes requests at their planned times
- ``clock``         the kernel's time stamps on the monotonic clock
- ``exchange``      the answer with its arrival times, its server-sent events, and what can go wrong

A failure before the status line raises NoAnswer; after it, ``exchange.failure`` says what cut the answer short. For
asyncio only.
"""

from pytest_boobench.wire.exchange import (
    ERROR,
    OBSERVER,
    Arrival,
    Event,
    Exchange,
    Failure,
    Message,
    NoAnswer,
    Observe,
    SseDecoder,
    events,
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
    "OBSERVER",
    "Arrival",
    "BadAnswer",
    "ControlClient",
    "Event",
    "Exchange",
    "Failure",
    "Message",
    "NoAnswer",
    "Observe",
    "SseDecoder",
    "StreamClient",
    "can_raise_priority",
    "control_client",
    "events",
    "stamp_messages",
    "tls_context",
]
