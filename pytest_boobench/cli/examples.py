"""Door 2: help that teaches: examples below a verb's options."""

from __future__ import annotations


def show_examples(*examples: tuple[str, str]) -> str:
    """An epilog for click from pairs of a command and what it is for; click keeps its lines as they are."""
    width = max(len(command) for command, _ in examples)
    lines = (f"  {command:<{width}}  {purpose}".rstrip() for command, purpose in examples)
    return "\n".join(("\b", "Examples:", *lines))
