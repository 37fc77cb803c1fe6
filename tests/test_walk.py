"""CONTRIBUTING's walk of one cell names the files that a cell really runs through, in their order."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from tests.conftest import CHECKOUT, BenchFolder

PACKAGE = "/pytest_boobench/"
MOST = 40
ROOTS = {
    ("plugin/collect.py", "collect"),
    ("plugin/bench.py", "access"),
    ("plugin/bench.py", "measure"),
    ("plugin/bench.py", "judge"),
}
"""Where pytest calls: a suite file is collected, a cell is set up (access and measure) and called (judge)."""


def name_file(frame: FrameType) -> str:
    return frame.f_code.co_filename.partition(PACKAGE)[2]


def stands_on_the_walk(frame: FrameType | None) -> bool:
    """Whether a frame was called, over whatever others, by a root."""
    while frame is not None:
        if (name_file(frame), frame.f_code.co_name) in ROOTS:
            return True
        frame = frame.f_back
    return False


def trace(run: Callable[[], object]) -> list[str]:
    """The package's files whose functions a call enters on the walk, in the order in which they are first entered."""
    entered: dict[str, None] = {}

    def note(frame: FrameType, event: str, argument: Any) -> None:
        name = name_file(frame) if event == "call" else ""
        if name and name not in entered and frame.f_code.co_name not in ("<module>", "<genexpr>"):
            in_class_body = frame.f_code.co_flags & 0x2 == 0
            if not in_class_body and (
                threading.current_thread() is not threading.main_thread() or stands_on_the_walk(frame)
            ):
                entered[name] = None

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return list(entered)


def list_files(text: str) -> list[str]:
    """The package's files and folders that a text names in backquotes."""
    return re.findall(r"`((?:[a-z_]+/)*[a-z0-9_]+\.py|[a-z_]+/)`", text)


def test_the_walk_is_true(bench: BenchFolder) -> None:
    page = (CHECKOUT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    walk, _, beside = page.partition("## The way of one cell")[2].partition("\n## ")[0].partition("Beside the walk:")
    named, others = list_files(walk), list_files(beside)
    named.remove("tests/test_walk.py")
    bench.write_suite(grid={"prompt_tokens": [16], "output_tokens": [4]})
    bench.run("--boobench-save-baseline")
    entered = trace(lambda: bench.run("--boobench-policy=literal", "--boobench-max-drop=99%"))
    assert [name for name in entered if name in named] == named
    rest = [name for name in entered if name not in named and not name.startswith(tuple(others))]
    assert set(rest) <= {"__init__.py"}, "entered, and named nowhere"
    assert len(named) <= MOST
