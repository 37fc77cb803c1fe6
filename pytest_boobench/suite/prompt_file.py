"""Room 1: a file with a suite's own prompts: one JSON object a line. All problems of a file at once, with their lines.

A message never shows a text of the file: own prompts may be private.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_boobench.documents.yaml_tree import suggest
from pytest_boobench.errors import DocumentError, Problem, explain_os_error
from pytest_boobench.metrics import Kind
from pytest_boobench.untrusted import MAX_COUNT, MAX_DEPTH, clean, find_depth

MOST_BYTES = 64 * 1024 * 1024
"""Of the file; and of all its images together."""
_SOURCES = ("text", "messages", "prompt_tokens")
"""Each line has exactly one of them."""
_FIELDS = (*_SOURCES, "output_tokens", "images", "at_s", "conversation", "turn", "cached_tokens")
_ROLES = ("system", "developer", "user", "assistant", "tool")
_SIGNATURES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that is sent with a prompt."""

    media_type: str
    """As in ``image/png``, by its first bytes."""
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLine:
    """One prompt: own text, own messages, or the length of a made-up text."""

    number: int
    """Of the line in its file, from 1."""
    text: str | None = field(default=None, repr=False)
    messages: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    prompt_tokens: int = 0
    """Exact length of a made-up text; 0: the text is the file's own."""
    output_tokens: int | None = None
    images: tuple[Image, ...] = ()
    at_s: float | None = None
    """When it was sent, seconds since the first request of the recording."""
    conversation: str = ""
    turn: int = 0
    """Number of the turn in its conversation, from 1; 0: it is no part of one."""
    cached_tokens: int = 0
    """How many tokens of a made-up text repeat the turn before it."""


@dataclass(frozen=True, slots=True)
class PromptFile:
    """A suite's own prompts, at least one."""

    stem: str
    """The file's name without its end."""
    lines: tuple[PromptLine, ...] = field(repr=False)
    hashes: tuple[bytes, ...] = field(repr=False)
    """SHA-256 of each line's content and images."""

    @property
    def sha256(self) -> str:
        """64 hex digits of what is sent: neither the file's name, nor blank lines, nor the order of keys count."""
        return hashlib.sha256(b"".join(self.hashes)).hexdigest()

    def take(self, count: int) -> PromptFile:
        """The file's first ``count`` lines, or all of them if it has fewer."""
        return self if count >= len(self.lines) else replace(self, lines=self.lines[:count], hashes=self.hashes[:count])


def read_prompts(path: Path, display: str, kind: Kind) -> PromptFile:
    """Read a file of prompts for cells of this kind. Raises DocumentError with every problem of the file."""
    return _Reader(path, display, kind).read()


class _Reader:
    """Reads one file, and notes its problems."""

    def __init__(self, path: Path, display: str, kind: Kind) -> None:
        self._path, self._display, self._kind = path, display, kind
        self._problems: list[Problem] = []
        self._turns: dict[str, int] = {}
        """Conversation -> its newest turn."""
        self._image_bytes = 0

    def read(self) -> PromptFile:
        lines, hashes = [], []
        for number, written in self._list_lines():
            before = len(self._problems)
            line = self._read_line(number, written)
            if len(self._problems) == before:
                lines.append(line)
                hashes.append(_hash(written, line.images))
        if not lines and not self._problems:
            self._note(1, "", "the file has no prompt; expected one JSON object a line")
        if self._problems:
            raise DocumentError(self._problems)
        return PromptFile(self._path.stem, tuple(lines), tuple(hashes))

    def _note(self, number: int, name: str, text: str) -> None:
        self._problems.append(Problem(self._display, number, name, text))

    def _list_lines(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield the objects of the lines that are not blank, with their numbers."""
        try:
            with self._path.open("rb") as file:
                content = file.read(MOST_BYTES + 1)
        except OSError as error:
            self._note(1, "", f"cannot be read: {explain_os_error(error)}")
            return
        if len(content) > MOST_BYTES:
            self._note(1, "", f"the file is larger than {MOST_BYTES:,} bytes; keep a part of its lines")
            return
        for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
            if raw.strip() and (found := self._parse(number, raw)) is not None:
                yield number, found

    def _parse(self, number: int, raw: bytes) -> Mapping[str, Any] | None:
        try:
            text = raw.decode("utf-8")
            if find_depth(text) > MAX_DEPTH:
                raise RecursionError
            found = json.loads(text)
            if "\\u" in text:
                json.dumps(found, ensure_ascii=False).encode()  # half a pair of surrogates is no character
        except UnicodeEncodeError:
            self._note(number, "", "holds half a character (\\ud800 to \\udfff); write the whole one")
        except UnicodeDecodeError as error:
            self._note(number, "", f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8")
        except json.JSONDecodeError as error:
            self._note(number, "", f"not JSON: {error.msg} at character {error.colno}; expected one object a line")
        except (ValueError, RecursionError):
            self._note(number, "", f"expected an object with at most {MAX_DEPTH} levels and numbers of usual size")
        else:
            if isinstance(found, Mapping):
                return found
            self._note(number, "", f'expected an object such as {{"text": "…"}}, got {_describe(found)}')
        return None

    def _read_line(self, number: int, written: Mapping[str, Any]) -> PromptLine:
        for name in written:
            if name not in _FIELDS:
                self._note(number, clean(name, 40), f"is no field of a prompt; {suggest(name, _FIELDS)}")
        given = [name for name in _SOURCES if name in written]
        if len(given) != 1:
            got = " and ".join(given) or "none of them"
            self._note(number, "", f"expected one of text, messages and prompt_tokens, got {got}")
        line = PromptLine(
            number=number,
            text=self._read_text(number, written, "text"),
            messages=self._read_messages(number, written),
            prompt_tokens=self._read_count(number, written, "prompt_tokens", 1) or 0,
            output_tokens=self._read_count(number, written, "output_tokens", 1),
            images=self._read_images(number, written),
            at_s=self._read_time(number, written),
            conversation=self._read_text(number, written, "conversation") or "",
            turn=self._read_count(number, written, "turn", 1) or 0,
            cached_tokens=self._read_count(number, written, "cached_tokens", 0) or 0,
        )
        self._check_kind(line, written)
        self._check_turn(line, written)
        return line

    def _read_text(self, number: int, written: Mapping[str, Any], name: str) -> str | None:
        value = written.get(name)
        if name not in written or (isinstance(value, str) and value):
            return value
        self._note(number, name, f"expected a text, got {_describe(value)}")
        return None

    def _read_count(self, number: int, written: Mapping[str, Any], name: str, least: int) -> int | None:
        value = written.get(name)
        if name not in written:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= MAX_COUNT:
            return value
        self._note(number, name, f"expected a whole number from {least}, got {_describe(value)}")
        return None

    def _read_time(self, number: int, written: Mapping[str, Any]) -> float | None:
        value = written.get("at_s")
        if "at_s" not in written:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT:
            return float(value)
        self._note(number, "at_s", f"expected seconds from 0, got {_describe(value)}")
        return None

    def _read_messages(self, number: int, written: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        value = written.get("messages", ())
        if "messages" in written and (not isinstance(value, list) or not value):
            self._note(number, "messages", f"expected a list of messages, got {_describe(value)}")
            return ()
        for place, message in enumerate(value):
            where = f"messages[{place}]"
            if not isinstance(message, Mapping):
                self._note(number, where, f"expected an object with role and content, got {_describe(message)}")
            elif message.get("role") not in _ROLES:
                self._note(number, f"{where}.role", f"expected one of {', '.join(_ROLES)}")
            elif not isinstance(said := message.get("content"), str) and not (said is None and "tool_calls" in message):
                beside = "; pictures stand under images" if isinstance(said, list) else ""
                self._note(number, f"{where}.content", f"expected a text, got {_describe(said)}{beside}")
        return tuple(value)

    def _read_images(self, number: int, written: Mapping[str, Any]) -> tuple[Image, ...]:
        value = written.get("images", [])
        if not isinstance(value, list):
            self._note(number, "images", f"expected a list of paths, got {_describe(value)}")
            return ()
        found = [self._read_image(number, f"images[{place}]", name) for place, name in enumerate(value)]
        return tuple(image for image in found if image is not None)

    def _read_image(self, number: int, where: str, name: object) -> Image | None:
        if not isinstance(name, str):
            self._note(number, where, f"expected a path, got {_describe(name)}")
            return None
        try:
            with (self._path.parent / name).open("rb") as file:
                content = file.read(MOST_BYTES - self._image_bytes + 1)
        except (OSError, ValueError) as error:
            why = explain_os_error(error) if isinstance(error, OSError) else "no path"
            self._note(number, where, f"{clean(name)} cannot be read: {why}")
            return None
        self._image_bytes += len(content)
        if self._image_bytes > MOST_BYTES:
            self._image_bytes = 0
            self._note(number, where, f"the images together are larger than {MOST_BYTES:,} bytes; keep a part of them")
            return None
        if (media_type := _find_media_type(content)) is None:
            self._note(number, where, f"{clean(name)} is no picture of a known type; expected png, jpeg, webp or gif")
            return None
        return Image(media_type, content)

    def _check_kind(self, line: PromptLine, written: Mapping[str, Any]) -> None:
        """Note what only a chat has."""
        if self._kind != "chat":
            for name in ("messages", "images", "conversation"):
                if name in written:
                    self._note(line.number, name, f"kind {self._kind} has none; leave it out, or say kind: chat")
        elif line.images and (line.prompt_tokens or (line.messages and not _has_user(line.messages))):
            text = "pictures are sent with own text, in the last message of the role user; there is none"
            self._note(line.number, "images", text)
        if self._kind == "embedding" and line.output_tokens:
            self._note(line.number, "output_tokens", "an embedding generates no tokens; leave it out")

    def _check_turn(self, line: PromptLine, written: Mapping[str, Any]) -> None:
        """Note turns that do not follow each other, and repeated tokens without a turn that they repeat."""
        if ("conversation" in written) != ("turn" in written):
            self._note(line.number, "conversation", "conversation and turn stand together; write both or neither")
        elif line.conversation and line.turn:
            expected = self._turns.get(line.conversation, 0) + 1
            self._turns[line.conversation] = line.turn
            if line.turn != expected:
                text = f"expected {expected}, the next turn of its conversation, got {line.turn}"
                self._note(line.number, "turn", text)
        if line.cached_tokens:
            if line.turn < 2 or not line.prompt_tokens:
                text = "only a made-up text (prompt_tokens) of a later turn repeats tokens; leave it out"
                self._note(line.number, "cached_tokens", text)
            elif line.cached_tokens > line.prompt_tokens:
                text = f"expected at most the {line.prompt_tokens} tokens of the prompt, got {line.cached_tokens}"
                self._note(line.number, "cached_tokens", text)


def _has_user(messages: Sequence[Any]) -> bool:
    return any(isinstance(message, Mapping) and message.get("role") == "user" for message in messages)


def _find_media_type(content: bytes) -> str | None:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((media_type for begin, media_type in _SIGNATURES if content.startswith(begin)), None)


def _hash(written: Mapping[str, Any], images: Sequence[Image]) -> bytes:
    """SHA-256 of a line without the names of its images, and of their bytes."""
    kept = {name: value for name, value in written.items() if name != "images"}
    found = hashlib.sha256(json.dumps(kept, sort_keys=True, separators=(",", ":")).encode())
    for image in images:
        found.update(hashlib.sha256(image.content).digest())
    return found.digest()


def _describe(value: object) -> str:
    """What a value is, without its text."""
    if isinstance(value, str):
        return "a text" if value else "an empty text"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return clean(f"{value}" if abs(value) <= MAX_COUNT else "no usual number", 40)  # type: ignore[arg-type]
