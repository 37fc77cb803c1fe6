"""Room 1: names that fit into a node id, and short names for models whose own name does not fit or is a path."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from pytest_boobench.documents.validation import Expected, checked, text

_BREAKS_NODE_ID = re.compile(r"::|[\[\]]")
"""pytest splits a node id at the first ``[`` and at every ``::``."""
_MEANT_FOR_PYTEST = re.compile(
    r"__\w+__|pytestmark|pytest_plugins|(setup|teardown)(_(module|class|method|function))?|(setUp|tearDown)(Module|Class)?"
)
"""Attributes of test modules and classes with a meaning in pytest; names become such attributes."""

_LONGEST = 200
"""Names are in every line of a report, and in the environment variable PYTEST_CURRENT_TEST."""
_LONGEST_PATH = 1000
"""For models: ids use their short names."""
_PATH = re.compile(r"(?:[/\\~]|\.{1,2}[/\\]|[A-Za-z]:[/\\])|.*\\|.*\.gguf\Z", re.IGNORECASE | re.DOTALL)
"""Matches a model name that is the path of a file or folder, on any system."""


def node_name() -> Expected:
    """A name of a suite, host or model. Slashes, dots, inner spaces and single colons are allowed."""
    return _make_name(_LONGEST, _refuse)


def model_name() -> Expected:
    """A model's name as its host lists it. Brackets and ``::`` are allowed too: a node id has its short name."""
    return _make_name(_LONGEST_PATH, _refuse_unseen)


def _make_name(longest: int, refuse: Callable[[str], str | None]) -> Expected:
    """A name of limited length; ``refuse`` returns what is wrong with it."""

    def check(name: str) -> str:
        if len(name) > longest:
            raise ValueError(f"a name of {len(name):,} characters; {longest:,} are the limit")
        if refusal := refuse(name):
            raise ValueError(refusal)
        return name

    return checked(text("a name"), check)


def _refuse_unseen(name: str) -> str | None:
    unprintable = next((char for char in name if not char.isprintable()), None)
    if unprintable:
        return f"the name holds the character U+{ord(unprintable):04X}, which a node id cannot carry"
    if name != name.strip():
        return f"the name {name!r} begins or ends with a space, which a node id cannot carry"
    return None


def _refuse(name: str) -> str | None:  # one line for each kind of error
    unseen = _refuse_unseen(name)
    if unseen:
        return unseen
    breaking = _BREAKS_NODE_ID.search(name)
    if breaking:
        return f"the name {name!r} holds {breaking[0]!r}, which a node id cannot carry"
    if name.startswith(":") or name.endswith(":"):
        return f"the name {name!r} begins or ends with ':', which a node id cannot carry beside its '::'"
    if _MEANT_FOR_PYTEST.fullmatch(name):
        return f"the name {name!r} has a meaning of its own in pytest; choose another"
    return None


def shorten(models: Iterable[str]) -> Mapping[str, str]:
    """Return model -> its unique short name for node ids, tables and progress.

    The short name of a path is its last part without ``.gguf``, with as many folders before it as make it unique.
    Other names stay, except for what a node id cannot hold.
    """
    left = {model: list_short_names(model) for model in models}
    found = {model: next(left[model]) for model in left}
    while clashing := _find_clashing(found):
        longer = {model: name for model in clashing if (name := next(left[model], None)) is not None}
        if not longer:
            return _number(found)
        found |= longer
    return found


def list_short_names(model: str) -> Iterator[str]:
    """Yield the short names of a model, shortest first; at least one."""
    if not _PATH.match(model):
        yield make_bearable(model)
        return
    *folders, file = [part for part in re.split(r"[/\\]", model) if part] or [model]
    stem = re.sub(r"(?<=.)\.gguf\Z", "", file, flags=re.IGNORECASE)
    for start in range(len(folders), -1, -1):
        yield make_bearable("/".join((*folders[start:], stem)))


def _find_clashing(names: Mapping[str, str]) -> list[str]:
    """The models whose name is not unique, or has a meaning in pytest."""
    counts = Counter(names.values())
    return [model for model, name in names.items() if counts[name] > 1 or _refuse(name) is not None]


def _number(names: Mapping[str, str]) -> Mapping[str, str]:
    """Add the model's position in the suite to names that are still not unique."""
    clashing = set(_find_clashing(names))
    return {
        model: f"{name}~{place}" if model in clashing else name
        for place, (model, name) in enumerate(names.items(), start=1)
    }


def make_bearable(name: str) -> str:
    """Replace what a node id cannot hold."""
    plain = re.sub(r"::+", ":", name).replace("[", "(").replace("]", ")").strip(": ")
    return plain[:_LONGEST].rstrip(": ") or "model"
