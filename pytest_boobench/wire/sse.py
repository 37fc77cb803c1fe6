"""Room 2: bytes -> server-sent events, as https://html.spec.whatwg.org/multipage/server-sent-events.html has it."""

from __future__ import annotations

from dataclasses import dataclass

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Message:
    """One server-sent event. Its data's lines are joined by LF; comments, ids and retry times are dropped."""

    data: str
    event: str
    """The event's type, ``message`` where the server names none."""
    end: int
    """Offset in the stream one past the last byte of its last data line, the line's end not counted.

    That is where the data was there: some servers send the blank line that closes an event only with the next one.
    """


class SseDecoder:
    """Decodes a stream that comes in any pieces. Lines end in LF, CR or CRLF; text is UTF-8, bad bytes replaced."""

    def __init__(self) -> None:
        self._rest = b""
        self._offset = 0
        self._after_cr = False
        self._forget()

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
        return [message for line in lines if (message := self._take(line)) is not None]

    def close(self) -> list[Message]:
        """The last event where the stream ended without the blank line after it.

        The standard drops it; servers that end right after ``data: [DONE]`` exist.
        """
        lines, self._rest = (self._rest, b"\n"), b""
        return [message for line in lines if (message := self._take(line)) is not None]

    def _take(self, line: bytes) -> Message | None:
        content = line.rstrip(b"\r\n")
        end = self._offset + len(content)
        if self._offset == 0:
            content = content.removeprefix(_BOM)
        self._offset += len(line)
        if not content:
            return self._finish()
        name, _, value = content.partition(b":")
        text = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(text.decode("utf-8", "replace"))
            self._end = end
        elif name == b"event":
            self._event = text.decode("utf-8", "replace")
        return None

    def _finish(self) -> Message | None:
        message = Message("\n".join(self._data), self._event or "message", self._end) if self._data else None
        self._forget()
        return message

    def _forget(self) -> None:
        self._data: list[str] = []
        self._event = ""
        self._end = 0
