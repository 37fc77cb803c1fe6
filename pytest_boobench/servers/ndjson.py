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
    arrivals = iter(exchange.arrivals)
    came, stamp_ns, lag_ns = wire.Arrival(0, exchange.sent_ns)
    before_ns = stamp_ns
    events = []
    begin = 0
    for line in lines:
        if text := line.strip():
            end = begin + len(line.rstrip())
            while came < end:
                before_ns = stamp_ns
                came, stamp_ns, lag_ns = next(arrivals)
            arrival_ms = (stamp_ns - exchange.sent_ns) / 1e6
            earliest_ms = arrival_ms if came <= end + 1 else (before_ns - exchange.sent_ns) / 1e6
            events.append(wire.Event(text.decode("utf-8", "replace"), "message", arrival_ms, lag_ns / 1e6, earliest_ms))
        begin += len(line) + 1
    return events
