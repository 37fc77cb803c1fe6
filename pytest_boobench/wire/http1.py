"""Room 2: HTTP/1.1 as bytes, without socket and clock: the request, and where the body lies in the answer."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import h11

from pytest_boobench.wire.exchange import Failure, NoAnswer

MAX_HEAD_BYTES = 65_536
_OURS: Mapping[bytes, bytes] = {
    b"Accept-Encoding": b"identity",  # a compressed stream has no arrival times of its own bytes
    b"Connection": b"close",
}
_ASKED = (h11.Request(method="POST", target="/", headers=[("Host", "x")]), h11.EndOfMessage())
"""Any request: h11 reads no answer before it has sent one."""
_CHUNK_LINE = re.compile(rb"\r?\n([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r?\n")
"""The line with a chunk's size, from the end of the line before it: the header's last line or the last chunk's end."""
_SHORTEST_CHUNK_LINE = len(b"\n0\n")
_BLANK_LINE = re.compile(rb"\n\r?\n")
_EVENT_IN_CHUNK = (b"\n\n\r\n",)
"""The end of an event and of its chunk; the end of the last chunk is CR LF CR LF."""
_ENDLESS = sys.maxsize


def write_head(method: Literal["GET", "POST"], host: bytes, target: bytes, headers: Mapping[str, str]) -> bytes:
    """What all requests to a target have in common: request line and header without type and length of the content.

    NoAnswer for characters that HTTP does not allow; the message does not quote them, since they may be a key.
    """
    lines = [(b"Host", host), *((name.encode(), value.encode()) for name, value in headers.items()), *_OURS.items()]
    try:
        written = h11.Connection(h11.CLIENT).send(h11.Request(method=method, target=target, headers=lines))
    except h11.LocalProtocolError:
        text = f"{host.decode()}: the request's path or headers hold characters that HTTP does not allow"
        raise NoAnswer(Failure("protocol", text)) from None
    return (written or b"").removesuffix(b"\r\n")


def write_request(head: bytes, content: bytes | None = None) -> bytes:
    """A complete request; ``head`` is by `write_head`, ``content`` is JSON."""
    if content is None:
        return head + b"\r\n"
    return b"%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (head, len(content), content)


class HttpAnswer:
    """Follows an answer while it comes, until an error. h11 reads its header; of the body only the framing is read."""

    def __init__(self, max_bytes: int = _ENDLESS) -> None:
        self.max_bytes = max_bytes
        self.head: h11.Response | None = None
        self.head_end = 0
        """The offset where the body begins."""
        self.complete = False
        self.error: str | None = None
        self.goes_on: tuple[bytes, ...] = ()
        """Endings that no complete answer of this framing has: after a read with one, `follow` can wait."""
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        for event in _ASKED:
            self._connection.send(event)
        self._pieces: list[tuple[int, int]] = []
        self._chunked = False
        self._next = 0
        """The offset of what to read next, which may be still to come: header, chunk, or the body's end."""

    def follow(self, data: bytearray) -> bool:
        """Read all bytes so far; whether no more are needed: the answer is complete, or wrong."""
        if self.head is None:
            self._follow_head(data)
        if self.head is not None:
            if self._chunked:
                self._follow_chunks(data)
            else:
                self.complete = len(data) >= self._next
        if not self.complete and self.error is None and len(data) > self.max_bytes:
            self.error = f"the answer is longer than {self.max_bytes} bytes, the limit of this request"
        return self.complete or self.error is not None

    def close(self) -> bool:
        """Note the end of the connection; whether the answer is complete, as one without a length is then."""
        self.complete = self.complete or (self.head is not None and self._next == _ENDLESS)
        return self.complete

    def body(self, data: bytearray) -> bytes:
        """The body as far as it came, without framing."""
        with memoryview(data) as view:
            return b"".join([view[start:end] for start, end in self._pieces])

    def body_lengths(self, lengths: Iterable[int]) -> Iterator[int]:
        """For ascending lengths of the answer so far: the length of the body in it."""
        pieces = iter([*self._pieces, (_ENDLESS, _ENDLESS)])
        start, end = next(pieces)
        before = 0
        for length in lengths:
            while end <= length:
                before += end - start
                start, end = next(pieces)
            yield before + max(length - start, 0)

    def _follow_head(self, data: bytearray) -> None:
        if not data.startswith(b"HTTP/"[: len(data)]):
            self.error = f"the answer is not HTTP, it begins with {bytes(data[:20])!r}"
            return
        try:
            self._connection.receive_data(bytes(data[self._next :]))
            event = self._connection.next_event()
            while isinstance(event, h11.InformationalResponse):  # 100 Continue and its like
                event = self._connection.next_event()
        except h11.RemoteProtocolError as error:
            self.error = _say_wrong(str(error)[:200])
            return
        self._next = len(data)
        if isinstance(event, h11.Response):
            self.head = event
            self.head_end = len(data) - len(self._connection.trailing_data[0])
            self._choose_framing(event)

    def _choose_framing(self, head: h11.Response) -> None:
        headers = dict(head.headers)
        self._next = self.head_end
        if head.status_code in (204, 304):  # without a body
            return
        if b"transfer-encoding" in headers:
            self._chunked = True
            self.goes_on = _EVENT_IN_CHUNK
            self._next -= len(b"\n")
        else:
            length = headers.get(b"content-length")
            self._next = _ENDLESS if length is None else self.head_end + int(length)
            self._pieces.append((self.head_end, self._next))

    def _follow_chunks(self, data: bytearray) -> None:
        while len(data) - self._next >= _SHORTEST_CHUNK_LINE:
            line = _CHUNK_LINE.match(data, self._next)
            if line is None:
                begun = bytes(data[self._next : self._next + MAX_HEAD_BYTES])
                if begun.count(b"\n") > 1 or len(begun) == MAX_HEAD_BYTES:
                    self.error = _say_wrong(f"illegal chunk header: {begun.strip()[:20]!r}")
                return
            start, size = line.end(), int(line[1], 16)
            if size == 0:
                self.complete = _BLANK_LINE.search(data, start - 1) is not None  # after trailers, if any
                return
            self._next = start + size
            self._pieces.append((start, self._next))


def _say_wrong(what: str) -> str:
    return f"the answer is not valid HTTP ({what})"
