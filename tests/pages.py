"""The README and the manual as the tests read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.conftest import CHECKOUT

MANUAL = CHECKOUT / "pytest_boobench" / "manual"
README = CHECKOUT / "README.md"
PATHS = (README, *sorted(MANUAL.glob("*.md")))
TEXTS = {path.relative_to(CHECKOUT).as_posix(): path.read_text(encoding="utf-8") for path in PATHS}
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A code block of a page, its indent taken off."""

    page: str
    language: str
    text: str


def read_page(name: str) -> str:
    """A page of the manual."""
    return (MANUAL / f"{name}.md").read_text(encoding="utf-8")


def list_blocks(*languages: str, page: str | None = None) -> list[Block]:
    """The blocks of these languages, on all pages or on one."""
    pages = TEXTS if page is None else {page: TEXTS[page]}
    return [block for name, text in pages.items() for block in _find(name, text) if block.language in languages]


def name_block(block: Block) -> str:
    """An id for a test."""
    return f"{Path(block.page).stem}-{block.text.splitlines()[0][:40]}"


def _find(page: str, text: str) -> Iterator[Block]:
    for indent, language, body in _BLOCK.findall(text):
        yield Block(page, language, "".join(line.removeprefix(indent) for line in body.splitlines(keepends=True)))
