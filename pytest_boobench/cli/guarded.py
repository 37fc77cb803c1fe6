"""Door 2: the streams that verbs write to: no secret and no control character leaves through them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

from pytest_boobench.untrusted import hide_secrets

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
