"""What axe finds on a page that is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Page

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def require_accessible(shown: Page, room: str, scheme: Literal["light", "dark"]) -> None:
    """axe finds nothing. Whatever the theme was before stands again afterwards."""
    from axe_playwright_python.sync_playwright import Axe

    shown.emulate_media(color_scheme=scheme)
    found = Axe().run(shown)
    told = [f"{one['id']}: {[node['html'][:200] for node in one['nodes'][:3]]}" for one in found.response["violations"]]
    assert told == [], f"{room}, {scheme}"
    assert found.response["passes"], "axe looked at nothing"
    shown.emulate_media(color_scheme=None)
