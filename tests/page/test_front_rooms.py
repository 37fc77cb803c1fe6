"""History, Try and A/B in a real Chromium: one browser and one server for all, a real llama.cpp and a scripted host."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_boobench.hosts.embedded import EmbeddedServer
from pytest_boobench.record import Verdict
from pytest_boobench.store import Store
from tests.chromium import NARROW, WINDOW, Heard, find_chromium, run_chromium, settle
from tests.fault_server import FaultServer, Peer
from tests.page.accessible import SCHEMES, require_accessible
from tests.page.serving import ServedPage, serve
from tests.stored import FOUR, ONE, add_session

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH: apt-get install chromium")
PATIENT_MS = 60_000
HOSTILE = "<img src=x onerror='window.evil = 1'><script>window.evil = 1</script>"
PICTURE = b"\x89PNG\r\n\x1a\n"


async def _hostile(peer: Peer) -> None:
    await peer.head()
    await peer.delta(reasoning_content="<b>thought</b>")
    await peer.delta(content=HOSTILE)
    await peer.finish(2)


async def _endless(peer: Peer) -> None:
    await peer.head()
    for _ in range(2000):
        await peer.delta(content="a ")
        await asyncio.sleep(0.01)


async def _list(peer: Peer) -> None:
    await peer.answer("200 OK", {"data": [{"id": "hostile"}, {"id": "endless"}]})


async def _none(peer: Peer) -> None:
    await peer.answer("404 Not Found", {})


def _fill(store: Store) -> None:
    """Five sessions; the last one is slow, and red."""
    for day, speed in enumerate((50.0, 51.0, 50.5, 49.5, 40.0)):
        outcome: Any = "regression" if speed < 45 else "no baseline" if day == 0 else "pass"
        verdict = Verdict(
            metric="decode_tok_s", outcome=outcome, now=speed, baseline=50.0 if day else None, allowed=0.1
        )
        add_session(store, f"day {day}", (ONE, speed), (FOUR, 30.0 + day / 10), day=day, verdicts=(verdict,))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, llama: EmbeddedServer) -> Iterator[ServedPage]:
    folder = tmp_path_factory.mktemp("rooms")
    scenarios = {"hostile": _hostile, "endless": _endless, "models": _list, "props": _none}
    with pytest.MonkeyPatch.context() as patch, FaultServer(scenarios) as scripted:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.chdir(folder)
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "boobench.hosts.yaml").write_text(
            f"hosts:\n  llama: {{server: llama-server, url: '{llama.url}', shared: false}}\n"
            f"  odd: {{server: openai, url: '{scripted.url}', shared: false, machine: elsewhere}}\n"
            "arena: 'https://arena.example/?models={a},{b}&q={prompt}'\n"
        )
        with Store.open(str(folder / ".boobench" / "store.db")) as store:
            _fill(store)
        with serve(folder) as page:
            yield page


@pytest.fixture(scope="module")
def window(served: ServedPage) -> Iterator[Page]:
    assert CHROMIUM is not None
    with run_chromium(CHROMIUM) as browser:
        context = browser.new_context(viewport=WINDOW)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        shown = context.new_page()
        shown.set_default_timeout(PATIENT_MS)
        shown.goto(f"{served.address}/#token={served.doorkeeper.issue()}")
        shown.get_by_role("navigation", name="Rooms").wait_for()
        yield shown


@pytest.fixture
def heard(window: Page) -> Iterator[Heard]:
    """Nothing may be complained of, and nothing may be wider than a narrow window."""
    listening = Heard(window)
    yield listening
    window.set_viewport_size(NARROW)
    settle(window)
    assert window.evaluate("document.documentElement.scrollWidth <= innerWidth")
    window.set_viewport_size(WINDOW)
    refusals = "status of 409"  # an answer like others: the page shows it
    assert not [said for said in listening.complaints() if refusals not in said]


def enter(window: Page, room: str) -> None:
    window.evaluate(f"location.hash = '#/{room}'")


def choose(window: Page, field: str, model: str) -> None:
    select = window.get_by_role("combobox", name=field)
    option = select.locator("option", has_text=model).first
    option.wait_for(state="attached")
    select.select_option(value=option.get_attribute("value"))


def read_measured(shown: Locator) -> dict[str, str]:
    """Title -> text of the numbers below an answer."""
    pairs = shown.locator("dl.measured > div")
    return {one.locator("dt").inner_text(): one.locator("dd").inner_text() for one in pairs.all()}


def test_history_filters_live_in_the_address(window: Page, heard: Heard, served: ServedPage) -> None:
    from playwright.sync_api import expect

    enter(window, "history")
    courses = window.locator("section.course")
    expect(courses).to_have_count(2)
    expect(courses.first).to_contain_text("pp64-tg8-c1")  # the red one, though it is not the newest
    expect(courses.first).to_contain_text("regression")
    window.get_by_role("searchbox", name="Cell").fill("c4")
    expect(courses).to_have_count(1)
    window.reload()
    expect(window.get_by_role("searchbox", name="Cell")).to_have_value("c4")
    expect(courses).to_have_count(1)
    (course,) = served.get("/api/history?cell=c4&metric=decode_tok_s")["courses"]
    expect(courses).to_contain_text(f"newest {course['points'][-1]['value']:.4g} tok/s, 5 runs")


def test_a_baseline_is_set_and_cleared_with_reasons_by_the_keyboard(
    window: Page, heard: Heard, served: ServedPage
) -> None:
    from playwright.sync_api import expect

    enter(window, "history")
    course = window.get_by_label(re.compile(r"qwen\[pp64-tg8-c1\]"))
    for opener, reason in (("Set a baseline", "calm night <b>"), ("Take the baseline out", "the GPU was sold")):
        course.get_by_role("button", name=opener).focus()
        window.keyboard.press("Enter")
        dialog = window.get_by_role("dialog")
        expect(dialog.get_by_role("button", name=re.compile("^(Set it|Take it)"))).to_be_disabled()
        for _ in range(3):
            if dialog.get_by_label("Reason").evaluate("box => box === document.activeElement"):
                break
            window.keyboard.press("Tab")
        window.keyboard.type(reason)
        window.keyboard.press("Tab")
        window.keyboard.press("Enter")
        expect(dialog).to_have_count(0)
        course.get_by_text("1 baseline of this course").wait_for()
        expect(course.get_by_role("button", name="Take the baseline out")).to_have_count(int(opener.startswith("Set")))
    saves = course.locator(".saves li")
    expect(saves).to_have_text(re.compile(r"main: .* because: calm night <b>; taken out .* because: the GPU was sold"))
    (kept,) = [save for point in _points(served) for save in point["saves"]]
    assert (kept["reason"], kept["ended_reason"]) == ("calm night <b>", "the GPU was sold")
    said = served.post("/api/baselines/clear", {"name": "main", "key": ONE.key, "reason": " "}, 422)
    assert said["error"]["where"] == "reason"


def _points(served: ServedPage) -> list[dict[str, Any]]:
    (course,) = served.get("/api/history?cell=c1&metric=decode_tok_s")["courses"]
    points: list[dict[str, Any]] = course["points"]
    return points


def test_two_sessions_are_compared(window: Page, heard: Heard, served: ServedPage) -> None:
    from playwright.sync_api import expect

    enter(window, "history")
    course = window.get_by_label(re.compile(r"qwen\[pp64-tg8-c1\]"))
    course.get_by_role("button", name="Runs and flags").click()
    expect(course.locator("ol.points li")).to_have_count(5)
    for scheme in SCHEMES:
        require_accessible(window, "courses", scheme)
    course.get_by_role("button", name="Compare with the run before").first.click()
    row = window.get_by_role("group", name="Cells of both sessions").get_by_role("row", name=re.compile("tg8-c1"))
    before, after = [point["session"] for point in _points(served)][-2:]
    answer = served.get(f"/api/compare?a={before}&b={after}")
    found = next(one for one in answer["rows"] if "c1" in one["node_id"] and one["metric"] == "decode_tok_s")
    expect(row.first).to_contain_text(f"{found['was']:.4g}{found['now']:.4g}−{abs(found['change']) * 100:.1f} %")
    expect(row.first).to_contain_text(found["outcome"])
    window.reload()
    expect(row.first).to_contain_text(found["outcome"])


def test_an_answer_its_numbers_its_copies_and_a_resent_prompt(window: Page, heard: Heard, served: ServedPage) -> None:
    from playwright.sync_api import expect

    enter(window, "try")
    choose(window, "Host and model", "tiny-chat on llama")
    window.get_by_label("Most tokens of an answer").fill("12")
    window.get_by_label("seed").fill("7")
    window.get_by_label("System prompt").fill("Be short.")
    window.keyboard.press("Escape")
    window.get_by_label("Prompt", exact=True).focus()
    window.keyboard.type("hello")
    window.keyboard.press("Enter")
    turns = window.locator("li.turn")
    expect(turns.last.get_by_text("rates by")).to_be_visible()
    sample = next(reversed(served.server.exchanges.kept.values())).sides[0].sample
    assert sample is not None
    assert sample.ttft_ms is not None
    assert sample.decode_tok_s is not None
    shown = read_measured(turns.last)
    assert float(shown["TTFT"].removesuffix(" ms")) == float(f"{sample.ttft_ms:.4g}")
    assert float(shown["decode"].removesuffix(" tok/s")) == float(f"{sample.decode_tok_s:.4g}")
    assert (shown["cached"], shown["output"]) == (f"{sample.cached_tokens} tokens", "12 tokens")

    for label, word in (("Copy as curl", "curl -N"), ("as Python", "import httpx"), ("as a suite", "suite: tried")):
        turns.last.get_by_role("button", name=label).click()
        while not window.evaluate("navigator.clipboard.readText()").startswith(word):
            settle(window)

    window.get_by_label("Prompt", exact=True).fill("and again")
    window.get_by_role("button", name="Send").click()
    expect(turns.last.get_by_text("rates by")).to_be_visible()
    expect(turns).to_have_count(2)
    asked = next(reversed(served.server.exchanges.kept.values())).sides[0].request
    assert [one["role"] for one in asked.messages] == ["system", "user", "assistant", "user"]
    assert asked.sampling == {"seed": 7}

    window.reload()
    expect(turns.last.get_by_text("rates by")).to_be_visible()
    expect(window.get_by_label("System prompt")).to_have_value("Be short.")

    for scheme in SCHEMES:
        require_accessible(window, "answers", scheme)
    turns.first.get_by_role("button", name="Edit").click()
    turns.first.get_by_role("textbox", name="Edit the prompt").fill("good bye")
    turns.first.get_by_role("button", name="Ask again").first.click()
    expect(turns).to_have_count(1)
    expect(turns.first.get_by_text("rates by")).to_be_visible()
    asked = next(reversed(served.server.exchanges.kept.values())).sides[0].request
    assert [one["content"] for one in asked.messages] == ["Be short.", "good bye"]


def test_an_answer_is_stopped_by_a_key(window: Page, heard: Heard) -> None:
    from playwright.sync_api import expect

    enter(window, "try")
    choose(window, "Host and model", "endless")
    window.get_by_label("Prompt", exact=True).fill("go on")
    window.keyboard.press("Enter")
    answer = window.locator("li.turn").last.locator(".answer")
    expect(answer.locator(".told")).to_contain_text("a a a")
    expect(window.get_by_role("button", name="Stop")).to_be_in_viewport()  # however long the answer is
    window.get_by_label("Prompt", exact=True).press("Escape")
    expect(answer).to_contain_text("Stopped.")
    window.get_by_role("button", name="Begin anew").click()


def test_what_a_model_says_is_text(window: Page, heard: Heard, served: ServedPage) -> None:
    from playwright.sync_api import expect

    enter(window, "try")
    choose(window, "Host and model", "hostile")
    picture = {"name": "a.svg", "mimeType": "image/svg+xml", "buffer": b"<svg/>"}
    window.get_by_label("Images").set_input_files(files=[picture])  # type: ignore[list-item]
    expect(window.get_by_role("alert")).to_contain_text("a.svg: image/svg+xml, expected a PNG, JPEG, WebP or GIF")
    picture = {"name": "a.png", "mimeType": "image/png", "buffer": PICTURE}
    window.get_by_label("Images").set_input_files(files=[picture])  # type: ignore[list-item]
    expect(window.get_by_role("button", name="Remove picture 1")).to_be_visible()
    window.get_by_label("Prompt", exact=True).fill("what is it")
    window.keyboard.press("Enter")
    turn = window.locator("li.turn").last
    expect(turn.get_by_text(HOSTILE, exact=True)).to_be_visible()
    expect(turn.get_by_text("<b>thought</b>")).to_be_hidden()
    turn.get_by_text("Reasoning").click()
    expect(turn.get_by_text("<b>thought</b>")).to_be_visible()
    assert window.evaluate("window.evil === undefined")
    sent = next(reversed(served.server.exchanges.kept.values())).sides[0].request.messages[-1]["content"]
    assert [part["type"] for part in sent] == ["image_url", "text"]
    window.get_by_role("button", name="Begin anew").click()


def test_beside_a_measurement_it_is_refused_with_who_is_there(
    window: Page, heard: Heard, served: ServedPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from playwright.sync_api import expect

    enter(window, "try")
    choose(window, "Host and model", "tiny-chat on llama")
    with monkeypatch.context() as patch:
        patch.setattr(served.server.hosts, "find_users", lambda *_: ("the nightly run",))
        window.get_by_label("Prompt", exact=True).fill("hello")
        window.keyboard.press("Enter")
        expect(window.get_by_role("alert")).to_contain_text("the nightly run")
    window.get_by_role("button", name="Ask when the host is free").click()
    expect(window.locator("li.turn").last.get_by_text("rates by")).to_be_visible()


def test_a_blind_comparison_in_turns_and_its_vote(window: Page, heard: Heard, served: ServedPage) -> None:
    from playwright.sync_api import expect

    enter(window, "ab")
    choose(window, "Model 1", "tiny-chat on llama")
    choose(window, "Model 2", "hostile")
    expect(window.locator(".chosen")).to_have_text(["tiny-chat on llama, ready", "hostile on odd"])  # selects cut names
    window.get_by_label("Most tokens of an answer").fill("8")
    window.get_by_label("Prompt for all sides").fill("hello")
    window.get_by_label("Prompt for all sides").press("Enter")
    votes = window.get_by_role("group", name="Your vote")
    votes.wait_for()
    answers = window.get_by_role("article")
    expect(answers).to_have_count(2)
    assert not re.search("tiny-chat|hostile|tok/s", answers.first.inner_text() + answers.last.inner_text())
    exchange = next(reversed(served.server.exchanges.kept.values()))
    names = [f"{'AB'[place]}: {side.request.model}" for place, side in enumerate(exchange.sides)]
    votes.get_by_role("button", name="A is better").focus()
    window.keyboard.press("Enter")
    expect(answers.first.get_by_role("heading")).to_contain_text(names[0])
    expect(answers.last.get_by_role("heading")).to_contain_text(names[1])
    (tally,) = served.get("/api/votes")["tallies"]
    percents = [round(tally[name] * 100) for name in ("share", "low", "high")]
    table = window.get_by_role("group", name="Votes so far")
    expect(table).to_contain_text("{} % ({} to {} %)".format(*percents))
    expect(window.get_by_role("group", name="The measured difference")).to_contain_text("prompt tokens")
    window.get_by_role("button", name="Repeat ten times").click()
    repeated = window.get_by_role("group", name="The repeated difference")
    expect(repeated).to_contain_text("B against A")
    expect(window.get_by_role("button", name="Ten more rounds")).to_be_enabled()
    for scheme in SCHEMES:
        require_accessible(window, "ab", scheme)
    with window.expect_download() as download:
        window.get_by_role("button", name="Export as JSON").click()
    assert exchange.prompt_sha256 in Path(download.value.path()).read_text(encoding="utf-8")
    with window.expect_popup() as popup:
        window.get_by_role("button", name="Go on in the arena").click()
    popup.value.close()


def test_sides_on_one_machine_are_at_once_only_on_request(window: Page, heard: Heard) -> None:
    from playwright.sync_api import expect

    enter(window, "ab")
    choose(window, "Model 1", "tiny-chat on llama")
    choose(window, "Model 2", "tiny-chat on llama")
    window.get_by_text("at once", exact=True).click()
    window.get_by_label("Prompt for all sides").fill("hello")
    with window.expect_response("**/api/ab") as refused:
        window.get_by_role("button", name="Send to all").click()
    assert refused.value.status == 409
    window.get_by_role("button", name="At once all the same").click()
    expect(window.get_by_role("group", name="Your vote")).to_be_visible()
