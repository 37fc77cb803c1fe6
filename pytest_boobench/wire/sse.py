"""Room 2: bytes -> server-sent events, as https://html.spec.whatwg.org/multipage/server-sent-events.html has it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

_BOM = b"\xef\xbb\xbf"
ERROR = "error"
"""The type of an event that says what went wrong."""


class Message(NamedTuple):
    """One server-sent event. Its data's lines are joined by LF; comments, ids and retry times are dropped."""

    data: str
    event: str
    """The event's type, ``message`` where the server names none."""
    end: int
    """Offset in the stream one past the last byte of its last data line, the line's end not counted.

    That is where the data was there: some servers send the blank line that closes an event only with the next one.
    """


class SseDecoder:
    """Decodes a stream that comes in pieces. Lines end in LF, CR or CRLF; bytes that are no text are replaced."""

    def __init__(self) -> None:
        self._rest = b""
        self._offset = 0
        self._after_cr = False
        self._data: bytes | None = None
        self._event = b""
        self._end = 0

    def feed(self, piece: bytes) -> list[Message]:
        """The events that this piece completes, in order."""
        if self._after_cr and piece:
            self._after_cr = False
            if piece.startswith(b"\n"):
                self._offset += 1
                piece = piece[1:]
        lines = (self._rest + piece).splitlines(keepends=True)
        self._rest = lines.pop() if lines and not lines[-1].endswith((b"\n", b"\r")) else b""
        self._after_cr = self._after_cr or (not self._rest and bool(lines) and lines[-1].endswith(b"\r"))
        return self._take(lines)

    def close(self) -> list[Message]:
        """The last event where the stream ended without the blank line after it.

        The standard drops it; servers that end right after ``data: [DONE]`` exist.
        """
        lines, self._rest = (self._rest, b"\n"), b""
        return self._take(lines)

    def _take(self, lines: Iterable[bytes]) -> list[Message]:
        """One loop and few calls: a stream has two lines per token."""
        messages = []
        offset, data = self._offset, self._data
        for line in lines:
            content = line.rstrip(b"\r\n")
            end = offset + len(content)
            if offset == 0:
                content = content.removeprefix(_BOM)
            offset += len(line)
            if not content:
                if data is not None:
                    event = self._event.decode("utf-8", "replace") if self._event else "message"
                    messages.append(Message(data.decode("utf-8", "replace"), event, self._end))
                data, self._event = None, b""
            elif content.startswith(b"data:") or content == b"data":
                value = content[5:].removeprefix(b" ")
                data = value if data is None else b"%b\n%b" % (data, value)
                self._end = end
            elif content.startswith(b"event:"):
                self._event = content[6:].removeprefix(b" ")
            elif content.startswith(b"error:"):  # no field of the standard's: old llama-servers end so
                messages.append(Message(content[6:].strip().decode("utf-8", "replace"), ERROR, end))
        self._offset, self._data = offset, data
        return messages
