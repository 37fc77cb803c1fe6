"""Door 3: the page's own files, and the report's that it draws its charts with. Only files that are listed exist."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from pytest_boobench.page.guard import ApiRefusal

_OWN = Path(str(files("pytest_boobench.page"))) / "assets"
_REPORT = Path(str(files("pytest_boobench.reports.html"))) / "assets"
_SHARED = ("elements.js", "text.js", "scale.js", "tip.js", "history.js", "explore.js", "style.css")
_TYPES: Mapping[str, str] = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
}


@cache
def list_assets() -> Mapping[str, Path]:
    """Name in the address -> file."""
    own = {path.relative_to(_OWN).as_posix(): path for path in _OWN.rglob("*") if path.suffix in _TYPES}
    return own | {f"report/{name}": _REPORT / name for name in _SHARED}


async def send_asset(request: Request) -> Response:
    """One of the files."""
    return _send(request.path_params["name"])


async def send_index(_: Request) -> Response:
    """The page."""
    return _send("index.html")


def _send(name: str) -> Response:
    path = list_assets().get(name)
    if path is None:
        raise ApiRefusal(404, f"no file {name!r}")
    return Response(path.read_bytes(), media_type=_TYPES[path.suffix], headers={"Cache-Control": "no-cache"})
