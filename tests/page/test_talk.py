"""Exchanges: the number on the page is the one that a sample would hold; comparisons, votes, texts that are hostile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pytest_boobench import suite, wire
from pytest_boobench.metrics import Sample
from pytest_boobench.page import talk
from pytest_boobench.page.api_schema import schema
from pytest_boobench.page.hand_over import fill_arena, write_suite
from pytest_boobench.page.live_text import LiveText, TextPiece
from pytest_boobench.page.repeats import find_differences
from pytest_boobench.page.tallies import count_votes, find_wilson
from pytest_boobench.record import Vote
from tests.fault_server import FaultServer, Peer
from tests.page.serving import ServedPage, serve

SAID = [{"role": "user", "content": "hello"}]
HOSTILE = "<script>alert(1)</script>\x1b[2J"


def test_an_exchange_and_its_sample(page: ServedPage, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    monkeypatch.setattr(talk, "read_sample", lambda *args: read.append(READ(*args)) or read[-1])
    body = {"host": "llama", "model": "tiny-chat", "messages": SAID, "max_tokens": 24, "sampling": {"seed": 7}}
    events = list(page.stream("POST", "/api/try", body))
    assert [events[0][0], events[-1][0]] == ["start", "done"]
    text = "".join(data["text"] for kind, data, _ in events if kind == "delta")
    assert len(text) == 24, "the tiny model says a letter a token"
    (sample,) = read
    shown = events[-1][1]["sample"]
    assert sample.ok
    assert shown == json.loads(json.dumps({name: getattr(sample, name) for name in shown}))
    assert shown["clock"] == "kernel"
    assert shown["output_tokens"] == 24
    at_ms = [data["at_ms"] for kind, data, _ in events if kind == "delta"]
    assert at_ms == sorted(at_ms)
    require_events("/api/try", events)
    unknown = list(page.stream("POST", "/api/try", {**body, "model": "nothing"}))
    assert unknown[-1][0] == "failed"
    dead = list(page.stream("POST", "/api/try", {**body, "host": "dead"}))
    assert dead[-1][0] == "failed"


READ = talk.read_sample


def require_events(path: str, events: Sequence[tuple[str, Any, str]]) -> None:
    """Every event is one of the path's kinds, as the API's schema says, and has no other field."""
    whole = schema()
    kinds = whole["paths"][path]["post"]["events"]
    for kind, data, _ in events:
        jsonschema.validate(data, {**kinds[kind], "$defs": whole["$defs"]})
        assert set(data) <= set(whole["$defs"][kinds[kind]["$ref"].rpartition("/")[2]]["properties"])


def test_blind_sides_are_named_where_one_gives_no_answer(page: ServedPage) -> None:
    sides = [{"host": "llama", "model": "tiny-chat"}, {"host": "llama", "model": "nothing"}]
    events = list(page.stream("POST", "/api/ab", {"sides": sides, "messages": SAID, "max_tokens": 2, "blind": True}))
    require_events("/api/ab", events)
    assert [kind for kind, _, _ in events[-2:]] == ["named", "named"]
    assert sorted(data["model"] for _, data, _ in events[-2:]) == ["nothing", "tiny-chat"]
    said = page.post(f"/api/ab/{events[0][1]['exchange']}/vote", {"vote": "a"}, 409)
    assert said["error"]["message"] == "vote: expected the answers of all sides first"


def test_a_measurement_has_no_observer() -> None:
    assert wire.OBSERVER.get() is None


def test_a_blind_comparison_its_vote_and_its_export(page: ServedPage) -> None:
    sides = [{"host": "llama", "model": "tiny-chat"}, {"host": "llama", "model": "tiny-embed"}]
    body = {"sides": sides, "messages": SAID, "max_tokens": 4}
    refused = page.post("/api/ab", {**body, "mode": "together"}, 409)
    assert refused["shared"] == ["this machine"]
    assert page.get("/api/votes") == {"tallies": []}
    events = list(page.stream("POST", "/api/ab", {**body, "blind": True}))
    assert [data["side"] for kind, data, _ in events if kind in ("start", "done")] == [0, 0, 1, 1]
    require_events("/api/ab", events)
    assert "tiny" not in json.dumps(events)
    assert len({data["seed"] for _, data, _ in events}) == 1
    exchange = events[0][1]["exchange"]
    assert page.client.get(f"/api/ab/{exchange}/export").status_code == 409
    page.post(f"/api/ab/{exchange}/vote", {"vote": "c"}, 422)
    voted = page.post(f"/api/ab/{exchange}/vote", {"vote": "a"})
    assert sorted(voted["sides"], key=lambda side: str(side["model"])) == sides
    winner = f"llama::{voted['sides'][0]['model']}"
    tally = voted["tally"]
    assert tally["n"] == 1
    assert tally["a_wins" if tally["a"] == winner else "b_wins"] == 1
    page.post(f"/api/ab/{exchange}/vote", {"vote": "b"}, 409)
    assert page.get("/api/votes")["tallies"] == [tally]
    exported = page.get(f"/api/ab/{exchange}/export")
    jsonschema.validate(exported, {"$ref": "#/$defs/ExportAnswer", "$defs": schema()["$defs"]})
    assert exported["arena_url"].startswith("https://arena.example/?models=tiny-")
    assert all(side["text"] for side in exported["sides"])
    with page.server.desk.write_store() as store:
        (kept,) = store.votes()
    assert kept.blind
    assert "hello" not in repr(kept)


def test_a_comparison_that_is_repeated_has_an_interval(page: ServedPage) -> None:
    sides = [{"host": "llama", "model": "tiny-chat"}] * 2
    body = {"sides": sides, "messages": SAID, "max_tokens": 8, "blind": True}
    *_, (_, told, _) = page.stream("POST", "/api/ab", body)
    exchange = told["exchange"]
    path = f"/api/ab/{exchange}/repeat"
    assert page.post(path, {}, 409)["error"]["message"] == "the sides are blind until the vote"
    page.post(f"/api/ab/{exchange}/vote", {"vote": "tie"})
    page.post(path, {"times": 0}, 422)
    events = list(page.stream("POST", path, {"times": 8}))
    require_events("/api/ab/{id}/repeat", events)
    assert [(data["done"], data["of"]) for kind, data, _ in events if kind == "repeated"] == [
        (n, 8) for n in range(1, 9)
    ]
    assert {one["low"] for one in events[-1][1]["differences"]} == {None}
    (more,) = [data for kind, data, _ in page.stream("POST", path, {"times": 1}) if kind == "repeated"]
    found = {one["metric"]: one for one in more["differences"]}
    assert set(found) == {"ttft_ms", "decode_tok_s"}
    for one in found.values():
        assert (one["side"], one["pairs"]) == (1, 9)
        assert one["low"] <= one["change"] <= one["high"]
        assert one["low"] < 0 < one["high"], "both sides are the same server"
    *_, (_, told, _) = page.stream("POST", "/api/try", {**sides[0], "messages": SAID, "max_tokens": 2})
    assert (
        page.post(f"/api/ab/{told['exchange']}/repeat", {}, 409)["error"]["message"] == "only a comparison is repeated"
    )


def test_differences_are_those_of_pairs() -> None:
    """A side that decodes a tenth slower in every round, whatever the round."""
    paces = [100.0, 50.0, 200.0, 90.0, 110.0, 130.0, 70.0, 100.0, 95.0]
    rounds = [
        (replace(PLAIN, decode_tok_s=pace, ttft_ms=None), replace(PLAIN, decode_tok_s=0.9 * pace, ttft_ms=5.0))
        for pace in paces
    ]
    (found,) = find_differences(rounds)
    assert (found.metric, found.side, found.pairs, found.first) == ("decode_tok_s", 1, 9, 100.0)
    assert [found.change, found.low, found.high] == pytest.approx([-0.1] * 3)
    (few,) = find_differences(rounds[:8])
    assert (few.low, few.high) == (None, None)
    assert find_differences([]) == ()


PLAIN = Sample(phase="measure", lane=0, index=0, started_at=0.0, offset_ms=0.0)


def test_at_once_anyway(page: ServedPage) -> None:
    sides = [{"host": "llama", "model": "tiny-chat"}] * 2
    body = {"sides": sides, "messages": SAID, "max_tokens": 4, "mode": "together", "anyway": True}
    events = list(page.stream("POST", "/api/ab", body))
    assert sorted(data["side"] for kind, data, _ in events if kind == "done") == [0, 1]


async def _hostile(peer: Peer) -> None:
    await peer.head()
    await peer.delta(reasoning_content="<b>")
    await peer.delta(content=HOSTILE)
    await peer.finish(2)


async def _list(peer: Peer) -> None:
    await peer.answer("200 OK", {"data": [{"id": "hostile"}, {"id": "endless"}]})


async def _none(peer: Peer) -> None:
    await peer.answer("404 Not Found", {})


async def _endless(peer: Peer) -> None:
    await peer.head()
    for _ in range(2000):
        await peer.delta(content="a")
        await asyncio.sleep(0.01)


def test_a_hostile_answer_is_text_and_a_stopped_one_ends(folder: Path) -> None:
    scenarios = {"hostile": _hostile, "endless": _endless, "models": _list, "props": _none}
    with FaultServer(scenarios) as faulty:
        (folder / "boobench.hosts.yaml").write_text(
            f"hosts:\n  bad: {{server: openai, url: '{faulty.url}', shared: false}}\n"
        )
        with serve(folder) as page:
            body = {"host": "bad", "model": "hostile", "messages": SAID, "max_tokens": 4}
            events = list(page.stream("POST", "/api/try", body))
            said = [(data["text"], data["reasoning"]) for kind, data, _ in events if kind == "delta"]
            assert said == [("<b>", True), (HOSTILE, False)]
            kinds = []
            for kind, data, _ in page.stream("POST", "/api/try", {**body, "model": "endless", "max_tokens": 4096}):
                kinds.append(kind)
                if kind == "start":
                    page.post(f"/api/try/{data['exchange']}/stop", {})
            assert kinds[-1] == "failed"


def test_live_text_in_pieces_of_any_size() -> None:
    events = [{"reasoning_content": "r"}, {"content": "ä"}]
    lines = [json.dumps({"choices": [{"delta": delta}]}, ensure_ascii=False) for delta in events]
    body = "".join(f"data: {line}\n\n" for line in lines).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    for size in (1, 7, len(answer)):
        text = LiveText()
        found = [piece for at in range(0, len(answer), size) for piece in text.feed(answer[at : at + size])]
        assert found == [TextPiece("r", True, None), TextPiece("ä", False, None)]
    assert LiveText().feed(b"nonsense") == []
    line = b'{"message":{"content":"hi"}}\n'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n" % len(line)
    assert LiveText().feed(head + line) == [TextPiece("hi", False, None)]


def test_a_suite_of_an_exchange_is_one(tmp_path: Path) -> None:
    path = tmp_path / "tried.boobench.yaml"
    path.write_text(write_suite("embedded", "tiny-chat", 14, 30, {"temperature": 0.5}))
    (cell,) = suite.load(path, display="tried", known_hosts=("embedded",)).cells
    assert (cell.prompt_tokens, cell.output_tokens, cell.length, cell.sampling) == (
        14,
        30,
        "natural",
        {"temperature": 0.5},
    )


def test_the_link_quotes_everything() -> None:
    filled = fill_arena("https://a.example/?m={a},{b}&q={prompt}", "x/y", "{prompt}", "a&b=#c {a}")
    assert filled is not None
    assert filled.endswith("q=a%26b%3D%23c%20%7Ba%7D")
    assert fill_arena(None, "a", "b", "c") is None


def test_votes_are_counted_for_each_pair() -> None:
    names = ("x", "y", "z")

    def vote(word: Any, *order: str) -> Vote:
        sides = tuple({"host": "h", "model": name} for name in order)
        return Vote(voted_at=0.0, prompt_sha256="", sides=sides, vote=word)

    votes = [vote("a", "x", "y"), vote("b", "x", "y"), vote("a", "y", "x"), vote("tie", "x", "y"), vote("c", *names)]
    tallies = {(one.a, one.b): one for one in count_votes(votes)}
    xy = tallies["h::x", "h::y"]
    assert (xy.a_wins, xy.b_wins, xy.ties, xy.both_bad, xy.n) == (1, 2, 1, 0, 4)
    assert (tallies["h::x", "h::z"].b_wins, tallies["h::y", "h::z"].b_wins) == (1, 1)


def test_wilson() -> None:
    assert find_wilson(0, 0) == (None, None)
    assert find_wilson(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)  # 0.490, 0.943 in the literature
    low, high = find_wilson(0, 5)
    assert low == pytest.approx(0.0, abs=1e-12)
    assert high is not None
    assert high < 0.5
