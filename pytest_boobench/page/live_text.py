"""Door 3: a model's text while it comes, from the bytes of an answer that is still under way. No clock reads this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import h11

from pytest_boobench import wire
from pytest_boobench.servers.chunks import load, read_delta
from pytest_boobench.untrusted import Fault, get_list, to_count, to_object


class TextPiece(NamedTuple):
    """Text of one event."""

    text: str
    reasoning: bool
    tokens: int | None
    """Generated so far, if the server says so with each event."""


class LiveText:
    """Decodes an answer that comes in pieces: server-sent events, or Ollama's lines."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=65_536)
        self._http.send(h11.Request(method="POST", target="/", headers=[("Host", "x")]))
        self._http.send(h11.EndOfMessage())
        self._events = wire.SseDecoder()
        self._line = b""
        self._in_lines = False
        self._over = False

    def feed(self, part: bytes) -> list[TextPiece]:
        """The texts that these bytes complete; nothing more after bytes that are no answer."""
        found: list[TextPiece] = []
        if self._over:
            return found
        try:
            self._http.receive_data(part)
            while not isinstance(event := self._http.next_event(), h11.EndOfMessage | h11.ConnectionClosed | type):
                if isinstance(event, h11.Response):
                    kinds = [value for name, value in event.headers if name == b"content-type"]
                    self._in_lines = any(b"ndjson" in value for value in kinds)
                    self._over = event.status_code != 200
                elif isinstance(event, h11.Data) and not self._over:
                    found.extend(self._read(bytes(event.data)))
        except h11.RemoteProtocolError:
            self._over = True  # the reader of the whole answer says what is wrong
        return found

    def _read(self, data: bytes) -> Iterator[TextPiece]:
        if self._in_lines:
            *lines, self._line = (self._line + data).split(b"\n")
            texts = [line.decode("utf-8", "replace") for line in lines]
        else:
            texts = [message.data for message in self._events.feed(data)]
        for text in texts:
            yield from _read_value(load(text))


def _read_value(value: Any) -> Iterator[TextPiece]:
    """The reasoning and the visible text of an OpenAI chunk, or of a line of Ollama's."""
    if not isinstance(value, Mapping):
        return
    tokens = to_count(to_object(value.get("usage")).get("completion_tokens"))
    thought = said = ""
    with suppress(Fault):
        if choices := get_list(value, "choices")[:1]:
            thought, said = read_delta(to_object(choices[0]))
        elif message := to_object(value.get("message")):
            thought, said = (
                text if isinstance(text := message.get(key), str) else "" for key in ("thinking", "content")
            )
    if thought:
        yield TextPiece(thought, True, tokens)
    if said:
        yield TextPiece(said, False, tokens)
