"""Door 2: ``boobench manual``: the pages of the manual, in the terminal."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from importlib.resources import files

import click

from pytest_boobench.cli import show_examples

_PAGES = files("pytest_boobench") / "manual"
_ENTRY = re.compile(r"^- \[([\w-]+)\]\(\1\.md\): (.+)$", re.MULTILINE)
"""A page's line in the index: its topic, and what it is about."""
_FENCE = "```"


def _complete(context: click.Context, option: click.Parameter, typed: str) -> list[str]:  # noqa: ARG001
    return [topic for topic in list_topics() if topic.startswith(typed)]


@click.command(
    epilog=show_examples(
        ("boobench manual", "the topics"),
        ("boobench manual gate", "when a test is red, green or skipped"),
        ("boobench manual options | grep -A1 baseline", "plain text where nobody reads it on a terminal"),
    )
)
@click.argument("topic", required=False, shell_complete=_complete)
def command(topic: str | None) -> int:
    """Show a page of the manual, or the list of topics.

    On a terminal a page opens in your pager.
    """
    topics = list_topics()
    if topic is None:
        width = max(map(len, topics))
        click.echo("\n".join(f"{name:<{width}}  {about}" for name, about in topics.items()))
        return 0
    if topic not in topics:
        near = difflib.get_close_matches(topic, topics, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise click.UsageError(f"manual: no topic {topic!r}; {hint}expected one of {', '.join(topics)}")
    click.echo_via_pager(_embolden(read_page(topic)))
    return 0


def list_topics() -> Mapping[str, str]:
    """Topic -> what its page is about, in the order of the index."""
    return dict(_ENTRY.findall(read_page("index")))


def read_page(name: str) -> str:
    """A page's Markdown; FileNotFoundError where there is none of that name."""
    return (_PAGES / f"{name}.md").read_text(encoding="utf-8")


def _embolden(text: str) -> str:
    """Headings in bold. The pager takes that out again where it is not shown on a terminal."""
    lines, in_block = [], False
    for line in text.splitlines():
        in_block ^= line.lstrip().startswith(_FENCE)
        lines.append(click.style(line, bold=True) if line.startswith("#") and not in_block else line)
    return "\n".join(lines)
