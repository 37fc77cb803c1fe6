"""Room 3: requests with a suite's own prompts. Number k of a cell has line k modulo the lines, in the file's order."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_boobench.measure.sending import Request
from pytest_boobench.servers.clients import Prompt, Server
from pytest_boobench.servers.prompts import make_nonce, make_seed
from pytest_boobench.suite.cell import Cell
from pytest_boobench.suite.prompt_file import PromptFile, PromptLine


async def make_own_requests(
    server: Server, cell: Cell, own: PromptFile, seed: str, numbers: Iterable[int]
) -> list[Request]:
    """Requests with these numbers. Raises HostError where the cell's cache cannot be kept, or a text not be made.

    ``seed`` is a text that differs from all other series' of requests. A first turn, and a prompt that is no part of a
    conversation, follows the cell's ``cache``; a later turn may always use what the turn before has left there.
    """
    lines = [own.lines[number % len(own.lines)] for number in numbers]
    prompts = await _make_prompts(server, cell, seed, lines)
    uncounted = [place for place, line in enumerate(lines) if not line.prompt_tokens]
    counted = await server.count_own(cell, [prompts[place] for place in uncounted])
    counts = dict(zip(uncounted, counted, strict=True))
    requests = []
    for place, (line, prompt) in enumerate(zip(lines, prompts, strict=True)):
        asked = _ask(cell, line, counts.get(place, line.prompt_tokens))
        seeded = replace(prompt, seed=make_seed(seed, place))
        requests.append(Request(server.call(asked, seeded), asked, line))
    return requests


def _ask(cell: Cell, line: PromptLine, prompt_tokens: int) -> Cell:
    """The cell as one line has it."""
    return replace(
        cell,
        prompt_tokens=prompt_tokens,
        output_tokens=line.output_tokens or cell.output_tokens,
        cache="warm" if line.turn > 1 else cell.cache,
        own=None,
    )


async def _make_prompts(server: Server, cell: Cell, seed: str, lines: Sequence[PromptLine]) -> list[Prompt]:
    """A prompt for each line. Made-up texts of one length are made together: the first one tells how long they are."""
    found: dict[int, Prompt] = {}
    salts = _list_salts(seed, lines)
    alike: dict[int, list[int]] = {}
    for place, line in enumerate(lines):
        if not line.prompt_tokens:
            found[place] = _make_own(cell, line)
        elif not line.cached_tokens:
            alike.setdefault(line.prompt_tokens, []).append(place)
    for length, places in alike.items():
        nonces = [make_nonce(seed, place) for place in places]
        made = await server.make_prompts(replace(cell, prompt_tokens=length), nonces)
        found.update(zip(places, made, strict=True))
    newest: dict[str, int] = {}
    for place, line in enumerate(lines):
        if line.cached_tokens:
            head = _take_head(line, lines, newest.get(line.conversation), found)
            nonce = f"{head}{make_nonce(seed, place)}"
            (found[place],) = await server.make_prompts(replace(cell, prompt_tokens=line.prompt_tokens), [nonce])
        if line.conversation:
            newest[line.conversation] = place
    return [replace(found[place], salt=salts[place]) for place in range(len(lines))]


def _take_head(line: PromptLine, lines: Sequence[PromptLine], before: int | None, found: Mapping[int, Prompt]) -> str:
    """The beginning of the made-up text of the turn before, in proportion to the tokens that are repeated.

    Empty where that turn is not the newest of the requests before, or its text is not made.
    """
    if before is None or lines[before].turn != line.turn - 1 or not lines[before].prompt_tokens:
        return ""
    text = found[before].text or ""
    return f"{text[: round(len(text) * line.cached_tokens / lines[before].prompt_tokens)].rstrip()}\n"


def _list_salts(seed: str, lines: Sequence[PromptLine]) -> list[str]:
    """One for each request, and for all turns of a conversation the one of its first."""
    salts: list[str] = []
    begun: dict[str, str] = {}
    for place, line in enumerate(lines):
        salt = f"{seed}/{place}"
        if line.turn == 1:
            begun[line.conversation] = salt
        salts.append(begun.get(line.conversation, salt) if line.turn > 1 else salt)
    return salts


def _make_own(cell: Cell, line: PromptLine) -> Prompt:
    if cell.kind != "chat":
        return Prompt(text=line.text)
    messages = list(line.messages) or [{"role": "user", "content": line.text}]
    if line.images:
        last = max(place for place, message in enumerate(messages) if message["role"] == "user")
        messages[last] = {**messages[last], "content": _add_images(str(messages[last]["content"]), line)}
    return Prompt(messages=tuple(messages))


def _add_images(text: str, line: PromptLine) -> list[dict[str, Any]]:
    """A message's content with its pictures, in OpenAI's form."""
    urls = [f"data:{one.media_type};base64,{base64.b64encode(one.content).decode()}" for one in line.images]
    return [{"type": "text", "text": text}, *({"type": "image_url", "image_url": {"url": url}} for url in urls)]
