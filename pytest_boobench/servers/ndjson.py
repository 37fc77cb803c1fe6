"""Room 2, far side: newline-delimited JSON, each line with the time of its arrival."""

from __future__ import annotations

from pytest_boobench import wire


def read_lines(exchange: wire.Exchange) -> list[wire.Event]:
    """The lines of an answer that are not blank, in order; a line was there when the last byte before its end was.

    A last line without an end counts where the answer is whole, and is dropped where it was cut short.
    """
    lines = exchange.body.split(b"\n")
    rest = lines.pop()
    if exchange.complete:
        lines.append(rest)
    messages = []
    begin = 0
    for line in lines:
        if text := line.strip():
            messages.append(wire.Message(text.decode("utf-8", "replace"), "message", begin + len(line.rstrip())))
        begin += len(line) + 1
    return wire.stamp_messages(exchange, messages, line_ends=len("\n"))
