"""Room 1: names that a node id can carry, and short ones for models whose names it cannot, or that are paths."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from pytest_boobench.documents.validation import Expected, checked, text

_BREAKS_NODE_ID = re.compile(r"::|[\[\]]")
"""pytest takes a node id apart at the first ``[`` and at every ``::``."""
_MEANT_FOR_PYTEST = re.compile(
    r"__\w+__|pytestmark|pytest_plugins|(setup|teardown)(_(module|class|method|function))?|(setUp|tearDown)(Module|Class)?"
)
"""Attributes of test modules and classes that pytest gives a meaning; names become such attributes."""

_LONGEST = 200
"""Names stand in every line of a report, and in the environment variable PYTEST_CURRENT_TEST."""
_LONGEST_PATH = 1000
"""Of models, which stand there by their short names."""
_PATH = re.compile(r"(?:[/\\~]|\.{1,2}[/\\]|[A-Za-z]:[/\\])|.*\\|.*\.gguf\Z", re.IGNORECASE | re.DOTALL)
"""What a model's name begins with or holds where it is the path of its file or folder, on whatever system."""


def node_name() -> Expected:
    """A name of a suite, host or model. Slashes, dots, spaces inside and single colons are fine."""
    return _make_name(_LONGEST, _refuse)


def model_name() -> Expected:
    """A model's name as its host lists it, which a node id carries in short: brackets and ``::`` are fine too."""
    return _make_name(_LONGEST_PATH, _refuse_unseen)


def _make_name(longest: int, refuse: Callable[[str], str | None]) -> Expected:
    """A name of so many characters at most; ``refuse`` says why one cannot be."""

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


def _refuse(name: str) -> str | None:  # one line for each way to be wrong
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
    """Model -> what node ids, tables and progress call it, each another.

    A file's or folder's path becomes its last part, without ``.gguf``; where two would have one name, as much of the
    folders stands before it as tells them apart. Other names stay, but for what a node id cannot carry.
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
    """What a model may be called in short, the shortest first; once at least."""
    if not _PATH.match(model):
        yield _make_bearable(model)
        return
    *folders, file = [part for part in re.split(r"[/\\]", model) if part] or [model]
    stem = re.sub(r"(?<=.)\.gguf\Z", "", file, flags=re.IGNORECASE)
    for start in range(len(folders), -1, -1):
        yield _make_bearable("/".join((*folders[start:], stem)))


def _find_clashing(names: Mapping[str, str]) -> list[str]:
    """The models whose names others have too, or that pytest would take for something else."""
    counts = Counter(names.values())
    return [model for model, name in names.items() if counts[name] > 1 or _refuse(name) is not None]


def _number(names: Mapping[str, str]) -> Mapping[str, str]:
    """Where nothing else tells names apart, their places among the suite's models do."""
    clashing = set(_find_clashing(names))
    return {
        model: f"{name}~{place}" if model in clashing else name
        for place, (model, name) in enumerate(names.items(), start=1)
    }


def _make_bearable(name: str) -> str:
    """As near to a name as a node id can carry."""
    plain = re.sub(r"::+", ":", name).replace("[", "(").replace("]", ")").strip(": ")
    return plain[:_LONGEST].rstrip(": ") or "model"
