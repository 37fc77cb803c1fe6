"""The page for people: by keyboard only, with a screen reader, after a reload, with names that would be markup."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.chromium import WINDOW, Heard, find_chromium, run_chromium
from tests.page.accessible import SCHEMES, require_accessible
from tests.page.serving import ServedPage, serve

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH: apt-get install chromium")
PATIENT_MS = 60_000
FOCUS = """() => {
  const { activeElement: at } = document;
  const { outlineStyle, outlineWidth } = getComputedStyle(at);
  return {
    text: at.getAttribute("role") ?? at.textContent, seen: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2,
  };
}"""
"""What has the focus, and whether an outline shows it."""
ROOMS = ("run", "now", "history", "try", "ab")


@pytest.fixture
def hostile(folder: Path) -> Path:
    """A suite whose description and model's name would be markup, and a host that is not there."""
    (folder / "hostile.boobench.yaml").write_text(
        "suite: hostile\ndescription: <script>window.evil = 1</script>\nhosts: [dead]\n"
        "models: ['<img src=x onerror=window.evil=1>']\ngrid: {prompt_tokens: [8], output_tokens: [4]}\n"
    )
    return folder


def test_the_page_is_for_everybody(hostile: Path) -> None:
    assert CHROMIUM is not None
    with serve(hostile) as page, run_chromium(CHROMIUM) as browser:
        shown = browser.new_page(viewport=WINDOW)
        heard = Heard(shown)
        shown.goto(f"{page.address}/#token={page.doorkeeper.issue()}")
        walk_by_tab(shown)
        walk_the_tree(shown)
        ask_for_a_takeover(shown, page)
        for room in ROOMS:
            shown.evaluate("room => { location.hash = `#/${room}` }", room)
            shown.get_by_role("heading").first.wait_for(state="attached")
            for scheme in SCHEMES:
                require_accessible(shown, room, scheme)
        assert shown.evaluate("window.evil === undefined")
        complaints = [one for one in heard.complaints() if "422" not in one]
        assert not complaints


def walk_by_tab(shown: Page) -> None:
    """The skip link is first, and leads into the room; where the focus is can be seen; nothing moves by itself."""
    from playwright.sync_api import expect

    shown.get_by_role("tree").wait_for(timeout=PATIENT_MS)
    shown.emulate_media(reduced_motion="reduce")
    shown.keyboard.press("Tab")
    skip = shown.get_by_role("link", name="Skip to the room")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    shown.keyboard.press("Enter")
    expect(shown.get_by_role("main")).to_be_focused()
    assert shown.evaluate("location.hash") == "#/run"
    stops = []
    while shown.keyboard.press("Tab") or shown.evaluate("document.activeElement.closest('main') !== null"):
        stops.append(shown.evaluate(FOCUS))
    assert [stop["text"] for stop in stops if not stop["seen"]] == []
    assert {"tree", "Start"} <= {stop["text"] for stop in stops}
    assert shown.evaluate("document.getAnimations().length") == 0
    assert shown.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    shown.emulate_media(reduced_motion=None)


def walk_the_tree(shown: Page) -> None:
    """By keys only; then a reload comes back to the same filter, the same line and the same selection."""
    from playwright.sync_api import expect

    tree = shown.get_by_role("tree")
    tree.wait_for(timeout=PATIENT_MS)
    expect(tree.get_by_text("<img src=x onerror=window.evil=1>")).to_be_visible()
    tree.focus()
    shown.keyboard.press("End")
    shown.keyboard.press("Space")
    last = shown.get_by_role("treeitem", name="pp32-tg4-c1")
    expect(last).to_have_attribute("aria-checked", "false")
    expect(tree).to_have_attribute("aria-activedescendant", last.get_attribute("id") or "")
    shown.keyboard.press("ArrowLeft")
    shown.keyboard.press("ArrowLeft")
    model = shown.get_by_role("treeitem", name="tiny-chat")
    expect(model).to_have_attribute("aria-expanded", "false")
    expect(model).to_have_attribute("aria-checked", "mixed")
    shown.reload()
    tree.wait_for(timeout=PATIENT_MS)
    expect(model).to_have_attribute("aria-expanded", "false")
    expect(model).to_have_attribute("aria-checked", "mixed")
    expect(tree).to_have_attribute("aria-activedescendant", model.get_attribute("id") or "")


def ask_for_a_takeover(shown: Page, page: ServedPage) -> None:
    """A takeover is not started by a click; and a wrong field is named once."""
    from playwright.sync_api import expect

    start = shown.get_by_role("button", name="Start")
    expect(start).to_be_enabled()
    shown.get_by_label("Take the host over, whoever uses it").check()
    expect(start).to_be_disabled()
    confirm = shown.get_by_label("Type takeover to confirm")
    confirm.fill("yes")
    expect(start).to_be_disabled()
    confirm.fill("takeover")
    expect(start).to_be_enabled()
    shown.get_by_label("Take the host over, whoever uses it").uncheck()
    shown.get_by_label("Wait for a busy host").fill("soon")
    expect(shown.get_by_text("wait: expected a time such as 30s, 10m or 1h", exact=True)).to_be_visible()
    shown.get_by_label("Wait for a busy host").fill("")
    assert page.server.runs.runs == {}
