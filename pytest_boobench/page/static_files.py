"""Door 3: the page's own files, and the report's that it draws its charts with. Only files that are listed exist.

The page names its files below a mark of their contents, so that a browser need not ask for them again: thirty answers
take longer than a tree of 10,000 cells. Modules import their neighbours by relative names, and so below the same mark.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from hashlib import sha256
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


_FOR_EVER = "private, max-age=31536000, immutable"


@cache
def list_assets() -> Mapping[str, Path]:
    """Name in the address -> file."""
    own = {path.relative_to(_OWN).as_posix(): path for path in _OWN.rglob("*") if path.suffix in _TYPES}
    return own | {f"report/{name}": _REPORT / name for name in _SHARED}


@cache
def _load_assets() -> tuple[str, Mapping[str, bytes]]:
    """The mark of all files, and each one's content, as they were when the first was asked for."""
    found = {name: path.read_bytes() for name, path in sorted(list_assets().items())}
    mark = sha256()
    for name, content in found.items():
        mark.update(f"{name} {len(content)} ".encode() + content)
    return mark.hexdigest()[:16], found


async def send_asset(request: Request) -> Response:
    """One of the files, below the mark or without it."""
    asked: str = request.path_params["name"]
    mark, found = _load_assets()
    name = asked.removeprefix(f"{mark}/")
    if name not in found:
        raise ApiRefusal(404, f"no file {asked!r}")
    return _answer(name, found[name], "no-cache" if name == asked else _FOR_EVER)


async def send_index(_: Request) -> Response:
    """The page."""
    mark, found = _load_assets()
    page = found["index.html"].replace(b'"/assets/', f'"/assets/{mark}/'.encode())
    return _answer("index.html", page, "no-cache")


def _answer(name: str, content: bytes, kept: str) -> Response:
    kind = _TYPES[Path(name).suffix]
    return Response(content, media_type=kind, headers={"Cache-Control": kept})
