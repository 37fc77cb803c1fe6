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

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """As the stream's own."""
        return self._stream.write(hide_secrets(_CONTROLS.sub(" ", text)))

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":
            raise AttributeError(name)  # click would write to it, past us
        return getattr(self._stream, name)
