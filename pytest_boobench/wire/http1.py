"""Room 2: HTTP/1.1 as bytes, no socket and no clock: a request out, and the answer's reads back as header and body."""

from __future__ import annotations

import re
from collections.abc import Sequence

import h11
import httpx

from pytest_boobench.wire.clock import Read

MAX_HEAD_BYTES = 65_536
_REPLACED = (b"connection", b"accept-encoding")
_OURS = [
    (b"Accept-Encoding", b"identity"),  # a compressed stream has no arrival times of its own bytes
    (b"Connection", b"close"),
]
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_CHUNKED = re.compile(rb"\ntransfer-encoding:[^\r\n]*chunked", re.IGNORECASE)
_CONTENT_LENGTH = re.compile(rb"\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_BODILESS = (b"204", b"304")


def serialize(request: httpx.Request) -> tuple[bytes, Answer]:
    """A request that was read in full as bytes, and what will decode its answer.

    Raises httpx.LocalProtocolError for what HTTP cannot carry, without quoting it: it may be a key.
    """
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    headers = [(name, value) for name, value in request.headers.raw if name.lower() not in _REPLACED]
    try:
        head = h11.Request(method=request.method, target=request.url.raw_path, headers=headers + _OURS)
        parts = [connection.send(head), connection.send(h11.Data(data=request.content))]
        parts.append(connection.send(h11.EndOfMessage()))
    except h11.LocalProtocolError:
        raise httpx.LocalProtocolError(
            f"{request.url.host}: the request's method, path or headers hold characters that HTTP does not allow"
        ) from None
    return b"".join(part for part in parts if part), Answer(connection, bodiless=request.method == "HEAD")


class EndWatch:
    """Says read by read, for next to nothing, whether an answer may be whole. Only h11 says that it is."""

    def __init__(self, *, bodiless: bool) -> None:
        self._bodiless = bodiless
        self._head: bytes | None = b""
        self._missing: int | None = None
        self._chunked = False
        self._tail = b""

    def may_end(self, data: bytes) -> bool:
        """Whether the answer may be whole with these bytes."""
        if self._head is not None:
            return self._see_head(self._head + data)
        if self._missing is not None:
            self._missing -= len(data)
            return self._missing <= 0
        if not self._chunked:
            return False
        # The last chunk ends in one blank line. So do all events that use CRLF, but with a line end after it.
        self._tail = (self._tail + data[-6:])[-6:]
        return self._tail.endswith(b"\r\n\r\n") and self._tail != b"\r\n\r\n\r\n"

    def _see_head(self, head: bytes) -> bool:
        self._head = head
        if not head.startswith(b"HTTP/"[: len(head)]):
            return True
        match = _HEAD_END.search(head)
        if match is None:
            return len(head) > MAX_HEAD_BYTES
        body = head[match.end() :]
        if head[9:10] == b"1":  # 100 Continue and its like: the answer is still to come
            return self._see_head(body)
        self._head = None
        self._choose_rule(head[: match.end()])
        no_rule = self._missing is None and not self._chunked  # better a look now than to wait on what is no header
        return self.may_end(body) or no_rule

    def _choose_rule(self, head: bytes) -> None:
        length = _CONTENT_LENGTH.search(head)
        if self._bodiless or head[9:12] in _BODILESS:
            self._missing = 0
        elif _CHUNKED.search(head):
            self._chunked = True
        elif length:
            self._missing = int(length[1])


class Answer:
    """Decodes an answer and remembers how far the body was after each read. After an error it decodes no more."""

    def __init__(self, connection: h11.Connection, *, bodiless: bool) -> None:
        self.watch = EndWatch(bodiless=bodiless)
        self.head: h11.Response | None = None
        self.head_read = 0
        """Index of the read that brought the header's end."""
        self.body = bytearray()
        self.body_ends: list[int] = []
        """The body's length after each decoded read."""
        self.complete = False
        self.error: str | None = None
        self._connection = connection

    def catch_up(self, reads: Sequence[Read]) -> None:
        """Decodes the reads since the last call; ``reads`` are all of them since the answer began."""
        for read in reads[len(self.body_ends) :]:
            self._receive(read.data)
            self.body_ends.append(len(self.body))

    def close(self) -> bool:
        """Takes the end of the connection: whether it is the answer's too, as where that has no length of its own."""
        self._receive(b"")
        return self.complete

    def _receive(self, data: bytes) -> None:
        if self.complete or self.error is not None:
            return
        try:
            self._connection.receive_data(data)
            while (event := self._connection.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.EndOfMessage):
                    self.complete = True
                    return
                self._take(event)
        except h11.RemoteProtocolError as error:
            self.error = str(error)[:200]

    def _take(self, event: object) -> None:
        if isinstance(event, h11.Response):
            self.head = event
            self.head_read = len(self.body_ends)
        elif isinstance(event, h11.Data):
            self.body += event.data
