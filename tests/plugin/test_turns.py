"""Conversations through whole sessions: a server whose cache is known, and the embedded one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests import kinds_stand_in as kinds
from tests.conftest import BenchFolder
from tests.fault_server import Peer
from tests.kinds_stand_in import KindServer
from tests.plugin.test_session import query
from tests.talking_server import Talking

GRID = {"prompt_tokens": 600, "output_tokens": 4}
TURNS: dict[str, Any] = {"grid": GRID, "turns": 4, "turn_tokens": 40, "samples": 12, "max_samples": 12, "warmup_max": 1}


def talk_to(bench: BenchFolder, talking: Talking, *options: str, **suite: Any) -> dict[str, Any]:
    """The JSON report's only cell, after a session on a scripted server."""
    kind = "llama-server" if talking.timings else "openai"
    with KindServer(talking) as server:
        bench.write_hosts(talking={"server": kind, "url": server.url, "shared": False})
        bench.write_suite(hosts=["talking"], models=["m"], **{**TURNS, **suite})
        bench.run("--boobench-json", "out.json", *options)
    (cell,) = json.loads((bench.path / "out.json").read_text())["cells"]
    return dict(cell)


def medians_of(cell: dict[str, Any], key: str) -> list[float | None]:
    return [cell["aggregates"].get(f"{key}.turn[{turn}]", {}).get("median") for turn in (1, 2, 3, 4)]


def test_each_turn_has_what_was_said_and_its_own_numbers(bench: BenchFolder) -> None:
    talking = Talking()
    cell = talk_to(bench, talking)
    assert cell["error"] is None
    assert cell["cache_break"] is None
    lengths = [600, 644, 688, 732]
    measured = talking.requests[-12:]
    assert [sum(len(one["content"]) for one in body["messages"]) for body in measured] == lengths * 3
    assert [body["cache_prompt"] for body in measured] == [False, True, True, True] * 3
    assert [one["content"] for one in measured[3]["messages"][1::2]] == ["aaaa"] * 3
    shares = [share for share in medians_of(cell, "cached_share") if share is not None]
    assert shares == pytest.approx([604 / 644, 648 / 688, 692 / 732])
    first, *later = medians_of(cell, "ttft_ms")
    assert first is not None
    assert all(time_ms is not None and time_ms < first / 2 for time_ms in later)
    assert [verdict["metric"] for verdict in cell["verdicts"]] == ["decode_tok_s", "ttft_ms.turn[4]"]
    assert query(bench, "SELECT DISTINCT turn FROM bench_samples ORDER BY turn") == [(0,), (1,), (2,), (3,), (4,)]
    assert query(bench, "SELECT turns, turn_tokens, think_time_s FROM bench_cells") == [(4, 40, None)]


def test_a_cache_that_breaks_is_named_wherever_the_cell_is_shown(bench: BenchFolder) -> None:
    gate = {"ttft_ms.turn[last]": "5 x turn[2]", "ttft_ms.turn[3]": "5 x turn[2]"}
    options = ("--boobench-summary", "out.md", "--boobench-report", "out.html", "--junit-xml", "out.xml")
    cell = talk_to(bench, Talking(breaks_at=(3,), token_s=0.0005), *options, gate=gate, policy="literal")
    said = "the prefix cache breaks at turn 3: 20 of 688 tokens were cached, turn 2 had 604 of 644; TTFT rose from "
    assert cell["cache_break"].startswith(said)
    last, third = cell["verdicts"]
    assert (last["outcome"], third["outcome"]) == ("pass", "regression"), third["sentence"]
    assert said in third["sentence"]
    assert said in cell["failure"]
    for file in ("out.md", "out.xml", "out.html"):
        assert said in (bench.path / file).read_text(encoding="utf-8"), file
    assert query(bench, "SELECT cache_break FROM bench_cells")[0][0].startswith(said)


def test_a_template_that_drops_the_history_is_no_conversation(bench: BenchFolder) -> None:
    cell = talk_to(bench, Talking(forgets=True))
    assert cell["error"] == (
        "talking: prompt-length: the server counted 40 tokens in turn 2, the conversation has 642 (within 67): its "
        "chat template, its context or a proxy leaves out what was said before"
    )


def test_reasoning_is_not_sent_back(bench: BenchFolder) -> None:
    """So its tokens are no longer in the prompt, and the cache holds only what came before them."""
    talking = Talking(thinks=True)
    cell = talk_to(bench, talking)
    assert cell["error"] is None
    assert [one["content"] for one in talking.requests[-1]["messages"][1::2]] == ["aa"] * 3


def test_what_a_server_does_not_count_is_blank(bench: BenchFolder) -> None:
    cell = talk_to(bench, Talking(counts_cached=False))
    assert cell["error"] is None
    assert medians_of(cell, "cached_share") == [None] * 4
    first, *later = medians_of(cell, "prefill_tok_s")
    assert first is not None
    assert later == [None] * 3
    assert None not in medians_of(cell, "ttft_ms")


class TalkingVllm(kinds.Vllm):
    """Keeps the newest prompt of each salt in blocks of 16 tokens."""

    def __init__(self) -> None:
        super().__init__(("m",))
        self.kept: dict[str, str] = {}

    async def _tokenize(self, peer: Peer, fields: dict[str, Any]) -> None:
        text = _join(fields) if "messages" in fields else fields["prompt"]
        await peer.answer("200 OK", {"count": len(text), "max_model_len": 8192, "tokens": [*map(ord, text)]})

    async def _complete(self, peer: Peer, fields: dict[str, Any]) -> None:
        text, salt = _join(fields), fields["cache_salt"]
        before = self.kept.get(salt, "")
        self.kept[salt] = text + "a" * fields["min_tokens"]
        known = len(before) // 16 * 16 if text.startswith(before) else 0
        usage = {"prompt_tokens": len(text), "prompt_tokens_details": {"cached_tokens": known}}
        await kinds.stream_openai(
            peer, True, fields["min_tokens"], {**usage, "completion_tokens": fields["min_tokens"]}
        )


class TalkingOllama(kinds.Ollama):
    """Counts whole prompts, and says nothing of its cache."""

    async def _chat(self, peer: Peer, fields: dict[str, Any]) -> None:
        self.loaded.add(fields["model"])
        await self._tell(peer, fields, len(_join(fields)), lambda text, key: {"message": {key: text}})


def _join(fields: dict[str, Any]) -> str:
    """With a template of nothing around the model's own answers."""
    return "".join(kinds.TEMPLATE * (one["role"] == "user") + one["content"] for one in fields["messages"])


def talk_to_kind(bench: BenchFolder, stand_in: kinds.StandIn, kind: str) -> dict[str, Any]:
    with KindServer(stand_in) as server:
        bench.write_hosts(other={"server": kind, "url": server.url, "shared": False})
        bench.write_suite(hosts=["other"], models=["m"], **TURNS)
        bench.run("--boobench-json", "out.json")
    (cell,) = json.loads((bench.path / "out.json").read_text())["cells"]
    return dict(cell)


def test_all_turns_of_a_conversation_have_one_salt_for_vllm(bench: BenchFolder) -> None:
    cell = talk_to_kind(bench, TalkingVllm(), "vllm")
    assert (cell["error"], cell["cache_break"]) == (None, None)
    shares = [share for share in medians_of(cell, "cached_share") if share is not None]
    assert shares == pytest.approx([592 / 650, 640 / 700, 704 / 750])


def test_ollama_says_nothing_of_its_cache(bench: BenchFolder) -> None:
    cell = talk_to_kind(bench, TalkingOllama(("m",)), "ollama")
    assert cell["error"] is None
    assert medians_of(cell, "cached_share") == [None] * 4
    assert medians_of(cell, "prefill_tok_s")[1:] == [None] * 3
    assert None not in medians_of(cell, "ttft_ms")


def test_a_claim_of_a_cache_that_the_clock_denies_is_told(bench: BenchFolder) -> None:
    cell = talk_to(bench, Talking(breaks_at=(2, 3, 4), claims_all=True))
    assert cell["cache_break"].startswith(
        "the server says that 643 of 644 tokens of turn 2 came from its cache, but TTFT"
    )


def test_the_embedded_server_keeps_its_conversations(bench: BenchFolder) -> None:
    """Two lanes at once, saved and judged against what was saved, through store and baseline file."""
    bench.write_suite(**{**TURNS, "grid": {"prompt_tokens": 128, "output_tokens": 8, "concurrency": 2}})
    bench.run("--boobench-save-baseline", "--boobench-baseline-file", "base.yaml")
    text = (bench.path / "base.yaml").read_text(encoding="utf-8")
    assert '"cached_share.turn[4]": {n: 3, ' in text
    for options in ((), ("--boobench-baseline-file", "base.yaml")):
        result = bench.run("--boobench-json", "out.json", "-v", *options)
        (cell,) = json.loads((bench.path / "out.json").read_text())["cells"]
        assert cell["cache_break"] is None
        assert [share for share in medians_of(cell, "cached_share") if share is not None] == pytest.approx(
            [135 / 176, 183 / 224, 231 / 272]
        )
        verdicts = {verdict["metric"]: verdict for verdict in cell["verdicts"]}
        assert list(verdicts) == ["decode_tok_s", "e2e_ms.turn[4]"]
        assert verdicts["e2e_ms.turn[4]"]["baseline"] is not None
        result.stdout.fnmatch_lines(["*by turn: TTFT *, *, *, * ms; *cached –, 0.767, 0.817, 0.849*"])


def test_a_conversation_without_room_is_said_at_once(bench: BenchFolder) -> None:
    talking = Talking()
    cell = talk_to(bench, talking, turns=81, samples=81, max_samples=None)
    assert cell["error"] == (
        "talking: turn 81 needs 4124 tokens of context and its chat template, m has 4096; start the server with more "
        "context, or ask for fewer turns or tokens"
    )
    assert talking.requests == []


def play_duet(bench: BenchFolder, ours: Talking, other: Talking, **suite: Any) -> dict[str, Any]:
    """The JSON report's only cell, after a duet of two scripted servers."""
    with KindServer(ours) as new, KindServer(other) as old:
        hosts = {"ours": new.url, "other": old.url}
        bench.write_hosts(
            **{name: {"server": "llama-server", "url": url, "shared": False} for name, url in hosts.items()}
        )
        bench.write_suite(**{**TURNS, **suite}, hosts=["ours"], models=["m"])
        bench.run("--boobench-duet", "other", "--boobench-json", "out.json")
    (cell,) = json.loads((bench.path / "out.json").read_text())["cells"]
    return dict(cell)


EACH_TURN = {f"ttft_ms.turn[{turn}]": "100%" for turn in (1, 2, 3, 4)}


def test_a_duet_finds_the_turn_at_which_one_side_lost_its_cache(bench: BenchFolder) -> None:
    gate = {**EACH_TURN, "cached_share": "50%", "cached_share.turn[3]": "50%"}
    ours, other = Talking(breaks_at=(3,), token_s=0.0005), Talking(token_s=0.0005)
    cell = play_duet(bench, ours, other, gate=gate)
    assert (cell["error"], cell["pairing"]) == (None, "conversations")
    found = {verdict["metric"]: verdict for verdict in cell["verdicts"]}
    red = [key for key, verdict in found.items() if verdict["outcome"] == "regression"]
    assert red == ["ttft_ms.turn[3]", "cached_share.turn[3]"]
    cached = found["cached_share.turn[3]"]
    assert (cached["now"], cached["baseline"]) == pytest.approx((20 / 688, 648 / 688))
    assert cached["change_low"] == cached["change_high"] == pytest.approx(20 / 648 - 1)
    assert found["ttft_ms.turn[3]"]["samples"] in (10, 20)
    assert "conversations slower; the prefix cache breaks at turn 3: 20 of 688" in cached["note"]


def test_a_duet_sends_both_sides_the_same_conversations_one_after_the_other(bench: BenchFolder) -> None:
    servers = Talking(), Talking()
    cell = play_duet(bench, *servers, gate=EACH_TURN)
    assert cell["error"] is None
    assert {verdict["outcome"] for verdict in cell["verdicts"]} == {"pass"}, cell["verdicts"]
    said = [[body["messages"] for body in one.requests if body["cache_prompt"]] for one in servers]
    assert len(said[0]) >= 3 * 10
    assert said[0] == said[1]
