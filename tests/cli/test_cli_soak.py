"""``boobench soak`` on a server that becomes slower at a known pace; the hours between its looks are skipped."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pytest_boobench.cli.project import find_project
from pytest_boobench.cli.soak_command import command, render_soak
from pytest_boobench.cli.soak_session import MOST_LOOKS, Soak, SoakLook, SoakSettings, run_soak
from pytest_boobench.store import Selection, Store
from tests.kinds_stand_in import KindServer
from tests.tiring_server import Skipped, Tiring, make_side

pytestmark = pytest.mark.usefixtures("patience")
ASKED = SoakSettings(model="m", prompt_tokens=32, output_tokens=8, samples=2, hours=6.0, store_url="")


def test_looks_are_measured_stored_and_know_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two looks; the benchmark has whole courses."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    skipped = Skipped(least_s=5.99 * 3600)
    store = str(tmp_path / "store.db")
    with KindServer(Tiring(0.15, skipped)) as server:
        asked = replace(ASKED, store_url=store)
        found = run_soak(make_side(server.url), asked, find_project(tmp_path), lambda _: None, skipped.clock)
    assert not found.error
    first, second = found.looks
    assert second.values["decode_tok_s"] < first.values["decode_tok_s"] / 1.5, "1.15 ** 6 is 2.3"
    assert first.values["resident_mb"] > 10, "the server runs in this process"
    assert (found.restarts, found.exit_code) == ([], 3)
    with Store.open(store, create=False) as opened:
        stored = opened.measurements(Selection(suites=("soak",)))
    assert [one.run.host for one in stored] == ["worker", "worker"]


def make_soak(speed: Callable[[float], float], hours: float = 6.0, **changed: object) -> Soak:
    """Looks of a minute's distance, with a speed for each hour and a steady memory."""
    looks = tuple(
        SoakLook(
            hour=hour,
            values={"decode_tok_s": speed(hour), "prefill_tok_s": 1000.0, "resident_mb": 800.0},
            processes=frozenset({7}),
            took_s=3.0,
        )
        for hour in (minute / 60 for minute in range(int(hours * 60)))
    )
    soak = Soak(host="rack-1", model="qwen", asked=ASKED, looks=looks, took_s=hours * 3600)
    return replace(soak, **changed)  # type: ignore[arg-type]


def wobble(hour: float) -> float:
    return 1 + 0.004 * math.sin(hour * 97.0)


def test_a_steady_one_is_told_with_its_share() -> None:
    soak = make_soak(lambda hour: 50 * wobble(hour))
    assert soak.exit_code == 0
    *_, last = render_soak(soak)
    assert last == "360 looks in 6.00 hours, 5 % of the host's time"


def test_half_a_per_cent_an_hour_is_found_and_its_hours_are_told() -> None:
    soak = make_soak(lambda hour: 50 * wobble(hour) * 0.995**hour)
    assert soak.exit_code == 1
    _, _, decode, *_ = render_soak(soak)
    assert decode.split()[3:5] == ["tok/s", "−0.50"]
    assert decode.endswith("slower (0.25 % an hour allowed)")
    assert "decode: slide −" in "\n".join(render_soak(soak))


def test_memory_that_grows_is_bad_news_and_a_step_is_told_with_its_hour() -> None:
    grows = make_soak(lambda hour: 50 * wobble(hour))
    grows = replace(
        grows, looks=tuple(replace(look, values={"resident_mb": 800 + 20 * look.hour}) for look in grows.looks)
    )
    assert grows.exit_code == 1
    assert "grows (0.25 % an hour allowed)" in "\n".join(render_soak(grows))
    step = make_soak(lambda hour: 50 * wobble(hour) * (1 if hour < 4 else 0.9))
    assert step.exit_code == 3
    assert "decode: step −10.0 % at hour 4.00: " in "\n".join(render_soak(step))


def test_a_restart_and_an_early_end_leave_it_undecided() -> None:
    soak = make_soak(lambda hour: 50 * wobble(hour))
    looks = tuple(replace(look, processes=frozenset({8})) if look.hour >= 3 else look for look in soak.looks)
    restarted = replace(soak, looks=looks)
    assert (restarted.restarts, restarted.exit_code) == ([3.0], 3)
    assert "the server was restarted, or its model loaded anew: hour 3.00" in "\n".join(render_soak(restarted))
    short = make_soak(lambda hour: 50.0, hours=0.1, interrupted=True)
    assert short.exit_code == 130
    text = "\n".join(render_soak(short))
    assert "undecided: too few looks" in text
    assert text.endswith("; interrupted: so far")


def test_looks_take_their_share_of_the_time_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first look of 20 s the pauses are 380 s; looks that take no time are a minute apart."""
    skipped = Skipped()
    took = {"s": 20.0}

    def look(looker: object, hour: float) -> SoakLook:
        skipped.now_s += took["s"]
        return SoakLook(hour=hour, values={"decode_tok_s": 50.0})

    monkeypatch.setattr("pytest_boobench.cli.soak_session._Looker.look", look)
    asked = replace(ASKED, store_url="unused")
    found = run_soak(make_side("http://127.0.0.1:9"), asked, find_project(tmp_path), lambda _: None, skipped.clock)
    assert {round(pause) for pause in skipped.pauses[1:]} == {380}
    assert 0.045 < found.share <= 0.05
    took["s"], skipped.pauses = 0.0, []
    found = run_soak(make_side("http://127.0.0.1:9"), asked, find_project(tmp_path), lambda _: None, skipped.clock)
    assert {round(pause) for pause in skipped.pauses} == {60}
    assert len(found.looks) <= MOST_LOOKS + 1


def call(folder: Path, host: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    monkeypatch.chdir(folder)
    return CliRunner().invoke(command, [host, "--model=m", *arguments], standalone_mode=False)


def test_one_look_is_too_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = "hosts: {{worker: {{server: openai, url: '{}', shared: false}}}}\n"
    with KindServer(Tiring(0.0, Skipped())) as server:
        (tmp_path / "boobench.hosts.yaml").write_text(hosts.format(server.url), encoding="utf-8")
        tokens = ("--hours=0.00001", "--prompt-tokens=32", "--output-tokens=4", "--json")
        result = call(tmp_path, "worker", monkeypatch, *tokens)
    told = json.loads(result.stdout)
    assert (result.return_value, told["exit_code"], len(told["looks"])) == (3, 3, 1)
    assert told["metrics"][0]["per_hour"] is None
    (tmp_path / "boobench.hosts.yaml").write_text(hosts.format("http://127.0.0.1:9"), encoding="utf-8")
    gone = call(tmp_path, "worker", monkeypatch)
    assert gone.return_value == 2
    assert "is the server running" in gone.stderr


@pytest.mark.parametrize(
    ("host", "arguments", "said"),
    [
        ("embedded", (), "HOST: a soak needs a server that runs and is not restarted; start it, and give its URL"),
        ("http://127.0.0.1:9", ("--share=0%",), "--share: expected a percentage above 0 and up to 100, such as 5%"),
    ],
)
def test_wrong_use_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, arguments: tuple[str, ...], said: str
) -> None:
    result = call(tmp_path, host, monkeypatch, *arguments)
    assert said in str(getattr(result.exception, "message", result.exception))
