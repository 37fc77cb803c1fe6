"""Cells with own prompts in whole sessions, on a real llama.cpp."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests import kinds_stand_in as kinds
from tests.conftest import BenchFolder
from tests.kinds_stand_in import KindServer
from tests.plugin.test_session import query
from tests.talking_server import Talking

TEXT = "Zanzibar whispers quietly to nineteen purple hedgehogs"
LINES: list[Mapping[str, Any]] = [
    {"text": TEXT, "at_s": 0},
    {"prompt_tokens": 40, "output_tokens": 3, "at_s": 0.05},
    {"messages": [{"role": "system", "content": "brief"}, {"role": "user", "content": TEXT * 2}], "at_s": 0.1},
    {"prompt_tokens": 32, "conversation": "a", "turn": 1, "at_s": 0.15},
    {"prompt_tokens": 96, "conversation": "a", "turn": 2, "cached_tokens": 24, "at_s": 0.3},
]
MEASURED = "where phase = 'measure' and cell_id = (select max(id) from bench_cells)"


def write(bench: BenchFolder, *lines: Mapping[str, Any], **suite: object) -> None:
    (bench.path / "day.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    bench.write_suite(prompts="day.jsonl", **{"grid": {"output_tokens": 4}, "samples": 10, **suite})


def test_each_line_is_measured_as_it_says_and_nothing_of_its_text_is_kept(bench: BenchFolder) -> None:
    write(bench, *LINES)
    outputs = (
        "--boobench-json=out.json",
        "--boobench-report=out.html",
        "--boobench-summary=out.md",
        "--junit-xml=o.xml",
    )
    bench.run("--boobench-save-baseline", "--boobench-baseline-file=base.yaml", *outputs).assert_outcomes(passed=1)
    columns = "prompt_line, prompt_tokens, output_tokens, failure_text"
    found = query(bench, f'select {columns} from bench_samples {MEASURED} order by "index"')
    assert [row[0] for row in found] == [1, 2, 3, 4, 5] * 2
    assert found[:5] == found[5:]
    assert [row[2] for row in found[:5]] == [4, 3, 4, 4, 4]
    assert [row[1] for row in found if row[0] in (2, 4, 5)] == [40, 32, 96] * 2
    assert all(row[3] is None for row in found)
    cached = dict(query(bench, f"select prompt_line, max(cached_tokens) from bench_samples {MEASURED} group by 1"))
    assert [cached[line] for line in (1, 2, 3, 4)] == [0] * 4, "cold, though the same text was sent before"
    assert abs(cached[5] - 24) <= 3
    ((prompts, prompt_tokens),) = query(bench, "select prompts, prompt_tokens from bench_cells")
    assert (len(prompts), prompt_tokens) == (64, 0)
    kept = [path for path in bench.path.rglob("*") if path.is_file() and path.name != "day.jsonl"]
    assert {"out.json", "out.html", "out.md", "o.xml", "base.yaml", "store.db"} <= {path.name for path in kept}
    for path in kept:
        assert b"Zanzibar" not in path.read_bytes(), path


def test_an_edited_file_is_not_comparable_and_says_so(bench: BenchFolder) -> None:
    write(bench, {"text": "one text"}, samples=2)
    bench.run("--boobench-save-baseline").assert_outcomes(passed=1)
    write(bench, {"text": "another text"}, samples=2)
    result = bench.run()
    said = "the suite's own prompts are not those of the baseline: their file has changed"
    result.stdout.fnmatch_lines([f"*NOT COMPARABLE*prompts-day-tg4-c1*{said}*"])
    bench.run("--boobench-save-baseline").assert_outcomes(passed=1)
    bench.run("--boobench-policy=literal", "--boobench-max-drop=99%").assert_outcomes(passed=1)


def test_a_replay_sends_at_the_recorded_times_and_a_rate_in_the_order_of_the_file(bench: BenchFolder) -> None:
    write(
        bench, *LINES, arrival="recorded", samples=None, slo={"e2e_ms": "60s"}, gate={"slo_share": {"at_least": "50%"}}
    )
    bench.run().assert_outcomes(passed=1)
    found = query(bench, f"select prompt_line, offset_ms from bench_samples {MEASURED} order by id")
    assert [(line, round(offset_ms)) for line, offset_ms in found] == [(1, 0), (2, 50), (3, 100), (4, 150), (5, 300)]
    write(bench, *LINES[:3], rate=30, samples=6)
    bench.run()
    found = query(bench, f'select prompt_line from bench_samples {MEASURED} order by "index"')
    assert [line for (line,) in found] == [1, 2, 3, 1, 2, 3]


def test_a_server_that_cannot_leave_its_cache_unused_takes_own_text_only_warm(bench: BenchFolder) -> None:
    talking = Talking(counts_cached=False)
    messages = [{"role": "system", "content": "brief"}, {"role": "user", "content": TEXT}]
    with KindServer(talking) as server:
        bench.write_hosts(talking={"server": "openai", "url": server.url, "shared": False})
        write(bench, {"messages": messages}, hosts=["talking"], models=["m"], samples=2)
        cold = bench.run()
        write(bench, {"messages": messages}, hosts=["talking"], models=["m"], samples=2, cache="warm")
        bench.run()
    cold.assert_outcomes(errors=1)
    said = (
        "talking: prompts: this server (openai) cannot be told to leave its cache unused, and it may hold a part of own"
    )
    cold.stdout.fnmatch_lines([f"*{said}*"])
    assert [request["messages"] for request in talking.requests[-2:]] == [messages] * 2
    found = query(bench, f"select prompt_tokens, failure_text from bench_samples {MEASURED}")
    assert found == [(len(TEXT) + len("brief"), None)] * 2, "the server's own count"


@pytest.mark.parametrize(
    ("stand_in", "kind", "cache"),
    [
        (kinds.Vllm(("good",)), "vllm", "cold"),
        (kinds.Router(("good",), ("good",)), "llama-server", "cold"),
        (kinds.Ollama(("good",)), "ollama", "warm"),
    ],
)
def test_other_kinds_of_server(bench: BenchFolder, stand_in: kinds.StandIn, kind: str, cache: str) -> None:
    """The same text again and again: vLLM's stand-in takes it from its cache unless each request has its own salt."""
    lines = [{"text": TEXT}, {"prompt_tokens": 50, "output_tokens": 3}]
    with KindServer(stand_in) as server:
        bench.write_hosts(there={"server": kind, "url": server.url, "shared": False})
        write(bench, *lines, hosts=["there"], models=["good"], samples=4, cache=cache)
        bench.run()
    found = query(
        bench, f'select prompt_line, output_tokens, failure_text from bench_samples {MEASURED} order by "index"'
    )
    assert found == [(1, 4, None), (2, 3, None)] * 2


def test_a_duet_sends_the_same_lines_to_both_sides(bench: BenchFolder) -> None:
    with KindServer(kinds.Ollama(("good",))) as old, KindServer(kinds.Ollama(("good",))) as new:
        bench.write_hosts(
            **{
                name: {"server": "ollama", "url": server.url, "shared": False}
                for name, server in (("old", old), ("new", new))
            }
        )
        write(bench, {"text": TEXT}, {"text": TEXT * 2}, hosts=["new"], models=["good"], samples=None, cache="warm")
        bench.run("--boobench-duet", "old")
    lines = (
        "select prompt_line from bench_samples where phase = 'measure' and block = 1 and attempt = 1 and reference = "
    )
    ours, theirs = (query(bench, f'{lines}{side} order by "index"') for side in (0, 1))
    assert ours == theirs == [(1,), (2,)] * 10
