"""The page in a real Chromium, on the real server and a real llama.cpp: a run is watched, a model is tried."""

from __future__ import annotations

import pytest

from tests.chromium import WINDOW, Heard, find_chromium, run_chromium
from tests.page.serving import ServedPage

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH: apt-get install chromium")
PATIENT_MS = 60_000


def test_a_run_is_started_and_watched_and_a_model_is_tried(page: ServedPage) -> None:
    from playwright.sync_api import expect

    assert CHROMIUM is not None
    with run_chromium(CHROMIUM) as browser:
        shown = browser.new_page(viewport=WINDOW)
        heard = Heard(shown)
        shown.goto(f"{page.address}/#token={page.doorkeeper.issue()}")
        expect(shown.get_by_role("treeitem").filter(has_text="pp24-tg4-c1").last).to_be_visible(timeout=PATIENT_MS)
        shown.get_by_role("button", name="Start").click()
        expect(shown.get_by_role("heading", name="Run of")).to_be_visible(timeout=PATIENT_MS)
        expect(shown.get_by_text("passed", exact=True).first).to_be_visible(timeout=PATIENT_MS)
        expect(shown.get_by_text("2 of 2", exact=True)).to_be_visible()

        shown.evaluate("location.hash = '#/try'")
        shown.get_by_label("Host and model").select_option(label="tiny-chat on llama (ready)", timeout=PATIENT_MS)
        shown.get_by_label("Most tokens of an answer").fill("12")
        shown.get_by_label("Prompt", exact=True).fill("<script>window.evil = 1</script>")
        shown.get_by_role("button", name="Send").click()
        expect(shown.get_by_text("rates by server")).to_be_visible(timeout=PATIENT_MS)
        expect(shown.get_by_text("<script>window.evil = 1</script>", exact=True)).to_be_visible()
        expect(shown.get_by_text("12 tokens", exact=True)).to_be_visible()
        assert shown.evaluate("window.evil === undefined")
        assert not heard.complaints()
        assert all(url.startswith(page.address) for url in heard.requests)
