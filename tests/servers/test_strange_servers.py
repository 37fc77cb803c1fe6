"""Whole sessions on servers that say strange things of themselves: the number is right, or there is a reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_boobench.servers import witness
from tests.conftest import BenchFolder
from tests.kinds_stand_in import KindServer
from tests.paced_server import DECODE_TOK_S, TTFT_S, Paced

GRID = {"prompt_tokens": [64], "output_tokens": [32]}


class Llama(Paced):
    timings = True


def measure(bench: BenchFolder, server: Paced, *args: str, kind: str | None = None, **suite: Any) -> dict[str, Any]:
    """The session's cell, as its JSON has it; the result of the run under ``result``."""
    with KindServer(server) as running:
        host: dict[str, object] = {"url": running.url, "shared": False}
        bench.write_hosts(odd={**host, "server": kind or ("llama-server" if server.timings else "openai")})
        bench.write_suite(hosts=["odd"], models=["m"], **{"grid": GRID, "samples": 4, **suite})
        result = bench.run("--boobench-json=out.json", "--boobench-json-samples", *args)
    (cell,) = json.loads((bench.path / "out.json").read_text())["cells"]
    return {**cell, "result": result}


def median(cell: dict[str, Any], metric: str) -> float | None:
    found = cell["aggregates"].get(metric)
    return found and found["median"]


def test_decode_time_booked_under_the_prompt(bench: BenchFolder) -> None:
    class Booking(Llama):
        def claim(self, prompt: int, tokens: int) -> dict[str, Any]:
            true = super().claim(prompt, tokens)
            return {**true, "prompt_ms": true["prompt_ms"] + true["predicted_ms"], "predicted_ms": 0.7}

    cell = measure(bench, Booking(), "--boobench-save-baseline")
    assert median(cell, "decode_tok_s") == pytest.approx(DECODE_TOK_S, rel=0.5)
    assert median(cell, "prefill_tok_s") == pytest.approx(64 / TTFT_S, rel=0.6)
    assert (cell["rates"], {sample["rates"] for sample in cell["samples"]}) == ("client", {"client"})
    assert "the first token was there after" in cell["contradiction"]
    cell["result"].stdout.fnmatch_lines(["*m?pp64-tg32-c1?*no baseline, rates: client, saved"])
    cell["result"].stdout.fnmatch_lines(
        ["odd: 1 of 1 cell measured without the server's timings: m?pp64-tg32-c1?: rates: client: the server says *"]
    )


def test_one_lying_sample_spoils_no_other(bench: BenchFolder) -> None:
    class Lying(Llama):
        def claim(self, prompt: int, tokens: int) -> dict[str, Any]:
            lie = {"predicted_n": 10**9} if self.streams == 4 else {}
            return {**super().claim(prompt, tokens), **lie}

        def count(self, prompt: int, tokens: int) -> Any:
            return {} if self.streams == 4 else super().count(prompt, tokens)

    cell = measure(bench, Lying(), max_failed=1)
    assert cell["failed"] == 1
    assert cell["total_tok_s"] < DECODE_TOK_S
    assert median(cell, "decode_tok_s") == pytest.approx(DECODE_TOK_S, rel=0.5)


@pytest.mark.parametrize(
    "chunk",
    [
        {"id": "x", "choices": {"a": 1}},
        {"id": "x", "choices": [None]},
        {"id": "x", "choices": [{"delta": [], "finish_reason": 7}]},
        {"id": "x", "choices": [], "usage": [1]},
        {"id": "x", "choices": [], "timings": json.loads("[" * 900 + "]" * 900)},
    ],
    ids=["choices", "choice", "delta", "usage", "deep"],
)
def test_a_strange_answer_takes_no_good_one_with_it(bench: BenchFolder, chunk: Any) -> None:
    class Strange(Paced):
        def chunk(self) -> Any:
            return chunk if self.streams == 4 else super().chunk()

    cell = measure(bench, Strange())
    assert cell["failed"] == 1
    assert cell["aggregates"]["e2e_ms"]["n"] == 3, "a rate may be blank where the machine is busy"
    cell["result"].assert_outcomes(failed=1)
    cell["result"].stdout.fnmatch_lines(["*1 of 4 requests failed: 1 × protocol: *"])


def test_no_usage_while_it_streams(bench: BenchFolder) -> None:
    class Silent(Paced):
        def count(self, prompt: int, tokens: int) -> Any:
            return None

    cell = measure(bench, Silent())
    assert cell["standing"] == "error"
    assert "the server sends no usage while it streams" in cell["error"]


@pytest.mark.parametrize("burst", [8, 32])
def test_a_gateway_holds_the_stream_back(bench: BenchFolder, burst: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witness, "CARRIED", 0.1)  # bursts are what it is about

    class Held(Paced):
        pass

    Held.burst = burst
    cell = measure(bench, Held(), "--boobench-save-baseline", "-v")
    assert (median(cell, "ttft_ms"), median(cell, "prefill_tok_s")) == (None, None)
    assert "holds the stream back" in cell["blanks"]["ttft_ms"]
    assert cell["standing"] == "inconclusive"
    assert cell["saved"] is (median(cell, "decode_tok_s") is not None)
    cell["result"].stdout.fnmatch_lines(["*nginx's proxy_buffering*"])


def test_behind_a_gateway_the_servers_timings_are_judged(bench: BenchFolder) -> None:
    class Held(Llama):
        burst = 32

    cell = measure(bench, Held(), "--boobench-save-baseline")
    assert median(cell, "decode_tok_s") == pytest.approx(DECODE_TOK_S, rel=0.01)
    assert (cell["rates"], cell["saved"], median(cell, "ttft_ms")) == ("server", True, None)


def test_a_cell_without_a_judged_number_is_no_baseline(bench: BenchFolder) -> None:
    class Held(Paced):
        burst = 32

    cell = measure(bench, Held(), "--boobench-save-baseline")
    assert cell["saved"] is False
    cell["result"].stdout.fnmatch_lines(["odd: 1 of 1 cell not saved as baseline main: *: no number to judge"])


class Talkative(Paced):
    """Ends by itself, each time at another length."""

    def length(self, asked: int) -> int:
        return min(asked, 20 + self.streams * 7 % 30)

    def reason(self, tokens: int) -> Any:
        return "stop"


@pytest.mark.parametrize("lanes", [1, 2])
def test_answers_of_natural_length(bench: BenchFolder, lanes: int) -> None:
    grid = {"prompt_tokens": [64], "output_tokens": [64], "concurrency": [lanes]}
    cell = measure(bench, Talkative(), "--boobench-save-baseline", grid=grid, length="natural", samples=6)
    assert (cell["failed"], cell["saved"], cell["identity"]["length"]) == (0, True, "natural")
    assert median(cell, "decode_tok_s") == pytest.approx(DECODE_TOK_S, rel=0.5)
    judged = {verdict["metric"] for verdict in cell["verdicts"]}
    assert judged == {"decode_tok_s", "prefill_tok_s" if lanes == 1 else "lanes_tok_s"}
    assert len({sample["output_tokens"] for sample in cell["samples"]}) > 1
    again = measure(bench, Talkative(), grid=grid, length="natural", samples=6)
    assert {verdict["baseline_name"] for verdict in again["verdicts"]} == {"main"}


def test_an_exact_cell_says_that_there_are_natural_ones(bench: BenchFolder) -> None:
    cell = measure(bench, Talkative(), grid={"prompt_tokens": [64], "output_tokens": [64]})
    assert "the model ended by itself; say length: natural in the suite" in cell["error"]


def test_a_server_that_breaks_on_ignore_eos(bench: BenchFolder) -> None:
    sent: list[Any] = []

    class Breaking(Llama):
        async def _complete(self, peer: Any, fields: dict[str, Any]) -> None:
            sent.append(fields.get("ignore_eos"))
            if fields.get("ignore_eos"):
                await peer.head()
                await peer.event({"error": {"code": 500, "message": "Unexpected token 200002"}})
                await peer.chunk(b"")
            else:
                await super()._complete(peer, fields)

    assert "Unexpected token 200002" in measure(bench, Breaking())["error"]
    assert measure(bench, Breaking(), request={"ignore_eos": False})["error"] is None
    assert measure(bench, Breaking(), length="natural")["error"] is None
    assert {None, True, False} == set(sent)


def test_a_tokenizer_that_counts_one_more_now_and_then(bench: BenchFolder) -> None:
    """Where nothing counts a prompt before it is sent, two tokens more or less are fine, and the real count is kept."""

    class Merging(Paced):
        def count(self, prompt: int, tokens: int) -> Any:
            return {"prompt_tokens": prompt + self.streams % 3 - 1, "completion_tokens": tokens}

    cell = measure(bench, Merging())
    assert cell["failed"] == 0
    assert {sample["prompt_tokens"] for sample in cell["samples"]} == {63, 64, 65}


def count_words(text: str) -> int:
    """Most words are a token, one in eight is two: as a tokenizer merges pairs of letters."""
    return sum(2 if sum(map(ord, word)) % 8 == 0 else 1 for word in text.split(" ") if word)


def test_three_sessions_with_a_tokenizer_of_words_end_alike(bench: BenchFolder) -> None:
    class Wordy(Paced):
        def tokens_of(self, text: str) -> int:
            return count_words(text)

    for args in (("--boobench-save-baseline",), (), ()):
        cell = measure(bench, Wordy(), *args, grid={"prompt_tokens": [400], "output_tokens": [32]}, samples=6)
        assert (cell["error"], cell["failed"]) == (None, 0)
        assert all(abs(sample["prompt_tokens"] - 400) <= 4 for sample in cell["samples"])
        assert cell["standing"] != "error"


def test_a_template_that_always_comes_from_the_cache(bench: BenchFolder) -> None:
    """Where nothing can forbid the cache, the chat template's own tokens are in it from the second request on."""

    class Caching(Paced):
        cached = 6

        def tokens_of(self, text: str) -> int:
            return 6 + len(text)

        def count(self, prompt: int, tokens: int) -> Any:
            return {**super().count(prompt, tokens), "prompt_tokens_details": {"cached_tokens": self.cached}}

    cell = measure(bench, Caching())
    assert (cell["error"], {sample["cached_tokens"] for sample in cell["samples"]}) == (None, {6})
    assert median(cell, "prefill_tok_s") == pytest.approx((64 - 6) / TTFT_S, rel=0.6)

    class More(Caching):
        cached = 9

    assert "the server took 9 prompt tokens from its cache" in measure(bench, More())["error"]


def test_more_tokens_than_were_asked_for(bench: BenchFolder) -> None:
    class Generous(Llama):
        def length(self, asked: int) -> int:
            return 2 * asked

    assert "64 tokens came, 32 were asked for" in measure(bench, Generous())["error"]
