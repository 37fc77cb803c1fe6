"""What a server really answered, byte for byte but for ids, times and keys: for tests that play it back."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_HEADERS = ("content-type", "transfer-encoding", "server", "content-encoding", "x-accel-buffering")
_MADE_UP = (
    (re.compile(rb'"((?:request_)?id)":( ?)"(chatcmpl|cmpl|embd|modelperm|req)-[^"]+"'), rb'"\1":\2"\3-1"'),
    (re.compile(rb'"(created|created_at)":( ?)\d+'), rb'"\1":\g<2>1700000000'),
)


@dataclass(frozen=True, slots=True)
class Question:
    """A request; without a body it is a GET."""

    path: str
    body: Mapping[str, Any] | None = None
    key: str | None = None


def record(url: str, questions: Sequence[Question], file: Path, hidden: Mapping[str, str] | None = None) -> None:
    """Ask them all and write what came. ``hidden``: texts that must not be kept -> what stands for them."""
    text = b"\n".join(line for question in questions for line in _ask(url, question))
    for secret, shown in (hidden or {}).items():
        text = text.replace(secret.encode(), shown.encode())
    file.write_bytes(text + b"\n")


def _ask(url: str, question: Question) -> Iterator[bytes]:
    method = "GET" if question.body is None else "POST"
    content = None if question.body is None else json.dumps(question.body)
    headers = {"Content-Type": "application/json"}
    if question.key:
        headers["Authorization"] = f"Bearer {question.key}"
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    connection.request(method, question.path, content, headers)
    answer = connection.getresponse()
    yield f"### {method} {question.path}{' ' + content if content else ''}".encode()
    yield f"{answer.status} {answer.reason}".encode()
    yield from (f"{name}: {value}".encode() for name in _HEADERS if (value := answer.headers.get(name)))
    body = answer.read()
    connection.close()
    for pattern, instead in _MADE_UP:
        body = pattern.sub(instead, body)
    yield b""
    yield body.rstrip(b"\n")
    yield b""
