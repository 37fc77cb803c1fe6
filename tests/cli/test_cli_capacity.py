"""``boobench capacity`` on a server whose knee is known, and what cannot be searched."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pytest_boobench.cli.capacity_command import command
from tests.kinds_stand_in import KindServer
from tests.one_worker import OneWorker

pytestmark = pytest.mark.usefixtures("patience")
TOKENS = ("--prompt-tokens=64", "--output-tokens=2", "--model=m")


def call(folder: Path, url: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    hosts = f"hosts: {{worker: {{server: openai, url: '{url}', shared: false}}}}\n"
    (folder / "boobench.hosts.yaml").write_text(hosts, encoding="utf-8")
    monkeypatch.chdir(folder)
    tokens = TOKENS[1:] if "--prompts=day.jsonl" in arguments else TOKENS
    return CliRunner().invoke(command, ["worker", *tokens, *arguments], standalone_mode=False)


def test_probes_are_told_and_the_rate_lies_between_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker at 50 ms: rates far below 20 per second hold, and far above they do not, however busy this machine."""
    with KindServer(OneWorker()) as server:
        told = ("--slo=e2e_ms=2s", "--duration=2s", "--probes=2", "--json")
        result = call(tmp_path, server.url, monkeypatch, *told)
    found = json.loads(result.stdout)
    assert not found["error"], found
    first, _ = found["probes"]
    assert first["rate"] > 30
    assert first["good"] < first["requests"]
    assert found["knee"]["rate"] < first["rate"]
    assert result.return_value == found["exit_code"]


def test_each_probe_sends_whole_passes_over_own_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [{"prompt_tokens": 60}, {"prompt_tokens": 90, "output_tokens": 3}, {"prompt_tokens": 40}]
    (tmp_path / "day.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    with KindServer(OneWorker()) as server:
        told = ("--slo=e2e_ms=2s", "--duration=2s", "--probes=1", "--prompts=day.jsonl", "--json")
        result = call(tmp_path, server.url, monkeypatch, *told)
    found = json.loads(result.stdout)
    assert not found["error"], found
    (probe,) = found["probes"]
    assert probe["requests"] > 20
    assert probe["requests"] % 3 == 0
    with closing(sqlite3.connect(tmp_path / ".boobench" / "store.db")) as store:
        asked = (
            "select prompt_line, count(*) from bench_samples join bench_cells on cell_id = bench_cells.id "
            "where phase = 'measure' and (coalesce(rate, 0) > 0) = ? group by 1 order by 1"
        )
        alone, at_rate = (store.execute(asked, (planned,)).fetchall() for planned in (0, 1))
    assert at_rate == [(line, probe["requests"] // 3) for line in (1, 2, 3)]
    assert alone == [(1, 2), (2, 2), (3, 2)]


def test_a_prompt_length_does_not_go_with_own_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "day.jsonl").write_text('{"prompt_tokens": 60}\n', encoding="utf-8")
    result = call(
        tmp_path, "http://127.0.0.1:1", monkeypatch, "--slo=e2e_ms=5", "--prompts=day.jsonl", "--prompt-tokens=9"
    )
    said = "--prompts: its lines say what is sent and how much; leave --prompt-tokens out"
    assert said in str(getattr(result.exception, "message", result.exception))


def test_a_limit_that_one_request_misses_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with KindServer(OneWorker()) as server:
        result = call(tmp_path, server.url, monkeypatch, "--slo=e2e_ms=10")
    assert result.return_value == 2
    assert "worker: even alone only 0 % of 5 requests are within the SLO (they take " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--slo=decode=3",), "expected one of ttft_ms, ttfo_ms, itl_ms, e2e_ms and its limit, as in ttft_ms=500"),
        (("--slo=ttft_ms=soon",), "ttft_ms: expected a time such as 30s, 5m or 250ms, got 'soon'"),
        (("--slo=ttft_ms=5", "--share=100%"), "--share: expected a percentage between 0 and 100, such as 95%"),
    ],
)
def test_wrong_use_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    result = call(tmp_path, "http://127.0.0.1:1", monkeypatch, *arguments)
    assert said in str(getattr(result.exception, "message", result.exception))
