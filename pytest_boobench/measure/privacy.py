"""Room 3: own prompts are in no record: what a server repeats of one in a message is left out."""

from __future__ import annotations

from dataclasses import replace

from pytest_boobench.metrics import Sample
from pytest_boobench.suite.prompt_file import PromptLine

_WINDOW = 16
"""So many equal characters are no chance."""


def hide_prompt(sample: Sample, line: PromptLine) -> Sample:
    """Return the sample without a server's words that repeat a part of the line's own text."""
    said = sample.failure_text
    if not said or line.prompt_tokens:
        return sample
    own = " ".join(" ".join(_list_texts(line)).split())
    window = min(_WINDOW, len(own))
    if window and any(said[at : at + window] in own for at in range(len(said) - window + 1)):
        return replace(sample, failure_text=f"{sample.status or 'no status'}: the server repeats the prompt, left out")
    return sample


def _list_texts(line: PromptLine) -> list[str]:
    return [line.text or "", *(str(message.get("content") or "") for message in line.messages)]
