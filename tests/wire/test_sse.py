"""Bytes -> server-sent events: the standard's cases, and any cut of any stream."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_boobench.wire.exchange import Message, SseDecoder


def decode(*pieces: bytes) -> list[Message]:
    decoder = SseDecoder()
    messages = [message for piece in pieces for message in decoder.feed(piece)]
    return messages + decoder.close()


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        pytest.param(b"", [], id="nothing"),
        pytest.param(b"data: one\n\ndata: two\n\n", ["one", "two"], id="LF"),
        pytest.param(b"data: one\r\rdata: two\r\r", ["one", "two"], id="CR"),
        pytest.param(b"data: one\r\n\r\ndata: two\r\n\r\n", ["one", "two"], id="CRLF"),
        pytest.param(b"data: one\r\n\ndata: two\n\r", ["one", "two"], id="mixed line ends"),
        pytest.param(b"data:one\n\n", ["one"], id="no space"),
        pytest.param(b"data:  one \n\n", [" one "], id="only the first space goes"),
        pytest.param(b"data: a\ndata:\ndata: b\n\n", ["a\n\nb"], id="lines of data"),
        pytest.param(b"data\n\n", [""], id="field without colon"),
        pytest.param(b'data: {"a": "b:c"}\n\n', ['{"a": "b:c"}'], id="colons in data"),
        pytest.param(b": ping\n\n:\n\ndata: one\n\n: late\n\n", ["one"], id="comments"),
        pytest.param(b"id: 7\nretry: 10\nnonsense: x\ndata: one\n\n", ["one"], id="other fields"),
        pytest.param(b" data: one\n\n", [], id="a space makes another field"),
        pytest.param(b"event: empty\n\n\n\ndata: one\n\n", ["one"], id="event without data"),
        pytest.param(b"\xef\xbb\xbfdata: one\n\n", ["one"], id="BOM at the start"),
        pytest.param(b"data: one\n\n\xef\xbb\xbfdata: two\n\n", ["one"], id="BOM elsewhere"),
        pytest.param("data: wörld ☃ \u2028\x85\n\n".encode(), ["wörld ☃ \u2028\x85"], id="UTF-8, no other line ends"),
        pytest.param(b"data: \xff\n\n", ["\ufffd"], id="not UTF-8"),
        pytest.param(b"data: one\n\ndata: [DONE]\n", ["one", "[DONE]"], id="end without blank line"),
        pytest.param(b"data: one\n\ndata: [DONE]", ["one", "[DONE]"], id="end without line end"),
    ],
)
def test_decodes(stream: bytes, expected: list[str]) -> None:
    assert [message.data for message in decode(stream)] == expected


def test_names_the_type_of_each_event() -> None:
    messages = decode(b"event: first\ndata: 1\n\ndata: 2\n\nevent:\ndata: 3\n\n")
    assert [message.event for message in messages] == ["first", "message", "message"]


def test_delivers_an_event_with_its_blank_line_and_not_before() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: one\n") == []
    assert decoder.feed(b"\n") == [Message("one", "message", 9)]
    assert decoder.feed(b"data: two\r") == []
    assert decoder.feed(b"\r") == [Message("two", "message", 20)]
    assert decoder.feed(b"\n") == []
    assert decoder.close() == []


LINE_ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=8)
FIELDS = st.sampled_from(
    [b"data: ", b"data:", b"data", b"event: ", b"id: ", b"retry: ", b": ", b":", b"", b"\xef\xbb\xbf"]
)
LINES = st.tuples(FIELDS, TEXTS.map(str.encode), LINE_ENDS).map(b"".join)
STREAMS = st.lists(st.one_of(LINES, LINE_ENDS, st.binary(max_size=4)), max_size=20).map(b"".join)


@settings(deadline=None, database=None)
@given(stream=STREAMS, data=st.data())
def test_any_cut_gives_the_same_events(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    whole = decode(stream)
    assert decode(*pieces) == whole
    assert decode(*(bytes([byte]) for byte in stream)) == whole


@settings(deadline=None, database=None)
@given(events=st.lists(st.lists(TEXTS, min_size=1, max_size=3), max_size=5), line_end=LINE_ENDS)
def test_gives_back_what_was_sent_and_where_its_data_ended(events: list[list[str]], line_end: bytes) -> None:
    stream, ends = b"", []
    for lines in events:
        stream += line_end.join(b"data: " + line.encode() for line in lines)
        ends.append(len(stream))
        stream += 2 * line_end
    messages = decode(stream)
    assert [message.data for message in messages] == ["\n".join(lines) for lines in events]
    assert [message.end for message in messages] == ends
