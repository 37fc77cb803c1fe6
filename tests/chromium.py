"""The system's Chromium without a window, driven by Playwright: where it is, and what was heard of a page."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # its import takes time that only the tests of the page should pay
    from playwright.sync_api import Browser, Page, ViewportSize

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-color-profile=srgb")
"""No sandbox: tests may run as root."""
WINDOW: ViewportSize = {"width": 1280, "height": 900}
NARROW: ViewportSize = {"width": 390, "height": 844}
PATIENCE_S = 60.0


def find_chromium() -> str | None:
    """Its path, None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def run_chromium(path: str) -> Iterator[Browser]:
    """A browser, ended at the end. Until then no test of this thread can run an event loop of its own."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)  # the usual five seconds are too few for a busy machine
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Heard:
    """What a page asked for, and what the browser had to say of it, since the page was opened."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self.requests: list[str] = []
        self._complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self._complaints.append(message.text))
        page.on("pageerror", lambda error: self._complaints.append(str(error)))

    def complaints(self) -> list[str]:
        """Exceptions, blocked content, log lines."""
        settle(self._page)
        return self._complaints


def settle(page: Page) -> None:
    """Wait for two frames: observers have been called and what they draw is drawn."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))")


def click(page: Page, selector: str) -> None:
    """In the middle of the first element that fits."""
    page.click(selector)
    settle(page)


def list_nodes(page: Page) -> list[Mapping[str, Any]]:
    """What a screen reader is told, the ignored left out: role, name and properties of each node."""
    tools = page.context.new_cdp_session(page)
    nodes = tools.send("Accessibility.getFullAXTree")["nodes"]
    tools.detach()
    return [
        {
            "role": node["role"]["value"],
            "name": node.get("name", {}).get("value", ""),
            "value": node.get("value", {}).get("value"),
            **{entry["name"]: entry["value"].get("value") for entry in node.get("properties", ())},
        }
        for node in nodes
        if not node["ignored"]
    ]


def find_middle(page: Page, selector: str) -> tuple[float, float]:
    """Of the first element that fits, in the window's pixels."""
    box = page.locator(selector).first.bounding_box()
    assert box, f"not shown: {selector}"
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def open_file(page: Page, path: Path, fragment: str = "") -> None:
    """Load a file, and wait until it is drawn."""
    page.goto(f"{path.as_uri()}{fragment}")
    settle(page)


def wait_until(page: Page, expression: str) -> None:
    """Wait for an expression to be true. Playwright's own wait evaluates inside of the page from the second time on,
    which the page's Content-Security-Policy forbids."""
    end = time.monotonic() + PATIENCE_S
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"not true within {PATIENCE_S:.0f} s: {expression}"
        settle(page)
