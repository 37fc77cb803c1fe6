"""The course that every server goes through: recognised, a first suite by ``init``, sessions, a baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.real.report import show_sessions, show_step
from tests.real.serving import Running
from tests.real.trying import HOST, Place

KEY_NAME = "REAL_KEY"


def first_steps(folder: Path, running: Running, key: str | None = None) -> Iterator[str]:
    """``boobench init`` in an empty folder, and what it wrote, used; without the key first where there is one."""
    place = Place(folder / "first", {KEY_NAME: key} if key else {})
    if key:
        yield from show_step(place.boobench("init", running.url))
    wanted = ("--api-key-env", KEY_NAME) if key else ()
    made = place.boobench("init", running.url, "--measure", *wanted)
    yield from show_step(made)
    if made.exit_code:
        return
    for path in sorted(place.folder.rglob("*.yaml")):
        yield from (f"{path.name}:", "```yaml", path.read_text().rstrip(), "```", "")
    yield from show_step(place.boobench("check"))
    session = place.session("suites/", "-k", "c1]", "--boobench-save-baseline")
    yield from show_sessions({"init's suite, one lane": session})
    yield from show_step(session.step)


def judge_twice(
    folder: Path, host: Mapping[str, Any], suites: Sequence[Mapping[str, Any]], key: str | None = None
) -> Iterator[str]:
    """Suites by hand: ``hosts``, ``doctor``, a session that saves a baseline, and one that is compared with it."""
    place = Place(folder / "judged", {KEY_NAME: key} if key else {})
    place.write({**host, **({"api_key": f"${{{KEY_NAME}}}"} if key else {})}, suites)
    yield from show_step(place.boobench("hosts", HOST))
    yield from show_step(place.boobench("doctor", HOST))
    first, second = place.session("--boobench-save-baseline"), place.session()
    yield from show_sessions({"first": first, "second": second})
    yield from show_step(first.step, lines=60)
    yield from show_step(second.step, lines=60)
