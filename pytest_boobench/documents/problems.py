"""Room 0: what is wrong in one file, collected so that all of it is told at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NoReturn

from pytest_boobench.documents.node import Node
from pytest_boobench.errors import DocumentError, Problem


class Problems:
    """The problems of one file, one for each field: what else is wrong with a field mostly follows from the first."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._by_field: dict[str, Problem] = {}

    def add(self, node: Node, text: str) -> None:
        """Note what is wrong with a value and what would be right."""
        self._by_field.setdefault(node.path, Problem(self._file, node.line, node.path, text))

    def raise_any(self) -> None:
        """Raise DocumentError with all that was noted; do nothing where nothing was."""
        if self._by_field:
            raise DocumentError(tuple(self._by_field.values()))

    def stop(self, line: int, text: str) -> NoReturn:
        """Raise DocumentError for a file that cannot be read any further."""
        raise DocumentError((*self._by_field.values(), Problem(self._file, line, "", text)))


def suggest(word: str, known: Iterable[str]) -> str:
    """The nearest of the known words, or all of them where none is near."""
    choices = list(known)
    near = difflib.get_close_matches(word, choices, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(choices)}"
