"""Room 0: one class per kind of error. Every message says where, what is wrong, and what would be right."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_boobench.untrusted import clean_lines


class BoobenchError(Exception):
    """An error that the user can solve. ``str(error)`` is the whole message and needs no traceback.

    It may quote a server, so secrets and control characters are removed.
    """

    def __init__(self, text: str = "") -> None:
        super().__init__(clean_lines(text))


_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


def explain_os_error(error: OSError) -> str:
    """Return the system's own message in lower case: ``no such file or directory``."""
    return (error.strerror or type(error).__name__).lower()


def means_no_locks(error: OSError) -> bool:
    """Whether a file system without locks refused one, as some network file systems do."""
    return error.errno in _NO_LOCKS


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One error in a file; ``line`` counts from 1, ``field`` is empty for the file itself."""

    file: str
    line: int
    field: str
    text: str

    def __str__(self) -> str:
        field = f"{self.field}: " if self.field else ""
        return f"{self.file}:{self.line}: {field}{self.text}"


class DocumentError(BoobenchError):
    """A suite or hosts file with errors: all its problems, sorted by line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class HostError(BoobenchError):
    """A host that is dead, refuses requests, or lacks what the cell needs: an ERROR in pytest, never a FAILURE."""


class PromptError(HostError):
    """No prompt of exactly the requested length is possible for this model on this host."""


class MissingExtra(BoobenchError):  # noqa: N818  # what is missing is the name
    """An optional dependency is not installed; the message names the command that installs it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}': pip install 'pytest-boobench[{extra}]'")


class StoreError(BoobenchError):
    """The store cannot be opened, read or written; the measurements are not lost."""


class UnstorableError(StoreError):
    """A value that no store can hold, such as a text instead of a number or an impossible time."""
