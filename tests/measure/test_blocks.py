"""Blocks on a real server: how much warm-up, when a block is measured again, what the canary is for."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from pytest_boobench.facts import Canary
from pytest_boobench.hosts import access, canary
from pytest_boobench.hosts.access import Grant, Hosts
from pytest_boobench.hosts.canary import listen
from pytest_boobench.hosts.embedded import EmbeddedServer
from pytest_boobench.hosts.inventory import Host, Inventory
from pytest_boobench.measure import block
from pytest_boobench.measure.block import Block, Measurer
from pytest_boobench.metrics import Sample
from pytest_boobench.record import CellRecord
from pytest_boobench.suite.cell import Plan
from pytest_boobench.walk import extend_cell, run_cell
from tests.making import make_cell, make_record

T = TypeVar("T")
CELL = make_cell(host="llama", model="tiny-chat", prompt_tokens=16, output_tokens=4, concurrency=2)
SESSION = Measurer(run_uid="blocks")


@pytest.fixture
def measured(llama: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., CellRecord]:
    """Measures the cell with a plan of its own, on the tests' server; further blocks where asked. Other tests that have
    the machine's lock are not waited for."""
    monkeypatch.setattr(access, "_find_folder", lambda: tmp_path)
    monkeypatch.setattr(block, "listen", lambda takes_s: Canary(copy_mb_s=1000.0, hash_mb_s=1000.0))

    def run(*more: str, **plan: object) -> CellRecord:
        host = Host(name="llama", server="llama-server", base_url=llama.url, shared=False)

        async def measure() -> CellRecord:
            cell = replace(CELL, plan=Plan(**{"samples": 4, **plan}))  # type: ignore[arg-type]
            async with Hosts(Inventory({"llama": host}, display=None), "blocks") as hosts:
                grant: Grant = await hosts.grant("llama", "bench")
                record = await run_cell(cell, grant, SESSION, node_id="x")
                for why in more:
                    record = await extend_cell(cell, grant, SESSION, record, why)
                grant.release()
            return record

        return asyncio.run(measure())

    return run


def warm_up_of(record: CellRecord) -> list[Sample]:
    return [sample for sample in record.samples if sample.phase == "warmup"]


def test_warm_up_is_as_long_as_the_suite_says(measured: Callable[..., CellRecord]) -> None:
    assert len(warm_up_of(measured(warmup=3, warmup_max=3))) == 6
    assert warm_up_of(measured(warmup=0)) == []


def test_warm_up_goes_on_while_requests_become_faster(
    measured: Callable[..., CellRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_boobench.measure.block.is_settled", lambda rounds: len(rounds) == 4)
    record = measured(warmup=2, warmup_max=9)
    assert [sample.index for sample in warm_up_of(record)] == list(range(8))
    monkeypatch.setattr("pytest_boobench.measure.block.is_settled", lambda rounds: False)
    assert len(warm_up_of(measured(warmup=2, warmup_max=3))) == 6


def test_warm_up_by_time_has_as_many_requests_as_fit(measured: Callable[..., CellRecord]) -> None:
    shorter, longer = (len(warm_up_of(measured(warmup=1, warmup_s=time_s))) for time_s in (0.01, 0.5))
    assert 2 <= shorter < longer


def test_a_block_that_was_still_warming_up_is_measured_once_more(
    measured: Callable[..., CellRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_boobench.measure.block.find_trend", lambda samples: "still warming up")
    record = measured(warmup=1)
    assert record.attempts == 2
    assert record.measured == 4
    assert len([sample for sample in record.samples if sample.phase == "measure"]) == 8


def test_further_blocks_add_to_the_record(measured: Callable[..., CellRecord]) -> None:
    record = measured("decode in doubt", "still in doubt", warmup=1)
    assert record.blocks == 3
    assert record.measured == 12
    assert record.extended == "block 2: decode in doubt; block 3: still in doubt"
    assert record.aggregates["e2e_ms"].n == 12
    assert len(record.canaries) == 3
    assert {sample.block for sample in warm_up_of(record)} == {1, 2, 3}


def test_the_canary_tells_rates_of_this_machine() -> None:
    heard = listen(takes_s=0.01)
    assert heard.copy_mb_s > 0
    assert heard.hash_mb_s > 0
    assert heard.busy_share is None or 0 <= heard.busy_share <= 1


PROC_STAT = """\
cpu  {user} 5 100 9000 7 3 2 {steal} 40 0
cpu0 1 2 3 4 5 6 7 8 9 10
cpu1 1 2 3 4 5 6 7 8 9 10
intr 1
"""


@pytest.mark.parametrize(
    ("user", "steal", "ours_s", "share"),
    [
        pytest.param(0, 0, 0.0, 0.0, id="idle"),
        pytest.param(100, 0, 1.0, 0.0, id="only we"),
        pytest.param(200, 0, 1.0, 0.5, id="somebody has the other processor"),
        pytest.param(100, 100, 1.0, 0.5, id="the hypervisor has it"),
        pytest.param(99, 0, 1.0, 0.0, id="rounded down by the system"),
        pytest.param(900, 0, 0.0, 1.0, id="rounded up"),
    ],
)
def test_what_others_take_of_the_processors(
    user: int, steal: int, ours_s: float, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two processors, in one second, by ticks of a hundredth."""
    stat, clock = tmp_path / "stat", iter((10.0, 11.0))
    monkeypatch.setattr(canary, "_STAT", stat)
    monkeypatch.setattr(canary.os, "sysconf", lambda name: 100)
    spent = iter((5.0, 5.0 + ours_s))
    monkeypatch.setattr(
        canary, "time", SimpleNamespace(monotonic=lambda: next(clock), process_time=lambda: next(spent))
    )
    looks = []
    for more_user, more_steal in ((0, 0), (user, steal)):
        stat.write_text(PROC_STAT.format(user=1000 + more_user, steal=20 + more_steal))
        looks.append(canary._look_at_processors())
    assert canary._find_busy_share(*looks) == pytest.approx(share)


def test_where_the_system_does_not_tell_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "_STAT", tmp_path / "none")
    assert listen(takes_s=0.01).busy_share is None


@pytest.mark.parametrize(
    ("number", "short_share", "listened_s"),
    [(1, 0.0, [0.02]), (1, None, [0.02]), (1, 0.3, [0.02, 0.5]), (2, 0.0, [0.5])],
)
def test_where_others_seem_to_be_at_work_it_is_listened_longer(
    number: int, short_share: float | None, listened_s: Sequence[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_s: list[float] = []

    def listen(*, takes_s: float) -> Canary:
        asked_s.append(takes_s)
        return Canary(copy_mb_s=takes_s, hash_mb_s=1.0, busy_share=short_share)

    monkeypatch.setattr(block, "listen", listen)
    found = block.Found(make_record())
    grant: Any = SimpleNamespace(local=True)
    block.hear_canary(Block(make_cell(), Measurer(run_uid="run"), number), grant, found)
    assert asked_s == listened_s
    assert [heard.copy_mb_s for heard in found.record.canaries] == listened_s[-1:]


def test_the_output_canary_knows_what_the_model_says(
    measured: Callable[..., CellRecord],
) -> None:
    said = measured(warmup=1, output_canary=True)
    assert re.fullmatch("[0-9a-f]{16}", said.text_digest or "")
    assert measured(warmup=1, output_canary=True).text_digest == said.text_digest
    assert measured(warmup=1).text_digest is None
