"""The truth server: keeps a stream's schedule and writes into each event when it was sent, by its own monotonic clock.

    python -m tests.benchmarks.truth [--port 8080] [--ttft-ms 50] [--gap-ms 10] [--tokens 64]

The first line that it prints is its URL. ``POST /v1/chat/completions`` streams; fields of the body named like those of
``Schedule`` override the command line's. ``GET /requests`` tells, and forgets, what it did for each request.
One thread, one selector, one heap of what is due; what can be made beforehand is.
"""

from __future__ import annotations

import argparse
import gc
import heapq
import itertools
import json
import select
import selectors
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from pytest_boobench.wire.clock import ANCILLARY_BYTES, Ancillary, ask_for_kernel_stamps, kernel_ns, wall_offset_ns
from tests.benchmarks.schedule import HEAD, Schedule, Script, read_schedule, usage, write_script

_READ_BYTES = 262_144
_IDLE_S = 5.0
_RETRY_NS = 1_000_000
_MODELS = {"object": "list", "data": [{"id": "truth", "object": "model", "owned_by": "pytest-boobench"}]}


@dataclass(frozen=True, slots=True)
class Told:
    """What the server did for one request; monotonic clock, nanoseconds."""

    asked_ns: int
    """When the request's last byte was there: the kernel's stamp where it gives one."""
    read_ns: int
    """When Python had it."""
    first_ns: int
    """Right before the first event was sent."""
    end_ns: int
    """Right before the end was sent."""
    late_ns: int
    """The furthest that an event was behind its schedule."""


class Stream:
    """One connection: collects a request, then sends a script."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.heard = b""
        self.backlog = b""
        """What the socket did not take."""
        self.step = 0
        self.script = Script((), (), b"")
        self.asked_ns = self.read_ns = self.first_ns = self.late_ns = 0


class TruthServer:
    """Serves a listening socket until ``parent``, where given, closes its end."""

    def __init__(self, listener: socket.socket, default: Schedule, parent: Any = None) -> None:
        self._default = default
        self._told: list[Told] = []
        self._due: list[tuple[int, int, Stream]] = []
        self._numbers = itertools.count()  # ties in the heap are served in the order they came
        self._selector = selectors.DefaultSelector()
        self._listener = listener
        ask_for_kernel_stamps(listener)  # what it accepts inherits the option
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, None)
        self._parent = parent
        if parent is not None:
            self._selector.register(parent, selectors.EVENT_READ, parent)

    def serve(self) -> None:
        """Runs until the parent is gone."""
        while True:
            self._wait()
            for key, _ in self._selector.select(0):
                if key.data is None:
                    self._accept()
                elif key.data is self._parent:
                    return
                else:
                    self._read(key.data)
            self._send_due()

    def _wait(self) -> None:
        """Until something is due or can be read. Not by the selector's own time-out: that counts in whole ms."""
        wait_s = (self._due[0][0] - time.monotonic_ns()) / 1e9 if self._due else _IDLE_S
        if wait_s > 0:
            select.select((self._selector.fileno(),), (), (), wait_s)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(sock, selectors.EVENT_READ, Stream(sock))

    def _read(self, stream: Stream) -> None:
        try:
            data, ancillary, _, _ = stream.sock.recvmsg(_READ_BYTES, ANCILLARY_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        if not data:
            self._drop(stream)
            return
        stream.heard += data
        head, found, body = stream.heard.partition(b"\r\n\r\n")
        if found and len(body) >= _content_length(head):
            stream.heard = b""
            stream.read_ns = time.monotonic_ns()
            stream.asked_ns = _arrival_ns(ancillary, stream.read_ns)
            self._answer(stream, head.split(b" ", 2)[1].decode(), json.loads(body) if body else {})

    def _answer(self, stream: Stream, path: str, body: Mapping[str, Any]) -> None:
        if body.get("stream"):
            self._write(stream, HEAD)
            schedule = read_schedule(body, self._default)
            stream.script = write_script(schedule, _count_prompt_tokens(body))
            stream.step = stream.late_ns = 0
            self._put(stream, stream.asked_ns + stream.script.due_ns[0])
        elif body:
            self._write(stream, _json_answer(_whole_answer(read_schedule(body, self._default), body)))
        elif path == "/requests":
            told, self._told = self._told, []
            self._write(stream, _json_answer([asdict(one) for one in told]))
        else:
            self._write(stream, _json_answer(_MODELS))

    def _put(self, stream: Stream, due_ns: int) -> None:
        heapq.heappush(self._due, (due_ns, next(self._numbers), stream))

    def _send_due(self) -> None:
        """Everything that is due by now, and no more: requests that come in meanwhile are not kept waiting."""
        now_ns = time.monotonic_ns()
        while self._due and self._due[0][0] <= now_ns:
            due_ns, _, stream = heapq.heappop(self._due)
            if stream.backlog and not self._write(stream, b""):
                self._put(stream, now_ns + _RETRY_NS)
            elif stream.step < len(stream.script.events):
                self._send_event(stream, due_ns)
            else:
                self._send_end(stream)

    def _send_event(self, stream: Stream, due_ns: int) -> None:
        script, step = stream.script, stream.step
        sent_ns = time.monotonic_ns()
        self._write(stream, script.events[step] % sent_ns)
        stream.late_ns = max(stream.late_ns, sent_ns - due_ns)
        if step == 0:
            stream.first_ns = sent_ns
        stream.step = step + 1
        if stream.step < len(script.events):
            self._put(stream, stream.asked_ns + script.due_ns[stream.step])
        else:
            self._put(stream, due_ns)  # the end follows its last token at once

    def _send_end(self, stream: Stream) -> None:
        sent_ns = time.monotonic_ns()
        self._write(stream, stream.script.end % (sent_ns, stream.asked_ns, stream.read_ns, stream.late_ns))
        self._told.append(Told(stream.asked_ns, stream.read_ns, stream.first_ns, sent_ns, stream.late_ns))

    def _write(self, stream: Stream, data: bytes) -> bool:
        """Whether the socket took all of it; what it did not is kept for the next time."""
        data = stream.backlog + data if stream.backlog else data
        try:
            sent = stream.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:  # the client left; its events go nowhere until the selector says so
            sent = len(data)
        stream.backlog = data[sent:]
        return not stream.backlog

    def _drop(self, stream: Stream) -> None:
        self._selector.unregister(stream.sock)
        stream.sock.close()
        self._due = [entry for entry in self._due if entry[2] is not stream]
        heapq.heapify(self._due)


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


def _arrival_ns(ancillary: Ancillary, read_ns: int) -> int:
    wall_ns = kernel_ns(ancillary)
    return read_ns if wall_ns is None else wall_ns - wall_offset_ns()


def _count_prompt_tokens(body: Mapping[str, Any]) -> int:
    """One per character, as the embedded host's models count; a content in parts counts as their text."""
    contents = [message.get("content") for message in body.get("messages", ())]
    texts = ["".join(part.get("text", "") for part in one) if isinstance(one, list) else str(one) for one in contents]
    return sum(map(len, texts))


def _whole_answer(schedule: Schedule, body: Mapping[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": "x" * schedule.tokens}
    choice = {"index": 0, "message": message, "finish_reason": "length"}
    counts = usage(_count_prompt_tokens(body), schedule.tokens)
    return {"id": "chatcmpl-truth", "object": "chat.completion", "model": "truth", "choices": [choice], "usage": counts}


def _json_answer(value: object) -> bytes:
    text = json.dumps(value).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.truth", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input is closed")
    for field in fields(Schedule):
        kind = int if field.name.startswith("tokens") else float
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    options = parser.parse_args()
    default = Schedule(**{field.name: getattr(options, field.name) for field in fields(Schedule)})
    with socket.create_server(("127.0.0.1", options.port), backlog=4096) as listener:
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        gc.disable()  # a collection would be late for everybody; there are no cycles here
        TruthServer(listener, default, sys.stdin if options.with_parent else None).serve()


if __name__ == "__main__":
    main()
