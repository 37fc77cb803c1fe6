"""One name for one thing in the whole package, and not more modules than a reader can know."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping

from tests.conftest import CHECKOUT

PACKAGE = CHECKOUT / "pytest_boobench"
MODULES = [path.relative_to(CHECKOUT) for path in sorted(PACKAGE.rglob("*.py"))]
MOST_MODULES = 280


def find_twice(named: Iterable[tuple[str, object]]) -> Mapping[str, list[str]]:
    """Names that more than one thing has -> these things."""
    things: dict[str, list[str]] = {}
    for name, thing in named:
        things.setdefault(name, []).append(str(thing))
    return {name: each for name, each in things.items() if len(each) > 1}


def test_no_class_name_stands_for_two_classes() -> None:
    classes = [
        (node.name, path)
        for path in MODULES
        for node in ast.walk(ast.parse((CHECKOUT / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    assert len(classes) > 50, "nothing was looked at"
    assert find_twice(classes) == {}


def test_no_module_or_package_has_the_name_of_another() -> None:
    named = [(path.parent.name if path.name == "__init__.py" else path.stem, path) for path in MODULES]
    assert find_twice(named) == {}


def test_a_reader_can_know_all_modules() -> None:
    assert len(MODULES) <= MOST_MODULES
