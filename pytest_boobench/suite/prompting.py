"""Room 1: a suite's own prompts: its file, and checks of what does not go with them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from pytest_boobench.documents.yaml_tree import Problems
from pytest_boobench.errors import DocumentError
from pytest_boobench.suite.prompt_file import PromptFile, read_prompts
from pytest_boobench.suite.spec import SuiteFields

RECORDED = "recorded"
"""The arrival that has the times of the file's lines."""


def load_prompts(written: SuiteFields, path: Path, display: str, problems: Problems) -> PromptFile | None:
    """Read the file that a suite names; None without one, or if it has problems, which are noted.

    ``path`` and ``display`` are those of the suite file.
    """
    if not written.prompts:
        return None
    shown = os.path.join(os.path.dirname(display), written.prompts)  # noqa: PTH118, PTH120  # a text for messages
    try:
        return read_prompts(path.parent / written.prompts, shown, written.kind)
    except DocumentError as error:
        problems.adopt(error)
        return None


def check_prompts(written: SuiteFields, own: PromptFile | None, problems: Problems) -> None:
    """Note what is wrong about ``prompts`` and the fields that belong to it."""
    grid = written.node.child("grid")
    length = grid.child("prompt_tokens")
    if written.prompts:
        if not length.missing:
            problems.add(length, "stands beside prompts, which have lengths of their own; leave it out")
        if max(written.list_axes().get("turns", (1,))) > 1:
            text = "does not go with turns: the file says which prompts are a conversation; leave turns out"
            problems.add(written.node.child("prompts"), text)
    elif isinstance(grid.value, Mapping) and length.missing:
        text = "is missing; expected a whole number from 1, or a list of such; or write prompts: FILE.jsonl"
        problems.add(length, text)
    if own is not None:
        _check_output(written, own, problems)
    if written.arrival == RECORDED:
        _check_recorded(written, own, problems)


def _check_output(written: SuiteFields, own: PromptFile, problems: Problems) -> None:
    """Note output tokens that nobody says, and those that every line says."""
    output = written.node.child("grid").child("output_tokens")
    lacking = next((line.number for line in own.lines if line.output_tokens is None), None)
    if written.kind == "embedding":
        return
    if output.missing and lacking:
        text = f"is missing; line {lacking} of {written.prompts} has no output_tokens, and the grid none for it"
        problems.add(output, text)
    elif not output.missing and not lacking:
        problems.add(output, f"stands beside {written.prompts}, where each line has its own; leave it out")


def _check_recorded(written: SuiteFields, own: PromptFile | None, problems: Problems) -> None:
    """Note what is missing for a replay at the recorded times."""
    node = written.node.child("arrival")
    if not written.prompts:
        problems.add(node, "recorded needs prompts with at_s on each line; write prompts: FILE.jsonl")
    if any(written.list_axes().get("rate", ())):
        problems.add(node, "recorded has the times of the prompts; leave rate out, or write constant or poisson")
    if own is None:
        return
    lacking = next((line.number for line in own.lines if line.at_s is None), None)
    if lacking:
        problems.add(node, f"recorded needs at_s on each line; line {lacking} of {written.prompts} has none")
        return
    for before, after in pairwise(own.lines):
        if (after.at_s or 0.0) < (before.at_s or 0.0):
            text = f"recorded needs lines in the order of their at_s; line {after.number} of {written.prompts} is early"
            problems.add(node, text)
            return
