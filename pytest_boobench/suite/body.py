"""Room 1: further fields of a request's body, which a suite may name freely, short of those the plugin sets itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_boobench.documents.node import Node
from pytest_boobench.documents.problems import Problems

SET_BY_US: Mapping[str, str] = {
    "model": "it comes from models",
    "messages": "the prompt is made from grid.prompt_tokens",
    "prompt": "the prompt is made from grid.prompt_tokens",
    "input": "the prompt is made from grid.prompt_tokens",
    "max_tokens": "it comes from grid.output_tokens",
    "max_completion_tokens": "it comes from grid.output_tokens",
    "n_predict": "it comes from grid.output_tokens",
    "min_tokens": "it comes from grid.output_tokens",
    "n": "one answer is measured for each request",
    "n_cmpl": "one answer is measured for each request",
    "stream": "answers are streamed, or there is no time to first token",
    "stream_options": "it asks for the token counts",
    "return_progress": "it would put events without tokens into the stream",
    "timings_per_token": "timings come once, with the last token",
    "cache_prompt": "it comes from cache",
}


@dataclass(frozen=True, slots=True)
class BodyShape:
    """A free mapping, without the fields that we set and without those that have a place elsewhere."""

    sampling: tuple[str, ...]
    wanted: str = "a mapping of fields of the request's body"

    def read(self, node: Node, problems: Problems) -> dict[str, Any] | None:
        """The fields as plain JSON."""
        if not isinstance(node.value, Mapping):
            problems.add(node, f"expected {self.wanted}, got {node.describe()}")
            return None
        for key, child in node.value.items():
            if key in SET_BY_US:
                problems.add(child, f"the plugin sets it: {SET_BY_US[key]}; leave it out")
            elif key in self.sampling:
                problems.add(child, "is a sampling field; write it under sampling")
        for number in _not_finite(node):
            problems.add(number, f"expected a finite number, got {number.describe()}")
        return {key: child.to_plain() for key, child in node.value.items()}

    def schema(self) -> dict[str, Any]:
        """JSON Schema: an object that must not have the refused fields."""
        refused = [*SET_BY_US, *self.sampling]
        return {"type": "object", "propertyNames": {"not": {"enum": refused}}}


def _not_finite(node: Node) -> Iterator[Node]:
    """Numbers inside that JSON cannot carry."""
    if isinstance(node.value, float) and not math.isfinite(node.value):
        yield node
    children = node.value.values() if isinstance(node.value, Mapping) else node.value
    if isinstance(children, str | int | float | None):
        return
    for child in children:
        yield from _not_finite(child)
