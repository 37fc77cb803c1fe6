"""Run and Now in a real Chromium: one browser and server for all, a real llama.cpp beside hosts that do not work."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_boobench.hosts.embedded import EmbeddedServer
from tests.chromium import NARROW, WINDOW, Heard, find_chromium, run_chromium, settle
from tests.conftest import CHECKOUT, PLUGINS, name_plugins
from tests.fault_server import FaultServer, Peer
from tests.page.accessible import SCHEMES, require_accessible
from tests.page.conftest import write_suite
from tests.page.serving import serve

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH: apt-get install chromium")
PATIENT_MS = 60_000
STUBBORN = """\
import pathlib, signal

def pytest_collection_finish(session):
    if pathlib.Path("stubborn").exists():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
"""
LOST = "The connection is lost"


async def _list(peer: Peer) -> None:
    await peer.answer("200 OK", {"data": [{"id": "garbage"}, {"id": "bad_json"}]})


async def _none(peer: Peer) -> None:
    await peer.answer("404 Not Found", {})


async def _lie(peer: Peer) -> None:
    await peer.answer("200 OK", "<b>no list</b>")


async def _silent(peer: Peer) -> None:
    """Never a byte of an answer."""


async def _tiny(peer: Peer) -> None:
    await peer.answer("200 OK", {"data": [{"id": "tiny-chat"}]})


async def _well(peer: Peer) -> None:
    await peer.answer("200 OK", {"status": "ok", "total_slots": 1, "default_generation_settings": {"n_ctx": 4096}})


async def _slots(peer: Peer) -> None:
    await peer.answer("200 OK", [{"id": 0, "id_task": 7, "is_processing": True}])


class Bench:
    """The page in a browser, and its server, which can be killed and started again."""

    def __init__(self, folder: Path, window: Page) -> None:
        self.folder = folder
        self.window = window
        self._life = ExitStack()
        self._left: list[subprocess.Popen[bytes]] = []
        self.page = self._life.enter_context(serve(folder))

    def kill(self) -> None:
        """As SIGKILL: the server's runs go on."""
        runs = self.page.server.runs
        self._left += runs._processes.values()
        runs._processes.clear()
        runs.runs.clear()
        self._life.close()

    def start(self) -> None:
        """Another server at the same port."""
        self.page = self._life.enter_context(serve(self.folder, self.page.port))

    def close(self) -> None:
        self._life.close()
        for process in self._left:
            process.wait(30)

    def sign_in(self, window: Page) -> None:
        window.goto(f"{self.page.address}/#token={self.page.doorkeeper.issue()}")
        window.get_by_role("navigation", name="Rooms").wait_for()

    def enter(self, room: str) -> None:
        self.window.evaluate("room => { location.hash = `#/${room}` }", room)

    def start_run(self, k: str) -> dict[str, Any]:
        """Filter, select all, start: the run as the server has it."""
        self.enter(f"run?k={k.replace(' ', '%20')}")
        self.window.get_by_role("tree").wait_for()
        self.window.get_by_role("button", name="All", exact=True).click()
        with self.window.expect_response(lambda one: one.url.endswith("/api/runs") and one.status == 201) as answer:
            self.window.get_by_role("button", name="Start").click()
        self.window.get_by_role("heading", name="Run of").wait_for()
        run: dict[str, Any] = answer.value.json()
        return run


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, llama: EmbeddedServer) -> Iterator[Bench]:
    assert CHROMIUM is not None
    folder = tmp_path_factory.mktemp("runs")
    liar = {"models": _list, "props": _none, "health": _none}
    busy = {"models": _tiny, "slots": _slots, "health": _well, "props": _well}
    with ExitStack() as life:
        patch = life.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("PYTEST_ADDOPTS", f"{name_plugins(*PLUGINS)} -p tests.patient")
        patch.setenv("PYTHONPATH", str(CHECKOUT))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.chdir(folder)
        urls = {
            "liar": life.enter_context(FaultServer(liar)).url,
            "fraud": life.enter_context(FaultServer({"models": _lie, "props": _none})).url,
            "slow": life.enter_context(FaultServer({"models": _silent, "props": _silent})).url,
            "dead": "http://127.0.0.1:9",
        }
        (folder / "pytest.ini").write_text("[pytest]\nboobench_block_gap = 0s\nboobench_quiet = 0s\n")
        (folder / "conftest.py").write_text(STUBBORN)
        (folder / "boobench.hosts.yaml").write_text(
            f"hosts:\n  llama: {{server: llama-server, url: '{llama.url}', shared: false}}\n"
            f"  busy: {{server: llama-server, url: '{life.enter_context(FaultServer(busy)).url}', machine: of-busy}}\n"
            + "".join(
                f"  {name}: {{server: openai, url: '{url}', shared: false, machine: of-{name}}}\n"
                for name, url in urls.items()
            )
        )
        write_suite(folder, "first", samples=2)
        write_suite(folder, "last", samples=400, output_tokens=256)
        for name in ("dead", "liar", "busy"):
            write_suite(folder, name, samples=1, host=name)
        browser = life.enter_context(run_chromium(CHROMIUM))
        shown = browser.new_context(viewport=WINDOW).new_page()
        shown.set_default_timeout(PATIENT_MS)
        made = Bench(folder, shown)
        life.callback(made.close)
        made.sign_in(shown)
        yield made


@pytest.fixture
def heard(bench: Bench) -> Iterator[Heard]:
    """Nothing may be complained of but refusals, which the page shows; nothing may be wider than a narrow window."""
    listening = Heard(bench.window)
    yield listening
    bench.window.set_viewport_size(NARROW)
    settle(bench.window)
    assert bench.window.evaluate("document.documentElement.scrollWidth <= innerWidth")
    bench.window.set_viewport_size(WINDOW)
    refusals = re.compile("status of (401|409|422)|ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED")
    assert not [said for said in listening.complaints() if not refusals.search(said)]


def test_a_red_run_marks_its_cells_and_a_green_one_becomes_the_baseline(bench: Bench, heard: Heard) -> None:
    from playwright.sync_api import expect

    window = bench.window
    window.get_by_role("tree").wait_for()
    window.get_by_label("Filter, as pytest's -k").fill("pp24 and (first or dead or liar or busy)")
    cells = window.locator(".line.cell")
    expect(cells).to_have_count(4)
    window.get_by_label("Filter, as pytest's -k").fill("pp24 and (")
    expect(window.get_by_text("pytest could not collect everything")).to_be_visible()
    window.get_by_label("Save as baseline").select_option("replace")
    run = bench.start_run("pp24 and (first or dead or liar or busy)")
    assert "--boobench-save-baseline" in run["command"]
    assert "pp24 and (first or dead or liar or busy)" in run["command"]
    expect(window.get_by_text("4 of 4", exact=True)).to_be_visible()
    expect(window.locator(".cell-note.bad")).to_have_count(3)
    expect(window.get_by_role("alert").filter(has_text="Refused")).to_contain_text(
        "busy is used by tiny-chat (running)"
    )
    window.get_by_role("button", name="Select what is red").click()
    checked = window.locator(".line.cell[aria-checked=true]")
    expect(checked).to_have_count(3)
    expect(window.locator(".line.suite").filter(has_text="1 red")).to_have_count(3)
    expect(checked.locator(".state.bad")).to_have_text([re.compile("error")] * 3)
    (course,) = bench.page.get("/api/history?metric=decode_tok_s&host=llama")["courses"]
    assert course["baseline"]["level"] == course["points"][-1]["value"]
    window.get_by_label("Save as baseline").select_option("")


def test_a_run_outlives_its_server_and_its_end_keeps_what_is_finished(bench: Bench, heard: Heard) -> None:
    from playwright.sync_api import expect

    window = bench.window
    (bench.folder / "stubborn").touch()
    run = bench.start_run("(pp32 and first) or (pp24 and last)")
    expect(window.get_by_text("1 of 2", exact=True)).to_be_visible()
    bench.kill()
    expect(window.get_by_text(LOST)).to_be_visible()
    bench.start()
    other = window.context.new_page()  # as the new server opens it; the first tab is told nothing
    bench.sign_in(other)
    other.close()
    expect(window.locator(".cell-state").get_by_text("measuring", exact=True)).to_be_visible()
    expect(window.get_by_text(LOST)).to_have_count(0)

    bench.enter("run?k=pp24%20and%20first")
    expect(window.locator(".line.cell")).to_have_count(1)
    window.get_by_role("button", name="All", exact=True).click()
    window.get_by_role("button", name="Start").click()
    expect(window.get_by_role("alert").filter(has_text="llama is used by")).to_contain_text(f"the run {run['id']}")
    bench.enter(f"now/{run['id']}")

    window.get_by_role("button", name="Stop").click()
    window.get_by_role("button", name="Terminate").click()
    expect(window.locator(".now-room h2 ~ .state")).to_have_text(re.compile("interrupted|killed"))
    expect(window.get_by_text("1 of 2", exact=True)).to_be_visible()
    said = window.get_by_role("log").inner_text()
    assert said.count("test session starts") == 1
    assert said.count("first.boobench.yaml .") == 1
    newest = {
        point["at"] for one in bench.page.get("/api/history?metric=decode_tok_s")["courses"] for point in one["points"]
    }
    assert max(newest) > run["started_at"]
    for scheme in SCHEMES:
        require_accessible(window, "a run", scheme)


def test_hosts_that_are_dead_slow_or_lie_are_told_in_try(bench: Bench, heard: Heard) -> None:
    from playwright.sync_api import expect

    window = bench.window
    bench.enter("try")
    lamps = window.get_by_role("list", name="Hosts").get_by_role("listitem")
    lamp = {name: lamps.filter(has=window.get_by_text(name, exact=True)) for name in ("dead", "slow", "fraud", "llama")}
    expect(lamp["llama"]).to_contain_text("ready")  # it does not wait for the slow one
    expect(lamp["slow"]).to_contain_text("has not answered yet")
    expect(lamp["dead"]).to_contain_text("cannot be reached")
    expect(lamp["fraud"]).to_contain_text("cannot be reached")
    for model, told in (("garbage", "the answer is not HTTP"), ("bad_json", "JSON")):
        window.get_by_label("Host and model").select_option(value=f"liar\n{model}")
        window.get_by_label("Prompt", exact=True).fill("hello")
        window.get_by_role("button", name="Send").click()
        expect(window.locator("li.turn").last.get_by_role("alert")).to_contain_text(told)
    window.get_by_role("button", name="Begin anew").click()
