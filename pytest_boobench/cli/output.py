"""Door 2: what verbs print: JSON, examples, waiting. Their streams let no secret and no control character out."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

import click

from pytest_boobench.reports.text import without_nan
from pytest_boobench.servers.clients import Patience, Waiting
from pytest_boobench.untrusted import hide_secrets


def to_json(value: Any, *, indent: int | None = 2) -> str:
    """JSON's text; what is not finite is null, for a server's own numbers may be NaN or infinite."""
    return json.dumps(without_nan(value), indent=indent, ensure_ascii=False, allow_nan=False)


def show_examples(*examples: tuple[str, str]) -> str:
    """An epilog for click from pairs of a command and what it is for; click keeps its lines as they are."""
    width = max(len(command) for command, _ in examples)
    lines = (f"  {command:<{width}}  {purpose}".rstrip() for command, purpose in examples)
    return "\n".join(("\b", "Examples:", *lines))


_EVERY_S = 10.0


def make_patience(load_timeout_s: float) -> Patience:
    """What ``--load-timeout`` grants; a line on stderr at once, and every ten seconds, for each host."""
    told_s: dict[str, float] = {}

    def tell(waiting: Waiting) -> None:
        last_s = told_s.get(waiting.host)
        if last_s is None or not last_s <= waiting.waited_s < last_s + _EVERY_S:
            told_s[waiting.host] = waiting.waited_s
            click.echo(str(waiting), err=True)

    return Patience(load_s=load_timeout_s, option="--load-timeout", tell=tell)


_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""All but tabs and ends of lines."""


@contextmanager
def guarded() -> Iterator[None]:
    """Let all that is written meanwhile be hidden where it is a secret: texts of servers, and of stores too."""
    with redirect_stdout(_guard(sys.stdout)), redirect_stderr(_guard(sys.stderr)):
        yield


def _guard(stream: TextIO) -> TextIO:
    return cast("TextIO", _Guarded(stream))


class _Guarded:
    """A stream in all but what is written; a text is never written in pieces, so that no secret is in two."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @property
    def buffer(self) -> _Guarded:
        """What click writes bytes to."""
        return _Guarded(self._stream.buffer)

    def write(self, text: str | bytes) -> int:
        """As the stream's own."""
        written: int = self._stream.write(_hide(text) if isinstance(text, str) else _hide_in_bytes(text))
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _hide(text: str) -> str:
    return hide_secrets(_CONTROLS.sub(" ", text))


def _hide_in_bytes(text: bytes) -> bytes:
    return _hide(text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
